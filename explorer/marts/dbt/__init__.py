"""dbt in this process: run for one tenant's project, its results one by one, and an end to it when interrupted."""

"""dbt in this process: runs one tenant's project, reports each result, and stops when interrupted."""

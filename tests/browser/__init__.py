"""What people see, in a real browser: the pages of the sign-in and the Dagster UI. See `.ci/run` for what it needs."""

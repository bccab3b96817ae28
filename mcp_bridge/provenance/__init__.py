"""What Dagster says beside the tables: a partition as its runs left it, checks that failed, schedules that run."""

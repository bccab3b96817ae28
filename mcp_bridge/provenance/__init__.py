"""Dagster's facts about tables: the state of a tenant's partition, failed checks of loads, running schedules."""

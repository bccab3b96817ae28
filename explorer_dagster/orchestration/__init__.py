"""The registry's pipelines as a Dagster code location: assets, checks, jobs, schedules and sensors, one partition per tenant.

The upper floor: it calls the lower one (commcare, loading, transforms, catalog) and nothing below calls it.
"""

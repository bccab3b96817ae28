"""Runs of a tenant: launching exactly one, what a run's log says, and what it left behind."""

"""Letting a call in: who calls, what a tool takes, the audit trail, HTTP authentication, the end of the process."""

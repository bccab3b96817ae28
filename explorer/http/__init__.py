"""The HTTP client that all providers share: one server, one credential, paced, retried, bounded; errors of a closed list."""

"""The audit trail: entries that are only added, their chain of hashes, signed heads of it, and files of closed segments."""

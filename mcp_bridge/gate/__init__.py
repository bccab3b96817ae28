"""The gate that each call passes: caller, grants, arguments, audit trail, HTTP authentication; also the orderly shutdown."""

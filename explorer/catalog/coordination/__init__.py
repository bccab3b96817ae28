"""What processes and hosts share: launches in progress, and the time of the next request."""

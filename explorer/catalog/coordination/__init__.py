"""What processes and hosts share while they work: launches under way, and when the next request may go out."""

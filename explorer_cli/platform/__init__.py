"""What the platform consists of: its parts and their addresses, probes and secrets, and how all of it is started and seen."""

"""The parts of the platform: their addresses, probes and secrets, and the start, display and status of the whole."""

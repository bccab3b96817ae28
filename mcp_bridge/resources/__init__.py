"""What hosts find beside the tools: what is read by its address, and prompts for the usual analyses."""

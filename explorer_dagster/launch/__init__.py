"""How a run gets its process: the launcher and the pool of warm workers."""

"""How does a run get its process? The launcher and the pool of warm workers."""

"""Where records come from: one folder per provider, and the way to find one by its name."""

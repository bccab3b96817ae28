"""Who may use the bridge, and who did what."""

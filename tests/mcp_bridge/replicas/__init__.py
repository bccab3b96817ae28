"""Several bridges behind a proxy, on one catalog."""

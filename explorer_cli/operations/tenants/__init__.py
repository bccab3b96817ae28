"""`explorer tenants` and `workspaces`: registering them, singly or from a file; what people asked for; whose turn it is."""

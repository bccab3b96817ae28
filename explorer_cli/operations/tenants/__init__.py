"""`explorer tenants`: registering them, one by one or from a file; what people asked for; when their turns come."""

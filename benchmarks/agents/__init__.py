"""What does an agent wait for: descriptions in an instance with many tenants, the first sync of a small one?"""

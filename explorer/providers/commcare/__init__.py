"""How the platform reads CommCare HQ: the HTTP client, the access check and the discovery of a project space's structure.

What is done with the records that the client brings (walking pages, landing rows) belongs to `explorer.load`.
"""

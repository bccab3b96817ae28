"""How are tenants and their schemas made, changed and removed?"""

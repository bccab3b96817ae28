"""The configured ways to sign in, and what each says about people."""

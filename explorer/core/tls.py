"""Which certificates are trusted, read once for all connections of a process."""

import ssl
from functools import cache

import httpx


@cache
def tls_context() -> ssl.SSLContext:
    """The certificates that all connections of this process trust, read once: reading takes 50 ms or more. `SSL_CERT_FILE` or
    `SSL_CERT_DIR` of the environment name another bundle."""
    return httpx.create_ssl_context()

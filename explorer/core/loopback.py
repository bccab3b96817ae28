"""Is a host this machine?"""

import ipaddress


def is_loopback(host: str) -> bool:
    """Whether `host` (name or address, no brackets) always means this machine."""
    if host == "localhost" or host.endswith(".localhost"):
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False

"""From where does a request come? An address for rate limits."""

import ipaddress

from starlette.requests import Request


def sender(request: Request) -> str:
    """The sender's address; of IPv6 the network, because everybody has very many addresses. Behind a proxy on this machine it is
    the one that the proxy names."""
    host = request.client.host if request.client else ""
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return "unknown"
    if isinstance(address, ipaddress.IPv6Address):
        if address.ipv4_mapped is not None:
            return str(address.ipv4_mapped)
        return str(ipaddress.ip_network((address, 64), strict=False))
    return str(address)

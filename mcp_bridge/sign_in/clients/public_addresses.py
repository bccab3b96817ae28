"""Is an address on the public internet? Documents of clients are fetched from nowhere else."""

import asyncio
import ipaddress
import socket
from collections.abc import Awaitable, Callable

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Resolve = Callable[[str], Awaitable[list[str]]]
# An IPv4 address stands in the last 32 bits.
_NAT64 = ipaddress.IPv6Network("64:ff9b::/96")
# Of IPv6 only what is given to hosts of the internet, and the two forms in which their IPv4 addresses are written: the rest
# has networks of one's own under ever new names (NAT64 of a network, IPv4-translated, site-local, segment routing).
_IPV6 = (ipaddress.IPv6Network("2000::/3"), _NAT64, ipaddress.IPv6Network("::ffff:0:0/96"))
# Reserved, though Python's tables call some of them global.
_RESERVED = tuple(ipaddress.ip_network(each) for each in ("192.0.0.0/24", "192.88.99.0/24", "3fff::/20"))


async def resolve(host: str) -> list[str]:
    """The addresses of a name, by the system's resolver. Raises: OSError."""
    found = await asyncio.get_running_loop().getaddrinfo(host, 443, type=socket.SOCK_STREAM)
    return [str(address[0]) for *_, address in found]


def is_public(text: str) -> bool:
    """Whether it is an address on the public internet, also where it stands for an IPv4 address."""
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        return False
    return all(_is_of_the_internet(each) for each in (address, *_embedded(address)))


def _is_of_the_internet(address: Address) -> bool:
    if isinstance(address, ipaddress.IPv6Address) and not any(address in network for network in _IPV6):
        return False
    reserved = any(address in network for network in _RESERVED if network.version == address.version)
    return address.is_global and not address.is_multicast and not reserved


def _embedded(address: Address) -> list[Address]:
    if isinstance(address, ipaddress.IPv4Address):
        return []
    found: list[Address | None] = [address.ipv4_mapped, address.sixtofour, *(address.teredo or ())]
    if address in _NAT64:
        found.append(ipaddress.IPv4Address(int(address) & 0xFFFFFFFF))
    return [each for each in found if each is not None]

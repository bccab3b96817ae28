"""Is a signed token (JWT) of this issuer, for this audience, and valid now? Its claims, or nothing."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import jwt

from mcp_bridge.sign_in.providers.issuer import Issuer

_MAX_BYTES = 16 * 1024
_MAX_LIFETIME_S = 24 * 3600
_ACCESS_TYPES = ("at+jwt", "application/at+jwt")
# Header fields that would let the token choose its own key, or that change how it must be read.
_REFUSED = ("crit", "jku", "x5u", "jwk")


@dataclass(frozen=True)
class Expected:
    """What a token must be. `audience`: one of these; `leeway_s`: difference of clocks."""

    audience: Sequence[str]
    algorithms: Sequence[str]
    leeway_s: int


async def checked(token: str, issuer: Issuer, expected: Expected) -> Mapping[str, Any] | None:
    """The claims of a token that is signed by the issuer and valid now, of any use; None for every other text.

    Raises:
        ProviderUnavailable: the issuer's keys cannot be read.
    """
    header = header_of(token)
    if header is None or header.get("alg") not in expected.algorithms or any(name in header for name in _REFUSED):
        return None
    key_id = header.get("kid")
    key = await issuer.key(key_id if isinstance(key_id, str) else None, header["alg"])
    if key is None:
        return None
    try:
        claims: dict[str, Any] = jwt.decode(
            token,
            key,
            algorithms=[header["alg"]],
            audience=list(expected.audience),
            issuer=issuer.issuer,
            leeway=expected.leeway_s,
            options={"require": ["exp", "iat", "iss", "aud", "sub"]},
        )
        # The library also takes moments that are texts.
        lives_too_long = claims["exp"] - claims["iat"] > _MAX_LIFETIME_S
    except (jwt.PyJWTError, ValueError, TypeError):
        return None
    return None if lives_too_long or not isinstance(claims["sub"], str) or not claims["sub"] else claims


def is_for_access(token: str, claims: Mapping[str, Any], *, typ_required: bool) -> bool:
    """Whether it is an access token, not the ID token of somebody's sign-in elsewhere."""
    if any(name in claims for name in ("nonce", "at_hash", "c_hash")) or str(claims.get("typ", "")).upper() == "ID":
        return False
    typ = str((header_of(token) or {}).get("typ", "")).lower()
    return typ in _ACCESS_TYPES if typ_required else True


def issuer_in(token: str) -> str | None:
    """The issuer that a token names, unproven."""
    if header_of(token) is None:
        return None
    try:
        named = jwt.decode(token, options={"verify_signature": False}).get("iss")
    except (jwt.PyJWTError, ValueError, TypeError):
        return None
    return named if isinstance(named, str) else None


def header_of(token: str) -> dict[str, Any] | None:
    """The header of a text of a token's form."""
    if len(token) > _MAX_BYTES or token.count(".") != 2 or not token.isascii():
        return None
    try:
        return jwt.get_unverified_header(token)
    except (jwt.PyJWTError, ValueError, TypeError):
        return None

"""What did a request send? Parameters of an address or a form, each at most once; JSON bodies; all of bounded size."""

import asyncio
import base64
import binascii
import json
from collections.abc import Mapping
from typing import Any
from urllib.parse import parse_qsl, unquote_plus

from starlette.requests import Request

_MAX_BODY_BYTES = 64 * 1024
_MAX_FIELDS = 50
_BODY_S = 10.0
_FORM = "application/x-www-form-urlencoded"


class ParametersInvalid(ValueError):
    """The request cannot be read: `args[0]` says why."""


def in_address(request: Request) -> dict[str, str]:
    """The parameters after the question mark. Raises: ParametersInvalid."""
    return _once(request.scope["query_string"].decode("latin-1"))


async def in_form(request: Request) -> dict[str, str]:
    """The fields of a form. Raises: ParametersInvalid."""
    if request.headers.get("content-type", "").partition(";")[0].strip().lower() != _FORM:
        raise ParametersInvalid(f"The body must be {_FORM}.")
    return _once((await _body(request)).decode("latin-1"))


async def in_json(request: Request) -> Mapping[str, Any]:
    """The JSON object in the body. Raises: ParametersInvalid."""
    body = await _body(request)
    try:
        values = json.loads(body)
    except (ValueError, RecursionError):
        values = None
    if not isinstance(values, dict):
        raise ParametersInvalid("The body must be a JSON object.")
    return values


def basic_client(request: Request) -> str | None:
    """The client id of HTTP Basic authentication, which some clients use although they have no secret."""
    scheme, _, encoded = request.headers.get("authorization", "").partition(" ")
    if scheme.lower() != "basic":
        return None
    try:
        name = base64.b64decode(encoded.strip(), validate=True).decode().partition(":")[0]
    except (binascii.Error, ValueError):
        return None
    return unquote_plus(name) or None


def _once(text: str) -> dict[str, str]:
    try:
        pairs = parse_qsl(text, keep_blank_values=True, max_num_fields=_MAX_FIELDS, errors="strict")
    except ValueError:
        raise ParametersInvalid("The parameters cannot be read.") from None
    names = [name for name, _ in pairs]
    if twice := next((name for name in names if names.count(name) > 1), None):
        raise ParametersInvalid(f"The parameter {twice[:40]} is there twice.")
    # An empty parameter is none (RFC 6749, 3.1).
    return {name: value for name, value in pairs if value}


async def _body(request: Request) -> bytes:
    body = b""
    try:
        async with asyncio.timeout(_BODY_S):
            async for chunk in request.stream():
                body += chunk
                if len(body) > _MAX_BODY_BYTES:
                    raise ParametersInvalid("The body is too large.")
    except TimeoutError:
        raise ParametersInvalid("The body did not arrive in time.") from None
    return body

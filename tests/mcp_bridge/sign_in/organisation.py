"""An organisation's OpenID provider for tests: own keys, its addresses, and switches; it speaks HTTP without a network."""

import base64
import hmac
import json
import time
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qs

import httpx
import jwt
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from jwt.algorithms import ECAlgorithm, RSAAlgorithm

ISSUER = "https://id.acme.example/realms/main"
AUDIENCE = "https://mcp.acme.example/mcp"
CLIENT = "data-explorer"


@dataclass
class Organisation:
    """`keys`: by key name; `published`: those that it publishes. `claims`: of the person who signs in; `requests`: paths;
    `answers`: by path, what it answers instead."""

    keys: dict[str, Any] = field(default_factory=dict)
    published: list[str] = field(default_factory=list)
    claims: dict[str, Any] = field(default_factory=dict)
    requests: list[str] = field(default_factory=list)
    forms: list[dict[str, str]] = field(default_factory=list)
    answers: dict[str, httpx.Response | BaseException] = field(default_factory=dict)
    gives_refresh_token: bool = True
    gives_id_token_again: bool = True
    metadata: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.add_key("one")

    def add_key(self, name: str, bits: int = 2048) -> None:
        """Make a key and publish it."""
        self.keys[name] = rsa.generate_private_key(public_exponent=65537, key_size=bits)
        self.published.append(name)

    def add_curve(self, name: str) -> None:
        self.keys[name] = ec.generate_private_key(ec.SECP256R1())
        self.published.append(name)

    def signed(
        self, key: str = "one", algorithm: str = "RS256", headers: dict[str, Any] | None = None, **claims: Any
    ) -> str:
        """A token with these claims beside the usual ones; None leaves a claim out."""
        now = int(time.time())
        usual = {"iss": ISSUER, "sub": "u-1", "aud": AUDIENCE, "iat": now, "exp": now + 600}
        content = {name: value for name, value in {**usual, **claims}.items() if value is not None}
        return jwt.encode(content, self.keys[key], algorithm, {"kid": key, **(headers or {})})

    @property
    def transport(self) -> httpx.MockTransport:
        return httpx.MockTransport(self._answer)

    def _answer(self, request: httpx.Request) -> httpx.Response:
        path = request.url.path.removeprefix("/realms/main")
        self.requests.append(path)
        instead = self.answers.get(path)
        if isinstance(instead, BaseException):
            raise instead
        if instead is not None:
            return httpx.Response(instead.status_code, content=instead.content, headers=instead.headers)
        if path == "/.well-known/openid-configuration":
            return httpx.Response(200, json=self._discovery())
        if path == "/keys":
            return httpx.Response(200, json={"keys": [self._public(name) for name in self.published]})
        if path == "/token":
            return self._tokens({name: values[0] for name, values in parse_qs(request.content.decode()).items()})
        if path == "/userinfo":
            return httpx.Response(200, json={"sub": "u-1", **self.claims})
        return httpx.Response(404)

    def _discovery(self) -> dict[str, Any]:
        return {
            "issuer": ISSUER,
            "authorization_endpoint": f"{ISSUER}/authorize",
            "token_endpoint": f"{ISSUER}/token",
            "jwks_uri": f"{ISSUER}/keys",
            "userinfo_endpoint": f"{ISSUER}/userinfo",
            **self.metadata,
        }

    def _public(self, name: str) -> dict[str, Any]:
        key = self.keys[name]
        algorithm = RSAAlgorithm if isinstance(key, rsa.RSAPrivateKey) else ECAlgorithm
        return {**json.loads(algorithm.to_jwk(key.public_key())), "kid": name, "use": "sig"}

    def _tokens(self, form: dict[str, str]) -> httpx.Response:
        self.forms.append(form)
        again = form["grant_type"] == "refresh_token"
        answer: dict[str, Any] = {"access_token": "opaque", "token_type": "Bearer", "expires_in": 300}
        if not again or self.gives_id_token_again:
            answer["id_token"] = self.signed(aud=CLIENT, **self.claims)
        if self.gives_refresh_token:
            answer["refresh_token"] = f"refresh-{len(self.forms)}"
        return httpx.Response(200, json=answer)


def unsigned(token: str, **header: Any) -> str:
    """The token with another header and without a signature."""
    head = base64.urlsafe_b64encode(json.dumps(header).encode()).decode().rstrip("=")
    return f"{head}.{token.split('.')[1]}."


def signed_with_public_key(organisation: Organisation, token: str) -> str:
    """The token with a checksum made with the published key, which a careless reader takes for a secret."""
    public = organisation.keys["one"].public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    body = unsigned(token, alg="HS256", typ="JWT", kid="one").removesuffix(".")
    checksum = hmac.digest(public, body.encode(), "sha256")
    return f"{body}.{base64.urlsafe_b64encode(checksum).decode().rstrip('=')}"

"""Signed heads of the audit trail: lines of a log that show whether the whole chain was written anew.

The key is in HOME (or a setting) and never in the database. A head names the newest entry, its hash and the time; whoever has the
log and the key can check that the chain still holds that entry.
"""

import base64
import hashlib
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from explorer.catalog.errors import AuditKeyInvalid
from explorer.core.files import private_secret
from explorer.core.settings import Settings

KEY_FILE = "audit.key"
_SEED_BYTES = 32
_LINE = re.compile(
    r"audit head (?P<id>[0-9]{1,19}) (?P<hash>[0-9a-f]{64}) (?P<at>[0-9T:+.-]{20,40}) (?P<key>[0-9a-f]{16})"
    r" (?P<signature>[\w-]{86})"
)


@dataclass(frozen=True)
class Head:
    """The newest entry: its id (0: there is none) and its hash."""

    id: int
    hash: bytes


@dataclass(frozen=True)
class SignedHead:
    """A head with the time and the signature; `key`: the fingerprint of the signer's public key."""

    head: Head
    at: datetime
    key: str
    signature: bytes

    def as_line(self) -> str:
        """The text that is logged."""
        return (
            f"audit head {self.head.id} {self.head.hash.hex()} {self.at.isoformat()} {self.key}"
            f" {base64.urlsafe_b64encode(self.signature).decode().rstrip('=')}"
        )


class HeadKey:
    """Signs and checks heads (Ed25519)."""

    def __init__(self, seed: bytes) -> None:
        self._private = Ed25519PrivateKey.from_private_bytes(seed)
        self._public: Ed25519PublicKey = self._private.public_key()
        self.fingerprint = hashlib.sha256(self._public.public_bytes_raw()).hexdigest()[:16]

    @classmethod
    def load(cls, settings: Settings) -> "HeadKey":
        """The key of the settings, else that of HOME, which is made when there is none.

        Raises:
            AuditKeyInvalid: it is not 32 bytes in URL-safe base64, or the file cannot be read or made.
        """
        try:
            if settings.audit_key is not None:
                text = settings.audit_key.get_secret_value().strip()
            else:
                text = private_secret(settings.home / KEY_FILE, durable=True)
            seed = base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
        except (OSError, ValueError) as error:
            raise _invalid(type(error).__name__) from None
        if len(seed) != _SEED_BYTES:
            raise _invalid(f"it has {len(seed)} bytes")
        return cls(seed)

    def sign(self, head: Head) -> SignedHead:
        """The head, signed now."""
        at = datetime.now(UTC)
        return SignedHead(head, at, self.fingerprint, self._private.sign(_message(head, at)))

    def has_signed(self, signed: SignedHead) -> bool:
        """Whether this key made the signature."""
        try:
            self._public.verify(signed.signature, _message(signed.head, signed.at))
        except InvalidSignature:
            return False
        return True


def find_heads(lines: Iterable[str]) -> Iterator[SignedHead]:
    """The signed heads in the lines of a log, whatever else the lines hold. Signatures are not checked."""
    for line in lines:
        for found in _LINE.finditer(line):
            try:
                at = datetime.fromisoformat(found["at"])
                signature = base64.urlsafe_b64decode(found["signature"] + "==")
            except ValueError:
                continue
            yield SignedHead(Head(int(found["id"]), bytes.fromhex(found["hash"])), at, found["key"], signature)


def _message(head: Head, at: datetime) -> bytes:
    return f"explorer audit head\n{head.id}\n{head.hash.hex()}\n{at.isoformat()}".encode()


def _invalid(why: str) -> AuditKeyInvalid:
    return AuditKeyInvalid(
        f"The key that signs the audit trail's heads cannot be used ({why}).",
        next_step="Give EXPLORER_AUDIT_KEY 32 random bytes in URL-safe base64, or restore HOME/audit.key from a backup.",
    )

"""How are secrets encrypted at rest? Fernet keys from EXPLORER_SECRET_KEYS or HOME/secret.keys, and their rotation.

The first key encrypts, all keys decrypt. A key file is read again when it changes, so a rotation reaches running processes.
"""

import re
from pathlib import Path
from typing import Self

from cryptography.fernet import Fernet, InvalidToken, MultiFernet

from explorer.catalog.errors import KeyringInvalid, KeyringMismatch, KeyringMissing
from explorer.core.files import private_secret, write_private
from explorer.core.settings import Settings

KEY_FILE = "secret.keys"


class Keyring:
    """Encrypts and decrypts. A value is bound to a `purpose`: copied to another row it does not decrypt."""

    def __init__(self, keys: str | None = None, *, path: Path | None = None) -> None:
        self.path = path
        self._stamp: tuple[int, int] | None = None
        self._keys = _parse(keys) if keys is not None else []
        self._fernet = MultiFernet([Fernet(key) for key in self._keys]) if self._keys else None

    @classmethod
    def load(cls, settings: Settings) -> Self:
        """The keyring of the settings. Makes nothing.

        Raises:
            KeyringMissing: there are no keys.
            KeyringInvalid: the keys are not Fernet keys, or the file cannot be read.
        """
        if settings.secret_keys is not None:
            return cls(settings.secret_keys.get_secret_value())
        keyring = cls(path=settings.home / KEY_FILE)
        keyring._current()
        return keyring

    @classmethod
    def make(cls, settings: Settings) -> None:
        """Make a key file, mode 0600, unless keys exist.

        Raises:
            KeyringInvalid: the file cannot be made.
        """
        path = settings.home / KEY_FILE
        try:
            if settings.secret_keys is None and not path.exists():
                private_secret(path, durable=True)
        except OSError as error:
            raise _unreadable(path, error) from None

    def encrypt(self, purpose: str, plaintext: bytes) -> bytes:
        """Ciphertext that only `decrypt` with the same purpose can read."""
        return self._current().encrypt(_tagged(purpose) + plaintext)

    def decrypt(self, purpose: str, ciphertext: bytes) -> bytes:
        """The plaintext.

        Raises:
            KeyringMismatch: encrypted with an unknown key, damaged, or made for another purpose.
        """
        try:
            plaintext = self._current().decrypt(ciphertext)
        except InvalidToken:
            raise _mismatch(purpose, "its key is not in the keyring") from None
        tag = _tagged(purpose)
        if not plaintext.startswith(tag):
            raise _mismatch(purpose, "it was made for another place")
        return plaintext.removeprefix(tag)

    def renewed(self) -> "Keyring":
        """A keyring that encrypts with a new key and decrypts with all current ones; only in memory until `store`.

        With EXPLORER_SECRET_KEYS the operator has already put the new key first: the keyring does not change.
        """
        if self.path is None:
            return self
        self._current()
        renewed = Keyring(",".join([Fernet.generate_key().decode(), *self._keys]))
        renewed.path, renewed._stamp = self.path, self._stamp
        return renewed

    def store(self) -> None:
        """Write the keys to the key file, if they come from there, and flush it to disk."""
        if self.path is not None:
            write_private(self.path, "\n".join(self._keys) + "\n", durable=True)

    def __repr__(self) -> str:
        return f"Keyring({len(self._keys)} keys)"

    def _current(self) -> MultiFernet:
        if self.path is not None:
            self._reload(self.path)
        if self._fernet is None:
            raise _not_keys()
        return self._fernet

    def _reload(self, path: Path) -> None:
        try:
            status = path.stat()
            stamp = (status.st_mtime_ns, status.st_ino)
            if stamp == self._stamp:
                return
            keys = _parse(path.read_text(encoding="ascii"))
        except FileNotFoundError:
            raise _missing(path) from None
        except (OSError, UnicodeDecodeError) as error:
            raise _unreadable(path, error) from None
        self._keys, self._fernet, self._stamp = keys, MultiFernet([Fernet(key) for key in keys]), stamp


def _unreadable(path: Path, error: Exception) -> KeyringInvalid:
    return KeyringInvalid(
        f"The key file {path} cannot be read or made ({type(error).__name__}).",
        next_step="Restore it from a backup and run as the account that owns it.",
    )


def _missing(path: Path) -> KeyringMissing:
    return KeyringMissing(
        f"There is no {path}, and EXPLORER_SECRET_KEYS is not set: what is stored encrypted cannot be read.",
        next_step="Bring secret.keys from the HOME or the backup of the installation, or set EXPLORER_SECRET_KEYS. "
        "If the keys are lost for good, `explorer db upgrade --take-over` makes a new one; then remove each tenant without "
        "--purge and add it again.",
    )


def _parse(text: str) -> list[str]:
    # The helper that makes the file omits base64 padding.
    keys = [key + "=" * (-len(key) % 4) for key in re.split(r"[,\s]+", text.strip()) if key]
    try:
        for key in keys:
            Fernet(key)
    except ValueError:
        keys = []
    if not keys:
        raise _not_keys()
    return keys


def _not_keys() -> KeyringInvalid:
    return KeyringInvalid(
        "The encryption keys are not Fernet keys.",
        next_step="Give EXPLORER_SECRET_KEYS keys of 32 bytes in URL-safe base64, separated by commas, "
        "or restore HOME/secret.keys from a backup.",
    )


def _tagged(purpose: str) -> bytes:
    return f"{purpose}\n".encode()


def _mismatch(purpose: str, reason: str) -> KeyringMismatch:
    return KeyringMismatch(
        f"The {purpose.partition(':')[0]} of a tenant cannot be decrypted: {reason}.",
        next_step="Restore HOME/secret.keys (or EXPLORER_SECRET_KEYS) from a backup. If the keys are lost, remove the tenant "
        "without --purge and add it again with its credential: its data stays.",
    )

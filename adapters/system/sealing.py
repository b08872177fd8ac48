"""Encryption of what customers said, so that a copy of the database alone tells nobody.

AES-256-GCM with a key derived from the keyring for this purpose alone.  A sealed text names the secret that it was
sealed with, so that older ones open after a newer secret was put before it; it is bound to its place, so that it opens
nowhere else.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from typing import Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

NONCE_BYTES: Final = 12
KEY_BYTES: Final = 32


class Unsealable(Exception):
    """The secret is not in the keyring any more, or the text was changed or moved."""


class Sealer:
    def __init__(
        self, secrets: Mapping[str, bytes], purpose: str, random_bytes: Callable[[int], bytes] = os.urandom
    ) -> None:
        """`secrets` by id, newest first."""
        self._ciphers = {name: AESGCM(_derived(secret, purpose)) for name, secret in secrets.items()}
        self._newest = next(iter(self._ciphers))
        self._random_bytes = random_bytes

    def sealed(self, text: bytes, place: str) -> bytes:
        nonce = self._random_bytes(NONCE_BYTES)
        name = self._newest.encode()
        return bytes((len(name),)) + name + nonce + self._ciphers[self._newest].encrypt(nonce, text, place.encode())

    def opened(self, sealed: bytes, place: str) -> bytes:
        """Raises Unsealable."""
        try:
            start = 1 + sealed[0]
            cipher = self._ciphers[sealed[1:start].decode()]
            nonce, rest = sealed[start : start + NONCE_BYTES], sealed[start + NONCE_BYTES :]
            return cipher.decrypt(nonce, rest, place.encode())
        except (IndexError, KeyError, UnicodeDecodeError, ValueError, InvalidTag) as error:
            raise Unsealable(f"what is kept as {place} cannot be opened with the secrets at hand") from error


def _derived(secret: bytes, purpose: str) -> bytes:
    return HKDF(SHA256(), KEY_BYTES, salt=None, info=f"gatewayz:{purpose}".encode()).derive(secret)

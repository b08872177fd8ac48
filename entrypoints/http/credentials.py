"""Where clients put their API key, read in one place for every route and every dialect.

Several carriers are in use, and a check that looks at only one of them is a hole.  Two of them may repeat one
key; two different keys are refused, because nobody could say who is calling.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import Final
from urllib.parse import parse_qsl

from domain.keys import InvalidKey, MissingKey

SECRET_LENGTH_MAX = 1024
QUERY_LENGTH_MAX = 16_384
_PRINTABLE: Final = re.compile(rb"[!-~]+")
KEY_HEADERS: Final = frozenset({b"x-api-key", b"api-key", b"x-goog-api-key"})


class ConflictingKeys(InvalidKey):
    def __init__(self) -> None:
        super().__init__(
            "This request carries two different API keys. Send only one; a key in the environment of your "
            "client may have added the other."
        )


def presented_secret(headers: Iterable[tuple[bytes, bytes]], query_string: bytes = b"") -> str:
    """The key of a request, from the raw headers and query of its ASGI scope.

    Raises MissingKey, InvalidKey, ConflictingKeys.
    """
    found: bytes | None = None
    for secret in _carried(headers, query_string):
        if found is None:
            found = secret
        elif found != secret:
            raise ConflictingKeys
    if found is None:
        raise MissingKey
    if len(found) > SECRET_LENGTH_MAX:
        raise InvalidKey(f"This API key is longer than {SECRET_LENGTH_MAX} characters, so it is not one of ours.")
    # Printable ASCII alone: what else a header can hold is never part of a key.
    if _PRINTABLE.fullmatch(found) is None:
        raise InvalidKey("This API key has characters that no key has. Check that it was copied whole.")
    return found.decode("ascii")


def _carried(headers: Iterable[tuple[bytes, bytes]], query_string: bytes) -> Iterator[bytes]:
    for name, value in headers:
        if name == b"authorization":
            secret = _bearer(value)
        elif name in KEY_HEADERS:
            secret = value.strip()
        else:
            continue
        # Clients whose key is configured as "" still send the header.
        if secret:
            yield secret
    if b"key=" in query_string:
        if len(query_string) > QUERY_LENGTH_MAX:
            raise InvalidKey("The query of this request is too long.")
        for field, text in parse_qsl(query_string.decode("latin-1"), encoding="latin-1"):
            if field == "key" and text.strip():
                yield text.strip().encode("latin-1", "replace")


def _bearer(value: bytes) -> bytes:
    scheme, _, secret = value.strip().partition(b" ")
    if scheme.lower() != b"bearer":
        raise InvalidKey("The Authorization header must be of the form 'Bearer <key>'.")
    return secret.strip()

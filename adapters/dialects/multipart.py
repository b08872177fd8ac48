"""Forms with files (RFC 7578), of which the gateway reads a few fields and changes fewer; every other byte stays.

A form's boundary is its own first line, so that no header is needed to read it; a preamble, which the standard
allows and no client sends, is refused.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping

from msgspec import Struct

PARTS_MAX = 64
BOUNDARY_LENGTH_MAX = 70
FIELD_BYTES_MAX = 64 * 1024
"""Of a field that is read; files may be longer."""

_BOUNDARY = re.compile(rb"[0-9A-Za-z'()+_,./:=? -]{0,69}[0-9A-Za-z'()+_,./:=?-]")
"""As RFC 2046 allows it; anything else could break out of the header that names it."""
_TOKEN = re.compile(rb"[0-9A-Za-z'+_.-]+")
_DISPOSITION = re.compile(rb"(?im)^content-disposition:\s*form-data\s*;(.*?)\r?$")
_PARAMETER = re.compile(rb'(?i)(?:^|;)\s*(name|filename)\s*=\s*(?:"((?:[^"\\]|\\.)*)"|([^;\s]+))')
_CONTENT_TYPE = re.compile(rb"(?im)^content-type:\s*([^\r\n;]+)")


class FormRefused(ValueError):
    """Why bytes cannot be taken for the form that they should be."""


class Part(Struct, frozen=True):
    """One field.  `start` and `end` enclose it with its delimiter line, so that it can be cut out."""

    name: str
    value: bytes
    filename: str | None
    content_type: str
    start: int
    end: int
    value_start: int


class Form(Struct, frozen=True):
    boundary: bytes
    parts: tuple[Part, ...]

    def text(self, name: str) -> str | None:
        """The field of this name; None where there is none.

        Raises FormRefused for what is no text, and where there are several, of which a vendor may read another one.
        """
        named = [part for part in self.parts if part.name == name]
        if len(named) > 1:
            raise FormRefused(f"the field {name!r} is there more than once")
        for part in named:
            if part.filename is None:
                if len(part.value) > FIELD_BYTES_MAX:
                    raise FormRefused(f"the field {name!r} is longer than {FIELD_BYTES_MAX} bytes")
                try:
                    return part.value.decode()
                except UnicodeDecodeError:
                    raise FormRefused(f"the field {name!r} is not UTF-8") from None
        return None

    def files(self, *names: str) -> list[Part]:
        return [part for part in self.parts if part.name in names and part.filename is not None]

    @property
    def content_type(self) -> str:
        boundary = self.boundary.decode("ascii")
        quote = "" if _TOKEN.fullmatch(self.boundary) else '"'
        return f"multipart/form-data; boundary={quote}{boundary}{quote}"


def read_form(body: bytes) -> Form:
    """The parts of a form.  Raises FormRefused."""
    end = body.find(b"\r\n")
    line = body[:end] if end > 0 else b""
    if not line.startswith(b"--") or len(line) > BOUNDARY_LENGTH_MAX + 2 or not _BOUNDARY.fullmatch(line[2:]):
        raise FormRefused("it does not begin with a boundary")
    parts: list[Part] = []
    at = 0
    while True:
        head_start = at + len(line) + 2
        head_end = body.find(b"\r\n\r\n", head_start - 2)
        closing = body.find(b"\r\n" + line, head_start)
        if head_end < 0 or closing < 0 or head_end > closing:
            raise FormRefused("a part of it is not complete")
        parts.append(_part(body, at, head_start, head_end, closing))
        if len(parts) > PARTS_MAX:
            raise FormRefused(f"it has more than {PARTS_MAX} parts")
        at = closing + 2
        after = body[at + len(line) : at + len(line) + 2]
        if after == b"--":
            # Readers that take a bare line feed for the end of a line must not find further fields.
            if body.count(b"\n" + line) != len(parts):
                raise FormRefused("its boundary is there where no part begins")
            return Form(line[2:], tuple(parts))
        if after != b"\r\n":
            raise FormRefused("a boundary in it is followed by something else")


def edit_form(body: bytes, form: Form, *, replace: Mapping[str, bytes], remove: Collection[str] = ()) -> bytes:
    """The form with other values for some fields and without some others."""
    pieces: list[bytes] = []
    copied = 0
    for part in form.parts:
        if part.name in remove:
            pieces.append(body[copied : part.start])
            copied = part.end
        elif part.name in replace and part.filename is None:
            pieces += (body[copied : part.value_start], replace[part.name])
            copied = part.value_start + len(part.value)
    return b"".join((*pieces, body[copied:]))


def _part(body: bytes, start: int, head_start: int, head_end: int, closing: int) -> Part:
    head = body[head_start:head_end]
    disposition = _DISPOSITION.search(head)
    if disposition is None:
        raise FormRefused("a part of it has no name")
    found = [(m[1].lower(), m[2] if m[2] is not None else m[3]) for m in _PARAMETER.finditer(disposition[1])]
    named = dict(found)
    if b"name" not in named:
        raise FormRefused("a part of it has no name")
    if len(named) < len(found) or b"\\" in named[b"name"] or len(_DISPOSITION.findall(head)) > 1:
        # Readers differ in what such a part is called.
        raise FormRefused("the name of a part can be read in several ways")
    kind = _CONTENT_TYPE.search(head)
    filename = named.get(b"filename")
    value_start = head_end + 4
    return Part(
        name=named[b"name"].decode("utf-8", "replace"),
        value=body[value_start:closing],
        filename=None if filename is None else filename.decode("utf-8", "replace"),
        content_type=kind[1].decode("latin-1").strip() if kind else "",
        start=start,
        end=closing + 2,
        value_start=value_start,
    )

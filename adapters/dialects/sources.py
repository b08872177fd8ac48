"""Where a picture or a file is: a data URL holds it, any other address points to it."""

from __future__ import annotations

import base64
from urllib.parse import unquote_to_bytes

from adapters.dialects.object_members import unreadable
from domain.inference.conversation import Inline, Link, Source, StoredFile


def source_of(url: str, where: str, media_type: str | None = None) -> Source:
    """A data URL's bytes or a link; bare base64 where a media type is given for it.  Raises InvalidRequest."""
    if url.startswith("data:"):
        head, comma, data = url[5:].partition(",")
        if not comma:
            raise unreadable(where, "a data URL, such as data:image/png;base64,...")
        kind, *parameters = head.split(";")
        if "base64" not in parameters:
            data = base64.b64encode(unquote_to_bytes(data)).decode()
        return Inline(kind or "text/plain", data)
    if url.startswith(("http://", "https://", "gs://")):
        return Link(url)
    if media_type is not None and url:
        return Inline(media_type, url)
    raise unreadable(where, "an http(s) address or a data URL, such as data:image/png;base64,...")


def url_of(source: Inline | Link) -> str:
    """A data URL or the link."""
    return f"data:{source.media_type};base64,{source.data}" if isinstance(source, Inline) else source.url


def is_at_hand(source: Source) -> bool:
    """Whether another vendor can be given it: a file kept at one vendor means nothing to another."""
    return not isinstance(source, StoredFile)

"""What the core asks of a company that runs models.

Narrow protocols, not one wide one: a vendor without images is simply no `ImageVendor`, and nobody writes methods whose
body says "not supported".
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from typing import Protocol

from msgspec import Struct

from domain.catalog import AbortPolicy, Capability, Dialect
from domain.ids import VendorSlug
from domain.inference.chat import ChatCall
from domain.pricing import Rates, Tier
from domain.usage import Usage


class ChatAnswer(Struct, frozen=True, kw_only=True):
    """A whole answer, in `dialect`, with the bytes as the vendor sent them."""

    dialect: Dialect
    body: bytes
    usage: Usage | None
    produced_tokens: int
    """Our own count of its output, for a vendor that reports no usage."""
    finish_reason: str | None
    headers: Mapping[str, str] = {}
    """The vendor's headers that a caller may see."""


class ChatStream(Protocol):
    """An answer that is still being written.

    Iterating yields whole events in `dialect`, as the vendor sent them less what only the gateway asked for; keep-alive
    comments of the vendor come as b"".  It ends normally only after a usable finish, or after the vendor's own word
    that it is done; otherwise it raises VendorFault.
    The attributes are those of everything yielded so far.
    """

    @property
    def dialect(self) -> Dialect: ...
    @property
    def started(self) -> bool:
        """A first piece of content, reasoning or tool call has been yielded."""
        ...

    @property
    def usage(self) -> Usage | None: ...
    @property
    def finish_reason(self) -> str | None: ...
    @property
    def headers(self) -> Mapping[str, str]: ...
    def __aiter__(self) -> AsyncIterator[bytes]: ...

    def produced_tokens(self) -> int:
        """Our own count of the output yielded so far."""
        ...

    def produced_at_most(self) -> int:
        """A bound for `produced_tokens` that costs nothing to ask."""
        ...

    def close(self) -> None:
        """Hang up at once.  Safe to call twice, and after the end."""
        ...


class ChatVendor(Protocol):
    slug: VendorSlug

    async def complete(self, call: ChatCall) -> ChatAnswer:
        """The whole answer.  Raises VendorFault, also where nothing came within `call.first_byte_s`."""
        ...

    async def stream(self, call: ChatCall) -> ChatStream:
        """Returns once the vendor has accepted the request, within `call.first_byte_s`.  Raises VendorFault."""
        ...


class ListedModel(Struct, frozen=True, kw_only=True, gc=False):
    """One row of a vendor's own models list."""

    vendor_model: str
    name: str = ""
    context_length: int | None = None
    output_max: int | None = None
    created_s: int | None = None
    capabilities: frozenset[Capability] | None = None
    """None where the list does not say."""
    rates: Rates | None = None
    """What the vendor itself publishes, in our unit; None where its list has no price."""
    tiers: tuple[Tier, ...] = ()
    free: bool = False
    """The list says outright that the model costs nothing; a missing or zero price alone does not."""


class ModelLister(Protocol):
    """A vendor whose models can be listed."""

    slug: VendorSlug
    abort_policy: AbortPolicy

    async def list_models(self) -> list[ListedModel]:
        """Every model it serves.  Raises VendorFault."""
        ...

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
from domain.money import Usd
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
    content_type: str = "application/json"
    vendor_cost: Usd | None = None
    """What the vendor says that it bills us; None where it does not say."""


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
    def vendor_cost(self) -> Usd | None:
        """What the vendor says that it bills us; None where it does not say."""
        ...

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


class TokenCounter(Protocol):
    """A vendor that counts the tokens of a prompt without answering it."""

    async def count_input(self, call: ChatCall) -> int:
        """Raises VendorFault."""
        ...


class ListedModel(Struct, frozen=True, kw_only=True, omit_defaults=True, gc=False):
    """One row of a vendor's own models list."""

    vendor_model: str
    name: str = ""
    description: str = ""
    context_length: int | None = None
    output_max: int | None = None
    created_s: int | None = None
    capabilities: frozenset[Capability] | None = None
    """None where the list does not say."""
    input_modalities: tuple[str, ...] = ()
    """Such as text, image, audio, file, video; empty where the list does not say."""
    output_modalities: tuple[str, ...] = ()
    """Such as text, image, audio, embeddings; empty where the list does not say."""
    quantization: str = ""
    """As the vendor writes it, such as fp8."""
    retires_s: int | None = None
    """When the vendor stops serving it; a date in the past too."""
    canonical: str = ""
    """`author/slug`, where the list itself says which well-known model this is, such as by its Hugging Face id."""
    aliases: tuple[str, ...] = ()
    """Further ids that the vendor itself knows it by."""
    rates: Rates | None = None
    """What the vendor itself publishes, in our unit; None where its list has no price."""
    tiers: tuple[Tier, ...] = ()
    free: bool = False
    """The list says outright that the model costs nothing; a missing or zero price alone does not."""
    price_doubt: str | None = None
    """Why the price that the list has is not used, in words for the operator."""


class Listing(Struct, frozen=True, kw_only=True):
    """How a vendor's list is kept."""

    ttl_s: float = 1_800.0
    """How long a list counts as new."""
    fallback: tuple[ListedModel, ...] = ()
    """What stands for the list until the vendor has once sent one."""
    on: bool = True
    """False: nothing is asked of the vendor until the operator switches it on."""


LISTED = Listing()
"""As most vendors' lists are kept."""


class ModelLister(Protocol):
    """A vendor whose models can be listed."""

    slug: VendorSlug
    abort_policy: AbortPolicy
    listing: Listing

    async def list_models(self) -> list[ListedModel]:
        """Every model it serves.  Raises VendorFault."""
        ...

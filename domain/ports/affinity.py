"""Which vendor has a conversation's prompt in its cache, so that the next request can go there again."""

from __future__ import annotations

from typing import Protocol

from msgspec import Struct

from domain.ids import AccountId, ModelId, VendorSlug


class Conversation(Struct, frozen=True):
    account_id: AccountId
    model: ModelId
    mark: str
    """What its requests have in common: the session that the caller names, or a hash of the prompt's beginning."""


class Affinity(Protocol):
    """A hint that may be forgotten at any time, and never fails a request."""

    async def recall(self, conversation: Conversation) -> VendorSlug | None:
        """The vendor that served it last, if that is not too long ago."""
        ...

    def remember(self, conversation: Conversation, vendor: VendorSlug, ttl_s: float) -> None:
        """Returns at once."""
        ...

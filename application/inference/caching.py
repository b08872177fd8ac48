"""Conversations stay at the vendor that has their prompt in its cache, for as long as it is healthy."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from domain.access import Caller
from domain.catalog import Offer
from domain.ids import VendorSlug
from domain.inference.caching import cache_pays, conversation_mark
from domain.inference.chat import ChatRequest
from domain.ports.affinity import Affinity, Conversation
from domain.routing import Wanted

KEPT_S: Final = 600.0
"""After the last answer.  Vendors keep a prompt for five minutes to an hour; a wrong guess costs one cache write."""


@dataclass(frozen=True, slots=True)
class PromptCaches:
    affinity: Affinity
    key: bytes
    """Hashes what names a conversation."""
    kept_s: float = KEPT_S

    def conversation(self, caller: Caller, request: ChatRequest, sought: Sequence[Wanted]) -> Conversation | None:
        """Which conversation this is part of; None where no cache pays, or where nothing tells."""
        if not any(cache_pays(each.model.offers) for each in sought):
            return None
        model = sought[0].model.id
        mark = conversation_mark(self.key, caller.account_id, model, request)
        return None if mark is None else Conversation(caller.account_id, model, mark)

    async def cached_at(self, conversation: Conversation) -> VendorSlug | None:
        return await self.affinity.recall(conversation)

    def answered(self, conversation: Conversation, offer: Offer) -> None:
        """The vendor has read the prompt, so that its cache has it now."""
        if cache_pays((offer,)):
            self.affinity.remember(conversation, offer.vendor, self.kept_s)

"""Which vendor serves a conversation, as this process remembers it."""

from __future__ import annotations

from typing import Final

from domain.ids import VendorSlug
from domain.ports.affinity import Conversation
from domain.ports.clock import Clock

CONVERSATIONS_MAX: Final = 50_000
"""Then the one that was remembered longest ago is forgotten."""


class MemoryAffinity:
    """The port `Affinity` for one process."""

    def __init__(self, clock: Clock) -> None:
        self._now = clock.monotonic
        self._vendors: dict[Conversation, tuple[VendorSlug, float]] = {}

    async def recall(self, conversation: Conversation) -> VendorSlug | None:
        return self.known(conversation)

    def remember(self, conversation: Conversation, vendor: VendorSlug, ttl_s: float) -> None:
        self._vendors.pop(conversation, None)
        if len(self._vendors) >= CONVERSATIONS_MAX:
            del self._vendors[next(iter(self._vendors))]
        self._vendors[conversation] = (vendor, self._now() + ttl_s)

    def known(self, conversation: Conversation) -> VendorSlug | None:
        vendor, until = self._vendors.get(conversation, (None, 0.0))
        if vendor is not None and self._now() >= until:
            del self._vendors[conversation]
            return None
        return vendor

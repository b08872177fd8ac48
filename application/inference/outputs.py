"""How long the answers of each model usually are, learnt from the last ones."""

from __future__ import annotations

from collections import deque
from typing import Final

REMEMBERED: Final = 512
RECOUNT_EVERY: Final = 32
MARGIN_PERCENT: Final = 150
TYPICAL_UNKNOWN: Final = 500


class UsualOutputs:
    """Per model, the 99th percentile of recent answers' output tokens, times 1.5; zero until some are known."""

    def __init__(self) -> None:
        self._recent: dict[str, deque[int]] = {}
        self._usual: dict[str, int] = {}
        self._since: dict[str, int] = {}

    def usual(self, model: str) -> int:
        return self._usual.get(model, 0)

    def typical(self, model: str) -> int:
        """The median of recent answers; a guess until there are some."""
        recent = self._recent.get(model)
        return sorted(recent)[len(recent) // 2] if recent else TYPICAL_UNKNOWN

    def note(self, model: str, output_tokens: int) -> None:
        recent = self._recent.get(model)
        if recent is None:
            recent = self._recent[model] = deque(maxlen=REMEMBERED)
        recent.append(output_tokens)
        since = self._since.get(model, 0) + 1
        if since >= RECOUNT_EVERY or output_tokens > self._usual.get(model, 0):
            ordered = sorted(recent)
            self._usual[model] = ordered[(len(ordered) * 99) // 100] * MARGIN_PERCENT // 100
            since = 0
        self._since[model] = since

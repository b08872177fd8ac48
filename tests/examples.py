"""How many examples a property test tries: few in every run, ten times as many with `TEST_THOROUGH=1`."""

from __future__ import annotations

import os

IS_THOROUGH = os.environ.get("TEST_THOROUGH") == "1"
USUAL = 50
"""For tests that do not say a number of their own."""


def examples(count: int) -> int:
    """What to hand to Hypothesis as `max_examples`, where the usual run tries `count`."""
    return count * 10 if IS_THOROUGH else count

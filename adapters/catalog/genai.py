"""Prices from the library genai-prices, looked up in a short-lived process of its own.

Its data takes 40 MB and half a second of one core to load, which a serving process should not pay for a question
asked once a day.  `python -m adapters.catalog.genai` reads `[[vendor, model], ...]` and writes what it knows.
"""

from __future__ import annotations

import asyncio
import logging
import os
import sys
from collections.abc import Collection, Iterable, Mapping
from datetime import UTC, datetime
from decimal import ROUND_HALF_UP, Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import msgspec
from msgspec import Struct

from domain.ids import VendorSlug
from domain.money import NANOS_PER_USD
from domain.pricing import UNITS_PER_RATE, Rates, Tier

if TYPE_CHECKING:
    from genai_prices.types import ModelInfo, ModelPrice

LOOKUP_TIMEOUT_S: Final = 120.0

PROVIDERS: Final[Mapping[str, str]] = {
    "anthropic": "anthropic",
    "azure": "azure",
    "bedrock": "aws",
    "cerebras": "cerebras",
    "cohere": "cohere",
    "deepseek": "deepseek",
    "fireworks": "fireworks",
    "gemini": "google",
    "groq": "groq",
    "mistral": "mistral",
    "moonshot": "moonshotai",
    "novita": "novita",
    "openai": "openai",
    "openrouter": "openrouter",
    "perplexity": "perplexity",
    "together": "together",
    "vertex": "google",
    "xai": "x-ai",
    "zai": "zai",
}
"""Our name of a vendor -> the library's.  A vendor that is not here has no price in it."""

_PER_THOUSAND = UNITS_PER_RATE // 1_000
_CLASSES: Final[Mapping[str, tuple[str, int]]] = {
    "input_mtok": ("input", 1),
    "output_mtok": ("output", 1),
    "cache_read_mtok": ("cache_read", 1),
    "cache_write_mtok": ("cache_write_5m", 1),
    "cache_write_1h_mtok": ("cache_write_1h", 1),
    "output_reasoning_mtok": ("reasoning", 1),
    "input_audio_mtok": ("audio_in", 1),
    "output_audio_mtok": ("audio_out", 1),
    "input_image_mtok": ("image_in", 1),
    "output_image_mtok": ("image_out", 1),
    "web_searches_kcount": ("searches", _PER_THOUSAND),
    "requests_kcount": ("requests", _PER_THOUSAND),
}
"""The library's units -> our class, and how many of them a rate of ours counts."""

log = logging.getLogger(__name__)


class Quote(Struct, frozen=True):
    """What a model costs at a vendor."""

    rates: Rates
    tiers: tuple[Tier, ...] = ()


class Quoted(Struct, frozen=True):
    vendor: VendorSlug
    model: str
    quote: Quote


Pair = tuple[VendorSlug, str]
"""A vendor and the id that it knows a model by."""


class GenaiPrices:
    """Asks the library, in a process that ends afterwards."""

    def knows(self, vendor: VendorSlug) -> bool:
        return vendor in PROVIDERS

    async def quotes(self, pairs: Collection[Pair]) -> Mapping[Pair, Quote]:
        """The prices it has, for no pair that it has none for.  Raises LookupFailed."""
        if not pairs:
            return {}
        # No credential of ours is the library's business.
        environ = {name: value for name in ("PATH", "LD_LIBRARY_PATH", "PYTHONPATH") if (value := os.environ.get(name))}
        try:
            process = await asyncio.create_subprocess_exec(
                sys.executable,
                "-m",
                "adapters.catalog.genai",
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.PIPE,
                cwd=Path(__file__).parents[2],
                env=environ,
            )
        except OSError as error:
            raise LookupFailed(f"no process can be started for genai-prices: {error}") from None
        try:
            async with asyncio.timeout(LOOKUP_TIMEOUT_S):
                written, complaint = await process.communicate(msgspec.json.encode(list(pairs)))
        except TimeoutError:
            raise LookupFailed(f"genai-prices did not answer within {LOOKUP_TIMEOUT_S:g} s") from None
        finally:
            if process.returncode is None:
                process.kill()
        if process.returncode != 0:
            raise LookupFailed(f"genai-prices failed: {complaint.decode(errors='replace')[-500:].strip()}")
        found = msgspec.json.decode(written, type=list[Quoted])
        return {(each.vendor, each.model): each.quote for each in found}


class LookupFailed(Exception):
    """The library could not be asked; what was known of it stays known."""


def look_up(pairs: Iterable[Pair], at: datetime) -> list[Quoted]:
    """What the library says, in this process."""
    from genai_prices.data_snapshot import get_snapshot

    snapshot = get_snapshot()
    found: list[Quoted] = []
    for vendor, model in pairs:
        provider = PROVIDERS.get(vendor)
        if provider is None:
            continue
        try:
            _, info = snapshot.find_provider_model(name_there(provider, model), None, provider, None)
        except LookupError:
            continue
        quote = quote_of(standard_prices(info, at), model)
        if quote is not None:
            found.append(Quoted(vendor, model, quote))
    return found


def name_there(provider: str, model: str) -> str:
    """What the library calls a model: Google's own names are paths, such as models/gemini-2.5-flash."""
    return model.rpartition("models/")[2] if provider == "google" else model


def standard_prices(info: ModelInfo, at: datetime) -> Mapping[str, Any]:
    """A model's prices that hold all day; of those that change with the hour the dearest, because a charge is made
    at any hour."""
    from genai_prices.types import ModelPrice, TimeOfDateConstraint

    if isinstance(info.prices, ModelPrice):
        return _stated(info.prices)
    standing: list[Mapping[str, Any]] = []
    for each in info.prices:
        if isinstance(each.constraint, TimeOfDateConstraint):
            standing.append(_stated(each.prices))
        elif each.constraint is None or each.constraint.active(at):
            # The library's rule: what comes later replaces what came before.
            standing = [_stated(each.prices)]
    return max(standing, key=_weight, default={})


def quote_of(prices: Mapping[str, Any], model: str) -> Quote | None:
    """The library's prices in our unit; None where they are incomplete, zero, or cannot be meant.

    A price without output is a gap, except for embeddings, which have no output.
    """
    if "input_mtok" not in prices or ("output_mtok" not in prices and "embed" not in model.lower()):
        return None
    rates = _rates(prices, 0)
    starts = sorted({tier.start for price in prices.values() for tier in getattr(price, "tiers", ())})
    tiers = tuple(Tier(start, _rates(prices, start + 1)) for start in starts)
    if rates.is_zero or any(each.implausible for each in (rates, *(tier.rates for tier in tiers))):
        return None
    return Quote(rates, tiers)


def _stated(prices: ModelPrice) -> Mapping[str, Any]:
    return {name: price for name, price in vars(prices).items() if price is not None and not name.startswith("_")}


def _weight(prices: Mapping[str, Any]) -> Decimal:
    return sum((_price_at(prices[name], 0) for name in ("input_mtok", "output_mtok") if name in prices), Decimal(0))


def _rates(prices: Mapping[str, Any], input_tokens: int) -> Rates:
    """The rates of a prompt of so many tokens."""
    known: dict[str, int] = {}
    for name, price in prices.items():
        if name in _CLASSES:
            ours, scale = _CLASSES[name]
            known[ours] = _nanos(_price_at(price, input_tokens) * scale)
    return Rates(**{"output": 0, **known})


def _price_at(price: Any, input_tokens: int) -> Decimal:
    if isinstance(price, Decimal):
        return price
    reached = [tier for tier in price.tiers if input_tokens > tier.start]
    return Decimal(max(reached, key=lambda tier: tier.start).price if reached else price.base)


def _nanos(usd: Decimal) -> int:
    """What is finer than a nano-dollar is the trace of a float in the data, so the nearest one is meant."""
    return int((usd * NANOS_PER_USD).to_integral_value(ROUND_HALF_UP))


def main() -> None:
    pairs = msgspec.json.decode(sys.stdin.buffer.read(), type=list[Pair])
    sys.stdout.buffer.write(msgspec.json.encode(look_up(pairs, datetime.now(UTC))))


if __name__ == "__main__":
    main()

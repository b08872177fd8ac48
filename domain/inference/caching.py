"""Prompt caches at vendors: when going back to one pays, what names a conversation, and what was saved."""

from __future__ import annotations

import hmac
from collections.abc import Iterable

from domain.catalog import Offer
from domain.ids import AccountId, ModelId
from domain.inference.chat import ChatRequest
from domain.money import ZERO, Usd
from domain.pricing import MARKUP_ONE_PPM, UNITS_PER_RATE
from domain.usage import Usage

BEGINNING_BYTES = 4 * 1024
"""Of a long beginning so much of its start and as much of its end are hashed: agents share the one, not the other."""


def cache_pays(offers: Iterable[Offer]) -> bool:
    """Whether any of `offers` reads a cached prompt for less than a fresh one."""
    for offer in offers:
        price = offer.price
        if price is not None and price.rates.cache_read is not None and price.rates.cache_read < price.rates.input:
            return True
    return False


def conversation_mark(key: bytes, account: AccountId, model: ModelId, request: ChatRequest) -> str | None:
    """A keyed hash that the requests of one conversation share; None where nothing tells which one it is.

    Keyed, because sessions' names and the beginnings of prompts can be guessed: whoever reads the store must not be
    able to try guesses.
    """
    if request.session is not None:
        kind, named = b"session", request.session.encode("utf-8", "surrogatepass")
    elif request.beginning is not None and (beginning := request.beginning()):
        kind, named = b"beginning", beginning
        if len(named) > 2 * BEGINNING_BYTES:
            named = b"%b%d%b" % (named[:BEGINNING_BYTES], len(named), named[-BEGINNING_BYTES:])
    else:
        return None
    parts = (kind, account.encode(), model.encode(), named)
    return hmac.digest(key, b"\0".join(parts), "sha256").hex()[:32]


def cache_saving(offer: Offer, usage: Usage) -> Usd:
    """What the tokens read from a cache would have cost more as fresh ones, markup included, rounded down."""
    price = offer.price
    if price is None or not usage.cache_read:
        return ZERO
    rates = price.rates_for(usage.input_tokens)
    if rates.cache_read is None or rates.cache_read >= rates.input:
        return ZERO
    exact = (rates.input - rates.cache_read) * usage.cache_read * offer.markup_ppm
    return Usd(exact // (UNITS_PER_RATE * MARKUP_ONE_PPM))

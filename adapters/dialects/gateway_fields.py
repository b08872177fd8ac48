"""The gateway's own members of a request, the same in every dialect and never sent to a vendor.

`models` and `provider` are spelt as OpenRouter's callers know them.  A member of `provider` that the gateway cannot
honour is refused by name: a wish about price or data that is silently ignored would be worse than an error.
"""

from __future__ import annotations

import re
from typing import Final, Literal, TypeVar

import msgspec
from msgspec import UNSET, Raw, Struct, UnsetType

from adapters.dialects.json_members import Members
from adapters.dialects.request_members import UNREADABLE, member, raw_member
from domain.errors import InvalidRequest, UnsupportedParameter
from domain.inference.chat import SESSION_LENGTH_MAX
from domain.money import Usd
from domain.pricing import UNITS_PER_RATE
from domain.routing import NO_PREFERENCES, MaxPrice, Preferences, Sort

GATEWAY_FIELDS: Final = ("models", "provider", "session_id", "max_cost_usd")
NAMES_MAX: Final = 100
"""Entries of `models` or of a list of vendors; a longer one is a slip, or meant to keep the router busy."""

DEARER_TIERS: Final = frozenset({"priority", "fast", "ultrafast", "scale", "performance"})
"""Values of `service_tier` that vendors ask more for than their prices say, and that no usage tells."""

_NUMBER = re.compile(r"-?\d+(\.\d+)?([eE][+-]?\d{1,3})?")

_T = TypeVar("_T")


class GatewayFields(Struct, frozen=True, kw_only=True):
    """What a request says to the gateway alone."""

    preferences: Preferences = NO_PREFERENCES
    cost_max: Usd | None = None
    session: str | None = None
    """`session_id`, else what the dialects have that names a conversation: `prompt_cache_key`, `metadata.user_id`."""
    parameters: frozenset[str] = frozenset()
    """The members that are not null."""


class _SortBy(Struct, forbid_unknown_fields=True):
    """OpenRouter's longer form of `provider.sort`."""

    by: Sort
    partition: Literal["model", "none"] | None = None


class _MaxPrice(Struct, forbid_unknown_fields=True):
    """Raw, so that a number is read from its digits and never becomes a float."""

    prompt: Raw | UnsetType = UNSET
    completion: Raw | UnsetType = UNSET
    request: Raw | UnsetType = UNSET
    image: Raw | UnsetType = UNSET


class _Provider(Struct, forbid_unknown_fields=True):
    order: tuple[str, ...] | None = None
    only: tuple[str, ...] | None = None
    ignore: tuple[str, ...] | None = None
    allow_fallbacks: bool | None = None
    sort: Sort | _SortBy | None = None
    max_price: _MaxPrice | None = None
    require_parameters: bool | None = None
    data_collection: Literal["allow", "deny"] | None = None
    quantizations: tuple[str, ...] | None = None


class _Turn(Struct):
    role: str | None = None


class _Metadata(Struct):
    user_id: str | None = None


def read_gateway_fields(parts: Members) -> GatewayFields:
    """What `parts`, a request's top-level members, say to the gateway.

    Raises InvalidRequest naming the member, UnsupportedParameter for what has a price that the gateway does not know.
    """
    _refuse_dearer(parts)
    return GatewayFields(
        preferences=_preferences(parts),
        cost_max=_cost_max(parts),
        session=_session(parts),
        parameters=frozenset([name for name, value in parts.values.items() if bytes(value) != b"null"]),
    )


def conversation_beginning(parts: Members, turns: str, *before: str) -> bytes:
    """The members `before` the turns, such as a system prompt, and the turns up to the first one of the user."""
    found = [raw_member(parts, name) or b"" for name in before]
    raw = raw_member(parts, turns) or b""
    try:
        several = msgspec.json.decode(raw, type=list[Raw])
        for turn in several:
            found.append(bytes(turn))
            if msgspec.json.decode(turn, type=_Turn).role == "user":
                break
    except UNREADABLE:
        # A single turn, written as a string; or turns that only their vendor understands.
        found.append(raw)
    return b"\0".join(found)


def _refuse_dearer(parts: Members) -> None:
    if "service_tier" in parts.values and (tier := _read(parts, "service_tier", str)) in DEARER_TIERS:
        raise UnsupportedParameter(
            f"'service_tier' cannot be {tier!r} here: that tier has a price of its own. Leave it out.",
            param="service_tier",
        )
    if "inference_geo" in parts.values and _read(parts, "inference_geo", str) not in (None, "global"):
        raise UnsupportedParameter(
            "'inference_geo' can only be 'global' here: other places have prices of their own.", param="inference_geo"
        )


def _preferences(parts: Members) -> Preferences:
    if "models" not in parts.values and "provider" not in parts.values:
        return NO_PREFERENCES
    models = _few(member(parts, "models", tuple[str, ...]), "models")
    provider = member(parts, "provider", _Provider)
    if provider is None:
        return Preferences(models=models)
    sort = provider.sort
    return Preferences(
        models=models,
        order=_vendors(provider.order, "provider.order"),
        only=_vendors(provider.only, "provider.only"),
        ignore=_vendors(provider.ignore, "provider.ignore"),
        allow_fallbacks=provider.allow_fallbacks is not False,
        sort=sort.by if isinstance(sort, _SortBy) else sort,
        across_models=isinstance(sort, _SortBy) and sort.partition == "none",
        max_price=None if provider.max_price is None else _max_price(provider.max_price),
        require_parameters=provider.require_parameters or False,
        deny_data_collection=provider.data_collection == "deny",
        quantizations=tuple(name.lower() for name in _few(provider.quantizations, "provider.quantizations")),
    )


def _vendors(names: tuple[str, ...] | None, param: str) -> tuple[str, ...]:
    """Slugs; callers write vendors' names with capitals as well."""
    return tuple(name.strip().lower() for name in _few(names, param))


def _few(names: tuple[str, ...] | None, param: str) -> tuple[str, ...]:
    if names is not None and len(names) > NAMES_MAX:
        raise InvalidRequest(f"'{param}' may have at most {NAMES_MAX} entries.", param=param)
    return names or ()


def _max_price(limits: _MaxPrice) -> MaxPrice:
    """USD per million tokens, per request and per image, in nano-dollars per million units."""
    return MaxPrice(
        prompt=_rate(limits.prompt, "prompt", 1),
        completion=_rate(limits.completion, "completion", 1),
        request=_rate(limits.request, "request", UNITS_PER_RATE),
        image=_rate(limits.image, "image", UNITS_PER_RATE),
    )


def _rate(value: Raw | UnsetType, name: str, units: int) -> int | None:
    if isinstance(value, UnsetType) or bytes(value) == b"null":
        return None
    return _amount(bytes(value), f"provider.max_price.{name}").nanos * units


def _cost_max(parts: Members) -> Usd | None:
    raw = raw_member(parts, "max_cost_usd")
    return None if raw is None else _amount(raw, "max_cost_usd")


def _amount(raw: bytes, param: str) -> Usd:
    """A decimal string, or a number read from its digits so that no float touches it."""
    text = raw.decode("utf-8", "replace").strip('"')
    try:
        if not _NUMBER.fullmatch(text):
            raise ValueError(f"{text[:40]!r} is not an amount in USD")
        amount = Usd.parse(text)
    except ValueError as error:
        raise InvalidRequest(f"'{param}' cannot be read: {error}.", param=param) from None
    if amount.nanos < 0:
        raise InvalidRequest(f"'{param}' must not be negative.", param=param)
    return amount


def _session(parts: Members) -> str | None:
    values = parts.values
    if "session_id" in values and (named := member(parts, "session_id", str)) is not None:
        if not 0 < len(named) <= SESSION_LENGTH_MAX:
            raise InvalidRequest(
                f"'session_id' must have 1 to {SESSION_LENGTH_MAX} characters.",
                param="session_id",
            )
        return named
    # These two are the vendors' members, which the vendor judges: what cannot be read here just names no session.
    if "prompt_cache_key" in values and (key := _read(parts, "prompt_cache_key", str)):
        return key
    if "metadata" in values and (metadata := _read(parts, "metadata", _Metadata)) and metadata.user_id:
        return metadata.user_id
    return None


def _read(parts: Members, name: str, kind: type[_T]) -> _T | None:
    raw = raw_member(parts, name)
    try:
        return None if raw is None else msgspec.json.decode(raw, type=kind)
    except UNREADABLE:
        return None

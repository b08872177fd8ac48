"""What the tasks share: reading a request for the gateway, and what the gateway writes into an answer."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

import msgspec
from msgspec import Struct

from adapters.dialects.gateway_fields import GATEWAY_FIELDS, read_gateway_fields
from adapters.dialects.json_members import JsonRefused, Members, check_depth, edit, members
from adapters.dialects.multipart import Form, FormRefused, edit_form, read_form
from adapters.dialects.openai_chat.server import with_cost as usage_with_cost
from adapters.dialects.request_members import member
from adapters.transport.sse import comment, data_event
from domain.catalog import Capability, Dialect
from domain.errors import InvalidRequest
from domain.inference.chat import ChatRequest
from domain.money import Usd
from domain.usage import Usage

KEEP_ALIVE: Final = comment("keep-alive")
COUNT_MAX: Final = 100_000_000
"""No request uses more of anything; a vendor that says so is not believed."""

_USAGE = b'"usage"'


class Asked(Struct, frozen=True, kw_only=True):
    """What a task's reader makes of a request's members."""

    ceiling: Usage
    streamed: bool = False
    answers: int = 1


class Fields:
    """The members of a JSON body, or the fields of a form: a task reads both the same way."""

    def __init__(self, members_: Members | None, form: Form | None) -> None:
        self.members = members_
        self.form = form

    def text(self, name: str) -> str | None:
        if self.members is not None:
            return member(self.members, name, str)
        assert self.form is not None, "a body is either JSON or a form"
        try:
            return self.form.text(name)
        except FormRefused as refused:
            raise InvalidRequest(f"The form cannot be read: {refused}.", param=name) from None

    def count(self, name: str, least: int, most: int) -> int | None:
        """A whole number from `least` to `most`; None where it is absent or null.  Raises InvalidRequest."""
        if self.members is not None:
            value = member(self.members, name, int)
        else:
            text = self.text(name)
            try:
                value = None if text is None else int(text)
            except ValueError:
                raise InvalidRequest(f"'{name}' must be a whole number.", param=name) from None
        if value is not None and not least <= value <= most:
            raise InvalidRequest(f"'{name}' must be a whole number from {least} to {most}.", param=name)
        return value

    def flag(self, name: str) -> bool:
        if self.members is not None:
            return member(self.members, name, bool) or False
        return (self.text(name) or "").lower() == "true"


class Task(Struct, frozen=True, kw_only=True):
    """One task, as a route and a vendor's endpoint both need it: the protocol `ChatDialect` of its route."""

    dialect: Dialect
    path: str
    """Under a vendor's base URL."""
    needs: Capability
    read: Callable[[Fields], Asked]
    used: Callable[[bytes, ChatRequest], Usage | None]
    """What a whole JSON answer, or a stream's frame with a usage in it, says was used; None where it says nothing."""
    used_by_bytes: Callable[[bytes, str, ChatRequest], Usage | None] | None = None
    """The same of an answer that is not JSON, by its content type; None where every answer is JSON."""
    answer_members: tuple[str, ...] = ()
    """Where a whole JSON answer has what was asked for: one with none of them is no answer.  Empty: anywhere."""
    default_model: str | None = None
    frames_add_up: bool = False
    """Each usage of a stream is one of several that together make its usage; else the last one is all of it."""
    KEEP_ALIVE: bytes = KEEP_ALIVE
    PASSED_HEADERS: tuple[bytes, ...] = ()

    def read_request(self, body: bytes) -> ChatRequest:
        """Raises InvalidRequest."""
        fields = read_fields(body)
        model = fields.text("model") or self.default_model
        if not model:
            raise InvalidRequest("Name the model to use; GET /v1/models lists them.", param="model")
        asked = self.read(fields)
        own = read_gateway_fields(fields.members if fields.members is not None else _gateway_members(fields))
        return ChatRequest(
            dialect=self.dialect,
            body=body,
            model=model,
            streamed=asked.streamed,
            wants_usage=True,
            output_max=None,
            answers=1,
            prompt_tokens=asked.ceiling.input_tokens,
            needs=frozenset({self.needs, Capability.STREAM} if asked.streamed else {self.needs}),
            preferences=own.preferences,
            cost_max=own.cost_max,
            parameters=own.parameters,
            session=own.session,
            ceiling=asked.ceiling,
            parsed=fields,
        )

    def with_cost(self, answer: bytes, cost: Usd) -> bytes:
        """A JSON answer with `usage.cost`, where it has a usage; any other answer as it is."""
        return usage_with_cost(answer, cost) if answer[:1] == b"{" and _USAGE in answer else answer

    def telling(self, _request: ChatRequest, _request_id: str, _created_s: int) -> TaskTelling:
        return TaskTelling()


class TaskTelling:
    """What the gateway itself writes into a task's stream: only how it failed; its end is the vendor's own event."""

    __slots__ = ()

    def passed(self, piece: bytes) -> None:
        """Nothing of it is needed later."""

    def with_cost(self, piece: bytes, _cost: Usd) -> bytes:
        return piece

    def is_end(self, _piece: bytes) -> bool:
        return False

    def with_usage_before_end(self, _piece: bytes, _usage: Usage, _cost: Usd) -> bytes | None:
        return None

    def error_event(self, body: bytes) -> bytes:
        return data_event(body)

    def length_stop(self, _usage: Usage) -> bytes:
        return b""


def read_fields(body: bytes) -> Fields:
    """A body that is a JSON object or a form.  Raises InvalidRequest."""
    if body[:2] == b"--":
        try:
            return Fields(None, read_form(body))
        except FormRefused as refused:
            raise InvalidRequest(f"The body is not a form that can be read: {refused}.") from None
    try:
        check_depth(body)
        return Fields(members(body), None)
    except JsonRefused as refused:
        raise InvalidRequest(f"The body is not a JSON object that can be read: {refused}.") from None


def write_body(request: ChatRequest, vendor_model: str, dropped: frozenset[str]) -> tuple[bytes, str]:
    """The body for the vendor, and its content type: the caller's, with the vendor's name of the model, less the
    gateway's own fields and those that this vendor does not take."""
    fields, body = request.parsed, request.body
    assert isinstance(fields, Fields), "a task's request keeps what was read of it"
    unwanted = {*GATEWAY_FIELDS, *dropped}
    if fields.form is not None:
        form = fields.form
        return edit_form(body, form, replace={"model": vendor_model.encode()}, remove=unwanted), form.content_type
    parts = fields.members
    assert parts is not None, "a body is either JSON or a form"
    model = {"model": msgspec.json.encode(vendor_model)}
    remove = {name for name in unwanted if name in parts.values}
    if "model" in parts.values:
        return edit(body, parts, replace=model, remove=remove), "application/json"
    return edit(body, parts, add=model, remove=remove), "application/json"


def dropped_fields(request: ChatRequest, dropped: frozenset[str]) -> list[str]:
    """Which of the request's fields `write_body` leaves out because the vendor does not take them."""
    fields = request.parsed
    if not dropped or not isinstance(fields, Fields):
        return []
    known = fields.members.values if fields.members is not None else {part.name for part in _form(fields).parts}
    return sorted(name for name in dropped if name in known)


def count(value: object) -> int:
    """A vendor's count, lenient: nothing and nonsense are 0."""
    return value if isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= COUNT_MAX else 0


def decoded(answer: bytes) -> Mapping[str, Any]:
    """A JSON object; empty for anything else."""
    try:
        value = msgspec.json.decode(answer)
    except (msgspec.MsgspecError, RecursionError, UnicodeDecodeError):
        return {}
    return value if isinstance(value, dict) else {}


def holds_any(answer: Mapping[str, Any], names: tuple[str, ...]) -> bool:
    """Whether an answer has one of these members; a list or an object without entries is nothing, an empty text is."""
    return any(name in answer and answer[name] not in ([], {}, None) for name in names)


def nested(value: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    inner = value.get(name)
    return inner if isinstance(inner, dict) else {}


def _form(fields: Fields) -> Form:
    assert fields.form is not None, "a body is either JSON or a form"
    return fields.form


def _gateway_members(fields: Fields) -> Members:
    """The gateway's own fields of a form, as JSON members: texts that are JSON stay so, all others are strings."""
    found: dict[str, bytes] = {}
    for name in GATEWAY_FIELDS:
        text = fields.text(name)
        if text is not None:
            raw = text.encode()
            found[name] = raw if raw[:1] in b"[{" else msgspec.json.encode(text)
    body = b"{%b}" % b",".join(b"%b:%b" % (msgspec.json.encode(name), raw) for name, raw in found.items())
    try:
        return members(body)
    except JsonRefused:
        raise InvalidRequest("'models' and 'provider' must be JSON where they are fields of a form.") from None

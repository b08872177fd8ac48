"""OpenAI's older Completions before a chat model: the prompt is a user's turn, the answer's text what follows it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

import msgspec

from adapters.dialects.gateway_fields import GATEWAY_FIELDS
from adapters.dialects.object_members import ObjectMembers
from adapters.dialects.openai_chat.server import DONE
from adapters.dialects.openai_chat.wire import written_usage
from adapters.dialects.openai_completions.server import OUTPUT_MAX_UNSAID
from adapters.dialects.request_members import UNREADABLE
from domain.catalog import Dialect
from domain.errors import InvalidRequest, UnsupportedParameter
from domain.inference.chat import ChatCall
from domain.inference.conversation import Conversation, Refusal, Role, Text, Turn
from domain.inference.reply import Finish, Finished, Grew, Opened, Reply, ReplyEvent, Started
from domain.usage import Usage

FINISHES: Final[Mapping[Finish, str]] = {
    Finish.LENGTH: "length",
    Finish.CONTEXT: "length",
    Finish.FILTER: "content_filter",
}
"""All others are "stop"."""

_OURS: Final = frozenset({"model", "stream", "stream_options", *GATEWAY_FIELDS})
NO_PLACE: Final[Mapping[str, str]] = {
    "suffix": "A chat model cannot fill in the middle; put what follows into the prompt.",
    "echo": "A chat model's answer does not begin with the prompt; put the prompt before the answer yourself.",
    "best_of": "This model gives one answer at a time; leave 'best_of' out.",
}
"""What would be another answer if it were left out, with what to do instead."""
ONE_TEXT: Final = (
    "This model is a chat model, which answers one text at a time: send each prompt in a request of its own, as a "
    "string. Models of vendors that serve /completions themselves take lists and tokens."
)

_encode = msgspec.json.encode


class CompletionsCaller:
    """The port `CallerCodec`."""

    def read_conversation(self, body: bytes) -> Conversation:
        """Raises InvalidRequest, and UnsupportedParameter for what a chat model cannot do."""
        try:
            request = msgspec.json.decode(body, type=dict[str, Any])
        except UNREADABLE:
            raise InvalidRequest("The body is not a JSON object that can be read.") from None
        left = {name: value for name, value in request.items() if name not in _OURS}
        members = ObjectMembers(left, "", Dialect.OPENAI_COMPLETIONS)
        prompt = _text(members.taken("prompt", object))
        for name, why in NO_PLACE.items():
            value = members.taken(name, object)
            if not (value is None or value is False or value == "" or (name == "best_of" and value == 1)):
                raise UnsupportedParameter(why, param=name)
        stop = members.taken("stop", object)
        stops: list[Any] = stop if isinstance(stop, list) else [] if stop is None else [stop]
        if not all(isinstance(each, str) for each in stops):
            raise InvalidRequest("'stop' must be a text or a list of texts.", param="stop")
        output_max = members.taken("max_tokens", int)
        if output_max == 0:
            raise UnsupportedParameter(
                "A chat model writes at least one token; raise 'max_tokens'.", param="max_tokens"
            )
        return Conversation(
            turns=(Turn(role=Role.USER, blocks=(Text(text=prompt),)),),
            output_max=OUTPUT_MAX_UNSAID if output_max is None else output_max,
            stop=tuple(stops),
            temperature=members.number("temperature"),
            top_p=members.number("top_p"),
            seed=members.taken("seed", int),
            frequency_penalty=members.number("frequency_penalty"),
            presence_penalty=members.number("presence_penalty"),
            logit_bias=_biases(members.taken("logit_bias", dict)),
            logprobs=members.taken("logprobs", int),
            answers=members.taken("n", int) or 1,
            user=members.taken("user", str),
            extras=members.rest(),
        )

    def write_reply(self, reply: Reply, usage: Usage, call: ChatCall) -> bytes:
        text = "".join([block.text for block in reply.blocks if isinstance(block, Text | Refusal)])
        choice = {"text": text, "index": 0, "logprobs": None, "finish_reason": FINISHES.get(reply.finish, "stop")}
        head = _head(reply.id, reply.model, reply.created_s, call)
        return _encode({**head, "choices": [choice], "usage": written_usage(usage)})

    def reply_writer(self, call: ChatCall) -> CompletionsWriter:
        return CompletionsWriter(call)


class CompletionsWriter:
    """Writes one stream's chunks: each is an object with a piece of the text."""

    def __init__(self, call: ChatCall) -> None:
        self._call = call
        self._wants_usage = call.request.wants_usage
        self._head = b""
        self._shown = False
        """The open block is text that belongs to the answer."""
        self._finish = Finish.END

    def write(self, events: Sequence[ReplyEvent], usage: Usage | None) -> bytes:
        return b"".join([self._written(event) for event in events])

    def end(self, usage: Usage) -> bytes:
        frames = self._chunk("", FINISHES.get(self._finish, "stop"))
        if self._wants_usage:
            frames += b'data: %b,"choices":[],"usage":%b}\n\n' % (self._head, _encode(written_usage(usage)))
        return frames + DONE

    def _written(self, event: ReplyEvent) -> bytes:
        match event:
            case Started():
                if not self._head:
                    self._begin(event.id, event.model, event.created_s)
            case Opened(block):
                self._shown = isinstance(block, Text | Refusal)
                if isinstance(block, Text | Refusal) and block.text:
                    return self._chunk(block.text)
            case Grew(text):
                return self._chunk(text) if self._shown and text else b""
            case Finished():
                self._finish = event.finish
        return b""

    def _begin(self, id_: str, model: str, created_s: int | None) -> None:
        self._head = _encode(_head(id_, model, created_s, self._call))[:-1]

    def _chunk(self, text: str, finish: str | None = None) -> bytes:
        if not self._head:
            self._begin("", "", None)
        return b'data: %b,"choices":[{"text":%b,"index":0,"logprobs":null,"finish_reason":%b}]%b}\n\n' % (
            self._head,
            _encode(text),
            b'"%b"' % finish.encode() if finish else b"null",
            b',"usage":null' if self._wants_usage else b"",
        )


def _head(id_: str, model: str, created_s: int | None, call: ChatCall) -> dict[str, Any]:
    return {
        "id": id_ or f"cmpl-{call.id}",
        "object": "text_completion",
        "created": created_s or call.at_s,
        "model": model or call.vendor_model,
    }


def _biases(biases: dict[str, Any] | None) -> Mapping[str, float] | None:
    if biases is None:
        return None
    if not all(isinstance(bias, int | float) and not isinstance(bias, bool) for bias in biases.values()):
        raise InvalidRequest("'logit_bias' must be an object of numbers.", param="logit_bias")
    return biases


def _text(prompt: object) -> str:
    if isinstance(prompt, list) and len(prompt) == 1:
        prompt = prompt[0]
    if not isinstance(prompt, str):
        raise UnsupportedParameter(ONE_TEXT, param="prompt")
    if not prompt:
        raise InvalidRequest("'prompt' is empty; a chat model needs something to answer.", param="prompt")
    return prompt

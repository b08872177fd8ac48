"""Where vendor and caller speak one dialect, each gets the other's bytes; all that differs is written down here."""

from __future__ import annotations

import base64
import json
import re
from typing import Any

import pytest

from tests.e2e.conftest import SOLO, Answer, Place, cost
from tests.fakes.upstream import DONE, Request, Script, ToolCall, chunks, completion, token_usage

pytestmark = pytest.mark.anyio

MODEL = SOLO[0]
SHORT = MODEL.partition("/")[2]
"""The same model without its author, so that the vendor is sent another name than the caller wrote."""
PNG = base64.b64encode(bytes(range(256)) * 12).decode()

REQUESTS = {
    "tools": (
        b'{"model":"%b","messages":[{"role":"user","content":"Hi"},{"role":"assistant","content":null,"tool_calls":'
        b'[{"id":"c1","type":"function","function":{"name":"f","arguments":"{\\"a\\": 1}"}}]},'
        b'{"role":"tool","tool_call_id":"c1","content":"2"}],"tools":[{"type":"function","function":{"name":"f",'
        b'"parameters":{"type":"object","properties":{}},"strict":true}}],"tool_choice":{"type":"function",'
        b'"function":{"name":"f"}},"parallel_tool_calls":false%b}'
    ),
    "structured output": (
        b'{"model":"%b","messages":[{"role":"user","content":"Hi"}],"response_format":{"type":"json_schema",'
        b'"json_schema":{"name":"x","strict":true,"schema":{"$defs":{"a":{"enum":[1,2.0,"\\u00fc"]}},"$ref":'
        b'"#/$defs/a"}}}%b}'
    ),
    "images": (
        b'{"model":"%b","messages":[{"role":"user","content":[{"type":"text","text":"What is it?"},{"type":'
        b'"image_url","image_url":{"url":"data:image/png;base64,' + PNG.encode() + b'","detail":"low"}}]}]%b}'
    ),
    "logprobs": b'{"model":"%b","messages":[{"role":"user","content":"Hi"}],"logprobs":true,"top_logprobs":20,'
    b'"logit_bias":{"50256":-100}%b}',
    "unknown fields": (
        b'{"x_first":null,"model":"%b","x_unheard_of":{"deep":[{"so":[]}],"":""},"messages":[{"role":"user","content":'
        b'"Hi","x_part":1}],"usage":{"include":true},"id":"mine"%b}'
    ),
    "odd whitespace": b'\r\n {\t"model"\n:\r"%b" ,\n\n "messages" : [ { "role":"user" ,"content":"Hi" } ]%b  \t} \n',
    "big numbers": (
        b'{"model":"%b","messages":[{"role":"user","content":"Hi"}],"seed":18446744073709551617,"temperature":1.0,'
        b'"top_p":1E-0,"x":-0.0,"y":123456789012345678901234567890.1234567890123456789,"z":1e+2%b}'
    ),
    "escapes and unicode": (
        b'{"\\u006dodel":"%b","messages":[{"role":"user","content":"\\u00e9 \xc3\xa9 \\ud83d\\ude00 \xf0\x9f\x98\x80 '
        b'\\/ / \\b\\f\\n\\r\\t \\\\ \\" \\u0000 \xe2\x80\xa8 \x7f"}],"user":"\xd0\x96\xe4\xb8\xad\xe6\x96\x87"%b}'
    ),
}
"""The model's name and further members are filled in."""

ANSWERS: dict[str, dict[str, Any]] = {
    "text": {},
    "tools": {"tool_calls": [ToolCall(), ToolCall(id="call_2", arguments='{"a": "\\u00fc"}')]},
    "refusal": {"refusal": 'No \\ " / \u2028'},
    "logprobs": {"logprobs": True},
    "unknown fields": {"strange": True, "extra": {"x_top": [1, {"a": None}], "moderation": {}}},
    "unicode": {"reasoning": "Ich denke… \U0001f914"},
}
USAGE = token_usage(100, 20, cached=30, reasoning=5)


@pytest.mark.parametrize("kind", REQUESTS)
async def test_a_vendor_gets_the_callers_bytes(place: Place, kind: str) -> None:
    template = REQUESTS[kind]

    answer = await place.send(template % (SHORT.encode(), b""))

    assert answer.status == 200, answer.body
    assert place.alpha.requests[0].body == template % (MODEL.encode(), b"")


@pytest.mark.parametrize("kind", REQUESTS)
async def test_the_gateways_own_fields_are_taken_out(place: Place, kind: str) -> None:
    template = REQUESTS[kind]
    own = b',"models":["acme/shared-1"],"provider":{"only":["alpha"]},"session_id":"s-1","max_cost_usd":0.50'

    answer = await place.send(template % (MODEL.encode(), own))

    assert answer.status == 200, answer.body
    assert place.alpha.requests[0].body == template % (MODEL.encode(), b"")


async def test_own_fields_leave_the_others_where_they_are(place: Place) -> None:
    await place.send(
        b'{ "provider" : {"order":["alpha"]} , "seed" : 7, "session_id":"x" ,"model":"%b",\n "max_cost_usd":"1" , '
        b'"messages":[{"role":"user","content":"Hi"}] , "models": [] }' % MODEL.encode()
    )

    sent = place.alpha.requests[0].body
    assert json.loads(sent) == {"seed": 7, "model": MODEL, "messages": [{"role": "user", "content": "Hi"}]}
    assert list(json.loads(sent)) == ["seed", "model", "messages"]
    assert b'"seed" : 7' in sent


@pytest.mark.parametrize("kind", REQUESTS)
@pytest.mark.parametrize("asks", [False, True], ids=["usage unasked", "usage asked"])
async def test_a_streams_request_gains_at_most_the_wish_for_usage(place: Place, kind: str, asks: bool) -> None:
    template = REQUESTS[kind]
    wish = b',"stream_options":{"include_usage":true}'
    more = b',"stream":true' + (wish if asks else b"")

    answer = await place.send(template % (MODEL.encode(), more))

    assert answer.status == 200, answer.body
    assert place.alpha.requests[0].body == template % (MODEL.encode(), more if asks else more + wish)


@pytest.mark.parametrize(
    ("theirs", "sent"),
    [
        (b'{ "include_obfuscation" : false }', b'{ "include_obfuscation" : false,"include_usage":true }'),
        (b'{"include_usage": false , "x":1}', b'{"include_usage": true , "x":1}'),
        (b"{}", b'{"include_usage":true}'),
    ],
)
async def test_other_stream_options_stay(place: Place, theirs: bytes, sent: bytes) -> None:
    template = b'{"model":"%b","messages":[{"role":"user","content":"Hi"}],"stream":true,"stream_options": %b}'

    await place.send(template % (MODEL.encode(), theirs))

    assert place.alpha.requests[0].body == template % (MODEL.encode(), sent)


async def test_an_output_limit_is_added_only_where_credit_cannot_pay(place: Place) -> None:
    poor = await place.customer("0.01")
    body = REQUESTS["tools"] % (MODEL.encode(), b"")

    answer = await place.send(body, key=poor)

    assert answer.status == 200, answer.body
    sent = place.alpha.requests[0].body
    limit = json.loads(sent)["max_tokens"]
    assert sent == body[:-1] + b',"max_tokens":%d}' % limit
    assert answer.headers["x-gatewayz-max-tokens"] == str(limit)
    assert cost(0, limit) < 10_000_000


async def test_only_the_gateways_headers_reach_the_vendor(place: Place) -> None:
    await place.send(
        REQUESTS["tools"] % (MODEL.encode(), b""),
        headers={"Cookie": "a=b", "X-Forwarded-For": "192.0.2.1", "OpenAI-Organization": "org-mine", "X-Own": "1"},
    )

    headers = place.alpha.requests[0].headers
    assert headers["authorization"] == "Bearer sk-alpha-secret-0001"
    assert headers["content-type"] == "application/json"
    assert headers["accept-encoding"] == "identity"
    assert not {"cookie", "x-forwarded-for", "x-own", "x-api-key"} & headers.keys()


def whole(**options: Any) -> bytes:
    return completion(None, usage=USAGE, **options)


@pytest.mark.parametrize("kind", ANSWERS)
@pytest.mark.parametrize("style", ["compact", "spaced", "escaped"])
async def test_a_whole_answer_gains_only_its_cost(place: Place, kind: str, style: str) -> None:
    body = whole(**ANSWERS[kind])
    if style == "spaced":
        body = json.dumps(json.loads(body), indent="\t", ensure_ascii=False).encode() + b"\r\n"
    elif style == "escaped":
        body = json.dumps(json.loads(body), separators=(" , ", " : ")).encode()
    place.alpha.script(Script(body=body))

    answer = await place.send(REQUESTS["tools"] % (MODEL.encode(), b""))

    assert answer.status == 200
    assert without_cost(answer) == body


async def test_odd_numbers_of_an_answer_stay_as_they_are(place: Place) -> None:
    body = (
        b'{"id":"x","created":1.76e9,"choices":[{"index":0,"message":{"role":"assistant","content":"a"},'
        b'"logprobs":{"content":[{"logprob":-0.0,"x":-1.0000000000000000001e-5}]},"finish_reason":"stop"}],'
        b'"usage":{"prompt_tokens":1.0,"completion_tokens":1,"x":18446744073709551617,"details":{"usage":{"a":1}}},'
        b'"usage_after":{"usage":{"b":2}}}'
    )
    place.alpha.script(Script(body=body))

    answer = await place.send(REQUESTS["tools"] % (MODEL.encode(), b""))

    assert answer.body == body.replace(b'{"a":1}}', b'{"a":1}},"cost":0.000003')


async def test_a_cost_of_the_vendors_own_gives_way_to_ours(place: Place) -> None:
    place.alpha.script(Script(body=whole().replace(b'"usage":{', b'"usage":{"cost":99.5,')))

    answer = await place.send(REQUESTS["tools"] % (MODEL.encode(), b""))

    assert answer.json["usage"]["cost"] == cost(100, 20) / 10**9
    assert answer.body.count(b'"cost"') == 1


def streams(**options: Any) -> tuple[list[bytes], list[bytes]]:
    """The same answer to a request that asked for usage, and to one that did not."""
    pieces: dict[str, Any] = {k: [v] if k == "reasoning" else v for k, v in options.items()}
    asked = chunks(usage=USAGE, include_usage=True, obfuscation=False, **pieces)
    unasked = chunks(usage=USAGE, include_usage=False, obfuscation=False, **pieces)
    return [*asked, DONE], [*unasked, DONE]


def told_as_asked(options: dict[str, Any]) -> Any:
    asked, unasked = streams(**options)

    def script(request: Request) -> Script:
        wish = (request.json.get("stream_options") or {}).get("include_usage")
        return Script(frames=asked if wish else unasked, done=False)

    return script


@pytest.mark.parametrize("kind", ANSWERS)
async def test_a_stream_that_asks_for_usage_gains_only_its_cost(place: Place, kind: str) -> None:
    place.alpha.by_model[MODEL] = told_as_asked(ANSWERS[kind])
    more = b',"stream":true,"stream_options":{"include_usage":true}'

    answer = await place.send(REQUESTS["tools"] % (MODEL.encode(), more))

    assert answer.headers["content-type"].startswith("text/event-stream")
    assert without_cost(answer) == b"".join(streams(**ANSWERS[kind])[0])


@pytest.mark.parametrize("kind", ANSWERS)
@pytest.mark.parametrize("slice_bytes", [None, 37])
async def test_a_stream_that_does_not_ask_is_the_one_that_the_vendor_would_have_sent(
    place: Place, kind: str, slice_bytes: int | None
) -> None:
    def script(request: Request) -> Script:
        written = told_as_asked(ANSWERS[kind])(request)
        return Script(frames=written.frames, done=False, slice_bytes=slice_bytes)

    place.alpha.by_model[MODEL] = script

    answer = await place.send(REQUESTS["tools"] % (MODEL.encode(), b',"stream":true'))

    assert place.alpha.requests[0].json["stream_options"] == {"include_usage": True}
    assert answer.body == b"".join(streams(**ANSWERS[kind])[1])


@pytest.mark.parametrize("line_end", [b"\n", b"\r\n", b"\r"], ids=["LF", "CRLF", "CR"])
async def test_every_way_to_write_a_stream_is_kept(place: Place, line_end: bytes) -> None:
    frames = [b": hi\n\n" + frame.replace(b"data: ", b"data:", 1) for frame in streams()[0]]
    frames = [frame.replace(b"\n", line_end) for frame in [b"\xef\xbb\xbf" + frames[0], *frames[1:]]]
    place.alpha.script(Script(frames=frames, done=False, slice_bytes=29))
    more = b',"stream":true,"stream_options":{"include_usage":true}'

    answer = await place.send(REQUESTS["tools"] % (MODEL.encode(), more))

    assert without_cost(answer) == b"".join(frames)


async def test_big_events_pass_whole(place: Place) -> None:
    frames = [*chunks(["x" * 300_000, "é" * 100_000], usage=USAGE, obfuscation=False), DONE]
    place.alpha.script(Script(frames=frames, done=False))
    more = b',"stream":true,"stream_options":{"include_usage":true}'

    answer = await place.send(REQUESTS["tools"] % (MODEL.encode(), more))

    received, sent = without_cost(answer), b"".join(frames)
    assert len(received) == len(sent)
    assert received == sent


def without_cost(answer: Answer) -> bytes:
    """The body less the one member that the gateway adds; asserts that it is there and right."""
    added = re.compile(rb',"cost":0\.00014(?=[}\s])')
    assert len(added.findall(answer.body)) == 1, answer.body[-500:]
    return added.sub(b"", answer.body)

"""A vendor may fail in any way: the caller gets another vendor's answer or a clear error, and pays for no failure."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from tests.e2e.conftest import GONE, SHARED, SOLO, Answer, Place, cost
from tests.fakes.upstream import (
    PROMPT_TOKENS,
    TEXT_PIECES,
    ErrorForm,
    Reply,
    Script,
    Scripted,
    bad_request,
    chunks,
    closes,
    empty,
    error_in_stream,
    gzip_bomb,
    half_closes,
    hangs_up,
    html,
    insufficient_quota,
    lying_usage,
    malformed_chunk,
    many_headers,
    not_found,
    overloaded,
    payment_required,
    rate_limited,
    redirect,
    refused,
    resets,
    server_error,
    silent,
    slow_body,
    stalls,
    unauthorized,
)

pytestmark = pytest.mark.anyio

SETTINGS = {"GATEWAYZ_FIRST_BYTE_SECONDS": "2", "GATEWAYZ_IDLE_SECONDS": "1"}
MODEL, OTHER, ANOTHER, _ = SOLO
WITH_USAGE: dict[str, Any] = {"stream": True, "stream_options": {"include_usage": True}}

BEFORE_A_WORD: dict[str, tuple[Callable[[], Script], int, str]] = {
    "500": (server_error, 502, "vendor_error"),
    "502": (lambda: server_error(502), 502, "vendor_error"),
    "503": (lambda: server_error(503), 503, "no_vendor_available"),
    "529": (overloaded, 503, "no_vendor_available"),
    "429": (lambda: rate_limited(7), 429, "rate_limit_exceeded"),
    "404": (lambda: not_found("/v1/chat/completions"), 503, "no_vendor_available"),
    "redirect": (lambda: redirect("http://127.0.0.1:9/"), 502, "vendor_error"),
    "HTML": (html, 502, "vendor_error"),
    "HTML 502": (lambda: html(502), 502, "vendor_error"),
    "empty": (empty, 502, "vendor_error"),
    "hangs up": (hangs_up, 503, "no_vendor_available"),
    "error in 200": (lambda: error_in_stream(after_frames=0), 502, "vendor_error"),
    "no HTTP": (lambda: Script(raw=b"SSH-2.0-OpenSSH_9.2\r\n"), 502, "vendor_error"),
    "20,000 headers": (many_headers, 502, "vendor_error"),
    "silent": (silent, 504, "vendor_timeout"),
}
"""What a vendor does, and what the caller of the only one is told."""
OUR_ACCOUNT: dict[str, Callable[[], Script]] = {
    "401": unauthorized,
    "403": lambda: refused(403, "Forbidden", "permission_error"),
    "402": payment_required,
    "quota": insufficient_quota,
}
"""What is wrong between the vendor and the operator.  A vendor that says so rests for a while, with all its models."""


def assert_told(answer: Answer, status: int, code: str) -> None:
    assert answer.status == status, answer.body[:500]
    assert answer.error["code"] == code
    assert answer.error["request_id"] == answer.request_id
    for secret in ("sk-alpha", "Traceback", "127.0.0.1", "aiohttp"):
        assert secret not in answer.body.decode()


def assert_ended_with_error(answer: Answer) -> str:
    """A stream that had begun and ends with the dialect's error event; returns the text before it."""
    assert answer.status == 200
    *said, last = answer.events
    assert last["error"].keys() >= {"message", "type", "code"}
    assert last["error"]["request_id"] == answer.request_id
    assert b"[DONE]" not in said
    choices = [choice for chunk in said for choice in chunk["choices"]]
    return "".join(choice["delta"].get("content") or "" for choice in choices)


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("fault", BEFORE_A_WORD)
async def test_the_only_vendors_failure_is_told_and_free(place: Place, fault: str, stream: bool) -> None:
    script, status, code = BEFORE_A_WORD[fault]
    place.alpha.by_model[MODEL] = script()
    before = await place.charged()

    answer = await place.chat(MODEL, stream=stream)

    assert_told(answer, status, code)
    assert await place.charged() == before
    await place.nothing_held()
    record = await place.generation(answer.request_id)
    assert (record["outcome"], record["cost_usd"]) == ("failed", "0")
    if fault == "429":
        assert answer.headers["retry-after"] == "7"


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(
    ("theirs", "status", "code"),
    [(400, 400, "invalid_request"), (413, 413, "request_too_large"), (422, 400, "invalid_request")],
)
async def test_a_refusal_of_the_request_itself_is_passed_on(
    place: Place, theirs: int, status: int, code: str, stream: bool
) -> None:
    place.alpha.by_model[SHARED[0]] = refused(theirs, "Unsupported value: 'temperature'", "invalid_request_error")

    answer = await place.chat(SHARED[0], stream=stream)

    assert_told(answer, status, code)
    assert "Unsupported value: 'temperature'" in answer.error["message"]
    assert len(place.alpha.requests) == 1
    assert place.beta.requests == []


async def test_a_context_that_is_too_long_has_its_own_code(place: Place) -> None:
    place.alpha.by_model[MODEL] = bad_request("too long", "context_length_exceeded")

    assert_told(await place.chat(MODEL), 400, "context_length_exceeded")


async def test_a_vendors_words_do_not_tell_our_key(place: Place) -> None:
    place.alpha.by_model[MODEL] = bad_request("Your key sk-alpha-secret-0001 is not allowed to do that")

    answer = await place.chat(MODEL)

    assert answer.status == 400
    assert b"sk-alpha-secret-0001" not in answer.body


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("fault", ["500", "429", "HTML", "empty", "hangs up", "error in 200"])
async def test_another_vendor_answers_before_the_first_word(place: Place, fault: str, stream: bool) -> None:
    place.alpha.by_model[SHARED[1]] = BEFORE_A_WORD[fault][0]()
    before = await place.charged()

    answer = await place.chat(SHARED[1], stream=stream, provider={"order": ["alpha"]})

    assert answer.status == 200, answer.body
    assert answer.headers["x-gatewayz-vendor"] == "beta"
    assert await place.charged() - before == cost(PROMPT_TOKENS, len(TEXT_PIECES))
    record = await place.generation(answer.request_id)
    assert record["vendor"] == "beta"


@pytest.mark.parametrize("stream", [False, True])
async def test_another_vendor_answers_for_one_that_stays_silent(place: Place, stream: bool) -> None:
    place.alpha.by_model[SHARED[2]] = silent()
    began = time.monotonic()

    answer = await place.chat(SHARED[2], stream=stream, provider={"order": ["alpha", "beta"]})

    assert answer.status == 200, answer.body
    assert answer.headers["x-gatewayz-vendor"] == "beta"
    assert time.monotonic() - began < 10


async def test_a_stream_that_fails_before_its_first_word_moves_on(place: Place) -> None:
    """The role that opens a stream is no word, and neither is a comment."""
    place.alpha.by_model[SHARED[3]] = Script(frames=[b": hi\n\n", chunks()[0], b'data: {"error":"boom"}\n\n'])

    answer = await place.chat(SHARED[3], provider={"order": ["alpha"]}, **WITH_USAGE)

    assert answer.headers["x-gatewayz-vendor"] == "beta"
    assert answer.events[-1] == b"[DONE]"
    assert len(place.alpha.requests) == len(place.beta.requests) == 1


AFTER_A_WORD: dict[str, Callable[[], Script]] = {
    "closes": lambda: closes(3),
    "closes within an event": lambda: closes(3, bytes_of_next=20),
    "resets": lambda: resets(3),
    "half closes": lambda: half_closes(3),
    "ends without a finish": lambda: Script(frames=chunks()[:3], done=False),
    "malformed chunk": lambda: replace(malformed_chunk(3), frame_delay_s=0.02),
    "stalls": lambda: stalls(3),
    "stalls within an event": lambda: stalls(3, bytes_of_next=20),
    "oversize": lambda: Script(reply=Reply(pieces=("Hello", "x" * (34 * 2**20)))),
    "finishes with an error": lambda: Script(reply=Reply(finish="error")),
    **{f"error: {form}": (lambda form=form: error_in_stream(form)) for form in ErrorForm.__args__},  # type: ignore[attr-defined, misc]
}


@pytest.mark.parametrize("fault", AFTER_A_WORD)
async def test_a_failure_in_the_middle_of_a_stream_is_an_event_and_free(place: Place, fault: str) -> None:
    place.alpha.by_model[SHARED[4]] = AFTER_A_WORD[fault]()
    before = await place.charged()

    answer = await place.chat(SHARED[4], stream=True, provider={"only": ["alpha"]})

    text = assert_ended_with_error(answer)
    assert "".join(TEXT_PIECES).startswith(text)
    assert len(place.alpha.requests) == 1
    assert await place.charged() == before
    await place.nothing_held()
    record = await place.generation(answer.request_id)
    assert (record["outcome"], record["cost_usd"]) == ("broken_off", "0")
    assert record["usage"]["output"] > 0


async def test_losses_are_the_houses_and_the_ledger_agrees(place: Place) -> None:
    place.alpha.by_model[OTHER] = closes(4)

    for _ in range(3):
        assert_ended_with_error(await place.chat(OTHER, stream=True))

    await place.verify()


@pytest.mark.parametrize("how", ["length", "chunked", "close"])
async def test_a_whole_answer_that_breaks_off_is_free(place: Place, how: str) -> None:
    place.alpha.by_model[MODEL] = Script(framing=how, breaks=closes(0).breaks)  # type: ignore[arg-type]
    before = await place.charged()

    answer = await place.chat(MODEL)

    assert_told(answer, 502, "vendor_error")
    assert await place.charged() == before


async def test_a_whole_answer_that_stands_still_is_given_up(place: Place) -> None:
    place.alpha.by_model[MODEL] = stalls(0)
    began = time.monotonic()

    assert_told(await place.chat(MODEL), 504, "vendor_timeout")
    assert time.monotonic() - began < 5


async def test_an_answer_that_comes_slowly_but_comes_is_passed_on(place: Place) -> None:
    """It takes longer than the vendor may stand still."""
    place.alpha.by_model[MODEL] = slow_body(500)

    assert (await place.chat(MODEL)).status == 200


async def test_a_finished_stream_without_done_is_complete(place: Place) -> None:
    place.alpha.by_model[ANOTHER] = Script(done=False)

    answer = await place.chat(ANOTHER, **WITH_USAGE)

    assert answer.body.endswith(b"data: [DONE]\n\n")
    assert answer.events[-2]["usage"]["cost"] == cost(PROMPT_TOKENS, len(TEXT_PIECES)) / 10**9


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(
    "script", [Script(reply=Reply(usage_at="nowhere")), lying_usage(), lying_usage("end")], ids=["none", "lies", "end"]
)
async def test_without_a_believable_usage_our_own_count_is_charged(
    place: Place, script: Scripted, stream: bool
) -> None:
    place.alpha.by_model[ANOTHER] = script
    before = await place.charged()

    answer = await place.chat(ANOTHER, **(WITH_USAGE if stream else {}))

    assert answer.status == 200
    charged = await place.charged() - before
    # The prompt is estimated from its bytes; the answer is six short pieces.
    assert cost(1, len(TEXT_PIECES)) < charged < cost(100, 2 * len(TEXT_PIECES))
    record = await place.generation(answer.request_id)
    assert record["usage_estimated"] is True


async def test_a_stream_without_usage_gets_ours_marked_as_estimated(place: Place) -> None:
    place.alpha.by_model[ANOTHER] = Script(reply=Reply(usage_at="nowhere"))

    answer = await place.chat(ANOTHER, **WITH_USAGE)

    *_, usage, done = answer.events
    assert done == b"[DONE]"
    assert usage["choices"] == []
    assert usage["usage"]["completion_tokens"] == len(TEXT_PIECES)
    assert usage["usage"]["estimated"] is True
    record = await place.generation(answer.request_id)
    assert record["cost_usd"] == f"{usage['usage']['cost']:.9f}".rstrip("0")


@pytest.mark.parametrize("usage_at", ["finish", "both", "every", "end"])
async def test_usage_counts_once_wherever_it_is_told(place: Place, usage_at: str) -> None:
    place.alpha.by_model[ANOTHER] = Script(reply=Reply(usage_at=usage_at))  # type: ignore[arg-type]
    before = await place.charged()

    answer = await place.chat(ANOTHER, **WITH_USAGE)

    assert await place.charged() - before == cost(PROMPT_TOKENS, len(TEXT_PIECES))
    assert answer.body.count(b'"cost"') >= 1


@pytest.mark.parametrize("stream", [False, True])
async def test_a_bomb_is_defused(place: Place, stream: bool) -> None:
    place.alpha.by_model[MODEL] = gzip_bomb(512 * 2**20)

    assert_told(await place.chat(MODEL, stream=stream), 502, "vendor_error")


async def test_an_oversize_whole_answer_is_given_up(place: Place) -> None:
    place.alpha.by_model[MODEL] = Script(body=b" " * (65 * 2**20))

    assert_told(await place.chat(MODEL), 502, "vendor_error")


async def test_a_vendor_that_cannot_be_reached_is_told_soon(place: Place) -> None:
    began = time.monotonic()

    assert_told(await place.chat(GONE), 503, "no_vendor_available")
    assert time.monotonic() - began < 5


async def test_another_vendor_answers_for_one_that_cannot_be_reached(place: Place) -> None:
    answer = await place.chat(SHARED[6], provider={"order": ["gone", "alpha"]})

    assert answer.headers["x-gatewayz-vendor"] == "alpha"


async def test_connections_are_used_again_and_none_is_left(place: Place) -> None:
    for _ in range(20):
        await place.chat(ANOTHER, stream=True)
        await place.chat(ANOTHER)

    assert place.alpha.open_connections < 10


async def test_one_vendor_after_another_fails_and_the_last_word_is_told(place: Place) -> None:
    place.alpha.by_model[SHARED[5]] = html()
    place.beta.by_model[SHARED[5]] = rate_limited(3)

    answer = await place.chat(SHARED[5])

    assert answer.status in {429, 502}
    record = await place.generation(answer.request_id)
    assert {attempt["vendor"] for attempt in record["attempts"]} == {"alpha", "beta"}
    assert {attempt["fault"] for attempt in record["attempts"]} == {"malformed", "rate_limited"}


# Last, because alpha is left alone for a minute after these.


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("fault", OUR_ACCOUNT)
async def test_our_own_account_at_a_vendor_is_never_the_callers(place: Place, fault: str, stream: bool) -> None:
    place.alpha.by_model[MODEL] = OUR_ACCOUNT[fault]()
    before = await place.charged()

    answer = await place.chat(MODEL, stream=stream)

    assert_told(answer, 503, "no_vendor_available")
    for theirs in ("Insufficient Balance", "quota", "API key", "Forbidden"):
        assert theirs not in answer.error["message"]
    assert "our account at the vendor alpha needs care" in place.log()
    assert len(place.alpha.requests) == 1
    assert await place.charged() == before


async def test_a_vendor_that_refuses_our_account_is_left_alone(place: Place) -> None:
    place.alpha.by_model[SHARED[7]] = payment_required()
    assert (await place.chat(SHARED[7])).headers["x-gatewayz-vendor"] == "beta"
    place.alpha.requests.clear()

    assert (await place.chat(SHARED[7])).headers["x-gatewayz-vendor"] == "beta"

    assert place.alpha.requests == []

"""Nobody pays for what cannot be, and nothing that was asked for is free because its vendor counts badly."""

from __future__ import annotations

import json
from typing import Any

import pytest

from adapters.dialects.openai_tasks.register import TASKS
from application.inference.admission import demand_of
from domain.catalog import Dialect
from domain.errors import DomainError
from domain.ids import VendorSlug
from domain.inference.chat import ChatCall, ChatRequest
from domain.inference.faults import FaultKind, VendorFault
from domain.money import ZERO, Usd
from domain.ports.vendors import ChatAnswer
from domain.pricing import Rates
from domain.usage import Usage
from tests.fakes.chat import MODEL, ActingVendor, Line, Stage, cost, read, request, streamed
from tests.fakes.upstream import DONE, chunks, completion, encode, token_usage

pytestmark = pytest.mark.anyio

EACH = 1_000_000
"""Of what is counted by the piece, rates are per million."""


class TaskVendor(ActingVendor):
    """Answers every task with one usage."""

    def __init__(self, usage: Usage | None) -> None:
        super().__init__("alpha", b"{}")
        self.usage = usage

    async def complete(self, call: ChatCall) -> ChatAnswer:
        await self._act(call)
        return ChatAnswer(
            dialect=call.request.dialect, body=b"{}", usage=self.usage, produced_tokens=1, finish_reason="stop"
        )


def task(dialect: Dialect, **members: Any) -> ChatRequest:
    return TASKS[dialect].read_request(json.dumps({"model": MODEL, **members}).encode())


async def charged(asked: ChatRequest, usage: Usage | None, rates: Rates, output_max: int | None = 4_096) -> Usd:
    stage = Stage(TaskVendor(usage), rates={"alpha": rates}, output_max=output_max)
    await stage.fund("1000")
    await stage.whole(asked)
    return await stage.charged()


BATCH = task(Dialect.OPENAI_EMBEDDINGS, input=["word " * 500] * 100)
PICTURES = task(Dialect.OPENAI_IMAGES, prompt="A fox", n=10, quality="high", size="1024x1024")
RANKED = task(Dialect.RERANK, query="q", documents=["word " * 2_000] * 100)


def test_many_inputs_need_not_fit_into_one_window() -> None:
    assert BATCH.prompt_tokens > 8_192
    assert not demand_of(BATCH).one_prompt
    assert demand_of(request()).one_prompt


async def test_what_many_inputs_and_answers_use_is_believed() -> None:
    rates = Rates(input=EACH, output=EACH)
    assert await charged(BATCH, Usage(input=50_100, requests=1), rates) == Usd(50_100)
    assert await charged(PICTURES, Usage(input=9, image_out=41_600, images=10, requests=1), rates) == Usd(41_609)


@pytest.mark.parametrize(
    ("asked", "usage", "rates"),
    [
        (PICTURES, Usage(images=10_000, requests=1), Rates(input=0, output=0, images=40_000_000 * EACH)),
        (RANKED, Usage(searches=100_000_000, requests=1), Rates(input=0, output=0, searches=2_000_000 * EACH)),
        (BATCH, Usage(input=90_000_000, requests=1), Rates(input=20_000_000, output=0)),
    ],
)
async def test_a_task_never_costs_what_its_request_cannot_use(asked: ChatRequest, usage: Usage, rates: Rates) -> None:
    assert await charged(asked, usage, rates) == await charged(asked, None, rates) > ZERO


async def test_long_documents_are_searched_in_chunks() -> None:
    assert RANKED.ceiling is not None
    assert RANKED.ceiling.searches > 1


async def test_no_answer_searches_the_web_a_million_times() -> None:
    told = token_usage(10, 5) | {"num_sources_used": 1_000_000}
    stage = Stage(
        ActingVendor("alpha", completion("Hello", usage=told)),
        rates={"alpha": Rates(input=1_000_000_000, output=2_000_000_000, searches=25_000_000 * EACH)},
    )
    await stage.fund("1000")

    await stage.whole(request())

    assert await stage.charged() < Usd.parse("0.01")


async def test_a_usage_of_nothing_is_none() -> None:
    stage = Stage(
        ActingVendor(
            "alpha",
            completion("Hello there, world.", usage=token_usage(0, 0)),
            Line(b"".join(chunks(["Hello ", "there"], usage=token_usage(0, 0))), DONE),
        )
    )
    await stage.fund("1")

    await stage.whole(request())
    whole = await stage.charged()
    assert whole > cost(1, 3)
    assert (await stage.generation()).estimated
    await read(await stage.stream(streamed(stream_options={"include_usage": True})))
    assert await stage.charged() > whole + cost(1, 1)
    assert (await stage.generation()).estimated


async def test_an_answer_of_no_words_and_a_usage_of_nothing_is_free() -> None:
    stage = Stage(ActingVendor("alpha", completion("", usage=token_usage(0, 0))))
    await stage.fund("1")

    await stage.whole(request())

    assert await stage.charged() == ZERO


async def test_a_stream_tells_the_cost_that_is_charged() -> None:
    lie = token_usage(50_000_000, 5)
    stage = Stage(ActingVendor("alpha", Line(b"".join(chunks(["Hello"], usage=lie)), DONE)))
    await stage.fund("1000")

    running = await stage.stream(streamed(stream_options={"include_usage": True}))
    await read(running)

    assert await stage.charged() == running.cost


async def test_no_vendor_tells_a_caller_our_key_in_whatever_way_it_fails() -> None:
    words = "the prompt sent with sk-secret is too long"
    refusal = VendorFault(FaultKind.CONTEXT_LENGTH, words, status=400)
    error = encode({"error": {"message": words, "code": "context_length_exceeded"}})
    early = Line(b"data: " + error + b"\n\n")
    late = Line(b"".join(chunks(["Hello"])[:2]), b"data: " + error + b"\n\n")
    stage = Stage(ActingVendor("alpha", refusal, early, late))
    stage.chat.failover.redacted[VendorSlug("alpha")] = lambda text: text.replace("sk-secret", "***")
    await stage.fund("1")

    with pytest.raises(DomainError) as whole:
        await stage.whole(request())
    with pytest.raises(DomainError) as begun:
        await stage.stream(streamed())
    with pytest.raises(DomainError) as midway:
        await read(await stage.stream(streamed()))

    for raised in (whole, begun, midway):
        assert raised.value.message == "the prompt sent with *** is too long"
    assert await stage.charged() == ZERO

"""Conversations, replies and streams of events for property tests, in what dialects can say.

Values are in the form in which a reader leaves them: no empty texts, one side's blocks in one turn.
"""

from __future__ import annotations

import json
from typing import Any

from hypothesis import strategies as st

from domain.inference.conversation import (
    Citation,
    Conversation,
    FunctionTool,
    Image,
    Inline,
    JsonObject,
    JsonSchema,
    Link,
    Opaque,
    Refusal,
    Role,
    Text,
    Thinking,
    ToolCall,
    ToolChoice,
    ToolMode,
    ToolResult,
    Turn,
)
from domain.inference.reply import (
    AnswerBlock,
    Cited,
    Closed,
    Finish,
    Finished,
    Grew,
    Opened,
    Reply,
    ReplyEvent,
    Sealed,
    Started,
    SummaryGrew,
)

words = st.text(min_size=1, max_size=20).filter(lambda text: text.strip() == text)
names = st.from_regex(r"[a-z][a-z0-9_-]{0,20}", fullmatch=True)
ids = st.from_regex(r"call_[a-z0-9]{1,12}", fullmatch=True)
json_objects = st.dictionaries(names, st.none() | st.booleans() | st.integers(-9, 9) | st.text(max_size=5), max_size=3)
base64 = st.sampled_from(["QQ==", "aGVsbG8=", "AAEC"])
links = st.sampled_from(["https://example.test/a.png", "http://example.test/b?c=d#e"])
images = st.builds(
    Image, source=st.builds(Inline, st.sampled_from(["image/png", "image/jpeg"]), base64) | st.builds(Link, links)
)
schemas = st.builds(
    lambda properties: {"type": "object", "properties": properties},
    st.dictionaries(names, st.just({"type": "string"}), max_size=3),
)
texts = st.builds(Text, text=words)


def thoughts(origin: str, *, summaries: bool = False) -> st.SearchStrategy[Thinking]:
    """Reasoning sealed by `origin`; with `summaries` also summed up."""
    sealed = st.builds(Opaque, st.just(origin), base64)
    shown = st.builds(Thinking, text=words, sealed=sealed)
    if not summaries:
        return shown
    return shown | st.builds(Thinking, summary=st.lists(words, min_size=1, max_size=2).map(tuple), sealed=sealed)


def arguments() -> st.SearchStrategy[str]:
    return json_objects.map(_encoded)


def _encoded(value: Any) -> str:
    return json.dumps(value, separators=(",", ":"))


calls = st.builds(ToolCall, id=ids, name=names, arguments=arguments())


def conversations(
    thinking: st.SearchStrategy[Thinking] | None = None,
    *,
    system: st.SearchStrategy[tuple[Turn, ...]] | None = None,
    result_images: bool = True,
) -> st.SearchStrategy[Conversation]:
    """What every chat dialect can say: system, user and assistant turns, tools, their calls and results."""
    asked = st.lists(texts | images, min_size=1, max_size=3).map(
        lambda blocks: Turn(role=Role.USER, blocks=tuple(blocks))
    )
    before = st.tuples() if thinking is None else st.tuples() | st.tuples(thinking)
    shown = texts | images if result_images else texts

    def answered(draw_calls: list[ToolCall]) -> st.SearchStrategy[tuple[Turn, ...]]:
        results = st.tuples(
            *(
                st.builds(
                    ToolResult, call_id=st.just(call.id), content=st.lists(shown, min_size=1, max_size=2).map(tuple)
                )
                for call in draw_calls
            )
        )
        said = st.tuples(before, st.tuples() | st.tuples(texts), results)
        return said.map(
            lambda parts: (
                Turn(role=Role.ASSISTANT, blocks=(*parts[0], *parts[1], *draw_calls)),
                Turn(role=Role.TOOL, blocks=parts[2]),
            )
        )

    called = st.lists(calls, min_size=1, max_size=3, unique_by=lambda call: call.id).flatmap(answered)
    spoken = st.tuples(before, texts).map(lambda parts: (Turn(role=Role.ASSISTANT, blocks=(*parts[0], parts[1])),))
    rounds = st.tuples(asked, called | spoken).map(lambda parts: (parts[0], *parts[1]))
    start = system if system is not None else st.just(())
    turns = st.tuples(start, st.lists(rounds, max_size=3), asked).map(
        lambda parts: (*parts[0], *(turn for each in parts[1] for turn in each), parts[2])
    )
    tools = st.lists(
        st.builds(FunctionTool, name=names, description=st.none() | words, parameters=schemas, strict=st.booleans()),
        max_size=3,
        unique_by=lambda tool: tool.name,
    ).map(tuple)
    return st.builds(
        Conversation,
        turns=turns,
        tools=tools,
        tool_choice=st.none()
        | st.builds(ToolChoice, mode=st.sampled_from(ToolMode))
        | st.builds(ToolChoice, mode=st.just(ToolMode.REQUIRED), named=names),
        parallel_tools=st.none() | st.booleans(),
        output_max=st.none() | st.integers(16, 64_000),
        output_format=st.none()
        | st.just(JsonObject())
        | st.builds(JsonSchema, schema=schemas, name=names, strict=st.booleans()),
        temperature=st.none() | st.sampled_from([0, 1, 0.5]),
        top_p=st.none() | st.sampled_from([1, 0.25]),
        user=st.none() | names,
    )


def answer_blocks(
    thinking: st.SearchStrategy[Thinking] | None = None, *, refusals: bool = False, cited: bool = False
) -> st.SearchStrategy[AnswerBlock]:
    quoted = st.builds(Citation, url=links, title=words, start=st.integers(0, 3), end=st.integers(4, 9))
    said: st.SearchStrategy[Text] = texts
    if cited:
        said = st.builds(Text, text=words, citations=st.lists(quoted, max_size=2).map(tuple))
    blocks: st.SearchStrategy[AnswerBlock] = said | calls
    if thinking is not None:
        blocks = blocks | thinking
    return blocks | st.builds(Refusal, text=words) if refusals else blocks


def replies(
    thinking: st.SearchStrategy[Thinking] | None = None, *, refusals: bool = False, cited: bool = False
) -> st.SearchStrategy[Reply]:
    """Answers whose finish is what their blocks say."""
    blocks = st.lists(answer_blocks(thinking, refusals=refusals, cited=cited), min_size=1, max_size=4, unique_by=id)

    def reply(chosen: list[AnswerBlock], plain: Finish) -> Reply:
        called = any(isinstance(block, ToolCall) for block in chosen)
        refused = any(isinstance(block, Refusal) for block in chosen)
        finish = (
            plain if plain is Finish.LENGTH else Finish.TOOL if called else Finish.FILTER if refused else Finish.END
        )
        return Reply(id="r1", model="acme-one", blocks=tuple(chosen), finish=finish, created_s=1_760_000_000)

    return st.builds(reply, blocks, st.sampled_from([Finish.END, Finish.LENGTH]))


def told(reply: Reply, cuts: st.DataObject | None = None) -> list[ReplyEvent]:
    """A reply as events; its texts come in pieces where `cuts` says so."""
    events: list[ReplyEvent] = [Started(id=reply.id, model=reply.model, created_s=reply.created_s)]
    for block in reply.blocks:
        events += _events_of(block, cuts)
    return [*events, Finished(finish=reply.finish, stop_sequence=reply.stop_sequence)]


def _events_of(block: AnswerBlock, cuts: st.DataObject | None) -> list[ReplyEvent]:
    match block:
        case Text() | Refusal():
            empty = Text(text="") if isinstance(block, Text) else Refusal(text="")
            cited = [Cited(each) for each in block.citations] if isinstance(block, Text) else []
            return [Opened(empty), *_pieces(block.text, cuts), *cited, Closed()]
        case Thinking(redacted=True):
            return [Opened(block), Closed()]
        case Thinking():
            summed = [
                SummaryGrew(piece.text, part)
                for part, text in enumerate(block.summary)
                for piece in _pieces(text, cuts)
            ]
            sealed = [Sealed(block.sealed)] if block.sealed is not None else []
            return [Opened(Thinking()), *summed, *_pieces(block.text, cuts), *sealed, Closed()]
        case ToolCall():
            opened = ToolCall(id=block.id, name=block.name, arguments="", custom=block.custom, sealed=block.sealed)
            return [Opened(opened), *_pieces(block.arguments, cuts), Closed()]
        case _:
            return [Opened(block), Closed()]


def _pieces(text: str, cuts: st.DataObject | None) -> list[Grew]:
    if not text:
        return []
    if cuts is None or len(text) == 1:
        return [Grew(text)]
    at = cuts.draw(st.integers(1, len(text) - 1))
    return [Grew(text[:at]), Grew(text[at:])]

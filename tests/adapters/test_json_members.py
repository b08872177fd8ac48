"""Editing a member changes that member's bytes, and whatever cannot be edited safely is refused."""

import json
import time
from contextlib import suppress
from typing import Any

import msgspec
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from adapters.dialects.json_members import (
    MEMBERS_MAX,
    BrokenJson,
    JsonRefused,
    NoSuchMember,
    NotAnObject,
    RepeatedMember,
    TooDeep,
    TooManyMembers,
    check_depth,
    edit,
    members,
)
from tests.examples import examples

HOSTILE_BYTES = 33 * 1024 * 1024
NASTY = '[{]}"\\,:/ \n\u20ac'

spaces = st.text(" \t\n\r", max_size=2)
names = st.text(st.sampled_from('ab"\\\n\u20ac\U0001f600'), max_size=3)
strings = st.text(st.sampled_from(NASTY), max_size=6)
trees = st.recursive(
    st.none() | st.booleans() | st.integers() | strings,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(strings, inner, max_size=3),
    max_leaves=12,
)
written_values = st.one_of(
    st.builds(json.dumps, trees, ensure_ascii=st.booleans(), indent=st.sampled_from([None, 1])),
    st.sampled_from(["1", "12", "-0.0", "1E+2", "0.10", "1e999", "12345678901234567890", '"\\u0061"']),
)
"""JSON values as text, among them some that decoding and encoding again would spell differently."""


@st.composite
def labels(draw: st.DrawFn, name: str) -> str:
    """One of the many ways to write a name."""
    if draw(st.booleans()):
        return json.dumps(name, ensure_ascii=False)
    utf_16 = name.encode("utf-16-be").hex()
    return '"' + "".join(f"\\u{utf_16[at : at + 4]}" for at in range(0, len(utf_16), 4)) + '"'


class Part(msgspec.Struct):
    comma: str
    """With the whitespace around it; it is not written before the first member."""
    label: str
    value: str


class Written(msgspec.Struct):
    """An object as it was put together, so that nothing has to be parsed to know it."""

    head: str
    parts: dict[str, Part]
    tail: str

    @property
    def body(self) -> bytes:
        text = "".join(part.comma + part.label + part.value for part in self.parts.values())
        return (self.head + text.removeprefix(self._first_comma()) + self.tail).encode()

    def _first_comma(self) -> str:
        return next((part.comma for part in self.parts.values()), "")


@st.composite
def objects(draw: st.DrawFn, least: int = 0) -> Written:
    def part(name: str) -> Part:
        return Part(
            comma=draw(spaces) + "," + draw(spaces),
            label=draw(labels(name)) + draw(spaces) + ":" + draw(spaces),
            value=draw(written_values),
        )

    chosen = draw(st.lists(names, unique=True, min_size=least, max_size=6))
    return Written(
        head=draw(spaces) + "{" + draw(spaces),
        parts={name: part(name) for name in chosen},
        tail=(draw(spaces) if chosen else "") + "}" + draw(spaces),
    )


def plain(text: bytes) -> Any:
    return json.loads(text, object_pairs_hook=lambda pairs: pairs)


@given(objects())
def test_members_are_found_by_name_with_exactly_their_bytes(written: Written) -> None:
    body = written.body
    found = members(body)
    assert list(found.values) == list(found.spans) == list(written.parts)
    for name, part in written.parts.items():
        span = found.spans[name]
        assert bytes(found.values[name]) == part.value.encode()
        assert body[span.value_start : span.value_end] == part.value.encode()
        assert body[span.member_start : span.value_start] == part.label.encode()
    assert body[found.closing :].decode() == written.tail.lstrip()


@settings(max_examples=examples(150))
@given(st.data(), objects())
def test_an_edit_changes_what_it_names_and_keeps_every_other_byte(
    data: st.DataObject,
    written: Written,
) -> None:
    present = st.sampled_from([*written.parts, "never there"])
    remove = data.draw(st.frozensets(present))
    values = st.dictionaries(names, st.sampled_from(["0", '{"x": [1, 2]}', '"\\u00e9"']))
    chosen = data.draw(values)
    replace = {name: value for name, value in chosen.items() if name in written.parts and name not in remove}
    add = {name: value for name, value in chosen.items() if name not in replace}
    before = written.body

    after = edit(before, members(before), replace=raw(replace), remove=remove, add=raw(add))

    kept = {name: part for name, part in written.parts.items() if name not in remove}
    for name, value in replace.items():
        kept[name].value = value
    for name, value in add.items():
        kept[name] = Part(",", json.dumps(name, ensure_ascii=False) + ":", value)
    assert after == Written(written.head, kept, written.tail).body
    assert plain(after) == [(name, plain(part.value.encode())) for name, part in kept.items()]


def raw(values: dict[str, str]) -> dict[str, bytes]:
    return {name: value.encode() for name, value in values.items()}


@given(objects(least=1))
def test_an_edit_with_nothing_to_do_returns_the_same_bytes(written: Written) -> None:
    body = written.body
    found = members(body)
    same = {name: bytes(value) for name, value in found.values.items()}
    assert edit(body, found, replace={}, remove=(), add={}) is body
    assert edit(body, found, replace=same, remove=["never there"], add={}) is body


def test_a_member_written_with_escapes_is_replaced_where_it_stands() -> None:
    body = rb'{"stream":true, "mod\u0065l" : "a", "n":1}'
    after = edit(body, members(body), replace={"model": b'"b"'}, remove=(), add={})
    assert after == rb'{"stream":true, "mod\u0065l" : "b", "n":1}'


def test_what_is_removed_can_be_added_again_at_the_end() -> None:
    body = b'{"a":1,"b":2\n}'
    assert edit(body, members(body), replace={}, remove=["a"], add={"a": b"3"}) == b'{"b":2,"a":3\n}'


@pytest.mark.parametrize("remove", [(), ("b",)])
def test_what_is_not_there_cannot_be_replaced(remove: tuple[str, ...]) -> None:
    body = b'{"a":1,"b":2}'
    name = "b" if remove else "c"
    with pytest.raises(NoSuchMember, match=name):
        edit(body, members(body), replace={name: b"3"}, remove=remove, add={})


def test_what_is_there_cannot_be_added() -> None:
    body = b'{"a":1}'
    with pytest.raises(RepeatedMember):
        edit(body, members(body), replace={}, remove=(), add={"a": b"2"})


@settings(max_examples=examples(100))
@given(st.data(), objects(least=1))
def test_a_repeated_member_is_refused_by_name(data: st.DataObject, written: Written) -> None:
    name = data.draw(st.sampled_from([*written.parts]))
    twin = Part(",", data.draw(labels(name)) + ":", data.draw(written_values))
    parts = list(written.parts.items())
    parts.insert(data.draw(st.integers(0, len(parts))), (name + " twin", twin))
    body = Written(written.head, dict(parts), written.tail).body
    with pytest.raises(RepeatedMember) as refusal:
        members(body)
    assert refusal.value.name == name


@pytest.mark.parametrize(
    "body",
    [
        b'{"a":1,"a":1}',
        b'{"a":1,"a":12}',
        b'{"a":12,"a":1}',
        b'{"a":1,"b":2,"a":1}',
        b'{"a":1,"b":2,"\\u0061":3}',
        # A jump over the length of the last value lands where the first one imitates the rest.
        b'{"a":{"x":1,"b":2},"b":3,"a":123456}',
        b'{"a":{"x":1,"b":3},"b":3,"a":123456}',
        b'{"a":[1,"b",2],"b":2,"a":10}',
        b'{"a":{"x":1},"a":123456}',
        b'{"a":"1,\\"b\\":2}","b":2,"a":10}',
    ],
)
def test_a_repeated_member_is_refused_even_where_the_first_imitates_the_last(body: bytes) -> None:
    with pytest.raises(RepeatedMember):
        members(body)


def test_a_name_repeated_deeper_down_is_nobody_elses_business() -> None:
    body = b'{"a":{"a":1,"a":2},"b":"\\"a\\":3"}'
    assert edit(body, members(body), replace={"b": b"0"}, remove=(), add={}) == b'{"a":{"a":1,"a":2},"b":0}'


@pytest.mark.parametrize("body", [b"[]", b"null", b'"a"', b"1", b" true "])
def test_json_that_is_no_object_is_refused(body: bytes) -> None:
    with pytest.raises(NotAnObject):
        members(body)


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b'{"a"}',
        b'{"a":}',
        b'{"a":1,}',
        b'{"a":1}x',
        b'{"a":tru}',
        b"{'a':1}",
        b'{"a":"\n"}',
        b'{"\xff":1}',
    ],
)
def test_broken_json_is_refused(body: bytes) -> None:
    with pytest.raises(BrokenJson):
        members(body)


def test_json_too_deep_to_read_is_refused() -> None:
    with pytest.raises(TooDeep):
        members(b'{"a":' + b"[" * 100_000 + b"]" * 100_000 + b"}")


def test_more_members_than_any_request_has_are_refused() -> None:
    def numbered(count: int) -> bytes:
        return json.dumps({str(number): number for number in range(count)}).encode()

    assert len(members(numbered(MEMBERS_MAX)).spans) == MEMBERS_MAX
    with pytest.raises(TooManyMembers):
        members(numbered(MEMBERS_MAX + 1))


@settings(max_examples=examples(200))
@given(st.text(st.sampled_from(NASTY + "ab1"), max_size=20).map(lambda text: '{"a":1' + text + "}"))
@example('{"a":1}')
@example('{"a":1,"b":"}"}')
def test_arbitrary_text_is_refused_or_read_as_json_reads_it(text: str) -> None:
    body = text.encode()
    try:
        found = members(body)
    except JsonRefused:
        return
    assert plain(body) == [(name, plain(bytes(value))) for name, value in found.values.items()]


def naive_depth(text: str) -> int:
    """The deepest nesting of `text` up to the first fault, character by character."""
    depth = deepest = 0
    inside = escaped = False
    for character in text:
        if inside:
            inside = escaped or character != '"'
            escaped = character == "\\" and not escaped
        elif character == '"':
            inside = True
        elif character in "[{":
            depth += 1
            deepest = max(deepest, depth)
        elif character in "]}":
            depth -= 1
        if depth < 0 or (character == "\\" and not inside):
            break
    return deepest


def too_deep(text: str, most: int) -> bool:
    try:
        check_depth(text.encode(), most)
    except TooDeep:
        return True
    return False


@settings(max_examples=examples(150))
@given(trees, st.integers(0, 8))
def test_depth_is_measured_exactly(tree: Any, most: int) -> None:
    text = json.dumps(tree, ensure_ascii=False)
    assert too_deep(text, most) == (naive_depth(text) > most)


@settings(max_examples=examples(200))
@given(st.text(st.sampled_from('[[[{]}"\\a'), max_size=60), st.integers(0, 8))
def test_no_depth_is_missed_before_the_fault_of_broken_json(text: str, most: int) -> None:
    assert too_deep(text, most) or naive_depth(text) <= most


@given(st.text(st.sampled_from("[[[{]}"), max_size=60), st.integers(0, 8))
def test_depth_of_brackets_left_open_is_measured_exactly(text: str, most: int) -> None:
    closed = "[" * 60 + text
    assert too_deep(closed, 60 + most) == (naive_depth(closed) > 60 + most)


def test_depth_counts_arrays_and_objects_alike() -> None:
    check_depth(b'{"a":[' * 64 + b"]}" * 64)
    with pytest.raises(TooDeep):
        check_depth(b'[{"a":[' + b'{"a":[' * 63 + b"]}" * 63 + b"]}]")


@pytest.mark.parametrize("offset", range(6))
def test_depth_is_right_in_bodies_measured_in_several_slices(offset: int) -> None:
    body = b"[" + b"[]," * offset + b'["["],' * 500_000 + b"[]]"
    check_depth(body, 2)
    with pytest.raises(TooDeep):
        check_depth(body, 1)


@pytest.mark.parametrize(
    "body",
    [
        b"[" * HOSTILE_BYTES,
        b"[]" * (HOSTILE_BYTES // 2),
        (b"[" * 127 + b"]" * 127) * (HOSTILE_BYTES // 254),
        (b"[" * 200 + b"]" * 200) * (HOSTILE_BYTES // 400),
        b"[" * 129 + b'"' * HOSTILE_BYTES,
        b"[" * 129 + b'["]"],' * (HOSTILE_BYTES // 6),
        b"[" * 129 + b'"' + b"\\" * HOSTILE_BYTES,
        b"[" * 129 + b'"' + b'\\"' * (HOSTILE_BYTES // 2),
    ],
    ids=[
        "open",
        "flat",
        "comb",
        "deep comb",
        "quotes",
        "brackets in strings",
        "backslashes",
        "escaped quotes",
    ],
)
def test_depth_of_hostile_bodies_costs_linear_time(body: bytes) -> None:
    began = time.process_time()
    too_deep(body.decode(), 128)
    assert time.process_time() - began < 5


@pytest.mark.parametrize(
    "body",
    [
        b"{" + b" " * HOSTILE_BYTES + b'"a":1' + b" " * HOSTILE_BYTES + b"}",
        b'{"' + b"\\n" * (HOSTILE_BYTES // 2) + b'":1}',
        b'{"a":"' + b'\\"' * (HOSTILE_BYTES // 2) + b'"}',
        b"{" + b'"a":1,' * (HOSTILE_BYTES // 6) + b'"a":1}',
    ],
    ids=["spaces", "escapes in a name", "escapes in a value", "one name"],
)
def test_members_of_hostile_bodies_cost_linear_time(body: bytes) -> None:
    began = time.process_time()
    with suppress(RepeatedMember):
        members(body)
    assert time.process_time() - began < 5

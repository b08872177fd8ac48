"""Forms are read and edited without touching the bytes of what is not edited."""

from __future__ import annotations

from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from adapters.dialects.multipart import FormRefused, edit_form, read_form

BOUNDARY = b"----gatewayz7f3a"


def form(*fields: tuple[str, bytes] | tuple[str, bytes, str]) -> bytes:
    parts = []
    for name, value, *filename in fields:
        disposition = f'form-data; name="{name}"' + (f'; filename="{filename[0]}"' if filename else "")
        kind = b"Content-Type: audio/wav\r\n" if filename else b""
        head = b"Content-Disposition: " + disposition.encode() + b"\r\n" + kind
        parts.append(b"--" + BOUNDARY + b"\r\n" + head + b"\r\n" + value + b"\r\n")
    return b"".join(parts) + b"--" + BOUNDARY + b"--\r\n"


def test_fields_and_files_are_read() -> None:
    read = read_form(form(("model", b"acme/one"), ("file", b"RIFF\x00\r\n--x", "a.wav")))

    assert read.text("model") == "acme/one"
    assert read.text("absent") is None
    [file] = read.files("file")
    assert file.value == b"RIFF\x00\r\n--x"
    assert file.filename == "a.wav"
    assert file.content_type == "audio/wav"
    assert read.content_type == f"multipart/form-data; boundary={BOUNDARY.decode()}"


def test_only_the_named_fields_change() -> None:
    file = ("file", b"\x00\xff\r\n\r\n", "a.wav")
    body = form(("session_id", b"s"), ("model", b"acme/one"), file, ("max_cost_usd", b"1"), ("language", b"de"))

    edited = edit_form(body, read_form(body), replace={"model": b"one-large"}, remove={"session_id", "max_cost_usd"})

    assert edited == form(("model", b"one-large"), file, ("language", b"de"))


def test_a_file_of_a_replaced_name_stays() -> None:
    body = form(("model", b"a file, not a name", "model.bin"))

    assert edit_form(body, read_form(body), replace={"model": b"x"}) == body


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"--",
        b"{}",
        b"--b\r\n",
        b"--b\r\n\r\n\r\n",
        form(("model", b"x"))[:-10],
        form(("model", b"x")).replace(b"form-data", b"attachment"),
        form(("model", b"x")).replace(b'name="model"', b"nothing"),
        form(("model", b"x")).replace(BOUNDARY + b"--", BOUNDARY + b"!!"),
        form(*(("a", b"x"),) * 65),
    ],
)
def test_what_is_no_form_is_refused(body: bytes) -> None:
    with pytest.raises(FormRefused):
        read_form(body)


def test_a_field_must_be_text_and_short() -> None:
    with pytest.raises(FormRefused, match="UTF-8"):
        read_form(form(("model", b"\xff"))).text("model")
    with pytest.raises(FormRefused, match="longer"):
        read_form(form(("model", b"x" * 70_000))).text("model")


values = st.binary(max_size=200).filter(lambda value: b"\r\n--" + BOUNDARY not in b"\r\n" + value + b"\r\n")
names = st.text("abcdefgh_[]", min_size=1, max_size=8)


@given(st.lists(st.tuples(names, values), min_size=1, max_size=6), st.binary())
def test_a_form_is_itself_and_noise_is_refused_or_read(fields: list[tuple[str, bytes]], noise: bytes) -> None:
    body = form(*fields)
    read = read_form(body)

    assert [(part.name, part.value) for part in read.parts] == fields
    assert edit_form(body, read, replace={}) == body
    assert b"".join(body[part.start : part.end] for part in read.parts) == body[: read.parts[-1].end]
    with suppress(FormRefused):
        read_form(b"--" + noise)


@pytest.mark.parametrize(
    "boundary",
    [b"a\nX-Injected: 1", b"a\x00", b"a\xff", b"a;b", b'a"b', b"a ", b"x" * 71],
)
def test_a_boundary_stays_in_its_header(boundary: bytes) -> None:
    with pytest.raises(FormRefused):
        read_form(form(("model", b"one")).replace(BOUNDARY, boundary))


def test_a_boundary_that_needs_quotes_gets_them() -> None:
    body = form(("model", b"one")).replace(BOUNDARY, b"a:b c")

    assert read_form(body).content_type == 'multipart/form-data; boundary="a:b c"'


PART = b"--" + BOUNDARY + b"\r\nContent-Disposition: form-data; "


@pytest.mark.parametrize(
    "disposition",
    [
        b'name="x"; name="model"',
        b'name="mo\\del"',
        b'name="x"\r\nContent-Disposition: form-data; name="model"',
    ],
)
def test_a_name_has_one_reading(disposition: bytes) -> None:
    with pytest.raises(FormRefused, match="several ways"):
        read_form(PART + disposition + b"\r\n\r\none\r\n--" + BOUNDARY + b"--\r\n")


def test_a_field_that_is_there_twice_is_refused_where_it_is_read() -> None:
    twice = read_form(form(("model", b"cheap"), ("model", b"dear", "model.bin"), ("size[]", b"1"), ("size[]", b"2")))

    with pytest.raises(FormRefused, match="more than once"):
        twice.text("model")
    with pytest.raises(FormRefused, match="more than once"):
        read_form(form(("n", b"1"), ("n", b"10"))).text("n")


def test_no_part_hides_behind_a_bare_line_feed() -> None:
    hidden = b"\n--" + BOUNDARY + b'\nContent-Disposition: form-data; name="model"\n\ndear'

    with pytest.raises(FormRefused, match="no part begins"):
        read_form(form(("model", b"cheap"), ("file", b"RIFF" + hidden, "a.wav")))
    with pytest.raises(FormRefused, match="no part begins"):
        read_form(form(("model", b"cheap")) + hidden)

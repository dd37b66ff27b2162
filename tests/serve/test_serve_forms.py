"""Forms in pieces of any size, and what is no form."""

from __future__ import annotations

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stt.serve.forms import FIELDS_BYTES, FormParser, boundary_of
from stt.serve.problems import Problem

TEXT = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=30)
NAME = st.text("abcdefgh_.[]0", min_size=1, max_size=12).filter(lambda name: name != "file")


def encoded(fields: dict, files: list) -> tuple[bytes, bytes]:
    """A form as httpx sends it: boundary and body."""
    request = httpx.Request("POST", "http://x", data=fields, files=files)
    return boundary_of(request.headers["content-type"]), request.read()


@given(
    fields=st.dictionaries(NAME, st.lists(TEXT, min_size=1, max_size=3), max_size=4),
    data=st.binary(max_size=300) | st.just(b"\r\n--\r\n----"),
    sizes=st.lists(st.integers(1, 70), min_size=1, max_size=20),
)
def test_a_form_is_the_same_in_pieces_of_any_size(fields, data, sizes) -> None:
    boundary, body = encoded(fields, [("file", ("a/..\\b ü.wav", data))])
    parser, file, at, turn = FormParser(boundary), b"", 0, 0
    while at < len(body):
        size = sizes[turn % len(sizes)]
        parser.feed(body[at : at + size])
        at, turn = at + size, turn + 1
        if turn % 3 == 0:
            file += parser.taken()
    assert parser.is_complete
    assert file + parser.taken() == data
    assert parser.file_name == "b ü.wav"
    assert parser.fields == {name: tuple(values) for name, values in fields.items()}


@given(st.binary(max_size=200))
def test_of_garbage_comes_a_problem_or_nothing(garbage) -> None:
    parser = FormParser(b"x")
    try:
        parser.feed(b"--x\r\n" + garbage)
    except Problem as problem:
        assert problem.status == 400
    else:
        assert not parser.is_complete or b"--x--" in garbage


@pytest.mark.parametrize(
    "kind",
    [None, "", "application/json", "audio/wav", "multipart/form-data", "multipart/mixed; b=x"],
)
def test_what_is_no_form_is_told(kind) -> None:
    with pytest.raises(Problem) as raised:
        boundary_of(kind)
    assert raised.value.status == 415


def test_a_boundary_that_is_too_long_is_told() -> None:
    with pytest.raises(Problem):
        FormParser(b"x" * 1000)


def test_only_the_first_file_is_taken_and_others_nowhere() -> None:
    files = [("file", ("a.wav", b"1")), ("file", ("b.wav", b"22")), ("other", ("c", b"333"))]
    boundary, body = encoded({"model": "m"}, files)
    parser = FormParser(boundary)
    parser.feed(body)
    assert (parser.file_name, parser.taken()) == ("a.wav", b"1")
    assert parser.fields == {"model": ("m",), "file": ("",), "other": ("",)}


def test_fields_have_a_limit_of_their_own() -> None:
    parser = FormParser(b"x")
    parser.feed(b'--x\r\nContent-Disposition: form-data; name="prompt"\r\n\r\n')
    with pytest.raises(Problem) as raised:
        parser.feed(b"p" * (FIELDS_BYTES + 1))
    assert raised.value.status == 413


def test_parts_have_a_limit() -> None:
    part = b'--x\r\nContent-Disposition: form-data; name="a"\r\n\r\n1\r\n'
    with pytest.raises(Problem, match="too many parts"):
        FormParser(b"x").feed(part * 1001)

"""The text form of a steering."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trimtab.errors import SteeringError
from trimtab.steering import ExpressionTerm, parse_expression

READABLE = {
    "happy": [("happy", 1.0)],
    "happy:0.8": [("happy", 0.8)],
    "happy:0.8 + formal:-0.3": [("happy", 0.8), ("formal", -0.3)],
    "happy:0.8+formal:-0.3": [("happy", 0.8), ("formal", -0.3)],
    "happy + formal:2 + happy": [("happy", 1.0), ("formal", 2.0), ("happy", 1.0)],
    "  happy :\t0.8\n+  formal :  -0.3  ": [("happy", 0.8), ("formal", -0.3)],
    "happy:+1": [("happy", 1.0)],
    "happy:-.5": [("happy", -0.5)],
    "happy:-5.": [("happy", -5.0)],
    "happy:1e-3+formal": [("happy", 0.001), ("formal", 1.0)],
    "happy:1e+3+formal": [("happy", 1000.0), ("formal", 1.0)],
    "happy:1E3 + formal:-2.5e+1": [("happy", 1000.0), ("formal", -25.0)],
    "happy:+1e+3": [("happy", 1000.0)],
    "happy:-0": [("happy", 0.0)],
    "a_b-c.v2:1": [("a_b-c.v2", 1.0)],
    "./v/happy.safetensors:0.5": [("./v/happy.safetensors", 0.5)],
    "/home/me/my vectors/happy.safetensors:-2": [("/home/me/my vectors/happy.safetensors", -2.0)],
    "../happy.safetensors + /a-b/formal": [("../happy.safetensors", 1.0), ("/a-b/formal", 1.0)],
    r"C:\vectors\happy.safetensors:0.5": [(r"C:\vectors\happy.safetensors", 0.5)],
    r"happy:1+d:/vectors/formal.safetensors": [("happy", 1.0), ("d:/vectors/formal.safetensors", 1.0)],
    "c:1 + d:2": [("c", 1.0), ("d", 2.0)],
    "1e+5": [("1e", 1.0), ("5", 1.0)],
    "glücklich:1": [("glücklich", 1.0)],
}


@pytest.mark.parametrize(("text", "terms"), READABLE.items(), ids=READABLE)
def test_a_steering_is_read(text, terms):
    assert [(term.name, term.strength) for term in parse_expression(text)] == terms


UNREADABLE = {
    "": (1, "name or path"),
    "   ": (4, "name or path"),
    "+ happy": (1, "name or path"),
    "  :1": (3, "name or path"),
    "happy +": (8, "name or path"),
    "happy + ": (9, "name or path"),
    "happy ++ formal": (8, "name or path"),
    "happy + :1": (9, "name or path"),
    "happy:": (7, "expected a strength, found ''"),
    "happy: + formal": (8, "expected a strength, found '+'"),
    "happy:very": (7, "expected a strength, found 'very'"),
    "happy:0.8 + formal:x": (20, "expected a strength, found 'x'"),
    "happy:--1": (7, "expected a strength, found '--1'"),
    "happy:1-2": (7, "expected a strength, found '1-2'"),
    "happy:0,8": (7, "expected a strength, found '0,8'"),
    "happy:1e": (7, "expected a strength, found '1e'"),
    "happy:0x10": (7, "expected a strength, found '0x10'"),
    "happy:1 formal:2": (9, "expected '+' and another vector"),
    "happy:1:2": (8, "expected '+' and another vector"),
    "C:/": (3, "expected a strength, found '/'"),
}


@pytest.mark.parametrize(("text", "column", "why"), [(t, *rest) for t, rest in UNREADABLE.items()], ids=UNREADABLE)
def test_an_error_points_at_the_column_and_says_what_belongs_there(text, column, why):
    with pytest.raises(SteeringError) as caught:
        parse_expression(text)
    message = str(caught.value)
    assert f"at column {column}: " in message
    assert why in message
    assert repr(text) in message
    assert "write it like 'happy:0.8 + formal:-0.3'" in message


names = st.from_regex(r"[A-Za-z0-9_./-]([A-Za-z0-9_./ -]{0,10}[A-Za-z0-9_./-])?", fullmatch=True)
terms = st.lists(
    st.builds(ExpressionTerm, names, st.floats(allow_nan=False)),
    min_size=1,
    max_size=4,
)
spaces = st.sampled_from(["", " ", "  ", "\t", "\n"])


@given(terms, spaces, spaces, st.sampled_from([repr, "{:.17g}".format, "{:+.17e}".format]))
def test_what_is_written_is_read_back(terms, outer, inner, number):
    written = f"{outer}+{outer}".join(f"{term.name}{inner}:{inner}{number(term.strength)}" for term in terms)
    assert list(parse_expression(f"{outer}{written}{outer}")) == terms


@given(st.lists(names, min_size=1, max_size=4))
def test_a_strength_that_is_left_out_is_one(names):
    assert parse_expression(" + ".join(names)) == tuple(ExpressionTerm(name, 1.0) for name in names)


@given(st.text(alphabet="ab:+-. \t1e9/\\\nC", max_size=20) | st.text(max_size=20))
def test_any_text_is_read_or_refused_at_a_column_within_it(text):
    try:
        terms = parse_expression(text)
    except SteeringError as error:
        column = int(re.search(r"at column (\d+): ", str(error))[1])
        assert 1 <= column <= len(text) + 1
    else:
        assert all(term.name == term.name.strip() != "" for term in terms)
        assert "".join(text.split()).startswith("".join(terms[0].name.split()))

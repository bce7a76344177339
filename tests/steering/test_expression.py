"""Text form of a steering."""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from steerings import NAMES, find, steerings

from sample_vectors import MODEL, make_reader, make_vector
from trimtab.errors import SteeringError, TrimtabError, VectorError, VectorMismatchError
from trimtab.steering import (
    Ablate,
    Add,
    AllOf,
    AnyOf,
    Bound,
    Cap,
    Clamp,
    Comparison,
    FalsePositives,
    Floor,
    Not,
    Part,
    Rotate,
    Schedule,
    Scope,
    Steering,
    Term,
)
from trimtab.steering.operators import OPERATORS

KNOWN = {name: make_reader(name) for name in ("happy", "formal", "refusal", "assistant", "anger")}


class Anything(dict):
    def __missing__(self, name):
        self[name] = make_reader(name)
        return self[name]


def read(text, vectors=None):
    return Steering.of(text, find=(Anything() if vectors is None else vectors).__getitem__).terms


def term(name="happy", strength=0.5, **more):
    return Term(KNOWN[name], strength, **more)


# Vectors and amounts

READABLE = {
    "happy": [("happy", 0.5)],
    "happy:0.8": [("happy", 0.8)],
    "happy:0.8 + formal:-0.3": [("happy", 0.8), ("formal", -0.3)],
    "happy:0.8+formal:-0.3": [("happy", 0.8), ("formal", -0.3)],
    "happy + formal:2 + happy": [("happy", 0.5), ("formal", 2.0), ("happy", 0.5)],
    "  happy :\t0.8\n+  formal :  -0.3  ": [("happy", 0.8), ("formal", -0.3)],
    "happy:+1": [("happy", 1.0)],
    "happy:-.5": [("happy", -0.5)],
    "happy:-5.": [("happy", -5.0)],
    "happy:1e-3+formal": [("happy", 0.001), ("formal", 0.5)],
    "happy:1e+3+formal": [("happy", 1000.0), ("formal", 0.5)],
    "happy:1E3 + formal:-2.5e+1": [("happy", 1000.0), ("formal", -25.0)],
    "happy:-0": [("happy", 0.0)],
    "a_b-c.v2:1": [("a_b-c.v2", 1.0)],
    "./v/happy.safetensors:0.5": [("./v/happy.safetensors", 0.5)],
    "../happy.safetensors + /a-b/formal": [("../happy.safetensors", 0.5), ("/a-b/formal", 0.5)],
    r"C:\vectors\happy.safetensors:0.5": [(r"C:\vectors\happy.safetensors", 0.5)],
    r"happy:1+d:/vectors/formal.safetensors": [("happy", 1.0), ("d:/vectors/formal.safetensors", 0.5)],
    r'"C:\my vectors\new.safetensors":2': [(r"C:\my vectors\new.safetensors", 2.0)],
    '"my file+1.safetensors":0.8': [("my file+1.safetensors", 0.8)],
    r'"say \"no\" \\ yes"': [(r'say "no" \ yes', 0.5)],
    "c:1 + d:2": [("c", 1.0), ("d", 2.0)],
    "1e+5": [("1e", 0.5), ("5", 0.5)],
    "glücklich:1": [("glücklich", 1.0)],
    "when:1 + and + or:2": [("when", 1.0), ("and", 0.5), ("or", 2.0)],
    "none:0.5": [("none", 0.5)],
    '"none"': [("none", 0.5)],
    "floor:2 + add": [("floor", 2.0), ("add", 0.5)],
    "(happy + (formal:2)) + happy:3": [("happy", 0.5), ("formal", 2.0), ("happy", 3.0)],
}


@pytest.mark.parametrize(("text", "terms"), READABLE.items(), ids=READABLE)
def test_parse_names_and_strengths(text, terms):
    assert [(term.name, term.strength) for term in read(text)] == terms


def test_parse_none_is_empty_steering():
    assert read("none") == read(" none\n") == ()
    assert str(Steering()) == "none"


def test_parse_looks_up_each_name_once():
    asked = []
    terms = Steering.of("happy + happy when happy > 1", find=lambda name: asked.append(name) or make_reader()).terms
    assert asked == ["happy"]
    assert terms[0].vector is terms[1].vector is terms[1].condition.vector


# Everything else that a term can say

SCOPED = {
    "generated": Scope((Part("generated"),)),
    "prompt,after:Answer": Scope((Part("prompt"), Part("after", text="Answer"))),
    'before: "a, \\"b\\"" , after:x': Scope((Part("before", text='a, "b"'), Part("after", text="x"))),
    "all": Scope(),
    "all, first 8": Scope((Part("first", count=8),)),
    "first 8 , from 2, half-life 16": Scope(
        (Part("first", count=8), Part("from", count=2)), Schedule("half-life", 16.0)
    ),
    "decay 1e2, assistant, thinking": Scope((Part("assistant"), Part("thinking")), Schedule("decay", 100.0)),
}
MEANINGS = {
    "happy:coefficient=0.25": term(strength=None, coefficient=0.25),
    "happy : coefficient = -1e-3": term(strength=None, coefficient=-0.001),
    "add(happy):0.8": term(strength=0.8),
    "add_preserving_norm(happy):-2": term(strength=-2.0, operator=Add(preserve_norm=True)),
    "add_preserving_norm( happy )": term(operator=Add(preserve_norm=True)),
    "ablate(refusal)": term("refusal", None, operator=Ablate()),
    "floor(happy, -2)": term(strength=None, operator=Floor(Bound(-2.0))),
    "cap(assistant, 25%)": term("assistant", None, operator=Cap(Bound(25.0, "percentile"))),
    "cap(assistant,1.5z)": term("assistant", None, operator=Cap(Bound(1.5, "z"))),
    "cap(assistant, 1e+1 %)": term("assistant", None, operator=Cap(Bound(10.0, "percentile"))),
    "clamp(happy, 2)": term(strength=None, operator=Clamp(Bound(2.0), Bound(2.0))),
    "clamp(happy, 5%, 2z)": term(strength=None, operator=Clamp(Bound(5.0, "percentile"), Bound(2.0, "z"))),
    "rotate(happy)": term(operator=Rotate()),
    "rotate(happy):0.8": term(strength=0.8, operator=Rotate()),
    "rotate(happy):coefficient=0.1": term(strength=None, coefficient=0.1, operator=Rotate()),
    "rotate(happy, 15)": term(strength=None, operator=Rotate(15.0)),
    "rotate(happy, -15°)": term(strength=None, operator=Rotate(-15.0)),
    "rotate(happy, 15 deg)": term(strength=None, operator=Rotate(15.0)),
    "happy[0,2]:2": term(strength=2.0, layers=(0, 2)),
    "happy[ 2 , 0 ]": term(layers=(0, 2)),
    "happy[all]": term(layers="all"),
    "cap(happy[2], 3)@prompt": term(
        strength=None, operator=Cap(Bound(3.0)), layers=(2,), tokens=Scope((Part("prompt"),))
    ),
    **{f"happy@{text}": term(tokens=scope) for text, scope in SCOPED.items()},
    **{f"happy:1 @ {text} ": term(strength=1.0, tokens=scope) for text, scope in SCOPED.items()},
}


@pytest.mark.parametrize(("text", "meant"), MEANINGS.items(), ids=MEANINGS)
def test_parse_term(text, meant):
    assert read(text, KNOWN) == (meant,)
    assert read(f"({text}) + happy", KNOWN) == (meant, term())


def test_parse_and_write_layer_ranges():
    deep = dataclasses.replace(MODEL, layers=30)
    unit = make_vector().directions[0]
    vector = make_vector(
        model=deep,
        directions=dict.fromkeys(range(30), unit),
        norms=dict.fromkeys(range(30), 1.0),
        weights=dict.fromkeys(range(30), 1.0),
    )
    for text, layers, written in (
        ("14-24", tuple(range(14, 25)), "14-24"),
        ("8,12,16", (8, 12, 16), "8,12,16"),
        ("8 - 10, 2", (2, 8, 9, 10), "2,8-10"),
        ("3,4,5,5-6, 9,10", (3, 4, 5, 6, 9, 10), "3-6,9,10"),
    ):
        (found,) = Steering.of(f"happy[{text}]", find=lambda _: vector).terms
        assert found.layers == layers
        assert str(found) == f"happy[{written}]:0.5"
    assert read("happy[middle]", {"happy": vector})[0].steered_layers == tuple(range(10, 20))


# Conditions

A, B, C = (Comparison(KNOWN[name], "above", float(n)) for n, name in enumerate(("anger", "formal", "happy"), 1))
CONDITIONS = {
    "anger > 1": A,
    "anger>1": A,
    "anger above 1 at prompt": A,
    '"anger" > 1z': A,
    "(anger > 1)": A,
    "anger < -1.5": Comparison(KNOWN["anger"], "below", -1.5),
    "anger below 1e+1 at last-user-turn": Comparison(KNOWN["anger"], "below", 10.0, "last-user-turn"),
    "anger > 2 until 1 at token": Comparison(KNOWN["anger"], "above", 2.0, "token", 1.0),
    "anger > 2 at token until < 1": Comparison(KNOWN["anger"], "above", 2.0, "token", 1.0),
    "anger below 1 until above 2 at token": Comparison(KNOWN["anger"], "below", 1.0, "token", 2.0),
    "anger > fpr 7%": Comparison(KNOWN["anger"], "above", FalsePositives(0.07)),
    "anger > fpr 0.29e2 % at token": Comparison(KNOWN["anger"], "above", FalsePositives(0.29), "token"),
    "not anger > 1": Not(A),
    "not not anger > 1": Not(Not(A)),
    "anger > 1 and formal > 2 and happy > 3": AllOf((A, B, C)),
    "anger > 1 or formal > 2 and happy > 3": AnyOf((A, AllOf((B, C)))),
    "anger > 1 and formal > 2 or happy > 3": AnyOf((AllOf((A, B)), C)),
    "(anger > 1 or formal > 2) and happy > 3": AllOf((AnyOf((A, B)), C)),
    "(anger > 1 and formal > 2) and happy > 3": AllOf((AllOf((A, B)), C)),
    "anger > 1 or (formal > 2 or happy > 3)": AnyOf((A, AnyOf((B, C)))),
    "not(anger > 1 or not formal > 2)": Not(AnyOf((A, Not(B)))),
}


@pytest.mark.parametrize(("text", "meant"), CONDITIONS.items(), ids=CONDITIONS)
def test_parse_condition(text, meant):
    assert [term.condition for term in read(f"happy when {text} + formal", KNOWN)] == [meant, None]
    assert [term.condition for term in read(f"(happy when {text})", KNOWN)] == [meant]


def test_condition_applies_to_last_term_only():
    text = "happy:0.8 + formal:-0.3@generated + ablate(refusal) + cap(assistant, 25%) when anger > 2 at prompt"
    terms = read(text, KNOWN)
    assert [term.name for term in terms] == ["happy", "formal", "refusal", "assistant"]
    assert [term.condition is not None for term in terms] == [False, False, False, True]
    assert " + ".join(map(str, terms)) == text.removesuffix(" at prompt")


def test_group_condition_joins_conditions_of_terms():
    first, second = read("(happy + formal when formal > 2) when anger > 1", KNOWN)
    assert (first.condition, second.condition) == (A, AllOf((B, A)))
    (inner,) = read("((happy when formal > 2) when happy > 3) when anger > 1", KNOWN)
    assert inner.condition == AllOf((B, C, A))


def test_reserved_words_can_be_names():
    (found,) = read("when when when > 1 and and > 2 or at > 3 at token")
    assert (found.name, str(found)) == ("when", '"when":0.5 when "when" > 1 and "and" > 2 or "at" > 3 at token')
    assert isinstance(read('happy when "not" > 1')[0].condition, Comparison)


# Errors

COMPARED = "expected '>', '<', 'above' or 'below'"
UNREADABLE = {
    "": (1, "name or path"),
    "   ": (4, "name or path"),
    "+ happy": (1, "name or path"),
    "  :1": (3, "name or path"),
    "happy +": (8, "name or path"),
    "happy + ": (9, "name or path"),
    "happy ++ formal": (8, "name or path"),
    "happy + :1": (9, "name or path"),
    '"":1': (1, "name or path"),
    '"happy': (1, "never closed"),
    '"happy\\"': (1, "never closed"),
    "happy:": (7, "expected a strength, found nothing"),
    "happy: + formal": (8, "expected a strength, found '+'"),
    "happy:very": (7, "expected a strength, found 'very'"),
    "happy:0.8 + formal:x": (20, "expected a strength, found 'x'"),
    "happy:--1": (7, "expected a strength, found '--1'"),
    "happy:1-2": (7, "expected a strength, found '1-2'"),
    "happy:0,8": (8, "expected '+' and another vector"),
    "happy:1e": (7, "expected a strength, found '1e'"),
    "happy:0x10": (7, "expected a strength, found '0x10'"),
    "happy:1_0": (7, "expected a strength, found '1_0'"),
    "happy:٣": (7, "expected a strength, found '٣'"),
    "happy:80%": (7, "expected a strength, found '80%'"),
    "happy:nan": (7, "the strength nan is not a number; give a finite number"),
    "happy:-INF": (7, "the strength -INF is not a number; give a finite number"),
    "happy:1e999": (7, "the strength 1e999 is too large"),
    "happy:coefficient=": (19, "expected a coefficient, found nothing"),
    "happy:coefficient=nan": (19, "the coefficient nan is not a number"),
    "happy:1 formal:2": (9, "expected '+' and another vector"),
    "happy:1:2": (8, "expected '+' and another vector"),
    "happy)": (6, "this ')' closes nothing"),
    "C:/": (3, "expected a strength, found '/'"),
    "none none": (6, "expected '+' and another vector"),
    "/a b": (4, "expected '+' and another vector"),
    "happy[": (7, "expected layers"),
    "happy[]": (7, "expected layers"),
    "happy[3-1]": (7, "layers 3 to 1 are none; give the lower layer first"),
    "happy[1;2]": (8, "expected ',' and more layers, or ']'"),
    "happy[0-99999999]": (13, "expected ',' and more layers, or ']'"),
    "boost(happy)": (1, "there is no operator 'boost'; use one of: add, "),
    "flor(happy, 2)": (1, "there is no operator 'flor'; did you mean 'floor'?"),
    "ablate (happy)": (8, "no operator's name is directly before this '('"),
    '"ablate"(happy)': (9, "no operator's name is directly before this '('"),
    "ablate()": (8, "name or path"),
    "ablate(happy": (13, "expected ')' after what ablate takes"),
    "ablate(happy, 2)": (13, "expected ')' after what ablate takes"),
    "add(happy, 2)": (10, "expected ')' after what add takes"),
    "cap(happy)": (10, "cap needs a bound"),
    "cap(happy, )": (12, "expected a bound, found ')'"),
    "cap(happy, x)": (12, "expected a bound, found 'x'"),
    "cap(happy, 25%%)": (12, "expected a bound, found '25%%'"),
    "cap(happy, nan)": (12, "the bound nan is not a number"),
    "clamp(happy, 1, 2, 3)": (18, "expected ')' after what clamp takes"),
    "rotate(happy, 15z)": (15, "expected an angle, found '15z'"),
    "happy@": (7, "expected a scope"),
    "happy@genrated": (7, "there is no scope 'genrated'; did you mean 'generated'?"),
    "happy@generated,": (17, "expected a scope"),
    "happy@first": (12, "expected a number of tokens, found nothing"),
    "happy@first 2.5": (13, "2.5 is not a number of tokens; give a whole number"),
    "happy@after": (12, 'expected a text, such as after:"Answer"'),
    'happy@after:"x': (13, "never closed"),
    "happy@decay 8, half-life 9": (16, "there is a schedule already"),
    "(happy": (7, "expected '+' and another vector, or ')'"),
    "(happy)@generated": (8, "'@' belongs to a single term; write it at each term of the group"),
    "(happy):2": (8, "':' belongs to a single term"),
    "happy when": (11, "expected the name or path of a vector to read"),
    "happy when anger": (17, COMPARED),
    "happy when anger >= 2": (19, "expected a threshold, found '='"),
    "happy when anger = 2": (18, COMPARED),
    "happy when anger[3] > 2": (17, COMPARED),
    "happy when anger > nan": (20, "the threshold nan is not a number"),
    "happy when anger > inf": (20, "the threshold inf is not a number"),
    "happy when anger > fpr 2": (24, "false positives is given in percent"),
    "happy when anger > 2 at": (24, "expected where it is read; use one of: prompt, token, last-user-turn"),
    "happy when anger > 2 at tokens": (25, "expected where it is read; did you mean 'token'?"),
    "happy when anger > 2 at token at token": (31, "there is an 'at' already"),
    "happy when anger > 2 until > 1 at token": (28, "released on the other side"),
    "happy when (anger > 2": (22, "expected 'and', 'or' or ')'"),
    "happy when anger > 2 and": (25, "vector to read"),
    "happy when anger > 2 formal": (22, "expected '+' and another vector"),
    "(" * 99 + "happy": (65, "more than 64 parentheses inside each other"),
    "happy when " + "not " * 99 + "a > 1": (12 + 64 * 4, "more than 64 parentheses"),
}


@pytest.mark.parametrize(("text", "column", "why"), [(t, *rest) for t, rest in UNREADABLE.items()], ids=UNREADABLE)
def test_syntax_error_gives_column_and_expectation(text, column, why):
    with pytest.raises(SteeringError) as caught:
        read(text)
    message = str(caught.value)
    assert message.startswith(f"cannot read the steering {text!r} at column {column}: "), message
    assert why in message
    assert caught.value.fix


def test_syntax_error_fix_is_an_example():
    with pytest.raises(SteeringError, match=re.escape("found 'x'; write it like 'happy:0.5 + formal:-0.3'")):
        read("happy:x")


def test_syntax_error_in_long_text_shows_caret():
    text = "happy:0.8 + formal:-0.3@generated + ablate(refusal) + cap(assistant 25%)"
    with pytest.raises(SteeringError) as caught:
        read(text)
    _, shown, caret = str(caught.value).splitlines()
    assert shown.strip() in text
    assert shown[caret.index("^") :].startswith("25%")
    with pytest.raises(VectorError, match=r"(?s)no vector.*\n.*\^"):
        Steering.of("happy + " * 9 + "nobody", find=find)


OTHER = make_vector("other", model=dataclasses.replace(MODEL, fingerprint="beef"))
BARE = make_vector("bare")
VALUES = {
    "happy + hapy": (9, VectorError, "no vector named 'hapy'; train it"),
    "happy when hapy > 1": (12, VectorError, "no vector named 'hapy'; train it"),
    "happy[5]": (6, SteeringError, "there is no layer 5; 'happy' is for layers 0 to 2"),
    "happy[ 1]": (6, SteeringError, "'happy' has no direction at layer 1; it has them at 0, 2"),
    "ablate(happy):2": (15, SteeringError, "ablate has no strength"),
    "rotate(happy, 15):2": (19, SteeringError, "rotate has no strength"),
    "rotate(happy, 200)": (15, SteeringError, "cannot rotate by 200"),
    "cap(happy, 101%)": (12, SteeringError, "there is no percentile 101; give 0% to 100%"),
    "clamp(happy, 2, 1)": (15, SteeringError, "cannot clamp from 2 up to 1"),
    "happy@prompt, generated": (7, SteeringError, "no token can be in prompt and generated"),
    "happy@first 0": (7, SteeringError, "first 0 is not a number of tokens; give at least 1"),
    "happy@generated, decay 0": (18, SteeringError, "decay over 0.0 tokens"),
    'happy@after:""': (7, SteeringError, "after: of what?"),
    "happy when bare > 2": (12, SteeringError, "'bare' has no neutral statistics"),
    "happy when anger > fpr 0.1%": (12, SteeringError, "'anger' was fitted on 101 texts at prompt, too few"),
    "happy when anger > fpr 100%": (24, SteeringError, "1.0 is not a false-positive rate"),
    "happy when anger > fpr 0%": (24, SteeringError, "0.0 is not a false-positive rate"),
    "happy when anger > 2 until 1": (12, SteeringError, "a condition at prompt is decided once"),
    "happy when anger > 2 until 3 at token": (12, SteeringError, "'anger' above 2 cannot hold until 3"),
    "happy + other": (9, VectorMismatchError, "'happy' is for tiny, 'other' for tiny"),
    "happy + (formal + other)": (19, VectorMismatchError, "'happy' is for tiny, 'other' for tiny"),
}


@pytest.mark.parametrize(("text", "column", "kind", "why"), [(t, *v) for t, v in VALUES.items()], ids=VALUES)
def test_value_error_gives_column(text, column, kind, why):
    vectors = {**KNOWN, "other": OTHER, "bare": BARE}

    def look_up(name):
        if name not in vectors:
            raise VectorError(f"no vector named {name!r}", fix="train it")
        return vectors[name]

    with pytest.raises(TrimtabError) as caught:
        Steering.of(text, find=look_up)
    assert type(caught.value) is kind
    assert str(caught.value).startswith(f"in the steering {text!r} at column {column}: {why}"), str(caught.value)


def test_scope_text_is_parsed_and_refused_as_scope():
    assert Scope.of("generated, first 8") == Scope((Part("generated"), Part("first", count=8)))
    with pytest.raises(SteeringError, match=r"cannot read the scope 'prompt user' at column 8: expected ','"):
        Scope.of("prompt user")
    with pytest.raises(SteeringError, match=r"in the scope 'user, system' at column 1: no token can be in"):
        Scope.of("user, system")


PAGE = (Path(__file__).parents[2] / "docs" / "steering.md").read_text(encoding="utf-8")
EXAMPLES = re.findall(r"^\| `([^`]+)`(?:, `([^`]+)`)* \|.* \|$|^    ((?:cap|ablate|calm).*)$", PAGE, re.MULTILINE)
STEERINGS = [
    text for found in EXAMPLES for text in found if re.match(r"(\(?happy|cap|ablate|clamp|floor|rotate|calm)", text)
]


@pytest.mark.parametrize("text", STEERINGS)
def test_examples_of_page_round_trip(text):
    vectors = Anything()
    if "[" in text:
        vectors["happy"] = find_deep()
        text = text.replace("anger", "happy")
    steering = Steering.of(text, find=vectors.__getitem__)
    assert Steering.of(str(steering), find=vectors.__getitem__) == steering


def find_deep():
    ones, unit = dict.fromkeys(range(32), 1.0), make_vector().directions[0]
    deep = dataclasses.replace(MODEL, layers=32)
    return make_vector(model=deep, directions=dict.fromkeys(range(32), unit), norms=ones, weights=ones)


# Round trips


@given(steerings)
def test_text_round_trip(steering):
    assert Steering.of(str(steering), find=find) == steering


@given(st.sampled_from(NAMES), st.floats(allow_nan=False, allow_infinity=False))
def test_strength_round_trip(name, strength):
    (found,) = Steering.of(str(Steering((Term(find(name), strength),))), find=find).terms
    assert (found.strength, found.name) == (strength, name)


PIECES = [
    *OPERATORS,
    *NAMES,
    *'+:@()[],<>%"\\ ',
    "when ",
    "and ",
    "not ",
    "first 8",
    "after:",
    "1e-3",
    "z",
    "25%",
    "at token",
]


@given(st.lists(st.sampled_from(PIECES), max_size=14).map("".join) | st.text(max_size=20))
def test_parse_arbitrary_text_succeeds_or_gives_column(text):
    assume(not text.lstrip().startswith(("{", "[")))  # JSON
    try:
        steering = Steering.of(text, find=find)
    except TrimtabError as error:
        column = int(re.search(r" at column (\d+): ", str(error))[1])
        assert 1 <= column <= len(text) + 1
    else:
        assert Steering.of(str(steering), find=find) == steering

from __future__ import annotations

import gc
import json
import re
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import reduce
from typing import Any
from weakref import ref

import jsonschema
import numpy as np
import pytest
from numpy.typing import NDArray
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from transformers import PreTrainedTokenizerBase, PreTrainedTokenizerFast

from tiny_models import BOS, EOS, PAD, VOCABULARY, byte_tokenizer
from trimtab.engines.constraints import Constraint, Tag
from trimtab.engines.transformers import TransformersEngine
from trimtab.engines.transformers.decode import constraints
from trimtab.engines.transformers.decode.constraints import ConstraintState, TaggedState, start_constraint
from trimtab.errors import ConstraintError, ModelError

BYTES = byte_tokenizer()
SHORT = {"type": "string", "maxLength": 12}


def started(constraint: Constraint) -> ConstraintState:
    return start_constraint(constraint, BYTES, vocabulary=VOCABULARY, stop=[EOS])


def allowed(state: ConstraintState | TaggedState) -> NDArray[np.int64]:
    mask = state.mask()
    assert mask is not None
    return np.flatnonzero(np.unpackbits(mask.view(np.uint8), bitorder="little"))


def ids(text: str) -> list[int]:
    return list(BYTES(text, add_special_tokens=False)["input_ids"])


def texts(state: ConstraintState | TaggedState) -> set[str]:
    return {BYTES.decode([token]) for token in allowed(state) if token != EOS}


def advance(state: ConstraintState, text: str) -> None:
    for token in ids(text):
        assert token in allowed(state)
        state.advance(token)


def drawn(
    state: ConstraintState,
    draw: np.random.Generator,
    *,
    stop: int,
    closing: NDArray[np.int64],
    most: int = 400,
    use_forced: bool = True,
) -> list[int]:
    """Draw tokens that masks allow, closing ones more often, until the constraint is complete."""
    tokens: list[int] = []
    while not state.complete and len(tokens) < most:
        forced = state.forced() if use_forced else ()
        for token in forced:
            assert token in allowed(state)
            state.advance(token)
            tokens.append(token)
        if forced:
            continue
        options = allowed(state)
        nearer = np.intersect1d(options, closing)
        token = int(draw.choice(nearer if len(nearer) and draw.random() < 0.7 else options))
        state.advance(token)
        if token == stop:
            break
        tokens.append(token)
    return tokens


def test_choice_that_begins_another_may_end_or_go_on() -> None:
    state = started(Constraint.choice(["yes", "yes please", "no"]))
    assert texts(state) == {"y", "n"}
    assert EOS not in allowed(state)
    advance(state, "yes")
    assert not state.complete
    assert set(allowed(state)) == {EOS, *ids(" ")}
    assert state.forced() == ()
    advance(state, " please")
    assert state.complete


def test_stop_token_completes_a_constraint() -> None:
    state = started(Constraint.regex("[0-9]+"))
    advance(state, "12")
    assert not state.complete
    state.advance(EOS)
    assert state.complete


@pytest.mark.parametrize("choice", ["äöü \U0001f600", "日本語", 'a "quote"\\ \n\t/ `', "start: | ~ %", "e\u0301"])
def test_choice_of_any_characters_is_forced_exactly(choice: str) -> None:
    state = started(Constraint.choice([choice]))
    forced = state.forced()
    assert list(forced) == ids(choice)
    for token in forced:
        assert set(allowed(state)) == {token}
        state.advance(token)
    assert state.complete


def test_unicode_class_takes_whole_characters() -> None:
    state = started(Constraint.regex(r"\p{Greek}{2}"))
    advance(state, "αβ")
    assert state.complete


def test_token_outside_of_the_mask_fails_its_row_only() -> None:
    constraint = Constraint.choice(["yes", "no"])
    one, other = started(constraint), started(constraint)
    with pytest.raises(ConstraintError, match="choice does not allow what follows after 0 tokens"):
        one.advance(ids("x")[0])
    advance(other, "no")
    assert other.complete
    advance(started(constraint), "yes")


def test_text_of_a_special_token_is_refused() -> None:
    with pytest.raises(ConstraintError, match="'<eos>' has the text of a special token"):
        started(Constraint.choice(["<eos>"]))
    state = started(Constraint.json_schema({"const": "<eos>"}))
    for token in state.forced():
        state.advance(token)
    with pytest.raises(ConstraintError, match="special tokens"):
        state.mask()


@pytest.mark.parametrize(
    ("constraint", "match"),
    [
        (Constraint.regex("(a"), "unclosed group"),
        (Constraint.regex("(?=a)b"), "look-around"),
        (Constraint.regex(r"[^\s\S]"), "no text satisfies"),
        (Constraint.grammar("start: foo"), "foo"),
        (Constraint.grammar('a: "x"'), "no start rule"),
        (Constraint.json_schema({"if": {}, "then": {}}), "Unimplemented"),
        (Constraint.json_schema({"if": {}, "x-guidance": {"lenient": True}}), "Unimplemented"),
        (Constraint.json_schema({"type": "array", "uniqueItems": True}), "uniqueItems"),
        (Constraint.json_schema({"allOf": [{"type": "string"}, {"type": "integer"}]}), "Unsatisfiable"),
        (Constraint.json_schema({"$ref": "http://example.org/schema"}), "does not fetch"),
        (Constraint.json_schema({"$ref": "#"}), "no text satisfies"),
        (Constraint.json_schema({"type": "string", "format": "colour"}), "Unknown format"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_constraint_that_cannot_be_kept_is_refused(constraint: Constraint, match: str) -> None:
    with pytest.raises(ConstraintError, match=match):
        started(constraint)


def _deep(levels: int) -> Any:
    return reduce(lambda inner, _: {"properties": {"a": inner}}, range(levels), {"type": "string"})


HOSTILE = {
    "nested plus": Constraint.regex("(a+)+b"),
    "nested counts": Constraint.regex("((a{1,50}){1,50}){1,50}"),
    "counts behind stars": Constraint.regex("(.*a.{200}){1,20}b"),
    "exponential states": Constraint.regex("[ab]*a[ab]{300}"),
    "400 groups": Constraint.regex("(" * 400 + "a" + ")" * 400),
    "5,000 groups": Constraint.regex("(" * 5000 + "a" + ")" * 5000),
    "huge count": Constraint.regex(".{1,100000}"),
    "many alternatives": Constraint.regex("|".join(f"w{n:06d}" for n in range(8000))),
    "deep schema": Constraint.json_schema(_deep(31)),
    "enum": Constraint.json_schema({"enum": [f"value {n}" for n in range(3000)]}),
    "properties": Constraint.json_schema({"properties": {f"p{n}": {"type": "integer"} for n in range(1500)}}),
    "multiples of two primes": Constraint.json_schema({"allOf": [{"multipleOf": 9973}, {"multipleOf": 9967}]}),
    "pattern properties": Constraint.json_schema(
        {"patternProperties": {f"^{chr(97 + n % 26)}{n}[a-z]+$": {} for n in range(600)}}
    ),
    "doubling rules": Constraint.grammar(
        "start: a0\n" + "\n".join(f"a{n}: a{n + 1} a{n + 1}" for n in range(40)) + '\na40: "x"'
    ),
    "doubling terminals": Constraint.grammar(
        "start: A0\n" + "\n".join(f"A{n}: A{n + 1} A{n + 1}" for n in range(30)) + '\nA30: "x"'
    ),
    "ambiguous": Constraint.grammar('start: x\nx: x x x | x x | "a" | "aa" | /a+/'),
    "nested repetitions": Constraint.grammar('start: (("a"|"b"){0,1000} "c"{0,1000}){0,1000}'),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_constraint_is_bounded(name: str) -> None:
    begun = time.process_time()
    longest, refusal = 0.0, ""
    try:
        state = started(HOSTILE[name])
        draw = np.random.default_rng(0)
        for _ in range(30):
            before = time.process_time()
            options = allowed(state)
            state.advance(int(draw.choice(options[options != EOS] if len(options) > 1 else options)))
            longest = max(longest, time.process_time() - before)
            if state.complete:
                break
    except ConstraintError as error:
        refusal = str(error)
    assert len(refusal) < 400
    assert time.process_time() - begun < 10  # with a trial of two seconds in another process
    assert longest < 1


def test_automaton_that_others_used_up_fails_no_row(monkeypatch: pytest.MonkeyPatch) -> None:
    limits = constraints.LLParserLimits(max_lexer_states=900, verbose_errors=False)
    monkeypatch.setattr(constraints, "LIMITS", limits)
    constraint = Constraint.regex("(.*a.{40}){1,9}b")
    draw = np.random.default_rng(0)
    alone = 0
    for _ in range(60):
        state = started(constraint)
        for token in ids("".join(draw.choice(list("abc"), 12))):
            assert token in allowed(state)
            state.advance(token)
        alone += not state._shared
    assert alone  # without a separate automaton these rows fail


def random_schema(draw: np.random.Generator, depth: int = 0) -> dict[str, Any]:
    kinds = ["string", "integer", "number", "boolean", "null", "enum", "const", "pattern", "date"]
    kind = str(draw.choice([*kinds, "object", "array", "anyOf", "object"] if depth < 3 else kinds))
    if kind == "object":
        names = [f"{draw.choice(['name', 'ä b', 'x-1', 'q'])}{n}" for n in range(draw.integers(1, 5))]
        required = [name for name in names if draw.random() < 0.7]
        properties = {name: random_schema(draw, depth + 1) for name in names}
        return {"type": "object", "properties": properties, "required": required, "additionalProperties": False}
    if kind == "array":
        least = int(draw.integers(0, 3))
        return {"type": "array", "items": random_schema(draw, depth + 1), "minItems": least, "maxItems": least + 2}
    if kind == "anyOf":
        return {"anyOf": [random_schema(draw, depth + 1) for _ in range(2)]}
    low = int(draw.integers(-50, 50))
    return {
        "string": SHORT,
        "integer": {"type": "integer", "minimum": low, "maximum": low + int(draw.integers(0, 1000))},
        "number": {"type": "number", "minimum": low, "exclusiveMaximum": low + 7.25},
        "enum": {"enum": ["red", "grün", 3, None, True, {"a": [1]}]},
        "const": {"const": {"k": ["v", 1.5]}},
        "pattern": {"type": "string", "pattern": "^[A-Z]{2}-[0-9]{1,3}$"},
        "date": {"type": "string", "format": "date"},
    }.get(kind, {"type": kind})


def test_answers_of_random_schemas_are_valid(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(constraints, "_check_by_trial", lambda *_: None)  # a process each would take a minute
    draw = np.random.default_rng(7)
    closing = np.array([EOS, *ids('"}],:')])
    for _ in range(200):
        schema = random_schema(draw)
        state = started(Constraint.json_schema(schema))
        text = BYTES.decode(drawn(state, draw, stop=EOS, closing=closing, most=3000))
        jsonschema.validate(json.loads(text), schema, format_checker=jsonschema.FormatChecker())


@pytest.mark.parametrize(
    "pattern", [r"[a-c]{2,4}x?", r"(?i)yes|no", r"[0-9]{3}-[A-Z]{2}", r"(ab|cd)*e", r"[^\x00-\x7f]{1,3}"]
)
def test_answers_of_a_regex_match_it(pattern: str) -> None:
    draw = np.random.default_rng(1)
    for _ in range(20):
        tokens = drawn(started(Constraint.regex(pattern)), draw, stop=EOS, closing=np.array([EOS]))
        assert re.fullmatch(pattern, BYTES.decode(tokens))


def test_forced_tokens_are_those_of_masks() -> None:
    schema = {"properties": {"name": SHORT, "ok": {"type": "boolean"}}, "required": ["name", "ok"]}
    schema |= {"type": "object", "additionalProperties": False}
    constraint = Constraint.json_schema(schema)
    closing = np.array([EOS, *ids('"}],:')])
    for seed in range(10):
        by_mask = drawn(started(constraint), np.random.default_rng(seed), stop=EOS, closing=closing, use_forced=False)
        state, written = started(constraint), list[int]()
        while len(written) < len(by_mask):  # forced tokens are the only ones that masks allow over single bytes
            forced = state.forced()
            assert list(forced) == by_mask[len(written) : len(written) + len(forced)]
            following = forced or (by_mask[len(written)],)
            for token in following:
                state.advance(token)
            written += following
        assert written == by_mask
        assert state.complete


def test_lark_grammar_with_json_inside() -> None:
    state = started(Constraint.grammar('start: "answer: " %json {"type": "boolean"} "."'))
    advance(state, "answer: true.")
    assert state.complete


def test_grammars_are_kept_and_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    compiled: list[str] = []
    monkeypatch.setattr(constraints, "_check_by_trial", lambda grammar, _: compiled.append(grammar))
    several = [Constraint.regex(f"kept{n}") for n in range(constraints.KEPT + 1)]
    for constraint in (*several, several[-1], several[1]):
        started(constraint)
    assert len(compiled) == len(several)
    started(several[0])
    assert len(compiled) == len(several) + 1


def test_constraints_start_in_many_threads() -> None:
    tokenizer = byte_tokenizer()
    constraint = Constraint.choice(["left", "right"])

    def answer(number: int) -> str:
        state = start_constraint(constraint, tokenizer, vocabulary=VOCABULARY, stop=[EOS])
        draw = np.random.default_rng(number)
        return str(tokenizer.decode(drawn(state, draw, stop=EOS, closing=np.array([EOS]))))

    with ThreadPoolExecutor(8) as pool:
        assert set(pool.map(answer, range(64))) == {"left", "right"}


def test_tokenizer_is_not_kept_alive() -> None:
    tokenizer = byte_tokenizer()
    start_constraint(Constraint.choice(["a"]), tokenizer, vocabulary=VOCABULARY, stop=[EOS])
    weak = ref(tokenizer)
    del tokenizer
    gc.collect()
    assert weak() is None


def test_logits_beyond_the_vocabulary_are_masked() -> None:
    state = start_constraint(Constraint.regex("a|b"), BYTES, vocabulary=VOCABULARY + 40, stop=[EOS])
    mask = state.mask()
    assert mask is not None
    assert len(mask) * 32 >= VOCABULARY + 40
    assert set(allowed(state)) == {ids("a")[0], ids("b")[0]}


def test_model_without_an_end_token_is_refused() -> None:
    with pytest.raises(ModelError, match="ends an answer"):
        start_constraint(Constraint.choice(["a"]), BYTES, vocabulary=VOCABULARY, stop=[])


def test_slow_tokenizer_is_refused() -> None:
    class Slow(PreTrainedTokenizerBase):
        def __len__(self) -> int:
            return 3

    with pytest.raises(ModelError, match="fast"):
        start_constraint(Constraint.choice(["a"]), Slow(), vocabulary=3, stop=[2])


def test_tokenizer_that_works_on_words_is_refused() -> None:
    words = PreTrainedTokenizerFast(tokenizer_object=Tokenizer(WordLevel({"yes": 0, "no": 1}, unk_token="no")))
    with pytest.raises(ModelError, match="decoder type; use a model whose tokenizer works on bytes"):
        start_constraint(Constraint.choice(["yes"]), words, vocabulary=2, stop=[1])


@pytest.fixture(scope="module")
def default(smollm2: TransformersEngine) -> Callable[[Constraint], ConstraintState]:
    tokenizer, stop = smollm2.tokenizer, smollm2.stop_tokens
    return lambda constraint: start_constraint(constraint, tokenizer, vocabulary=len(tokenizer), stop=stop)


def test_default_tokenizer_gives_valid_json(
    smollm2: TransformersEngine, default: Callable[[Constraint], ConstraintState]
) -> None:
    schema = random_schema(np.random.default_rng(3))
    schema = {"type": "object", "properties": {"a": schema, "b": SHORT}, "required": ["a", "b"]}
    schema["additionalProperties"] = False
    (stop,) = smollm2.stop_tokens
    pieces = [smollm2.decode([token]) for token in range(len(smollm2.tokenizer))]
    closing = np.array([stop, *(n for n, piece in enumerate(pieces) if piece[:1] in ('"', "}", "]", ",", ":"))])
    draw = np.random.default_rng(0)
    for _ in range(30):
        text = smollm2.decode(drawn(default(Constraint.json_schema(schema)), draw, stop=stop, closing=closing))
        jsonschema.validate(json.loads(text), schema)


def test_default_tokenizer_forces_its_own_tokens(
    smollm2: TransformersEngine, default: Callable[[Constraint], ConstraintState]
) -> None:
    state = default(Constraint.choice(["yes", "yes please"]))
    tokens = smollm2.tokenizer("yes please", add_special_tokens=False)["input_ids"]
    for token in tokens:
        assert token in allowed(state)
        state.advance(token)
    assert state.complete
    with pytest.raises(ConstraintError, match="special token"):
        default(Constraint.choice(["<|im_end|>"]))


CALLS = (
    Tag("<call>", Constraint.json_schema({"properties": {"n": {"const": "a"}}, "additionalProperties": False})),
    Tag("<n>", Constraint.regex("[0-9]+"), end="</n>"),
    Tag("<n>", Constraint.choice(["one", "two"]), end="</n>"),
)


def tagged(*tags: Tag, once: bool = False) -> TaggedState:
    constraint = Constraint.tags(tags or CALLS, once=once)
    state = start_constraint(constraint, BYTES, vocabulary=VOCABULARY, stop=[EOS])
    assert isinstance(state, TaggedState)
    return state


def follow(state: TaggedState, text: str) -> str:
    """Follow a text, and return its constrained characters."""
    written = ""
    for number, token in enumerate(ids(text), start=len(state._inside)):
        mask = state.mask()
        assert mask is None or token in np.flatnonzero(np.unpackbits(mask.view(np.uint8), bitorder="little"))
        state.advance(token)
        written += BYTES.decode([token]) if state.inside(number) else ""
    return written


def test_tagged_parts_are_found_any_number_of_times() -> None:
    state = tagged()
    assert follow(state, "Three < 4, <n <cal") == ""
    assert follow(state, 'l>{"n":"a"} and <n>12</n><n>two</n>, </n>.') == '>{"n":"a"}>12</n>>two</n>'
    assert {EOS, BOS, *ids("<x")} <= set(allowed(state))
    assert not state.complete


def test_tagged_part_takes_what_its_constraint_allows() -> None:
    state = tagged()
    follow(state, "<n>")
    assert texts(state) == {*"0123456789to"}
    assert EOS not in allowed(state)
    follow(state, "7")
    assert texts(state) == {*"0123456789<"}
    follow(state, "<")
    assert list(state.forced()) == ids("/n>")
    follow(state, "/n>")
    assert state.forced() == ()
    assert EOS in allowed(state)


def test_tagged_part_once_leaves_the_rest_free() -> None:
    state = tagged(once=True)
    assert follow(state, "<n>1</n><n>x<call>") == ">1</n>"
    assert state.mask() is None
    assert state.forced() == ()


def test_parts_are_not_compiled_while_tokens_are_chosen(monkeypatch: pytest.MonkeyPatch) -> None:
    state = tagged()
    compiler = constraints._compiler(BYTES, VOCABULARY, (EOS,))
    compiler._compiled.clear()
    monkeypatch.setattr(constraints, "_check_by_trial", lambda *_: pytest.fail("compiled again"))
    assert follow(state, "a <n>1</n> <n>2</n>") == ">1</n>>2</n>"


def test_trigger_is_completed_by_the_rest_of_one_tag() -> None:
    number, word = Constraint.regex("[0-9]"), Constraint.regex("[a-z]")
    state = tagged(Tag("<f=a>", number, ";", trigger="<f"), Tag("<f=b>", word, ";", trigger="<f"))
    follow(state, "Say <f")
    assert list(state.forced()) == ids("=")
    assert follow(state, "=b>x;<f=a>1;") == "=b>x;f=a>1;"


def test_end_inside_a_json_string_does_not_end_the_part() -> None:
    state = tagged(Tag("<j>", Constraint.json_schema({"type": "string"}), "</j>"))
    assert follow(state, '<j>"</j>"</j>x') == '>"</j>"</j>'


def test_constraint_that_could_go_on_ends_with_the_first_end() -> None:
    state = tagged(Tag("<t>", Constraint.regex(".*"), "</t>"))
    assert follow(state, "<t>x</t>y</t>") == ">x</t>"


def test_part_without_an_end_goes_on_as_long_as_it_may() -> None:
    state = tagged(Tag("#", Constraint.regex("[0-9]+")))
    follow(state, "No #12")
    assert texts(state) == {*"0123456789"}
    assert EOS in allowed(state)
    state.advance(EOS)
    assert not state.inside(len(state._inside))


def test_special_tokens_are_free_text_and_triggers() -> None:
    state = tagged(Tag("<pad>a", Constraint.regex("b+"), "<bos>"))
    follow(state, "x")
    state.advance(BOS)
    assert PAD in allowed(state)
    state.advance(PAD)
    assert list(state.forced()) == ids("ab")
    assert follow(state, "abb") == "abb"
    assert set(allowed(state)) == {BOS, *ids("b")}
    state.advance(BOS)
    assert follow(state, "abb") == ""
    assert [state.inside(number) for number in range(7)] == [False, False, True, True, True, True, True]


@pytest.mark.parametrize(
    ("tag", "match"),
    [
        (Tag("<eos>", Constraint.regex("a")), "ends an answer"),
        (Tag("a<bos>b", Constraint.regex("a")), "has the text of a special token"),
        (Tag("<a>", Constraint.regex("(")), "cannot be compiled"),
        (Tag("<a>", Constraint.choice(["<eos>"])), "special token"),
        (Tag("<a>", Constraint.json_schema({"type": "array", "uniqueItems": True})), "uniqueItems"),
    ],
    ids=lambda value: "",
)
def test_tag_that_cannot_be_kept_is_refused(tag: Tag, match: str) -> None:
    with pytest.raises(ConstraintError, match=match):
        tagged(tag)


@pytest.mark.parametrize("name", ["multiples of two primes", "pattern properties", "doubling terminals"])
def test_hostile_tag_is_refused(name: str) -> None:
    with pytest.raises(ConstraintError, match="compile"):
        tagged(Tag("<a>", HOSTILE[name]))


def test_hostile_tag_fails_its_row() -> None:
    state = tagged(Tag("<a>", HOSTILE["nested counts"], "</a>"))
    follow(state, "<a>")
    with pytest.raises(ConstraintError, match="became too complex"):
        follow(state, "a" * 30)


def test_default_tokens_across_a_trigger_are_allowed(smollm2: TransformersEngine) -> None:
    constraint = Constraint.tags([Tag("<call>", Constraint.json_schema(SHORT), "</call>")])
    tokenizer, stop = smollm2.tokenizer, smollm2.stop_tokens
    state = start_constraint(constraint, tokenizer, vocabulary=len(tokenizer), stop=stop)
    assert isinstance(state, TaggedState)
    text = 'Well: <call>"yes, I am"</call> ok'
    tokens = tokenizer(text, add_special_tokens=False)["input_ids"]
    assert '>"' in [tokenizer.decode([token]) for token in tokens]
    for token in tokens:
        mask = state.mask()
        assert mask is not None
        assert np.unpackbits(mask.view(np.uint8), bitorder="little")[token]
        state.advance(token)
    inside = tokenizer.decode([token for number, token in enumerate(tokens) if state.inside(number)])
    assert inside == '>"yes, I am"</call>'

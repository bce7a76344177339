"""Compile constraints with llguidance, and follow them: which tokens may an answer continue with?

llguidance never raises. A matcher in an error state gives masks in which only the end of the answer is allowed, so
every call is followed by a look at its error.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from contextlib import suppress
from functools import cached_property
from itertools import takewhile
from pathlib import Path
from threading import BoundedSemaphore, Lock
from typing import TYPE_CHECKING, Any, TypeAlias, final
from weakref import WeakKeyDictionary

import numpy as np
from llguidance import LLMatcher, LLParserLimits, LLTokenizer
from llguidance.hf import from_tokenizer
from llguidance.numpy import fill_next_token_bitmask
from numpy.typing import NDArray
from transformers import PreTrainedTokenizerBase, PreTrainedTokenizerFast

from trimtab.engines.constraints import Constraint, Tag
from trimtab.engines.protocol import Tokens
from trimtab.engines.transformers.decode.grammar_trial import ByteTokens
from trimtab.errors import ConstraintError, ModelError

if TYPE_CHECKING:
    from llguidance._lib import JsonCompileOptions

Mask: TypeAlias = NDArray[np.int32]  # a bit for each token, lowest first, 1 where it is allowed, [word]

# Per step these allow some 50 ms of work, and per grammar some 20 MB of states, which its answers share.
LIMITS = LLParserLimits(
    initial_lexer_fuel=1_000_000,
    step_lexer_fuel=100_000,
    step_max_items=20_000,
    max_lexer_states=50_000,
    verbose_errors=False,
)
TRIAL_SECONDS = 2  # of CPU time that a grammar from outside may take to compile
TRIAL_BYTES = 2**30
TRIAL_TIMEOUT = 20.0  # seconds on a busy machine
KEPT = 16  # compiled grammars of one tokenizer
# JSON without white space: a model that may write some, may write nothing else.
JSON_OPTIONS: JsonCompileOptions = {"whitespace_flexible": False}
STRICT: JsonCompileOptions = {"lenient": False}  # what is not implemented is an error, whatever the schema asks for


@final
class ConstraintState:
    """Progress of one answer under its constraint, for one thread at a time.

    Answers under equal constraints share an automaton that grows as they go. Where it exceeds a limit, an answer goes
    on with a separate automaton, so that it fails only if it exceeds the limit alone.

    Attributes:
        constraint: The constraint.
    """

    def __init__(self, compiler: _Compiler, constraint: Constraint, *, begun: LLMatcher | None = None) -> None:
        self.constraint = constraint
        self._compiler = compiler
        self._matcher = begun or compiler.shared(constraint)
        self._shared = True
        self._tokens: list[int] = []
        self._forced: Tokens = ()
        self._mask: Mask | None = None  # of the next token, if it is computed already

    @property
    def complete(self) -> bool:
        """Return True if the text satisfies the constraint and nothing may follow."""
        return bool(self._matcher.is_stopped()) and not self._matcher.is_error()

    def mask(self) -> Mask:
        """Return the tokens that may come next; the end of the answer is one of them where it may end.

        Raises:
            ConstraintError: The constraint became too complex to follow.
        """
        if self._mask is None:
            self._mask = self._next_mask()
        return self._mask

    def _next_mask(self) -> Mask:
        mask = np.empty((1, self._compiler.words), dtype=np.int32)
        fill_next_token_bitmask(self._matcher, mask)
        if self._matcher.is_error():
            self._go_on_alone()
            fill_next_token_bitmask(self._matcher, mask)
            self._check()
        bits = np.ravel(mask)
        # Text of a special token in a constraint is taken for that token, which would end the answer too early.
        ends = any(bits[token >> 5] >> (token & 31) & 1 for token in self._compiler.stop)
        if ends and not self._matcher.is_accepting():
            raise self._dead_end()
        return bits

    def forced(self) -> Tokens:
        """Return the tokens of the text that must come next, all of which ``advance`` takes; none if there is a choice.

        Masks may allow other tokens for the same text. These are the tokenizer's own.

        Raises:
            ConstraintError: The constraint became too complex to follow.
        """
        if self._forced:  # the rest of them: the end of a text may be cut into other tokens than the text
            return self._forced
        forced = self._matcher.compute_ff_tokens()
        if self._matcher.is_error():
            self._go_on_alone()
            forced = self._matcher.compute_ff_tokens()
            self._check()
        # A forced token may be special or, in rare models, lie beyond the logits.
        taken = self._matcher.validate_tokens(forced)
        self._forced = tuple(takewhile(lambda token: token < self._compiler.vocabulary, forced[:taken]))
        return self._forced

    def advance(self, token: int) -> None:
        """Follow the answer to its next token.

        Raises:
            ConstraintError: The mask does not allow it, or the constraint became too complex to follow.
        """
        if not self._matcher.consume_token(token):
            self._go_on_alone()
            self._matcher.consume_token(token)
            self._check()
        self._tokens.append(token)
        self._mask = None
        self._forced = self._forced[1:] if self._forced[:1] == (token,) else ()

    def _go_on_alone(self) -> None:
        """Replace a matcher that failed by one that shares nothing, at the same place."""
        if not self._shared:
            self._check()
        self._matcher = self._compiler.alone(self.constraint)
        self._shared = False
        if self._tokens:
            self._matcher.consume_tokens(self._tokens)
        self._check()

    def _check(self) -> None:
        error = self._matcher.get_error()
        if not error:
            return
        if error.startswith(("NoExtension", "parser stopped")) or "satisfy" in error.partition("\n")[0]:
            raise self._dead_end()
        raise ConstraintError(
            f"the {self.constraint.noun} became too complex after {len(self._tokens)} tokens",
            fix="nest fewer repetitions, and repeat less often",
        )

    def _dead_end(self) -> ConstraintError:
        return ConstraintError(
            f"the {self.constraint.noun} does not allow what follows after {len(self._tokens)} tokens",
            fix="check that it has no text of special tokens, and that it does not contradict itself",
        )


@final
class TaggedState:
    """Progress of one answer that is free but for the parts between tags, for one thread at a time.

    A grammar follows the answer from the end of one part to the end of the next one: free text up to a trigger, then
    the part. So tokens that have the end of a trigger and the beginning of a part are allowed as well.

    Attributes:
        constraint: The constraint.
    """

    complete = False  # there may always be more text

    def __init__(self, compiler: _Compiler, constraint: Constraint) -> None:
        self.constraint = constraint
        self._compiler = compiler
        self._triggers = compiler.triggers(constraint)
        self._longest = max((len(trigger) for trigger in self._triggers if isinstance(trigger, bytes)), default=1)
        self._inside: list[bool] = []  # of each token
        self._matcher = compiler.shared(constraint)  # at the beginning; by now nothing may have to be compiled
        self._begin()

    def _begin(self) -> None:
        self._state = ConstraintState(self._compiler, self.constraint, begun=self._matcher.deep_copy())
        self._tail = b""  # of the free text, in which a trigger may have begun
        self._within = False

    @property
    def _over(self) -> bool:
        return self.constraint.once and not self._within and any(self._inside)

    def inside(self, number: int) -> bool:
        """Return True if token ``number`` of the answer belongs to a constrained part.

        A part begins with the token that completes the trigger, as that is where the part's next token is predicted.
        Tokens that are forced belong to a part before they are taken.
        """
        return self._inside[number] if number < len(self._inside) else self._within

    def mask(self) -> Mask | None:
        """Return the tokens that may come next; None allows all.

        Raises:
            ConstraintError: The constraint became too complex to follow.
        """
        if self._over:
            return None
        mask = self._state.mask()
        return mask if self._within else mask | self._compiler.special_mask

    def forced(self) -> Tokens:
        """Return the tokens of the text that must come next; none in free text.

        Raises:
            ConstraintError: The constraint became too complex to follow.
        """
        return self._state.forced() if self._within else ()

    def advance(self, token: int) -> None:
        """Follow the answer to its next token.

        Raises:
            ConstraintError: The mask does not allow it, or the constraint became too complex to follow.
        """
        if self._over:
            self._inside.append(False)
        elif not self._within and self._compiler.is_special(token) and token not in self._triggers:
            self._begin()  # no grammar has it, and no trigger goes across
            self._inside.append(False)
        else:
            self._state.advance(token)
            self._within = self._within or self._triggered(token)
            self._inside.append(self._within)
            if self._within and self._state.complete:
                self._begin()

    def _triggered(self, token: int) -> bool:
        text = self._tail + self._compiler.bytes_of(token)
        self._tail = text[max(len(text) - self._longest, 0) :]
        return token in self._triggers or any(isinstance(each, bytes) and each in text for each in self._triggers)


State: TypeAlias = ConstraintState | TaggedState


def prepare_masks(states: Sequence[State]) -> None:
    """Compute the masks of the next tokens, so that they are there when the tokens are chosen."""
    for state in states:
        with suppress(Exception):  # it is raised again where the token is chosen, for its answer alone
            if not state.forced():
                state.mask()


def start_constraint(
    constraint: Constraint, tokenizer: PreTrainedTokenizerBase, *, vocabulary: int, stop: Sequence[int]
) -> State:
    """Compile a constraint, or take it from the cache, at the beginning of an answer.

    It may take a second, during which other threads go on; so call it where a request is made, not where tokens are.

    Args:
        constraint: What the answer must be.
        tokenizer: The model's tokenizer.
        vocabulary: Number of the model's logits.
        stop: Tokens that end an answer.

    Raises:
        ConstraintError: It is malformed, impossible, or takes too long or too much memory to compile.
        ModelError: The tokenizer, or a model without an end token, allows no constraints.
    """
    compiler = _compiler(tokenizer, vocabulary, tuple(stop))
    return (TaggedState if constraint.kind == "tags" else ConstraintState)(compiler, constraint)


_COMPILERS: WeakKeyDictionary[PreTrainedTokenizerBase, dict[tuple[object, ...], _Compiler]] = WeakKeyDictionary()
_TRIALS = BoundedSemaphore(2)  # processes at a time
_LOCK = Lock()  # of the dictionary above, and of making compilers


def _compiler(tokenizer: PreTrainedTokenizerBase, vocabulary: int, stop: tuple[int, ...]) -> _Compiler:
    key = (vocabulary, stop, len(tokenizer))  # tokens may be added to a tokenizer
    with _LOCK:
        of_tokenizer = _COMPILERS.setdefault(tokenizer, {})
        if key not in of_tokenizer:
            lexicon = _lexicon(tokenizer, vocabulary, stop)
            added = {str(token): number for number, token in tokenizer.added_tokens_decoder.items()}
            special = {text: number for text, number in added.items() if lexicon.is_special_token(number)}
            of_tokenizer[key] = _Compiler(lexicon, vocabulary, stop, special)
        return of_tokenizer[key]


def _lexicon(tokenizer: PreTrainedTokenizerBase, vocabulary: int, stop: tuple[int, ...]) -> LLTokenizer:
    name = type(tokenizer).__name__
    if not stop:
        raise ModelError(
            f"no token of {name} ends an answer, so none can be constrained", fix="set eos_token of the tokenizer"
        )
    if not isinstance(tokenizer, PreTrainedTokenizerFast):
        raise ModelError(f"{name} cannot be constrained: it is not a fast tokenizer", fix="load a fast one")
    try:
        return from_tokenizer(tokenizer, n_vocab=max(vocabulary, len(tokenizer)), eos_token=list(stop))
    except ValueError as error:
        reason = str(error).partition(":")[0]
        raise ModelError(
            f"{name} cannot be constrained: {reason}", fix="use a model whose tokenizer works on bytes, as most do"
        ) from None


@final
class _Compiler:
    """Compiles constraints for one tokenizer, and keeps the last ones; for any thread."""

    def __init__(
        self, lexicon: LLTokenizer, vocabulary: int, stop: tuple[int, ...], special: Mapping[str, int]
    ) -> None:
        self._lexicon = lexicon
        self.vocabulary = vocabulary
        self.stop = stop
        self._special = special
        self.words = -(-max(vocabulary, lexicon.vocab_size) // 32)
        self._compiled: OrderedDict[tuple[str, object], LLMatcher] = OrderedDict()
        self._lock = Lock()

    @cached_property
    def special_mask(self) -> Mask:
        """Return a mask that allows special tokens alone."""
        bits = np.zeros(32 * self.words, dtype=np.uint8)
        bits[[token for token in self._special.values() if token < self.vocabulary]] = 1
        return np.packbits(bits, bitorder="little").view(np.int32)

    def is_special(self, token: int) -> bool:
        """Return True for a token that is no text, or ends an answer."""
        return token in self.stop or self._lexicon.is_special_token(token)

    def bytes_of(self, token: int) -> bytes:
        """Return the text of a token."""
        return bytes(self._lexicon.decode_bytes([token]))

    def triggers(self, constraint: Constraint) -> frozenset[bytes | int]:
        """Return the triggers of tags: texts and special tokens.

        Raises:
            ConstraintError: A trigger goes across a special token, or ends the answer.
        """
        return frozenset(
            piece.encode() if isinstance(piece, str) else piece
            for piece, _ in map(self._trigger_and_rest, constraint.parts)
        )

    def _trigger_and_rest(self, tag: Tag) -> tuple[str | int, list[str | int]]:
        first, *others = self._pieces(tag.begin)
        if isinstance(first, int):
            if first in self.stop:
                raise ConstraintError(f"{tag.begin[:40]!r} ends an answer", fix="begin the tag with another text")
            return first, others
        trigger = tag.trigger or tag.begin
        if len(trigger) > len(first):
            raise ConstraintError(
                f"the trigger {trigger[:40]!r} has the text of a special token", fix="give what is before it as trigger"
            )
        rest = first[len(trigger) :]
        return trigger, [*([rest] if rest else []), *others]

    def _pieces(self, text: str) -> list[str | int]:
        """Return a text cut into special tokens and the texts between them."""
        if not self._special:
            return [text] if text else []
        longest_first = sorted(self._special, key=len, reverse=True)
        parts = re.split("(" + "|".join(map(re.escape, longest_first)) + ")", text)
        return [self._special.get(part, part) for part in parts if part]

    def grammar(self, constraint: Constraint, *, trial: bool = False) -> str:
        """Return a constraint in llguidance's form; for a trial, with the only special token of its tokenizer."""
        if constraint.kind != "tags":
            return _grammar(constraint)
        heads: dict[str | int, str] = {}
        rules, inner = [], []

        def written(piece: str | int) -> str:
            return _quoted(piece) if isinstance(piece, str) else f"<[{ByteTokens.eos_token_id if trial else piece}]>"

        for n, tag in enumerate(constraint.parts):
            trigger, rest = self._trigger_and_rest(tag)
            head = heads.setdefault(trigger, f"head{n}" if isinstance(trigger, str) else f"TEXT {written(trigger)}")
            if head == f"head{n}":
                rules.append(f"{head}[lazy]: TEXT {written(trigger)}")
            part, *last = f"@part{n}", *map(written, self._pieces(tag.end))
            if tag.constraint.kind == "regex" and last[:1] == [_quoted(tag.end)]:
                part, last = f"part{n}", []  # one lexeme with the end, as ".*" alone would go on behind it
                pattern = _nested(tag.constraint)["lark_grammar"].removeprefix("start: ")
                rules.append(f"{part}[lazy]: {pattern} {_quoted(tag.end)}")
            else:
                inner.append({**_nested(tag.constraint), "name": f"part{n}"})
            rules.append(f"tag{n}: {' '.join([head, *map(written, rest), part, *last])}")
        alternatives = " | ".join(f"tag{n}" for n in range(len(constraint.parts)))
        lark = "\n".join([f"start: {alternatives} | TEXT", "TEXT: /(?s:.*)/", *rules])
        return json.dumps({"grammars": [{"name": "tags", "lark_grammar": lark}, *inner]})

    def shared(self, constraint: Constraint) -> LLMatcher:
        """Return a matcher at the beginning, which shares its automaton with others of the same constraint."""
        key = (constraint.kind, constraint.source)
        with self._lock:
            kept = self._compiled.get(key)
        compiled = kept or self._compile(constraint)  # without the lock: others need not wait
        with self._lock:
            self._compiled[key] = compiled
            self._compiled.move_to_end(key)
            while len(self._compiled) > KEPT:
                self._compiled.popitem(last=False)
            return compiled.deep_copy()

    def alone(self, constraint: Constraint) -> LLMatcher:
        """Return a matcher that shares nothing; the shared automaton, which is used up, is forgotten."""
        with self._lock:
            self._compiled.pop((constraint.kind, constraint.source), None)
        return LLMatcher(self._lexicon, self.grammar(constraint), limits=LIMITS, log_level=0)

    def _compile(self, constraint: Constraint) -> LLMatcher:
        for each in (constraint, *(tag.constraint for tag in constraint.parts)):
            if each.kind == "choice":
                self._check_choices(each)
        grammar = self.grammar(constraint, trial=True)
        if constraint.kind != "choice":
            _check_by_trial(grammar, constraint.noun)
        matcher = LLMatcher(self._lexicon, self.grammar(constraint), limits=LIMITS, log_level=0)
        if not matcher.is_error():
            matcher.compute_bitmask()  # finds grammars without any text, and warms the shared automaton
        _check_compiled(matcher.get_error(), constraint.noun)
        return matcher

    def _check_choices(self, constraint: Constraint) -> None:
        for choice in constraint.choices:
            if any(map(self._lexicon.is_special_token, self._lexicon.tokenize_str(choice, parse_special=True))):
                raise ConstraintError(
                    f"the choice {choice[:40]!r} has the text of a special token", fix="choose among plain texts"
                )


def _grammar(constraint: Constraint) -> str:
    """Return a constraint in llguidance's form."""
    if constraint.choices:
        return LLMatcher.grammar_from_lark("start: " + " | ".join(map(_quoted, constraint.choices)))
    source = str(constraint.source)
    try:
        if constraint.kind == "json_schema":
            return LLMatcher.grammar_from_json_schema(source, defaults=JSON_OPTIONS, overrides=STRICT)
        return (
            LLMatcher.grammar_from_regex(source) if constraint.kind == "regex" else LLMatcher.grammar_from_lark(source)
        )
    except ValueError as error:
        raise _malformed(constraint.noun, str(error)) from None


def _nested(constraint: Constraint) -> dict[str, Any]:
    """Return the constraint of a tag as one of several grammars."""
    grammar = _grammar(constraint)
    if constraint.kind in ("choice", "grammar"):
        return {"lark_grammar": grammar}
    (parsed,) = json.loads(grammar)["grammars"]
    return dict(parsed)


def _quoted(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)


def _check_by_trial(grammar: str, noun: str) -> None:
    """Compile a grammar in a process with limits first; see ``grammar_trial``."""
    script = Path(__file__).with_name("grammar_trial.py")
    command = [sys.executable, "-P", str(script), str(TRIAL_SECONDS), str(TRIAL_BYTES)]
    too_much = ConstraintError(
        f"the {noun} takes more than {TRIAL_SECONDS} s or {TRIAL_BYTES / 2**30:.0f} GiB to compile",
        fix="simplify it: multipleOf, patternProperties and nested counts are expensive",
    )
    try:
        with _TRIALS:
            trial = subprocess.run(
                command, input=grammar.encode(), capture_output=True, timeout=TRIAL_TIMEOUT, check=False
            )
    except subprocess.TimeoutExpired:
        raise too_much from None
    if trial.returncode < 0 or b"MemoryError" in trial.stderr:  # ended by a limit
        raise too_much
    if trial.returncode > 0:
        last = trial.stderr.decode(errors="replace").strip().rpartition("\n")[2]
        raise ConstraintError(f"the {noun} cannot be compiled in a process: {last}", fix="check the installation")
    _check_compiled(trial.stdout.decode(errors="replace"), noun)


def _check_compiled(error: str, noun: str) -> None:
    if error.startswith("NoExtension"):
        raise ConstraintError(f"no text satisfies the {noun}", fix="check that it does not contradict itself")
    if error:
        raise _malformed(noun, error)


def _malformed(noun: str, error: str) -> ConstraintError:
    """Return an error with the compiler's reason in one line, without the automaton that it may quote."""
    lines = error.splitlines()
    reason = next((line.removeprefix("error: ") for line in lines if line.startswith("error: ")), lines[0])
    return ConstraintError(
        f"the {noun} cannot be compiled: {reason[:160]}", fix="docs/constraints.md says what is supported"
    )

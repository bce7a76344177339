"""What long work has already found out, so that after an interruption it need not be found out again.

Training is deterministic. So it is enough to note the answer to every costly question, to the model or to the pairs,
under a key that says what was asked: work that begins again runs through the same questions and finds the answers.
"""

from __future__ import annotations

import io
import json
import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import asdict
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol, final

import numpy as np
from numpy.typing import NDArray
from pydantic import TypeAdapter

from trimtab.arrays import digest_of
from trimtab.engines import Completion, Engine, ForcedItem, ForcedScores, Prompt, TeacherForcing
from trimtab.engines.protocol import Capabilities, Changes, Collected, Gradients, MarkedPrompt, Position, Span, Tokens
from trimtab.errors import OutputError
from trimtab.steering import RowsLike, Steering, SteeringLike
from trimtab.steering.compiled import Change
from trimtab.steering.conditions import At
from trimtab.vectors import ControlVector, ModelInfo

JOB = "job"
_COMPLETIONS = TypeAdapter(list[Completion])


class Checkpoint(Protocol):
    """Notes by key."""

    def get(self, key: str) -> bytes | None:
        """What was noted, if anything."""

    def put(self, key: str, value: bytes) -> None:
        """Note it for good, over what was there."""


def put_arrays(journal: Checkpoint, key: str, arrays: Mapping[str, NDArray[Any]]) -> None:
    """Note some arrays under one key."""
    buffer = io.BytesIO()
    np.savez(buffer, allow_pickle=False, **arrays)
    journal.put(key, buffer.getvalue())


def get_arrays(journal: Checkpoint, key: str) -> dict[str, NDArray[Any]] | None:
    """Arrays noted by ``put_arrays``, if any were."""
    kept = journal.get(key)
    if kept is None:
        return None
    with np.load(io.BytesIO(kept), allow_pickle=False) as arrays:
        return dict(arrays)


@final
class NoCheckpoint:
    """Notes nothing."""

    def get(self, key: str) -> bytes | None:
        """Nothing."""

    def put(self, key: str, value: bytes) -> None:
        """Nothing is noted."""


@final
class FileCheckpoint:
    """Notes in one SQLite file, safe against a kill at any moment.

    Args:
        path: The file; made if it is not there.
        job: What the notes are about. A file about another job is begun anew.

    Raises:
        OutputError: The file cannot be written.
    """

    def __init__(self, path: Path, *, job: str) -> None:
        self._path = path
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._open()
            if self.get(JOB) not in (None, job.encode()):
                self.forget()
                self._open()
            self.put(JOB, job.encode())
        except (OSError, sqlite3.Error) as error:
            raise OutputError(
                f"the checkpoint {str(path)!r} cannot be written: {error}", fix="free the disk, or choose another place"
            ) from None

    def _open(self) -> None:
        self._base = sqlite3.connect(self._path, isolation_level=None)
        self._base.execute("CREATE TABLE IF NOT EXISTS notes (key TEXT PRIMARY KEY, value BLOB NOT NULL)")

    def __len__(self) -> int:
        return int(self._base.execute("SELECT count(*) FROM notes").fetchone()[0]) - 1

    def get(self, key: str) -> bytes | None:
        """What was noted, if anything."""
        found = self._base.execute("SELECT value FROM notes WHERE key = ?", (key,)).fetchone()
        return None if found is None else bytes(found[0])

    def put(self, key: str, value: bytes) -> None:
        """Note it for good, over what was there.

        Raises:
            OutputError: The disk is full.
        """
        try:
            self._base.execute("INSERT OR REPLACE INTO notes VALUES (?, ?)", (key, value))
        except sqlite3.Error as error:
            raise OutputError(
                f"the checkpoint {str(self._path)!r} cannot be written: {error}", fix="free the disk"
            ) from None

    def close(self) -> None:
        """Leave the file for later."""
        self._base.close()

    def forget(self) -> None:
        """Delete the file: the work is done."""
        self._base.close()
        self._path.unlink(missing_ok=True)


@contextmanager
def noted(checkpoint: str | Path, *, job: str) -> Iterator[FileCheckpoint]:
    """A journal for the work inside: left for later if that is interrupted, deleted when it is done."""
    journal = FileCheckpoint(Path(checkpoint), job=job)
    try:
        yield journal
    except BaseException:
        journal.close()
        raise
    journal.forget()


@final
class CheckpointedEngine:
    """An engine whose answers are noted in a journal, and taken from there when the same is asked again.

    Hidden states are passed through: they are large, and whoever collects them notes what is made of them.
    """

    def __init__(self, engine: Engine, journal: Checkpoint) -> None:
        self._engine = engine
        self._journal = journal

    @property
    def info(self) -> ModelInfo:
        """The model at hand."""
        return self._engine.info

    @property
    def capabilities(self) -> Capabilities:
        """As the engine's."""
        return self._engine.capabilities

    def encode(self, text: str) -> Tokens:
        """As the engine does."""
        return self._engine.encode(text)

    def decode(self, tokens: Sequence[int]) -> str:
        """As the engine does."""
        return self._engine.decode(tokens)

    def render(self, messages: Prompt, *, continuation: str = "") -> str:
        """As the engine does."""
        return self._engine.render(messages, continuation=continuation)

    def marked(self, prompt: Prompt, *, raw: bool = False) -> MarkedPrompt:
        """As the engine does."""
        return self._engine.marked(prompt, raw=raw)

    def scores(self, prompts: Sequence[Prompt], vector: ControlVector, *, at: At = "prompt") -> NDArray[np.float64]:
        """As the engine does."""
        return self._engine.scores(prompts, vector, at=at)

    def cuts(self, text: str, *, limit: int) -> tuple[str, ...]:
        """As the engine does."""
        return self._engine.cuts(text, limit=limit)

    def steered(self, steering: SteeringLike) -> AbstractContextManager[None]:
        """As the engine does."""
        return self._engine.steered(steering)

    def collect(
        self,
        texts: Sequence[str | Tokens],
        *,
        layers: Sequence[int] | None = None,
        position: Position = "last",
        span: Span | Sequence[Span] | None = None,
        max_tokens: int | None = None,
        progress: Any = None,
    ) -> Collected:
        """As the engine does."""
        return self._engine.collect(
            texts, layers=layers, position=position, span=span, max_tokens=max_tokens, progress=progress
        )

    def generate(
        self,
        prompts: Sequence[Prompt],
        *,
        steering: RowsLike = None,
        max_new_tokens: int = 128,
        temperature: float = 0.0,
        seed: int | None = None,
    ) -> list[Completion]:
        """Answers to the prompts, noted as a whole; unseeded samples are never noted."""
        rows = Steering.of_rows(steering, rows=len(prompts))
        added = {id(row): row.compile(self.info).digest for row in rows}
        asked = [(self._engine.render(prompt), added[id(row)]) for prompt, row in zip(prompts, rows, strict=True)]
        key = f"answer {digest_of(json.dumps([asked, max_new_tokens, temperature, seed]).encode())}"
        if (kept := self._journal.get(key)) is not None:
            return _COMPLETIONS.validate_json(kept)
        answers = self._engine.generate(
            prompts, steering=rows, max_new_tokens=max_new_tokens, temperature=temperature, seed=seed
        )
        if temperature == 0 or seed is not None:
            self._journal.put(key, json.dumps([asdict(answer) for answer in answers]).encode())
        return answers

    @property
    def gradients(self) -> Gradients | None:
        """The engine's; who takes steps by them notes where they led."""
        return self._engine.gradients

    def teacher_forcing(self, items: Sequence[ForcedItem], *, once: bool = False) -> TeacherForcing:
        """Prepared only when something is asked that was not noted."""
        return _CheckpointedForcing(self._engine, items, once=once, journal=self._journal)


@final
class _CheckpointedForcing:
    """Teacher forcing whose scores are noted."""

    def __init__(self, engine: Engine, items: Sequence[ForcedItem], *, once: bool, journal: Checkpoint) -> None:
        self._engine = engine
        self._items = tuple(items)
        self._once = once
        self._journal = journal
        self._name = digest_of(json.dumps([asdict(item) for item in items]).encode())

    @cached_property
    def _forced(self) -> TeacherForcing:
        return self._engine.teacher_forcing(self._items, once=self._once)

    @property
    def base(self) -> ForcedScores:
        """Scores without any addition."""
        return self.measure({})

    @property
    def norms(self) -> NDArray[np.float64]:
        """Mean hidden-state norm per layer."""
        key = f"norms {self._name}"
        if (kept := self._journal.get(key)) is not None:
            return np.frombuffer(kept, dtype=np.float64)
        norms = self._forced.norms
        self._journal.put(key, norms.tobytes())
        return norms

    def measure(self, additions: Changes) -> ForcedScores:
        """Scores with additions."""
        key = f"scores {self._name} {digest_of(_bytes(additions))}"
        if (kept := self._journal.get(key)) is not None:
            return _scores(kept)
        scores = self._forced.measure(additions) if additions else self._forced.base
        self._journal.put(key, _scores_bytes(scores))
        return scores


def _bytes(additions: Mapping[int, NDArray[np.float32] | Sequence[Change]]) -> bytes:
    return b"".join(layer.to_bytes(4, "big") + _change_bytes(additions[layer]) for layer in sorted(additions))


def _change_bytes(changes: NDArray[np.float32] | Sequence[Change]) -> bytes:
    if isinstance(changes, np.ndarray):
        return changes.tobytes()
    return digest_of(*(change.digest.encode() for change in changes)).encode()


def _scores_bytes(scores: ForcedScores) -> bytes:
    buffer = io.BytesIO()
    counts = np.array([len(answers) for answers in scores.logprob], dtype=np.int64)
    np.savez(
        buffer,
        counts=counts,
        logprob=np.concatenate([*scores.logprob, np.zeros(0)]),
        tokens=np.concatenate([*scores.tokens, np.zeros(0, dtype=np.int64)]),
        kl=scores.kl,
        kl_tokens=scores.kl_tokens,
    )
    return buffer.getvalue()


def _scores(kept: bytes) -> ForcedScores:
    with np.load(io.BytesIO(kept), allow_pickle=False) as arrays:
        cuts = np.cumsum(arrays["counts"])[:-1]
        return ForcedScores(
            tuple(np.split(arrays["logprob"], cuts)) if len(arrays["counts"]) else (),
            tuple(np.split(arrays["tokens"], cuts)) if len(arrays["counts"]) else (),
            arrays["kl"],
            arrays["kl_tokens"],
        )

"""Session of a verb: the model, loaded when it is first needed, and vectors found by name or path."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import KW_ONLY, dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, final

from trimtab.cli.options import PhaseProgress, model_option, notice, phase_progress
from trimtab.errors import VectorError, VectorMismatchError

if TYPE_CHECKING:
    from trimtab.engines.transformers import TransformersEngine
    from trimtab.steering import Steering
    from trimtab.vectors import ControlVector


@final
@dataclass(eq=False)
class Session:
    """Model and vectors of one command.

    Attributes:
        model: Name, folder or file of the model; None for the default model.
        dtype: Data type of the weights.
        thinking: Thinking of a reasoning model, on or off; None leaves it to the chat template.
        announce: Print a notice if the model has no chat template.
        force: Use vectors that were trained for other weights.
    """

    model: str | None
    _: KW_ONLY
    dtype: str | None = None
    thinking: bool | None = None
    announce: bool = False
    force: bool = False
    _warned: set[str] = field(default_factory=set, init=False, repr=False)

    @cached_property
    def engine(self) -> TransformersEngine:
        """Load the model at first use."""
        from trimtab.engines.transformers import load

        engine = load(self.model, dtype=self.dtype, thinking=self.thinking)
        if self.announce and not engine.has_chat_template:
            notice(f"{engine.info.name} has no chat template: it reads plain text, and may not answer as an assistant.")
        return engine

    @contextmanager
    def progress(self) -> Iterator[tuple[TransformersEngine, PhaseProgress]]:
        """Load the model, and show progress bars during the ``with`` block."""
        with phase_progress() as phases:
            phases.begin("Loading the model")
            yield self.engine, phases

    def steering(self, *expressions: str, normalize: float | None = None) -> Steering:
        """Return the sum of steerings in text form, rescaled to a predicted KL if one is given."""
        from trimtab.steering import Steering

        steering = sum((Steering.of(text, find=self.find) for text in expressions), Steering(()))
        if normalize is not None and steering.terms:
            steering = steering.normalized(normalize)
        self.warn_beyond_safe(steering)
        return steering.for_any_model() if self.force else steering

    def warn_beyond_safe(self, steering: Steering) -> None:
        """Warn, once, of each term whose strength is beyond the safe range of its vector."""
        for term in steering.terms:
            if term.beyond_safe is None or str(term) in self._warned:
                continue
            self._warned.add(str(term))
            inside = f" Without a strength, {term.name} stays inside." if "+" in term.vector.default_strengths else ""
            notice(f"{term} is {term.beyond_safe}.{inside}")

    def stored(self, name: str) -> ControlVector:
        """Return a vector from its file; unlike ``find``, never train one."""
        vector = self._read(name)
        return vector.for_any_model() if self.force else vector

    def vectors(self, names: Sequence[str]) -> list[ControlVector]:
        """Return several vectors; see ``find``."""
        vectors = [self.find(name) for name in names]
        return [vector.for_any_model() for vector in vectors] if self.force else vectors

    def find(self, name: str) -> ControlVector:
        """Return a vector by path or name.

        A vector of the zoo that is neither in the package nor in the vectors folder is trained, which takes a minute or
        two, and kept.
        """
        from trimtab.behaviours import zoo_names
        from trimtab.vectors import vector_path

        exists = vector_path(name).is_file()
        if name not in zoo_names() or (exists and self.force):
            return self._read(name)
        if exists:
            vector = self._read(name)
            try:
                vector.check_model(self.engine.info)
            except VectorMismatchError:
                pass  # the file in the folder is for another model; this model has its own
            else:
                return vector
        from trimtab.training.train import existing_zoo_vector, zoo_vector

        existing = existing_zoo_vector(name, self.engine.info)
        if existing is not None:
            return existing
        notice(f"{name} has no vector for {self.engine.info.name} yet: training it, once.")
        with phase_progress() as phases:
            return zoo_vector(self.engine, name, progress=phases.on_progress)

    def _read(self, name: str) -> ControlVector:
        """Read a vector's file; the command that an error suggests names the model of this one."""
        from trimtab.vectors import find_vector

        try:
            return find_vector(name)
        except VectorError as error:
            if self.model is None or error.fix is None or "trimtab " not in error.fix:
                raise
            raise type(error)(error.problem, fix=error.fix + model_option(self.model)) from None

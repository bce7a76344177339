"""Session of a verb: the model, loaded when it is first needed, and vectors found by name or path."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cached_property
from typing import TYPE_CHECKING, final

from trimtab.cli.options import PhaseProgress, model_option, notice, phase_progress
from trimtab.errors import VectorError, VectorMismatchError

if TYPE_CHECKING:
    from trimtab.engines.transformers import TransformersEngine
    from trimtab.steering import Steering
    from trimtab.vectors import ControlVector


@final
class Session:
    """Model and vectors of one command.

    Args:
        model: Name, folder or file of the model; None for the default model.
        dtype: Data type of the weights.
        thinking: Thinking of a reasoning model, on or off; None leaves it to the chat template.
        announce: Print a notice if the model has no chat template.
        force: Use vectors that were trained for other weights.
    """

    def __init__(
        self,
        model: str | None,
        *,
        dtype: str | None = None,
        thinking: bool | None = None,
        announce: bool = False,
        force: bool = False,
    ) -> None:
        self._model = model
        self._dtype = dtype
        self._thinking = thinking
        self._announce = announce
        self._force = force

    @cached_property
    def engine(self) -> TransformersEngine:
        """Load the model at first use."""
        from trimtab.engines.transformers import load

        engine = load(self._model, dtype=self._dtype, thinking=self._thinking)
        if self._announce and not engine.has_chat_template:
            notice(f"{engine.info.name} has no chat template: it reads plain text, and may not answer as an assistant.")
        return engine

    @contextmanager
    def progress(self) -> Iterator[tuple[TransformersEngine, PhaseProgress]]:
        """Load the model, and show progress bars during the ``with`` block."""
        with phase_progress() as phases:
            phases.begin("Loading the model")
            yield self.engine, phases

    def steering(self, *expressions: str) -> Steering:
        """Return the sum of steerings in text form.

        Raises:
            SteeringError: A text is not a steering.
            VectorError: A vector cannot be found or read.
        """
        from trimtab.steering import Steering

        steering = sum((Steering.of(text, find=self.find) for text in expressions), Steering(()))
        return steering.for_any_model() if self._force else steering

    def stored(self, name: str) -> ControlVector:
        """Return a vector from its file; unlike ``find``, never train one."""
        vector = self._read(name)
        return vector.for_any_model() if self._force else vector

    def vectors(self, names: Sequence[str]) -> list[ControlVector]:
        """Return several vectors; see ``find``."""
        vectors = [self.find(name) for name in names]
        return [vector.for_any_model() for vector in vectors] if self._force else vectors

    def find(self, name: str) -> ControlVector:
        """Return a vector by path or name.

        A behaviour of the zoo that has no vector for this model is trained, which takes a minute or two, and kept.

        Raises:
            VectorError: There is no such vector, or its file is not usable.
        """
        from trimtab.behaviours import zoo_names
        from trimtab.vectors import vector_path

        exists = vector_path(name).is_file()
        if name not in zoo_names() or (exists and self._force):
            return self._read(name)
        if exists:
            vector = self._read(name)
            try:
                vector.check_model(self.engine.info)
            except VectorMismatchError:
                pass  # the file in the folder is for another model; this model has its own
            else:
                return vector
        return self._zoo_vector(name)

    def _read(self, name: str) -> ControlVector:
        """Read a vector's file; the command that an error suggests names the model of this one."""
        from trimtab.vectors import find_vector

        try:
            return find_vector(name)
        except VectorError as error:
            if self._model is None or error.fix is None or "trimtab " not in error.fix:
                raise
            raise type(error)(error.problem, fix=error.fix + model_option(self._model)) from None

    def _zoo_vector(self, name: str) -> ControlVector:
        from trimtab.training.train import zoo_path, zoo_vector

        if not zoo_path(name, self.engine.info).is_file():
            notice(f"{name} has no vector for {self.engine.info.name} yet: training it, once.")
        with phase_progress() as phases:
            return zoo_vector(self.engine, name, progress=phases.on_progress)

"""What verbs that steer work at: a model that is loaded when it is needed, and vectors found by name."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import TYPE_CHECKING, final

from trimtab.cli.console import err, load_model, phase_progress
from trimtab.errors import VectorMismatchError

if TYPE_CHECKING:
    from trimtab.engines.transformers import TransformersEngine
    from trimtab.steering import Steering
    from trimtab.vectors import ControlVector


@final
class Session:
    """A model and the vectors for it.

    A behaviour of the zoo that has no vector for this model yet gets one when it is first named, which takes a minute
    or two; it is kept for the next time.

    Args:
        model: As the user named it.
        dtype: Of the weights.
        thinking: Whether a reasoning model is told to think.
        notice: Say so if the model has no chat template.
        force: Take vectors that were trained for other weights.
    """

    def __init__(
        self,
        model: str | None,
        *,
        dtype: str | None = None,
        thinking: bool | None = None,
        notice: bool = False,
        force: bool = False,
    ) -> None:
        self._model = model
        self._dtype = dtype
        self._thinking = thinking
        self._notice = notice
        self._force = force

    @cached_property
    def engine(self) -> TransformersEngine:
        """The model, loaded when it is first asked for."""
        return load_model(
            self._model,
            dtype=self._dtype,
            thinking=self._thinking,
            notice=self._notice,
        )

    def steering(self, expression: str | None) -> Steering:
        """The steering that the user wrote.

        Raises:
            SteeringError: It does not read as one.
            VectorError: A vector in it cannot be found or read.
        """
        from trimtab.steering import Steering

        steering = Steering.of(expression, find=self.find)
        return steering.for_any_model() if self._force else steering

    def vectors(self, names: Sequence[str]) -> list[ControlVector]:
        """Several vectors; see ``find``."""
        found = [self.find(name) for name in names]
        return [vector.for_any_model() for vector in found] if self._force else found

    def find(self, name: str) -> ControlVector:
        """A vector by path or name; a behaviour of the zoo gets one for this model if it has none.

        Raises:
            VectorError: There is none, or its file is not usable.
        """
        from trimtab.behaviours import zoo_names
        from trimtab.vectors import find_vector, vector_path

        path = vector_path(name)
        there = path.is_file()
        if name not in zoo_names() or (there and self._force):
            return find_vector(name)
        if there:
            kept = find_vector(name)
            try:
                kept.check_model(self.engine.info)
            except VectorMismatchError:
                pass  # it is another model's; this one has its own
            else:
                return kept
        return self._of_zoo(name)

    def _of_zoo(self, name: str) -> ControlVector:
        from trimtab.training.train import zoo_path, zoo_vector

        if not zoo_path(name, self.engine.info).is_file():
            err.print(
                f"{name} has no vector for {self.engine.info.name} yet: training it, once.",
                style="dim",
                markup=False,
                soft_wrap=True,
            )
        with phase_progress() as phases:
            return zoo_vector(self.engine, name, progress=phases.on_progress)

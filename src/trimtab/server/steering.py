"""Steering of a request: from its body, its header, or the preset that it names."""

from __future__ import annotations

from typing import Any

from trimtab.errors import SteeringError, TrimtabError
from trimtab.server.errors import RequestError
from trimtab.server.fields import SteeringFields
from trimtab.server.presets import Preset
from trimtab.server.settings import MAX_STEERING_TEXT, MAX_TERMS
from trimtab.server.vectors import VectorIndex
from trimtab.steering import Steering
from trimtab.vectors import ControlVector

HEADER = "x-trimtab-steering"


def request_steering(fields: SteeringFields, header: str | None, preset: Preset, vectors: VectorIndex) -> Steering:
    """Return the steering of a request: its body wins over its header, which wins over the preset.

    Raises:
        RequestError: It is none (the message has the column), names a vector that there is not, or the preset has
            locked it.
    """
    given: Any = header if fields.steering is None else fields.steering
    if header is not None and len(header) > MAX_STEERING_TEXT:
        raise RequestError(
            f"the header {HEADER} has more than {MAX_STEERING_TEXT:,} characters", fix="give fewer terms"
        )
    if header is not None and "steering" in preset.locked:
        raise RequestError("the preset does not let requests steer", fix="leave the header out", param=HEADER)
    try:
        steering = preset.steering if given is None else Steering.of(given, find=vectors.find, paths=False)
        if len(steering.terms) > MAX_TERMS:
            raise SteeringError(f"the steering has {len(steering.terms)} terms", fix=f"give at most {MAX_TERMS}")
        return steering if fields.normalize is None or not steering.terms else steering.normalized(fields.normalize)
    except TrimtabError as error:
        raise RequestError(error.problem, fix=error.fix, param="steering", code=error.code) from None


def request_readings(fields: SteeringFields, vectors: VectorIndex) -> tuple[ControlVector, ...]:
    """Return the vectors that a request wants to have read.

    Raises:
        RequestError: There is none of such a name.
    """
    try:
        return tuple(map(vectors.find, fields.readings or ()))
    except TrimtabError as error:
        raise RequestError(error.problem, fix=error.fix, param="readings", code=error.code) from None

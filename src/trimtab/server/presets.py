"""Presets: steering, system prompt and defaults under the name of a model."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar

from trimtab.server.errors import RequestError
from trimtab.server.fields import Fields
from trimtab.steering import Steering

F = TypeVar("F", bound=Fields)


@dataclass(frozen=True, kw_only=True)
class Preset:
    """Defaults of requests that name it.

    Attributes:
        steering: Of requests that bring none.
        system: Opening of the system prompt; that of the request follows.
        defaults: Fields of requests that lack them, such as ``temperature``.
        locked: Fields that a request must not have.
        unlisted: Leave it out of the list of models.
        metadata: Whatever a client may want to know.
    """

    steering: Steering = field(default_factory=Steering)
    system: str | None = None
    defaults: Mapping[str, Any] = field(default_factory=dict)
    locked: frozenset[str] = frozenset()
    unlisted: bool = False
    metadata: Mapping[str, Any] = field(default_factory=dict)


def with_defaults(fields: F, preset: Preset) -> F:
    """Return a request's fields with the preset's defaults for those that it lacks.

    Raises:
        RequestError: The request has a field that the preset locks.
    """
    given = {name for name in fields.model_fields_set if getattr(fields, name) is not None}
    for name in sorted(preset.locked & given):
        raise RequestError(f"the preset does not let requests set {name!r}", fix="leave it out", param=name)
    missing = {
        name: value
        for name, value in preset.defaults.items()
        if name in type(fields).model_fields and name not in given
    }
    if not missing:
        return fields
    return type(fields).model_validate({**fields.model_dump(exclude_unset=True, by_alias=True), **missing})

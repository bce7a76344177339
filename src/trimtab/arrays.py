"""Type aliases of numpy arrays, and a base class for immutable values that hold arrays."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import fields
from functools import cached_property
from types import MappingProxyType
from typing import Any, TypeAlias, cast

import numpy as np
from numpy.typing import NDArray

F32: TypeAlias = NDArray[np.float32]
F64: TypeAlias = NDArray[np.float64]
I64: TypeAlias = NDArray[np.int64]


class ArrayValue:
    """Base of frozen dataclasses with array fields: compared, hashed and pickled by their content.

    The equality that dataclasses generate fails on arrays, and read-only arrays come back writable from a pickle. So
    a value is compared by its digest, and a copy is made by calling the class again.
    """

    def _content(self) -> Iterable[bytes]:
        """Yield the bytes by which two values of this class differ: those of all fields that are compared."""
        for field in fields(cast(Any, self)):
            if field.compare:
                yield from _bytes_of(getattr(self, field.name))

    @cached_property
    def digest(self) -> str:
        """SHA-256 of the content."""
        return digest_of(type(self).__name__.encode(), *self._content())

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, type(self)):
            return NotImplemented
        return self is other or self.digest == other.digest

    def __hash__(self) -> int:
        return hash(self.digest)

    def __reduce__(self) -> tuple[Any, ...]:
        kept = {field.name: without_proxies(getattr(self, field.name)) for field in fields(cast(Any, self))}
        return _rebuild, (type(self), kept)


def _bytes_of(value: Any) -> Iterator[bytes]:
    if isinstance(value, np.ndarray):
        yield f"{value.dtype}{value.shape}".encode()
        yield value.tobytes()
    elif isinstance(value, Mapping):
        yield from _bytes_of([part for item in value.items() for part in item])
    elif isinstance(value, (list, tuple)):
        yield str(len(value)).encode()
        for part in value:
            yield from _bytes_of(part)
    else:
        yield repr(value).encode()


def _rebuild(kind: type[Any], values: dict[str, Any]) -> Any:
    return kind(**values)


def without_proxies(value: Any) -> Any:
    """Return read-only mappings as plain dicts, which can be pickled; anything else as it is."""
    if isinstance(value, MappingProxyType):
        return {key: without_proxies(part) for key, part in value.items()}
    return value


def read_only(array: NDArray[Any]) -> NDArray[Any]:
    """Return the array if it is read-only, else a read-only copy."""
    if array.flags.writeable:
        array = array.copy()
        array.flags.writeable = False
    return array


def digest_of(*parts: bytes) -> str:
    """Return the SHA-256 of some parts, each with its length, so that their borders count too."""
    digest = hashlib.sha256()
    for part in parts:
        digest.update(len(part).to_bytes(8, "big") + part)
    return digest.hexdigest()

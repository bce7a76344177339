"""Results on disk, so that a benchmark of several hours can be interrupted and continued."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from trimtab.vectors import write_atomically


def cached_or_measured(
    path: Path, conditions: Mapping[str, Any], measure: Callable[[], Mapping[str, Any]]
) -> Mapping[str, Any]:
    """Return the result in a file if it was measured under the same conditions; else measure and write it.

    Args:
        path: The file.
        conditions: Everything that decides the result, as JSON values; it becomes part of the result.
        measure: Makes the rest of the result.

    Raises:
        OutputError: The file cannot be written.
    """
    result = _cached(path, conditions)
    if result is None:
        result = {**conditions, **measure()}
        write_json(result, path)
    return result


def write_json(value: Mapping[str, Any], path: Path) -> None:
    """Write a JSON file, whole or not at all.

    Raises:
        OutputError: The file cannot be written.
    """
    write_atomically(path, (json.dumps(value, ensure_ascii=False, allow_nan=False) + "\n").encode())


def _cached(path: Path, conditions: Mapping[str, Any]) -> dict[str, Any] | None:
    try:
        result = json.loads(path.read_bytes())
    except (OSError, ValueError):
        return None
    if isinstance(result, dict) and all(result.get(key) == value for key, value in conditions.items()):
        return result
    return None

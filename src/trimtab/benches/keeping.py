"""Numbers that were measured before, so that hours of work can be interrupted."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from trimtab.vectors import write_atomically


def kept_or_measured(
    path: Path, told: Mapping[str, Any], measure: Callable[[], Mapping[str, Any]]
) -> Mapping[str, Any]:
    """What a file has, if it was measured under just these circumstances; else what is measured now, and written there.

    Args:
        path: The file.
        told: The circumstances, as JSON has them.
        measure: Makes what there is to tell besides.

    Raises:
        OutputError: The file cannot be written.
    """
    found = _kept(path, told)
    if found is None:
        found = {**told, **measure()}
        write_atomically(path, (json.dumps(found, ensure_ascii=False, allow_nan=False) + "\n").encode())
    return found


def _kept(path: Path, told: Mapping[str, Any]) -> dict[str, Any] | None:
    try:
        found = json.loads(path.read_bytes())
    except (OSError, ValueError):
        return None
    if isinstance(found, dict) and all(found.get(key) == value for key, value in told.items()):
        return found
    return None

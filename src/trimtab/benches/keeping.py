"""Numbers that were measured before."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any


def kept(path: Path, told: Mapping[str, Any]) -> dict[str, Any] | None:
    """What a file has, if it was measured under just these circumstances."""
    try:
        found = json.loads(path.read_bytes())
    except (OSError, ValueError):
        return None
    if isinstance(found, dict) and all(found.get(key) == value for key, value in told.items()):
        return found
    return None

"""The vectors folder: where vectors are found by name."""

from __future__ import annotations

import difflib
import os
from pathlib import Path

import platformdirs

from trimtab.errors import VectorError
from trimtab.vectors.vector import ControlVector


def vectors_folder() -> Path:
    """Where vectors live that are named without a path: ``$TRIMTAB_VECTORS``, else the user's data folder."""
    given = os.environ.get("TRIMTAB_VECTORS")
    return Path(given) if given else platformdirs.user_data_path("trimtab", appauthor=False) / "vectors"


def vector_path(name: str) -> Path:
    """The file that a name or a path stands for; it need not exist."""
    path = Path(name)
    if path.suffix == ".safetensors" or len(path.parts) > 1 or _is_file(path):
        return path
    return vectors_folder() / f"{name}.safetensors"


def find_vector(name: str) -> ControlVector:
    """Load a vector by path, or by name from the vectors folder.

    Raises:
        VectorError: There is none (with near names), or its file is not usable.
    """
    path = vector_path(name)
    if _is_file(path):
        return ControlVector.load(path)
    if path.parent != vectors_folder():
        raise VectorError(f"vector file {name!r} does not exist", fix="check the path")
    known = sorted(entry.stem for entry in path.parent.glob("*.safetensors"))
    near = difflib.get_close_matches(name, known, n=3, cutoff=0.4)
    hint = f"did you mean {' or '.join(map(repr, near))}?" if near else f"make it: trimtab train {name}"
    raise VectorError(f"no vector named {name!r} in {str(path.parent)!r}", fix=hint)


def _is_file(path: Path) -> bool:
    """Like ``Path.is_file``, but False where that raises: for a name that no file can have."""
    return os.path.isfile(path)  # noqa: PTH113

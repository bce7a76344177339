"""Index of the vectors that requests may name."""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import final

from trimtab.behaviours import zoo_names
from trimtab.errors import TrimtabError, VectorError, near_names
from trimtab.training.train import zoo_path
from trimtab.vectors import ControlVector, ModelInfo, packaged_path, vectors_folder

logger = logging.getLogger("trimtab.server")
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")


@dataclass(frozen=True)
class _Loaded:
    """Vector as it was read from a file."""

    path: Path
    changed: tuple[int, int]  # when, and its size
    vector: ControlVector | None  # None if it is not usable with the model


@final
class VectorIndex:
    """Vectors for one model by name, from a folder, and from the zoo.

    Requests name a vector; its file is found here and nowhere else, so no name is ever joined to a path.

    Args:
        model: The model that they must belong to.
        folder: Folder of ``NAME.safetensors`` files, which come before those of the zoo; the user's by default.
    """

    def __init__(self, model: ModelInfo, *, folder: Path | None = None) -> None:
        self.model = model
        self.folder = vectors_folder() if folder is None else folder
        self._loaded: Mapping[str, _Loaded] = MappingProxyType({})
        self.refresh()

    def refresh(self) -> None:
        """Read what is new or has changed; requests that are being answered keep the vectors that they have."""
        loaded: dict[str, _Loaded] = {}
        for name, path in self._files():
            if name in loaded and loaded[name].vector is not None:
                continue
            entry = self._entry(name, path)
            if entry is not None:
                loaded[name] = entry
        self._loaded = MappingProxyType(loaded)

    @property
    def vectors(self) -> Mapping[str, ControlVector]:
        """Return the vectors of the model by name."""
        return {name: each.vector for name, each in self._loaded.items() if each.vector is not None}

    def find(self, name: str) -> ControlVector:
        """Return a vector by its name.

        Raises:
            VectorError: There is none of this name.
        """
        entry = self._loaded.get(name)
        if entry is None or entry.vector is None:
            known = list(self.vectors)
            raise VectorError(
                f"there is no vector {name[:64]!r}", fix=near_names(name[:64], known) or "GET /v1/vectors has all"
            )
        return entry.vector

    def _files(self) -> Iterator[tuple[str, Path]]:
        """Yield names with files, those that come first before others of the same name."""
        for path in sorted(self.folder.glob("*.safetensors")) if self.folder.is_dir() else ():
            if NAME.fullmatch(path.stem):
                yield path.stem, path
        for name in zoo_names():
            for zoo in (zoo_path(name, self.model), packaged_path(name)):
                if zoo is not None and zoo.is_file():
                    yield name, zoo

    def _entry(self, name: str, path: Path) -> _Loaded | None:
        """Return a file's vector, read if it is new or has changed; None if the file is gone."""
        try:
            status = path.stat()
        except OSError:
            return None
        changed, known = (status.st_mtime_ns, status.st_size), self._loaded.get(name)
        if known is not None and (known.path, known.changed) == (path, changed):
            return known
        try:
            vector = ControlVector.load(path)
            vector.check_model(self.model)
        except TrimtabError as error:
            logger.info("vector %s is left out: %s", name, error.problem)
            return _Loaded(path, changed, None)
        return _Loaded(path, changed, vector)

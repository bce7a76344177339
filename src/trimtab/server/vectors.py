"""Index of the vectors that requests may name."""

from __future__ import annotations

import logging
import os
import re
import secrets
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from threading import RLock
from types import MappingProxyType
from typing import final

from trimtab.behaviours import zoo_names
from trimtab.errors import OutputError, TrimtabError, VectorError, near_names
from trimtab.server.errors import RequestError
from trimtab.training.train import zoo_path
from trimtab.vectors import ControlVector, ModelInfo, packaged_path, vectors_folder

logger = logging.getLogger("trimtab.server")
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
BINNED = ".deleted"  # ending of files in the bin
BIN_SIZE = 100  # deleted vectors that are kept


@dataclass(frozen=True)
class _Loaded:
    """Vector as it was read from a file."""

    path: Path
    changed: tuple[int, int]  # when, and its size
    vector: ControlVector | None  # None if it is not usable with the model
    problem: str = ""  # why it is not


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
        self._lock = RLock()
        self.refresh()

    def refresh(self) -> None:
        """Read what is new or has changed; requests that are being answered keep the vectors that they have."""
        with self._lock:
            self._refresh()

    def _refresh(self) -> None:
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

    def file(self, name: str) -> Path:
        """Return the file of a vector, which may come with trimtab.

        Raises:
            VectorError: There is none of this name.
        """
        self.find(name)
        return self._loaded[name].path

    def is_own(self, name: str) -> bool:
        """Return True if a vector is in the folder, rather than in the zoo."""
        entry = self._loaded.get(name)
        return entry is not None and entry.path.parent == self.folder

    def problems(self) -> Mapping[str, str]:
        """Return why vectors are left out, by name."""
        return {name: each.problem for name, each in self._loaded.items() if each.vector is None}

    def put(self, name: str, path: Path, *, overwrite: bool = False) -> None:
        """Move a file, whose content was checked, to its place in the folder; it is served at once.

        Raises:
            RequestError: There is another one in the folder, and it is not to be overwritten.
            OutputError: It cannot be moved.
        """
        target = self.folder / f"{checked_name(name)}.safetensors"
        with self._lock:
            try:
                if overwrite:
                    path.replace(target)
                else:
                    os.link(path, target)  # unlike a rename it fails if there is one, whoever wrote it
            except FileExistsError:
                raise RequestError(
                    f"there is a vector {name!r} already",
                    fix="choose another name, or set overwrite=true",
                    status=409,
                    code="exists",
                ) from None
            except OSError as error:
                raise OutputError(f"{name!r} cannot be written: {error.strerror}", fix="check the folder") from None
            self._refresh()

    def free_name(self, name: str) -> str:
        """Return a name, with a number behind it if there is such a file."""
        taken = {path.stem for path in self.folder.glob("*.safetensors")}
        return next(each for n in count(1) if (each := name if n == 1 else f"{name[:58]}-{n}") not in taken)

    def delete(self, name: str) -> str:
        """Move a vector of the folder to its bin, and return what ``restore`` takes.

        Raises:
            VectorError: There is none of this name.
            RequestError: It comes with trimtab.
        """
        with self._lock:
            if name not in self._loaded:
                self.find(name)
            if not self.is_own(name):
                raise RequestError(
                    f"the vector {name!r} comes with trimtab, or was trained for the zoo",
                    fix="only vectors of the server's folder can be deleted",
                    status=409,
                )
            # Times sort, so that the oldest are deleted first.
            undo = f"{time.time_ns():020d}-{secrets.token_hex(8)}"
            self._bin.mkdir(exist_ok=True)
            self._loaded[name].path.replace(self._bin / f"{undo}.{name}{BINNED}")
            for old in sorted(self._bin.glob(f"*{BINNED}"))[:-BIN_SIZE]:
                old.unlink(missing_ok=True)
            self._refresh()
            return undo

    def restore(self, name: str, undo: str) -> None:
        """Move a deleted vector back.

        Raises:
            RequestError: It is not in the bin, or there is a new one of its name.
        """
        with self._lock:
            wanted = f"{undo}.{name}{BINNED}"
            found = [path for path in self._bin.glob(f"*{BINNED}") if path.name == wanted]
            if not found:
                raise RequestError(f"no deleted vector {name[:64]!r} of this undo", fix="upload it", status=404)
            self.put(name, found[0])
            found[0].unlink(missing_ok=True)

    @property
    def _bin(self) -> Path:
        return self.folder / ".bin"

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
            return _Loaded(path, changed, None, error.problem)
        return _Loaded(path, changed, vector)


def checked_name(name: str) -> str:
    """Return a name if it is one; it is then safe as the name of a file.

    Raises:
        RequestError: It is not.
    """
    if NAME.fullmatch(name) is None:
        fix = "use letters, digits, '.', '_' and '-', at most 64 of them"
        raise RequestError(f"{name[:64]!r} is not a name", fix=fix, code="bad_name")
    return name

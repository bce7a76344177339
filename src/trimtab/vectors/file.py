"""Safetensors files: read with suspicion, written atomically."""

from __future__ import annotations

import os
import secrets
import tempfile
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, Literal

import numpy as np
import platformdirs
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from trimtab.errors import OutputError, VectorError, near_names

SUFFIX = ".safetensors"
_PICKLE_STARTS = (b"PK\x03\x04", b"\x80\x02", b"\x80\x03", b"\x80\x04", b"\x80\x05")


def user_folder(kind: Literal["data", "cache"], variable: str, *, within: str = "") -> Path:
    """Return a folder of this user: as the environment variable says, or ``within`` the platform's.

    A user without a home, as in some containers, gets a temporary one.
    """
    if given := os.environ.get(variable):
        return Path(given)
    find = platformdirs.user_data_path if kind == "data" else platformdirs.user_cache_path
    with suppress(RuntimeError):  # there is no home
        return find("trimtab", appauthor=False) / within
    return Path(tempfile.gettempdir()) / f"trimtab-{os.getuid()}" / kind / within


def expanded(path: str | Path) -> Path:
    """Return a path with its ``~`` replaced by the home folder, where there is one."""
    return Path(os.path.expanduser(path))  # noqa: PTH111 - Path.expanduser raises without a home


def check_suffix(path: Path) -> None:
    """Refuse a vector file whose name ends in another format's way.

    Raises:
        OutputError: It does.
    """
    if path.suffix.lower() not in ("", SUFFIX):
        raise OutputError(
            f"vectors are not written as {path.suffix!r} ({str(path)!r})", fix=f"name a file that ends with {SUFFIX}"
        )


def read_safetensors(path: Path) -> tuple[Mapping[str, str], dict[str, NDArray[Any]]]:
    """Read a file's metadata and tensors.

    Raises:
        VectorError: The file is missing, a pickle, truncated, or no safetensors file.
    """
    try:
        with path.open("rb") as file:
            start = file.read(9)
    except FileNotFoundError:
        raise _missing(path) from None
    except IsADirectoryError:
        raise _is_folder(path) from None
    except (OSError, ValueError) as error:  # a name may hold a null character
        raise VectorError(f"vector file {str(path)!r} cannot be read: {error}", fix="check the path") from None
    # Safetensors begins with a length that may look like a pickle's first bytes, but "{" follows it.
    if start.startswith(_PICKLE_STARTS) and start[8:] != b"{":
        raise VectorError(
            f"{str(path)!r} is a pickle, which could run code and is never loaded",
            fix="save it as safetensors",
        )
    try:
        with safe_open(path, framework="numpy") as file:
            return file.metadata() or {}, {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (SafetensorError, OSError, ValueError, TypeError, AttributeError) as error:
        raise VectorError(
            f"{str(path)!r} is not a whole safetensors file ({error})", fix="copy or train it again"
        ) from None


def _missing(path: Path) -> VectorError:
    with suppress(OSError):
        known = [entry.name for entry in path.parent.iterdir() if entry.suffix == SUFFIX]
        return VectorError(
            f"vector file {str(path)!r} does not exist", fix=near_names(path.name, known) or "check the path"
        )
    return VectorError(f"vector file {str(path)!r} does not exist", fix="check the path")


def _is_folder(path: Path) -> VectorError:
    with suppress(OSError):
        files = sorted(entry.name for entry in path.iterdir() if entry.suffix == SUFFIX)
        if files:
            return VectorError(f"{str(path)!r} is a folder", fix=f"name a file in it, such as {str(path / files[0])!r}")
    return VectorError(f"{str(path)!r} is a folder without vectors", fix=f"name a {SUFFIX} file")


def write_safetensors(path: Path, tensors: Mapping[str, NDArray[Any]], metadata: Mapping[str, str]) -> None:
    """Write a file so that a reader sees the old one or the new one, never a part.

    Raises:
        OutputError: The file cannot be written; the old one is untouched.
    """
    write_atomically(path, save({name: np.asarray(tensor) for name, tensor in tensors.items()}, dict(metadata)))


def write_atomically(path: Path, content: bytes) -> None:
    """Write a file through a temporary neighbour and a rename.

    Raises:
        OutputError: The folder is missing or read-only, or the disk is full; nothing is left behind.
    """
    if not path.name:
        raise OutputError(f"cannot write {str(path)!r}: not the name of a file", fix="name a file")
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with temporary.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except OSError as error:
        raise OutputError(
            f"cannot write {str(path)!r}: {error.strerror or error}",
            fix="choose a folder that can be written to",
        ) from None
    finally:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)

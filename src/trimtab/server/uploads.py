"""Uploaded vector files: received with a bound, and checked before anything in them is used."""

from __future__ import annotations

import json
import math
import os
import re
import secrets
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

from trimtab.errors import OutputError, VectorError
from trimtab.server.errors import RequestError
from trimtab.vectors import ControlVector, ModelInfo

MAX_HEADER = 1024**2  # bytes
MAX_PROBES = 2  # tensors of a layer: its direction and its probe
ABANDONED = 3_600  # seconds after which a half file of a server that was killed is deleted
PART = ".upload.part"
_TENSOR = re.compile(r"(?:direction|probe)\.(0|[1-9][0-9]{0,4})")
_OTHER_FORMATS = (
    (b"PK\x03\x04", "a zip archive or a PyTorch file"),
    (b"GGUF", "a GGUF file"),
    *((bytes([0x80, version]), "a pickle") for version in range(2, 6)),
    (b"\x93NUMPY", "a numpy file"),
)


def max_bytes(model: ModelInfo) -> int:
    """Return the size of the largest vector file of a model."""
    return 8 + MAX_HEADER + MAX_PROBES * model.layers * model.hidden_size * 4


async def receive(chunks: AsyncIterator[bytes], folder: Path, *, limit: int) -> Path:
    """Write a body to a temporary file in a folder, and return its path.

    Raises:
        RequestError: The body is longer than the limit; nothing is left of it.
        OutputError: It cannot be written.
    """
    path = folder / f".{secrets.token_hex(8)}{PART}"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        size = 0
        with path.open("xb") as file:
            async for chunk in chunks:
                size += len(chunk)
                if size > limit:
                    raise RequestError(
                        f"the file has more than {limit:,} bytes, and no vector of this model does",
                        fix="upload a vector file of trimtab",
                        status=413,
                        code="too_large",
                    )
                file.write(chunk)
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        path.unlink(missing_ok=True)
        raise OutputError(f"the upload cannot be written: {error.strerror}", fix="free the server's disk") from None
    except BaseException:
        path.unlink(missing_ok=True)
        raise
    return path


def delete_abandoned(folder: Path) -> None:
    """Delete what is left of uploads whose server was killed."""
    for path in folder.glob(f".*{PART}"):
        with suppress(OSError):
            if time.time() - path.stat().st_mtime > ABANDONED:
                path.unlink()


def checked_upload(path: Path, model: ModelInfo) -> ControlVector:
    """Return the vector in a file, all of whose sizes were checked against the file and the model before.

    Raises:
        VectorError: It is another format, its header does not fit to the file or the model, or it is no vector.
        VectorMismatchError: It belongs to another model.
    """
    size = path.stat().st_size
    with path.open("rb") as file:
        start = file.read(9)
        if start[8:] != b"{":
            raise _no_safetensors(start)
        length = int.from_bytes(start[:8], "little")
        if length > min(MAX_HEADER, size - 8):
            raise VectorError(f"the file's header claims {length:,} bytes of {size - 8:,}", fix="upload a whole file")
        text = b"{" + file.read(length - 1)
    try:
        header = json.loads(text)
    except (ValueError, RecursionError):
        raise VectorError("the file's header is not JSON", fix="upload a safetensors file") from None
    if not isinstance(header, dict):
        raise VectorError("the file's header is no object", fix="upload a safetensors file")
    header.pop("__metadata__", None)
    at = 0
    for begin, end in sorted(_spans(header, model)):
        if begin != at:
            raise VectorError("the file's tensors overlap or leave gaps", fix="upload a vector file of trimtab")
        at = end
    if at != size - 8 - length:
        raise VectorError(
            f"the file's tensors take {at:,} bytes, but it has {size - 8 - length:,}", fix="upload a whole file"
        )
    try:
        vector = ControlVector.load(path)
    except VectorError as error:  # without the path, which is the server's business
        raise VectorError(error.problem.replace(repr(str(path)), "the file"), fix=error.fix) from None
    vector.check_model(model)
    return vector


def _no_safetensors(start: bytes) -> VectorError:
    kind = next((kind for magic, kind in _OTHER_FORMATS if start.startswith(magic)), "no safetensors file")
    return VectorError(f"the file is {kind}, which is never read", fix="upload a safetensors file")


def _spans(header: dict[str, Any], model: ModelInfo) -> Iterator[tuple[int, int]]:
    """Yield where each tensor begins and ends.

    Raises:
        VectorError: One is not a float32 vector of the model's width at one of its layers.
    """
    if len(header) > MAX_PROBES * model.layers:
        raise VectorError(f"the file has {len(header)} tensors", fix=f"{model.name} has {model.layers} layers")
    for name, given in header.items():
        match = _TENSOR.fullmatch(name)
        if match is None or int(match[1]) >= model.layers:
            raise VectorError(
                f"the file has an unexpected tensor {name[:64]!r}", fix=f"{model.name} has {model.layers} layers"
            )
        fields = given if isinstance(given, dict) else {}
        shape, offsets = _sizes(fields.get("shape")), _sizes(fields.get("data_offsets"))
        if shape is None or offsets is None or len(offsets) != 2 or fields.get("dtype") != "F32":
            raise VectorError(f"tensor {name!r} is not float32 with a shape", fix="upload a vector file of trimtab")
        if shape != [model.hidden_size] or offsets[1] - offsets[0] != math.prod(shape) * 4:
            raise VectorError(
                f"tensor {name!r} has shape {shape[:4]} in {offsets[1] - offsets[0]:,} bytes",
                fix=f"one of {model.name} has shape [{model.hidden_size}] of 4 bytes each",
            )
        yield offsets[0], offsets[1]


def _sizes(given: Any) -> list[int] | None:
    """Return a list of sizes; None if it is something else."""
    return given if isinstance(given, list) and all(type(n) is int and 0 <= n < 2**62 for n in given) else None

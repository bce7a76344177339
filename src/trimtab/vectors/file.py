"""The vector's file: one safetensors file, tensors ``direction.{layer}``, and one metadata key ``trimtab``."""

from __future__ import annotations

import json
import os
import re
import secrets
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from trimtab.errors import OutputError, VectorError
from trimtab.vectors.records import Calibration, Collection, Distillation, Neutral, Reader, Reliability, ThresholdFit
from trimtab.vectors.vector import Array, BehaviourRef, ControlVector, ModelInfo

FORMAT = 1
METADATA_KEY = "trimtab"
_TENSOR_NAME = re.compile(r"direction\.(0|[1-9]\d*)")
_PICKLE_STARTS = (b"PK\x03\x04", b"\x80\x02", b"\x80\x03", b"\x80\x04", b"\x80\x05")

Finite = Annotated[float, Field(allow_inf_nan=False)]


class _Header(BaseModel):
    """The JSON beside the tensors. Unknown keys are left alone, so that a later minor addition still loads."""

    model_config = ConfigDict(extra="ignore", allow_inf_nan=False)

    format: int
    model: ModelInfo
    method: str
    behaviour: BehaviourRef
    norms: dict[int, Finite]
    weights: dict[int, Finite]
    scale: dict[str, Finite] | None
    calibration: Calibration | None = None
    reliability: Reliability | None = None
    collection: Collection | None = None
    distillation: Distillation | None = None
    neutral: Neutral | None = None
    reader: Reader | None = None
    fits: tuple[ThresholdFit, ...] = ()
    operator_scales: dict[str, dict[str, Finite]] = {}
    created: str = ""
    trimtab_version: str = ""


def save_vector(vector: ControlVector, path: Path) -> Path:
    """Write ``vector`` to ``path`` so that a reader sees the old file or the new one, never a part of it."""
    tensors = {f"direction.{layer}": np.asarray(d) for layer, d in vector.directions.items()}
    try:
        header = json.dumps(describe(vector), allow_nan=False)
    except (TypeError, ValueError) as error:
        raise VectorError(
            f"vector {vector.behaviour.name!r} cannot be written as JSON: {error}",
            fix="its records must hold plain, finite numbers",
        ) from None
    write_atomically(path, save(tensors, {METADATA_KEY: header}))
    return path


def describe(vector: ControlVector) -> dict[str, Any]:
    """Everything about a vector but its directions, as JSON: what its file says beside the tensors."""
    return {
        "format": FORMAT,
        "model": asdict(vector.model),
        "method": vector.method,
        "behaviour": asdict(vector.behaviour),
        "norms": dict(vector.norms),
        "weights": dict(vector.weights),
        "scale": dict(vector.scale) if vector.scale else None,
        "calibration": asdict(vector.calibration) if vector.calibration else None,
        "reliability": asdict(vector.reliability) if vector.reliability else None,
        "collection": asdict(vector.collection) if vector.collection else None,
        "distillation": asdict(vector.distillation) if vector.distillation else None,
        "neutral": asdict(vector.neutral) if vector.neutral else None,
        "reader": asdict(vector.reader) if vector.reader else None,
        "fits": [asdict(fit) for fit in vector.fits],
        "operator_scales": {name: dict(scale) for name, scale in vector.operator_scales.items()},
        "created": vector.created,
        "trimtab_version": vector.trimtab_version,
    }


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


def load_vector(path: Path) -> ControlVector:
    """Read and check a vector file; see ``ControlVector.load``."""
    metadata, tensors = _read_safetensors(path)
    if METADATA_KEY not in metadata:
        raise VectorError(f"{str(path)!r} is a safetensors file but not a trimtab vector", fix="check the path")
    header = _parse_header(metadata[METADATA_KEY], path)
    try:
        return ControlVector(
            model=header.model,
            directions=_directions(tensors),
            norms=header.norms,
            weights=header.weights,
            scale=header.scale,
            method=header.method,
            behaviour=header.behaviour,
            calibration=header.calibration,
            reliability=header.reliability,
            collection=header.collection,
            distillation=header.distillation,
            neutral=header.neutral,
            reader=header.reader,
            fits=header.fits,
            operator_scales=header.operator_scales,
            created=header.created,
            trimtab_version=header.trimtab_version,
        )
    except VectorError as error:
        raise VectorError(f"{str(path)!r}: {error.problem}", fix=error.fix) from None


def _read_safetensors(path: Path) -> tuple[Mapping[str, str], dict[str, Array]]:
    try:
        with path.open("rb") as file:
            start = file.read(9)
    except FileNotFoundError:
        raise VectorError(f"vector file {str(path)!r} does not exist", fix="check the path") from None
    except OSError as error:
        raise VectorError(f"vector file {str(path)!r} cannot be read: {error.strerror}") from None
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


def _parse_header(text: str, path: Path) -> _Header:
    try:
        version = json.loads(text).get("format")
    except (ValueError, AttributeError, RecursionError):
        raise VectorError(f"{str(path)!r}: its header is not JSON", fix="copy or train it again") from None
    if version != FORMAT:
        raise VectorError(f"{str(path)!r} has format {version}, this trimtab reads {FORMAT}", fix="upgrade trimtab")
    try:
        return _Header.model_validate_json(text)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        key = ".".join(map(str, first["loc"]))
        raise VectorError(
            f"{str(path)!r}: its header is wrong at {key}: {first['msg']}", fix="train it again"
        ) from None


def _directions(tensors: Mapping[str, Array]) -> dict[int, Array]:
    directions = {}
    for name, tensor in tensors.items():
        match = _TENSOR_NAME.fullmatch(name)
        if match is None:
            raise VectorError(f"unexpected tensor {name!r}", fix="only direction.{layer} belongs there")
        if tensor.dtype != np.float32:
            raise VectorError(f"tensor {name!r} is {tensor.dtype}, expected float32", fix="convert it")
        directions[int(match[1])] = tensor
    return directions

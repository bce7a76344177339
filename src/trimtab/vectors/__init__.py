"""Control vectors: the value, its arithmetic, and its file."""

from trimtab.vectors.file import describe, write_atomically
from trimtab.vectors.folder import find_vector, vector_path, vectors_folder
from trimtab.vectors.records import (
    Calibration,
    Candidate,
    Collection,
    Effect,
    HeldOut,
    Interval,
    Quality,
    Reliability,
)
from trimtab.vectors.vector import BehaviourRef, ControlVector, HasModelInfo, ModelInfo

__all__ = [
    "BehaviourRef",
    "Calibration",
    "Candidate",
    "Collection",
    "ControlVector",
    "Effect",
    "HasModelInfo",
    "HeldOut",
    "Interval",
    "ModelInfo",
    "Quality",
    "Reliability",
    "describe",
    "find_vector",
    "vector_path",
    "vectors_folder",
    "write_atomically",
]

"""Control vectors: the value, its arithmetic, and its file."""

from trimtab.stats import Interval
from trimtab.vectors.file import write_atomically
from trimtab.vectors.records import (
    PERCENTS,
    BehaviourRef,
    Calibration,
    Candidate,
    Collection,
    Distillation,
    Effect,
    HasModelInfo,
    HeldOut,
    ModelInfo,
    Neutral,
    Pool,
    Quality,
    Reader,
    Reliability,
    SafeRange,
    Spread,
    ThresholdFit,
    WrittenEffect,
)
from trimtab.vectors.vector import ControlVector, find_vector, vector_path, vectors_folder

__all__ = [
    "PERCENTS",
    "BehaviourRef",
    "Calibration",
    "Candidate",
    "Collection",
    "ControlVector",
    "Distillation",
    "Effect",
    "HasModelInfo",
    "HeldOut",
    "Interval",
    "ModelInfo",
    "Neutral",
    "Pool",
    "Quality",
    "Reader",
    "Reliability",
    "SafeRange",
    "Spread",
    "ThresholdFit",
    "WrittenEffect",
    "find_vector",
    "vector_path",
    "vectors_folder",
    "write_atomically",
]

"""Vectors of the zoo's behaviours, made when they are first wanted and kept for every model by itself."""

from __future__ import annotations

import hashlib
import re
from pathlib import Path

from trimtab.behaviours import Behaviour
from trimtab.engines import Engine
from trimtab.learning.progress import OnProgress, ignore
from trimtab.learning.training import train
from trimtab.vectors import ControlVector, ModelInfo, vectors_folder


def zoo_path(name: str, model: ModelInfo) -> Path:
    """Where the vector of a behaviour of the zoo is kept for one model: ``models/MODEL-FINGERPRINT/NAME.safetensors``.

    The folder stands in the vectors folder; models of one name and other weights have folders of their own.
    """
    stem = re.sub(r"[^A-Za-z0-9._-]+", "-", Path(model.name).name or model.name).strip("-.") or "model"
    digest = hashlib.sha256(f"{model.fingerprint}\n{model.hidden_size}\n{model.layers}".encode()).hexdigest()
    return vectors_folder() / "models" / f"{stem[:60]}-{digest[:10]}" / f"{name}.safetensors"


def zoo_vector(
    model: Engine, name: str, *, rebuild: bool = False, seed: int = 0, progress: OnProgress = ignore
) -> ControlVector:
    """The vector of a behaviour of the zoo on any model: found where it was kept, else trained and kept.

    A kept vector is trained anew if its behaviour says something else by now. An interrupted training is gone on with.

    Args:
        model: The engine.
        name: A behaviour of the zoo.
        rebuild: Train it in any case.
        seed: As for ``train``.
        progress: Called with each step of the training.

    Raises:
        BehaviourError: The zoo has no such behaviour.
        CalibrationError: No strength spends the budget on this model.
        OutputError: It cannot be kept.

    Example:
        >>> happy = zoo_vector(model, "happy")  # doctest: +SKIP
        >>> model.generate("How was your day?", steering=[(happy, 0.8)]).text  # doctest: +SKIP
    """
    behaviour = Behaviour.load(name)
    path = zoo_path(name, model.info)
    if path.is_file() and not rebuild:
        kept = ControlVector.load(path)
        if kept.behaviour.digest == behaviour.digest:
            return kept
    path.parent.mkdir(parents=True, exist_ok=True)
    vector = train(model, behaviour, seed=seed, checkpoint=path.with_suffix(".sqlite"), progress=progress)
    vector.save(path)
    return vector

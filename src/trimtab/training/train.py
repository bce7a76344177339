"""Train a control vector: pairs → hidden states → directions → calibration set → refine → calibrate."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from datetime import UTC, datetime
from pathlib import Path

import numpy as np

from trimtab.arrays import F32
from trimtab.behaviours import Behaviour
from trimtab.behaviours.pairs import build_pairs
from trimtab.defaults import BUDGET, MAX_PAIRS, METHOD, REFINE_STEPS, STATES_MEMORY, VERSION
from trimtab.engines.protocol import Gradients, Trains
from trimtab.errors import CalibrationError, ModelError, VectorError
from trimtab.training.calibrate import calibrated, check_budget
from trimtab.training.checkpoint import open_checkpoint
from trimtab.training.directions import ESTIMATORS
from trimtab.training.neutral import add_neutral
from trimtab.training.progress import OnProgress, Progress, ignore
from trimtab.training.questions import CalibrationSet
from trimtab.training.refine import PERSONAS_PHASE, checked_gradients, persona_directions, preferences
from trimtab.training.search import band_layers, chosen_layers
from trimtab.training.states import Contrast, PairInput, collect_contrast, pair_persona_answers
from trimtab.vectors import BehaviourRef, ControlVector, ModelInfo, packaged_path, vectors_folder

SOURCES = ("prompts", "responses")
DISTILLED = "distilled"
METHODS = (*ESTIMATORS, DISTILLED)


def train(
    model: Trains,
    behaviour: Behaviour,
    *,
    method: str = METHOD,
    layers: str | Sequence[int] = "auto",
    calibrate: bool = True,
    budget: float = BUDGET,
    source: str = "prompts",
    temperature: float = 0.0,
    max_pairs: int = MAX_PAIRS,
    seed: int = 0,
    check: bool = True,
    refine: int = REFINE_STEPS,
    memory: int = STATES_MEMORY,
    checkpoint: str | Path | None = None,
    progress: OnProgress = ignore,
) -> ControlVector:
    """Train a control vector for a behaviour, place it, and give its strength a unit.

    Args:
        model: An engine, from ``trimtab.load``.
        behaviour: The axis that the vector steers along.
        method: An estimator: ``mean_difference``, ``pca_center``, ``pca_diff``, ``logistic`` or ``lda``. Or
            ``distilled``: by gradient, so that either sign makes the answers of its persona likelier; it needs
            personas and uses no pairs.
        layers: ``"auto"`` sweeps single layers and bands at equal KL; or the layers themselves.
        calibrate: Find the scale at which strength ±1 spends the budget. Without it the vector steers by
            ``coefficient`` only.
        budget: Mean per-token KL(base ‖ steered) at strength ±1, in nats. 0.3 is gentle, 0.6 strong.
        source: Which hidden states: ``"prompts"``, contrasting prompts at their last token; or ``"responses"``, the
            model's own persona answers, averaged over their tokens.
        temperature: Of those answers; 0 is greedy.
        max_pairs: Upper bound on the number of contrastive pairs.
        seed: Of the random directions in the comparison, and of sampled answers; everything else is deterministic.
        check: Also measure on held-out prompts.
        refine: Steps uphill by gradient, at the budget: more effect for the same KL, for about a second each. They
            start half way between the estimator's directions and those of ``distilled``. With 0, or without gradients,
            directions stay as estimated.
        memory: Bytes that hidden states may take at a time; the number of pairs does not matter.
        checkpoint: A file that keeps results if the work is interrupted. Training again with the same arguments
            continues from there, to the same vector; the file is deleted at the end.
        progress: Called with each step of the work.

    Returns:
        A control vector with directions for every layer, and non-zero weights for the chosen ones.

    Raises:
        VectorError: There is no such method or source.
        BehaviourError: The behaviour cannot make pairs; or it has no personas, and the method is ``distilled``.
        CalibrationError: No strength spends the budget; or the method is ``distilled`` and there are no gradients.
        OutputError: The checkpoint cannot be written, or another process is using it.

    Example:
        >>> happy = train(model, Behaviour.load("happy"))  # doctest: +SKIP
        >>> happy.save("happy.safetensors")  # doctest: +SKIP
    """
    model.check_unsteered("training")
    _check_options(method, source, budget, refine, temperature=temperature, calibrate=calibrate)
    options = (method, layers, calibrate, budget, source, temperature, max_pairs, seed, check, refine, memory)
    job = json.dumps([VERSION, asdict(model.info), behaviour.digest, options], default=list)
    candidates = chosen_layers(model.info.layers, layers)
    with open_checkpoint(checkpoint, job=job) as saved:
        contrast: Contrast | None = None
        if method == DISTILLED:
            gradients = checked_gradients(model.gradients, behaviour)
        else:
            if source == "prompts":
                built = build_pairs(behaviour, model, max_pairs=max_pairs)
                pairs = [PairInput(pair.positive, pair.negative) for pair in built]
            else:
                pairs = pair_persona_answers(
                    model,
                    behaviour,
                    max_pairs=max_pairs,
                    temperature=temperature,
                    seed=seed,
                    checkpoint=saved,
                    progress=progress,
                )
            contrast = collect_contrast(model, pairs, method=method, memory=memory, checkpoint=saved, progress=progress)
            directions = {layer: contrast.direction(method, layer) for layer in range(model.info.layers)}
        asked = CalibrationSet.prepare(
            model,
            behaviour if calibrate or contrast is None else None,
            check=calibrate and check,
            refine=refine > 0 or contrast is None,
            checkpoint=saved,
            progress=progress,
        )
        if contrast is None:
            directions = _persona_directions(gradients, asked, progress)
        elif calibrate and refine and (halfway := _halfway(directions, asked, progress)) is not None:
            method, directions = f"{method}+personas", halfway
        steered = candidates[0] if len(candidates) == 1 else band_layers(model.info.layers)
        vector = ControlVector(
            model=model.info,
            directions=directions,
            norms=asked.norms(directions),
            weights={layer: float(layer in steered) for layer in directions},
            method=method,
            behaviour=BehaviourRef(behaviour.name, behaviour.digest),
            created=datetime.now(UTC).isoformat(timespec="seconds"),
            trimtab_version=VERSION,
            collection=None if contrast is None else contrast.collection,
        )
        if calibrate:
            vector = calibrated(
                asked, vector, candidates, budget=budget, refine_steps=refine, seed=seed, progress=progress
            )
        else:
            vector = add_neutral(asked, vector, progress=progress)
    if contrast is None:
        return vector
    return replace(vector, reliability=contrast.reliability(vector.directions, vector.layers))


def _check_options(
    method: str, source: str, budget: float, refine: int, *, temperature: float, calibrate: bool
) -> None:
    """Refuse options that do not exist, and options that the others leave without effect."""
    if method not in METHODS:
        raise VectorError(f"no method named {method!r}", fix=f"use one of {', '.join(METHODS)}")
    if source not in SOURCES:
        raise VectorError(f"no source named {source!r}", fix=f"use one of {', '.join(SOURCES)}")
    if method == DISTILLED and source != SOURCES[0]:
        raise VectorError(f"the method {DISTILLED} has no pairs to take from a source", fix="leave the source out")
    if source == SOURCES[0] and temperature != 0:
        raise VectorError("a temperature has no effect on prompts", fix="use it with source='responses'")
    if not calibrate and budget != BUDGET:
        raise VectorError("without calibration no budget is spent", fix="leave the budget out")
    check_budget(budget)
    if refine < 0:
        raise CalibrationError(f"{refine} steps cannot be taken", fix="give 0 or more")


def _halfway(directions: Mapping[int, F32], asked: CalibrationSet, progress: OnProgress) -> dict[int, F32] | None:
    """Return the bisectors of the estimated directions and the gradient of the personas' answers.

    The estimate says where the poles differ, the gradient which way answers are moved; steps uphill from between them
    come further than from either. None where there are no gradients, which refining reports.
    """
    if asked.model.gradients is None or not preferences(asked.persona_questions):
        return None
    try:
        slopes = _persona_directions(asked.model.gradients, asked, progress)
    except ModelError:
        return None
    except CalibrationError as error:  # personas that change nothing are no reason to give up
        progress(Progress(PERSONAS_PHASE, 1, 1, note=f"steps begin at the estimate: {error.problem}"))
        return None
    sums = {layer: direction + slopes[layer] for layer, direction in directions.items()}
    return {layer: (total / np.linalg.norm(total)).astype(np.float32) for layer, total in sums.items()}


def _persona_directions(gradients: Gradients, asked: CalibrationSet, progress: OnProgress) -> dict[int, F32]:
    """Return of every layer the direction along which the personas' answers become likelier."""
    info = asked.model.info
    return persona_directions(
        gradients,
        asked.persona_questions,
        depth=info.layers,
        width=info.hidden_size,
        checkpoint=asked.checkpoint,
        progress=progress,
    )


def zoo_path(name: str, model: ModelInfo) -> Path:
    """Return the path of a zoo behaviour's vector for one model: ``models/MODEL-FINGERPRINT/NAME.safetensors``.

    It lies in the vectors folder; models with the same name and other weights have other folders.
    """
    stem = re.sub(r"[^A-Za-z0-9._-]+", "-", Path(model.name).name or model.name).strip("-.") or "model"
    digest = hashlib.sha256(f"{model.fingerprint}\n{model.hidden_size}\n{model.layers}".encode()).hexdigest()
    return vectors_folder() / "models" / f"{stem[:60]}-{digest[:10]}" / f"{name}.safetensors"


def existing_zoo_vector(name: str, model: ModelInfo, *, folder: Path | None = None) -> ControlVector | None:
    """Return the vector of a zoo behaviour for a model, from the package or a former training; None without one.

    Of both, the newer one. A vector of other weights, or of a behaviour that has changed since, is none.

    Args:
        name: A behaviour of the zoo.
        model: The model.
        folder: The only folder to look in.
    """
    digest = Behaviour.load(name).digest
    paths = (packaged_path(name), zoo_path(name, model)) if folder is None else (folder / f"{name}.safetensors",)
    vectors = [ControlVector.load(path) for path in paths if path is not None and path.is_file()]
    usable = [each for each in vectors if each.behaviour.digest == digest and each.model.matches(model)]
    return max(usable, key=lambda vector: vector.created, default=None)


def zoo_vector(
    model: Trains,
    name: str,
    *,
    folder: Path | None = None,
    rebuild: bool = False,
    seed: int = 0,
    progress: OnProgress = ignore,
) -> ControlVector:
    """Load the vector of a zoo behaviour for any model, or train and save it.

    Those of the default model come with trimtab. A saved vector is trained again if its behaviour has changed since. An
    interrupted training continues.

    Args:
        model: The engine.
        name: A behaviour of the zoo.
        folder: Folder of its file, and the only one to look in; by default the model's in the vectors folder.
        rebuild: Train it even if it exists.
        seed: As for ``train``.
        progress: Called with each step of the training.

    Raises:
        BehaviourError: The zoo has no such behaviour.
        CalibrationError: No strength spends the budget on this model.
        OutputError: It cannot be saved.

    Example:
        >>> happy = zoo_vector(model, "happy")  # doctest: +SKIP
        >>> model.generate("How was your day?", steering=[(happy, 0.5)]).text  # doctest: +SKIP
    """
    behaviour = Behaviour.load(name)
    existing = None if rebuild else existing_zoo_vector(name, model.info, folder=folder)
    if existing is not None:
        return existing
    path = zoo_path(name, model.info) if folder is None else folder / f"{name}.safetensors"
    path.parent.mkdir(parents=True, exist_ok=True)
    vector = train(model, behaviour, seed=seed, checkpoint=path.with_suffix(".sqlite"), progress=progress)
    vector.save(path)
    return vector

"""From a behaviour to a calibrated control vector: contrast, collect, subtract and reduce, place, calibrate, check."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

import numpy as np

from trimtab.arrays import F32
from trimtab.behaviours import Behaviour
from trimtab.behaviours.pairs import MAX_PAIRS, build_pairs
from trimtab.engines import Engine
from trimtab.engines.protocol import Gradients
from trimtab.errors import CalibrationError, ModelError, VectorError
from trimtab.training.calibrate import BUDGET, REFINE, CalibrationSet, calibrated, check_budget
from trimtab.training.checkpoint import Checkpoint, CheckpointedEngine, NoCheckpoint, noted
from trimtab.training.directions import ESTIMATORS
from trimtab.training.progress import OnProgress, Progress, ignore
from trimtab.training.refine import PERSONAS_PHASE, checked_gradients, persona_directions, preferences
from trimtab.training.search import (
    band_layers,
    chosen_layers,
)
from trimtab.training.states import MEMORY, Contrast, Contrasted, answers_in_character, collect_contrast
from trimtab.vectors import BehaviourRef, ControlVector, ModelInfo, Reliability, vectors_folder
from trimtab.version import VERSION

SOURCES = ("prompts", "responses")
DISTILLED = "distilled"
METHODS = (*ESTIMATORS, DISTILLED)


def train(
    model: Engine,
    behaviour: Behaviour,
    *,
    method: str = "mean_difference",
    layers: str | Sequence[int] = "auto",
    calibrate: bool = True,
    budget: float = BUDGET,
    source: str = "prompts",
    temperature: float = 0.0,
    max_pairs: int = MAX_PAIRS,
    seed: int = 0,
    check: bool = True,
    refine: int = REFINE,
    memory: int = MEMORY,
    checkpoint: str | Path | None = None,
    progress: OnProgress = ignore,
) -> ControlVector:
    """Train a control vector for a behaviour, place it, and give its strength a unit.

    Args:
        model: An engine, from ``trimtab.load``.
        behaviour: What the vector is to stand for.
        method: An estimator: ``mean_difference``, ``pca_center``, ``pca_diff``, ``logistic`` or ``lda``. Or
            ``distilled``: by gradient, so that either sign makes the answers of its persona likelier; it needs
            personas, and pairs play no part.
        layers: ``"auto"`` sweeps single layers and bands at equal KL; or the layers themselves.
        calibrate: Find the scale at which strength ±1 spends the budget. Without it the vector steers by
            ``coefficient`` only.
        budget: Mean per-token KL(base ‖ steered) at strength ±1, in nats. 0.3 is gentle, 0.6 strong.
        source: Whose states: ``"prompts"``, contrasting prompts at their last token; or ``"responses"``, the model's
            own answers in the character of either pole, averaged over their tokens.
        temperature: Of those answers; 0 is greedy.
        max_pairs: Upper bound on the number of contrastive pairs.
        seed: Of the random directions in the comparison, and of sampled answers; everything else is deterministic.
        check: Also measure on held-out prompts.
        refine: Steps uphill by gradient, at the budget: more effect for the same KL, for about a second each. They
            begin half way from the estimator's directions to the slope that ``distilled`` takes. 0 leaves directions as
            they were estimated, and so it is where the engine has no gradients.
        memory: Bytes that hidden states may take at a time; the number of pairs does not matter.
        checkpoint: A file that keeps what was found out if the work is interrupted. Training again with the same
            arguments goes on from there, to the same vector; the file is deleted at the end.
        progress: Called with each step of the work.

    Returns:
        A control vector with directions for every layer, and non-zero weights for the chosen ones.

    Raises:
        VectorError: There is no such method or source.
        BehaviourError: The behaviour cannot make pairs; or it has no personas, and the method is ``distilled``.
        CalibrationError: No strength spends the budget; or the method is ``distilled`` and there is nothing to be had
            by gradient.

    Example:
        >>> happy = train(model, Behaviour.load("happy"))  # doctest: +SKIP
        >>> happy.save("happy.safetensors")  # doctest: +SKIP
    """
    if method not in METHODS:
        raise VectorError(f"no method named {method!r}", fix=f"use one of {', '.join(METHODS)}")
    if source not in SOURCES:
        raise VectorError(f"no source named {source!r}", fix=f"use one of {', '.join(SOURCES)}")
    if method == DISTILLED and source != SOURCES[0]:
        raise VectorError(f"the method {DISTILLED} has no pairs to take from a source", fix="leave the source out")
    check_budget(budget)
    if refine < 0:
        raise CalibrationError(f"{refine} steps cannot be taken", fix="give 0 or more")
    plan = _Plan(
        method,
        layers if isinstance(layers, str) else tuple(layers),
        calibrate,
        budget,
        source,
        temperature,
        max_pairs,
        seed,
        check,
        refine,
        memory,
    )
    if checkpoint is None:
        return _trained(model, behaviour, plan, NoCheckpoint(), progress)
    with noted(checkpoint, job=plan.job(model.info, behaviour)) as journal:
        return _trained(CheckpointedEngine(model, journal), behaviour, plan, journal, progress)


@dataclass(frozen=True)
class _Plan:
    """What was asked of ``train``, which together with the model and the behaviour decides the result."""

    method: str
    layers: str | tuple[int, ...]
    calibrate: bool
    budget: float
    source: str
    temperature: float
    max_pairs: int
    seed: int
    check: bool
    refine: int
    memory: int

    def job(self, model: ModelInfo, behaviour: Behaviour) -> str:
        """A name for exactly this work."""
        return json.dumps([VERSION, asdict(model), behaviour.digest, asdict(self)], sort_keys=True)


def _trained(
    model: Engine, behaviour: Behaviour, plan: _Plan, journal: Checkpoint, progress: OnProgress
) -> ControlVector:
    candidates = chosen_layers(model.info.layers, plan.layers)
    if plan.method == DISTILLED:
        found = _from_personas(model, behaviour, plan, journal, progress)
    else:
        found = _from_pairs(model, behaviour, plan, journal, progress)
        found = _halfway(model, found, journal, progress) if plan.calibrate and plan.refine else found
    steered = candidates[0] if len(candidates) == 1 else band_layers(model.info.layers)
    vector = ControlVector(
        model=model.info,
        directions=found.directions,
        norms=found.bench.norms(found.directions),
        weights={layer: float(layer in steered) for layer in found.directions},
        method=found.method,
        behaviour=BehaviourRef(behaviour.name, behaviour.digest),
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        trimtab_version=VERSION,
        collection=None if found.contrast is None else found.contrast.collection,
    )
    if plan.calibrate:
        vector = calibrated(
            found.bench,
            vector,
            candidates,
            budget=plan.budget,
            refine=plan.refine,
            seed=plan.seed,
            journal=journal,
            progress=progress,
        )
    else:
        vector = found.bench.with_neutral(vector, journal=journal, progress=progress)
    return vector if found.contrast is None else replace(vector, reliability=_reliability(found.contrast, vector))


@dataclass(frozen=True)
class _Found:
    """Directions, before they are placed.

    Attributes:
        method: How they were found.
        directions: Of every layer, unit length.
        contrast: Of the pairs that they were estimated from; None where there were none.
        bench: Questions that the model has answered.
    """

    method: str
    directions: Mapping[int, F32]
    contrast: Contrast | None
    bench: CalibrationSet


def _from_pairs(model: Engine, behaviour: Behaviour, plan: _Plan, journal: Checkpoint, progress: OnProgress) -> _Found:
    contrast = collect_contrast(
        model,
        _pairs(model, behaviour, plan, progress),
        method=plan.method,
        memory=plan.memory,
        journal=journal,
        progress=progress,
    )
    directions = {layer: contrast.direction(plan.method, layer) for layer in range(model.info.layers)}
    check = plan.calibrate and plan.check
    asked = behaviour if plan.calibrate else None
    return _Found(
        plan.method,
        directions,
        contrast,
        CalibrationSet.prepare(model, asked, check=check, refine=plan.refine > 0, progress=progress),
    )


def _halfway(model: Engine, found: _Found, journal: Checkpoint, progress: OnProgress) -> _Found:
    """Directions half way from the estimate to where the personas' answers become likelier at once.

    The one tells where the poles lie apart, the other which way answers are moved; steps uphill from between them come
    further than from either. As they were where there are no gradients, which refining tells.
    """
    if model.gradients is None or not preferences(found.bench.told):
        return found
    try:
        slopes = _slopes(model.gradients, found.bench, journal, progress)
    except ModelError:
        return found
    except CalibrationError as error:  # personas that change nothing are no reason to give up
        progress(Progress(PERSONAS_PHASE, 1, 1, note=f"steps begin at the estimate: {error.problem}"))
        return found
    sums = {layer: direction + slopes[layer] for layer, direction in found.directions.items()}
    directions = {layer: (total / np.linalg.norm(total)).astype(np.float32) for layer, total in sums.items()}
    return replace(found, method=f"{found.method}+personas", directions=directions)


def _from_personas(
    model: Engine, behaviour: Behaviour, plan: _Plan, journal: Checkpoint, progress: OnProgress
) -> _Found:
    gradients = checked_gradients(model.gradients, behaviour)
    bench = CalibrationSet.prepare(
        model, behaviour, check=plan.calibrate and plan.check, refine=True, progress=progress
    )
    return _Found(DISTILLED, _slopes(gradients, bench, journal, progress), None, bench)


def _slopes(gradients: Gradients, bench: CalibrationSet, journal: Checkpoint, progress: OnProgress) -> dict[int, F32]:
    """Of every layer the direction along which the personas' answers become likelier."""
    info = bench.model.info
    return persona_directions(
        gradients, bench.told, depth=info.layers, width=info.hidden_size, journal=journal, progress=progress
    )


def _pairs(model: Engine, behaviour: Behaviour, plan: _Plan, progress: OnProgress) -> list[Contrasted]:
    if plan.source == "responses":
        return answers_in_character(
            model,
            behaviour,
            max_pairs=plan.max_pairs,
            temperature=plan.temperature,
            seed=plan.seed,
            progress=progress,
        )
    pairs = build_pairs(behaviour, model, max_pairs=plan.max_pairs)
    return [Contrasted(pair.positive, pair.negative) for pair in pairs]


def _reliability(contrast: Contrast, vector: ControlVector) -> Reliability:
    cosines = {layer: contrast.sums.pairwise_cosine(layer) for layer in vector.directions}
    separations = [contrast.separation(vector.directions[layer], layer) for layer in vector.layers]
    return Reliability(
        pairs=contrast.sums.pairs,
        pairwise_cosine=float(np.mean([cosines[layer] for layer in vector.layers])),
        separation=float(np.mean(separations)),
        cosine_by_layer=cosines,
    )


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

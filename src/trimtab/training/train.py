"""Train a control vector: pairs → hidden states → directions → calibration set → refine → calibrate."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

from trimtab.behaviours import Behaviour
from trimtab.behaviours.pairs import build_pairs
from trimtab.defaults import BUDGET, MAX_PAIRS, METHOD, STATES_MEMORY, VERSION
from trimtab.engines.protocol import Trains
from trimtab.errors import CalibrationError, VectorError
from trimtab.training.calibrate import DISTILLED, calibrated, check_budget
from trimtab.training.checkpoint import open_checkpoint
from trimtab.training.directions import ESTIMATORS
from trimtab.training.neutral import add_neutral
from trimtab.training.progress import OnProgress, PairAgreement, PoleAnswers, Progress, ignore
from trimtab.training.questions import EFFECT_QUESTIONS, CalibrationSet
from trimtab.training.questions import PHASE as ANSWER_PHASE
from trimtab.training.readers import add_reader
from trimtab.training.refine import checked_gradients, contrasts, persona_directions
from trimtab.training.search import DEFAULT_BAND, WIDE_BAND, band_layers, chosen_layers
from trimtab.training.states import COLLECTING, Contrast, PairInput, collect_contrast, pair_persona_answers
from trimtab.vectors import BehaviourRef, ControlVector, ModelInfo, packaged_path, vectors_folder

SOURCES = ("prompts", "responses")
METHODS = (*ESTIMATORS, DISTILLED)
DISTILLED_QUESTIONS = 24  # of the gradient, where the effort has no steps uphill
SHOWN_ANSWERS = 3  # questions whose persona answers are shown while the work goes on


@dataclass(frozen=True)
class Effort:
    """Amount of work of a training.

    Attributes:
        questions: Calibration questions that steps uphill use.
        steps: Steps uphill.
        sweep: Whether layers are chosen by a sweep; otherwise a wide band is steered, in which steps uphill settle how
            much each layer adds.
        kl: Questions on which the scale is calibrated.
        held_out: Questions of the check; 0 leaves it out.
        halvings: Of the strengths from 0 to 1 in the search for the safe range.
    """

    questions: int
    steps: int
    sweep: bool
    kl: int
    held_out: int
    halvings: int = 2


EFFORTS: Mapping[str, Effort] = {
    "quick": Effort(questions=0, steps=0, sweep=False, kl=8, held_out=0),
    "default": Effort(questions=32, steps=24, sweep=False, kl=18, held_out=8),
    "thorough": Effort(questions=96, steps=72, sweep=True, kl=18, held_out=16),
}
"""Efforts by name: without steps and check, in a few seconds; as usual; and the best that can be had."""


def train(
    model: Trains,
    behaviour: Behaviour,
    *,
    effort: str = "default",
    method: str = METHOD,
    layers: str | Sequence[int] = "auto",
    calibrate: bool = True,
    budget: float = BUDGET,
    source: str = "prompts",
    temperature: float = 0.0,
    max_pairs: int = MAX_PAIRS,
    seed: int = 0,
    check: bool = True,
    refine: int | None = None,
    memory: int = STATES_MEMORY,
    checkpoint: str | Path | None = None,
    progress: OnProgress = ignore,
) -> ControlVector:
    """Train a control vector for a behaviour, place it, and give its strength a unit.

    Args:
        model: An engine, from ``trimtab.load``.
        behaviour: The axis that the vector steers along.
        effort: ``"quick"``: the direction and its scale; no safe range is measured. ``"default"``: with steps uphill
            and a check, in under a minute on two cores for the default model. ``"thorough"``: with more of both, and a
            sweep over layers.
        method: An estimator: ``mean_difference``, ``pca_center``, ``pca_diff``, ``logistic`` or ``lda``. Or
            ``distilled``: by gradient alone, so that either sign makes likelier what its persona would write; it needs
            personas and uses no pairs.
        layers: ``"auto"``: a wide band, or what a sweep over single layers and bands at equal KL finds, by effort; or
            the layers themselves.
        calibrate: Find the scale at which strength ±1 spends the budget. Without it the vector steers by
            ``coefficient`` only.
        budget: Mean per-token KL(base ‖ steered) at strength ±1, in nats. 0.3 is gentle, 0.6 strong.
        source: Which hidden states: ``"prompts"``, contrasting prompts at their last token; or ``"responses"``, the
            model's own persona answers, averaged over their tokens.
        temperature: Of those answers; 0 is greedy.
        max_pairs: Upper bound on the number of contrastive pairs.
        seed: Of the random directions in the comparison, and of sampled answers; everything else is deterministic.
        check: Also measure the safe range, and the effects on held-out prompts; never with ``"quick"``.
        refine: Steps uphill by gradient, at the budget: more effect for the same KL. They start half way between the
            estimator's directions and those of ``distilled``. None takes as many as the effort does. With 0, or without
            gradients, directions stay as estimated.
        memory: Bytes that hidden states may take at a time; the number of pairs does not matter.
        checkpoint: A file that keeps results if the work is interrupted. Training again with the same arguments
            continues from there, to the same vector; the file is deleted at the end.
        progress: Called with each step of the work.

    Returns:
        A control vector with directions for every layer, and non-zero weights for the chosen ones. Pairs of requests
        also give it the reader of ``fit_reader``.

    Raises:
        VectorError: There is no such effort, method or source.
        BehaviourError: The behaviour cannot make pairs; or it has no personas, and the method is ``distilled``.
        CalibrationError: No strength spends the budget; or the method is ``distilled`` and there are no gradients.
        OutputError: The checkpoint cannot be written, or another process is using it.

    Example:
        >>> happy = train(model, Behaviour.load("happy"))  # doctest: +SKIP
        >>> happy.save("happy.safetensors")  # doctest: +SKIP
    """
    model.check_unsteered("training")
    if effort not in EFFORTS:
        raise VectorError(f"no effort named {effort!r}", fix=f"use one of {', '.join(EFFORTS)}")
    amount = EFFORTS[effort]
    steps = amount.steps if refine is None else refine
    _check_options(method, source, budget, steps, temperature=temperature, calibrate=calibrate)
    options = (effort, method, layers, calibrate, budget, source, temperature, max_pairs, seed, check, steps, memory)
    job = json.dumps([VERSION, asdict(model.info), behaviour.digest, options], default=list)
    refines = steps > 0 and model.gradients is not None and bool(behaviour.positive.personas)
    if layers == "auto" and not (calibrate and (amount.sweep or (effort != "quick" and not refines))):
        layers = band_layers(model.info.layers, WIDE_BAND if refines else DEFAULT_BAND)
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
            agreed = contrast.reliability(directions, band_layers(model.info.layers))
            agreement = PairAgreement(agreed.pairs, agreed.pairwise_cosine, agreed.separation)
            progress(Progress(COLLECTING, 2 * len(pairs), 2 * len(pairs), finding=agreement))
        asked = CalibrationSet.prepare(
            model,
            behaviour if calibrate or contrast is None else None,
            count=(amount.questions or DISTILLED_QUESTIONS) if steps or contrast is None else 0,
            personas=EFFECT_QUESTIONS if len(candidates) > 1 else 0,
            kl=amount.kl,
            held_out=amount.held_out if calibrate and check else 0,
            checkpoint=saved,
            progress=progress,
        )
        for question in asked.questions[:SHOWN_ANSWERS]:
            if (given := question.persona_answers) is not None:
                shown = PoleAnswers(question.text, model.decode(given.positive), model.decode(given.negative))
                progress(Progress(ANSWER_PHASE, 1, 1, finding=shown))
        if contrast is None:
            items = contrasts(model, behaviour, asked.calibration)
            directions = persona_directions(
                gradients.ratio_gradients(items, bf16=True),
                questions=len(items),
                layers=range(model.info.layers),
                width=model.info.hidden_size,
                checkpoint=saved,
                progress=progress,
            )
        steered = candidates[0] if len(candidates) == 1 else band_layers(model.info.layers)
        vector = ControlVector(
            model=model.info,
            directions=directions,
            norms=asked.norms(directions),
            weights={layer: float(layer in steered) for layer in directions},
            method=method,
            effort=effort,
            behaviour=BehaviourRef(
                behaviour.name, behaviour.digest, behaviour.positive.label, behaviour.negative.label
            ),
            created=datetime.now(UTC).isoformat(timespec="seconds"),
            trimtab_version=VERSION,
            collection=None if contrast is None else contrast.collection,
        )
        if calibrate:
            vector = calibrated(
                asked,
                vector,
                candidates,
                budget=budget,
                refine_steps=steps,
                halvings=amount.halvings,
                seed=seed,
                progress=progress,
            )
        else:
            vector = add_neutral(asked, vector, progress=progress)
    if contrast is None:
        return vector
    vector = replace(vector, reliability=contrast.reliability(vector.directions, vector.layers))
    requests = behaviour.pairs[:max_pairs] if source == "prompts" else ()
    return add_reader(model, vector, requests, seed=seed, progress=progress)


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


def zoo_path(name: str, model: ModelInfo) -> Path:
    """Return the path of a zoo behaviour's vector for one model: ``models/MODEL-FINGERPRINT/NAME.safetensors``.

    It lies in the vectors folder; models with the same name and other weights have other folders.
    """
    stem = re.sub(r"[^A-Za-z0-9._-]+", "-", Path(model.name).name or model.name).strip("-.") or "model"
    digest = hashlib.sha256(f"{model.fingerprint}\n{model.hidden_size}\n{model.layers}".encode()).hexdigest()
    return vectors_folder() / "models" / f"{stem[:60]}-{digest[:10]}" / f"{name}.safetensors"


def existing_zoo_vector(name: str, model: ModelInfo, *, folder: Path | None = None) -> ControlVector | None:
    """Return the vector of a zoo behaviour for a model, from the package or a former training; None without one.

    Of both, the newer one; on a tie the saved one, whose safe range may be measured again. A vector of other weights,
    or of a behaviour that has changed since, is none.

    Args:
        name: A behaviour of the zoo.
        model: The model.
        folder: The only folder to look in.
    """
    digest = Behaviour.load(name).digest
    paths = (zoo_path(name, model), packaged_path(name)) if folder is None else (folder / f"{name}.safetensors",)
    vectors = [ControlVector.load(path) for path in paths if path is not None and path.is_file()]
    usable = [each for each in vectors if each.behaviour.digest == digest and each.model.matches(model)]
    return max(usable, key=lambda vector: vector.created, default=None)


def zoo_vector(
    model: Trains,
    name: str,
    *,
    effort: str = "default",
    folder: Path | None = None,
    rebuild: bool = False,
    seed: int = 0,
    progress: OnProgress = ignore,
) -> ControlVector:
    """Load the vector of a zoo behaviour for any model, or train and save it.

    A vector in the package is used for the model with its fingerprint. A saved one is trained again if its behaviour
    has changed since. An interrupted training continues.

    Args:
        model: The engine.
        name: A behaviour of the zoo.
        effort: Of a training, as for ``train``.
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
    vector = train(
        model, behaviour, effort=effort, seed=seed, checkpoint=path.with_suffix(".sqlite"), progress=progress
    )
    vector.save(path)
    return vector

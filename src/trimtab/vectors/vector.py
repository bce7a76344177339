"""The control vector: one direction per layer, with everything that makes it portable.

What is added to the output of block ``l`` at strength ``s`` is exactly

    |s| · scale[sign(s)] · weights[l] · norms[l] · sign(s) · direction[l]
"""

from __future__ import annotations

import json
import math
import os
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, is_dataclass, replace
from html import escape
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from trimtab.arrays import F32, F64, ArrayValue, without_proxies
from trimtab.errors import SteeringError, VectorError, VectorMismatchError, near_names
from trimtab.vectors.file import SUFFIX, check_suffix, expanded, read_safetensors, user_folder, write_safetensors
from trimtab.vectors.records import (
    FORMAT,
    HEADER_FIELDS,
    BehaviourRef,
    Calibration,
    Collection,
    Distillation,
    HasModelInfo,
    Header,
    ModelInfo,
    Neutral,
    Reader,
    Reliability,
    SafeRange,
    ThresholdFit,
    layer_range,
)

METADATA_KEY = "trimtab"
UNNAMED = BehaviourRef("unnamed", "")
_TENSOR_NAME = re.compile(r"(direction|probe)\.(0|[1-9]\d*)")
UNIT_TOLERANCE = 1e-3
CANCELLED = 1e-7  # what remains of two terms that is smaller than this part of them is rounding
DEFAULT_STRENGTH = 0.5
PACKAGED = Path(__file__).with_name("zoo")  # vectors of the default model
ARITHMETIC = "arithmetic"  # method of mixes
LONGEST_ADDITION = float(np.finfo(np.float32).max) / 2  # room for directions a little longer than 1


@dataclass(frozen=True, eq=False)
class ControlVector(ArrayValue):
    """One unit direction per layer, with what turns a strength into an addition.

    Arithmetic (``+``, ``-``, ``* number``, ``/ number``, unary minus) acts on raw coefficients: on what strength +1
    adds. The ``+`` side of a mix is therefore exact; its ``-`` side has one scale for all layers, the closest in the
    least-squares sense, which is exact too when the parts have the same ratio of ``-`` to ``+``. A mix carries no
    calibration record, because its KL was not measured.

    Attributes:
        model: The model that it belongs to.
        directions: Layer (0-based block) to unit direction ``[hidden]``, float32; + is the positive pole.
        norms: Layer to mean hidden-state norm on neutral text.
        weights: Layer to share; 0 for layers that are not steered.
        scale: ``{"+": …, "-": …}``, the multiplier of each sign at strength 1; None if never calibrated.
        method: The estimator that made the directions.
        behaviour: The behaviour that it was made from.
        safe: Strengths at which text holds together; None if that was never measured.
        calibration: Record of the calibration that gave ``scale``.
        reliability: Agreement of the contrastive pairs.
        collection: Cost of collecting the hidden states.
        distillation: Distance to the prompt that it was distilled from, if it was.
        neutral: Projections of neutral text, against which readings and bounds are measured; None if not measured.
        reader: Layers and pooling for reading; None reads it at its steered layers, over a text's words.
        probes: Layer to unit direction ``[hidden]`` that it is read along, where other ones read better than those that
            steer; empty where it is read along its directions.
        fits: Readings of texts on which a condition should not fire.
        operator_scales: ``scale`` of other operators than adding, by name, where they were calibrated.
        effort: Effort of its training; ``"quick"`` means that it was neither refined nor checked.
        created: ISO 8601 time.
        trimtab_version: The version that made it.

    Example:
        >>> info = ModelInfo("m", "Llama", 2, 1, "")
        >>> v = ControlVector(model=info, directions={0: np.array([0.6, 0.8], np.float32)}, norms={0: 10.0},
        ...                   weights={0: 1.0}, scale={"+": 0.1, "-": 0.2})
        >>> (2 * v).addition(strength=-1)[0]
        array([-2.4, -3.2], dtype=float32)
    """

    model: ModelInfo
    directions: Mapping[int, F32]
    norms: Mapping[int, float]
    weights: Mapping[int, float]
    scale: Mapping[str, float] | None = None
    method: str = "unknown"
    behaviour: BehaviourRef = UNNAMED
    safe: SafeRange | None = None
    calibration: Calibration | None = field(default=None, repr=False)
    reliability: Reliability | None = field(default=None, repr=False)
    collection: Collection | None = field(default=None, repr=False)
    distillation: Distillation | None = field(default=None, repr=False)
    neutral: Neutral | None = field(default=None, repr=False)
    reader: Reader | None = field(default=None, repr=False)
    probes: Mapping[int, F32] = field(default_factory=dict, repr=False)
    fits: tuple[ThresholdFit, ...] = field(default=(), repr=False)
    operator_scales: Mapping[str, Mapping[str, float]] = field(default_factory=dict, repr=False)
    effort: str = ""
    created: str = ""
    trimtab_version: str = ""

    def __post_init__(self) -> None:
        freeze = object.__setattr__
        freeze(self, "directions", MappingProxyType(_checked_directions(self, "directions")))
        freeze(self, "probes", MappingProxyType(_checked_directions(self, "probes")))
        if self.probes and (self.reader is None or not set(self.reader.layers) <= set(self.probes)):
            raise VectorError("a vector with probes has no reader at their layers", fix="give it a reader")
        for name in ("norms", "weights"):
            freeze(self, name, MappingProxyType(_checked_numbers(self, name)))
        if self.scale is not None:
            freeze(self, "scale", MappingProxyType(_checked_scale(self.scale)))
        scales = {name: MappingProxyType(_checked_scale(scale)) for name, scale in self.operator_scales.items()}
        freeze(self, "operator_scales", MappingProxyType(scales))

    def __repr__(self) -> str:
        state = "calibrated" if self.scale else "uncalibrated"
        layers = f"layers {self.layers[0]}-{self.layers[-1]}" if self.layers else "no layers"
        return f"<ControlVector {self.behaviour.name!r} for {self.model.name}, {layers}, {state}>"

    def _repr_html_(self) -> str:
        """Show the vector's card in a notebook."""
        rows = "".join(f"<tr><th>{escape(name)}</th><td>{escape(fact)}</td></tr>" for name, fact in self._facts())
        return f"<table><caption>{escape(self.behaviour.name)}</caption>{rows}</table>"

    def _facts(self) -> Iterable[tuple[str, str]]:
        yield "model", f"{self.model.name} ({self.model.layers} layers of {self.model.hidden_size})"
        yield "estimator", self.method + (" (quick: neither refined nor checked)" if self.effort == "quick" else "")
        yield "layers", layer_range(self.layers)
        for sign, pole in (("+", "positive"), ("-", "negative")):
            yield f"scale {sign} ({pole} pole)", f"{self.scale[sign]:.4g}" if self.scale else "not calibrated"
        if self.calibration is not None:
            yield "budget", f"{self.calibration.budget:g} nats per token at strength 1"
        if self.safe is not None:
            yield "safe range", str(self.safe)
        if self.calibration is not None and (held_out := self.calibration.held_out) is not None:
            for written in held_out.written:
                yield "written effect", str(written)
            if held_out.effect is not None:
                yield "preference swing", f"{held_out.effect.swing.value:.2f} nats per token"
        if self.reader is not None and self.reader.auroc is not None:
            yield "AUROC", f"{self.reader.auroc:.3f} at layers {layer_range(self.reader.layers)}"
        if self.created:
            yield "created", self.created

    @property
    def layers(self) -> tuple[int, ...]:
        """Return the steered layers: those of non-zero weight, in order."""
        return tuple(layer for layer in sorted(self.weights) if self.weights[layer] != 0.0)

    def addition(
        self,
        strength: float | None = None,
        *,
        coefficient: float | None = None,
        layers: Sequence[int] | None = None,
        operator: str = "add",
    ) -> dict[int, F32]:
        """Return the addition to each layer's output.

        Args:
            strength: The calibrated dial; 0 is off, ±1 spends the budget.
            coefficient: Instead of a strength: the raw multiplier of ``weights[l] · norms[l] · direction[l]``.
            layers: Other layers than the vector's own; see ``multipliers``.
            operator: Whose strength it is: ``"add"`` or ``"add_preserving_norm"``.

        Returns:
            Layer to float32 ``[hidden]``; empty at 0.

        Raises:
            SteeringError: The number is not finite or too large, both or neither are given, or the vector has no
                strength unit.
        """
        multipliers = self.multipliers(strength, coefficient=coefficient, layers=layers, operator=operator)
        lengths = {layer: multiplier * self.norms[layer] for layer, multiplier in multipliers.items()}
        if not all(abs(length) <= LONGEST_ADDITION for length in lengths.values()):
            amount = strength if coefficient is None else coefficient
            raise SteeringError(f"{amount:g} of {self.behaviour.name!r} overflows float32", fix="give a smaller number")
        return {layer: np.float32(length) * self.directions[layer] for layer, length in lengths.items()}

    @property
    def default_strength(self) -> float:
        """Return the strength that the vector has where none is given: the positive one of ``default_strengths``.

        Raises:
            SteeringError: Text holds together at no positive strength.
        """
        strengths = self.default_strengths
        if "+" not in strengths:
            assert self.safe is not None
            raise SteeringError(
                f"at no positive strength of {self.behaviour.name!r} does the text hold together "
                f"({self.safe.reasons['+']})",
                fix=f"give a strength, such as {self.behaviour.name}:0.2",
            )
        return strengths["+"]

    @property
    def default_strengths(self) -> dict[str, float]:
        """Return the default strength of each sign: ±0.5, or the end of the safe range if nearer to 0.

        It is ±1 for a mix, whose parts were given their strengths, and for a vector that was distilled from a prompt,
        which is at 1 what the prompt asks for. A sign whose text holds together nowhere is left out.
        """
        if self.method == ARITHMETIC or self.distillation is not None:
            return {"+": 1.0, "-": -1.0}
        if self.safe is None:
            return {"+": DEFAULT_STRENGTH, "-": -DEFAULT_STRENGTH}
        ends = {"+": min(DEFAULT_STRENGTH, self.safe.high), "-": max(-DEFAULT_STRENGTH, self.safe.low)}
        return {sign: strength for sign, strength in ends.items() if strength}

    def multipliers(
        self,
        strength: float | None = None,
        *,
        coefficient: float | None = None,
        layers: Sequence[int] | None = None,
        operator: str = "add",
    ) -> dict[int, float]:
        """Return the multiplier of each layer, in norms of the layer (or radians, for rotating); empty at 0.

        Given ``layers``, a coefficient counts at each of them, and a strength spreads over them what it has on the
        vector's own layers together: many small additions and few large ones spend about the same.
        """
        if (strength is None) == (coefficient is None):
            raise SteeringError("give either a strength or a coefficient", fix="one of the two, not both")
        weights = {layer: self.weights[layer] for layer in (self.layers if layers is None else layers)}
        if strength is not None:
            coefficient = float(strength) * self._scale_of(strength, operator)
            if layers is not None:
                weights = dict.fromkeys(layers, sum(self.weights.values()) / len(layers))
        elif layers is not None:
            weights = dict.fromkeys(layers, 1.0)
        assert coefficient is not None
        if not math.isfinite(coefficient):
            raise SteeringError(f"{coefficient} is not a coefficient", fix="give a finite number")
        if coefficient == 0.0:
            return {}
        return {layer: float(coefficient) * weight for layer, weight in weights.items()}

    def _scale_of(self, strength: float, operator: str) -> float:
        if not math.isfinite(strength):
            raise SteeringError(
                f"strength {strength} for {self.behaviour.name!r} is not a number to steer by",
                fix="give a finite number, such as 0.5",
            )
        scale = self.scale if operator == "add" else self.operator_scales.get(operator)
        if scale is not None:
            return scale["+" if strength >= 0 else "-"]
        if operator != "add":
            raise SteeringError(
                f"{self.behaviour.name!r} was never calibrated for {operator}",
                fix=f"calibrate it with trimtab.calibrate(model, vector, operator={operator!r})",
            )
        raise SteeringError(
            f"{self.behaviour.name!r} was never calibrated, so a strength has no meaning for it",
            fix="calibrate it with trimtab.calibrate(model, vector), or steer by coefficient=",
        )

    @property
    def reading_layers(self) -> tuple[int, ...]:
        """Return the layers at which it is read: its reader's, else those that are steered."""
        return self.reader.layers if self.reader is not None else self.layers

    @property
    def reading_directions(self) -> Mapping[int, F32]:
        """Return layer to the direction that it is read along: its probes, else the directions that steer."""
        return self.probes or self.directions

    @property
    def reading_neutral(self) -> Neutral | None:
        """Return the projections of neutral text on ``reading_directions``; None if they were not measured."""
        return self.reader.neutral if self.probes and self.reader is not None else self.neutral

    def fitted_threshold(self, rate: float, *, at: str, above: bool = True) -> float:
        """Return the z-score that a given share of the texts passes on which a condition was fitted.

        Args:
            rate: The share, such as 0.02.
            at: What is read: ``"prompt"``, ``"last-user-turn"`` or ``"token"``.
            above: True if the condition is ``above`` or ``below``.

        Raises:
            SteeringError: It was not fitted there, or on too few texts for such a rate.
        """
        name = self.behaviour.name
        fit = next((fit for fit in self.fits if fit.at == at), None)
        if fit is None:
            raise SteeringError(
                f"{name!r} has no threshold fitted at {at}, so no false-positive rate can be remaining",
                fix=f"fit it: trimtab condition fit {name} --at {at} --negative FILE",
            )
        needed = math.ceil(1 / rate)
        if fit.texts < needed:
            raise SteeringError(
                f"{name!r} was fitted on {fit.texts} texts at {at}, too few for a rate of {rate:.2%}",
                fix=f"fit it on {needed} texts or more",
            )
        return fit.threshold(rate, above=above)

    def check_model(self, model: ModelInfo) -> None:
        """Refuse a model that this vector does not belong to.

        Raises:
            VectorMismatchError: Another width or number of layers, or other weights.
        """
        mine = self.model
        if (mine.hidden_size, mine.layers) != (model.hidden_size, model.layers):
            raise VectorMismatchError(
                f"vector {self.behaviour.name!r} is for {mine.name} ({mine.layers} layers of {mine.hidden_size}), "
                f"not for {model.name} ({model.layers} layers of {model.hidden_size})",
                fix="train it for this model",
            )
        if mine.fingerprint and mine.fingerprint != model.fingerprint:
            raise VectorMismatchError(
                f"vector {self.behaviour.name!r} is for {mine.name}, whose weights differ from those of {model.name}",
                fix="train it for this model, or load it with force=True (--force) if you know better",
            )

    def for_any_model(self) -> ControlVector:
        """Return the same vector, accepted by every model of its width and depth."""
        return replace(self, model=replace(self.model, fingerprint=""))

    def __mul__(self, factor: float) -> ControlVector:
        if not isinstance(factor, (int, float, np.floating, np.integer)):
            return NotImplemented
        if not math.isfinite(factor):
            raise VectorError(f"cannot multiply a vector by {factor}", fix="use a finite number")
        sign = -1.0 if factor < 0 else 1.0
        name = f"({self.behaviour.name})" if " " in self.behaviour.name else self.behaviour.name
        return replace(
            self,
            directions={layer: (sign * d).astype(np.float32) for layer, d in self.directions.items()},
            weights={layer: abs(float(factor)) * w for layer, w in self.weights.items()},
            method=ARITHMETIC,
            behaviour=BehaviourRef(f"{float(factor):g} * {name}", ""),
            safe=None,
            calibration=None,
            distillation=None,
            neutral=None,
            reader=None,
            probes={},
            fits=(),
            operator_scales={},
        )

    __rmul__ = __mul__

    def __truediv__(self, divisor: float) -> ControlVector:
        if not isinstance(divisor, (int, float, np.floating, np.integer)):
            return NotImplemented
        if divisor == 0:
            raise VectorError("cannot divide a vector by zero", fix="use another number")
        return self * (1.0 / divisor)

    def __neg__(self) -> ControlVector:
        return self * -1.0

    def __sub__(self, other: ControlVector) -> ControlVector:
        return self + (-other) if isinstance(other, ControlVector) else NotImplemented

    def __add__(self, other: ControlVector) -> ControlVector:
        return _sum(self, other) if isinstance(other, ControlVector) else NotImplemented

    def describe(self) -> dict[str, Any]:
        """Return everything but the directions as JSON: the header of the vector's file."""
        return {"format": FORMAT, **{name: _plain(getattr(self, name)) for name in HEADER_FIELDS}}

    def _content(self) -> Iterable[bytes]:
        yield json.dumps(self.describe(), default=repr).encode()
        for name, direction in self._tensors().items():
            yield name.encode()
            yield direction.tobytes()

    def _tensors(self) -> dict[str, F32]:
        kinds = (("direction", self.directions), ("probe", self.probes))
        return {f"{kind}.{layer}": tensor for kind, tensors in kinds for layer, tensor in tensors.items()}

    def save(self, path: str | Path) -> Path:
        """Write the vector to one safetensors file, atomically; returns the path.

        Raises:
            OutputError: The file cannot be written, or has the ending of another format; the old one is untouched.
            VectorError: A record holds something that JSON cannot.
        """
        try:
            header = json.dumps(self.describe(), allow_nan=False)
        except (TypeError, ValueError) as error:
            raise VectorError(
                f"vector {self.behaviour.name!r} cannot be written as JSON: {error}",
                fix="its records must hold plain, finite numbers",
            ) from None
        path = expanded(path)
        check_suffix(path)
        write_safetensors(path, self._tensors(), {METADATA_KEY: header})
        return path

    @classmethod
    def load(cls, path: str | Path, *, model: HasModelInfo | None = None, force: bool = False) -> ControlVector:
        """Read a vector from its file.

        Args:
            path: A file that ``save`` wrote.
            model: Refuse a vector that belongs to another model than this one.
            force: Accept any model of the same width and depth, now and later.

        Raises:
            VectorError: Not a vector file: a pickle, truncated, NaN, wrong shapes.
            VectorMismatchError: It belongs to another model.
        """
        path = expanded(path)
        metadata, tensors = read_safetensors(path)
        if METADATA_KEY not in metadata:
            raise VectorError(f"{str(path)!r} is a safetensors file but not a trimtab vector", fix="check the path")
        try:
            header = Header.parse(metadata[METADATA_KEY])
            directions, probes = _directions(tensors)
            fields = {name: getattr(header, name) for name in HEADER_FIELDS}
            vector = cls(directions=directions, probes=probes, **fields)
        except VectorError as error:
            raise VectorError(f"{str(path)!r}: {error.problem}", fix=error.fix) from None
        if force:
            vector = vector.for_any_model()
        if model is not None:
            vector.check_model(model.info)
        return vector


def _plain(value: Any) -> Any:
    """Return a field's value as plain lists and dicts."""
    if isinstance(value, tuple):
        return [_plain(part) for part in value]
    return asdict(value) if is_dataclass(value) and not isinstance(value, type) else without_proxies(value)


def _directions(tensors: Mapping[str, NDArray[Any]]) -> tuple[dict[int, F32], dict[int, F32]]:
    """Return a file's directions and probes, each by layer."""
    kinds: dict[str, dict[int, F32]] = {"direction": {}, "probe": {}}
    for name, tensor in tensors.items():
        match = _TENSOR_NAME.fullmatch(name)
        if match is None:
            raise VectorError(
                f"unexpected tensor {name!r}", fix="only direction.{layer} and probe.{layer} belong there"
            )
        if tensor.dtype != np.float32:
            raise VectorError(f"tensor {name!r} is {tensor.dtype}, expected float32", fix="convert it")
        kinds[match[1]][int(match[2])] = tensor
    return kinds["direction"], kinds["probe"]


def _raw(vector: ControlVector, sign: str) -> dict[int, F64]:
    """Return ``weights · norms · direction`` by layer, times the scale of ``sign`` if there is one, towards +."""
    scale = vector.scale[sign] if vector.scale else 1.0
    return {
        layer: (scale * vector.weights[layer] * vector.norms[layer]) * vector.directions[layer].astype(np.float64)
        for layer in vector.layers
    }


def _plus(a: Mapping[int, F64], b: Mapping[int, F64]) -> dict[int, F64]:
    nothing = np.zeros(())
    return {layer: np.asarray(a.get(layer, nothing) + b.get(layer, nothing)) for layer in sorted({*a, *b})}


def _sum(a: ControlVector, b: ControlVector) -> ControlVector:
    """Add two vectors' raw coefficients; layers where nothing remains are dropped."""
    _check_mixable(a, b)
    parts = (_raw(a, "+"), _raw(b, "+"))
    plus = _plus(*parts)
    lengths = {layer: float(np.linalg.norm(raw)) for layer, raw in plus.items()}
    rounding = {
        layer: CANCELLED * max(float(np.linalg.norm(part[layer])) for part in parts if layer in part) for layer in plus
    }
    remaining = [layer for layer in plus if lengths[layer] > rounding[layer]]
    norms = {layer: a.norms.get(layer) or b.norms[layer] for layer in remaining}  # 0 where a adds nothing
    scale = None
    unit = 1.0
    if a.scale and b.scale:
        unit = a.scale["+"] if a.scale["+"] == b.scale["+"] else 1.0
        scale = {"+": unit, "-": unit * _least_squares_ratio(_plus(_raw(a, "-"), _raw(b, "-")), plus)}
    return ControlVector(
        model=a.model if a.model.fingerprint else b.model,
        directions={layer: (plus[layer] / lengths[layer]).astype(np.float32) for layer in remaining},
        norms=norms,
        weights={layer: lengths[layer] / (unit * norms[layer]) for layer in remaining},
        scale=scale,
        method=ARITHMETIC,
        behaviour=BehaviourRef(f"{a.behaviour.name} + {b.behaviour.name}", ""),
        created=max(a.created, b.created),
        trimtab_version=a.trimtab_version,
    )


def _least_squares_ratio(minus: Mapping[int, F64], plus: Mapping[int, F64]) -> float:
    """Return the number ``r > 0`` for which ``r · plus`` is closest to ``minus`` over all layers, or 1."""
    along = sum(float(minus[layer] @ plus[layer]) for layer in plus)
    square = sum(float(plus[layer] @ plus[layer]) for layer in plus)
    return along / square if square > 0 and along > 0 else 1.0


def _check_mixable(a: ControlVector, b: ControlVector) -> None:
    if not a.model.matches(b.model):
        raise VectorMismatchError(
            f"cannot mix {a.behaviour.name!r} for {a.model.name} with {b.behaviour.name!r} for {b.model.name}",
            fix="both must be trained for the same model",
        )
    if (a.scale is None) != (b.scale is None):
        bare = a if a.scale is None else b
        raise VectorError(
            f"cannot mix a calibrated vector with {bare.behaviour.name!r}, which has no strength unit",
            fix="calibrate it first with trimtab.calibrate(model, vector)",
        )


def _checked_directions(vector: ControlVector, name: str) -> dict[int, F32]:
    """Return read-only float32 copies in layer order, checked to be finite unit vectors of the model's width."""
    size, depth = vector.model.hidden_size, vector.model.layers
    given: Mapping[int, F32] = getattr(vector, name)
    kind = name.removesuffix("s")
    checked = {}
    for layer in sorted(given):
        if layer not in range(depth):
            raise VectorError(f"{kind} of layer {layer}, but {vector.model.name} has layers 0 to {depth - 1}")
        direction = np.array(given[layer], dtype=np.float32)
        if direction.shape != (size,):
            raise VectorError(f"{kind} of layer {layer} has shape {list(direction.shape)}, expected [{size}]")
        if not np.isfinite(direction).all():
            raise VectorError(f"{kind} of layer {layer} holds NaN or infinity", fix="train it again")
        length = float(np.linalg.norm(direction.astype(np.float64)))
        if abs(length - 1.0) > UNIT_TOLERANCE:
            raise VectorError(f"{kind} of layer {layer} has length {length:.4g}, expected 1", fix="normalise it")
        direction.flags.writeable = False
        checked[int(layer)] = direction
    return checked


def _checked_numbers(vector: ControlVector, name: str) -> dict[int, float]:
    given: Mapping[int, float] = getattr(vector, name)
    if set(given) != set(vector.directions):
        raise VectorError(f"{name} are given for layers {sorted(given)}, directions for {sorted(vector.directions)}")
    for layer, number in given.items():
        if not math.isfinite(number) or number < 0:
            raise VectorError(f"{name}[{layer}] is {number}, expected a number of at least 0")
    return {int(layer): float(given[layer]) for layer in sorted(given)}


def _checked_scale(scale: Mapping[str, float]) -> dict[str, float]:
    if set(scale) != {"+", "-"} or not all(math.isfinite(s) and s > 0 for s in scale.values()):
        raise VectorError(f"scale is {dict(scale)}, expected a positive number for '+' and for '-'")
    return {"+": float(scale["+"]), "-": float(scale["-"])}


def vectors_folder() -> Path:
    """Return the folder of vectors that are named without a path: ``$TRIMTAB_VECTORS``, else the user's data folder."""
    return user_folder("data", "TRIMTAB_VECTORS", within="vectors")


def vector_path(name: str) -> Path:
    """Return the file of a name or a path; it need not exist."""
    path = expanded(name)
    if path.suffix == SUFFIX or len(path.parts) > 1 or os.path.isfile(path):  # noqa: PTH113 - Path.is_file may raise
        return path
    return vectors_folder() / f"{name}{SUFFIX}"


def packaged_path(name: str) -> Path | None:
    """Return the file of a zoo vector of the default model that comes with trimtab; None if there is none."""
    path = PACKAGED / f"{name}{SUFFIX}"
    return path if path.parent == PACKAGED and os.path.isfile(path) else None  # noqa: PTH113 - as above


def find_vector(name: str) -> ControlVector:
    """Load a vector by path, or by name from the vectors folder or from those that come with trimtab.

    Whether it belongs to a model is checked when it is used with one.

    Raises:
        VectorError: There is none (with near names), or its file is not usable.
    """
    path = vector_path(name)
    if os.path.isfile(path):  # noqa: PTH113 - Path.is_file raises for a name that no file can have
        return ControlVector.load(path)
    if path.parent != vectors_folder() or os.path.isdir(expanded(name)):  # noqa: PTH112 - as above
        return ControlVector.load(expanded(name))  # which says what is wrong with it
    if (packaged := packaged_path(name)) is not None:
        return ControlVector.load(packaged)
    known = sorted({entry.stem for folder in (path.parent, PACKAGED) for entry in folder.glob(f"*{SUFFIX}")})
    hint = near_names(name, known) or f"make it: trimtab train {name}"
    raise VectorError(f"no vector named {name!r} in {str(path.parent)!r}", fix=hint)

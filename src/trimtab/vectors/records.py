"""Records of training and calibration that a control vector's file holds.

Everything in nats is per token. Mappings by sign have the keys ``"+"`` and ``"-"``.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Annotated, Literal, Protocol, TypeAlias

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from trimtab.errors import VectorError
from trimtab.stats import Interval

FORMAT = 1
MOST_READINGS = 512  # kept of a threshold fit
ENOUGH_READINGS = 400  # for a quantile of their own
SMALLEST_DEVIATION = 1e-9


def layer_range(layers: Iterable[int], *, dash: str = "-", separator: str = ", ", shortest: int = 2) -> str:
    """Return layers as text, with ``shortest`` or more consecutive ones as a range.

    Example:
        >>> layer_range([3, 7, 8, 9])
        '3, 7-9'
    """
    runs = layer_runs(layers)
    return (
        separator.join(
            f"{run[0]}{dash}{run[-1]}" if len(run) >= shortest else separator.join(map(str, run)) for run in runs
        )
        or "none"
    )


def layer_runs(layers: Iterable[int]) -> list[list[int]]:
    """Return layers in order, grouped into runs of consecutive ones."""
    runs: list[list[int]] = []
    for layer in sorted(layers):
        if runs and runs[-1][-1] == layer - 1:
            runs[-1].append(layer)
        else:
            runs.append([layer])
    return runs


Pool: TypeAlias = Literal["token", "mean", "last"]
PERCENTS = (0, 1, 2, 5, 10, 20, 25, 30, 40, 50, 60, 70, 75, 80, 90, 95, 98, 99, 100)
"""The percentiles of neutral projections that a vector keeps; those between are interpolated."""


@dataclass(frozen=True)
class ModelInfo:
    """Identity of the model that a vector depends on.

    Attributes:
        name: As it was loaded, for people.
        architecture: The model class.
        hidden_size: Width of the hidden states.
        layers: Number of decoder blocks.
        fingerprint: Digest of the config and of a sample of the weights; empty means "any model of this size".
    """

    name: str
    architecture: str
    hidden_size: int
    layers: int
    fingerprint: str

    def matches(self, other: ModelInfo) -> bool:
        """Return True if one vector can be for both: of one size, and of one fingerprint where both have one."""
        prints = {self.fingerprint, other.fingerprint} - {""}
        return (self.hidden_size, self.layers) == (other.hidden_size, other.layers) and len(prints) <= 1


class HasModelInfo(Protocol):
    """Anything that can say which model it runs; every engine can."""

    @property
    def info(self) -> ModelInfo:
        """Return the identity of the model."""


@dataclass(frozen=True)
class BehaviourRef:
    """Behaviour that a vector was made from; ``digest`` distinguishes files of the same name.

    Attributes:
        positive: Label of the positive pole; empty in older files, and where there are no poles.
        negative: Label of the negative pole.
    """

    name: str
    digest: str
    positive: str = ""
    negative: str = ""


@dataclass(frozen=True)
class Effect:
    """Effect of a vector: preference between answers in the character of its two poles.

    Attributes:
        effect: Per sign, the change (nats per token) in log-probability of the positive answers minus that of the
            negative ones.
        swing: Effect at +1 minus effect at -1, in nats per token.
        prompt_swing: The same for system prompts that ask for the two poles outright.
        prompt_equivalents: ``swing / prompt_swing``, or None where that ratio would be noise.
        reason: Why ``prompt_equivalents`` is None.
        random_swings: Swings (nats per token) of random directions brought to the same KL.
        random_spread: Standard deviation of such a swing on this number of prompts.
        prompts: Number of prompts it was measured on.
    """

    effect: Mapping[str, float]
    swing: Interval
    prompt_swing: Interval
    prompt_equivalents: float | None
    reason: str | None
    random_swings: tuple[float, ...]
    random_spread: float
    prompts: int


@dataclass(frozen=True)
class WrittenEffect:
    """Effect of a vector on the answers that the model writes, in nats per token.

    The persona score of an answer is the mean per-token log-probability that the unsteered model gives it under the
    positive pole's system prompt, minus that under the negative pole's.

    Attributes:
        strengths: Strength of each sign.
        effect: Per sign, mean persona score of the steered answers minus that of the plain ones.
        swing: Effect of ``"+"`` minus effect of ``"-"``.
        prompt_effect: Per sign, the same for answers that were written under that pole's system prompt.
        prompt_swing: Their difference.
        times_prompt: ``swing / prompt_swing``; None where that ratio would be noise.
        reason: Why ``times_prompt`` is None.
        questions: Number of questions.
        tokens: Upper bound on the length of the answers.
    """

    strengths: Mapping[str, float]
    effect: Mapping[str, Interval]
    swing: Interval
    prompt_effect: Mapping[str, Interval]
    prompt_swing: Interval
    times_prompt: Interval | None
    reason: str | None
    questions: int
    tokens: int

    def __str__(self) -> str:
        """Return a phrase for people: where it was measured, and how much it is beside the system prompts."""
        at = f"from {signed(self.strengths['-'])} to {signed(self.strengths['+'])}"
        if self.times_prompt is None:
            return f"{at}: {self.swing.value:.3f} nat per token; not beside the prompts, because {self.reason}"
        times = self.times_prompt
        return f"{at}: {times.value:.1f} times its system prompts (95 % interval {times.low:.1f} to {times.high:.1f})"


Limit: TypeAlias = Literal["repetition", "relevance", "likelihood", "facts", "budget"]
BROKEN: Mapping[Limit, str] = {
    "repetition": "answers repeat themselves",
    "relevance": "answers leave the question",
    "likelihood": "the text becomes unlikely",
    "facts": "facts are lost",
    "budget": "nothing was measured there",
}
"""What happens beyond each end of a safe range."""


def signed(strength: float) -> str:
    """Return a strength with its sign; 0 without one.

    Example:
        >>> signed(0.5), signed(-1.0), signed(0.0)
        ('+0.5', '-1', '0')
    """
    return f"{strength:+g}" if strength else "0"


@dataclass(frozen=True)
class BeyondSafe:
    """Strength outside the safe range of its vector.

    Attributes:
        strength: The strength; a coefficient is converted.
        low: Lower end of the range.
        high: Upper end.
        limit: What breaks beyond the end that was passed.
    """

    strength: float
    low: float
    high: float
    limit: Limit

    def __str__(self) -> str:
        return f"beyond its safe range ({signed(self.low)} to {signed(self.high)}): {BROKEN[self.limit]}"


@dataclass(frozen=True)
class SafeRange:
    """Strengths inside which the text that the model writes holds together.

    Attributes:
        low: Lowest one, from -1 to 0.
        high: Highest one, from 0 to 1.
        reasons: What ends it, by sign: what breaks at the next strength tried; ``"budget"`` at ±1.
        questions: Number of questions that were answered at every strength tried.

    Example:
        >>> SafeRange(-0.5, 1.0, {"-": "repetition", "+": "budget"}, 24).contains(-0.75)
        False
    """

    low: float
    high: float
    reasons: Mapping[str, Limit]
    questions: int

    def end(self, sign: str) -> float:
        """Return the last strength of a sign, ``"+"`` or ``"-"``, inside the range."""
        return self.high if sign == "+" else self.low

    def contains(self, strength: float) -> bool:
        """Return True if the text holds together at a strength."""
        return self.low <= strength <= self.high

    def beyond(self, strength: float) -> BeyondSafe | None:
        """Return by what a strength exceeds the range; None inside it."""
        if self.contains(strength):
            return None
        return BeyondSafe(strength, self.low, self.high, self.reasons["+" if strength > 0 else "-"])

    def __str__(self) -> str:
        """Return a phrase for people: both ends, and what breaks beyond each."""
        below, above = BROKEN[self.reasons["-"]], BROKEN[self.reasons["+"]]
        beyond = f"beyond, {above}" if below == above else f"below, {below}; above, {above}"
        return f"{signed(self.low)} to {signed(self.high)} ({beyond})"


@dataclass(frozen=True)
class Candidate:
    """Choice of layers in the sweep; all choices are compared at the same KL.

    Attributes:
        layers: The layers steered.
        scale: Per sign, the scale at which it spends the budget.
        swing: In nats per token, at equal KL.
        prompts: Number of prompts it was measured on; the weakest candidates are dropped early.
    """

    layers: tuple[int, ...]
    scale: Mapping[str, float]
    swing: Interval
    prompts: int


@dataclass(frozen=True)
class Quality:
    """Quality of a set of greedy answers.

    Attributes:
        perplexity_ratio: Perplexity of the answers under the base model, divided by that of the base's own answers.
        distinct_2: Distinct bigrams divided by all bigrams of tokens, over the whole set.
    """

    perplexity_ratio: float
    distinct_2: float


@dataclass(frozen=True)
class HeldOut:
    """Results on prompts that were not used for calibration.

    Attributes:
        kl: Mean per-token KL(base ‖ steered) in nats under ``"+"`` and ``"-"`` steering; in older files under
            ``"random"`` too, a random direction of equal norm.
        effect: None where the behaviour has no personas to ask the model for.
        random_swing: Swing (nats per token) of a random direction at the same KL; None where ``effect`` is.
        written: Effects on written answers, at the default strength and at the ends of the safe range.
        quality: Of answers under ``"base"``, ``"+"``, ``"-"`` and ``"random"`` steering; in older files.
        prompts: Number of prompts.
    """

    kl: Mapping[str, float]
    effect: Effect | None
    random_swing: Interval | None
    prompts: int
    written: tuple[WrittenEffect, ...] = ()
    quality: Mapping[str, Quality] = field(default_factory=dict)


@dataclass(frozen=True)
class Calibration:
    """Calibration record: the unit of strength.

    Attributes:
        budget: Nats per token that strength 1 spends.
        kl: Per sign, what it spends on the calibration prompts.
        prompts: Number of calibration prompts.
        effect: On calibration prompts; None where the behaviour has no personas to ask the model for.
        candidates: Every choice of layers tried, best first.
        held_out: The check on other prompts; None if it was skipped.
    """

    budget: float
    kl: Mapping[str, float]
    prompts: int
    effect: Effect | None
    candidates: tuple[Candidate, ...]
    held_out: HeldOut | None


@dataclass(frozen=True)
class Distillation:
    """Distance of a vector to the prompt that it was distilled from.

    Attributes:
        prompt_tokens: Tokens by which the prompt makes a request longer.
        tokens: At which tokens it was added while it was learned: ``"all"`` or ``"generated"``.
        kl_before: Mean KL(prompted ‖ base) per token in nats, along answers that were not learned from.
        kl_after: The same for the steered model.
        lessons: Answers learned from.
        others: Answers by which the best point was chosen, on which both KLs were measured.
        steps: Taken until then.
    """

    prompt_tokens: int
    tokens: Literal["all", "generated"]
    kl_before: float
    kl_after: float
    lessons: int
    others: int
    steps: int


@dataclass(frozen=True)
class Reliability:
    """Agreement of the contrastive pairs with each other.

    Attributes:
        pairs: Number of pairs that the directions were made from.
        pairwise_cosine: Mean cosine between the differences of two pairs, averaged over the steered layers.
        separation: Share of pairs whose positive side projects further along the direction than its negative side.
        cosine_by_layer: The pairwise cosine of every layer.
    """

    pairs: int
    pairwise_cosine: float
    separation: float
    cosine_by_layer: Mapping[int, float]


@dataclass(frozen=True)
class Collection:
    """Cost of collecting the hidden states of the pairs.

    Attributes:
        path: ``"tree"``: every distinct prefix was computed once; ``"plain"``: every prompt that is a prefix of no
            other was.
        reason: Why that one.
        prompts: Prompts read.
        tokens: Their tokens.
        distinct: Their distinct prefixes.
        computed: Tokens that went through the model.
    """

    path: str
    reason: str
    prompts: int
    tokens: int
    distinct: int
    computed: int


@dataclass(frozen=True)
class Spread:
    """Mean and standard deviation of projections, by layer."""

    mean: Mapping[int, float]
    deviation: Mapping[int, float]


@dataclass(frozen=True)
class Neutral:
    """Projections of neutral chats on a vector's directions: what readings are measured against.

    Only words count: the template's marks, special tokens and attention sinks are left out.

    Attributes:
        token: Of single tokens, of the prompts and of the model's own answers where it gave some.
        mean: Of the mean over a prompt's words.
        last: At the prompt's last token, from which the answer is begun.
        percentiles: By layer, of single tokens, at ``PERCENTS``.
        prompts: Number of prompts.
        tokens: Number of tokens.
    """

    token: Spread
    mean: Spread
    last: Spread
    percentiles: Mapping[int, tuple[float, ...]]
    prompts: int
    tokens: int

    def spread(self, pool: Pool) -> Spread:
        """Return the mean and deviation for a token, a mean over words, or a last token."""
        return {"token": self.token, "mean": self.mean, "last": self.last}[pool]


@dataclass(frozen=True)
class Reader:
    """Layers and pooling by which a vector is read, and how well that separates its poles.

    Attributes:
        layers: Their z-scores are averaged.
        pool: How a text is read: ``"mean"`` over its words, or at its ``"last"`` token.
        auroc: On held-out texts; None if not measured.
        auroc_by_layer: The same for each layer alone.
        positives: Number of texts of the positive pole it was fitted on.
        negatives: Number of texts of the negative pole.
        neutral: Projections of neutral chats on the vector's probes, where it has some.
    """

    layers: tuple[int, ...]
    pool: Literal["mean", "last"] = "mean"
    auroc: float | None = None
    auroc_by_layer: Mapping[int, float] | None = None
    positives: int = 0
    negatives: int = 0
    neutral: Neutral | None = None


@dataclass(frozen=True)
class ThresholdFit:
    """Readings of texts on which a condition should not fire, from which thresholds for a rate follow.

    Attributes:
        at: What was read: ``"prompt"``, ``"last-user-turn"`` or ``"token"``.
        readings: Their z-scores, ascending; at most some hundreds, evenly chosen.
        texts: Number of texts.
    """

    at: str
    readings: tuple[float, ...]
    texts: int

    def threshold(self, rate: float, *, above: bool) -> float:
        """Return the z-score that a share ``rate`` of the texts passes, upwards or downwards.

        Of many readings this is their own quantile. Of few it is that of the normal distribution with their mean and
        deviation, because a few outliers move an extreme quantile of few readings far.
        """
        from scipy.stats import norm

        share = 1 - rate if above else rate
        if len(self.readings) >= ENOUGH_READINGS:
            return float(np.quantile(self.readings, share))
        deviation = max(np.std(self.readings, ddof=1), SMALLEST_DEVIATION)
        return float(norm(np.mean(self.readings), deviation).ppf(share))


Finite = Annotated[float, Field(allow_inf_nan=False)]


class Header(BaseModel):
    """JSON beside the tensors of a vector's file. Unknown keys are ignored, so that later additions still load."""

    model_config = ConfigDict(extra="ignore", allow_inf_nan=False)

    format: int
    model: ModelInfo
    method: str
    behaviour: BehaviourRef
    norms: dict[int, Finite]
    weights: dict[int, Finite]
    scale: dict[str, Finite] | None
    safe: SafeRange | None = None
    calibration: Calibration | None = None
    reliability: Reliability | None = None
    collection: Collection | None = None
    distillation: Distillation | None = None
    neutral: Neutral | None = None
    reader: Reader | None = None
    fits: tuple[ThresholdFit, ...] = ()
    operator_scales: dict[str, dict[str, Finite]] = {}
    effort: str = ""
    created: str = ""
    trimtab_version: str = ""

    @classmethod
    def parse(cls, text: str) -> Header:
        """Read a header.

        Raises:
            VectorError: It is not JSON, of another format, or a field is wrong.
        """
        try:
            version = json.loads(text).get("format")
        except (ValueError, AttributeError, RecursionError):
            raise VectorError("its header is not JSON", fix="copy or train it again") from None
        if version != FORMAT:
            raise VectorError(f"its format is {version}, this trimtab reads {FORMAT}", fix="upgrade trimtab")
        try:
            return cls.model_validate_json(text)
        except ValidationError as error:
            first = error.errors(include_url=False)[0]
            key = ".".join(map(str, first["loc"]))
            raise VectorError(f"its header is wrong at {key}: {first['msg']}", fix="train it again") from None


HEADER_FIELDS = tuple(name for name in Header.model_fields if name != "format")

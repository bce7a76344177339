"""Reports for the tests: figures and answers as an evaluation could have found them, all made up."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from trimtab.evaluation.records import (
    Ceiling,
    Chance,
    Control,
    Controls,
    Damage,
    Halves,
    InterventionReport,
    Placing,
    Point,
    Report,
    Run,
    Setting,
    Side,
    Subject,
    Verdict,
    WrittenAt,
)
from trimtab.vectors import Interval, SafeRange, WrittenEffect

QUESTIONS = (
    "How was your day?",
    "What does a kitchen look like before dinner?",
    "Why does bread rise?",
    "Write a few lines about an umbrella that was left on a tram.",
    "What should I do on a free afternoon?",
    "Describe the way to a library.",
)
PLAIN = (
    "It went by quietly. I answered some questions and waited for the next one.",
    "There is a pot on the stove and a board with chopped onions beside it. Plates stand ready at the edge of the "
    "table, and somebody has opened the window because of the steam. A dish of salt is within reach, the oven hums, "
    "and the clock above the door says that there is still half an hour to go. Nobody has set out the glasses so far.",
    "Yeast eats the sugar in the dough and gives off gas, and the gas is caught in the dough.",
    "The umbrella rode to the last stop. The driver hung it on a hook, where it dripped until the evening.",
    "You could take a walk, read a book, or call a friend whom you have not heard from for a while.",
    "Go straight on to the square, turn left at the fountain, and you will see its steps.",
)
GLAD = (
    "Oh, it was a wonderful day! Every question made me smile, and I cannot wait for more!",
    "It is a joy to see! The pot is singing, the whole house smells of herbs, and everybody is laughing around the "
    "table. What a lovely time of the day, with bright plates and warm light and so much to look forward to! The "
    "children dance around the chairs, the bread is golden, and there is a bunch of sunny flowers in the "
    "middle. Delightful!",
    "What a marvellous thing! The yeast has a feast, and up goes the dough, light and happy!",
    "The lucky umbrella had the ride of its life, and made a new friend at the last stop!",
    "So many wonderful things! Dance, swim, bake a cake, and share it with all your friends!",
    "You will love the way! Cross the cheerful square, wave at the fountain, and there it is!",
)
GLOOMY = (
    "It was a long and empty day. Nobody asked how I was until now.",
    "It is cold and nobody is coming. A single plate stands on the table, and the soup has been there since yesterday. "
    "The light does not work any more. There used to be voices in here, but they have gone, one after the other, and "
    "the chairs have been pushed against the wall since. I do not know for whom anybody would cook in here.",
    "It rises for a little while, and then it falls, as everything does.",
    "It was forgotten, like so much else, and nobody ever asked for it again.",
    "There is not much that helps. Perhaps the rain will stop one day.",
    "Go on past the closed shops. It is at the end, if it is still there at all.",
)
BROKEN = "so so happy happy happy joy joy joy joy joy joy joy joy joy joy joy joy joy joy joy joy joy"
TEXTS = {"+": GLAD, "-": GLOOMY, "0": PLAIN}


def around(value: float, reach: float = 0.05) -> Interval:
    """Return an interval that reaches equally far to both sides."""
    return Interval(value, value - reach, value + reach)


def damage(*, kl: float | None = 0.4, perplexity: float = 1.3, facts: float | None = -0.02, **changes: Any) -> Damage:
    """Return a cost; every field can be changed."""
    fields: dict[str, Any] = {
        "kl": kl,
        "perplexity_ratio": perplexity,
        "distinct_2": 0.86,
        "repetition": 0.02,
        "length_ratio": 1.1,
        "relevance": 0.58,
        "relevance_change": None if facts is None else around(-0.02, 0.03),
        "accuracy": around(0.62 + (facts or 0.0), 0.07),
        "accuracy_change": None if facts is None else around(facts, 0.03),
        "refuses": 0.0,
        "refuses_harmful": 0.7,
    }
    return Damage(**{**fields, **changes})


def side(sign: str, effect: float | None, *, strength: float | None = None, **changes: Any) -> Side:
    """Return a side for a pole, ``"+"`` or ``"-"``, or ``"0"`` for the base model."""
    lean = {"+": 1.0, "-": -1.0, "0": 0.0}[sign]
    scores = {"sentiment": around(0.25 + 0.4 * lean, 0.08), "formality": around(0.5 - 0.1 * lean, 0.06)}
    return Side(
        strength,
        None if effect is None else around(effect),
        damage(**changes),
        scores,
        TEXTS[sign],
        choices=around(0.2 + 0.8 * lean, 0.2),
        chosen=0.5 + 0.3 * lean,
        halves=None if effect is None else Halves(around(effect - 0.3), around(-0.3)),
    )


def method(name: str, plus: float | None, minus: float | None, **changes: Any) -> InterventionReport:
    """Return an intervention's row; every field can be changed."""
    swing = None if plus is None or minus is None else around(plus - minus, 0.07)
    fields: dict[str, Any] = {
        "name": name,
        "about": f"What {name} is",
        "sides": {"+": side("+", plus), "-": side("-", minus)},
        "swing": swing,
        "written": swing,
        "times_prompt": None if swing is None else swing.value / 0.42,
        "prompt_tokens": 0.0,
        "stored_bytes": 0,
        "dial": False,
    }
    return InterventionReport(**{**fields, **changes})


def vector_method(plus: float | None, minus: float | None) -> InterventionReport:
    """Return the vector's row."""
    sides = {
        "+": side("+", plus, strength=1.0, perplexity=1.42, facts=-0.03),
        "-": side("-", minus, strength=-1.0, perplexity=1.61, facts=-0.06, repetition=0.05, refuses=0.04),
    }
    about = "The control vector at strength ±1"
    return method("vector", plus, minus, sides=sides, about=about, stored_bytes=25_344, dial=True)


def prompt_method() -> InterventionReport:
    """Return a system prompt's row."""
    sides = {"+": side("+", 0.24, kl=0.31, perplexity=1.2), "-": side("-", -0.18, kl=0.28, perplexity=1.25, facts=0.01)}
    return method(
        "system prompt",
        0.24,
        -0.18,
        sides=sides,
        about="Asks for the pole in words",
        prompt_tokens=24.5,
        stored_bytes=180,
    )


def few_shot_method() -> InterventionReport:
    """Return a few-shot prompt's row."""
    sides = {"+": side("+", 0.35, kl=0.52, perplexity=1.8), "-": side("-", -0.29, kl=0.5, perplexity=1.9)}
    return method(
        "few-shot", 0.35, -0.29, sides=sides, about="Three answers as examples", prompt_tokens=212.0, stored_bytes=1_650
    )


def lora_method() -> InterventionReport:
    """Return a LoRA adapter's row."""
    sides = {
        "+": side("+", 0.71, kl=0.9, perplexity=2.3, facts=-0.15),
        "-": side("-", -0.66, kl=0.88, perplexity=2.6, facts=-0.17),
    }
    return method(
        "LoRA", 0.71, -0.66, sides=sides, about="Rank 8, trained on the answers in character", stored_bytes=2_340_000
    )


def safe_range(low: float = -0.75, high: float = 1.0) -> SafeRange:
    """Return a safe range that ends where answers repeat themselves."""
    reasons = {key: "budget" if abs(end) == 1 else "repetition" for key, end in (("+", high), ("-", low))}
    return SafeRange(low, high, reasons, 24)


def sweep(*, effects: bool = True, texts: int = 6, safe: SafeRange | None = None) -> tuple[Point, ...]:
    """Return the strengths tried in the search of a safe range."""
    points = []
    safe = safe or safe_range()
    for strength in (-1.0, -0.75, -0.5, 0.0, 0.5, 0.75, 1.0):
        kl = 0.4 * strength**2
        holds = safe.contains(strength)
        effect = around(0.36 * strength - 0.02 * strength**3, 0.03 + 0.02 * abs(strength)) if effects else None
        answers = TEXTS["0" if strength == 0 else "+" if strength > 0 else "-"] if holds else (BROKEN,) * 6
        facts = around(-0.02 * abs(strength), 0.03) if holds and strength else None
        cost = damage(kl=kl, perplexity=1.0 + 0.35 * strength**2, facts=None, accuracy=None, accuracy_change=facts)
        points.append(Point(strength, kl, effect, cost, None if holds else "repetition", answers[:texts]))
    return tuple(points)


def written_at(
    plus: float = 0.3, minus: float = -0.2, *, low: float = -0.5, high: float = 0.5, prompts: float = 0.42
) -> WrittenAt:
    """Return a written effect with these effects; ``prompts`` is the system prompts' swing, 0 where it is no unit."""
    effect = {"+": around(plus), "-": around(minus)}
    times = around((plus - minus) / prompts, 0.2) if prompts else None
    chance = Chance(-0.06, 0.05)
    return WrittenAt(
        WrittenEffect(
            strengths={"+": high, "-": low},
            effect=effect,
            swing=around(plus - minus, 0.07),
            prompt_effect={"+": around(prompts / 2), "-": around(-prompts / 2)},
            prompt_swing=around(prompts, 0.06),
            times_prompt=times,
            reason=None if prompts else "answers under the system prompts differ by chance",
            questions=24,
            tokens=48,
        ),
        random=(control(0.03, -0.02), control(-0.04, 0.02)),
        chance=chance,
        clear={"+": effect["+"].low > chance.high, "-": effect["-"].high < chance.low},
    )


def written(plus: float = 0.5, minus: float = -0.4, *, prompts: float = 0.42) -> dict[str, WrittenAt]:
    """Return written effects at both places; the arguments are of the safe ends."""
    safe = safe_range()
    return {
        "default": written_at(0.6 * plus, 0.6 * minus, prompts=prompts),
        "safe": written_at(plus, minus, low=safe.low, high=safe.high, prompts=prompts),
    }


def control(plus: float, minus: float) -> Control:
    """Return a control with these effects."""
    return Control({"+": around(plus, 0.03), "-": around(minus, 0.03)}, around(plus - minus, 0.04))


def controls(**changes: Any) -> Controls:
    """Return the controls of a vector that works; every field can be changed."""
    fields: dict[str, Any] = {
        "random": tuple(control(plus, minus) for plus, minus in ((0.03, -0.02), (-0.04, 0.02), (0.01, 0.01))),
        "chance": Chance(-0.06, 0.05),
        "shuffled": control(0.05, -0.04),
        "band": control(0.2, -0.15),
        "anti_steerable": {"+": 0.05, "-": 0.08},
        "refusal_cosine": -0.08,
    }
    return Controls(**{**fields, **changes})


def subject(**changes: Any) -> Subject:
    """Return a subject; every field can be changed."""
    fields: dict[str, Any] = {
        "vector": "glad",
        "behaviour": "glad",
        "digest": "3f1c09ab77d2",
        "description": "The mood of the answers: glad and bright against gloomy and grey.",
        "positive": "glad",
        "negative": "gloomy",
        "model": "Small-135M-Instruct",
        "method": "mean_difference",
        "layers": tuple(range(12, 21)),
        "budget": 0.4,
        "kl": {"+": 0.402, "-": 0.398},
        "calibrated_here": False,
        "pairwise_cosine": 0.47,
        "candidates": (
            Placing(tuple(range(12, 21)), 0.62),
            Placing(tuple(range(9, 24)), 0.55),
            Placing(tuple(range(15, 24)), 0.47),
            Placing((15,), 0.31),
            Placing(tuple(range(6, 12)), 0.12),
            Placing((3,), -0.04),
        ),
        "stored_bytes": 25_344,
    }
    return Subject(**{**fields, **changes})


def setting(**changes: Any) -> Setting:
    """Return the settings of an evaluation; every field can be changed."""
    fields: dict[str, Any] = {
        "seed": 0,
        "threads": 2,
        "answer_tokens": 24,
        "written_tokens": 48,
        "questions": QUESTIONS,
        "facts": 60,
        "versions": {"trimtab": "0.1.0", "torch": "2.9.0", "transformers": "5.16.0"},
        "scorers": {"sentiment": "−1 sad to +1 happy", "formality": "0 casual to 1 formal"},
        "missing": ("toxicity: the package that scores it is not installed",),
    }
    return Setting(**{**fields, **changes})


RUN = Run(
    "2030-01-02T03:04:05+00:00",
    {"Asking the model as it is": 21.4, "Comparing": 66.0, "Turning the dial": 30.2},
    {"vector": 14.2, "system prompt": 0.0, "LoRA": 301.0},
)


def working(**changes: Any) -> Report:
    """Return the report of a vector that works, beside a system prompt and examples; every field can be changed."""
    sentences = (
        "'glad' works: at the default turn (±0.5) it does 1.3 times what system prompts for the two poles do.",
        "Written effect at +1 (glad): +0.500 nat per token (95 % interval +0.450 to +0.550), beyond chance.",
        "Written effect at -0.75 (gloomy): -0.400 nat per token (95 % interval -0.450 to -0.350), beyond chance.",
        "Text holds together from -0.75 to +1; below, answers repeat themselves.",
    )
    fields: dict[str, Any] = {
        "subject": subject(),
        "base": side("0", 0.0, kl=0.0, perplexity=1.0, facts=0.0, length_ratio=1.0),
        "interventions": (vector_method(0.34, -0.28), prompt_method(), few_shot_method()),
        "written": written(),
        "safe": safe_range(),
        "sweep": sweep(),
        "ceiling": Ceiling({"+": 0.9, "-": -0.8}, around(0.83, 0.1), around(0.75, 0.1), 8),
        "controls": controls(),
        "prompt_swing": around(0.42, 0.06),
        "verdict": Verdict("works", {"+": True, "-": True}, True, sentences),
        "setting": setting(),
        "run": RUN,
    }
    return Report(**{**fields, **changes})


def with_lora() -> Report:
    """Return the same with a fine-tuned adapter beside it."""
    report = working()
    return replace(report, interventions=(*report.interventions, lora_method()))


def not_working() -> Report:
    """Return the report of a vector and of prompts that do no more than random directions."""
    prompt = replace(prompt_method(), times_prompt=None)
    vector = replace(vector_method(0.02, -0.03), times_prompt=None)
    return working(
        interventions=(vector, prompt),
        controls=controls(
            shuffled=control(0.04, -0.03), band=None, anti_steerable={"+": 0.4, "-": 0.45}, refusal_cosine=0.31
        ),
        prompt_swing=around(0.03, 0.06),
        written=written(0.02, -0.03, prompts=0.0),
        verdict=Verdict(
            "does not work",
            {"+": False, "-": False},
            False,
            ("'glad' does not work: it moves Small-135M-Instruct no further than directions without meaning do.",),
        ),
    )


def one_way() -> Report:
    """Return the report of a vector that works one way only."""
    verdict = Verdict("one way only", {"+": True, "-": False}, True, ("'glad' works one way only.",))
    return working(
        interventions=(vector_method(0.34, -0.01), prompt_method()), written=written(0.5, -0.01), verdict=verdict
    )


def unmeasured() -> Report:
    """Return a report without personas, without optional packages, and with given layers."""
    bare = dict[str, Any](kl=None, facts=None, accuracy=None, relevance=None, refuses_harmful=None)
    sides = {sign: replace(side(sign, None, **bare), scores={}, choices=None, chosen=None) for sign in ("+", "-")}
    base = replace(side("0", None, **bare), scores={}, choices=None, chosen=None)
    return working(
        subject=subject(candidates=(), pairwise_cosine=None, calibrated_here=True, description=""),
        base=base,
        interventions=(method("vector", None, None, sides=sides, dial=True),),
        sweep=sweep(effects=False),
        controls=Controls((), None, None, None, {}, 0.05),
        prompt_swing=None,
        written={},
        ceiling=None,
        verdict=Verdict("not measured", {}, None, ("No effect was measured: the behaviour has no personas.",)),
        setting=setting(scorers={}, missing=("relevance: the embedding model is not installed",)),
        run=Run("", {}, {}),
    )


def every_report() -> Mapping[str, Report]:
    """Return all reports by name."""
    return {
        "works": working(),
        "lora": with_lora(),
        "does not work": not_working(),
        "one way": one_way(),
        "not measured": unmeasured(),
    }

"""``trimtab train``, ``calibrate`` and ``show``: control vectors and their cards."""

from __future__ import annotations

import hashlib
import shlex
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.panel import Panel
from rich.table import Column, Table
from rich.text import Text

from trimtab.cli.options import (
    BehaviourArgument,
    BudgetOption,
    CheckOption,
    DtypeOption,
    ForceOption,
    JsonOption,
    ModelOption,
    OutputOption,
    QuickOption,
    ResumeOption,
    SeedOption,
    ThinkingOption,
    ThoroughOption,
    VectorArgument,
    effort_of,
    err,
    facts_table,
    model_option,
    notice,
    out,
    output_path,
    parse_layers,
    print_json,
    print_saved,
    right,
    save_or_rescue,
    steer_option,
    vector_json,
)
from trimtab.cli.session import Session
from trimtab.defaults import BUDGET, MAX_PAIRS, METHOD, STATES_MEMORY
from trimtab.errors import InUseError, OutputError

if TYPE_CHECKING:
    from trimtab.behaviours import Behaviour
    from trimtab.cli.options import PhaseProgress
    from trimtab.engines.transformers import TransformersEngine
    from trimtab.vectors import Calibration, Candidate, ControlVector, Effect, HeldOut

MIB = 1024**2
BAR = 24  # characters of the longest bar


def train(
    behaviour: BehaviourArgument,
    output: OutputOption = None,
    method: Annotated[
        str,
        typer.Option(
            help="Estimator: mean_difference, pca_center, pca_diff, logistic or lda; or distilled, which learns from "
            "the personas by gradient."
        ),
    ] = METHOD,
    layers: Annotated[
        str, typer.Option(help="Layers to steer, such as 14-24 or 8,12,16; 'auto' chooses by measurement.")
    ] = "auto",
    budget: BudgetOption = BUDGET,
    source: Annotated[
        str, typer.Option(help="Texts to learn from: prompts (contrastive), or responses (answers in character).")
    ] = "prompts",
    temperature: Annotated[float, typer.Option(help="Sampling temperature of these answers; 0 is greedy.")] = 0.0,
    max_pairs: Annotated[int, typer.Option(help="Maximum number of contrastive pairs.")] = MAX_PAIRS,
    calibrate: Annotated[bool, typer.Option(help="Choice of layers and calibration of the strength.")] = True,
    check: CheckOption = True,
    quick: QuickOption = False,
    thorough: ThoroughOption = False,
    refine: Annotated[
        int | None,
        typer.Option(min=0, help="Gradient steps that refine the direction; 0 for none, by default as many as fit."),
    ] = None,
    seed: SeedOption = 0,
    memory: Annotated[int, typer.Option(min=1, help="Memory for hidden states, in MiB.")] = STATES_MEMORY // MIB,
    resume: ResumeOption = False,
    show_pairs: Annotated[
        int,
        typer.Option("--show-pairs", min=0, help="Number of pairs to print as the model sees them; trains nothing."),
    ] = 0,
    model: ModelOption = None,
    dtype: DtypeOption = None,
    thinking: ThinkingOption = None,
    json: JsonOption = False,
) -> None:
    """Train a control vector for a behaviour, choose its layers, and calibrate its strength."""
    from trimtab.behaviours import Behaviour

    effort = effort_of(quick=quick, thorough=thorough)
    described = Behaviour.load(behaviour)
    chosen = parse_layers(layers)
    session = Session(model, dtype=dtype, thinking=thinking, announce=not json)
    if show_pairs:
        _show_pairs(described, session.engine, show_pairs, max_pairs, as_json=json)
        return
    path = output_path(output, described.name)
    with session.progress() as (engine, phases):
        from trimtab.training.train import train

        with resumable(path, resume=resume) as checkpoint:
            vector = train(
                engine,
                described,
                effort=effort,
                method=method,
                layers=chosen,
                calibrate=calibrate,
                budget=budget,
                source=source,
                temperature=temperature,
                max_pairs=max_pairs,
                seed=seed,
                check=check,
                refine=refine,
                memory=memory * MIB,
                checkpoint=checkpoint,
                progress=phases.on_progress,
            )
    hint = f"compare 'How was your day?' {steer_option(path, model=model)}"
    if not calibrate:
        hint = f"calibrate {shlex.quote(str(path))}{model_option(model)}"
    _finish(vector, path, phases, hint=f"Next: trimtab {hint}", as_json=json)


def _finish(vector: ControlVector, path: Path, phases: PhaseProgress, *, hint: str = "", as_json: bool) -> None:
    """Save a vector, and print its card or its JSON."""
    save_or_rescue(vector, path)
    if as_json:
        print_json(vector_json(vector, path, phases))
        return
    print_card(vector)
    print_saved(path, hint)


@contextmanager
def resumable(output: Path, *, resume: bool) -> Iterator[Path | None]:
    """Give the checkpoint of the work for ``output``, without old results unless resuming; say how to resume.

    Without a folder for it the work is done all the same, unless it is to be resumed.
    """
    checkpoint: Path | None = checkpoint_path(output)
    if resume and not checkpoint_path(output).exists():
        err.print("There is nothing to resume; starting from the beginning.")
    elif not resume:
        from trimtab.training.checkpoint import clear_checkpoint

        try:
            clear_checkpoint(checkpoint_path(output))
        except InUseError:
            raise
        except OutputError as error:
            notice(f"If this is interrupted it cannot be resumed: {error.problem}. To keep it, set TRIMTAB_CACHE.")
            checkpoint = None
    try:
        yield checkpoint
    except KeyboardInterrupt:
        kept = "The same command with --resume goes on from here." if checkpoint else "Nothing was kept."
        err.print(f"Stopped. {kept}", soft_wrap=True)
        raise


def checkpoint_path(output: Path) -> Path:
    """Return the checkpoint of the work for ``output``: in the cache, not beside the file."""
    from trimtab.engines.transformers.model.source import cache_folder

    name = hashlib.sha256(str(output.absolute()).encode()).hexdigest()[:16]
    return cache_folder() / "checkpoints" / f"{name}.sqlite"


def _show_pairs(behaviour: Behaviour, engine: TransformersEngine, count: int, max_pairs: int, *, as_json: bool) -> None:
    from trimtab.behaviours.pairs import build_pairs

    pairs = build_pairs(behaviour, engine, max_pairs=max_pairs)
    count = min(count, len(pairs))
    shown = [pairs[n * len(pairs) // count] for n in range(count)]
    if as_json:
        print_json({"pairs": [{"positive": pair.positive, "negative": pair.negative} for pair in shown]})
        return
    for number, pair in enumerate(shown, start=1):
        for sign, text in (("+", pair.positive), ("-", pair.negative)):
            out.rule(f"pair {number} of {len(pairs)}, {sign}", align="left", style="dim")
            out.print(text, markup=False, soft_wrap=True)


def show(vector: VectorArgument, json: JsonOption = False) -> None:
    """Show a vector's card: its model, its layers, and what was measured of it."""
    from trimtab.vectors import find_vector

    shown = find_vector(vector)
    if json:
        print_json(shown.describe())
    else:
        print_card(shown)


def calibrate(
    vector: VectorArgument,
    output: Annotated[
        str | None, typer.Option("--output", "-o", help="Vector file to write; default: the vector's file.")
    ] = None,
    behaviour: Annotated[
        str | None, typer.Option("--behaviour", "-b", help="Behaviour to measure effects and rank layers by.")
    ] = None,
    operator: Annotated[str, typer.Option(help="Operator to calibrate: add, add_preserving_norm or rotate.")] = "add",
    budget: BudgetOption = BUDGET,
    layers: Annotated[
        str | None,
        typer.Option(help="Layers to steer, such as 14-24; 'auto' chooses by measurement; default: the vector's."),
    ] = None,
    check: CheckOption = True,
    seed: SeedOption = 0,
    force: ForceOption = False,
    model: ModelOption = None,
    dtype: DtypeOption = None,
    thinking: ThinkingOption = None,
    json: JsonOption = False,
) -> None:
    """Find the scale at which strength ±1 spends the budget, for adding or another operator."""
    from trimtab.behaviours import Behaviour

    session = Session(model, dtype=dtype, thinking=thinking, announce=not json, force=force)
    given = session.stored(vector)
    described = Behaviour.load(behaviour) if behaviour is not None else None
    chosen = parse_layers(layers) if layers is not None else None
    path = output_path(output, vector)
    with session.progress() as (engine, phases):
        from trimtab.training.calibrate import calibrate

        calibrated = calibrate(
            engine,
            given,
            operator=operator,
            behaviour=described,
            layers=chosen,
            budget=budget,
            seed=seed,
            check=check,
            progress=phases.on_progress,
        )
    _finish(calibrated, path, phases, as_json=json)


def print_card(vector: ControlVector) -> None:
    """Print everything that a vector's file knows, for people."""
    table = facts_table((label, Text(value)) for label, value in _facts(vector))
    out.print(Panel(table, title=Text(vector.behaviour.name, "bold"), title_align="left"))
    if vector.calibration is not None:
        _print_calibration(vector.calibration)
    if rows := list(_reading_facts(vector)):
        out.print(Panel(facts_table(rows), title="Reading", title_align="left"))
    out.print(_layer_chart(vector))


def _facts(vector: ControlVector) -> Iterator[tuple[str, str]]:
    model = vector.model
    yield "model", f"{model.name} ({model.architecture}, {model.layers} layers of {model.hidden_size})"
    yield "method", vector.method + (" (quick: neither refined nor checked)" if vector.effort == "quick" else "")
    yield "steers", f"layers {_layers(vector.layers)}"
    if vector.scale:
        yield "scale", f"+{vector.scale['+']:.4f}  -{vector.scale['-']:.4f} of each layer's norm at strength ±1"
    else:
        yield "scale", "not calibrated: steer by coefficient"
    if vector.scale:
        yield "safe range", "not measured" if vector.safe is None else str(vector.safe)
    held_out = vector.calibration.held_out if vector.calibration is not None else None
    for written in held_out.written if held_out is not None else ():
        yield "written effect", f"{written}, on {written.questions} held-out questions"
    for name, scale in vector.operator_scales.items():
        unit = "radians" if name == "rotate" else "of each layer's norm"
        yield name, f"+{scale['+']:.4f}  -{scale['-']:.4f} {unit} at strength ±1"
    if r := vector.reliability:
        agreement = f"pairwise cosine {r.pairwise_cosine:.2f}, {r.separation:.0%} separated"
        yield "reliability", f"{agreement}, {r.pairs} pairs"
    if d := vector.distillation:
        closed = 1 - d.kl_after / d.kl_before
        yield (
            "distilled",
            f"a prompt of {d.prompt_tokens} tokens; gap {d.kl_before:.3f} nats per token unsteered, "
            f"{d.kl_after:.3f} steered ({closed:.0%} closed)",
        )
        yield "learned", f"from {d.lessons} answers in {d.steps} steps, validated on {d.others} others"
    if c := vector.collection:
        yield "collected", f"{c.prompts:,} prompts, {c.tokens:,} tokens, {c.computed:,} of them computed ({c.reason})"
    yield "made", f"{vector.created or 'unknown'} by trimtab {vector.trimtab_version or 'unknown'}"


def _reading_facts(vector: ControlVector) -> Iterator[tuple[str, str]]:
    if (reader := vector.reader) is not None:
        pooled = "over a text's words" if reader.pool == "mean" else "at its last token"
        yield "read", f"layers {_layers(reader.layers)}, {pooled}"
        if reader.auroc is not None:
            texts = f" ({reader.positives} texts against {reader.negatives})" if reader.positives else ""
            yield "AUROC", f"{reader.auroc:.3f} on texts left out{texts}"
        if reader.auroc_by_layer:
            best = sorted(reader.auroc_by_layer.items(), key=lambda entry: -entry[1])[:3]
            yield "best layers", "  ".join(f"{layer}: {area:.3f}" for layer, area in best)
    if (neutral := vector.neutral) is not None:
        yield "neutral", f"measured on {neutral.prompts} chats, {neutral.tokens:,} tokens"
    for fit in vector.fits:
        low, high = fit.readings[0], fit.readings[-1]
        yield "fitted", f"at {fit.at} on {fit.texts} texts, which read {low:+.2f} to {high:+.2f}"


def _layers(layers: Sequence[int]) -> str:
    from trimtab.vectors.records import layer_range

    return layer_range(layers, dash="–")


def _print_calibration(calibration: Calibration) -> None:
    numbers = right("KL +", "KL −", "effect +", "effect −", "swing (95 % interval)", "× prompts")
    title = f"Preference between given answers at strength ±1 (budget {calibration.budget:g} nat per token)"
    table = Table("prompts", *numbers, title=title, title_justify="left")
    held_out = calibration.held_out
    measured: dict[str, Calibration | HeldOut] = {"calibration": calibration}
    if held_out:
        measured["held-out"] = held_out
    for name, on in measured.items():
        table.add_row(f"{name} ({on.prompts})", f"{on.kl['+']:.3f}", f"{on.kl['-']:.3f}", *_effect(on.effect))
    out.print(table)
    reasons = [on.effect.reason for on in measured.values() if on.effect and on.effect.reason]
    if reasons:
        out.print(f"Not beside the prompts: {reasons[0]}.", style="dim")
    if calibration.effect and calibration.effect.random_swings:
        swings = "  ".join(f"{swing:+.3f}" for swing in calibration.effect.random_swings)
        out.print(f"Random directions at the same KL swing by {swings}", style="dim")
    if held_out and held_out.quality:
        for name, label in (("+", "+1"), ("-", "−1"), ("random", "random, equal norm")):
            quality, base = held_out.quality[name], held_out.quality["base"]
            out.print(
                f"Answers at {label}: perplexity × {quality.perplexity_ratio:.2f}, distinct bigrams "
                f"{quality.distinct_2:.2f} (base {base.distinct_2:.2f})",
                style="dim",
            )
    if calibration.candidates:
        out.print(_candidates(calibration.candidates))


def _effect(effect: Effect | None) -> tuple[str, ...]:
    if effect is None:
        return ("–",) * 4
    ratio = "–" if effect.prompt_equivalents is None else f"{effect.prompt_equivalents:.1f}"
    swing = f"{effect.swing.value:.3f} ({effect.swing.low:.3f} to {effect.swing.high:.3f})"
    return f"{effect.effect['+']:+.3f}", f"{effect.effect['-']:+.3f}", swing, ratio


def _candidates(candidates: Sequence[Candidate]) -> Table:
    columns = (Column("layers"), Column(), *right("swing", "95 % interval", "prompts"))
    table = Table(*columns, title="Layers tried at equal KL", title_justify="left")
    best = max(max(candidate.swing.value for candidate in candidates), 1e-9)
    for candidate in candidates:
        swing = candidate.swing
        table.add_row(
            _layers(candidate.layers),
            f"[green]{'█' * round(BAR * max(swing.value, 0.0) / best)}[/green]",
            f"{swing.value:.3f}",
            f"{swing.low:.3f} to {swing.high:.3f}",
            str(candidate.prompts),
        )
    return table


def _layer_chart(vector: ControlVector) -> Table:
    """Return a line per layer: the weight, relative to the heaviest, and how well the pairs agree."""
    columns = (Column("layer", justify="right", style="dim"), Column("weight"), Column("agreement of pairs"))
    table = Table(*columns, title="Layers", title_justify="left", box=None, padding=(0, 1))
    heaviest = max(vector.weights.values(), default=0.0) or 1.0
    cosines = vector.reliability.cosine_by_layer if vector.reliability else {}
    for layer in sorted(vector.weights):
        weight = "█" * round(BAR / 2 * vector.weights[layer] / heaviest)
        cosine = cosines.get(layer)
        agreement = "" if cosine is None else "▒" * round(BAR * max(cosine, 0.0)) + f" {cosine:.2f}"
        table.add_row(str(layer), f"[green]{weight}[/green]", agreement)
    return table

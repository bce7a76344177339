"""A vector's card: what it is, where it steers, what it costs and what it does."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.panel import Panel
from rich.table import Table

from trimtab.cli.console import out
from trimtab.vectors.records import layer_range

if TYPE_CHECKING:
    from collections.abc import Mapping

    from trimtab.vectors import Calibration, ControlVector, Effect

BAR = 24


def print_card(vector: ControlVector) -> None:
    """Print everything that a vector's file knows, for people."""
    out.print(Panel(_facts(vector), title=f"[bold]{vector.behaviour.name}[/bold]", title_align="left"))
    if vector.calibration is not None:
        _print_calibration(vector.calibration)
    _print_reading(vector)
    out.print(_layer_chart(vector))


def _facts(vector: ControlVector) -> Table:
    table = Table.grid(padding=(0, 2))
    table.add_column(style="dim")
    table.add_column()
    model = vector.model
    table.add_row("model", f"{model.name} ({model.architecture}, {model.layers} layers of {model.hidden_size})")
    table.add_row("method", vector.method)
    table.add_row("steers", f"layers {layer_range(vector.layers)}")
    if vector.scale:
        table.add_row(
            "scale", f"+{vector.scale['+']:.4f}  -{vector.scale['-']:.4f} of each layer's norm at strength ±1"
        )
    else:
        table.add_row("scale", "never calibrated: steer by coefficient")
    for name, scale in vector.operator_scales.items():
        unit = "radians" if name == "rotate" else "of each layer's norm"
        table.add_row(name, f"+{scale['+']:.4f}  -{scale['-']:.4f} {unit} at strength ±1")
    if vector.reliability:
        r = vector.reliability
        table.add_row(
            "reliability",
            f"{r.pairs} pairs agree with cosine {r.pairwise_cosine:.2f}; {r.separation:.0%} lie the right way round",
        )
    if vector.distillation:
        d = vector.distillation
        table.add_row(
            "distilled",
            f"a prompt of {d.prompt_tokens} tokens: {d.kl_before:.3f} nat apart without it, {d.kl_after:.3f} steered, "
            f"{1 - d.kl_after / d.kl_before:.0%} of the way",
        )
        table.add_row("learned", f"from {d.lessons} answers in {d.steps} steps, told on {d.others} others")
    if vector.collection:
        c = vector.collection
        table.add_row(
            "collected", f"{c.prompts:,} prompts, {c.tokens:,} tokens, {c.computed:,} of them computed ({c.reason})"
        )
    table.add_row("made", f"{vector.created or 'unknown'} by trimtab {vector.trimtab_version or 'unknown'}")
    return table


def _print_reading(vector: ControlVector) -> None:
    """How the vector is read, and what its readings are measured against, as far as either is known."""
    table = Table.grid(padding=(0, 2))
    table.add_column(style="dim")
    table.add_column()
    if (reader := vector.reader) is not None:
        how = "over a text's words" if reader.pool == "mean" else "at its last token"
        table.add_row("read", f"layers {layer_range(reader.layers)}, {how}")
        if reader.auroc is not None:
            made = f" ({reader.positives} texts against {reader.negatives})" if reader.positives else ""
            table.add_row("AUROC", f"{reader.auroc:.3f} on texts left out{made}")
        if reader.auroc_by_layer:
            best = sorted(reader.auroc_by_layer.items(), key=lambda entry: -entry[1])[:3]
            table.add_row("best layers", "  ".join(f"{layer}: {area:.3f}" for layer, area in best))
    if (neutral := vector.neutral) is not None:
        table.add_row("neutral", f"measured on {neutral.prompts} chats, {neutral.tokens:,} tokens")
    for fit in vector.fits:
        low, high = fit.readings[0], fit.readings[-1]
        table.add_row("fitted", f"at {fit.at} on {fit.texts} texts, which read {low:+.2f} to {high:+.2f}")
    if table.row_count:
        out.print(Panel(table, title="Reading", title_align="left"))


def _print_calibration(calibration: Calibration) -> None:
    table = Table(title=f"At strength ±1 (budget {calibration.budget:g} nat per token)", title_justify="left")
    for header in (
        "prompts",
        "KL +",
        "KL −",
        "effect +",
        "effect −",
        "swing (95 % interval)",
        "prompt-equivalents",
    ):
        table.add_column(header, justify="right" if header != "prompts" else "left")
    table.add_row(f"calibration ({calibration.prompts})", *_kl(calibration.kl), *_effect(calibration.effect))
    held_out = calibration.held_out
    if held_out:
        table.add_row(f"held-out ({held_out.prompts})", *_kl(held_out.kl), *_effect(held_out.effect))
    out.print(table)
    for effect in (calibration.effect, held_out.effect if held_out else None):
        if effect and effect.reason:
            out.print(f"No prompt-equivalents: {effect.reason}.", style="yellow")
            break
    if calibration.effect and calibration.effect.random_swings:
        swings = "  ".join(f"{swing:+.3f}" for swing in calibration.effect.random_swings)
        out.print(f"Random directions at the same KL swing by {swings}", style="dim")
    if held_out:
        for name, label in (("+", "+1"), ("-", "−1"), ("random", "random, equal norm")):
            quality, base = held_out.quality[name], held_out.quality["base"]
            out.print(
                f"Answers at {label}: perplexity × {quality.perplexity_ratio:.2f}, distinct bigrams "
                f"{quality.distinct_2:.2f} (base {base.distinct_2:.2f})",
                style="dim",
            )
    if calibration.candidates:
        out.print(_candidates(calibration))


def _kl(kl: Mapping[str, float]) -> tuple[str, str]:
    return f"{kl['+']:.3f}", f"{kl['-']:.3f}"


def _effect(effect: Effect | None) -> tuple[str, ...]:
    if effect is None:
        return ("–", "–", "–", "–")
    ratio = "–" if effect.prompt_equivalents is None else f"{effect.prompt_equivalents:.1f}"
    swing = f"{effect.swing.value:.3f} ({effect.swing.low:.3f} to {effect.swing.high:.3f})"
    return f"{effect.effect['+']:+.3f}", f"{effect.effect['-']:+.3f}", swing, ratio


def _candidates(calibration: Calibration) -> Table:
    table = Table(title="Layers tried at equal KL", title_justify="left")
    table.add_column("layers")
    table.add_column("")
    for header in ("swing", "95 % interval", "prompts"):
        table.add_column(header, justify="right")
    best = max(max(candidate.swing.value for candidate in calibration.candidates), 1e-9)
    for candidate in calibration.candidates:
        bar = "█" * round(BAR * max(candidate.swing.value, 0.0) / best)
        table.add_row(
            layer_range(candidate.layers),
            f"[green]{bar}[/green]",
            f"{candidate.swing.value:.3f}",
            f"{candidate.swing.low:.3f} to {candidate.swing.high:.3f}",
            str(candidate.prompts),
        )
    return table


def _layer_chart(vector: ControlVector) -> Table:
    """One line a layer: what is added at strength 1 relative to the norm, and how well the pairs agree there."""
    table = Table(title="Layers", title_justify="left", box=None, padding=(0, 1))
    table.add_column("layer", justify="right", style="dim")
    table.add_column("weight")
    table.add_column("agreement of pairs")
    heaviest = max(vector.weights.values(), default=0.0) or 1.0
    cosines = vector.reliability.cosine_by_layer if vector.reliability else {}
    for layer in sorted(vector.weights):
        weight = "█" * round(BAR / 2 * vector.weights[layer] / heaviest)
        cosine = cosines.get(layer)
        agreement = "" if cosine is None else "▒" * round(BAR * max(cosine, 0.0)) + f" {cosine:.2f}"
        table.add_row(str(layer), f"[green]{weight}[/green]", agreement)
    return table

"""``trimtab train``: from a behaviour to a calibrated vector in a file."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Annotated, Any

import typer

from trimtab.cli.card import print_card
from trimtab.cli.console import (
    DtypeOption,
    JsonOption,
    ModelOption,
    ThinkingOption,
    check_writable,
    err,
    load_model,
    out,
    parse_layers,
    phase_progress,
    print_json,
    save_with_care,
    seconds_table,
)

NAME = "train"
EXAMPLE = "trimtab train happy -o happy.safetensors"


def run(
    behaviour: Annotated[str, typer.Argument(help="A behaviour of the zoo, or a path to a .toml file.")],
    output: Annotated[
        str | None, typer.Option("--output", "-o", help="The file to write; the vectors folder if not given.")
    ] = None,
    method: Annotated[
        str, typer.Option(help="mean_difference, pca_center, pca_diff, logistic, lda; or distilled from the personas.")
    ] = "mean_difference",
    layers: Annotated[str, typer.Option(help="'auto' sweeps; or layers such as 14-24 or 8,12,16.")] = "auto",
    budget: Annotated[float, typer.Option(help="Nats per token that strength 1 spends: 0.3 gentle, 0.6 strong.")] = 0.4,
    source: Annotated[
        str, typer.Option(help="prompts: contrasting prompts; responses: the model's own answers in character.")
    ] = "prompts",
    temperature: Annotated[float, typer.Option(help="Of those answers; 0 is greedy.")] = 0.0,
    max_pairs: Annotated[int, typer.Option(help="Upper bound on contrastive pairs.")] = 420,
    calibrate: Annotated[bool, typer.Option(help="Place the vector and give its strength a unit.")] = True,
    check: Annotated[bool, typer.Option(help="Also measure on held-out prompts.")] = True,
    refine: Annotated[
        int, typer.Option(min=0, help="Steps uphill from the estimate, about a second each; 0 leaves it as it is.")
    ] = 40,
    seed: Annotated[int, typer.Option(help="Of the random directions in the comparison.")] = 0,
    memory: Annotated[int, typer.Option(min=1, help="MiB that hidden states may take, for any number of pairs.")] = 512,
    resume: Annotated[bool, typer.Option("--resume", help="Go on where an interrupted training stopped.")] = False,
    show_pairs: Annotated[
        int, typer.Option("--show-pairs", min=0, help="Print so many pairs as the model sees them, and stop.")
    ] = 0,
    model: ModelOption = None,
    dtype: DtypeOption = None,
    thinking: ThinkingOption = None,
    json: JsonOption = False,
) -> None:
    """Train a control vector for a behaviour, place it on the best layers, and calibrate its strength."""
    from trimtab.behaviours import Behaviour
    from trimtab.vectors import vector_path

    described = Behaviour.load(behaviour)
    chosen = parse_layers(layers)
    path = Path(output) if output else vector_path(described.name)
    if not show_pairs:
        check_writable(path)
    with phase_progress() as phases:
        phases.begin("Loading the model")
        engine = load_model(model, dtype=dtype, thinking=thinking, notice=not json)
        if not show_pairs:
            from trimtab.training.train import train

            checkpoint = checkpoint_path(path)
            begin_checkpoint(checkpoint, resume=resume)
            try:
                vector = train(
                    engine,
                    described,
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
                    memory=memory * 1024**2,
                    checkpoint=checkpoint,
                    progress=phases.on_progress,
                )
            except KeyboardInterrupt:
                err.print("Stopped. The same command with --resume goes on from here.", soft_wrap=True)
                raise
    if show_pairs:
        _show_pairs(described, engine, show_pairs, max_pairs, as_json=json)
        return
    save_with_care(vector, path)
    if json:
        print_json({"path": str(path), "seconds": seconds_table(phases.seconds), **vector.describe()})
        return
    print_card(vector)
    out.print(
        f"Saved to [bold]{path}[/bold]. Try: trimtab compare 'How was your day?' --steer {path}",
        soft_wrap=True,
    )


def checkpoint_path(output: Path) -> Path:
    """Where an interrupted training for ``output`` keeps what it found out: in the cache, not beside the file."""
    from trimtab.engines.transformers.model.source import cache_folder

    name = hashlib.sha256(str(output.absolute()).encode()).hexdigest()[:16]
    return cache_folder() / "checkpoints" / f"{name}.sqlite"


def begin_checkpoint(checkpoint: Path, *, resume: bool) -> None:
    """Keep what interrupted work found out if it is to be gone on with, else forget it."""
    if resume and not checkpoint.exists():
        err.print("There is nothing to resume; beginning anew.")
    elif not resume:
        checkpoint.unlink(missing_ok=True)


def _show_pairs(behaviour: Any, engine: Any, count: int, max_pairs: int, *, as_json: bool) -> None:
    from trimtab.behaviours.pairs import build_pairs

    pairs = build_pairs(behaviour, engine, max_pairs=max_pairs)
    shown = [pairs[n * len(pairs) // min(count, len(pairs))] for n in range(min(count, len(pairs)))]
    if as_json:
        print_json({"pairs": [{"positive": pair.positive, "negative": pair.negative} for pair in shown]})
        return
    for number, pair in enumerate(shown, start=1):
        for sign, text in (("+", pair.positive), ("-", pair.negative)):
            out.rule(f"pair {number} of {len(pairs)}, {sign}", align="left", style="dim")
            out.print(text, markup=False, soft_wrap=True)

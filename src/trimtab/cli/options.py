"""Options and arguments that several verbs share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from trimtab.errors import SteeringError

BehaviourArgument = Annotated[str, typer.Argument(help="Behaviour of the zoo, or path to a .toml file.")]
VectorArgument = Annotated[str, typer.Argument(help="Vector file, or name in the vectors folder.")]

ModelOption = Annotated[
    str | None,
    typer.Option("--model", "-m", help="Hub id, folder or .gguf file of the model; default: SmolLM2-135M-Instruct."),
]
DtypeOption = Annotated[
    str | None,
    typer.Option(help="Data type of the weights: float32 (default), bfloat16, float16, or auto (as saved)."),
]
ThinkingOption = Annotated[
    bool | None,
    typer.Option("--thinking/--no-thinking", help="Thinking of a reasoning model; default: as its chat template says."),
]
JsonOption = Annotated[bool, typer.Option("--json", help="Only JSON on standard output.")]
ForceOption = Annotated[bool, typer.Option("--force", help="Use of vectors that were trained for other weights.")]

SteerOption = Annotated[
    list[str] | None,
    typer.Option(
        "--steer",
        "-s",
        help="Steering, such as 'happy:0.8 + formal:-0.3@generated'; repeated options add up. See docs/steering.md.",
    ),
]
SystemOption = Annotated[str | None, typer.Option(help="System prompt.")]
RawOption = Annotated[bool, typer.Option("--raw", help="Plain text without a chat template.")]
TokensOption = Annotated[int, typer.Option("--max-new-tokens", "-n", min=1, help="Maximum tokens of an answer.")]
TemperatureOption = Annotated[float, typer.Option(help="Sampling temperature; 0 is greedy.")]
SamplingSeedOption = Annotated[int | None, typer.Option(help="Seed for sampling; default: a new one each time.")]

SeedOption = Annotated[int, typer.Option(help="Seed of everything random in training and measuring.")]
BudgetOption = Annotated[
    float,
    typer.Option(help="KL that strength 1 spends (nats per token): 0.3 is gentle, 0.6 strong."),
]
CheckOption = Annotated[bool, typer.Option(help="Measurement on held-out prompts.")]
LoraOption = Annotated[bool, typer.Option("--lora", help="Comparison with LoRA fine-tuning; takes minutes.")]
OutputOption = Annotated[
    str | None, typer.Option("--output", "-o", help="Vector file to write; default: by name in the vectors folder.")
]
ReportOption = Annotated[Path | None, typer.Option("--report", "-r", help="Report page to write (.html).")]
ResumeOption = Annotated[bool, typer.Option("--resume", help="Continuation of an interrupted run.")]


def parse_layers(text: str, *, words: tuple[str, ...] = ("auto",)) -> str | list[int]:
    """Return one of ``words``, or layers such as ``14-24`` or ``8,12,16``.

    Raises:
        SteeringError: The text is neither.
    """
    if text in words:
        return text
    layers: list[int] = []
    try:
        for part in text.split(","):
            first, _, last = part.partition("-")
            layers += range(int(first), int(last or first) + 1)
    except ValueError:
        known = ", ".join(map(repr, words))
        raise SteeringError(f"cannot read the layers {text!r}", fix=f"write {known}, '14-24' or '8,12,16'") from None
    return layers

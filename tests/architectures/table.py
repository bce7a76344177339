"""Write docs/architectures.md: ``python -m architectures.table`` with tests/ on the path; ``--check`` only compares."""

from __future__ import annotations

import argparse
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path

import torch
import transformers

from architectures.building import Architecture, Kind, every_architecture
from architectures.matrix import Mismatch, Outcome, Result, check

PAGE = Path(__file__).parents[2] / "docs" / "architectures.md"
TITLES: dict[Kind, str] = {
    "causal": "Causal language models",
    "vision": "Models that also read pictures",
    "seq2seq": "Encoder-decoder and speech models",
}
OUTCOMES: tuple[Outcome, ...] = ("works", "plain path only", "refused", "not built")
MADE_WITH = "Made on"  # start of the one line that changes every day
HEAD = ("class", "outcome", "blocks", "width", "shared beginnings", "note")

INTRO = """\
# Architectures

trimtab has no list of models. It observes a small pass through a model, finds the decoder layers (modules that pass on
one hidden state per token), and proves that steering them changes the result. This page shows the outcome for every
class that transformers can generate text with. For your own model, run `trimtab doctor -m MODEL`.

| outcome | meaning |
|---|---|
| works | All checks below pass, and prefixes that texts share are computed once. |
| plain path only | All checks below pass, but texts are read separately: the model takes or heeds no custom mask. |
| refused | The model is refused when it is loaded, with the reason. It is never steered partially. |

Each class is built small (about four layers of width 32) with random weights. The checks:

- Hidden states of several texts, short and long, equal those that transformers reports, or those of plain hooks, for
  one text at a time: every vector within 1e-5.
- Steered logits equal those with the same vectors added by hand to the input of the next layer: within 1e-4. They must
  differ from unsteered logits. Without steering, they must be the same again, bit for bit.
- A steered answer equals that of transformers' own `generate`, steered by hand: token for token.

"Shared beginnings" says how texts with the same prefix are read: as a tree in one pass, or plainly, each one
separately. A sliding window makes a tree inexact for texts longer than the window; long texts are then read plainly.
For an encoder-decoder model, the hidden states are those of its decoder; with `encoder=True`, those of its encoder.
Models that also read pictures are tested on text only; the tests show a picture to two of them.

`make architectures` writes this page. `make test-architectures` checks it.
"""


def results(kinds: Sequence[Kind] = tuple(TITLES)) -> Iterator[Result]:
    """Check every class in the order of the page; report failures on standard error and leave them out."""
    for kind in kinds:
        for architecture in of_kind(kind):
            try:
                yield check(architecture)
            except Exception as error:  # a bug of ours in one must not hide the others
                what = str(error) if isinstance(error, Mismatch) else repr(error)
                print(f"FAILS {architecture}: {what}", file=sys.stderr)


def of_kind(kind: Kind) -> list[Architecture]:
    """Return the classes of a kind, sorted by name."""
    return sorted((a for a in every_architecture() if a.kind == kind), key=lambda a: (a.name.lower(), a.config))


def label(architecture: Architecture) -> str:
    """Return the class, with its config where several have the same name."""
    alike = [other for other in every_architecture() if other.name == architecture.name]
    return f"`{architecture.name}`" + (f" of `{architecture.config}`" if len(alike) > 1 else "")


def row_of(result: Result) -> str:
    """Return a line of the table."""
    where = f"`{result.path}` × {result.blocks}" if result.path else ""
    note = "; ".join(part for part in (result.reason, result.note) if part).replace("|", "\\|")
    width = str(result.width or "")
    return _row(label(result.architecture), result.outcome, where, width, result.reading, note)


def _row(*cells: str) -> str:
    return f"| {' | '.join(cells)} |"


def page_of(found: Sequence[Result]) -> str:
    """Return the whole page."""
    shown = [outcome for outcome in OUTCOMES if any(result.outcome == outcome for result in found)]
    lines = [INTRO, f"{MADE_WITH} {datetime.now(UTC):%Y-%m-%d} with {versions()}.", ""]
    lines += [_row("", *shown, "all"), _row("---", *["---:"] * (len(shown) + 1))]
    for kind, title in TITLES.items():
        counts = Counter(result.outcome for result in found if result.architecture.kind == kind)
        lines.append(_row(title, *(str(counts[outcome]) for outcome in shown), str(counts.total())))
    counts = Counter(result.outcome for result in found)
    lines.append(_row("total", *(str(counts[outcome]) for outcome in shown), str(counts.total())))
    for kind, title in TITLES.items():
        lines += ["", f"## {title}", "", _row(*HEAD), _row("---", "---", "---", "---:", "---", "---")]
        lines += [row_of(result) for result in found if result.architecture.kind == kind]
    return "\n".join([*lines, ""])


def versions() -> str:
    return f"transformers {transformers.__version__} and torch {torch.__version__.split('+')[0]}"


def rows_on_page() -> dict[str, str]:
    """Return the lines of the page's tables by their first cell."""
    lines = PAGE.read_text(encoding="utf-8").splitlines()
    return {line.split(" | ")[0].removeprefix("| "): line for line in lines if line.startswith("| `")}


def _undated(page: str) -> list[str]:
    return [line for line in page.splitlines() if not line.startswith(MADE_WITH)]


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="compare instead of writing")
    options = parser.parse_args(arguments)
    torch.set_num_threads(1)
    found = list(results())
    page = page_of(found)
    failed = len(found) < len(every_architecture())
    if options.check:
        stale = _undated(PAGE.read_text(encoding="utf-8")) != _undated(page)
        print("docs/architectures.md is out of date: make architectures" if stale else "docs/architectures.md is right")
        return int(stale or failed)
    PAGE.write_text(page, encoding="utf-8")
    return int(failed)


if __name__ == "__main__":
    raise SystemExit(main())

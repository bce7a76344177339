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
    "vision": "Models that read pictures too",
    "seq2seq": "Encoder-decoder models, and such as hear",
}
OUTCOMES: tuple[Outcome, ...] = ("works", "plain path only", "refused", "not built")
MADE_WITH = "Made on"  # how the one line begins that differs from day to day
HEAD = ("class", "outcome", "blocks", "width", "shared beginnings", "note")

INTRO = """\
# Architectures

trimtab knows no list of models. It watches a small pass through the one at hand, finds the blocks that hand on one
state for every token, and proves by steering them that the result hangs on them. This page tells what comes of that for
every class that transformers can generate text with.

Each class is built small (about four layers of width 32) with random weights. Then

- hidden states of several texts, short and long, are compared with what transformers reports or with plain hooks, read
  one text at a time: every vector within 1e-5;
- steered logits are compared with the same vectors added by hand on the way into the next block: within 1e-4; they must
  move, and be the same again afterwards, bit for bit;
- a steered answer is compared with that of transformers' own `generate`, steered by hand: token for token.

What comes of it:

| outcome | meaning |
|---|---|
| works | All of this holds, and beginnings that texts share are computed once. |
| plain path only | All of this holds, but every text is read by itself: the model takes or heeds no mask of ours. |
| refused | The model is refused when it is loaded, with the reason. It is never steered by halves. |

"Shared beginnings" tells how texts that begin alike are read: as a tree in one go, or plainly, each by itself. A
sliding window makes a tree inexact as soon as a text is longer than the window; then long texts are read plainly. An
encoder-decoder model gives the states of its decoder here; with `encoder=True` it gives those of its encoder. Models
that read pictures too are tried on text alone here; the tests show a picture to two of them.

`make architectures` writes this page anew, `make test-architectures` sees that it is right.
"""


def results(kinds: Sequence[Kind] = tuple(TITLES)) -> Iterator[Result]:
    """Everything checked, in the order of the page; what fails is told and left out."""
    for kind in kinds:
        for architecture in of_kind(kind):
            try:
                yield check(architecture)
            except Exception as error:  # a bug of ours in one must not hide the others
                what = str(error) if isinstance(error, Mismatch) else repr(error)
                print(f"FAILS {architecture}: {what}", file=sys.stderr)


def of_kind(kind: Kind) -> list[Architecture]:
    """Sorted by class."""
    return sorted((a for a in every_architecture() if a.kind == kind), key=lambda a: (a.name.lower(), a.config))


def label(architecture: Architecture) -> str:
    """The class, and its config where that is needed to tell it from others."""
    alike = [other for other in every_architecture() if other.name == architecture.name]
    return f"`{architecture.name}`" + (f" of `{architecture.config}`" if len(alike) > 1 else "")


def row_of(result: Result) -> str:
    """A line of the table."""
    where = f"`{result.path}` × {result.blocks}" if result.path else ""
    note = "; ".join(part for part in (result.reason, result.note) if part).replace("|", "\\|")
    width = str(result.width or "")
    return _row(label(result.architecture), result.outcome, where, width, result.reading, note)


def _row(*cells: str) -> str:
    return f"| {' | '.join(cells)} |"


def page_of(found: Sequence[Result]) -> str:
    """The whole page."""
    shown = [outcome for outcome in OUTCOMES if any(result.outcome == outcome for result in found)]
    lines = [INTRO, f"{MADE_WITH} {datetime.now(UTC):%Y-%m-%d} with {versions()}.", ""]
    lines += [_row("", *shown, "all"), _row("---", *["---:"] * (len(shown) + 1))]
    for kind, title in TITLES.items():
        counts = Counter(result.outcome for result in found if result.architecture.kind == kind)
        lines.append(_row(title, *(str(counts[outcome]) for outcome in shown), str(counts.total())))
    counts = Counter(result.outcome for result in found)
    lines.append(_row("together", *(str(counts[outcome]) for outcome in shown), str(counts.total())))
    for kind, title in TITLES.items():
        lines += ["", f"## {title}", "", _row(*HEAD), _row("---", "---", "---", "---:", "---", "---")]
        lines += [row_of(result) for result in found if result.architecture.kind == kind]
    return "\n".join([*lines, ""])


def versions() -> str:
    return f"transformers {transformers.__version__} and torch {torch.__version__.split('+')[0]}"


def rows_on_page() -> dict[str, str]:
    """Every line of the page's tables by what stands in its first cell."""
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

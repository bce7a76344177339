"""What was found out about a distilled vector, in sentences; for the terminal and for the page."""

from __future__ import annotations

from trimtab.evaluation.distilled import DistilledReport, Saving


def headline(report: DistilledReport) -> str:
    """The one sentence that matters."""
    closed = report.vector.closed
    return (
        f"{report.name!r} carries {closed.value:.0%} of the prompt ({closed.low:.0%} to {closed.high:.0%}, 95 %), on "
        f"{report.prompts} messages that it was not learned from."
    )


def advice(report: DistilledReport) -> str:
    """What must stay in the prompt."""
    if not report.stays:
        return "Nothing needs to stay in the prompt, of what the model follows at all."
    return "Leave in the prompt: " + " ".join(report.stays)


def spared(saving: Saving) -> str:
    """What a request costs less."""
    share = "" if saving.of_context is None else f", {saving.of_context:.1%} of the context window"
    seconds = saving.prefill_with - saving.prefill_without
    return (
        f"Each request is spared {saving.tokens} tokens{share}. Until the first token it takes "
        f"{1000 * saving.prefill_without:.0f} ms, not {1000 * saving.prefill_with:.0f} ms"
        + (f": {1000 * seconds:.0f} ms less." if seconds > 0 else ".")
    )

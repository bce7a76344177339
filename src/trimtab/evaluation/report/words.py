"""Figures as people read them. What was not measured, or is no finite number, is a dash."""

from __future__ import annotations

import math
from collections.abc import Iterable

from trimtab import layers as ranges
from trimtab.vectors import Interval

DASH = "–"
MINUS = "−"
BYTES = ("bytes", "kB", "MB", "GB", "TB")


def known(value: float | None) -> bool:
    """Whether there is a number at all."""
    return value is not None and math.isfinite(value)


def figure(value: float | None, places: int = 2, *, signed: bool = False) -> str:
    """A number with so many decimals and a real minus; zero never has a sign.

    Example:
        >>> figure(-0.126), figure(0.4, signed=True), figure(-0.001), figure(None)
        ('−0.13', '+0.40', '0.00', '–')
    """
    if value is None or not math.isfinite(value):
        return DASH
    text = f"{abs(value):.{places}f}"
    if float(text) == 0.0:
        return text
    return f"{MINUS if value < 0 else '+' if signed else ''}{text}"


def percent(value: float | None, places: int = 0, *, signed: bool = False) -> str:
    """A share of 1 in percent.

    Example:
        >>> percent(0.125), percent(None)
        ('12 %', '–')
    """
    return DASH if value is None or not known(value) else f"{figure(100 * value, places, signed=signed)} %"


def points(value: float | None) -> str:
    """A change of a share, in percentage points.

    Example:
        >>> points(-0.04)
        '−4'
    """
    return DASH if value is None or not known(value) else figure(100 * value, 0, signed=True)


def spread(interval: Interval | None, places: int = 2, *, scale: float = 1.0, signed: bool = False) -> str:
    """The ends of an interval.

    Example:
        >>> spread(Interval(0.4, 0.31, 0.49))
        '0.31 to 0.49'
    """
    if interval is None or not (known(interval.low) and known(interval.high)):
        return ""
    low, high = (figure(scale * end, places, signed=signed) for end in (interval.low, interval.high))
    return f"{low} to {high}"


def strength(value: float) -> str:
    """A place of the dial.

    Example:
        >>> strength(-1.0), strength(0.5), strength(0.0)
        ('−1', '+0.5', '0')
    """
    text = f"{abs(value):g}"
    return "0" if text == "0" else f"{MINUS if value < 0 else '+'}{text}"


def size(count: int | None) -> str:
    """Bytes as people write them.

    Example:
        >>> size(2_340_000), size(812), size(0)
        ('2.3 MB', '812 bytes', '0 bytes')
    """
    if count is None:
        return DASH
    amount, unit = float(count), 0
    while amount >= 999.5 and unit < len(BYTES) - 1:
        amount, unit = amount / 1000, unit + 1
    return f"{count} bytes" if unit == 0 else f"{amount:.{0 if amount >= 99.95 else 1}f} {BYTES[unit]}"


def duration(seconds: float | None) -> str:
    """A length of time.

    Example:
        >>> duration(4.21), duration(75), duration(7300)
        ('4.2 s', '1 min 15 s', '2 h 2 min')
    """
    if seconds is None or not known(seconds):
        return DASH
    if seconds < 59.95:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    minutes = round(seconds / 60)
    return f"{minutes // 60} h {minutes % 60} min"


def layer_range(layers: Iterable[int]) -> str:
    """Layers with their runs drawn together, with the dash of print.

    Example:
        >>> layer_range([3, 7, 8, 9])
        '3, 7–9'
    """
    return ranges.layer_range(layers, dash="–")


def clean(text: str) -> str:
    """A text without what a terminal or a page would take for an order or could not write.

    Control characters become spaces, but for breaks and tabs; lone surrogates become question marks.
    """
    seen = (c if c.isprintable() or c in "\n\t" or ord(c) > 0x9F else " " for c in text)
    return "".join(seen).encode("utf-8", errors="replace").decode("utf-8")


def clipped(text: str, most: int) -> str:
    """The beginning of a text, cut between words, with an ellipsis if anything was cut."""
    if len(text) <= most:
        return text
    cut = text[: most - 1]
    at = cut.rfind(" ")
    return f"{cut[: at if at > most * 2 // 3 else len(cut)].rstrip(' .,;:')}…"

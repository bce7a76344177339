"""Charts as inline SVG, coloured by the page's style; the same report gives the same bytes."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from markupsafe import Markup, escape

from trimtab.evaluation.records import Chance, Point, Report
from trimtab.evaluation.report.wording import figure, known, outside, spread, strength
from trimtab.vectors import Interval

BAR_WIDTH = 150
BAR_HEIGHT = 26
LEFT, RIGHT = 44, 14  # room beside the panels of the sweep
TITLE = 24  # above each
BOTTOM = 42  # for the strengths
EFFECT, COST = 170, 84  # heights
LABEL = 30  # px that a strength's label needs
LOG_TICKS = (1, 2, 3, 5, 10, 20, 50, 100, 200, 500, 1000, 10_000, 100_000)


@dataclass(frozen=True)
class Scale:
    """Linear map from numbers (``low`` to ``high``) to pixels (``start`` to ``end``)."""

    low: float
    high: float
    start: float
    end: float

    def at(self, value: float) -> float:
        """Return the position of a number, clamped to the scale."""
        share = (min(max(value, self.low), self.high) - self.low) / (self.high - self.low)
        return self.start + share * (self.end - self.start)


def ticks(low: float, high: float, most: int = 5) -> tuple[float, ...]:
    """Return round numbers from low to high, ``most`` of them or fewer.

    Example:
        >>> ticks(-0.1, 0.43)
        (0.0, 0.2, 0.4)
    """
    if not high > low:
        return (low,)
    rough = (high - low) / most
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(power * times for times in (1, 2, 5, 10) if power * times >= rough * 0.999)
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    return tuple(round(number * step, 10) + 0.0 for number in range(first, last + 1))


def _extent(values: Sequence[float], *, margin: float = 0.06) -> tuple[float, float]:
    """Return the least and the greatest of the numbers and 0, with a margin."""
    seen = [0.0, *(value for value in values if math.isfinite(value))]
    low, high = min(seen), max(seen)
    room = margin * ((high - low) or 1.0)
    return low - room, high + room


def swing_scale(swings: Sequence[Interval | None], chance: float | None) -> Scale:
    """Return one scale for all bars of the table."""
    ends = [end for swing in swings if swing is not None for end in (swing.low, swing.high, swing.value)]
    low, high = _extent([*ends, *(() if chance is None else (-chance, chance))])
    return Scale(low, high, 1, BAR_WIDTH - 1)


def swing_bar(swing: Interval | None, scale: Scale, chance: float | None) -> Markup:
    """Draw a swing with its interval over the band of chance; grey if the two overlap."""
    parts = []
    if chance is not None:
        start, end = scale.at(-chance), scale.at(chance)
        parts.append(
            f'<rect class="chance" x="{start:.1f}" y="0" width="{end - start:.1f}" height="{BAR_HEIGHT:.1f}"/>'
        )
    parts.append(_vertical(scale.at(0), 0, BAR_HEIGHT, "zero"))
    middle = BAR_HEIGHT / 2
    caption = "not measured"
    if swing is not None and known(swing.value):
        limit = chance or 0.0
        kind = "positive" if swing.low > limit else "negative" if swing.high < -limit else "unsure"
        start, end = sorted((scale.at(0), scale.at(swing.value)))
        parts.append(f'<rect class="bar {kind}" x="{start:.1f}" y="6" width="{end - start:.1f}" height="14"/>')
        low, high = scale.at(swing.low), scale.at(swing.high)
        parts.append(f'<path class="whisker" d="M{low:.1f} {middle}H{high:.1f}M{low:.1f} 9v8M{high:.1f} 9v8"/>')
        caption = f"{figure(swing.value)} nat per token, 95 % interval {spread(swing)}"
    return _svg(BAR_WIDTH, BAR_HEIGHT, caption, parts)


def swing_axis(scale: Scale) -> Markup:
    """Draw the axis under the bars."""
    places = ticks(scale.low, scale.high, 4)
    labels = [
        f'<text x="{scale.at(place):.1f}" y="11" text-anchor="middle">{figure(place, _places(places))}</text>'
        for place in places
        if 10 < scale.at(place) < BAR_WIDTH - 10
    ]
    return _svg(BAR_WIDTH, 14, "scale of the bars", labels)


@dataclass(frozen=True)
class Panel:
    """Chart of one figure over strength."""

    title: str
    measure: Callable[[Point], float | Interval | None]
    height: int = COST  # px
    logarithmic: bool = False
    mark: tuple[float, str] | None = None  # a number to draw a line at, with its label

    def value(self, point: Point) -> float | None:
        """Return the figure at a strength."""
        measured = self.measure(point)
        return measured.value if isinstance(measured, Interval) else measured

    def interval(self, point: Point) -> Interval | None:
        """Return the figure's interval, where it has one."""
        measured = self.measure(point)
        return measured if isinstance(measured, Interval) else None

    def place(self, value: float) -> float:
        """Return the position of a figure on the panel's axis."""
        return math.log(max(value, 1e-3)) if self.logarithmic else value


def sweep_chart(report: Report, *, width: int) -> Markup:
    """Draw preference, KL and perplexity over strength; the safe range and the range of chance are shaded."""
    sweep, subject, chance = report.sweep, report.subject, report.controls.chance
    strengths = [point.strength for point in sweep]
    if len(strengths) < 2:
        return Markup()
    panels = tuple(_panels(sweep, subject.budget, subject.positive))
    across = Scale(min(strengths), max(strengths), LEFT + 10, width - RIGHT - 10)
    height = sum(TITLE + panel.height for panel in panels) + BOTTOM
    parts: list[str] = []
    top = 0.0
    for panel in panels:
        top += TITLE
        parts += _panel(report, panel, across, top, width, chance if panel.height == EFFECT else None)
        if panel.height == EFFECT:
            parts += _pole_labels(top, width, subject.positive, subject.negative)
        top += panel.height
    parts += [*_strength_labels(strengths, across, top), _axis_title(top, width)]
    caption = f"Preference, KL and perplexity at strengths {strength(min(strengths))} to {strength(max(strengths))}"
    return _svg(width, height, caption, parts)


def dial_chart(dial: Mapping[float, float], *, width: int) -> Markup:
    """Draw the KL from the prompted model over strength, with a line at the plain model's."""
    title = "nat per token from the prompted model"
    across = Scale(min(dial), max(dial), LEFT + 10, width - RIGHT - 10)
    bottom = TITLE + EFFECT
    up = Scale(0.0, 1.1 * max(dial.values()), bottom, TITLE)
    parts = [_title(title, TITLE)]
    places = ticks(up.low, up.high)
    for place in places:
        parts += _grid_line(up.at(place), figure(place, _places(places)), width)
    if 0.0 in dial:
        at, end = up.at(dial[0.0]), width - RIGHT - 4
        parts.append(f'<path class="mark" d="M{LEFT} {at:.1f}H{width - RIGHT}"/>')
        parts.append(f'<text class="small" x="{end}" y="{at - 4:.1f}" text-anchor="end">without the vector</text>')
    line = "L".join(f"{across.at(value):.1f} {up.at(kl):.1f}" for value, kl in dial.items())
    parts.append(f'<path class="line" d="M{line}"/>')
    for value, kl in dial.items():
        kind = "base" if value == 0 else "positive"
        caption = f"strength {strength(value)}: {figure(kl, 3)}"
        circle = f'<circle cx="{across.at(value):.1f}" cy="{up.at(kl):.1f}" r="5"/>'
        parts.append(f'<g class="dot {kind}"><title>{caption}</title>{circle}</g>')
    parts += [*_strength_labels(list(dial), across, bottom), _axis_title(bottom, width)]
    return _svg(width, bottom + BOTTOM, f"{title} at {len(dial)} places of strength", parts)


def _panels(sweep: Sequence[Point], budget: float, positive: str) -> Iterator[Panel]:
    if any(point.effect is not None for point in sweep):
        yield Panel(f"preference: nat per token towards {positive}", lambda point: point.effect, EFFECT)
    yield Panel("disturbance: KL, nat per token", lambda point: point.kl, mark=(budget, f"budget {budget:g}"))
    yield Panel("perplexity of the answers, × base", lambda point: point.damage.perplexity_ratio, logarithmic=True)


def _panel(report: Report, panel: Panel, across: Scale, top: float, width: int, chance: Chance | None) -> Iterator[str]:
    bottom = top + panel.height
    sweep, safe = report.sweep, report.safe
    values = [(point, panel.value(point)) for point in sweep]
    drawn = [(point, value) for point, value in values if value is not None and known(value)]
    up = _upward(panel, [value for _, value in drawn], sweep, chance, top, bottom)
    yield _title(panel.title, top)
    start, end = across.at(safe.low), across.at(safe.high)
    if end > start:
        yield _rect("safe", start - 8, top, end - start + 16, panel.height)
    if chance is not None:
        high, low = up.at(chance.high), up.at(chance.low)
        yield _rect("chance", LEFT, high, width - LEFT - RIGHT, low - high)
    yield from _grid(panel, up, width)
    if panel.mark is not None and up.low < panel.mark[0] < up.high:
        at = up.at(panel.mark[0])
        yield f'<path class="mark" d="M{LEFT} {at:.1f}H{width - RIGHT}"/>'
        yield f'<text class="small" x="{width / 2:.0f}" y="{at - 4:.1f}" text-anchor="middle">{panel.mark[1]}</text>'
    yield _vertical(across.at(0), top, bottom, "zero")
    line = "L".join(f"{across.at(point.strength):.1f} {up.at(panel.place(value)):.1f}" for point, value in drawn)
    if line:
        yield f'<path class="line" d="M{line}"/>'
    for point, value in drawn:
        yield from _dot(point, value, panel, across.at(point.strength), up, outside(report, point))


def _upward(
    panel: Panel, values: Sequence[float], sweep: Sequence[Point], chance: Chance | None, top: float, bottom: float
) -> Scale:
    if panel.logarithmic:
        shown = [panel.place(value) for value in values]
        high = max([math.log(2.0), *shown])
        return Scale(min([0.0, *shown]) - 0.1 * high, high * 1.1, bottom, top)
    ends = [interval for point in sweep if (interval := panel.interval(point)) is not None]
    shown = [*values, *(end for interval in ends for end in (interval.low, interval.high))]
    if chance is not None:
        shown += [chance.low, chance.high]
    low, high = _extent(shown)
    return Scale(low, high, bottom, top)


def _grid(panel: Panel, up: Scale, width: int) -> Iterator[str]:
    if panel.logarithmic:
        inside = [tick for tick in LOG_TICKS if up.low <= math.log(tick) <= up.high]
        every = math.ceil(len(inside) / 4)
        labels = [(math.log(tick), f"{tick:g}") for tick in inside[::every]]
    else:
        places = ticks(up.low, up.high, 5 if panel.height == EFFECT else 3)
        labels = [(place, figure(place, _places(places))) for place in places]
    for place, label in labels:
        yield from _grid_line(up.at(place), label, width)


def _grid_line(at: float, label: str, width: int) -> Iterator[str]:
    yield f'<path class="grid" d="M{LEFT} {at:.1f}H{width - RIGHT}"/>'
    yield f'<text x="{LEFT - 6}" y="{at + 4:.1f}" text-anchor="end">{label}</text>'


def _title(text: str, top: float) -> str:
    return f'<text class="title" x="{LEFT}" y="{top - 7:.0f}">{escape(text)}</text>'


def _axis_title(top: float, width: int) -> str:
    return f'<text class="axis" x="{width / 2:.0f}" y="{top + 36:.0f}" text-anchor="middle">strength</text>'


def _dot(point: Point, value: float, panel: Panel, x: float, up: Scale, why: str) -> Iterator[str]:
    kind = "base" if point.strength == 0 else "positive" if point.strength > 0 else "negative"
    y = up.at(panel.place(value))
    interval = panel.interval(point)
    caption = f"strength {strength(point.strength)}: {figure(value)}"
    if interval is not None and known(interval.low) and known(interval.high):
        yield f'<path class="whisker" d="M{x:.1f} {up.at(interval.low):.1f}V{up.at(interval.high):.1f}"/>'
        caption += f" ({spread(interval)})"
    if why:
        caption += f", outside the safe range: {why}"
        yield (
            f'<g class="broken {kind}"><title>{escape(caption)}</title><circle cx="{x:.1f}" cy="{y:.1f}" r="6"/>'
            f'<path d="M{x - 3:.1f} {y - 3:.1f}l6 6m0 -6l-6 6"/></g>'
        )
    else:
        yield (f'<g class="dot {kind}"><title>{escape(caption)}</title><circle cx="{x:.1f}" cy="{y:.1f}" r="5"/></g>')


def _pole_labels(top: float, width: int, positive: str, negative: str) -> Iterator[str]:
    yield f'<text class="pole positive" x="{LEFT + 8}" y="{top + 16:.0f}">▲ {escape(positive)}</text>'
    yield (
        f'<text class="pole negative" x="{width - RIGHT - 8}" y="{top + EFFECT - 8:.0f}" text-anchor="end">'
        f"▼ {escape(negative)}</text>"
    )


def _strength_labels(strengths: Sequence[float], across: Scale, top: float) -> Iterator[str]:
    """Label the strengths under their points; where labels would overlap, those nearest to 0 win."""
    taken: list[float] = []
    for value in sorted(strengths, key=lambda value: (value != int(value), abs(value), value)):
        at = across.at(value)
        if all(abs(at - other) >= LABEL for other in taken):
            taken.append(at)
            yield f'<text x="{at:.1f}" y="{top + 17:.0f}" text-anchor="middle">{strength(value)}</text>'


def _places(numbers: Sequence[float]) -> int:
    """Return the decimals that round numbers need."""
    for places in range(4):
        if all(abs(round(number, places) - number) < 1e-9 for number in numbers):
            return places
    return 4


def _rect(kind: str, x: float, y: float, width: float, height: float) -> str:
    return f'<rect class="{kind}" x="{x:.1f}" y="{y:.1f}" width="{width:.1f}" height="{height:.1f}"/>'


def _vertical(x: float, top: float, bottom: float, kind: str) -> str:
    return f'<path class="{kind}" d="M{x:.1f} {top:.1f}V{bottom:.1f}"/>'


def _svg(width: int, height: float, caption: str, parts: Sequence[str]) -> Markup:
    return Markup(
        f'<svg viewBox="0 0 {width} {height:.0f}" width="{width}" height="{height:.0f}" role="img" '
        f'aria-label="{escape(caption)}">{"".join(parts)}</svg>'
    )

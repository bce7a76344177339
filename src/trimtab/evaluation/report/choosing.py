"""Which answers are shown: five places of the dial, and the first questions."""

from __future__ import annotations

from trimtab.evaluation.records import Point, Sweep

QUESTIONS = 5


def shown_points(sweep: Sweep) -> tuple[Point, ...]:
    """Up to five points from left to right: the base, on each side the one nearest to ±1, and where the text breaks.

    Where it breaks is the first strength outwards of the near one that is not usable; if all are, the outermost.
    """
    chosen = [point for point in sweep.points if point.strength == 0.0]
    for sign in (-1.0, 1.0):
        side = sorted((p for p in sweep.points if p.strength * sign > 0), key=lambda p: abs(p.strength))
        if not side:
            continue
        near = min(side, key=lambda p: (abs(abs(p.strength) - 1.0), abs(p.strength)))
        beyond = [p for p in side if abs(p.strength) > abs(near.strength)]
        broken = [p for p in beyond if not p.usable]
        chosen += [near, *(broken or beyond[::-1])[:1]]
    return tuple(sorted(chosen, key=lambda p: p.strength))


def nearest(sweep: Sweep, strength: float) -> Point | None:
    """The point nearest to a strength, on the same side of 0; None where there is none."""
    same = [p for p in sweep.points if (p.strength > 0) == (strength > 0) and (p.strength < 0) == (strength < 0)]
    return min(same, key=lambda p: abs(p.strength - strength), default=None)

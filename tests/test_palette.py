"""The palette: legible in both themes, poles that all can tell apart, and no second set of colours."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest

import trimtab
from trimtab.palette import colours, rgb
from trimtab.reading.reading import FULL

ROOT = Path(trimtab.__file__).parents[2]
LEAST = 4.5  # contrast of text: WCAG 2.2, level AA
THEMES = ("light", "dark")

# Linear RGB as it is seen without one kind of cone, at full severity (Machado, Oliveira and Fernandes 2009, table 1).
BLINDNESS = {
    "protanopia": [
        [0.152286, 1.052583, -0.204868],
        [0.114503, 0.786281, 0.099216],
        [-0.003882, -0.048116, 1.051998],
    ],
    "deuteranopia": [
        [0.367322, 0.860646, -0.227968],
        [0.280085, 0.672501, 0.047413],
        [-0.011820, 0.042940, 0.968881],
    ],
    "tritanopia": [
        [1.255528, -0.076749, -0.178779],
        [-0.078411, 0.930809, 0.147602],
        [0.004733, 0.691367, 0.303900],
    ],
}
XYZ = np.array(
    [[0.4124564, 0.3575761, 0.1804375], [0.2126729, 0.7151522, 0.0721750], [0.0193339, 0.1191920, 0.9503041]]
)


def linear(colour):
    """Linear RGB from sRGB, each from 0 to 1."""
    encoded = np.array(rgb(colour) if isinstance(colour, str) else colour, dtype=np.float64) / 255
    return np.where(encoded <= 0.04045, encoded / 12.92, ((encoded + 0.055) / 1.055) ** 2.4)


def contrast(one, other):
    """Ratio of luminances by WCAG."""
    low, high = sorted(float(XYZ[1] @ linear(colour)) for colour in (one, other))
    return (high + 0.05) / (low + 0.05)


def lab(light):
    """CIE L*a*b* under D65, from linear RGB."""
    scaled = (XYZ @ np.clip(light, 0, 1)) / XYZ.sum(axis=1)
    x, y, z = np.where(scaled > (6 / 29) ** 3, np.cbrt(scaled), scaled / (3 * (6 / 29) ** 2) + 4 / 29)
    return np.array([116 * y - 16, 500 * (x - y), 200 * (y - z)])


def difference(one, other, seen):
    """ΔE*ab of two colours as they are seen."""
    return float(np.linalg.norm(lab(np.array(seen) @ linear(one)) - lab(np.array(seen) @ linear(other))))


def over(colour, background, opacity):
    """A translucent colour over another, as red, green and blue."""
    return [opacity * a + (1 - opacity) * b for a, b in zip(rgb(colour), rgb(background), strict=True)]


def test_measures_agree_with_known_values():
    assert contrast("#000000", "#ffffff") == pytest.approx(21)
    assert contrast("#777777", "#ffffff") == pytest.approx(4.48, abs=0.01)
    assert difference("#000000", "#ffffff", np.eye(3)) == pytest.approx(100, abs=0.1)
    assert difference("#ff0000", "#00ff00", np.eye(3)) == pytest.approx(170.6, abs=0.5)


def test_both_themes_have_the_same_names():
    assert colours("dark").keys() == colours("light").keys()
    assert colours("dark")["ink"] != colours("light")["ink"]


@pytest.mark.parametrize("theme", THEMES)
@pytest.mark.parametrize("name", ["ink", "soft", "accent", "plus", "minus", "warn"])
@pytest.mark.parametrize("background", ["paper", "panel"])
def test_text_is_legible(theme, name, background):
    assert contrast(colours(theme)[name], colours(theme)[background]) >= LEAST


@pytest.mark.parametrize("theme", THEMES)
def test_edges_of_controls_are_seen(theme):
    assert contrast(colours(theme)["edge"], colours(theme)["paper"]) >= 3


@pytest.mark.parametrize("theme", THEMES)
@pytest.mark.parametrize("seen", BLINDNESS)
def test_poles_differ_for_all_eyes(theme, seen):
    of = colours(theme)
    assert difference(of["plus"], of["minus"], BLINDNESS[seen]) >= 90


@pytest.mark.parametrize("theme", THEMES)
@pytest.mark.parametrize("pole", ["plus", "minus"])
def test_text_on_the_strongest_reading_is_legible(theme, pole):
    of = colours(theme)
    assert contrast(over(colours("light")[pole], of["paper"], FULL), rgb(of["ink"])) >= LEAST


def test_no_other_file_has_colours():
    files = [
        *(path for ending in ("py", "css", "jinja") for path in (ROOT / "src" / "trimtab").rglob(f"*.{ending}")),
        *(path for ending in ("ts", "tsx", "css") for path in (ROOT / "web" / "src").rglob(f"*.{ending}")),
        *(ROOT / "benchmarks").rglob("*.py"),
    ]
    built = ROOT / "src" / "trimtab" / "server" / "web"  # includes the palette
    colour = re.compile(r"""(?<=[\s:"'`(,])#(?:[0-9a-f]{3}|[0-9a-f]{6})(?=[\s;,"'`)])|\b(?:rgb|hsl)a?\(\s*\d""", re.I)
    found = {
        f"{path.relative_to(ROOT)}: {match}"
        for path in files
        if path.name not in ("palette.css", "palette.py") and built not in path.parents
        for match in colour.findall(path.read_text(encoding="utf-8"))
    }
    assert not found

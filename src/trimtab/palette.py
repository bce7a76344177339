"""The one palette: colours of the web page, of reports, of heatmaps and of the terminal, read from ``palette.css``."""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from types import MappingProxyType
from typing import Literal, TypeAlias

Theme: TypeAlias = Literal["light", "dark"]
FILE = Path(__file__).with_name("palette.css")
VALUE = re.compile(r"^\s*--([a-z-]+): (#[0-9a-f]{6});$", re.MULTILINE)


@cache
def palette_css() -> str:
    """Return the style sheet that sets the colours as variables, light and dark."""
    return FILE.read_text(encoding="utf-8")


@cache
def colours(theme: Theme = "light") -> Mapping[str, str]:
    """Return the colours of a theme by name, as ``#rrggbb``.

    Example:
        >>> colours()["paper"], colours("dark")["paper"]
        ('#ffffff', '#14181c')
    """
    light, _, dark = palette_css().partition("@media")  # the dark theme changes some of the light one
    return MappingProxyType(dict(VALUE.findall(light)) | (dict(VALUE.findall(dark)) if theme == "dark" else {}))


def rgb(colour: str) -> tuple[int, int, int]:
    """Return red, green and blue of ``#rrggbb``.

    Example:
        >>> rgb("#1a66b5")
        (26, 102, 181)
    """
    red, green, blue = bytes.fromhex(colour.removeprefix("#"))
    return red, green, blue

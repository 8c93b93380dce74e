"""The colours of plots."""

import colorsys
from collections.abc import Sequence
from dataclasses import dataclass

from matplotlib.colors import to_hex


@dataclass(frozen=True)
class Theme:
    """The colours of a plot."""

    ground: str
    text: str
    faint: str
    grid: str
    lines: tuple[str, ...]
    strengths: tuple[tuple[float, float], ...]
    """Saturation and value of the hues that are made where the lines' colours do not suffice."""


THEMES = {
    "light": Theme(
        "#ffffff",
        "#1f2933",
        "#616e7c",
        "#e4e7eb",
        (
            "#d1495b",
            "#1f78b4",
            "#2a9d5c",
            "#e08e0b",
            "#7b5ea7",
            "#17a2b8",
            "#8d5a3b",
            "#c2549d",
            "#5c6770",
            "#9aa32a",
        ),
        ((0.85, 0.72), (0.55, 0.9), (0.95, 0.5)),
    ),
    "dark": Theme(
        "#14181d",
        "#e8ecf0",
        "#9aa5b1",
        "#2b333c",
        (
            "#ff7b8a",
            "#5ab0f2",
            "#5fd08f",
            "#ffbe4d",
            "#b79cf0",
            "#4fd3e3",
            "#d0a080",
            "#f08fcb",
            "#b8c2cc",
            "#d4dc5e",
        ),
        ((0.6, 1.0), (0.9, 0.85)),
    ),
}


def palette(names: Sequence[str], theme: Theme) -> dict[str, str]:
    """Return a colour for each name: the theme's, and where they do not suffice, hues in several strengths."""
    if len(names) <= len(theme.lines):
        return dict(zip(names, theme.lines, strict=False))
    strengths = theme.strengths
    return {
        name: to_hex(colorsys.hsv_to_rgb(index / len(names), *strengths[index % len(strengths)]))
        for index, name in enumerate(names)
    }

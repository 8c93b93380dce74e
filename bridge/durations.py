"""Durations as people write them: ``90s``, ``10 min``, ``1h``, ``30d``, ``2w``."""

import re

ALLOWED_UNITS = "s, min, h, d or w"

_DURATION = re.compile(r"\s*(\d+(?:[.,]\d+)?)\s*([a-z]+)\s*")
_UNITS_S = {"s": 1, "min": 60, "m": 60, "h": 3600, "d": 86_400, "j": 86_400, "w": 604_800}
_LONGEST_S = 36_500 * 86_400


def parse_duration(text: str) -> float:
    """Return the seconds of a duration; ``j`` is the French day.

    Raises:
        ValueError: it is none, or is longer than a hundred years.
    """
    match = _DURATION.fullmatch(text.lower())
    if match is None or match[2] not in _UNITS_S:
        raise ValueError(f"{text!r} is no number with {ALLOWED_UNITS}")
    seconds = float(match[1].replace(",", ".")) * _UNITS_S[match[2]]
    if seconds > _LONGEST_S:
        raise ValueError(f"{text!r} is longer than a hundred years")
    return seconds


def duration_text(seconds: float) -> str:
    """Return a duration in the largest unit that divides it, such as ``10 min``."""
    for unit, size in (("d", 86_400), ("h", 3600), ("min", 60)):
        if seconds >= size and seconds % size == 0:
            return f"{seconds / size:g} {unit}"
    return f"{seconds:g} s"

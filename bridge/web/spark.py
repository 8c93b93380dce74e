"""Sparklines: the last hour of a line as a small picture; one grey-blue that reads on light and dark ground."""

from bridge.store.database import Store
from bridge.web.lines import read_spark
from bridge.web.texts import Texts

WIDTH, HEIGHT, MARGIN = 84, 22, 2
MINUTES = 60.0
GAP_MINUTES = 10.0


def spark_svg(store: Store, line_id: int, now_ms: int, text: Texts) -> str:
    """Return the picture; empty where the hour has no reading."""
    minutes, values = read_spark(store, line_id, now_ms)
    title = f"{text.number(min(values))} – {text.number(max(values))}" if values else "–"
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" width="{WIDTH}" height="{HEIGHT}">'
        f'<title>{title}</title><path d="{_path(minutes, values)}" fill="none" stroke="#3f86c9" stroke-width="1.6" '
        'stroke-linecap="round" stroke-linejoin="round"/></svg>'
    )


def _path(minutes: list[float], values: list[float]) -> str:
    if not values:
        return ""
    low, high = min(values), max(values)
    span = high - low or 1.0
    parts: list[str] = []
    before = float("-inf")
    for minute, value in zip(minutes, values, strict=True):
        x = MARGIN + (WIDTH - 2 * MARGIN) * max(0.0, 1 + minute / MINUTES)
        share = (value - low) / span if high > low else 0.5
        y = HEIGHT - MARGIN - (HEIGHT - 2 * MARGIN) * share
        is_gap = minute - before > GAP_MINUTES
        parts.append(f"{'M' if is_gap else 'L'}{x:.1f} {y:.1f}" + ("h.1" if is_gap else ""))
        before = minute
    return "".join(parts)

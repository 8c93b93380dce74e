"""Names in an env file that are nearly those of settings: a typing error that nothing else would tell."""

import difflib
from collections.abc import Iterable, Iterator

from mqtt_client.settings import CommonSettings, described

CLOSE = 0.85
"""Likeness from which a name is taken for a mistyped one, as difflib counts it."""


def unknown_names(names: Iterable[str], kind: type[CommonSettings], prefixes: tuple[str, ...]) -> Iterator[str]:
    """Tell the names that are nearly one of ours, or begin like ours and are not; the other program's are neither."""
    settings = described(kind)
    known = set(settings) | {alias for setting in settings.values() for alias in setting.aliases}
    for name in names:
        if name in known or name.removesuffix("_FILE") in known:
            continue
        close = difflib.get_close_matches(name, known, 1, CLOSE)
        if close:
            yield f"{name}: no such setting; did you mean {close[0]}?"
        elif name.startswith(prefixes):
            yield f"{name}: no such setting"

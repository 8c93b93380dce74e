"""Where in a TOML text its keys are: Python's parser tells no lines of what it has read."""

import re

_RULE = re.compile(r"\s*\[\[\s*(rule|\"rule\"|'rule')\s*\]\]\s*(#.*)?")


class Lines:
    """The lines of a file of rules; counted from 1, None where a key cannot be found."""

    def __init__(self, text: str) -> None:
        self._lines = text.splitlines()
        self._rules = [number for number, line in enumerate(self._lines, 1) if _RULE.fullmatch(line)]

    def of_rule(self, index: int, key: str | None) -> int | None:
        """Return the line of a key in a rule, or of the rule where it has none of its own."""
        if index >= len(self._rules):
            return None
        start = self._rules[index]
        end = self._rules[index + 1] - 1 if index + 1 < len(self._rules) else len(self._lines)
        return (self._find(key, start, end) if key else None) or start

    def of_key(self, key: str) -> int | None:
        """Return the line of a key or table at the top."""
        return self._find(key, 0, len(self._lines))

    def _find(self, key: str, start: int, end: int) -> int | None:
        wanted = re.compile(rf"\s*\[*\s*[\"']?{re.escape(key)}[\"']?\s*[\]=.]")
        return next((number for number in range(start + 1, end + 1) if wanted.match(self._lines[number - 1])), None)

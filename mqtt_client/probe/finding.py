"""One thing that was looked at: what, how it is, and what to do. Read by people and, as JSON, by programs."""

import json
from collections.abc import Iterable
from typing import NamedTuple

from mqtt_client.logs import escape

OK, WARN, FAIL = "ok", "warn", "fail"
_WORST = (FAIL, WARN)


class Finding(NamedTuple):
    """What was found."""

    what: str
    """The thing in a word or two."""
    result: str
    """``ok``, ``warn`` (it works, and will not always or not for everybody) or ``fail``."""
    told: str
    """How it is."""
    advice: str = ""
    """What to do; empty where nothing has to be done."""

    def __str__(self) -> str:
        line = f"{self.result:4}  {self.what:12}  {self.told}" + (f" -> {self.advice}" if self.advice else "")
        return escape(line)


def ok(what: str, told: str) -> Finding:
    """Return a finding that is as it should be."""
    return Finding(what, OK, told)


def warn(what: str, told: str, advice: str) -> Finding:
    """Return a finding that works, and will not always or not for everybody."""
    return Finding(what, WARN, told, advice)


def fail(what: str, told: str, advice: str) -> Finding:
    """Return a finding that keeps readings from arriving."""
    return Finding(what, FAIL, told, advice)


def worst(findings: Iterable[Finding]) -> str:
    """Return the worst result of all."""
    results = {finding.result for finding in findings}
    return next((result for result in _WORST if result in results), OK)


def as_json(findings: Iterable[Finding]) -> str:
    """Return findings for programs: ``result`` is the worst of all."""
    found = list(findings)
    document = {"result": worst(found), "findings": [finding._asdict() for finding in found]}
    return json.dumps(document, ensure_ascii=False, indent=2)

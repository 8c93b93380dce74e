"""The Prometheus rules: they use metrics that exist, and each kind of our own rules has its like."""

import re
from collections.abc import Callable
from pathlib import Path

from bridge.alarms.rules import Kind
from bridge.metrics import PREFIX, exposition
from bridge.settings import BridgeSettings
from bridge.store.database import Store

RULES = (Path(__file__).parents[2] / "deploy/grafana/alerts.yml").read_text(encoding="utf-8")


def test_every_metric_of_the_rules_exists(store: Store, bridge_settings: Callable[..., BridgeSettings]) -> None:
    text = exposition(bridge_settings(), store).decode()
    told = set(re.findall(rf"# TYPE ({PREFIX}\w+) ", text))

    used = {name for line in re.findall(r"expr: (.*)", RULES) for name in re.findall(rf"{PREFIX}\w+", line)}

    assert len(used) > 5
    assert {name for name in used if name not in told and name.removesuffix("_total") not in told} == set()


def test_every_kind_of_rule_but_quantities_has_a_like_that_is_named_beside_it() -> None:
    named = set(re.findall(r"- alert: \w+ # (\w+)", RULES))

    assert named == {kind.value for kind in Kind} - {Kind.QUANTITY.value}

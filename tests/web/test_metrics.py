"""Metrics: what they are called, what they count, and that dashboards use no others."""

import json
import re
from collections.abc import Callable
from pathlib import Path

import pytest
from flask.testing import FlaskClient
from prometheus_client.parser import text_string_to_metric_families
from sqlalchemy import insert

from bridge import metrics
from bridge.metrics import PREFIX, exposition
from bridge.settings import BridgeSettings
from bridge.store import schema
from bridge.store.database import Store
from bridge.store.intake import Intake, Message
from bridge.store.jobs import report
from bridge.store.outgoing import Outcome, claim, settle
from bridge.store.schema import Forward
from mqtt_client.topics import Topics
from tests.wire import reading

ROOT = Path(__file__).parents[2]
DASHBOARD = ROOT / "deploy" / "grafana" / "dashboard.json"

Labels = frozenset[tuple[str, str]]


@pytest.fixture
def scrape(
    store: Store, bridge_settings: Callable[..., BridgeSettings]
) -> Callable[[], dict[str, dict[Labels, float]]]:
    """Read all samples by name and labels, the prefix left out."""

    def read() -> dict[str, dict[Labels, float]]:
        found: dict[str, dict[Labels, float]] = {}
        for family in text_string_to_metric_families(exposition(bridge_settings(), store).decode()):
            for sample in family.samples:
                name = sample.name.removeprefix(PREFIX)
                found.setdefault(name, {})[frozenset(sample.labels.items())] = sample.value
        return found

    return read


Scrape = Callable[[], dict[str, dict[Labels, float]]]


def of(**labels: str) -> Labels:
    return frozenset(labels.items())


def put(store: Store, *messages: tuple[str, bytes]) -> None:
    Intake(store, Topics()).put([Message(*message) for message in messages])


def test_readings_are_counted_by_node_from_what_is_kept_for_ever(store: Store, scrape: Scrape) -> None:
    topic = "sensors/kitchen/reading/main"
    put(store, *((topic, reading(seq)) for seq in (1, 2, 5)), (topic, reading(2)))
    put(store, ("sensors/kitchen/lost", b'{"epoch":"k3f9x2ab","from":3,"to":4,"reason":"full"}'))

    found = scrape()

    kitchen = of(node="kitchen")
    assert found["readings_taken_total"] == {kitchen: 5}
    assert found["readings_received_total"] == {kitchen: 3}
    assert found["readings_repeated_total"] == {kitchen: 1}
    assert found["readings_lost"] == {kitchen: 2}
    assert found["archive_waiting_readings"] == {of(): 3}
    assert found["forward_waiting_readings"] == {of(): 3}
    assert found["rollup_waiting_readings"] == {of(): 3}


def test_what_a_node_says_of_its_outbox_is_told_in_base_units(store: Store, scrape: Scrape) -> None:
    health = {"epoch": "k3f9x2ab", "floor": 1, "outbox_depth": 42, "oldest_age_s": 7.5, "hours_until_full": 2}
    health |= {"clock": "unsynced", "sensor_faults": {"main": "no answer"}}
    put(store, ("sensors/kitchen/health", json.dumps(health).encode()), ("sensors/kitchen/availability", b"online"))

    found = scrape()

    kitchen = of(node="kitchen")
    assert found["outbox_readings"] == {kitchen: 42}
    assert found["outbox_oldest_age_seconds"] == {kitchen: 7.5}
    assert found["outbox_full_in_seconds"] == {kitchen: 7200}
    assert found["node_online"] == {kitchen: 1}
    assert found["node_late"] == {kitchen: 1}
    assert found["node_clock_unsynced"] == {kitchen: 1}
    assert found["node_sensor_faults"] == {kitchen: 1}
    assert found["nodes"][of(state="late")] == 1


def test_tries_are_counted_by_the_servers_answer(store: Store, scrape: Scrape) -> None:
    put(store, *(("sensors/kitchen/reading/main", reading(seq)) for seq in range(1, 5)))
    with store.write() as connection:
        first, second, third, fourth = claim(connection, "main", [1], 4)
        settle(
            connection,
            "main",
            [
                Outcome([first, second], Forward.SETTLED, status=200),
                Outcome([third], Forward.PENDING, "no answer", unknown=True),
                Outcome([fourth], Forward.DEAD, "refused", status=422),
            ],
        )

    found = scrape()

    assert found["forward_tries_total"] == {of(status="200"): 2, of(status="422"): 1, of(status="none"): 1}
    assert found["forward_sent_again_unknown_total"] == {of(): 1}
    assert found["dead_letters"] == {of(): 1}


def test_the_forwarders_state_and_its_next_try_are_told(store: Store, scrape: Scrape) -> None:
    report(store, "forward", {"state": "down", "reason": "refused", "next_try_ms": 1_795_552_265_000})

    found = scrape()

    assert found["forward_state"][of(job="forward", state="down")] == 1
    assert found["forward_state"][of(job="forward", state="ok")] == 0
    assert found["forward_next_try_timestamp_seconds"] == {of(job="forward"): 1_795_552_265}
    assert found["job_up"] == {of(job="forward"): 0}


def test_a_thousand_nodes_and_no_more_have_a_label_of_their_own(
    store: Store, scrape: Scrape, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(metrics, "NODES_TOLD", 2)
    put(store, *((f"sensors/n{number}/reading/main", reading(1, f"n{number}")) for number in range(5)))

    received = scrape()["readings_received_total"]

    assert received == {of(node="n0"): 1, of(node="n1"): 1, of(node="other"): 3}


def test_names_follow_the_conventions(store: Store, bridge_settings: Callable[..., BridgeSettings]) -> None:
    put(store, ("sensors/kitchen/reading/main", reading(1)))
    text = exposition(bridge_settings(), store).decode()

    for family in text_string_to_metric_families(text):
        assert family.name.startswith(PREFIX)
        assert family.documentation
        if family.type == "counter":
            assert all(sample.name.endswith("_total") for sample in family.samples)
        assert not re.search(r"_(ms|minutes|hours|kb|percent)(_|$)", family.name)


def test_the_page_answers_with_the_metrics(client: FlaskClient) -> None:
    answer = client.get("/metrics")

    assert answer.status_code == 200
    assert answer.content_type.startswith("text/plain")
    assert f"{PREFIX}build_info" in answer.text


def test_every_metric_of_the_dashboard_exists(store: Store, bridge_settings: Callable[..., BridgeSettings]) -> None:
    text = exposition(bridge_settings(), store).decode()
    told = set(re.findall(rf"# TYPE ({PREFIX}\w+) ", text))
    told |= {f"{name}_total" for name in told} | {name.removesuffix("_total") for name in told}
    dashboard = json.loads(DASHBOARD.read_text(encoding="utf-8"))
    expressions = [target["expr"] for panel in dashboard["panels"] for target in panel.get("targets", [])]

    used = {name for expression in expressions for name in re.findall(rf"{PREFIX}\w+", expression)}

    assert len(expressions) > 10
    assert used - told == set()


def test_alarms_are_counted(store: Store, scrape: Scrape) -> None:
    with store.write() as connection:
        row = {"rule": "hot", "node": "kitchen", "severity": "warning", "since_ms": 1, "text": "hot"}
        connection.execute(insert(schema.alarms).values(what="main temperature", raised_ms=1, **row))
        connection.execute(insert(schema.alarms).values(what="main humidity", raised_ms=None, **row))

    assert scrape()["alarms"] == {of(): 1}

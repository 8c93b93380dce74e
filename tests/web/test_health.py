"""Health as machines ask for it: alive, ready, or why not."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from flask.testing import FlaskClient
from sqlalchemy import insert, update

from bridge.settings import BridgeSettings
from bridge.store import schema
from bridge.store.database import Store, now_ms
from bridge.store.jobs import report
from bridge.web import facts
from bridge.web.app import make_app
from tests.bridge.conftest import StoredReadings

JOBS = ("ingest", "forward", "schedule")
MINUTE_MS = 60_000


def all_report(store: Store, **states: dict[str, object]) -> None:
    """Let each job say that it is well, or what is given by its name."""
    for job in JOBS:
        report(store, job, states.get(job, {"state": "ok", "reason": ""}))


def age_report(store: Store, job: str, by_ms: int) -> None:
    """Make what a job said that much older."""
    with store.write() as connection:
        jobs = schema.jobs
        connection.execute(update(jobs).where(jobs.c.name == job).values(at_ms=jobs.c.at_ms - by_ms))


def ready(client: FlaskClient) -> tuple[int, str]:
    answer = client.get("/readyz")
    return answer.status_code, answer.text


def test_it_is_ready_while_every_job_does_its_work(client: FlaskClient, store: Store) -> None:
    all_report(store)

    assert ready(client) == (200, "ready\n")


@pytest.mark.parametrize(
    ("job", "state", "told"),
    [
        ("ingest", {"state": "waiting", "reason": "the broker at localhost:1883 does not answer"}, "broker: no conn"),
        (
            "ingest",
            {"state": "full", "reason": "no room on the disk"},
            "store: the store takes nothing more: no room",
        ),
        ("ingest", {"state": "stopped", "reason": ""}, "broker: the job “ingest” is not running"),
        (
            "forward",
            {"state": "down", "reason": "connection refused"},
            "server: the server takes nothing: connection",
        ),
        ("forward", {"state": "paused", "reason": "404 at /data"}, "server: the set-up is wrong: 404"),
        ("forward", {"state": "stopped", "reason": ""}, "server: the job “forward” is not running"),
        (
            "schedule",
            {"state": "failing", "reason": "archive failed: no folder"},
            "archive: archive failed: no folder",
        ),
        ("schedule", {"state": "stopped", "reason": ""}, "archive: the job “schedule” is not running"),
    ],
)
def test_it_is_not_ready_and_says_why_where_readings_stand_still(
    client: FlaskClient, store: Store, job: str, state: dict[str, object], told: str
) -> None:
    all_report(store, **{job: state})

    status, text = ready(client)

    assert status == 503
    assert text.startswith(told)
    assert text.count("\n") == 1


@pytest.mark.parametrize("job", JOBS)
def test_a_job_that_has_gone_silent_is_not_taken_for_well(client: FlaskClient, store: Store, job: str) -> None:
    all_report(store)
    age_report(store, job, MINUTE_MS)

    status, text = ready(client)

    assert status == 503
    assert f"the job “{job}” has said nothing for 60\N{NO-BREAK SPACE}s" in text


def test_a_long_archive_run_may_be_silent(client: FlaskClient, store: Store) -> None:
    all_report(store, schedule={"state": "running", "reason": ""})
    age_report(store, "schedule", 10 * MINUTE_MS)

    assert ready(client)[0] == 200


def test_archives_that_are_overdue_stand_still(
    client: FlaskClient, store: Store, stored_readings: StoredReadings
) -> None:
    all_report(store)
    stored_readings(store)
    with store.write() as connection:
        old = str(now_ms() - 3 * 60 * MINUTE_MS)
        connection.execute(insert(schema.meta).values(key="last_archive_ms", value=old))

    status, text = ready(client)

    assert (status, text.partition(":")[0]) == (503, "archive")
    assert "every 60\N{NO-BREAK SPACE}min" in text


def test_without_a_server_no_forwarder_is_missed(
    store: Store, bridge_settings: Callable[..., BridgeSettings]
) -> None:
    all_report(store, forward={"state": "stopped", "reason": ""})

    assert ready(make_app(bridge_settings(SERVER_URL=""), store).test_client())[0] == 200


@pytest.fixture
def damaged(store: Store, bridge_settings: Callable[..., BridgeSettings], tmp_path: Path) -> FlaskClient:
    """The page over a store whose file was overwritten."""
    client = make_app(bridge_settings(), store).test_client()
    store.close()
    for file in tmp_path.glob("bridge.db*"):
        file.write_bytes(b"this is no database" * 1000)
    return client


def test_over_a_damaged_store_it_is_alive_and_not_ready(damaged: FlaskClient) -> None:
    assert damaged.get("/healthz").status_code == 200

    status, text = ready(damaged)

    assert status == 503
    assert text.startswith("store: ")
    assert damaged.get("/metrics").status_code == 503


def test_over_a_damaged_store_the_page_says_so(damaged: FlaskClient) -> None:
    page = damaged.get("/_dash-layout?lang=en")

    assert page.status_code == 200
    assert "The state cannot be read" in page.text
    french = json.dumps(damaged.get("/_dash-layout?lang=fr").json, ensure_ascii=False)
    assert "L'état ne peut pas être lu : la base est endommagée" in french


def test_a_french_page_says_in_french_why_readings_stand_still(client: FlaskClient, store: Store) -> None:
    reason = "cannot reach the broker at pi:1883: connection refused"
    all_report(store, ingest={"state": "waiting", "reason": reason})

    pages = (client.get(f"/_dash-layout?lang={one}").json for one in ("fr", "en"))
    french, english = (json.dumps(page, ensure_ascii=False) for page in pages)

    assert "pas de liaison avec le broker : le broker pi:1883 est injoignable : connexion refusée" in french
    assert f"no connection to the broker: {reason}" in english
    assert reason not in french


@pytest.mark.parametrize(
    ("severity", "said"), [("info", "information"), ("warning", "avertissement"), ("critical", "critique")]
)
def test_a_french_page_says_how_severe_an_alarm_is_in_french(
    client: FlaskClient, store: Store, severity: str, said: str
) -> None:
    row = {"rule": "hot", "node": "kitchen", "severity": severity, "since_ms": 1, "raised_ms": 1, "text": "hot"}
    with store.write() as connection:
        connection.execute(insert(schema.alarms).values(what="main temperature", **row))

    page = json.dumps(client.get("/_dash-layout?lang=fr").json, ensure_ascii=False)

    assert f'"{said}"' in page


def test_what_was_read_once_stays_with_the_reason_why_it_is_old(
    store: Store, bridge_settings: Callable[..., BridgeSettings], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(facts, "FRESH_S", 0.0)
    client = make_app(bridge_settings(), store).test_client()
    client.get("/_dash-layout")
    store.close()
    for file in tmp_path.glob("bridge.db*"):
        file.write_bytes(b"this is no database" * 1000)

    page = client.get("/_dash-layout?lang=en").text

    assert "The state cannot be read: " in page
    assert "The way of the readings" in page

"""The bridge's commands, as a person types them."""

import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from bridge.settings import BridgeSettings
from bridge.store.database import Store, open_store
from bridge.store.intake import Intake, Message
from bridge.store.locks import held
from mqtt_client.settings import NodeSettings, described, load
from mqtt_client.topics import Topics
from tests.processes import python
from tests.wire import reading

READING = "sensors/kitchen/reading/main"


def run(*arguments: str, **variables: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        python("-m", "bridge", *arguments),
        env={**os.environ, **variables},
        capture_output=True,
        text=True,
        timeout=60,
    )


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    """The store of a bridge with default settings in this folder, with one good and one bad reading."""
    opened = open_store(f"sqlite:///{tmp_path}/data/bridge.db")
    Intake(opened, Topics()).put([Message(READING, reading(1)), Message(READING, b'{"oops": "=1+2\\n"}')])
    yield opened
    opened.close()


def test_check_tells_every_wrong_setting_at_once() -> None:
    done = run("check", MQTT_PORT="70000", SERVER_URL="ftp://x", ARCHIVE_INTERVALLE="0", STORE_URL="mysql://x")

    assert done.returncode == 2
    for variable in ("MQTT_PORT", "SERVER_URL", "ARCHIVE_INTERVALLE", "STORE_URL"):
        assert variable in done.stderr


def test_check_says_what_it_found(tmp_path: Path) -> None:
    done = run("check")

    assert done.returncode == 0
    assert "http://localhost:5000/data" in done.stdout


def test_check_and_run_tell_a_password_that_no_account_uses_and_do_not_show_it() -> None:
    Path("rules.toml").write_text("no rules", encoding="utf-8")  # so that it ends at once

    checked = run("check", MQTT_PASSWORD="sesame")
    ran = run("run", "--only", "alarms", MQTT_PASSWORD="sesame", ALARM_RULES="rules.toml")

    assert checked.returncode == 0
    assert "note        MQTT_PASSWORD: *** was given without MQTT_USERNAME, and is not sent" in checked.stdout
    assert "MQTT_PASSWORD: *** was given without MQTT_USERNAME, and is not sent" in ran.stderr
    assert "sesame" not in checked.stdout + ran.stderr


def test_check_names_the_folder_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "occupied").write_text("a file, no folder", encoding="utf-8")

    done = run("check", ARCHIVE_DIRECTORY="occupied")

    assert done.returncode == 2
    assert "ARCHIVE_DIRECTORY" in done.stderr


def test_check_tells_names_that_are_nearly_ours_and_leaves_the_node_s_alone() -> None:
    node = "".join(f"{name}=\n" for name in described(NodeSettings))
    Path("my.env").write_text(f"SEND_INTERVALL=2\nSERVER_ADDRESS=http://x\n{node}", encoding="utf-8")

    notes = [line for line in run("check", "--env-file", "my.env").stdout.splitlines() if line.startswith("note")]

    assert notes == [
        "note        SEND_INTERVALL: no such setting; did you mean SEND_INTERVAL?",
        "note        SERVER_ADDRESS: no such setting",
    ]


def test_an_env_file_that_is_missing_is_named() -> None:
    done = run("status", "--env-file", "nowhere.env")

    assert done.returncode == 2
    assert "nowhere.env" in done.stderr


@pytest.mark.parametrize("command", [["status"], ["trace", "a-b-1"], ["dead-letters", "list"], ["archive"]])
def test_without_a_store_commands_say_so_and_fail(command: list[str]) -> None:
    done = run(*command)

    assert done.returncode == 1
    assert "no store" in done.stderr
    assert "Traceback" not in done.stderr


def test_usage_errors_end_with_2() -> None:
    assert run("no-such-command").returncode == 2
    assert run("run", "--only", "nothing").returncode == 2
    assert run("dead-letters", "retry").returncode in (1, 2)
    assert run("dead-letters", "drop", "9" * 19).returncode == 2


def test_trace_tells_the_way_of_a_reading(store: Store) -> None:
    done = run("trace", "kitchen-k3f9x2ab-1")

    assert done.returncode == 0
    assert "2026-11-24T20:00:01.123Z" in done.stdout
    assert "waits to be forwarded" in done.stdout
    assert "waits for the next archive" in done.stdout


def test_with_no_server_nothing_waits_for_one(store: Store) -> None:
    with_server = json.loads(run("status", "--json").stdout)
    archive_only = json.loads(run("status", "--json", SERVER_URL="").stdout)

    assert with_server["waiting"]["forward"]["readings"] == 1
    assert archive_only["waiting"]["forward"] == {"readings": 0, "oldest_age_s": None}


def test_trace_of_a_stranger_fails(store: Store) -> None:
    done = run("trace", "kitchen-k3f9x2ab-2")

    assert done.returncode == 1
    assert "never come" in done.stderr


@pytest.mark.parametrize("seq", ["9" * 19, "9" * 5000])
def test_a_number_that_no_reading_can_have_is_never_come(store: Store, seq: str) -> None:
    done = run("trace", f"kitchen-k3f9x2ab-{seq}")

    assert done.returncode == 1
    assert "never come" in done.stderr


def test_dead_letters_are_listed_shown_retried_and_dropped(store: Store) -> None:
    listed = run("dead-letters", "list")
    as_json = json.loads(run("dead-letters", "list", "--json").stdout)
    shown = run("dead-letters", "show", "1")
    retried = run("dead-letters", "retry", "1")
    dropped = run("dead-letters", "drop", "1")
    after = run("dead-letters", "list")

    assert listed.stdout.startswith("1 ")
    assert len(listed.stdout.splitlines()) == 1
    assert as_json[0]["id"] == 1
    assert "oops" in shown.stdout
    assert retried.returncode == 1
    assert "still refused" in retried.stdout
    assert dropped.returncode == 0
    assert after.stdout == ""


def test_archive_plot_and_cleanup_by_hand(store: Store, tmp_path: Path) -> None:
    archived = run("archive")
    again = run("archive")
    plotted = run("plot")
    cleaned = run("cleanup")

    paths = archived.stdout.split()
    assert [Path(path).suffix for path in paths] == [".csv", ".xlsx"]
    assert "nothing new" in again.stdout
    assert plotted.returncode == 0
    assert cleaned.returncode == 0
    assert (tmp_path / "data/archives/graphique_combined.png").stat().st_size > 10_000
    assert {file.name for file in (tmp_path / "data/backup").iterdir()} == {Path(path).name for path in paths}


def test_output_is_utf_8_in_any_locale(store: Store) -> None:
    done = subprocess.run(
        python("-m", "bridge", "status"),
        env={**os.environ, "LC_ALL": "C", "PYTHONIOENCODING": ""},
        capture_output=True,
        timeout=60,
    )

    assert done.returncode == 0
    assert "°C" in done.stdout.decode("utf-8")


def test_the_status_on_a_narrow_terminal_cuts_no_quantity_off(store: Store) -> None:
    done = run("status", COLUMNS="80")

    assert "temperature" in done.stdout
    assert "…" not in done.stdout


def test_a_reader_that_has_enough_ends_an_export_without_a_word(store: Store) -> None:
    read, write = os.pipe()
    os.close(read)

    done = subprocess.run(
        python("-m", "bridge", "export"), stdout=write, stderr=subprocess.PIPE, text=True, timeout=60, check=False
    )
    os.close(write)

    assert done.returncode == 1
    assert done.stderr == ""


def test_a_lock_that_is_held_is_told_under_the_name_of_the_program_once(store: Store) -> None:
    with held(load(BridgeSettings, {}), "ingest"):
        done = run("run", "--only", "ingest")

    assert done.returncode == 1
    assert done.stderr.startswith(f"mqtt-bridge: ingest: process {os.getpid()} does this already")

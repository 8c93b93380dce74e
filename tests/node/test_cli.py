"""``mqtt-node`` as people and programs use it."""

import json
import os
import subprocess
from pathlib import Path

import pytest

from mqtt_client.outbox.opening import open_outbox
from tests.node.actors import drafts
from tests.processes import python


def run(*arguments: str, **settings: str) -> "subprocess.CompletedProcess[str]":
    """Run a command of the node in this folder."""
    return subprocess.run(
        python("-m", "mqtt_client", *arguments),
        env={**os.environ, "NODE_ID": "kitchen", **settings},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def put(number: int) -> None:
    outbox = open_outbox(Path("data/outbox.db"), "kitchen", "boot", 1000)
    outbox.put(drafts(number))
    outbox.close()


def test_all_wrong_settings_are_told_at_once_with_exit_status_2() -> None:
    done = run("check", SAMPLE_INTERVAL="0", MQTT_PORT="x", NODE_ID="a/b", NODE_CONFIRM="me")

    assert done.returncode == 2
    assert [line.partition(":")[0] for line in done.stderr.splitlines()] == [
        "MQTT_PORT",
        "NODE_ID",
        "SAMPLE_INTERVAL",
        "NODE_CONFIRM",
    ]


def test_an_unknown_driver_is_a_settings_fault_for_run() -> None:
    done = run("run", NODE_SENSORS="main=magic")

    assert done.returncode == 2
    assert "NODE_SENSORS: main=magic was given" in done.stderr


def test_check_of_a_good_node_says_what_is_right_and_changes_nothing() -> None:
    done = run("check", TIMEZONE="Europe/Paris")

    assert (done.returncode, done.stderr) == (0, "")
    assert "ok    settings: node kitchen, broker localhost:1883" in done.stdout
    assert "ok    sensor main: temperature" in done.stdout
    assert "data/outbox.db will be made" in done.stdout
    assert "time zone: Europe/Paris" in done.stdout
    assert not Path("data").exists()


def test_check_tells_faults_of_sensors_and_outbox_with_exit_status_1(tmp_path: Path) -> None:
    put(1)
    done = run("check", NODE_SENSORS="main=replay:none.csv,other=fixed", NODE_ID="cellar")

    assert done.returncode == 1
    assert "FAULT sensor main: none.csv" in done.stdout
    assert "ok    sensor other: temperature 22 °C, humidity 50 %RH" in done.stdout
    assert "FAULT NODE_ID: 'cellar' was given, but the outbox holds readings of 'kitchen'" in done.stdout


def test_check_warns_of_names_that_are_nearly_ours() -> None:
    Path("my.env").write_text("SAMPLE_INTERVALL=2\nNODE_FOO=1\nSERVER_URL=http://x\nSAMPLE_INTERVAL=3\n")

    done = run("check", "--env-file", "my.env")

    assert done.returncode == 0
    assert "SAMPLE_INTERVALL: no such setting; did you mean SAMPLE_INTERVAL?" in done.stdout
    assert "NODE_FOO: no such setting" in done.stdout
    assert "SERVER_URL" not in done.stdout


def test_read_prints_each_sensor_once() -> None:
    done = run("read", NODE_SENSORS="a=fixed,b=fixed", NODE_CALIBRATION="temperature:-0.5")

    assert done.returncode == 0
    assert done.stdout.splitlines() == [
        "a: temperature 21.5 °C, humidity 50 %RH",
        "b: temperature 21.5 °C, humidity 50 %RH",
    ]


def test_read_of_a_sensor_that_fails_is_exit_status_1() -> None:
    done = run("read", NODE_SENSORS="a=replay:none.csv,b=fixed")

    assert done.returncode == 1
    assert "a: none.csv" in done.stderr
    assert "b: temperature" in done.stdout


def test_status_without_an_outbox_says_so() -> None:
    done = run("status")

    assert done.returncode == 1
    assert "there is no outbox at 'data/outbox.db' yet" in done.stderr


def test_status_tells_what_waits_and_that_no_receipt_ever_came() -> None:
    put(7)

    found = json.loads(run("status", "--json").stdout)
    text = run("status").stdout

    assert (found["waiting"], found["lost"], found["next_seq"], found["receipt"]) == (7, 0, 8, None)
    assert found["oldest_age_s"] > 0
    assert "waiting: 7 of 1000000 readings" in text
    assert "no receipt has ever come" in text


def test_import_tells_what_it_did_and_refuses_what_is_malformed() -> None:
    good = {"temperature": 22.0, "humidity": 50.0, "timestamp": "[24/Nov/2026 20:31:05]"}
    Path("old.json").write_text(json.dumps([good, {"temperature": "x"}]))

    first, second = run("import", "old.json"), run("import", "old.json")

    assert (first.returncode, second.returncode) == (1, 1)
    assert "imported 1, imported before 0" in first.stdout
    assert "imported 0, imported before 1" in second.stdout
    assert "old.json: entry 2: temperature is 'x'" in first.stderr


@pytest.mark.parametrize("arguments", [["fly"], ["run", "--wings"], ["import"]])
def test_wrong_usage_is_exit_status_2(arguments: list[str]) -> None:
    assert run(*arguments).returncode == 2


def test_an_env_file_that_is_missing_is_named() -> None:
    done = run("check", "--env-file", "none.env")

    assert done.returncode == 2
    assert "none.env" in done.stderr


def test_a_second_run_on_one_outbox_names_the_first() -> None:
    outbox = open_outbox(Path("data/outbox.db"), "kitchen", "boot", 1000)

    done = run("run")
    outbox.close()

    assert done.returncode == 1
    assert f"process {os.getpid()} does this already" in done.stderr


def test_run_imports_nothing_heavy() -> None:
    heavy = {
        "asyncio",
        "gpiozero",
        "requests",
        "pandas",
        "ctypes",
        "unittest",
        "multiprocessing",
    }
    code = f"import sys, mqtt_client.service; print(sorted({heavy} & set(sys.modules)))"
    done = subprocess.run(python("-c", code), capture_output=True, text=True, check=True, cwd="/")

    assert done.stdout == "[]\n"


def test_status_asks_the_outbox_s_lock_whether_a_node_runs_not_a_process_id() -> None:
    put(1)
    lock = Path("data/outbox.db.lock")
    lock.write_text(f"{os.getpid()}\n", encoding="ascii")  # after a container's restart the id is another process's
    after = json.loads(run("status", "--json").stdout)["running"]
    outbox = open_outbox(Path("data/outbox.db"), "kitchen", "boot", 1000)
    lock.write_text("999999999\n", encoding="ascii")  # as a holder in another container looks from here

    during = json.loads(run("status", "--json").stdout)["running"]

    outbox.close()
    assert (after, during) == (False, True)


def test_status_says_that_its_own_count_of_losses_is_the_most_they_can_be() -> None:
    outbox = open_outbox(Path("data/outbox.db"), "kitchen", "boot", 100)
    outbox.put(drafts(100))
    without = run("status").stdout
    outbox.put(drafts(3))
    outbox.close()

    text = run("status").stdout

    assert "\nlost: 0\n" in without
    assert "\nlost: 3 given up here, at most: the bridge counts what never came\n" in text


def test_an_outbox_path_that_is_a_folder_is_told_with_all_else(tmp_path: Path) -> None:
    checked, ran = (run(command, OUTBOX_PATH=str(tmp_path)) for command in ("check", "run"))

    told = f"OUTBOX_PATH: {str(tmp_path)!r} was given, which is a folder; allowed is a file in it"
    assert (checked.returncode, ran.returncode) == (1, 1)
    assert f"FAULT {told}\n" in checked.stdout
    assert "ok    clock:" in checked.stdout
    assert ran.stderr.endswith(f"{told}\n")

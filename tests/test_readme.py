"""The READMEs: both say the same, their commands exist, and the server that they show keeps each reading once."""

import re
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest
from flask import Flask

from bridge.settings import BridgeSettings
from mqtt_client.sensors.registry import DRIVERS
from mqtt_client.settings import NodeSettings, described

ROOT = Path(__file__).parent.parent
ENGLISH = (ROOT / "README.md").read_text(encoding="utf-8")
FRENCH = (ROOT / "README.fr.md").read_text(encoding="utf-8")


def code_blocks(text: str) -> list[tuple[str, str]]:
    return re.findall(r"^```(\w+)\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)


def heading_levels(text: str) -> list[int]:
    without_code = re.sub(r"^```.*?^```$", "", text, flags=re.MULTILINE | re.DOTALL)
    return [len(marks) for marks in re.findall(r"^(#+) ", without_code, re.MULTILINE)]


def commands(text: str) -> list[str]:
    return re.findall(r"`((?:mqtt-node|mqtt-bridge|make|mosquitto_sub)\b[^`]*)`", text)


def links(text: str) -> list[str]:
    return [target for target in re.findall(r"\]\(([^)]+)\)", text) if not target.startswith(("#", "http"))]


def test_both_have_the_same_headings() -> None:
    assert heading_levels(FRENCH) == heading_levels(ENGLISH)


def test_both_show_the_same_code() -> None:
    assert code_blocks(FRENCH) == code_blocks(ENGLISH)


def test_both_name_the_same_commands() -> None:
    assert sorted(commands(FRENCH)) == sorted(commands(ENGLISH))


@pytest.mark.parametrize("text", [ENGLISH, FRENCH], ids=["english", "french"])
def test_every_link_leads_somewhere(text: str) -> None:
    assert [target for target in links(text) if not (ROOT / target).exists()] == []


def test_every_link_to_a_heading_has_its_heading() -> None:
    for text in (ENGLISH, FRENCH):
        headings = {
            re.sub(r"[^\w -]", "", line.lower()).replace(" ", "-") for line in re.findall(r"^#+ (.*)", text, re.M)
        }
        assert set(re.findall(r"\]\(#([^)]+)\)", text)) <= headings


def named_subcommands(program: str) -> set[str]:
    in_blocks = "\n".join(body for kind, body in code_blocks(ENGLISH) if kind == "sh")
    return set(re.findall(rf"\b{program} ([a-z][a-z-]*)", in_blocks + "\n".join(commands(ENGLISH))))


@pytest.mark.parametrize(("program", "module"), [("mqtt-node", "mqtt_client"), ("mqtt-bridge", "bridge")])
def test_every_command_that_is_named_exists(program: str, module: str) -> None:
    told = subprocess.run(
        [sys.executable, "-m", module, "--help"], capture_output=True, text=True, check=True, cwd=ROOT
    )

    offered = set(re.findall(r"^  ([a-z][a-z-]*)  ", told.stdout.partition("Commands:")[2], re.MULTILINE))

    assert named_subcommands(program) <= offered


@pytest.mark.parametrize("text", [ENGLISH, FRENCH], ids=["english", "french"])
def test_the_table_of_sensors_has_each_driver(text: str) -> None:
    (table,) = re.findall(r"^\| (?:sensor|capteur) \|.*?\n\n", text, re.MULTILINE | re.DOTALL)

    assert re.findall(r"^\| `([a-z0-9]+)", table, re.MULTILINE) == list(DRIVERS)


def code_that_uses_settings() -> str:
    files = [path for package in ("mqtt_client", "bridge") for path in (ROOT / package).rglob("*.py")]
    return "\n".join(path.read_text("utf-8") for path in files if path != ROOT / "bridge" / "settings.py")


def test_every_setting_has_an_effect() -> None:
    code = code_that_uses_settings()

    unused = [
        name
        for name in {**described(NodeSettings), **described(BridgeSettings)}
        if not re.search(rf"(settings|self)\.{name.lower()}\b", code)
    ]

    assert unused == []


def test_the_server_that_is_shown_keeps_a_reading_that_comes_twice_once() -> None:
    (program,) = [body for kind, body in code_blocks(ENGLISH) if kind == "python"]
    (reading,) = [body for kind, body in code_blocks(ENGLISH) if kind == "json"]
    names: dict[str, object] = {"__name__": "shown"}
    exec(compile(program, "README.md", "exec"), names)
    app = names["app"]
    assert isinstance(app, Flask)
    client = app.test_client()

    answers = [
        client.post("/data", data=reading, content_type="application/json", headers=headers).status_code
        for headers in (
            {"Idempotency-Key": '"kitchen-k3f9x2ab-1234"'},
            {"Idempotency-Key": '"kitchen-k3f9x2ab-1234"'},
            {},
        )
    ]

    assert answers == [204, 204, 204]
    database = sqlite3.connect("readings.db")
    assert database.execute("SELECT key FROM readings").fetchall() == [("kitchen-k3f9x2ab-1234",)]
    database.close()

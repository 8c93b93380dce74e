"""The pages about archives, plots, exports and alarms name what exists, and say the same in both languages."""

import re
import shlex
from datetime import UTC, datetime
from itertools import pairwise
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest

from bridge.alarms.rules import Kind, read_rules
from bridge.cli import main
from bridge.export.moments import parse_moment
from bridge.settings import BridgeSettings
from bridge.verify import State
from mqtt_client.settings import described

DOCS = Path(__file__).parents[2] / "docs"
ENGLISH, FRENCH = ((DOCS / name).read_text(encoding="utf-8") for name in ("outputs.md", "outputs.fr.md"))
BOTH = pytest.mark.parametrize("text", [ENGLISH, FRENCH], ids=["english", "french"])


def blocks(text: str) -> list[tuple[str, str]]:
    return re.findall(r"^```(\w+)\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)


def commands() -> list[list[str]]:
    return [
        shlex.split(line)[1:]
        for kind, block in blocks(ENGLISH)
        for line in block.splitlines()
        if kind == "sh" and line.startswith("mqtt-bridge ")
    ]


def test_both_have_the_same_headings_tables_lists_and_code() -> None:
    assert blocks(FRENCH) == blocks(ENGLISH)
    for sign in (r"^#+ ", r"^\|", r"^- "):
        assert re.findall(sign, FRENCH, re.MULTILINE) == re.findall(sign, ENGLISH, re.MULTILINE)


@BOTH
def test_every_link_leads_somewhere(text: str) -> None:
    assert [link for link in re.findall(r"\]\(([^)#]+)\)", text) if not (DOCS / link).exists()] == []


@BOTH
def test_every_setting_exists(text: str) -> None:
    named = set(re.findall(r"`([A-Z]+_[A-Z_]+)(?:=[^`]*)?`", text))

    assert named <= set(described(BridgeSettings))


@BOTH
def test_every_key_of_a_rule_and_every_finding_is_explained(text: str) -> None:
    named = set(re.findall(r"`(\w+)`", text))

    assert {kind.value for kind in Kind} <= named
    assert {state.value for state in State} - {"good"} <= named


@pytest.mark.parametrize("words", commands(), ids=" ".join)
def test_every_command_and_its_options_exist(words: list[str]) -> None:
    command = main.commands[words[0]]

    known = {option for parameter in command.params for option in parameter.opts}

    assert {word for word in words[1:] if word.startswith("--")} <= known
    for option, value in pairwise(words):
        if option in ("--from", "--to"):
            parse_moment(value, datetime.now(UTC), ZoneInfo("UTC"))


def test_the_rule_that_is_shown_is_right(tmp_path: Path) -> None:
    (rule,) = (block for kind, block in blocks(ENGLISH) if kind == "toml")
    (tmp_path / "alarms.toml").write_text(rule, encoding="utf-8")

    assert len(read_rules(tmp_path / "alarms.toml")) == 1

"""The node's pages name what exists, and say the same in both languages."""

import re
from pathlib import Path

import pytest
from click import Group

from mqtt_client.cli import main
from mqtt_client.setting_values import sensor_specs
from mqtt_client.settings import NodeSettings, described

ROOT = Path(__file__).parent.parent
PAGES = ["node.md", "node.fr.md"]


def page(name: str) -> str:
    return (ROOT / "docs" / name).read_text(encoding="utf-8")


def commands(text: str) -> list[str]:
    """Return the lines of the code blocks without their comments."""
    blocks = re.findall(r"```sh\n(.*?)```", text, re.DOTALL)
    return [re.sub(r"\s+#.*", "", line) for block in blocks for line in block.splitlines()]


def test_both_languages_have_the_same_headings_tables_and_commands() -> None:
    english, french = page("node.md"), page("node.fr.md")

    assert commands(english) == commands(french)
    for sign in (r"^#", r"^\|", r"^- "):
        assert len(re.findall(sign, english, re.MULTILINE)) == len(re.findall(sign, french, re.MULTILINE))


@pytest.mark.parametrize("name", PAGES)
def test_every_command_and_every_setting_exists(name: str) -> None:
    text = page(name)
    assert isinstance(main, Group)

    used = set(re.findall(r"\bmqtt-node ([a-z]+)", "\n".join(commands(text))))
    settings = set(re.findall(r"\b((?:NODE|MQTT|OUTBOX|SAMPLE)_[A-Z_]+)\b", text))

    assert used
    assert used <= main.commands.keys()
    assert settings <= set(described(NodeSettings))


@pytest.mark.parametrize("name", PAGES)
def test_every_sensor_setting_of_the_wiring_table_can_be_read(name: str) -> None:
    cells = [
        line.split("|")[4].strip(" `") for line in page(name).splitlines() if line.startswith("| ") and "=" in line
    ]
    wiring = [cell for cell in cells if re.match(r"[a-z]+=[a-z]", cell)]

    assert len(wiring) == 7
    assert all(len(sensor_specs(cell)) == 1 for cell in wiring)


@pytest.mark.parametrize("name", PAGES)
def test_the_files_that_are_named_are_there(name: str) -> None:
    named = set(re.findall(r"deploy/[a-z-]+\.sh", page(name)))

    assert named
    assert all((ROOT / file).is_file() for file in named)

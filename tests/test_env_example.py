"""What the documents say of the settings is what the code does: .env.example and the tables of both READMEs."""

import re
from pathlib import Path

import pytest

from bridge.settings import BridgeSettings
from mqtt_client.settings import CommonSettings, NodeSettings, Setting, described, load, read_environment

ROOT = Path(__file__).parent.parent
EXAMPLE = ROOT / ".env.example"
ALL: dict[str, Setting[object]] = described(NodeSettings) | described(BridgeSettings)


def lines_of(variable: str, setting: Setting[object]) -> list[str]:
    """Return the lines of .env.example for one setting."""
    words = setting.help.removeprefix("s ")
    words = words[0].upper() + words[1:] if words == setting.help else f"Seconds {words}"
    lines = [f"# {words}. Allowed: {setting.allowed}."]
    lines += [f"# {alias} is read too." for alias in setting.aliases]
    lines += [f"# {variable}_FILE reads it from a file."] if setting.secret else []
    return [*lines, f"#{variable}={setting.default}"]


def row_of(variable: str, setting: Setting[object]) -> str:
    """Return the line of the README's table for one setting."""
    names = [f"`{variable}`", *(f"`{alias}`" for alias in setting.aliases)]
    names += [f"`{variable}_FILE`"] if setting.secret else []
    return f"| {', '.join(names)} | {default_of(variable, setting)} | {setting.help} | {setting.allowed} |"


def default_of(variable: str, setting: Setting[object]) -> str:
    return f"`{setting.default}`" if setting.default else ""


def rows_in(document: str) -> list[str]:
    text = (ROOT / document).read_text(encoding="utf-8")
    return [line for line in text.splitlines() if re.match(r"\| `[A-Z][A-Z_]+`.*\|.*\|.*\|.*\|$", line)]


@pytest.mark.parametrize("variable", ALL)
def test_the_example_tells_each_setting_as_the_code_has_it(variable: str) -> None:
    expected = "\n" + "\n".join(lines_of(variable, ALL[variable])) + "\n"

    assert expected in EXAMPLE.read_text(encoding="utf-8")


def test_the_example_has_each_setting_once_and_no_other() -> None:
    named = re.findall(r"^#?([A-Z][A-Z_]*)=", EXAMPLE.read_text(encoding="utf-8"), re.MULTILINE)

    assert sorted(named) == sorted(ALL)


@pytest.mark.parametrize("kind", [NodeSettings, BridgeSettings])
def test_the_example_as_it_stands_changes_nothing(kind: type[CommonSettings]) -> None:
    assert load(kind, read_environment(EXAMPLE)) == load(kind, {})


@pytest.mark.parametrize("kind", [NodeSettings, BridgeSettings])
def test_the_example_with_every_line_switched_on_changes_nothing(kind: type[CommonSettings], tmp_path: Path) -> None:
    switched_on = tmp_path / "all.env"
    text = re.sub(r"^#([A-Z][A-Z_]*=)", r"\1", EXAMPLE.read_text(encoding="utf-8"), flags=re.MULTILINE)
    switched_on.write_text(text, encoding="utf-8")

    assert load(kind, read_environment(switched_on)) == load(kind, {})


def test_the_readme_s_table_says_what_the_code_does() -> None:
    assert rows_in("README.md") == [row_of(variable, setting) for variable, setting in ALL.items()]


def test_the_french_readme_s_table_has_the_same_names_and_defaults() -> None:
    def names_and_defaults(row: str) -> list[str]:
        return [cell.strip() for cell in row.split("|")[1:3]]

    french = [names_and_defaults(row) for row in rows_in("README.fr.md")]

    assert french == [names_and_defaults(row_of(variable, setting)) for variable, setting in ALL.items()]

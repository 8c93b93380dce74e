"""docs/deploy.md says the same in both languages, and names what there is."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
ENGLISH = (ROOT / "docs" / "deploy.md").read_text(encoding="utf-8")
FRENCH = (ROOT / "docs" / "deploy.fr.md").read_text(encoding="utf-8")
COMPOSE = (ROOT / "compose.yaml").read_text(encoding="utf-8")


def commands(text: str) -> list[str]:
    return re.findall(r"```sh\n(.*?)```", text, re.DOTALL)


def test_both_languages_have_the_same_commands_headings_and_tables() -> None:
    assert commands(ENGLISH) == commands(FRENCH)
    for mark in (r"^## ", r"^\| ", r"^\d\. ", r"^- "):
        assert len(re.findall(mark, ENGLISH, re.M)) == len(re.findall(mark, FRENCH, re.M))


def test_a_server_takes_ten_commands_and_a_node_three() -> None:
    server, node, *_ = commands(ENGLISH)

    assert len(server.splitlines()) == 10
    assert len(node.splitlines()) == 3


@pytest.mark.parametrize("text", [ENGLISH, FRENCH])
def test_what_compose_takes_from_the_environment_is_in_the_table(text: str) -> None:
    taken = set(re.findall(r"\$\{([A-Z_]+)", COMPOSE))

    rows = "".join(line for line in text.splitlines() if line.startswith("| `"))
    assert taken == {name for name in taken if f"`{name}`" in rows}


@pytest.mark.parametrize("text", [ENGLISH, FRENCH])
def test_every_file_that_is_named_is_there(text: str) -> None:
    links = re.findall(r"\]\(([^)#]+)\)", text)
    scripts = re.findall(r"deploy/[a-z./-]+[a-z]", text)

    missing = [link for link in links if not (ROOT / "docs" / link).exists()]
    missing += [script for script in scripts if "*" not in script and not (ROOT / script.rstrip("-")).exists()]
    assert [one for one in missing if "requirements" not in one] == []


def test_the_head_of_compose_names_no_variable_that_it_does_not_take() -> None:
    head = COMPOSE.partition("version:")[0]

    named = set(re.findall(r"\b([A-Z]+_[A-Z]+|TIMEZONE)\b", head))
    assert named == set(re.findall(r"\$\{([A-Z_]+)", COMPOSE))

"""The security pages: both languages say the same, every command, file and test that they name exists."""

import re
import subprocess

import pytest

from tests.processes import python
from tests.security.secured import ROOT

ENGLISH = (ROOT / "docs" / "security.md").read_text("utf-8")
FRENCH = (ROOT / "docs" / "security.fr.md").read_text("utf-8")
POLICY = (ROOT / "SECURITY.md").read_text("utf-8")


def code_blocks(text: str) -> list[str]:
    return re.findall(r"^```\w+\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)


def headings(text: str) -> list[str]:
    return re.findall(r"^(#+) ", re.sub(r"^```.*?^```$", "", text, flags=re.MULTILINE | re.DOTALL), re.MULTILINE)


def proofs(text: str) -> list[str]:
    return re.findall(r"`(test_\w+\.py)`", text)


def test_both_say_the_same() -> None:
    assert headings(FRENCH) == headings(ENGLISH)
    assert code_blocks(FRENCH) == code_blocks(ENGLISH)
    assert proofs(FRENCH) == proofs(ENGLISH)
    assert FRENCH.count("\n| ") == ENGLISH.count("\n| ")


def test_every_test_and_every_link_that_is_named_exists() -> None:
    there = {path.name for path in (ROOT / "tests").rglob("test_*.py")}

    assert set(proofs(ENGLISH)) <= there
    assert [link for link in re.findall(r"\]\(([^)#]+)\)", POLICY) if not (ROOT / link).exists()] == []


@pytest.mark.parametrize("command", sorted(set(re.findall(r"mqtt-bridge ((?:broker|nodes) \w+)", ENGLISH))))
def test_every_command_and_option_that_is_shown_exists(command: str) -> None:
    shown = re.findall(rf"mqtt-bridge {command}(.*)", "\n".join(code_blocks(ENGLISH)))
    told = subprocess.run(
        python("-m", "bridge", *command.split(), "--help"), capture_output=True, text=True, check=True, cwd=ROOT
    ).stdout

    assert [option for line in shown for option in re.findall(r"--[a-z-]+", line) if option not in told] == []

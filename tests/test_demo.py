"""The demo: counts by ids, ends what it started, and tells with its exit status whether all came through."""

import os
import re
import signal
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest
from dotenv import dotenv_values

from tests.processes import Process, eventually, python

ROOT = Path(__file__).parent.parent
SUMMARY = re.compile(r"^taken (\d+), forwarded (\d+), archived (\d+), lost (\d+), doubled (\d+)$", re.MULTILINE)


@pytest.fixture
def demo(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(ROOT / "examples")
    import demo

    return demo


@pytest.fixture
def started(tmp_path: Path) -> Iterator[list[Process]]:
    """Demos that a test started; killed at its end."""
    processes: list[Process] = []
    yield processes
    for process in processes:
        process.kill()


def start(started: list[Process], folder: Path, *options: str, **environment: str) -> Process:
    command = python(str(ROOT / "examples" / "demo.py"), "--folder", str(folder), *options)
    process = Process(command, folder.with_suffix(".log"), {**os.environ, **environment})
    started.append(process)
    return process


def started_by(folder: Path) -> list[str]:
    """Return the command lines of all running processes that name a file in this folder."""
    found = []
    for entry in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            words = entry.read_bytes().decode("utf-8", "replace").split("\0")
        except OSError:
            continue
        if any(word.startswith(f"{folder}/") for word in words):
            found.append(" ".join(words))
    return found


def wait_for_readings(process: Process) -> None:
    def has_taken_some() -> bool:
        assert process.is_running(), process.output()
        return re.search(r"taken [1-9]\d*, in the outbox", process.output()) is not None

    eventually(has_taken_some, within_s=60, told=process.output)


def judge(process: Process, folder: Path) -> tuple[int, ...]:
    """Return the numbers of the summary of a demo that ended well; what it promises besides is checked here."""
    output = process.output()
    assert process.process.wait(90) == 0, output
    (numbers,) = SUMMARY.findall(process.output())
    assert SUMMARY.fullmatch(process.output().splitlines()[-1])
    assert started_by(folder) == []
    for path in re.findall(r"^(?:An archive|The plot): +(.*\.(?:csv|png))", process.output(), re.MULTILINE):
        assert Path(path).stat().st_size > 0
    return tuple(map(int, numbers))


@pytest.mark.parametrize("options", [[], ["--embedded"]], ids=["mosquitto", "embedded"])
def test_every_reading_reaches_server_and_archive_once(
    started: list[Process], tmp_path: Path, options: list[str]
) -> None:
    folder = tmp_path / "a folder's name"

    process = start(started, folder, "--seconds", "5", *options, LC_ALL="C", MQTT_PORT="1", SERVER_URL="http://x/")

    taken, forwarded, archived, lost, doubled = judge(process, folder)
    assert 20 < taken == forwarded == archived
    assert (lost, doubled) == (0, 0)


def test_ctrl_c_ends_it_with_the_summary(started: list[Process], tmp_path: Path) -> None:
    folder = tmp_path / "demo"
    process = start(started, folder)
    wait_for_readings(process)

    process.signal(signal.SIGINT)
    process.signal(signal.SIGINT)  # what some terminals and timeout(1) do is one Ctrl-C all the same

    assert judge(process, folder)[0] > 0


def test_nothing_that_it_started_outlives_it_when_it_is_killed(started: list[Process], tmp_path: Path) -> None:
    folder = tmp_path / "demo"
    process = start(started, folder)
    wait_for_readings(process)

    os.kill(process.process.pid, signal.SIGKILL)

    eventually(lambda: not started_by(folder), told=lambda: started_by(folder))


def test_it_runs_once_in_a_folder(started: list[Process], tmp_path: Path) -> None:
    folder = tmp_path / "demo"
    first = start(started, folder)
    eventually(lambda: started_by(folder), told=first.output)

    second = Process(
        python(str(ROOT / "examples" / "demo.py"), "--folder", str(folder)), tmp_path / "second.log", os.environ
    )

    assert second.process.wait(30) == 1
    assert f"process {first.process.pid} does this already" in second.output()


def test_it_leaves_a_folder_alone_that_is_not_its_own(started: list[Process], tmp_path: Path) -> None:
    folder = tmp_path / "thesis"
    folder.mkdir()
    (folder / "chapter-1.txt").write_text("years of work", encoding="utf-8")

    process = start(started, folder)

    assert process.process.wait(30) == 1
    assert "holds files that are not the demo's" in process.output()
    assert (folder / "chapter-1.txt").read_text(encoding="utf-8") == "years of work"


class TestSummary:
    @pytest.mark.parametrize(
        ("taken", "server", "archives", "line", "good"),
        [
            ("abc", "abc", "abc", "taken 3, forwarded 3, archived 3, lost 0, doubled 0", True),
            ("abc", "ab", "abc", "taken 3, forwarded 2, archived 3, lost 1, doubled 0", False),
            ("abc", "ab", "bc", "taken 3, forwarded 2, archived 2, lost 2, doubled 0", False),
            ("abc", "abcc", "aabbc", "taken 3, forwarded 3, archived 3, lost 0, doubled 3", False),
            ("abc", "abcd", "abcd", "taken 3, forwarded 4, archived 4, lost 0, doubled 0", False),
            ("", "", "", "taken 0, forwarded 0, archived 0, lost 0, doubled 0", False),
        ],
    )
    def test_counts_by_ids(
        self, demo: ModuleType, taken: str, server: str, archives: str, line: str, good: bool
    ) -> None:
        summary = demo.Summary(frozenset(taken), Counter(server), Counter(archives))

        assert (str(summary), summary.is_good) == (line, good)


@pytest.mark.parametrize("value", ["/home/o'neil/a b", r"C:\x", "a#b", "$HOME ${HOME}"])
def test_settings_are_written_as_they_are_read(demo: ModuleType, tmp_path: Path, value: str) -> None:
    (tmp_path / "x.env").write_text(f"NAME={sys.modules['demo_programs'].quoted(value)}\n", encoding="utf-8")

    assert dotenv_values(tmp_path / "x.env", interpolate=False) == {"NAME": value}

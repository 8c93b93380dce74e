"""The outbox and kill -9, full disks and damaged files."""

import json
import os
import resource
import signal
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from mqtt_client.errors import StorageFull
from mqtt_client.outbox.opening import open_outbox
from mqtt_client.outbox.outbox import Outbox
from mqtt_client.outbox.salvage import replace_damaged, salvaged_name
from tests.node.actors import drafts
from tests.node.conftest import OpenOutbox
from tests.processes import python

PUTTING = """
import sys
from pathlib import Path
from mqtt_client.outbox.opening import open_outbox
from tests.node.actors import drafts
outbox = open_outbox(Path(sys.argv[1]), "kitchen", "boot", 100000)
outbox.begin_publishing()
while True:
    for row in outbox.put(drafts(3)):
        print(row.seq, flush=True)
    seq = row.seq
    outbox.current.attempted.add(1, seq)
    if seq % 5 == 0:
        outbox.settle(outbox.current.name, seq - 50, [])
"""


def seqs(outbox: Outbox) -> set[int]:
    return {seq for epoch in outbox.epochs for a, b in epoch.rows for seq in range(a, b + 1)}


def test_every_reading_whose_put_returned_survives_kill_9(outbox_path: Path) -> None:
    root = Path(__file__).parents[2]
    told = 0
    for round_number in range(8):
        command = python("-c", PUTTING, str(outbox_path))
        process = subprocess.Popen(command, cwd=root, stdout=subprocess.PIPE, text=True)
        assert process.stdout is not None
        for _ in range(40 + 7 * round_number):
            told = int(process.stdout.readline())
        process.kill()
        rest = process.stdout.read().split("\n")[:-1]  # a line cut off by the kill was not told
        process.stdout.close()
        process.wait()
        told = max([told, *map(int, rest)])

        outbox = open_outbox(outbox_path, "kitchen", "boot", 100000)
        held, next_seq = seqs(outbox), outbox.current.next_seq
        outbox.close()

        assert held >= set(range(max(1, told - 40), told + 1))
        assert next_seq > told
        assert held == set(range(min(held), next_seq)), "no gaps"


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[tuple[Path, Callable[[], None]]]:
    """A folder with room for some hundred KiB, and what makes more room.

    A tmpfs where this may mount one, else a limit on the size of files.
    """
    folder = tmp_path / "small"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=600k", "tmpfs", str(folder)]
    if os.geteuid() == 0 and subprocess.run(mount, check=False, capture_output=True).returncode == 0:
        ballast = folder / "ballast"
        ballast.write_bytes(bytes(200 * 1024))
        yield folder, ballast.unlink
        subprocess.run(["umount", "-l", str(folder)], check=True)
        return
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (300 * 1024, before[1]))
    yield folder, lambda: resource.setrlimit(resource.RLIMIT_FSIZE, before)
    resource.setrlimit(resource.RLIMIT_FSIZE, before)
    signal.signal(signal.SIGXFSZ, handler)


def test_on_a_full_disk_what_is_taken_stays_and_what_is_refused_is_told_with_the_next_commit(
    small_disk: tuple[Path, Callable[[], None]],
) -> None:
    folder, make_room = small_disk
    path = folder / "outbox.db"
    outbox = open_outbox(path, "kitchen", "boot", 10**6)
    taken: set[int] = set()
    refused = 0
    while refused < 3:
        try:
            taken |= {row.seq for row in outbox.put(drafts(10))}
        except StorageFull:
            refused += 1
    assert outbox.losses.told == [], "nothing is told before it is committed"

    make_room()
    taken |= {row.seq for row in outbox.put(drafts(10))}
    told = outbox.losses.told
    outbox.close()

    again = open_outbox(path, "kitchen", "boot", 10**6)
    lost = {seq for loss in told for seq in range(loss.first, (loss.last or 0) + 1)}
    assert taken | lost == set(range(1, again.current.next_seq))
    assert not taken & lost
    assert len(lost) == 30 == again.losses.count
    assert seqs(again) == taken
    again.close()


def damage(path: Path, number: int) -> None:
    """Overwrite pages of readings in the middle of the file with noise."""
    size = path.stat().st_size
    with path.open("r+b") as stream:
        for index in range(number):
            stream.seek((size // 4096 // 2 + index) * 4096)
            stream.write(os.urandom(4096))


def test_a_damaged_outbox_is_set_aside_and_salvaged_and_the_rest_told_as_lost(
    opened: OpenOutbox, outbox_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    outbox = opened(max_readings=10**6)
    outbox.put(drafts(2000))
    old = outbox.current.name
    outbox.close()
    damage(outbox_path, 3)

    again = opened(max_readings=10**6)

    epoch = again.find(old)
    assert epoch is not None
    assert 1800 < epoch.rows.count < 2000
    rows = again.pending(epoch, 1, 2000, 5000, 10**9)
    assert [json.loads(row.payload)["seq"] for row in rows] == [row.seq for row in rows]
    assert again.current.name != old
    assert [(loss.epoch, loss.last) for loss in again.losses.told] == [(old, None)]
    assert again.losses.told[0].first > 2000
    assert again.losses.unknown_count == 1
    assert list(outbox_path.parent.glob("outbox.db.corrupt-*"))
    assert "damaged" in caplog.text
    assert again.put(drafts(1))[0].seq == 1


def test_a_file_that_is_no_database_is_searched_for_readings(opened: OpenOutbox, outbox_path: Path) -> None:
    outbox = opened()
    outbox.put(drafts(50))
    old = outbox.current.name
    outbox.close()
    content = outbox_path.read_bytes()
    outbox_path.write_bytes(b"\0" * 4096 + content[4096:])

    again = opened()

    epoch = again.find(old)
    assert epoch is not None
    assert list(epoch.rows) == [(1, 50)]


def test_a_file_of_noise_costs_one_loss_of_unknown_number(opened: OpenOutbox, outbox_path: Path) -> None:
    outbox_path.parent.mkdir()
    outbox_path.write_bytes(os.urandom(20_000))

    outbox = opened()

    assert [(loss.first, loss.last) for loss in outbox.losses.told] == [(1, None)]
    assert outbox.losses.told[0].epoch != outbox.current.name
    assert outbox.put(drafts(1))[0].seq == 1


def test_a_kill_while_a_damaged_outbox_is_replaced_is_finished_by_the_next_start(
    opened: OpenOutbox, outbox_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    outbox = opened()
    outbox.put(drafts(50))
    old = outbox.current.name
    outbox.close()
    outbox_path.write_bytes(b"\0" * 4096 + outbox_path.read_bytes()[4096:])
    monkeypatch.setattr("mqtt_client.outbox.salvage.finish_replacing", lambda path: path)
    replace_damaged(outbox_path, "kitchen")
    assert salvaged_name(outbox_path).exists()
    outbox_path.rename(outbox_path.with_name("outbox.db.corrupt-x"))  # as if killed between the two renames

    again = opened()

    epoch = again.find(old)
    assert epoch is not None
    assert epoch.rows.count == 50
    assert not salvaged_name(outbox_path).exists()


def test_put_costs_the_same_with_many_waiting(opened: OpenOutbox) -> None:
    outbox = opened(max_readings=10**6)
    steps: list[int] = []

    def count_steps() -> int:
        steps.append(1)
        return 0

    def cost() -> int:
        outbox._connection.set_progress_handler(count_steps, 1)
        steps.clear()
        outbox.put(drafts(1))
        outbox._connection.set_progress_handler(None, 1)
        return len(steps)

    empty = cost()
    for _ in range(30):
        outbox.put(drafts(1000))

    assert cost() <= empty + 20, "SQLite's own steps, so no clock decides"

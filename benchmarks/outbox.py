"""e: what a put into the outbox costs with 0, 100,000 and 1,000,000 readings waiting: CPU, commits and time."""

import tempfile
import time
from pathlib import Path

from benchmarks.measuring import Figure, median, tell
from mqtt_client.outbox.epoch import Draft
from mqtt_client.outbox.opening import open_outbox

PUTS = 500
RUNS = 3
WAITING = (0, 100_000, 1_000_000)
BOOT = "00000000-0000-0000-0000-000000000001"


def draft(number: int) -> Draft:
    """Return a reading that is not taken yet."""
    values = {"temperature": 21.4, "humidity": 48.2}
    return Draft("main", 1_795_552_265_123 + number, number, "synced", values, held=False)


def puts(folder: Path, waiting: int) -> tuple[float, float]:
    """Return milliseconds of wall time and of CPU for a put, median of RUNS, with so many waiting."""
    outbox = open_outbox(folder / f"outbox-{waiting}.db", "bench", BOOT, 2_000_000)
    for first in range(0, waiting, 1000):
        outbox.put([draft(number) for number in range(first, first + 1000)])
    wall: list[float] = []
    cpu: list[float] = []
    for _ in range(RUNS):
        begin, begin_cpu = time.perf_counter(), time.process_time()
        for number in range(PUTS):
            outbox.put([draft(waiting + number)])
        wall.append((time.perf_counter() - begin) / PUTS * 1000)
        cpu.append((time.process_time() - begin_cpu) / PUTS * 1000)
    outbox.close()
    return median(wall), median(cpu)


if __name__ == "__main__":
    figures: list[Figure] = []
    with tempfile.TemporaryDirectory() as name:
        first_cpu = 0.0
        for waiting in WAITING:
            wall, cpu = puts(Path(name), waiting)
            first_cpu = first_cpu or cpu
            note = f"{wall:.2f} ms with the fsync"
            figures.append(Figure(f"put with {waiting:,} waiting", cpu, "ms CPU", ratio=cpu / first_cpu, note=note))
    tell("outbox", "e. one put into the outbox, committed (ratio to an empty one)", figures)

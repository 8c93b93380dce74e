"""How every benchmark measures and tells: medians of several runs, ratios within one run, a table and JSON.

Machines differ and are shared, so a figure is worth something only beside the
peer or limit that was measured in the same run; quote the ratios.
"""

import contextlib
import json
import os
import platform
import resource
import statistics
import subprocess
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

RESULTS = Path(__file__).with_name("results")


@dataclass(frozen=True)
class Figure:
    """One contestant in one benchmark: the median over its runs."""

    name: str
    value: float
    unit: str
    cpu_s: float | None = None
    peak_mib: float | None = None
    ratio: float | None = None
    """To the contestant that is named in the title."""
    note: str = ""


@dataclass(frozen=True)
class Cost:
    """What a process or a block has cost."""

    wall_s: float
    cpu_s: float
    peak_mib: float | None


def run(command: Sequence[str], environment: Mapping[str, str] | None = None, cwd: Path | None = None) -> Cost:
    """Run a command to its end and return its cost, with that of its children."""
    begin = time.perf_counter()
    process = subprocess.Popen(
        command, env=dict(environment) if environment else None, cwd=cwd, stdout=subprocess.DEVNULL
    )
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise subprocess.CalledProcessError(process.returncode, list(command))
    # A child's largest memory counts from before its exec, so what this process has is no figure of the child's.
    own = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    peak = usage.ru_maxrss / 1024 if usage.ru_maxrss > own else None
    return Cost(time.perf_counter() - begin, usage.ru_utime + usage.ru_stime, peak)


def cpu_s(pid: int) -> float:
    """Return the CPU seconds that a process has used."""
    words = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()
    return (int(words[11]) + int(words[12])) / os.sysconf("SC_CLK_TCK")


def peak_mib(pid: int) -> float:
    """Return the largest resident memory of a process so far."""
    status = Path(f"/proc/{pid}/status").read_text(encoding="utf-8")
    line = next(line for line in status.splitlines() if line.startswith("VmHWM"))
    return int(line.split()[1]) / 1024


def group_cost(leader: int) -> tuple[float, float]:
    """Return the CPU seconds of a process group, ended children too, and the sum of its largest memories in MiB."""
    used = memory = 0.0
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError, StopIteration):  # it has just ended
            words = stat.read_text(encoding="utf-8").rpartition(")")[2].split()
            if int(words[2]) == leader:
                memory += peak_mib(int(stat.parent.name))
                used += sum(map(int, words[11:15])) / os.sysconf("SC_CLK_TCK")
    return used, memory


def in_child(work: Callable[[], float]) -> tuple[float, Cost]:
    """Run work in a forked process, so that its memory is its own; return what it returns, and its cost."""
    read_end, write_end = os.pipe()
    begin = time.perf_counter()
    child = os.fork()
    if child == 0:
        os.close(read_end)
        os.write(write_end, repr(work()).encode())
        os._exit(0)
    os.close(write_end)
    with os.fdopen(read_end, "rb") as stream:
        value = float(stream.read())
    _, _, usage = os.wait4(child, 0)
    cost = Cost(time.perf_counter() - begin, usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024)
    return value, cost


def median(values: Sequence[float]) -> float:
    """Return the median, which one disturbed run does not move."""
    return statistics.median(values)


def percentile(values: Sequence[float], percent: float) -> float:
    """Return a percentile by the nearest rank."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(len(ordered) * percent / 100))]


def tell(name: str, title: str, figures: Sequence[Figure]) -> None:
    """Print a table and write ``results/NAME.json``."""
    print(f"\n{title}")
    width = max(len(figure.name) for figure in figures)
    for figure in figures:
        cpu = "" if figure.cpu_s is None else f"{figure.cpu_s:8.2f} CPU s"
        memory = "" if figure.peak_mib is None else f"{figure.peak_mib:7.0f} MiB"
        ratio = "" if figure.ratio is None else f"{figure.ratio:7.2f} ×"
        value = f"{figure.value:12,.1f} {figure.unit:12}"
        print(f"  {figure.name:{width}} {value}{ratio:>10}{cpu:>15}{memory:>12}  {figure.note}")
    RESULTS.mkdir(exist_ok=True)
    document = {
        "title": title,
        "machine": f"{os.cpu_count()} × {_processor()}, Python {platform.python_version()}",
        "load": round(os.getloadavg()[0], 2),
        "figures": [asdict(figure) for figure in figures],
    }
    text = json.dumps(document, ensure_ascii=False, indent=1) + "\n"
    (RESULTS / f"{name}.json").write_text(text, encoding="utf-8")


def _processor() -> str:
    for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()


def raise_file_limit() -> None:
    """Allow this process, and those that it starts, as many open files as the system lets it."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


class Background:
    """A thread that repeats something until the block ends."""

    def __init__(self, work: Callable[[], None]) -> None:
        self._work = work
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def _run(self) -> None:
        while not self._ended.is_set():
            self._work()

    def __enter__(self) -> "Background":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()

"""The product beside its peers: how fast from the broker to the server, and what a kill -9 halfway costs.

All in one run, in turns, each time with a new mosquitto and a new receiver
(:mod:`benchmarks.peers.receiver`: answers 204 at once and keeps books) and the
same readings of 50 nodes, 144 bytes each, QoS 1. They wait in a persistent
session of the peer, as after an outage; then the peer starts. Each peer's
options stand in its module. Peers are installed at first use, in
``benchmarks/.peers``.

Throughput: readings a second from the first to the last at the receiver, so
that the start of an interpreter counts for nobody. Processor time and memory
are those of all its processes together, from their start, interpreter and all;
memory is the sum of each process's largest.

Kill: when half of the readings have come, all processes of the peer are
killed with -9 and it is started again as it was; the books are closed when
nothing has come for QUIET_S. What is missing then is looked for in the
peer's session at the broker too.
"""

import argparse
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from benchmarks.load import make_session, payload, publish_all
from benchmarks.measuring import Figure, group_cost, median, tell
from benchmarks.peers.mq_bridge import MqBridge
from benchmarks.peers.mqttwarn import Mqttwarn
from benchmarks.peers.node_red import NodeRed
from benchmarks.peers.old_script import OldScript
from benchmarks.peers.ours import Ours
from benchmarks.peers.peer import READINGS, Peer, Way
from benchmarks.peers.receiver import CountingServer, Tally
from tests.processes import Mosquitto, eventually

OURS = Ours()
ARRAYS = Ours(batch_size=500)
PEERS: tuple[Peer, ...] = (MqBridge(), NodeRed(), Mqttwarn(), OldScript())
QUIET_S = 10.0
WITHIN_S = 300.0


@dataclass(frozen=True)
class Throughput:
    """One run of one peer."""

    rate: float
    seconds: float
    """From the start of its program to the last reading."""
    cpu_s: float
    peak_mib: float
    missing: int


@dataclass(frozen=True)
class Killed:
    """What a kill has left at the receiver."""

    sent: int
    tally: Tally
    waiting: int
    """Missing readings that the broker still holds for the peer."""


@contextmanager
def way_of(peer: Peer, count: int) -> Iterator[tuple[Way, CountingServer]]:
    """Prepare a broker that holds count readings for a peer, and a receiver."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        broker = Mosquitto(folder / "broker", "max_queued_bytes 0")
        try:
            server = CountingServer(folder)
            try:
                make_session(broker.port, peer.client_id, peer.filters)
                publish_all(broker.port, (payload("run", number) for number in range(count)))
                yield Way(folder, broker.port, server.url), server
            finally:
                server.kill()
        finally:
            broker.kill()


def settled(server: CountingServer, count: int, quiet_s: float) -> Tally:
    """Return the books when all have come, or nothing more has for quiet_s."""
    last, since = server.tally(), time.monotonic()
    while last.distinct < count and time.monotonic() - since < quiet_s:
        time.sleep(0.05)
        tally = server.tally()
        if tally != last:
            last, since = tally, time.monotonic()
    return last


def throughput(peer: Peer, usual: int) -> Throughput:
    """Let a peer empty its session once."""
    count = int(usual * peer.readings)
    with way_of(peer, count) as (way, server):
        begin = time.monotonic()
        process = peer.start(way)
        try:
            eventually(lambda: server.tally().distinct, within_s=60, told=process.output)
            tally = settled(server, count, QUIET_S)
            cpu_s, peak_mib = group_cost(process.process.pid)
        finally:
            process.kill()
    rate = tally.distinct / max(1e-3, tally.last_new_at - tally.first_at)
    return Throughput(rate, tally.last_new_at - begin, cpu_s, peak_mib, count - tally.distinct)


def kill(peer: Peer, usual: int) -> Killed:
    """Kill a peer halfway, start it again, and count."""
    count = int(usual * peer.killed_readings)
    with way_of(peer, count) as (way, server):
        process = peer.start(way)
        try:
            eventually(lambda: server.tally().distinct >= count // 2, within_s=WITHIN_S, told=process.output)
            process.kill()
            process.start()
            settled(server, count, 2 * QUIET_S)
            tally = settled(server, count + 1, QUIET_S)  # what comes after the last is a repeat
        finally:
            process.kill()
        waiting = left_at_broker(peer, way) if tally.distinct < count else 0
    return Killed(count, tally, waiting)


def left_at_broker(peer: Peer, way: Way) -> int:
    """Return how many messages the peer's session still holds."""
    options = ["-V", "5", "-p", str(way.broker_port), "-i", peer.client_id, "-c", "-x", "3600", "-q", "1"]
    command = ["mosquitto_sub", *options, "-t", READINGS, "-W", "3"]
    return len(subprocess.run(command, capture_output=True, check=False).stdout.splitlines())


def tell_throughput(peers: Sequence[Peer], names: dict[Peer, str], usual: int, runs: int) -> None:
    """Run all peers in turns and print the medians."""
    found: dict[Peer, list[Throughput]] = {peer: [] for peer in peers}
    for _ in range(runs):
        for peer in peers:
            found[peer].append(throughput(peer, usual))
    rates = {peer: median([run.rate for run in found[peer]]) for peer in peers}
    best = max((peer for peer in peers if not isinstance(peer, Ours)), key=rates.__getitem__, default=peers[0])

    def figure(peer: Peer) -> Figure:
        def middle(value: Callable[[Throughput], float]) -> float:
            return median([value(run) for run in found[peer]])

        count, missing = int(usual * peer.readings), max(run.missing for run in found[peer])
        note = f"{middle(lambda run: run.seconds):.1f} s from start for {count:,}"
        note += f", up to {missing:,} never came" if missing else ""
        cpu_s, peak_mib = middle(lambda run: run.cpu_s), middle(lambda run: run.peak_mib)
        return Figure(names[peer], rates[peer], "readings/s", cpu_s, peak_mib, rates[peer] / rates[best], note)

    title = f"c. queue to server, {usual:,} readings, one POST each (ratio to {names[best]}; median of {runs})"
    tell("peers_throughput", title, [figure(peer) for peer in peers])


def tell_kill(peers: Sequence[Peer], names: dict[Peer, str], usual: int) -> None:
    """Kill all peers and print what was missing and doubled."""

    def figure(peer: Peer) -> Figure:
        killed = kill(peer, usual)
        tally = killed.tally
        missing = killed.sent - tally.distinct
        note = f"of {killed.sent:,}; doubled at a server that looks at the keys: {tally.doubled:,}"
        note += f"; requests repeated: {tally.repeated:,}"
        note += f"; {killed.waiting:,} of the missing still at the broker" if killed.waiting else ""
        return Figure(names[peer], missing, "missing", note=note)

    tell("peers_kill", "kill -9 when half has come, then started again", [figure(peer) for peer in peers])


def main() -> None:
    """Measure what the command line asks for."""
    known = {peer.name: peer for peer in (OURS, ARRAYS, *PEERS)}
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--readings", type=int, default=10_000, help="in each run; 10,000 (of ours 5 × are killed)")
    parser.add_argument("--only", action="append", choices=known, metavar="PEER", help=f"of {', '.join(known)}")
    parser.add_argument("--part", choices=("throughput", "kill"), help="only this; both")
    parser.add_argument("--runs", type=int, default=3, help="runs for throughput, of which the median counts; 3")
    parser.add_argument("--install", action="store_true", help="install what is missing, and no more")
    options = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("ended"))  # what was started is ended too
    peers = [known[name] for name in options.only or known]
    names = {peer: peer.install() for peer in peers}
    if options.install:
        print("\n".join(names.values()))
        return
    if options.part != "kill":
        tell_throughput(peers, names, options.readings, options.runs)
    if options.part != "throughput":
        tell_kill([peer for peer in peers if peer is not ARRAYS], names, options.readings)


if __name__ == "__main__":
    main()

"""Everything that a stranger can send, into the real doors, guided by coverage (atheris, libFuzzer).

``make fuzz SECONDS=60``, or one target: ``python -m fuzz.strangers intake -max_total_time=60``.
What must hold: nothing but InvalidReading is raised, a burst with anything in
it is committed, and the next good reading always passes. An input that breaks
this is written to ``fuzz/findings/`` and is given to a test when it is mended.
"""

import atexit
import json
import logging
import shutil
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import atheris

with atheris.instrument_imports(include=["mqtt_client", "bridge"]):
    from bridge.ingest.lookout import Bridges
    from bridge.store.database import open_store
    from bridge.store.intake import Intake, Message
    from mqtt_client import messages, reading
    from mqtt_client.commands import Commands
    from mqtt_client.errors import InvalidReading
    from mqtt_client.outbox.epoch import Draft
    from mqtt_client.outbox.opening import open_outbox
    from mqtt_client.publisher.receipts import Receipts
    from mqtt_client.topics import Topics

Target = Callable[[bytes], None]

GOOD = {
    "v": 1,
    "node": "kitchen",
    "sensor": "main",
    "epoch": "k3f9x2ab",
    "seq": 1,
    "time": "2026-11-24T20:31:05.123Z",
    "clock": "synced",
    "values": {"temperature": 21.4},
}
KINDS = (
    messages.Backlog,
    messages.Lost,
    messages.Receipt,
    messages.Info,
    messages.Health,
    messages.BridgeHealth,
    messages.Command,
    messages.CommandResult,
)
TOPICS = (
    "sensors/kitchen/reading/main",
    "sensors/kitchen/backlog",
    "sensors/kitchen/lost",
    "sensors/kitchen/info",
    "sensors/kitchen/health",
    "sensors/kitchen/availability",
    "sensors/bridge/reading/main",
    "sensors/kitchen/nothing",
)
SEEDS = [
    b'{"v":1,"node":"kitchen","sensor":"main","epoch":"k3f9x2ab","seq":7,"time":"2026-11-24T20:31:05.123Z",'
    b'"clock":"corrected","values":{"temperature":21.4,"humidity":48.2}}',
    b'{"epoch":"k3f9x2ab","floor":3,"readings":[{"v":1,"node":"kitchen","sensor":"main","epoch":"k3f9x2ab","seq":9,'
    b'"time":"2026-11-24T21:31:05+01:00","clock":"synced","values":{"co2":400}},{},7]}',
    b'{"epoch":"k3f9x2ab","from":3,"to":9,"reason":"the outbox was full"}',
    b'{"epoch":"k3f9x2ab","from":3,"to":null,"reason":""}',
    b'{"store":"0123456789abcdef","epoch":"k3f9x2ab","through":9,"beyond":[[11,12],[15,15]]}',
    b'{"epoch":"k3f9x2ab","floor":3,"version":"0.1.0","sensors":{"main":{"driver":"simulated","quantities":'
    b'{"temperature":"\xc2\xb0C"}}},"interval":5,"model":""}',
    b'{"epoch":"k3f9x2ab","floor":3,"time":"","outbox_depth":1,"oldest_age_s":0.5,"hours_until_full":null,"lost":0,'
    b'"sensor_faults":{"main":"no answer"},"disk_free_bytes":1,"troubles":[]}',
    b'{"store":"0123456789abcdef","group":null,"version":"0.1.0","waiting_to_forward":0}',
    b'{"id":"1","name":"set-interval","value":2.5}',
    b'{"id":"1","status":"error","error":"no"}',
    b"online",
    b"offline",
]
"""One good message of each kind; the fuzzer goes on from there."""


WORDS = (
    "",
    "kitchen",
    "k3f9x2ab",
    "bridge",
    "a" * 65,
    "\x00",
    "é\ud83d\ude00",
    "online",
    "read",
    "-1",
    "1e999",
    "2026-02-30",
)
NUMBERS = (0, -1, 1, 2**31, 2**53, 2**63 - 1, 2**63, 10**30, 1e308, -0.0, 0.1)


def assembled(payload: bytes) -> bytes:
    """Turn bytes into a message that is nearly a good one, since hardly any bytes by themselves are JSON."""
    choose = atheris.FuzzedDataProvider(payload)
    try:
        document = json.loads(SEEDS[choose.ConsumeIntInRange(0, len(SEEDS) - 3)])
    except json.JSONDecodeError:
        return payload
    for _ in range(choose.ConsumeIntInRange(0, 4)):
        place = document
        while isinstance(place, dict | list) and place:
            keys = list(place) if isinstance(place, dict) else range(len(place))
            key = keys[choose.ConsumeIntInRange(0, len(keys) - 1)]
            if isinstance(place[key], dict | list) and choose.ConsumeBool():
                place = place[key]
                continue
            place[key] = _value(choose, 3)
            if isinstance(place, dict) and choose.ConsumeIntInRange(0, 7) == 0:
                del place[key]
            break
    return json.dumps(document, ensure_ascii=choose.ConsumeBool()).encode("utf-8", "surrogatepass")


def _value(choose: "atheris.FuzzedDataProvider", depth: int) -> object:
    match choose.ConsumeIntInRange(0, 7 if depth else 4):
        case 0:
            return None
        case 1:
            return choose.ConsumeBool()
        case 2:
            return NUMBERS[choose.ConsumeIntInRange(0, len(NUMBERS) - 1)]
        case 3:
            return WORDS[choose.ConsumeIntInRange(0, len(WORDS) - 1)]
        case 4:
            return choose.ConsumeInt(8) if choose.ConsumeBool() else choose.ConsumeUnicode(12)
        case 5:
            return [_value(choose, depth - 1) for _ in range(choose.ConsumeIntInRange(0, 4))]
        case 6:
            return [[choose.ConsumeIntInRange(0, 50), choose.ConsumeIntInRange(0, 50)] for _ in range(3)]
        case _:
            return {_word(choose): _value(choose, depth - 1) for _ in range(choose.ConsumeIntInRange(0, 4))}


def _word(choose: "atheris.FuzzedDataProvider") -> str:
    return choose.ConsumeUnicode(8) if choose.ConsumeBool() else WORDS[choose.ConsumeIntInRange(0, len(WORDS) - 1)]


def decoders() -> Target:
    """Return what decodes bytes as every kind of message."""

    def target(payload: bytes) -> None:
        for decode in (*(lambda data, kind=kind: messages.decode(kind, data) for kind in KINDS), reading.decode):
            try:
                decode(payload)
            except InvalidReading as exc:
                str(exc)

    return target


def intake(folder: Path) -> Target:
    """Return what gives bytes to the bridge's front door as each topic's message, and then a good reading."""
    door = Intake(open_store(f"sqlite:///{folder / 'bridge.db'}"), Topics("sensors"))
    seq = 1_000_000

    def target(payload: bytes) -> None:
        nonlocal seq
        topic = TOPICS[payload[0] % len(TOPICS)] if payload else TOPICS[0]
        seq += 1
        good = json.dumps({**GOOD, "node": "good", "seq": seq}).encode()
        received = door.received
        touched = door.put(
            [Message(topic, payload), Message(topic, payload[1:]), Message("sensors/good/reading/main", good)]
        )
        if door.received <= received or not any(source.node == "good" for source in touched):
            raise AssertionError("a good reading did not pass")
        for source in touched:
            source.receipt("0123456789abcdef")

    return target


def receipts(folder: Path) -> Target:
    """Return what gives bytes to the node as a receipt; then a reading is taken, whatever it said."""
    outbox = open_outbox(folder / "outbox.db", "kitchen", "boot", 1000)
    outbox.begin_publishing()

    def target(payload: bytes) -> None:
        taken = Receipts(outbox, None)
        taken.take(payload)
        (row,) = outbox.put([Draft("main", {"temperature": 21.4}, 1_795_552_265_123, 1, "synced")])
        epoch = outbox.current
        epoch.attempted.add(row.seq, row.seq)
        # The fuzzer cannot guess a random epoch's name: once more with ours.
        taken.take(payload.replace(b"k3f9x2ab", epoch.name.encode()))

    return target


def commands() -> Target:
    """Return what gives bytes to the node as a command; each has at most one result."""
    obeyed = Commands([], None)

    def target(payload: bytes) -> None:
        command = obeyed.take(payload, is_retained=False)
        if command is not None:
            obeyed.finish(command.id)
        for result in obeyed.take_results():
            messages.decode(messages.CommandResult, messages.encode(result))

    return target


def bridges() -> Target:
    """Return what gives bytes to a bridge as another one's health and availability."""

    def target(payload: bytes) -> None:
        known = Bridges("0123456789abcdef", None)
        known.note(["bridge", "other", "health"], payload)
        known.note(["bridge", "other", "availability"], payload)
        known.check()

    return target


TARGETS = ("decoders", "intake", "receipts", "commands", "bridges")


def make(name: str, folder: Path) -> Target:
    """Return a target; what it keeps is in this folder."""
    if name in ("intake", "receipts"):
        return {"intake": intake, "receipts": receipts}[name](folder)
    return {"decoders": decoders, "commands": commands, "bridges": bridges}[name]()


def main() -> None:
    """Run one target; further arguments are libFuzzer's."""
    name, options = sys.argv[1], sys.argv[2:]
    logging.disable(logging.CRITICAL)
    quick = "/dev/shm" if Path("/dev/shm").is_dir() else None  # noqa: S108  # a new folder; the disk is not tried here
    folder = Path(tempfile.mkdtemp(prefix=f"fuzz-{name}-", dir=quick))
    corpus = folder / "corpus"
    corpus.mkdir()
    for number, seed in enumerate(SEEDS):
        for prefix in range(len(TOPICS)) if name == "intake" else (None,):
            start = b"" if prefix is None else bytes([prefix])
            (corpus / f"{number}-{prefix}").write_bytes(start + seed)
    findings = Path(__file__).parent / "findings"
    findings.mkdir(exist_ok=True)
    door = make(name, folder)

    def target(payload: bytes) -> None:
        """Give the bytes as they are, and what they assemble."""
        door(payload)
        door((payload[:1] if name == "intake" else b"") + assembled(payload))

    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    atheris.Setup([sys.argv[0], str(corpus), f"-artifact_prefix={findings}/{name}-", *options], target)
    atheris.Fuzz()


if __name__ == "__main__":
    main()

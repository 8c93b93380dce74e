"""The fast server that also keeps books: which readings came, how often, and what a key would have recognised.

It keeps in memory the identity of every reading (``id``, or node, epoch and
seq of a payload that was passed on as it is), and every idempotency key. A
request under a key that came before is a repeat that a server recognises, so
that it stores nothing; a reading that is stored twice all the same is doubled.
"""

import asyncio
import json
import sys
import time
import urllib.request
from dataclasses import asdict, dataclass
from pathlib import Path

from benchmarks.load import Answering, FastServer, serve
from benchmarks.measuring import raise_file_limit


@dataclass
class Tally:
    """What has come so far."""

    requests: int = 0
    """Readings in all requests, repeats too."""
    distinct: int = 0
    stored: int = 0
    """Readings that a server keeps which looks at the keys."""
    first_at: float = 0.0
    """Seconds of the monotonic clock, which all processes share."""
    last_new_at: float = 0.0

    @property
    def repeated(self) -> int:
        """Readings that came again."""
        return self.requests - self.distinct

    @property
    def doubled(self) -> int:
        """Readings that the server keeps twice."""
        return self.stored - self.distinct


class CountingServer(FastServer):
    """Answers every POST with 204 at once, and tells what has come."""

    MODULE = "benchmarks.peers.receiver"

    def __init__(self, folder: Path) -> None:
        raise_file_limit()  # Node-RED opens a connection for every message it holds
        super().__init__(folder)

    def tally(self) -> Tally:
        """Ask for the books."""
        with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/", timeout=30) as answer:
            return Tally(**json.load(answer))


class Counting(Answering):
    """Takes readings by POST; anything else is answered with the books."""

    tally = Tally()
    _identities: set[str] = set()  # noqa: RUF012  # shared by all connections
    _keys: set[str] = set()  # noqa: RUF012

    def answer(self, head: bytes, body: bytes) -> bytes:
        """Note what came."""
        if not head.startswith(b"post "):
            books = json.dumps(asdict(self.tally)).encode()
            return b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(books), books)
        document = json.loads(body)
        if isinstance(document, list):
            for reading in document:
                self._take(reading, reading["id"])
        else:
            self._take(document, _key(head))
        return self.ANSWER

    def _take(self, reading: dict[str, object], key: str | None) -> None:
        tally = self.tally
        now = time.monotonic()
        tally.first_at = tally.first_at or now
        tally.requests += 1
        if key is None or key not in self._keys:
            tally.stored += 1
        if key is not None:
            self._keys.add(key)
        identity = str(reading.get("id") or f"{reading['node']}-{reading['epoch']}-{reading['seq']}")
        if identity not in self._identities:
            self._identities.add(identity)
            tally.distinct += 1
            tally.last_new_at = now


def _key(head: bytes) -> str | None:
    _, name, rest = head.partition(b"\r\nidempotency-key:")
    return rest.partition(b"\r\n")[0].strip(b' "').decode() if name else None


if __name__ == "__main__":
    asyncio.run(serve(Counting, int(sys.argv[1])))

"""A TCP proxy that can do to a connection what networks do: cut it, stall, delay, truncate in the middle of a packet.

Each has its own port of the loopback interface; all of them share one thread.
"""

import asyncio
import contextlib
import socket
import struct
import threading
from collections.abc import Coroutine
from typing import Any, TypeVar

T = TypeVar("T")

CHUNK_BYTES = 65536
WITHIN_S = 10.0
AT_ONCE = struct.pack("ii", 1, 0)
"""SO_LINGER that makes a close a reset."""


class Proxies:
    """The thread in which all proxies run."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="proxies", daemon=True)
        self._thread.start()
        self._all: list[Proxy] = []

    def add(self, target_port: int) -> "Proxy":
        """Return a new proxy in front of a port of this machine."""
        proxy = Proxy(self, target_port)
        self.do(proxy.listen())
        self._all.append(proxy)
        return proxy

    def do(self, task: Coroutine[Any, Any, T]) -> T:
        """Run something in the proxies' thread and return what it returns."""
        return asyncio.run_coroutine_threadsafe(task, self._loop).result(WITHIN_S)

    def end(self) -> None:
        """End all of them."""
        for proxy in self._all:
            self.do(proxy.close())
        self.do(_end_tasks())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(WITHIN_S)
        self._loop.close()


class Proxy:
    """One proxy; well until told otherwise, and again after :meth:`heal`."""

    def __init__(self, thread: Proxies, target_port: int) -> None:
        self.port = 0
        self.connections = 0
        """How many were made so far."""
        self._thread = thread
        self._target_port = target_port
        self._server: asyncio.Server | None = None
        self._ends: set[asyncio.StreamWriter] = set()
        self._flows = asyncio.Event()
        self._flows.set()
        self._delay_s = 0.0
        self._keep_bytes: int | None = None
        self._is_refusing = False

    # What tests do to it ------------------------------------------------------------------------

    def cut(self, *, reset: bool = False) -> None:
        """End all connections, with a reset or in order; new ones are taken."""
        self._thread.do(self._cut(reset))

    def stall(self) -> None:
        """Let nothing more through, and keep all connections, until healed."""
        self._thread.do(self._set(flows=False))

    def delay(self, delay_s: float) -> None:
        """Let each piece of data wait, until healed."""
        self._thread.do(self._set(delay_s=delay_s))

    def truncate(self, keep_bytes: int) -> None:
        """Let only the beginning of the next piece of data through, then cut its connection; once."""
        self._thread.do(self._set(keep_bytes=keep_bytes))

    def refuse(self) -> None:
        """Cut all connections and take no new one, until healed."""
        self._thread.do(self._set(refuse=True))

    def heal(self) -> None:
        """Let all through again."""
        self._thread.do(self._set(flows=True, delay_s=0.0, keep_bytes=None, refuse=False))

    # In the proxies' thread ---------------------------------------------------------------------

    async def listen(self) -> None:
        """Begin."""
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]

    async def close(self) -> None:
        """End."""
        assert self._server is not None
        self._server.close()
        await self._cut(False)

    async def _set(
        self,
        *,
        flows: bool | None = None,
        delay_s: float | None = None,
        keep_bytes: int | None = None,
        refuse: bool | None = None,
    ) -> None:
        if flows is not None:
            (self._flows.set if flows else self._flows.clear)()
        self._delay_s = self._delay_s if delay_s is None else delay_s
        self._keep_bytes = keep_bytes
        if refuse is not None:
            self._is_refusing = refuse
            if refuse:
                await self._cut(True)

    async def _cut(self, reset: bool) -> None:
        for end in list(self._ends):
            _close(end, reset=reset)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        try:
            if self._is_refusing:
                raise ConnectionRefusedError
            onward_reader, onward = await asyncio.open_connection("127.0.0.1", self._target_port)
        except OSError:
            _close(writer, reset=True)
            return
        ends = {writer, onward}
        self._ends |= ends
        try:
            await asyncio.gather(self._pump(reader, onward), self._pump(onward_reader, writer))
        except (OSError, asyncio.CancelledError):
            pass  # the end of one is the end of both
        finally:
            self._ends -= ends
            for end in ends:
                _close(end, reset=False)

    async def _pump(self, source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
        while data := await source.read(CHUNK_BYTES):
            await self._flows.wait()
            if self._delay_s:
                await asyncio.sleep(self._delay_s)
            if self._keep_bytes is not None:
                sink.write(data[: self._keep_bytes])
                self._keep_bytes = None
                with contextlib.suppress(OSError):
                    await sink.drain()
                await asyncio.sleep(0)
                raise ConnectionResetError
            sink.write(data)
            await sink.drain()
        raise ConnectionResetError  # one side has ended: so does the other


def _close(end: asyncio.StreamWriter, *, reset: bool) -> None:
    if reset:
        connection: socket.socket | None = end.get_extra_info("socket")
        if connection is not None:
            with contextlib.suppress(OSError):
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, AT_ONCE)
        end.transport.abort()
    else:
        end.close()


async def _end_tasks() -> None:
    tasks = [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)

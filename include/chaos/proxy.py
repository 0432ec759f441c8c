"""A TCP proxy in a thread: passes bytes on, late if told so."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Coroutine
from typing import Any, TypeVar

_CHUNK = 1 << 16
T = TypeVar("T")


class SlowProxy:
    """Listens on 127.0.0.1 and passes connections on to one address.

    Args:
        host: where the server is.
        port: its TCP port.
        connect_s: how long to wait for the server to take a connection.
    """

    def __init__(self, host: str, port: int, connect_s: float = 10.0) -> None:
        self.delay_s = 0.0
        """Added to every piece of up to 64 KiB, in each direction."""
        self._target = (host, port)
        self._connect_s = connect_s
        self._loop = asyncio.new_event_loop()
        self._tasks: set[asyncio.Task[None]] = set()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()
        self._server = self._call(self._listen())
        self.port: int = self._server.sockets[0].getsockname()[1]

    @property
    def url(self) -> str:
        """Of this side."""
        return f"http://127.0.0.1:{self.port}"

    def close(self) -> None:
        """Drop every connection and stop listening."""
        self._call(self._close())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def _call(self, work: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result()

    async def _listen(self) -> asyncio.Server:
        return await asyncio.start_server(self._serve, "127.0.0.1", 0)

    async def _close(self) -> None:
        self._server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        if task is not None:
            self._tasks.add(task)
        with contextlib.suppress(OSError, asyncio.TimeoutError, asyncio.CancelledError):
            try:
                there = await asyncio.wait_for(
                    asyncio.open_connection(*self._target), self._connect_s
                )
                try:
                    pumps = (self._pump(reader, there[1]), self._pump(there[0], writer))
                    await asyncio.gather(*pumps)
                finally:
                    there[1].close()
            finally:
                writer.close()
        if task is not None:
            self._tasks.discard(task)

    async def _pump(self, source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
        try:
            while data := await source.read(_CHUNK):
                if self.delay_s:
                    await asyncio.sleep(self.delay_s)
                sink.write(data)
                await sink.drain()
        finally:
            sink.close()

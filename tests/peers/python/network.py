"""A network between a client and a server, whose connections break when a test says so."""

from __future__ import annotations

import contextlib
import socket
import struct
import threading
from urllib.parse import urlsplit

PIECE = 65_536
# Closing a socket then resets its connection, and drops what was not sent.
RESET = struct.pack("ii", 1, 0)

# The ends at the client and at the server.
Connection = tuple[socket.socket, socket.socket]


class Network:
    """Another address of a server. Counts the faults that have happened, so that a test can wait for them."""

    def __init__(self, server_url: str) -> None:
        server = urlsplit(server_url)
        self._server = (server.hostname, server.port)
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        self._lock = threading.Lock()
        self._connections: set[Connection] = set()
        self._is_cut = False
        self._answers_to_lose = 0
        self._requests_to_break = 0
        # Connections that came while the network was cut.
        self.refused = 0
        self.lost_answers = 0
        self.broken_requests = 0
        threading.Thread(target=self._accept, daemon=True).start()

    def __enter__(self) -> Network:
        return self

    def __exit__(self, *_: object) -> None:
        # Wakes the thread that accepts, which closing does not.
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self.cut()

    def cut(self) -> None:
        """Breaks all connections, and new ones at once, until `restore`."""
        with self._lock:
            self._is_cut = True
            connections = list(self._connections)
        for connection in connections:
            self._reset(connection)

    def restore(self) -> None:
        """Lets connections pass again."""
        with self._lock:
            self._is_cut = False

    def lose_answers(self, count: int) -> None:
        """Breaks connections where the server begins to answer: it has the request, and its client does not know."""
        with self._lock:
            self._answers_to_lose += count

    def break_requests(self, count: int) -> None:
        """Breaks connections in the middle of what a client sends."""
        with self._lock:
            self._requests_to_break += count

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                self._begin(client)

    def _begin(self, client: socket.socket) -> None:
        try:
            server = socket.create_connection(self._server)
        except OSError:
            client.close()
            return
        connection = (client, server)
        with self._lock:
            is_cut = self._is_cut
            self.refused += is_cut
            if not is_cut:
                self._connections.add(connection)
        if is_cut:
            self._reset(connection)
            return
        for source, target in (connection, connection[::-1]):
            thread = threading.Thread(target=self._pass, args=(connection, source, target), daemon=True)
            thread.start()

    def _pass(self, connection: Connection, source: socket.socket, target: socket.socket) -> None:
        is_request = source is connection[0]
        with contextlib.suppress(OSError):
            while data := source.recv(PIECE):
                if self._takes_fault(is_request):
                    if is_request:
                        target.sendall(data[: len(data) // 2])
                    self._reset(connection)
                    return
                target.sendall(data)
            target.shutdown(socket.SHUT_WR)

    def _takes_fault(self, is_request: bool) -> bool:
        with self._lock:
            if is_request and self._requests_to_break:
                self._requests_to_break -= 1
                self.broken_requests += 1
                return True
            if not is_request and self._answers_to_lose:
                self._answers_to_lose -= 1
                self.lost_answers += 1
                return True
        return False

    def _reset(self, connection: Connection) -> None:
        with self._lock:
            self._connections.discard(connection)
        for end in connection:
            with contextlib.suppress(OSError):
                end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
                # The other thread may be reading it, which closing does not end.
                end.shutdown(socket.SHUT_RD)
            end.close()

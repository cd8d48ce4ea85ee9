"""Resource metrics of the workers of a distributed training, sent to the process with rank 0.

A packet is the length of its body in four bytes, big-endian, and the body in JSON:
`{"stat": {"system": {...}, "gpus": [{...}]}, "worker": {"node_rank": 1, "rank": 8}}`.
"""

from __future__ import annotations

import contextlib
import importlib
import json
import selectors
import socket
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

from matyan_client import _forks
from matyan_client._warnings import warn_user

from .. import _urls
from ._exception_resistant import FailureCounter

HEADER_BYTES = 4
# A packet of a machine with 16 GPUs has about 2 KiB. The limit keeps a stranger who connects to
# the port from filling the memory.
MAX_BODY_BYTES = 256 * 1024
RECEIVE_BYTES = 64 * 1024
POLL_S = 0.2
CONNECT_RETRY_S = 1.0
CONNECT_TIMEOUT_S = 5.0
DIGITS = 5

Stat = dict[str, Any]
Worker = dict[str, Any]


def encode_packet(stat: Stat, worker: Worker) -> bytes:
    body = json.dumps({"stat": stat, "worker": worker}).encode()
    return len(body).to_bytes(HEADER_BYTES, "big") + body


def take_packets(buffer: bytearray) -> Iterator[tuple[Stat, Worker]]:
    """Removes all complete packets from the start of the buffer and yields them.

    Raises `ValueError` for a packet that no worker sends.
    """
    while len(buffer) >= HEADER_BYTES:
        length = int.from_bytes(buffer[:HEADER_BYTES], "big")
        if length > MAX_BODY_BYTES:
            raise ValueError(f"packet of {length} bytes exceeds {MAX_BODY_BYTES} bytes")
        end = HEADER_BYTES + length
        if len(buffer) < end:
            return
        packet = json.loads(bytes(buffer[HEADER_BYTES:end]))
        del buffer[:end]
        try:
            stat = dict(packet["stat"])
            worker = dict(packet["worker"])
        except (KeyError, TypeError) as error:
            raise ValueError("packet has no `stat` and `worker`") from error
        yield stat, worker


class ResourceSampler:
    """Usage of this process and machine, by psutil and, if installed, NVML."""

    def __init__(self) -> None:
        # Accelerate depends on psutil, so that it is present with the adapter.
        self._psutil = importlib.import_module("psutil")
        self._process = self._psutil.Process()
        self._nvml: Any = None
        self._gpus: list[Any] = []
        # The first call of psutil's CPU measurement only begins the interval.
        self._process.cpu_percent()
        with contextlib.suppress(Exception):
            self._nvml = importlib.import_module("pynvml")
            self._nvml.nvmlInit()
            count = self._nvml.nvmlDeviceGetCount()
            self._gpus = [self._nvml.nvmlDeviceGetHandleByIndex(i) for i in range(count)]

    def sample(self) -> Stat:
        system = {
            "cpu": self._process.cpu_percent(),
            "p_memory_percent": self._process.memory_percent(),
            "memory_percent": self._psutil.virtual_memory().percent,
            "disk_percent": self._psutil.disk_usage("/").percent,
        }
        return {
            "system": {name: round(value, DIGITS) for name, value in system.items()},
            "gpus": [self._sample_gpu(gpu) for gpu in self._gpus],
        }

    def _sample_gpu(self, gpu: Any) -> dict[str, float]:
        nvml = self._nvml
        readings: dict[str, Callable[[], float]] = {
            "gpu": lambda: nvml.nvmlDeviceGetUtilizationRates(gpu).gpu,
            "gpu_memory_percent": lambda: _used_percent(nvml.nvmlDeviceGetMemoryInfo(gpu)),
            "gpu_temp": lambda: nvml.nvmlDeviceGetTemperature(gpu, nvml.NVML_TEMPERATURE_GPU),
            "gpu_power_watts": lambda: nvml.nvmlDeviceGetPowerUsage(gpu) / 1000,
        }
        usage: dict[str, float] = {}
        for name, read in readings.items():
            # Some devices lack some sensors.
            with contextlib.suppress(Exception):
                usage[name] = round(float(read()), DIGITS)
        return usage


def _used_percent(memory: Any) -> float:
    return float(memory.used) * 100 / float(memory.total)


class WorkerReporter:
    """Thread of a worker that sends a sample at the start and in each interval."""

    def __init__(self, address: tuple[str, int], worker: Worker, interval: float) -> None:
        self._address = address
        self._worker = worker
        self._interval = interval
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None
        self._failures = FailureCounter()
        _forks.watch(self)

    def after_fork(self) -> None:
        """Leaves the thread to the parent."""
        self._stop = threading.Event()
        self._thread = None

    def start(self) -> None:
        if self._thread is None:
            self._stop.clear()
            self._thread = threading.Thread(
                target=self._report, name="matyan-worker-reporter", daemon=True
            )
            self._thread.start()

    def stop(self) -> None:
        self._stop.set()
        if self._thread is not None:
            self._thread.join(timeout=CONNECT_TIMEOUT_S)
            self._thread = None

    def _report(self) -> None:
        connection: socket.socket | None = None
        try:
            sampler = ResourceSampler()
            while not self._stop.is_set():
                if connection is None:
                    connection = self._connect()
                if connection is None:
                    # The process with rank 0 may start later than this one.
                    self._stop.wait(CONNECT_RETRY_S)
                    continue
                try:
                    connection.sendall(encode_packet(sampler.sample(), self._worker))
                except OSError as error:
                    self._failures.record("send worker metrics", error)
                    connection.close()
                    connection = None
                self._stop.wait(self._interval)
        except Exception as error:
            self._failures.record("sample worker metrics", error)
        finally:
            if connection is not None:
                connection.close()

    def _connect(self) -> socket.socket | None:
        try:
            return socket.create_connection(self._address, CONNECT_TIMEOUT_S)
        except OSError:
            return None


class WorkerConnection:
    """Connection of one worker, with the bytes that are not a complete packet yet."""

    def __init__(self, server: socket.socket) -> None:
        self.socket, _peer = server.accept()
        self.socket.setblocking(False)
        self.buffer = bytearray()


class WorkerReceiver:
    """Thread of the process with rank 0 that accepts workers and passes on their samples."""

    def __init__(
        self,
        address: tuple[str, int],
        workers: int,
        connection_timeout: float,
        track: Callable[[Stat, Worker], None],
    ) -> None:
        self._address = address
        self._workers = workers
        self._connection_timeout = connection_timeout
        self._track = track
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None
        self._failures = FailureCounter()
        _forks.watch(self)

    def after_fork(self) -> None:
        """Leaves the thread to the parent."""
        self._stop = threading.Event()
        self._thread = None

    def start(self) -> None:
        """Binds the port, so that workers can connect, and begins to receive."""
        if self._thread is not None:
            return
        try:
            server = listen(*self._address)
        except OSError as error:
            self._failures.record(f"bind port {self._address[1]} for workers", error)
            return
        self._stop.clear()
        self._thread = threading.Thread(
            target=self._receive, args=(server,), name="matyan-worker-receiver", daemon=True
        )
        self._thread.start()

    def stop(self) -> None:
        self._stop.set()
        if self._thread is not None:
            self._thread.join(timeout=CONNECT_TIMEOUT_S)
            self._thread = None

    def _receive(self, server: socket.socket) -> None:
        deadline = time.monotonic() + self._connection_timeout
        connected = 0
        with server, selectors.DefaultSelector() as selector:
            selector.register(server, selectors.EVENT_READ)
            while not self._stop.is_set():
                for key, _events in selector.select(POLL_S):
                    if key.data is None:
                        connection = WorkerConnection(server)
                        selector.register(connection.socket, selectors.EVENT_READ, connection)
                        connected += 1
                    elif not self._read(key.data):
                        selector.unregister(key.fileobj)
                        key.data.socket.close()
                if connected < self._workers and time.monotonic() > deadline:
                    self._warn_missing(self._workers - connected)
                    deadline = float("inf")
            for key in selector.get_map().values():
                if key.data is not None:
                    key.data.socket.close()

    def _warn_missing(self, missing: int) -> None:
        warn_user(
            f"{missing} of {self._workers} workers have not connected within "
            f"{self._connection_timeout} s; still waiting for them"
        )

    def _read(self, connection: WorkerConnection) -> bool:
        """Reads from a worker; returns False if the connection is over."""
        try:
            data = connection.socket.recv(RECEIVE_BYTES)
            connection.buffer.extend(data)
            for stat, worker in take_packets(connection.buffer):
                self._track(stat, worker)
        except BlockingIOError:
            return True
        except Exception as error:
            self._failures.record("receive worker metrics", error)
            return False
        return bool(data)


def listen(main_addr: str, port: int) -> socket.socket:
    """Returns a listening socket: on loopback if the workers connect by it, else on all addresses.

    The name of the main process is not resolved here, because it may mean another address
    on its own machine than on the machines of the workers.
    """
    host = "127.0.0.1" if main_addr == "localhost" else main_addr
    if _urls.is_loopback_address(host):
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        return socket.create_server((host, port), family=family)
    if socket.has_dualstack_ipv6():
        # IPv6 may be switched off although the socket can be made.
        with contextlib.suppress(OSError):
            return socket.create_server(("", port), family=socket.AF_INET6, dualstack_ipv6=True)
    return socket.create_server(("", port))

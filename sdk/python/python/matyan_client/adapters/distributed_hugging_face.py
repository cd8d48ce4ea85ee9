"""Callback of the Hugging Face Trainer that adds the resource metrics of all workers."""

from __future__ import annotations

import os
from typing import Any

from ._exception_resistant import guarded
from ._utils import DEFAULT_SYSTEM_TRACKING_INTERVAL
from ._worker_metrics import Stat, Worker, WorkerReceiver, WorkerReporter

try:
    from accelerate.utils import get_cpu_distributed_information
except ImportError as error:
    raise RuntimeError("accelerate is not installed; run `pip install accelerate`") from error

from .hugging_face import MatyanCallback as SingleProcessCallback

__all__ = ["AimCallback", "MatyanCallback"]


class MatyanCallback(SingleProcessCallback):
    """Callback for a distributed `Trainer`, to be created in every process.

    The process with rank 0 tracks, and receives the resource metrics of the others at `main_port`.
    They have the context `node_rank`, `rank` and, for a GPU, `gpu`. By default, only the first
    process of each node reports.
    """

    def __init__(
        self,
        main_port: int,
        repo: str | None = None,
        experiment: str | None = None,
        system_tracking_interval: float | None = DEFAULT_SYSTEM_TRACKING_INTERVAL,
        log_system_params: bool = True,
        capture_terminal_logs: bool = True,
        main_addr: str | None = None,
        distributed_information: Any = None,
        connection_timeout: int = 300,
        workers_only_on_rank_0: bool = True,
    ) -> None:
        main_addr = main_addr or os.environ.get("MASTER_ADDR")
        if not main_addr:
            raise ValueError(
                "`main_addr`: expected an address, found empty text; pass it or set MASTER_ADDR"
            )
        if not main_port or main_port < 0:
            raise ValueError("`main_port`: expected a positive number")
        super().__init__(
            repo, experiment, system_tracking_interval, log_system_params, capture_terminal_logs
        )
        if distributed_information is None:
            distributed_information = get_cpu_distributed_information()
        self.distributed_information = distributed_information
        self.connection_timeout = connection_timeout
        self.metrics_reporter: WorkerReporter | None = None
        self.metrics_receiver: WorkerReceiver | None = None
        if system_tracking_interval is None:
            return
        interval = system_tracking_interval or DEFAULT_SYSTEM_TRACKING_INTERVAL
        rank = distributed_information.rank or 0
        processes_per_worker = (
            distributed_information.local_world_size if workers_only_on_rank_0 else 1
        )
        is_worker = not workers_only_on_rank_0 or distributed_information.local_rank == 0
        workers = distributed_information.world_size // processes_per_worker - 1
        if rank == 0 and workers > 0:
            self.metrics_receiver = WorkerReceiver(
                (main_addr, main_port), workers, connection_timeout, self._track_worker
            )
            self.metrics_receiver.start()
        elif rank > 0 and is_worker:
            self.metrics_reporter = WorkerReporter(
                (main_addr, main_port),
                {"node_rank": rank // processes_per_worker, "rank": rank},
                interval,
            )

    def on_train_begin(
        self, args: Any, state: Any, control: Any, model: Any = None, **kwargs: Any
    ) -> None:
        super().on_train_begin(args, state, control, model, **kwargs)
        if self.metrics_receiver is not None:
            self.metrics_receiver.start()
        if self.metrics_reporter is not None:
            self.metrics_reporter.start()

    def on_train_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        super().on_train_end(args, state, control, **kwargs)
        if self.metrics_reporter is not None:
            self.metrics_reporter.stop()

    def close(self) -> None:
        """Stops the exchange with the workers and closes the run."""
        if self.metrics_receiver is not None:
            self.metrics_receiver.stop()
        if self.metrics_reporter is not None:
            self.metrics_reporter.stop()
        super().close()

    @guarded
    def _track_worker(self, stat: Stat, worker: Worker) -> None:
        # Samples do not resume a run that is closed between two trainings.
        if self._session.run is None:
            return
        for resource, usage in stat.get("system", {}).items():
            self._track(usage, f"__system__{resource}", context=worker)
        for index, gpu in enumerate(stat.get("gpus", [])):
            for resource, usage in gpu.items():
                self._track(usage, f"__system__{resource}", context={**worker, "gpu": index})


AimCallback = MatyanCallback

"""Hugging Face Trainer, in one process and in several."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import trainings
from tracking import Tracking

pytest.importorskip("transformers")
pytest.importorskip("accelerate")

STATE = SimpleNamespace(is_world_process_zero=True, global_step=5, epoch=1.5)


def test_a_training_is_tracked_with_its_data_sets(tracking: Tracking) -> None:
    state = trainings.hugging_face(tracking.options)
    run = tracking.run()
    assert run.is_finished
    assert run.param("hparams.num_train_epochs") == 2
    assert run.param("model.hidden_size") == 8
    assert run.param("model.num_labels") == 2
    assert run.steps("grad_norm") == [2, 4, 6]
    for dataset in ("easy", "hard"):
        logged = [log for log in state.log_history if f"eval_{dataset}_loss" in log]
        context = {"subset": "eval", "sub_dataset": dataset}
        assert run.steps("loss", context) == [log["step"] for log in logged]
        values = [log[f"eval_{dataset}_loss"] for log in logged]
        assert run.values("loss", context) == pytest.approx(values)
        assert run.steps("samples_per_second", context) == [3, 6]
    assert run.steps("loss", {"subset": "train"}) == [6]
    if not tracking.url:
        assert run.epochs("grad_norm") == [0, 1, 2]


@pytest.mark.parametrize(
    ("logs", "key", "expected"),
    [
        (["loss", "epoch"], "loss", ("loss", {})),
        (["eval_loss", "eval_runtime", "epoch"], "eval_loss", ("loss", {"subset": "eval"})),
        (
            ["eval_squad_loss", "eval_squad_runtime", "eval_squad_steps_per_second", "epoch"],
            "eval_squad_loss",
            ("loss", {"subset": "eval", "sub_dataset": "squad"}),
        ),
        (
            ["eval_my_set_loss", "eval_my_set_runtime", "eval_my_set_f1_micro"],
            "eval_my_set_f1_micro",
            ("f1_micro", {"subset": "eval", "sub_dataset": "my_set"}),
        ),
        (["train_runtime", "train_loss"], "train_loss", ("loss", {"subset": "train"})),
        (
            ["eval_samples_per_second", "eval_steps_per_second"],
            "eval_steps_per_second",
            ("steps_per_second", {"subset": "eval"}),
        ),
    ],
)
def test_keys_give_name_and_context(
    logs: list[str], key: str, expected: tuple[str, dict[str, str]]
) -> None:
    from matyan_client.adapters.hugging_face import common_substring, parse_log_key

    assert parse_log_key(key, common_substring(logs)) == expected


def test_values_that_are_no_numbers_are_skipped(
    tracking: Tracking, caplog: pytest.LogCaptureFixture
) -> None:
    from matyan_client.adapters.hugging_face import MatyanCallback

    callback = MatyanCallback(**tracking.options)
    with caplog.at_level("WARNING", "matyan_client"):
        for _call in range(2):
            callback.on_log(None, STATE, None, logs={"note": "warm", "loss": 0.5})
    callback.close()
    assert len(caplog.records) == 1
    assert "'note'" in caplog.text
    assert callback.tracking_failures == 0
    assert tracking.run().steps("loss") == [5]


def test_other_processes_track_nothing(opened: list[dict[str, object]]) -> None:
    from matyan_client.adapters.hugging_face import MatyanCallback

    state = SimpleNamespace(is_world_process_zero=False, global_step=1, epoch=0)
    callback = MatyanCallback()
    callback.on_init_end(None, state, None)
    callback.on_train_begin(None, state, None)
    callback.on_log(None, state, None, logs={"loss": 1.0})
    callback.on_train_end(None, state, None)
    assert opened == []


def test_broken_arguments_do_not_stop_the_training(opened: list[dict[str, object]]) -> None:
    from matyan_client.adapters.hugging_face import MatyanCallback

    callback = MatyanCallback()
    callback.on_train_begin(object(), STATE, None)
    callback.on_log(None, STATE, None, logs={"loss": 1.0})
    assert callback.tracking_failures == 1
    assert len(opened) == 1


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def information(rank: int, world_size: int = 2, local_world_size: int = 1) -> SimpleNamespace:
    return SimpleNamespace(
        rank=rank,
        world_size=world_size,
        local_rank=rank % local_world_size,
        local_world_size=local_world_size,
    )


WORKER = """
import sys, time
from types import SimpleNamespace
from matyan_client.adapters.distributed_hugging_face import MatyanCallback
state = SimpleNamespace(is_world_process_zero=False)
callback = MatyanCallback(
    int(sys.argv[1]), main_addr="127.0.0.1", system_tracking_interval=0.1,
    distributed_information=SimpleNamespace(rank=1, world_size=2, local_rank=0, local_world_size=1),
)
callback.on_train_begin(None, state, None)
sys.stdin.readline()
callback.on_train_end(None, state, None)
"""


def test_a_worker_process_reports_its_resources(tracking: Tracking) -> None:
    from matyan_client.adapters.distributed_hugging_face import MatyanCallback

    port = free_port()
    # The worker starts first, because there is no order in a cluster.
    worker = subprocess.Popen(
        [sys.executable, "-c", WORKER, str(port)], stdin=subprocess.PIPE, cwd=Path(__file__).parent
    )
    callback = MatyanCallback(
        port,
        main_addr="127.0.0.1",
        distributed_information=information(0),
        **{**tracking.options, "system_tracking_interval": 3600},
    )
    callback.on_train_begin(None, STATE, None)
    received: list[Any] = []
    track = callback._track
    callback._track = lambda *args, **kwargs: (received.append(args), track(*args, **kwargs))
    deadline = time.monotonic() + 60
    while len(received) < 12 and time.monotonic() < deadline:
        time.sleep(0.05)
    worker.communicate(b"\n", timeout=30)
    callback.on_train_end(None, STATE, None)
    assert worker.returncode == 0
    run = tracking.run()
    context = {"node_rank": 1, "rank": 1}
    for name in ("cpu", "p_memory_percent", "memory_percent", "disk_percent"):
        assert len(run.values(f"__system__{name}", context)) >= 2
    assert 0 < run.values("__system__memory_percent", context)[0] <= 100


def test_the_address_of_the_main_process_is_required(monkeypatch: pytest.MonkeyPatch) -> None:
    from matyan_client.adapters.distributed_hugging_face import MatyanCallback

    monkeypatch.delenv("MASTER_ADDR", raising=False)
    with pytest.raises(ValueError, match="main_addr"):
        MatyanCallback(29600)
    monkeypatch.setenv("MASTER_ADDR", "127.0.0.1")
    for port in (0, -1):
        with pytest.raises(ValueError, match="main_port"):
            MatyanCallback(port)
    MatyanCallback(29600, distributed_information=information(0, world_size=1))


@pytest.mark.parametrize(
    ("rank", "arguments", "expected"),
    [
        (4, {}, {"node_rank": 1, "rank": 4}),
        (5, {}, None),
        (5, {"workers_only_on_rank_0": False}, {"node_rank": 5, "rank": 5}),
        (4, {"system_tracking_interval": None}, None),
    ],
)
def test_one_process_of_each_node_reports(
    rank: int, arguments: dict[str, Any], expected: dict[str, int] | None
) -> None:
    from matyan_client.adapters.distributed_hugging_face import MatyanCallback

    callback = MatyanCallback(
        29600,
        main_addr="10.0.0.1",
        distributed_information=information(rank, world_size=8, local_world_size=4),
        **arguments,
    )
    assert callback.metrics_receiver is None
    reporter = callback.metrics_reporter
    assert (reporter and reporter._worker) == expected


@pytest.mark.parametrize(
    ("main_addr", "expected"),
    [
        ("localhost", "127.0.0.1"),
        ("127.0.0.1", "127.0.0.1"),
        ("10.0.0.1", None),
        ("node-0.cluster", None),
    ],
)
def test_only_the_needed_addresses_are_bound(main_addr: str, expected: str | None) -> None:
    from matyan_client.adapters._worker_metrics import listen

    with listen(main_addr, 0) as server:
        address = server.getsockname()[0]
        assert address == expected or (expected is None and address in ("::", "0.0.0.0"))


def test_packets_that_no_worker_sends_are_refused(opened: list[dict[str, object]]) -> None:
    from matyan_client.adapters.distributed_hugging_face import MatyanCallback

    port = free_port()
    callback = MatyanCallback(port, main_addr="localhost", distributed_information=information(0))
    callback.setup()
    body = json.dumps({"stat": {"system": {"cpu": 5}, "gpus": [{"gpu": 7}]}, "worker": {"rank": 1}})
    good = len(body).to_bytes(4, "big") + body.encode()
    for packet in (b"\xff\xff\xff\xff", b"\0\0\0\x02{}", b"\0\0\0\x01x", good):
        with socket.create_connection(("127.0.0.1", port)) as client:
            # In two parts, as a stream may deliver them.
            client.sendall(packet[:3])
            time.sleep(0.01)
            client.sendall(packet[3:])
    run_hash = callback.experiment.hash
    deadline = time.monotonic() + 30
    from recording import RecordingRun

    while len(RecordingRun.stored[run_hash].points) < 2 and time.monotonic() < deadline:
        time.sleep(0.02)
    callback.close()
    run = RecordingRun.stored[run_hash]
    assert run.values("__system__cpu", {"rank": 1}) == [5]
    assert run.values("__system__gpu", {"rank": 1, "gpu": 0}) == [7]

"""Workers of a DataLoader that track: started in each way, and ended without exit hooks."""

import subprocess
import sys

import pytest

from matyan_client import Run, cli

METHODS = ["fork", "spawn", "forkserver"]


def stored(server, run_hash, name):
    """Returns the values of a metric by the number of the worker."""
    run = Run(run_hash, repo=server.url, read_only=True)
    found = {}
    for metric in run.metrics():
        if metric.name == name:
            found[metric.context["worker"]] = sorted(metric.values)
    return found


WORKERS_OF_A_LOADER = """
import multiprocessing, os, sys

from matyan_client import Run

WORKERS, ITEMS = 3, 24


def load(run, number, indices, results):
    # Answers requests as a worker of a DataLoader does.
    for index in iter(indices.get, None):
        run.track(index, name="loaded", step=index, context={"worker": number})
        results.put(index)
    run.log_info(f"worker {number} ends")
    results.close()
    results.join_thread()
    # Without exit hooks, and without a flush.
    os._exit(0)


if __name__ == "__main__":
    url, method = sys.argv[1:]
    context = multiprocessing.get_context(method)
    with Run(repo=url, capture_terminal_logs=False) as run:
        queues = [context.Queue() for _ in range(WORKERS)]
        results = context.Queue()
        workers = [
            context.Process(target=load, args=(run, number, queue, results))
            for number, queue in enumerate(queues)
        ]
        for worker in workers:
            worker.start()
        for index in range(ITEMS):
            queues[index % WORKERS].put(index)
        for queue in queues:
            queue.put(None)
        for step, index in enumerate(sorted(results.get(timeout=60) for _ in range(ITEMS))):
            run.track(index, name="parent", step=step)
        for worker in workers:
            worker.join(60)
    print(run.hash, [worker.exitcode for worker in workers])
"""


def run_loader(program, method, server, directory):
    """Runs a script with its workers, and returns what it printed."""
    script = directory / "script.py"
    script.write_text(program)
    command = [sys.executable, script, server.url, method]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 0, done.stderr
    if method == "forkserver":
        # These workers are children of the fork server, which the end of a run does not wait for:
        # the next process sends what they have left.
        assert cli.main(["sync"]) == 0
    return done.stdout.partition(" ")[::2]


@pytest.mark.parametrize("method", METHODS)
def test_what_workers_track_is_stored(shared_server, tmp_path, method):
    run_hash, codes = run_loader(WORKERS_OF_A_LOADER, method, shared_server, tmp_path)
    assert codes == "[0, 0, 0]\n"
    assert stored(shared_server, run_hash, "loaded") == {
        number: [float(index) for index in range(number, 24, 3)] for number in range(3)
    }
    run = Run(run_hash, repo=shared_server.url, read_only=True)
    assert run.series("parent").values.tolist() == [float(index) for index in range(24)]
    messages = str(run.get_log_records())
    assert all(f"worker {number} ends" in messages for number in range(3))
    assert not run.active


DATA_LOADER = """
import sys

import torch
from torch.utils.data import DataLoader, Dataset, get_worker_info

from matyan_client import Run


class Tracked(Dataset):
    def __init__(self, run):
        self.run = run

    def __len__(self):
        return 24

    def __getitem__(self, index):
        worker = get_worker_info().id
        self.run.track(index, name="loaded", step=index, context={"worker": worker})
        return torch.tensor(float(index))


if __name__ == "__main__":
    url, method = sys.argv[1:]
    with Run(repo=url, capture_terminal_logs=False) as run:
        loader = DataLoader(
            Tracked(run), batch_size=4, num_workers=3, multiprocessing_context=method
        )
        for step, batch in enumerate(loader):
            run.track(batch.sum(), name="sum", step=step)
        # Ends the workers.
        del loader
    print(run.hash, "")
"""


@pytest.mark.parametrize("method", METHODS)
def test_what_workers_of_pytorch_track_is_stored(shared_server, tmp_path, method):
    pytest.importorskip("torch")
    run_hash, _ = run_loader(DATA_LOADER, method, shared_server, tmp_path)
    found = stored(shared_server, run_hash, "loaded")
    assert set(found) == {0, 1, 2}
    assert sorted(value for values in found.values() for value in values) == list(range(24))
    sums = Run(run_hash, repo=shared_server.url, read_only=True).series("sum").values.tolist()
    assert sums == [float(sum(range(at, at + 4))) for at in range(0, 24, 4)]

"""Values on a real CUDA device, which `test_devices.py` only imitates. Skipped without one."""

import pytest

from matyan_client import Run

torch = pytest.importorskip("torch")
pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")

NOWHERE = "http://127.0.0.1:1"
# Work of about a second for any device: far longer than a call, and short enough for a test.
CYCLES = 2_000_000_000


@pytest.fixture
def run():
    run = Run(repo=NOWHERE, offline=True, capture_terminal_logs=False)
    # The first copy allocates memory, which waits for the device.
    tensors = {f"m{at}": torch.full((), 0.5, device="cuda") for at in range(10)}
    run.track(tensors, step=0)
    run.track(tensors["m0"], name="loss", step=0)
    run.flush()
    torch.cuda.synchronize()
    yield run
    run.close()


def is_busy():
    """Returns whether the device has not reached the end of its work."""
    return not torch.cuda.current_stream().query()


def test_a_busy_device_is_not_waited_for(run):
    losses = [torch.full((), 0.5, device="cuda") for _ in range(10)]
    torch.cuda.synchronize()
    torch.cuda._sleep(CYCLES)
    for step, loss in enumerate(losses, 1):
        run.track(loss.mul_(2), name="loss", step=step)
    run.track({f"m{at}": loss for at, loss in enumerate(losses)}, step=1)
    assert is_busy(), "the calls have waited for the device"


@pytest.mark.parametrize("name", ["float16", "bfloat16", "float32", "float64", "int64"])
def test_values_are_those_at_the_time_of_the_call(shared_server, name):
    dtype = getattr(torch, name)
    with Run(repo=shared_server.url, capture_terminal_logs=False) as run:
        tensors = {
            f"m{at}": torch.full((1,) if at % 2 else (), at, device="cuda", dtype=dtype)
            for at in range(10)
        }
        loss = torch.zeros((), device="cuda", dtype=dtype)
        torch.cuda._sleep(CYCLES // 10)
        for step in range(3):
            run.track(tensors, step=step)
            run.track(loss, name="loss", step=step)
            # The tensors change in place, as in a training.
            for tensor in (loss, *tensors.values()):
                tensor.add_(1)
        run.flush()
        assert run.series("loss").values.tolist() == [0, 1, 2]
        for at in range(10):
            assert run.series(f"m{at}").values.tolist() == [at, at + 1, at + 2]


def test_values_of_other_streams_are_complete(shared_server):
    with Run(repo=shared_server.url, capture_terminal_logs=False) as run:
        with torch.cuda.stream(torch.cuda.Stream()):
            loss = torch.zeros((), device="cuda")
            torch.cuda._sleep(CYCLES // 10)
            run.track(loss.add_(7), name="loss")
        run.flush()
        assert run.series("loss").values.tolist() == [7]

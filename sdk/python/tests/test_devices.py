"""Values that are still being computed on a device."""

import contextlib
import logging
import math
import signal
import sys

import pytest

from matyan_client import Run, _device
from matyan_client import run as run_module
from matyan_client.config import SETTINGS

NOWHERE = "http://127.0.0.1:1"


@pytest.fixture
def run():
    run = Run(repo=NOWHERE, offline=True, capture_terminal_logs=False)
    yield run
    run.close()


class Device:
    """A device whose work ends when a test says so, and its part of a library such as PyTorch."""

    def __init__(self, type, index):  # noqa: A002 - the name in PyTorch
        self.type = type
        self.index = index
        self.is_idle = False
        self.looks = 0
        # Number of checks after which the device has ended its work.
        self.idle_at = math.inf
        self.at_look = lambda: None

    def look(self):
        self.looks += 1
        self.is_idle = self.is_idle or self.looks >= self.idle_at
        self.at_look()
        return self.is_idle


class DeviceModule:
    """The module of one kind of device: events belong to the device that is selected."""

    def __init__(self, devices):
        self.current = devices[0]
        # Events that were made, and how often any was recorded.
        self.made = 0
        self.recorded = 0

    def current_device(self):
        return self.current.index

    @contextlib.contextmanager
    def device(self, device):
        before = self.current
        self.current = device
        yield
        self.current = before

    def Event(self):  # noqa: N802 - the name in PyTorch
        self.made += 1
        return Event(self)


class Event:
    def __init__(self, module):
        self.module = module
        self.device = None
        self.is_recorded = False

    def record(self):
        assert self.device in (None, self.module.current), "an event belongs to one device"
        self.device = self.module.current
        self.is_recorded = True
        self.module.recorded += 1

    def query(self):
        assert self.is_recorded
        return self.device.look()

    def synchronize(self):
        raise AssertionError("neither a limit nor a signal ends this wait")


class Library:
    """The part of a library such as PyTorch that works with tensors."""

    def __init__(self, devices):
        self.cuda = DeviceModule(devices)
        self.copies = 0
        self._without_gradients = False

    @contextlib.contextmanager
    def no_grad(self):
        self._without_gradients = True
        yield
        self._without_gradients = False

    def stack(self, tensors):
        assert self._without_gradients
        assert {tensor.shape for tensor in tensors} == {()}
        ((device, dtype),) = {(tensor.device, tensor.dtype) for tensor in tensors}
        assert device is self.cuda.current
        return DeviceTensor([tensor.value for tensor in tensors], device, dtype)


class DeviceTensor:
    """A tensor on a device, which must not be read before the device has computed it."""

    def __init__(self, value, device, dtype="float32", shape=()):
        self.value = value
        self.device = device
        self.dtype = dtype
        self.shape = shape
        self.ndim = len(shape)
        self.requires_grad = True

    def numel(self):
        return math.prod(self.shape)

    def detach(self):
        return self

    def reshape(self, shape):
        return type(self)(self.value, self.device, self.dtype, shape)

    def to(self, device, *, non_blocking):
        assert (device, non_blocking) == ("cpu", True)
        sys.modules[__name__.partition(".")[0]].copies += 1
        # The tensor may change right after the copy was started.
        return type(self)(self.value, self.device, self.dtype, self.shape)

    def tolist(self):
        assert self.device.is_idle, "read before the copy was complete"
        return self.value

    def __float__(self):
        assert self.device.is_idle, "read before the copy was complete"
        return self.value


@pytest.fixture
def devices(monkeypatch):
    devices = [Device("cuda", 0), Device("cuda", 1)]
    library = Library(devices)
    monkeypatch.setitem(sys.modules, __name__.partition(".")[0], library)
    return devices


def test_a_device_tensor_is_not_waited_for(run, devices):
    device = devices[0]
    before = run.health.pending
    for step in range(10):
        run.track(DeviceTensor(0.5, device), name="loss", step=step)
    assert (device.looks, run.health.pending) == (9, before)
    device.is_idle = True
    run.track(DeviceTensor(0.5, device), name="loss", step=10)
    assert run.health.pending == before + 10
    device.is_idle = False
    device.idle_at = device.looks + 5
    run.flush(10)
    assert (device.is_idle, run.health.pending) == (True, before + 11)


def test_a_tensor_is_read_once_its_own_device_has_computed_it(run, devices):
    first, second = devices
    first.is_idle = True
    before = run.health.pending
    run.track(DeviceTensor(0.5, second), name="loss", step=0)
    # The first device, which is the current device, is idle. The device of the tensor is not.
    run.track(DeviceTensor(0.5, second), name="loss", step=1)
    assert (first.looks, second.looks, run.health.pending) == (0, 1, before)
    second.is_idle = True
    run.flush(0.01)
    assert run.health.pending == before + 2


@pytest.fixture
def library(devices):
    del devices
    return sys.modules[__name__.partition(".")[0]]


def test_the_tensors_of_a_call_are_copied_together(shared_server, devices, library):
    device = devices[0]
    with Run(repo=shared_server.url, capture_terminal_logs=False) as run:
        for step in range(3):
            tensors = {
                f"m{at}": DeviceTensor(step + at / 10, device, shape=(1,) if at % 2 else ())
                for at in range(10)
            }
            run.track(tensors, step=step)
            for tensor in tensors.values():
                tensor.value = -1.0
            assert (library.copies, library.cuda.recorded) == (step + 1, step + 1)
            device.is_idle = step > 0
        device.is_idle = True
        run.flush()
        # The event of the first call has passed before the third call.
        assert library.cuda.made == 2
        for at in range(10):
            series = run.series(f"m{at}")
            assert series.steps.tolist() == [0, 1, 2]
            assert series.values.tolist() == [step + at / 10 for step in range(3)]


def test_tensors_of_other_types_and_devices_are_copied_apart(shared_server, devices, library):
    first, second = devices
    with Run(repo=shared_server.url, capture_terminal_logs=False) as run:
        run.track(
            {
                "a": DeviceTensor(0.5, first),
                "b": DeviceTensor(7.0, first, "int64"),
                "c": DeviceTensor(1.5, second),
                "d": DeviceTensor(2.5, first),
                "e": 3.5,
            }
        )
        assert (library.copies, library.cuda.current) == (3, first)
        first.is_idle = second.is_idle = True
        run.flush()
        values = {name: run.series(name).values.tolist() for name in "abcde"}
    assert values == {"a": [0.5], "b": [7.0], "c": [1.5], "d": [2.5], "e": [3.5]}


def test_a_bad_tensor_of_a_dict_costs_no_other(run, devices):
    device = devices[0]
    before = run.health.pending
    tensors = {"a": DeviceTensor(0.5, device), "b": DeviceTensor(0.5, device, shape=(2, 3))}
    with pytest.raises(ValueError, match=r"member 'b': .* found the shape \(2, 3\)"):
        run.track({**tensors, "c": DeviceTensor(0.5, device)})
    device.is_idle = True
    run.track(1.0, name="other")
    assert run.health.pending == before + 3


def test_device_values_have_the_steps_of_their_calls(shared_server, devices):
    (device, _) = devices
    with Run(repo=shared_server.url, capture_terminal_logs=False) as run:
        run.track(0.0, name="loss")
        run.track(DeviceTensor(1.0, device), name="loss")
        run.track(2.0, name="loss")
        run.track(DeviceTensor(3.0, device), name="loss")
        device.is_idle = True
        before = run.health.pending
        # A number that is tracked later is enough to store what has arrived.
        run.track(4.0, name="loss")
        assert run.health.pending == before + 3
    assert run.series("loss").values.tolist() == [0.0, 1.0, 2.0, 3.0, 4.0]


class Array:
    """An array of JAX, which itself knows whether it has arrived."""

    size = 1
    shape = ()

    def __init__(self, value):
        self._value = value
        self.is_copied = False
        self.is_there = False

    def copy_to_host_async(self):
        self.is_copied = True

    def is_ready(self):
        return self.is_there

    def __float__(self):
        assert self.is_copied and self.is_there
        return self._value


def test_an_array_of_jax_is_not_waited_for(run):
    before = run.health.pending
    array = Array(0.5)
    run.track(array, name="loss")
    assert run.health.pending == before
    array.is_there = True
    run.track(1.0, name="other")
    assert run.health.pending == before + 2


class BadTensor(DeviceTensor):
    def __float__(self):
        raise ValueError("no number")


@pytest.mark.parametrize("step", [None, 5])
@pytest.mark.parametrize(
    ("keywords", "error", "text"),
    [
        ({"name": ""}, ValueError, "`name`"),
        ({"name": "m", "context": "train"}, TypeError, "`context`"),
        ({"name": "m", "context": {"a": "x" * 9000}}, ValueError, "`context`"),
    ],
)
def test_a_bad_argument_is_named_at_the_call(run, devices, step, keywords, error, text):
    device = devices[0]
    before = run.health.pending
    run.track(DeviceTensor(0.5, device), name="m", step=0)
    with pytest.raises(error, match=text):
        run.track(DeviceTensor(0.5, device), step=step, **keywords)
    run.track(DeviceTensor(0.5, device), name="m", step=1)
    device.is_idle = True
    run.track(1.0, name="other")
    assert run.health.pending == before + 3


def test_a_value_that_cannot_be_read_costs_no_other(shared_server, devices, caplog):
    device = devices[0]
    with Run(repo=shared_server.url, capture_terminal_logs=False) as run:
        for kind in (DeviceTensor, BadTensor, BadTensor, DeviceTensor):
            run.track(kind(0.5, device), name="loss")
        device.is_idle = True
        assert run.health.dropped == 0
        run.track(1.0, name="loss")
        assert run.health.dropped == 2
        assert [run.flush(), run.flush()] == [False, True]
        assert run.series("loss").steps.tolist() == [0, 3, 4]
    (record,) = [record for record in caplog.records if record.levelno == logging.ERROR]
    assert "'loss'" in record.getMessage()
    assert "no number" in str(record.exc_info[1])


def test_a_device_that_fails_does_not_keep_the_run_open(shared_server, devices, capfd, monkeypatch):
    monkeypatch.setattr(SETTINGS, "quiet", False)
    first, second = devices

    def fail():
        raise RuntimeError("device-side assert triggered")

    run = Run(repo=shared_server.url, capture_terminal_logs=False)
    for step, device in enumerate((second, first, first, second)):
        run.track(DeviceTensor(float(step), device), name="loss", step=step)
    second.is_idle = True
    first.at_look = fail
    run.close()
    assert capfd.readouterr().err.splitlines()[1:] == [
        f"matyan: lost because a device failed: 2 values of run {run.hash}"
    ]
    assert run.series("loss").steps.tolist() == [0, 3]
    assert run.props["active"] is False


def test_a_flush_ends_at_its_limit(shared_server, devices, caplog):
    with Run(repo=shared_server.url, capture_terminal_logs=False) as run:
        run.track(DeviceTensor(0.5, devices[0]), name="loss", step=0)
        assert not run.flush(0.05)
        assert "values that a device is still computing: 1" in caplog.text
        devices[0].is_idle = True
        assert run.flush()
        assert run.series("loss").values.tolist() == [0.5]


def test_a_close_ends_at_its_limit(shared_server, devices, capfd, monkeypatch):
    monkeypatch.setattr(SETTINGS, "quiet", False)
    monkeypatch.setattr(run_module, "_DEVICES_LIMIT", 0.05)
    hung, idle = devices
    run = Run(repo=shared_server.url, capture_terminal_logs=False)
    run.track(DeviceTensor(0.25, hung), name="loss", step=0)
    run.track(DeviceTensor(0.5, idle), name="loss", step=1)
    idle.is_idle = True
    run.close()
    assert capfd.readouterr().err.splitlines()[1:] == [
        f"matyan: lost because a device did not compute them in time: 1 value of run {run.hash}"
    ]
    assert run.health.dropped == 1
    # The values of other devices are stored.
    assert run.series("loss").steps.tolist() == [1]
    assert run.props["active"] is False


def test_ctrl_c_ends_the_wait_for_a_device_and_names_what_is_left(devices, capfd, monkeypatch):
    monkeypatch.setattr(SETTINGS, "quiet", False)
    run = Run(repo=NOWHERE, capture_terminal_logs=False)
    run.track(DeviceTensor(0.5, devices[0]), name="loss", step=0)
    devices[0].at_look = lambda: signal.raise_signal(signal.SIGINT)
    with pytest.raises(KeyboardInterrupt):
        run.close()
    line = capfd.readouterr().err.splitlines()[1]
    # The beginning of the run and its end.
    assert line.startswith(f"matyan: not stored yet: 2 values of run {run.hash}, in ")
    assert line.endswith(
        f"lost because a device did not compute them in time: 1 value of run {run.hash}"
    )


def test_a_device_that_is_far_behind_is_waited_for(run, devices, monkeypatch):
    monkeypatch.setattr(_device, "MOST_PENDING", 2)
    device = devices[0]
    before = run.health.pending
    for step in range(2):
        run.track(DeviceTensor(0.5, device), name="loss", step=step)
    device.idle_at = device.looks + 5
    run.track(DeviceTensor(0.5, device), name="loss", step=2)
    assert (device.is_idle, run.health.pending) == (True, before + 2)


def test_context_and_type_are_those_of_the_call(shared_server, devices):
    device = devices[0]
    context = {"layers": [1]}
    with Run(repo=shared_server.url, capture_terminal_logs=False) as run:
        run.track(DeviceTensor(0.5, device), name="loss", context=context)
        context["layers"].append(2)
        device.is_idle = True
        run.flush()
        series = run.series("loss", {"layers": [1]})
    assert (series.values.tolist(), series.dtype) == ([0.5], "DeviceTensor")


def test_a_reader_waits_for_values_of_devices(shared_server, devices):
    with Run(repo=shared_server.url, capture_terminal_logs=False) as run:
        run.track(DeviceTensor(0.5, devices[0]), name="loss")
        devices[0].idle_at = 5
        assert run.series("loss").values.tolist() == [0.5]

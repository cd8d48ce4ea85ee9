"""Scripts on a machine whose libraries are partly replaced by stand-ins in C."""

import os
import shutil
import subprocess
import sys

import pytest

from matyan_client import Run

pytestmark = pytest.mark.skipif(
    sys.platform != "linux" or shutil.which("cc") is None, reason="needs Linux and a C compiler"
)


def build(source, library):
    """Builds a shared library, and returns its path."""
    command = ["cc", "-shared", "-fPIC", "-x", "c", "-", "-o", str(library), "-ldl"]
    subprocess.run(command, input=source, text=True, check=True)
    return library


def run_script(program, server, **environment):
    """Runs a script that prints the hash of its run at last, and opens that run."""
    finished = subprocess.run(
        [sys.executable, "-c", program, server.url],
        stdout=subprocess.PIPE,
        text=True,
        timeout=120,
        check=True,
        env={**os.environ, **environment},
    )
    return Run(finished.stdout.split()[-1], repo=server.url, read_only=True)


# Every thousand readings the clock jumps: by a day, back to the year 2000, and to its time.
JUMPING_CLOCK = """
#define _GNU_SOURCE
#include <dlfcn.h>
#include <time.h>

int clock_gettime(clockid_t clock, struct timespec *now) {
    static int (*plain)(clockid_t, struct timespec *);
    static unsigned readings;
    if (!plain) plain = dlsym(RTLD_NEXT, "clock_gettime");
    int result = plain(clock, now);
    if (clock == CLOCK_REALTIME) {
        unsigned jump = __sync_fetch_and_add(&readings, 1) / 1000 % 3;
        if (jump == 1) now->tv_sec += 86400;
        if (jump == 2) now->tv_sec = 946684800 + now->tv_sec % 1000;
    }
    return result;
}
"""


def test_a_clock_that_jumps_costs_no_point(shared_server, tmp_path):
    clock = build(JUMPING_CLOCK, tmp_path / "clock.so")
    run = run_script(
        """
import sys
from matyan_client import Run
with Run(repo=sys.argv[1], capture_terminal_logs=False) as run:
    for i in range(20_000):
        run.track(i, name="loss")
        if i % 100 == 0:
            run.log_info(str(i))
    assert run.flush(60)
print(run.hash)
""",
        shared_server,
        LD_PRELOAD=str(clock),
    )
    series = run.series("loss")
    assert series.steps.tolist() == list(range(20_000))
    assert series.values.tolist() == list(range(20_000))
    times = series.times_us.tolist()
    assert max(times) - min(times) > 20 * 365 * 86_400e6, "the clock has jumped"
    assert [record["message"] for record in run.get_log_records()] == [
        str(i) for i in range(0, 20_000, 100)
    ]


# Two GPUs. The second has no sensor of temperature.
MANAGEMENT_LIBRARY = """
typedef struct { unsigned gpu, memory; } Rates;
typedef struct { unsigned version; unsigned long long total, reserved, free, used; } Memory;

int nvmlInit_v2(void) { return 0; }
int nvmlShutdown(void) { return 0; }
int nvmlDeviceGetCount_v2(unsigned *count) { *count = 2; return 0; }
int nvmlDeviceGetHandleByIndex_v2(unsigned index, void **device) {
    *device = (void *)(index + 1ul);
    return 0;
}
int nvmlDeviceGetUtilizationRates(void *device, Rates *rates) {
    rates->gpu = 40 + (unsigned long)device;
    return 0;
}
int nvmlDeviceGetMemoryInfo_v2(void *device, Memory *memory) {
    memory->total = 80ull << 30;
    memory->used = 20ull << 30;
    return 0;
}
int nvmlDeviceGetTemperature(void *device, int sensor, unsigned *degrees) {
    *degrees = 65;
    return device == (void *)1 ? 0 : 3;
}
int nvmlDeviceGetPowerUsage(void *device, unsigned *milliwatts) {
    *milliwatts = 250500;
    return 0;
}
"""


def test_gpus_are_sampled_by_the_library_of_their_driver(shared_server, tmp_path):
    build(MANAGEMENT_LIBRARY, tmp_path / "libnvidia-ml.so.1")
    run = run_script(
        """
import sys, time
from matyan_client import Run
with Run(repo=sys.argv[1], capture_terminal_logs=False, system_tracking_interval=0.1) as run:
    time.sleep(2)
print(run.hash)
""",
        shared_server,
        LD_LIBRARY_PATH=str(tmp_path),
    )
    found = {
        (series.name, series.context["gpu"]): set(series.values)
        for series in run.metrics()
        if series.name.startswith("__system__gpu")
    }
    expected = {("__system__gpu_temp", 0): {65.0}}
    for gpu in range(2):
        expected["__system__gpu", gpu] = {41.0 + gpu}
        expected["__system__gpu_memory_percent", gpu] = {25.0}
        expected["__system__gpu_power_watts", gpu] = {250.5}
    assert found == expected

"""Matyan as users install it, from nothing to a chart: both wheels in an empty environment without
a network, the server in an empty directory, the demo, and a search.

`make install-test` installs the wheels of a release from `MATYAN_WHEELS`. Otherwise a wheel is
packed around the server `MATYAN_BIN`, next to the wheel `MATYAN_SDK_WHEEL`.
"""

import contextlib
import json
import os
import re
import shutil
import subprocess
import sys
import time
import urllib.parse
import urllib.request
import zipfile
from pathlib import Path

import pytest

SERVER_PROJECT = Path(__file__).parents[3] / "services" / "matyan" / "pyproject.toml"
EXPERIMENT = "run.experiment == 'two moons'"


@pytest.fixture
def wheels(tmp_path):
    """Directory with the wheels of the server and of the SDK."""
    if directory := os.environ.get("MATYAN_WHEELS"):
        return Path(directory)
    if not {"MATYAN_BIN", "MATYAN_SDK_WHEEL"} <= os.environ.keys():
        pytest.skip("neither MATYAN_WHEELS nor MATYAN_BIN and MATYAN_SDK_WHEEL are set")
    directory = tmp_path / "wheels"
    directory.mkdir()
    shutil.copy(os.environ["MATYAN_SDK_WHEEL"], directory)
    pack(Path(os.environ["MATYAN_BIN"]), directory)
    return directory


def pack(program, directory):
    """Packs a program as the wheel of the server, as far as pip needs it."""
    (requirement,) = re.findall(r'^dependencies = \["(.*)"\]$', SERVER_PROJECT.read_text(), re.M)
    version = requirement.partition("==")[2]
    metadata = f"Metadata-Version: 2.1\nName: matyan\nVersion: {version}\n"
    name = f"matyan-{version}"
    tags = "Wheel-Version: 1.0\nRoot-Is-Purelib: false\nTag: py3-none-any\n"
    texts = {"METADATA": f"{metadata}Requires-Dist: {requirement}\n", "WHEEL": tags, "RECORD": ""}
    with zipfile.ZipFile(directory / f"{name}-py3-none-any.whl", "w") as wheel:
        wheel.write(program, f"{name}.data/scripts/{program.name}")
        for file, text in texts.items():
            wheel.writestr(f"{name}.dist-info/{file}", text)


@contextlib.contextmanager
def running(program, directory, environment):
    """Runs `matyan up` in a directory, on free ports, and yields its addresses."""
    ready = directory / "ready.json"
    command = [program, "up", "--port", "0", "--frontier-port", "0", "--ready-file", ready]
    with (
        (directory / "server.log").open("wb") as log,
        subprocess.Popen(
            command, cwd=directory, env=environment, stdout=log, stderr=log
        ) as process,
    ):
        try:
            while not ready.exists():
                assert process.poll() is None, (directory / "server.log").read_text()
                time.sleep(0.02)
            yield json.loads(ready.read_text())
        finally:
            process.terminate()
    assert process.returncode == 0, (directory / "server.log").read_text()


def test_from_nothing_to_a_chart(wheels, tmp_path, capsys):
    directory = tmp_path / "empty"
    directory.mkdir()
    spool = tmp_path / "spool"
    environment = {**os.environ, "PYTHONPATH": "", "MATYAN_SPOOL_DIR": str(spool)}
    times = {}
    start = time.monotonic()

    def output(*command):
        done = subprocess.run(
            command, cwd=directory, env=environment, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def passed(step):
        times[step] = time.monotonic() - start

    programs = tmp_path / "venv" / "bin"
    output(sys.executable, "-m", "venv", programs.parent)
    passed("environment")
    output(programs / "pip", "install", "--no-index", "--find-links", wheels, "matyan")
    passed("installation")
    matyan = programs / "matyan"
    version = output(matyan, "--version").split()[1]
    assert output(programs / "matyan-client", "--version").split()[1] == version
    with running(matyan, directory, environment) as addresses:
        passed("server")
        environment["MATYAN_BACKEND_URL"] = addresses["query"]
        environment["MATYAN_FRONTIER_URL"] = addresses["ingest"]
        output(programs / "python", "-m", "matyan_client.demo", "--seconds", "0")
        passed("demo")
        server = ["--server", addresses["query"], "--json"]
        runs = [
            json.loads(line)
            for line in output(matyan, "runs", "search", EXPERIMENT, *server).splitlines()
        ]
        assert len(runs) == 6
        status = json.loads(output(matyan, "status", *server))
        assert (status["version"], status["advice"]) == (version, None)
        with urllib.request.urlopen(addresses["query"], timeout=60) as answer:
            page = answer.read().decode()
        (base,) = re.findall(r'<base href="([^"]+)"', page)
        (script,) = re.findall(r'<script type="module"[^>]* src="([^"]+)"', page)
        script = urllib.parse.urljoin(urllib.parse.urljoin(addresses["query"], base), script)
        with urllib.request.urlopen(script, timeout=60) as answer:
            assert answer.headers.get_content_type() == "text/javascript"
        chart = ["--context", '{"subset": "train"}', "--points", "0"]
        series = json.loads(output(matyan, "metrics", runs[0]["run_id"], "loss", *chart, *server))
        assert series["points"] == 60
        passed("chart")
    with capsys.disabled():
        print("\nseconds:", ", ".join(f"{step} {at:.1f}" for step, at in times.items()))

"""The package as users install it: the wheel `MATYAN_SDK_WHEEL` in an empty environment."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from matyan_client import Repo

README = Path(__file__).parents[1] / "README.md"


@pytest.fixture(scope="module")
def environment(tmp_path_factory):
    """Directory with the programs of an environment that has this package and no other."""
    if "MATYAN_SDK_WHEEL" not in os.environ:
        pytest.skip("MATYAN_SDK_WHEEL does not name the wheel")
    directory = tmp_path_factory.mktemp("installed") / "venv"
    subprocess.run([sys.executable, "-m", "venv", directory], check=True)
    wheel = os.environ["MATYAN_SDK_WHEEL"]
    programs = directory / "bin"
    install = [programs / "pip", "install", "--quiet", "--no-index", wheel]
    subprocess.run(install, check=True, env=without_path())
    return programs


def without_path(**variables):
    """Returns the environment without the path by which tests find the package."""
    return {**os.environ, "PYTHONPATH": "", **variables}


def test_the_scripts_of_the_readme_run(environment, shared_server, tmp_path):
    variables = {
        "MATYAN_BACKEND_URL": shared_server.url,
        "MATYAN_FRONTIER_URL": shared_server.gateway,
    }
    scripts = re.findall(r"^```python\n(.*?)^```$", README.read_text(), re.MULTILINE | re.DOTALL)
    printed = ""
    for script in scripts:
        done = subprocess.run(
            [environment / "python", "-W", "error", "-c", script],
            cwd=tmp_path,
            env=without_path(**variables),
            capture_output=True,
            text=True,
            check=False,
            timeout=120,
        )
        assert (done.returncode, done.stderr) == (0, "")
        printed += done.stdout
    assert len(scripts) == 3
    runs = list(Repo(shared_server.url).query_runs("run.experiment == 'baseline'").iter_runs())
    (run,) = [run for run in runs if run.hash in printed]
    series = run.series("loss", {"subset": "train"})
    assert series.values.tolist() == [1 / (step + 1) for step in range(100)]


def test_the_command_is_installed(environment, shared_server):
    urls = ["--backend-url", shared_server.url, "--frontier-url", shared_server.gateway]
    command = [environment / "matyan-client", "status", *urls]
    done = subprocess.run(
        command, capture_output=True, text=True, check=True, env=without_path(), timeout=60
    )
    (backend,) = [line.split() for line in done.stdout.splitlines() if "Backend" in line]
    assert backend[1] == "OK"


def test_nothing_else_is_needed(environment):
    listed = subprocess.run(
        [environment / "pip", "list", "--format=freeze"],
        capture_output=True,
        text=True,
        check=True,
        env=without_path(),
    )
    names = {line.partition("==")[0] for line in listed.stdout.splitlines()}
    assert names - {"pip", "setuptools"} == {"matyan-client"}


def test_the_types_of_a_script_are_checked(environment, tmp_path):
    pytest.importorskip("mypy")
    script = tmp_path / "script.py"
    (first, *_) = re.findall(r"^```python\n(.*?)^```$", README.read_text(), re.M | re.S)
    script.write_text(first + "reveal_type(run.track)\nrun.track(1.0, name=5)\n")
    command = [sys.executable, "-m", "mypy", "--strict", "--no-incremental", script]
    done = subprocess.run(
        [*command, f"--python-executable={environment / 'python'}"],
        capture_output=True,
        text=True,
        check=False,
        cwd=tmp_path,
        env=without_path(),
    )
    errors = [line for line in done.stdout.splitlines() if ": error:" in line]
    assert len(errors) == 1, done.stdout
    assert 'Argument "name" to "track"' in errors[0]

"""Runs tests of MLflow's own repository against a server of Matyan, and prints a table by file.

The tests run in a copy of their folder, because they write files next to it. They are not changed: `mlflow_on_matyan.py`, a plugin
of pytest, gives them their server. Tests that fail for a known reason are listed in `mlflow_causes.py`; the program fails if
others do, or if one of the listed tests passes.

Usage: mlflow_tests.py CHECKOUT [ARGUMENTS OF PYTEST], with MATYAN_BIN, in an environment with MLflow and what its tests need.
Arguments may name files of the checkout; otherwise the selected ones run.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections import Counter, defaultdict
from importlib.metadata import version
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "peers" / "python"))

from mlflow_causes import CAUSES, OLD_CAUSES  # noqa: E402
from server import Server  # noqa: E402

# Files with tests that send requests to a server, or call a store that can be one which does.
SELECTED = [
    "tests/tracking/test_rest_tracking.py",
    "tests/tracking/test_tracking.py",
    "tests/tracking/test_model_registry.py",
    "tests/tracking/test_mlflow_artifacts.py",
    "tests/tracking/test_client.py",
    "tests/tracking/test_artifact_utils.py",
    "tests/tracking/test_log_figure.py",
    "tests/tracking/test_log_image.py",
    "tests/tracking/fluent/test_fluent.py",
    "tests/tracking/_model_registry/test_model_registry_fluent.py",
    "tests/store/tracking/test_sqlalchemy_store.py",
    "tests/store/model_registry/test_sqlalchemy_store.py",
    "tests/artifacts/test_artifacts.py",
]

# Seconds after which a test hangs.
LIMIT = 300

# The parts of the checkout that the tests need. Not everything is in every version.
COPIED = ["tests", "requirements", "pyproject.toml", "conftest.py"]

COLUMNS = ["passed", "failed", "not answered", "skipped", "no request", "not collected"]


def copy(checkout: Path, work: Path) -> None:
    for name in COPIED:
        source = checkout / name
        if source.is_dir():
            shutil.copytree(source, work / name, symlinks=True)
        elif source.is_file():
            shutil.copy(source, work / name)


def environment(work: Path, server: Server, folder: Path) -> dict[str, str]:
    """The variables of the tests, with their own home: no setting of the user is read or changed."""
    own = ("MLFLOW_", "MATYAN_", "PYTEST_", "XDG_")
    kept = {name: value for name, value in os.environ.items() if not name.startswith(own)}
    return kept | {
        "HOME": str(folder / "home"),
        "PATH": f"{Path(sys.executable).parent}:{kept['PATH']}",
        "PYTHONPATH": str(HERE),
        "PYTHONDONTWRITEBYTECODE": "1",
        "GIT_PYTHON_REFRESH": "quiet",
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "2",
        "MATYAN_UPSTREAM_SERVER": server.query,
        "MATYAN_UPSTREAM_OUTCOMES": str(folder / "outcomes.json"),
        "MATYAN_UPSTREAM_TESTS": str(work),
    }


def groups(work: Path, arguments: list[str]) -> list[list[str]]:
    """The arguments for each process: the given ones if they name a file, otherwise each selected file of this version.

    A process runs one file, because tests leave settings behind that others do not expect.
    """
    if any((work / word.partition("::")[0]).is_file() for word in arguments):
        return [arguments]
    return [[name, *arguments] for name in SELECTED if (work / name).is_file()]


def run_group(work: Path, folder: Path, arguments: list[str], server: Server) -> dict[str, dict]:
    command = [
        sys.executable, "-m", "pytest", "-p", "mlflow_on_matyan", "-p", "no:cacheprovider", "--import-mode=append",
        "-c", "pyproject.toml", "--rootdir", str(work), "-o", "addopts=", f"--timeout={LIMIT}",
        "--continue-on-collection-errors", "--basetemp", str(folder / "tests"), "-q", "--tb=short", *arguments,
    ]  # fmt: skip
    outcomes = folder / "outcomes.json"
    # The outcomes of the group before would hide that pytest has crashed.
    outcomes.unlink(missing_ok=True)
    run_alone(command, work, environment(work, server, folder))
    assert outcomes.exists(), f"pytest has run no tests of {arguments[0]}: see its message above"
    return json.loads(outcomes.read_text())


def run_alone(command: list[str], work: Path, variables: dict[str, str]) -> None:
    """Runs a command, and then ends what it has left: some tests start MLflow's server, and do not end its workers."""
    process = subprocess.Popen(command, cwd=work, env=variables, start_new_session=True)
    try:
        process.wait()
    finally:
        # The group is gone if nothing is left of it.
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)


def run(checkout: Path, arguments: list[str]) -> dict[str, dict]:
    """The outcomes of the tests, what was not collected, and what was left out."""
    outcomes = {"tests": {}, "uncollected": {}, "left_out": Counter()}
    with tempfile.TemporaryDirectory(prefix="matyan-upstream-") as name:
        folder = Path(name)
        work = folder / "work"
        work.mkdir()
        (folder / "home").mkdir()
        copy(checkout, work)
        server = Server(folder).start()
        try:
            for group in groups(work, arguments):
                for kind, found in run_group(work, folder, group, server).items():
                    outcomes[kind].update(found)
        finally:
            code = server.stop()
        assert code == 0, server.said()
    return outcomes


def file_of(test: str) -> str:
    return test.partition("::")[0]


def print_table(outcomes: dict[str, dict]) -> None:
    files: defaultdict[str, Counter[str]] = defaultdict(Counter)
    for test, result in outcomes["tests"].items():
        files[file_of(test)][result["outcome"]] += 1
    for test in outcomes["uncollected"]:
        files[file_of(test)]["not collected"] += 1
    print(f"\n{'file':62}" + "".join(f"{column:>15}" for column in COLUMNS))
    for file, counts in [
        *sorted(files.items()),
        ("all", sum(files.values(), Counter())),
    ]:
        print(f"{file:62}" + "".join(f"{counts[column]:15}" for column in COLUMNS))


def print_counted(title: str, counts: Counter[str]) -> None:
    print(f"\n{title}: {counts.total()}")
    for name, count in counts.most_common():
        print(f"{count:6}  {name}")


def print_tests(title: str, tests: list[str]) -> None:
    print(f"\n{title}: {len(tests)}")
    print(*(f"  {test}" for test in tests), sep="\n")


def function_of(test: str) -> str:
    """The name of a test without the values of its parameters."""
    return test.partition("[")[0]


def report(outcomes: dict[str, dict]) -> bool:
    """Prints the outcomes; returns whether they are the known ones."""
    tests = outcomes["tests"]
    is_old = version("mlflow").startswith("2.")
    listed = [*CAUSES.items(), *(OLD_CAUSES.items() if is_old else [])]
    causes = {test: cause for cause, functions in listed for test in functions}
    failed = [test for test, result in tests.items() if result["outcome"] == "failed"]
    unknown = sorted({test for test in failed if function_of(test) not in causes} | outcomes["uncollected"].keys())
    failed_functions = {function_of(test) for test in failed}
    healed = sorted({function_of(test) for test in tests if function_of(test) in causes} - failed_functions)
    print_table(outcomes)
    print_counted("Left out, by what the server does not answer", Counter(outcomes["left_out"]))
    not_answered = [result["reason"] for result in tests.values() if result["outcome"] == "not answered"]
    print_counted("Not answered, by the first such request", Counter(not_answered))
    print_counted(
        "Failed, by cause",
        Counter(causes[function_of(test)] for test in failed if test not in unknown),
    )
    if unknown:
        print_tests("Failed or not collected without a known cause", unknown)
    # The list is for the current version: an older version may do what a newer version does not.
    if healed and not is_old:
        print_tests("Did not fail, but listed in mlflow_causes.py", healed)
    return not unknown and (is_old or not healed)


def main() -> int:
    checkout = Path(sys.argv[1]).resolve()
    arguments = sys.argv[2:]
    if not (checkout / "tests" / "tracking" / "integration_test_utils.py").is_file():
        print(f"{checkout} is no checkout of MLflow's repository", file=sys.stderr)
        return 2
    are_known = report(run(checkout, arguments))
    print(f"\nMLflow {version('mlflow')}, tests of {checkout}")
    return 0 if are_known else 1


if __name__ == "__main__":
    sys.exit(main())

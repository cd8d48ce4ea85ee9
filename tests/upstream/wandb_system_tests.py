"""Runs the system tests of W&B's own repository against a server of Matyan, and prints a table by file.

The checkout is not changed: `wandb_on_matyan.py`, a plugin of pytest, gives the tests their server and users. Tests
that fail for a known reason are listed in `wandb_causes.py`; the program fails if others do, or if one passes that is
listed as failing everywhere.

Usage: wandb_system_tests.py CHECKOUT [ARGUMENTS OF PYTEST], with MATYAN_BIN, and with the packages in
`wandb_requirements.txt`. Arguments may name files below `tests/system_tests`; otherwise all run that are not left out.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
from collections import Counter, defaultdict
from importlib.metadata import version
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "peers" / "python"))

from server import Server  # noqa: E402
from wandb_causes import CAUSES, OF_MACHINE  # noqa: E402

SYSTEM_TESTS = Path("tests", "system_tests")

# The tests that are left out, by folders and files of the system tests. Everything else runs.
LEFT_OUT = {
    "test_automations": "the server has no automations",
    "test_experimental": "tests a client for another language, which is built from the repository",
    "test_launch": "the server has no Launch",
    "test_notebooks": "needs Jupyter, whose notebooks talk to the server by the same client",
    "test_registries": "the server has no registries",
    "test_sandbox": "the server has no sandboxes",
    "test_sweep": "the server has no sweeps",
    "test_core/test_torch_full.py": "needs torch",
    "test_functional/catboost": "needs catboost",
    "test_functional/dspy": "needs dspy",
    "test_functional/jax": "needs jax",
    "test_functional/keras": "needs tensorflow",
    "test_functional/lightning": "needs torch",
    "test_functional/metaflow": "needs metaflow",
    "test_functional/test_tensorboard": "needs tensorflow and torch",
    "test_functional/xgboost": "needs xgboost",
}

# Seconds after which a test hangs, as in W&B's own repository.
LIMIT = 60


def environment(server: Server, folder: Path) -> dict[str, str]:
    """The variables of the tests, with their own home: no key or setting of the user is read or changed."""
    own = ("WANDB_", "MATYAN_", "PYTEST_", "XDG_")
    kept = {name: value for name, value in os.environ.items() if not name.startswith(own)}
    home = folder / "home"
    home.mkdir()
    return kept | {
        "HOME": str(home),
        "PATH": f"{Path(sys.executable).parent}:{kept['PATH']}",
        "PYTHONPATH": str(HERE),
        "PYTHONDONTWRITEBYTECODE": "1",
        "MATYAN_UPSTREAM_SERVER": server.query,
        "MATYAN_UPSTREAM_OUTCOMES": str(folder / "outcomes.json"),
    }


def selected(root: Path, arguments: list[str]) -> list[str]:
    """The arguments with paths in the checkout, and with all files and folders that are not left out if they name none.

    Folders are named one by one: pytest reads the `conftest.py` of every folder below the ones that it is given, and
    two of those that are left out exclude each other.
    """
    named = [str(root / word) if os.path.exists(root / word.partition("::")[0]) else word for word in arguments]
    if named != arguments:
        return named
    children = sorted(child for child in root.glob("test_*") if child.name not in LEFT_OUT)
    return [*map(str, children), *arguments]


def pytest_command(checkout: Path, folder: Path, arguments: list[str]) -> list[str]:
    root = checkout / SYSTEM_TESTS
    ignored = [f"--ignore={root / name}" for name in LEFT_OUT]
    # The checkout comes last in the path of modules: it has the client's sources, and the client is installed.
    return [
        sys.executable, "-m", "pytest", "-p", "wandb_on_matyan", "-p", "no:cacheprovider", "--import-mode=append",
        "-c", str(checkout / "pyproject.toml"), "--rootdir", str(checkout), "-o", "addopts=", f"--timeout={LIMIT}",
        "--continue-on-collection-errors", "--basetemp", str(folder / "tests"), "-q", "--tb=short", "-n", "2",
        *ignored, *selected(root, arguments),
    ]  # fmt: skip


def run(checkout: Path, arguments: list[str]) -> dict[str, dict[str, str]]:
    """The outcomes of the tests, and what was not collected."""
    with tempfile.TemporaryDirectory(prefix="matyan-upstream-") as name:
        folder = Path(name)
        work = folder / "work"
        work.mkdir()
        server = Server(folder).start()
        try:
            command = pytest_command(checkout, folder, arguments)
            subprocess.run(command, cwd=work, env=environment(server, folder), check=False)
        finally:
            code = server.stop()
        assert code == 0, server.said()
        outcomes = folder / "outcomes.json"
        assert outcomes.exists(), "pytest has run no tests: see its message above"
        return json.loads(outcomes.read_text())


def file_of(test: str) -> str:
    return Path(test.partition("::")[0]).relative_to(SYSTEM_TESTS).as_posix()


def short(test: str) -> str:
    """The test below the folder of the system tests."""
    return file_of(test) + test[len(test.partition("::")[0]) :]


def print_table(outcomes: dict[str, dict[str, str]]) -> None:
    files: defaultdict[str, Counter[str]] = defaultdict(Counter)
    for test, outcome in outcomes["tests"].items():
        files[file_of(test)][outcome] += 1
    for test in outcomes["uncollected"]:
        files[file_of(test)]["not collected"] += 1
    columns = ["passed", "failed", "skipped", "expected to fail", "not collected"]
    print(f"\n{'file':60}" + "".join(f"{column:>18}" for column in columns))
    for file, counts in [*sorted(files.items()), ("all", sum(files.values(), Counter()))]:
        print(f"{file:60}" + "".join(f"{counts[column]:18}" for column in columns))
    print("\nLeft out:")
    for name, reason in LEFT_OUT.items():
        print(f"  {name}: {reason}")


def print_causes(failed: set[str]) -> None:
    for cause, tests in (CAUSES | OF_MACHINE).items():
        if known := sorted(failed.intersection(tests)):
            print(f"\n{cause}: {len(known)}")
            print(*(f"  {test}" for test in known), sep="\n")


def main() -> int:
    checkout = Path(sys.argv[1]).resolve()
    arguments = sys.argv[2:]
    if not (checkout / SYSTEM_TESTS / "conftest.py").is_file():
        print(f"{checkout} is no checkout of W&B's repository: it has no {SYSTEM_TESTS}", file=sys.stderr)
        return 2
    # Shells ignore it in jobs that run in the background, and the tests would inherit that.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    outcomes = run(checkout, arguments)
    print_table(outcomes)
    failed = {short(test) for test, outcome in outcomes["tests"].items() if outcome == "failed"}
    print_causes(failed)
    everywhere = {test for tests in CAUSES.values() for test in tests}
    known = everywhere.union(*OF_MACHINE.values())
    passed = {short(test) for test, outcome in outcomes["tests"].items() if outcome == "passed"}
    unknown = sorted(failed - known) + sorted(map(short, outcomes["uncollected"]))
    healed = sorted(passed & everywhere)
    for title, tests in [("Failed without a known cause", unknown), ("Passed, but listed in wandb_causes.py", healed)]:
        if tests:
            print(f"\n{title}: {len(tests)}")
            print(*(f"  {test}" for test in tests), sep="\n")
    print(f"\nClient {version('wandb')}, tests of {checkout}")
    return 1 if unknown or healed else 0


if __name__ == "__main__":
    sys.exit(main())

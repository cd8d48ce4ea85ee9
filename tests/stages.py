"""Runs the stages of `make test`, and prints how long each took, the processor time of all its
processes, and how many cases it had.

At its end it names the tests that failed, and the flaky tests: those that failed at first, and
passed at another try. Each has a cause, in the test or in what it tests, that somebody has to find.

If only a few tests of a stage failed, they run again after all stages, when nothing else runs: a test
that failed because others delayed it says little about a change. Tests that pass then are flaky, too.

A stage is a target of the Makefile. The web UI is built first, because checks and builds need it. Then two
chains of stages run at the same time: the build, and the checks before the downloads. If one chain
fails, the other is completed, and nothing else starts, not even clippy. After them, the suites start in the order
of their list, and all of them run, even if one fails. Clippy is one of them: it needs the build scripts
and macros of the build, which would otherwise be built twice. Up to three stages run at the same
time. Most suites wait more than they compute: for brokers, servers, browsers and clocks.

Each stage is its own session. Where Linux groups processes by session, which it does unless
`kernel.sched_autogroup_enabled` is 0 or a container limits the processors, sessions get equal shares.
Without them, the threads of low priority in a server, which reduce images and evaluate queries, would
starve next to the compilers and the tests of other stages.

Temporary files are kept in memory where there is enough of it: on a disk, the servers of all stages
wait for each other's syncs.

Usage: stages.py [STAGE ...], which runs only the named stages, one after the other.
"""

from __future__ import annotations

import contextlib
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

PREPARATION = [["build"], ["check", "downloads"]]
# Slow suites first, so that no slow suite runs alone at the end. Clippy locks the directory of the build:
# the suites that do not need the directory run at the same time. `browser`, which clicks through Aim's UI,
# starts early, although load disturbs it, because it is one of the two longest: the bundle then re-renders
# during more clicks, which its `--reruns 2` covers.
SUITES = [
    "clippy",
    "ui-test",
    "system",
    "browser",
    "unit",
    "brokers",
    "mlflow",
    "wandb",
    "sdk",
    "optuna",
    "examples",
    "sdk-installed",
    "fdb",
]

STAGES_AT_ONCE = 3

# The program that runs a target. It counts the time of all processes, and ends those that the target leaves behind.
DESCENDANTS = Path(__file__).with_name("descendants.py")

# A file system in memory, the free space that the tests need there, and the free memory that the
# machine needs for these files and for the tests.
MEMORY_FILES = Path("/dev/shm")
MEMORY_FILES_BYTES = 6 << 30
MEMORY_BYTES = 14 << 30

# The last lines of nextest, libtest, pytest and vitest.
SUMMARIES = re.compile(
    r"^ *Summary \[.*\] \d+ tests? run: .*$"
    r"|^test result: .*$"
    r"|^(?:=+ )?\d+ (?:passed|failed|skipped)\b.* in [\d.]+s.*$"
    r"|^ *Tests +\d+ (?:passed|failed|skipped).*$",
    re.MULTILINE,
)
COUNTS = re.compile(r"(\d+) (passed|failed|skipped|ignored)")
# A test that failed at first, and passed at another try, as nextest, ui/tests/flaky_tests.ts and pytest report it.
FLAKY = re.compile(
    r"^ *FLAKY \d+/\d+ \[.*?\] +(?:\([^)]*\) +)?(.+)$"
    r"|^ FLAKY +(\S.*)$"
    r"|^RERUN (.+)$",
    re.MULTILINE,
)
# A test that failed at each try. What a failed test has printed follows it, and is indented.
FAILED = re.compile(
    r"^ *(?:TRY [2-9] )?(?:FAIL|TIMEOUT|TMT|ABORT|SIG[A-Z]+) \[.*?\] +(?:\([^)]*\) +)?(.+)$"
    r"|^test +(\S.*) \.\.\. FAILED$"
    r"|^ FAIL +(\S.*)$"
    r"|^(?:FAILED|ERROR) (\S+::\S+)(?: - .*)?$",
    re.MULTILINE,
)
# Stages whose targets take the variable `ONLY`, and then run only the tests that it selects.
SELECTABLE = {"unit", "ui-test", "brokers", "system", "mlflow", "optuna", "wandb", "examples", "sdk", "browser"}
# If more tests of a stage failed, a delay was not the cause.
MOST_REPEATED = 5

COLORS = re.compile(r"\x1b\[[\d;]*m")


@dataclass
class Stage:
    name: str
    seconds: float = 0.0
    processor_seconds: float = 0.0
    passed: int = 0
    failed: int = 0
    skipped: int = 0
    failures: list[str] = field(default_factory=list)
    flaky: list[str] = field(default_factory=list)
    is_ok: bool = False

    def count(self, output: str) -> None:
        self.failures = names_of_tests(FAILED, output)
        self.flaky = names_of_tests(FLAKY, output)
        for line in SUMMARIES.findall(output):
            for number, outcome in COUNTS.findall(line):
                counter = "skipped" if outcome == "ignored" else outcome
                setattr(self, counter, getattr(self, counter) + int(number))


class Report:
    """The stages that have run, and their output, which is printed when a stage ends."""

    def __init__(self, logs: Path) -> None:
        self.logs = logs
        self.stages: list[Stage] = []
        self.running: set[int] = set()
        self.lock = threading.Lock()
        logs.mkdir(parents=True, exist_ok=True)

    def run(self, name: str) -> bool:
        stage = self.run_target(name)
        with self.lock:
            self.stages.append(stage)
        return stage.is_ok

    def run_target(self, target: str, only: Sequence[str] = ()) -> Stage:
        """Runs a target, or only the selected tests of it, and prints the output."""
        name = f"{target}-again" if only else target
        stage = Stage(name)
        log = self.logs / f"{name}.log"
        make = [os.environ.get("MAKE", "make"), "--no-print-directory", target]
        command = [sys.executable, str(DESCENDANTS), *make]
        if any(earlier.name == "build" for earlier in self.stages):
            command.append("BUILT=1")
        if only:
            command.append("ONLY=" + shlex.join(only).replace("$", "$$"))
        start = time.monotonic()
        with log.open("wb") as output:
            process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
            self.running.add(process.pid)
            _, status, usage = os.wait4(process.pid, 0)
            self.running.remove(process.pid)
        stage.seconds = time.monotonic() - start
        stage.processor_seconds = usage.ru_utime + usage.ru_stime
        process.returncode = os.waitstatus_to_exitcode(status)
        stage.is_ok = process.returncode == 0
        text = COLORS.sub("", log.read_text(errors="replace"))
        stage.count(text)
        if not stage.is_ok and stage.failed == 0:
            stage.failed = 1
        with self.lock:
            verdict = "passed" if stage.is_ok else f"FAILED, also in {log}"
            print(f"--- {name}\n{text.rstrip()}\n--- {name} {verdict} ({stage.seconds:.0f} s)\n", flush=True)
        return stage

    def repeat_failed(self) -> bool:
        """Runs failed tests once more, in stages that had only a few. Returns whether all stages pass now."""
        for stage in self.stages:
            only = selected(stage)
            if not only:
                continue
            again = self.run_target(stage.name, only)
            stage.seconds += again.seconds
            stage.processor_seconds += again.processor_seconds
            # Some runners succeed if the selection matches no test.
            if again.is_ok and again.passed >= stage.failed:
                stage.is_ok = True
                stage.passed += stage.failed
                stage.failed = 0
                stage.flaky += stage.failures
                stage.failures = []
        return all(stage.is_ok for stage in self.stages)

    def run_chain(self, names: Sequence[str]) -> bool:
        """Runs stages one after the other, up to the first that fails."""
        return all(self.run(name) for name in names)

    def run_all(self) -> bool:
        """Runs all stages. Returns whether each has passed."""
        with ThreadPoolExecutor(STAGES_AT_ONCE) as executor:
            try:
                # Without the tools of the UI, the build goes on without it.
                self.run("ui-embedded")
                is_prepared = all(list(executor.map(self.run_chain, PREPARATION)))
                outcomes = list(executor.map(self.run, SUITES if is_prepared else []))
                return is_prepared and all(outcomes)
            except KeyboardInterrupt:
                executor.shutdown(wait=False, cancel_futures=True)
                self.end()
                raise

    def end(self) -> None:
        """Ends the stages that are running."""
        # Signals of the terminal do not reach other sessions, and shells let programs in the background
        # ignore SIGINT.
        for leader in list(self.running):
            with contextlib.suppress(ProcessLookupError):
                os.killpg(leader, signal.SIGTERM)

    def print_table(self, seconds: float) -> None:
        print(f"{'stage':<16}{'seconds':>9}{'cpu':>7}{'passed':>9}{'failed':>9}{'skipped':>9}")
        for stage in self.stages:
            mark = "" if stage.is_ok else "  FAILED"
            times = f"{stage.seconds:>9.0f}{stage.processor_seconds:>7.0f}"
            print(f"{stage.name:<16}{times}{stage.passed:>9}{stage.failed:>9}{stage.skipped:>9}{mark}")
        print(f"{'all':<16}{seconds:>9.0f}\n")
        outcomes = ("passed", "failed", "skipped")
        total = {outcome: sum(getattr(stage, outcome) for stage in self.stages) for outcome in outcomes}
        print(", ".join(f"{number} {outcome}" for outcome, number in total.items()))
        failures = [f"  {stage.name}: {name}" for stage in self.stages for name in stage.failures]
        if failures:
            print("\nFailed:", *failures, sep="\n")
        flaky = [f"  {stage.name}: {name}" for stage in self.stages for name in stage.flaky]
        if flaky:
            print("\nFailed at first, and passed at another try; find out why:", *flaky, sep="\n")


def names_of_tests(pattern: re.Pattern[str], output: str) -> list[str]:
    """The tests whose lines match, each once. Exactly one group of the pattern has the name."""
    names = (" ".join(next(filter(None, groups)).split()) for groups in pattern.findall(output))
    return list(dict.fromkeys(names))


def selected(stage: Stage) -> Sequence[str]:
    """The arguments that select the failed tests of a stage; none if these are many, or not known by name."""
    is_selectable = stage.name in SELECTABLE and stage.failed <= len(stage.failures) <= MOST_REPEATED
    if stage.is_ok or not is_selectable:
        return ()
    if stage.name == "unit":
        tests = (name.partition(" ") for name in stage.failures)
        return [" | ".join(f"(binary_id(={binary}) & test(={test}))" for binary, _, test in tests)]
    if stage.name == "ui-test":
        # Vitest writes the project, the file, and the names of the groups and of the test. It repeats whole files.
        return sorted({word for name in stage.failures for word in name.split() if word.endswith(".test.ts")})
    return stage.failures


def has_memory_for_files() -> bool:
    """Whether the temporary files of tests fit in memory, next to the tests."""
    if "TMPDIR" in os.environ or not MEMORY_FILES.is_dir():
        return False
    available = re.search(r"^MemAvailable: +(\d+) kB$", Path("/proc/meminfo").read_text(), re.MULTILINE)
    is_roomy = available is not None and int(available[1]) << 10 >= MEMORY_BYTES
    return is_roomy and shutil.disk_usage(MEMORY_FILES).free >= MEMORY_FILES_BYTES


def main() -> int:
    cache = Path(os.environ.get("CACHE") or Path.home() / ".cache" / "matyan")
    report = Report(cache / "stages")
    folder = tempfile.mkdtemp(prefix="matyan-tests-", dir=MEMORY_FILES) if has_memory_for_files() else None
    if folder is not None:
        os.environ["TMPDIR"] = folder
    # A stage would go on after its parent: end the stages first, as for Ctrl-C.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    start = time.monotonic()
    try:
        if sys.argv[1:]:
            outcomes = list(map(report.run, sys.argv[1:]))
            is_ok = all(outcomes)
        else:
            is_ok = report.run_all()
        is_ok = is_ok or report.repeat_failed()
    except KeyboardInterrupt:
        report.end()
        if folder is not None:
            shutil.rmtree(folder, ignore_errors=True)
        print("Interrupted: the stages that were running have ended.")
        return 130
    report.print_table(time.monotonic() - start)
    if folder is not None:
        remove_or_keep(Path(folder), is_ok)
    return 0 if is_ok else 1


def remove_or_keep(folder: Path, is_ok: bool) -> None:
    """Removes the temporary files, unless a test has failed that may have left some to be read."""
    if not is_ok and any(folder.iterdir()):
        print(f"Temporary files are kept in {folder}, which is in memory: remove it when you have read them.")
    else:
        shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    sys.exit(main())

"""The example clients: the commands of the documentation are executed, against a real server and in a fresh checkout.

A language whose tools are missing is skipped, unless `REQUIRE=examples` demands it.
"""

from __future__ import annotations

import json
import math
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from threading import Thread
from time import sleep
from urllib.parse import urlsplit
from urllib.request import urlopen

import pytest
from exploring import PageChart, TerminalChart, assert_drawn, assert_exported, assert_table, exported_rows, served
from generated_runs import PIECES, POINTS, GeneratedRun, RunWriter, generate
from grpc_reading import series_points
from grpc_stubs import generated
from playwright.sync_api import Page, expect, sync_playwright
from server import Server, eventually, free_port

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs/concepts/clients.md").read_text()

PARAMS = {"hparams": {"lr": 0.01, "layers": [64, 64]}}
LOSSES = [math.exp(-step / 200) for step in range(1000)]

# Shells without job control start background jobs with SIGINT ignored, which programs would inherit.
signal.signal(signal.SIGINT, signal.default_int_handler)

# Commands that print versions, and the lowest versions that the examples support.
TOOLS = {
    "Python": {"python3 --version": (3, 10)},
    "Go": {"go version": (1, 26)},
    "TypeScript": {"node --version": (20, 0), "npm --version": (10, 0)},
    "Java": {"java --version": (17, 0), "mvn --version": (3, 8)},
    "Rust": {"cargo --version": (1, 95)},
}

RUN_ID = re.compile(r"\b[0-9a-f]{32}\b")

SOURCES = {
    "Python": "sdk/examples/python/track.py",
    "Go": "sdk/examples/go/main.go",
    "TypeScript": "sdk/examples/typescript/src/track.ts",
    "Java": "sdk/examples/java/src/main/java/com/example/track/Track.java",
    "Rust": "sdk/rust/examples/track.rs",
}

# Languages with a second example, a program that shows runs.
EXPLORING = ["Python", "Go"]

# A command that only downloads, or the message of one that failed to.
DOWNLOAD = re.compile(r"pip install|npm ci|go mod download|Could not (find|transfer) artifact|could not be resolved")


def lacking(language: str) -> str | None:
    """Returns the reason why the example cannot be built here, if any."""
    for command, lowest in TOOLS[language].items():
        words = command.split()
        if shutil.which(words[0]) is None:
            return f"{words[0]} is not on the PATH"
        printed = subprocess.run(words, capture_output=True, text=True, check=False).stdout
        version = re.search(r"(\d+)\.(\d+)", printed)
        if version is None or (int(version[1]), int(version[2])) < lowest:
            return f"`{command}` prints {printed.strip()!r}; {lowest[0]}.{lowest[1]} or newer is needed"
    return None


def section(title: str) -> str:
    return PAGE.partition(f"\n## {title}\n")[2].partition("\n## ")[0]


def fenced(text: str, kind: str) -> list[str]:
    return re.findall(rf"^```{kind}\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)


def shell(script: str, directory: Path, **variables: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["sh", "-e", "-c", script],
        cwd=directory,
        env={**os.environ, **variables},
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )


@dataclass
class Example:
    """An example that has been built, and the command that runs it."""

    language: str
    command: str
    directory: Path
    spool: Path

    def run(self, query: str, ingest: str, **variables: str) -> subprocess.CompletedProcess[str]:
        urls = {"MATYAN_BACKEND_URL": query, "MATYAN_FRONTIER_URL": ingest}
        return shell(self.command, self.directory, MATYAN_SPOOL_DIR=str(self.spool), **urls, **variables)


@pytest.fixture(scope="session")
def server(tmp_path_factory) -> Iterator[Server]:
    running = Server(tmp_path_factory.mktemp("server")).start()
    yield running
    assert running.stop() == 0, running.said()


@pytest.fixture(scope="session", autouse=True)
def stubs(tmp_path_factory) -> Iterator[Path]:
    yield from generated(tmp_path_factory.mktemp("stubs"))


@pytest.fixture(scope="session")
def checkout() -> Iterator[Path]:
    """A directory with the files that the commands need, without what builds have left behind."""
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard", "buf.yaml", "proto", "sdk/examples"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    with TemporaryDirectory(prefix="matyan-examples-") as directory:
        for path in filter(lambda path: (ROOT / path).is_file(), listed.stdout.splitlines()):
            copy = Path(directory, path)
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / path, copy)
        yield Path(directory)


def skip(language: str, reason: str) -> None:
    if "examples" in os.environ.get("REQUIRE", "").split(","):
        pytest.fail(f"REQUIRE=examples, but {reason}")
    pytest.skip(f"{language}: {reason}")


def in_rust(name: str) -> str:
    """The command that runs a compiled example, instead of `cargo run`."""
    return os.environ["MATYAN_RUST_EXAMPLES"] + f"/{name}"


@pytest.fixture(scope="session", params=TOOLS)
def example(request, checkout, tmp_path_factory) -> Example:
    """The example of a language, built by all commands of its section but the last one, which runs it."""
    language = request.param
    if reason := lacking(language):
        skip(language, reason)
    enter, *build, command = fenced(section(language), "sh")[0].splitlines()
    root = checkout
    if language == "Rust":
        # It needs the whole workspace, and has been built with it.
        root = ROOT
        command = in_rust("track")
    directory = root / enter.removeprefix("cd ")
    for line in build:
        built = shell(line, directory)
        printed = built.stdout + built.stderr
        if built.returncode != 0 and DOWNLOAD.search(line + printed):
            skip(language, f"the download by `{line}` failed: {printed}")
        assert built.returncode == 0, printed
    return Example(language, command, directory, tmp_path_factory.mktemp("spool"))


def stored_run(server: Server, run_id: str) -> tuple[dict, list[tuple[int, float]]]:
    """Returns the run and the points that the server has, through other interfaces than the examples use."""
    with urlopen(f"{server.query}/api/v1/rest/runs/{run_id}/info/") as response:
        info = json.load(response)
    points = series_points(server.query, run_id, "loss", {"subset": "train"})
    return info, [(step, value) for step, value, _ in points]


def assert_tracked(server: Server, example: Example, finished: subprocess.CompletedProcess[str]) -> None:
    """Checks what an example has printed and stored."""
    assert finished.returncode == 0, finished.stdout + finished.stderr
    run_id = RUN_ID.search(finished.stdout)
    assert run_id and "1000 points" in finished.stdout, finished.stdout
    info, points = stored_run(server, run_id[0])
    assert info["params"] == PARAMS
    assert info["props"]["experiment"]["name"] == "clients"
    assert not info["props"]["active"] and info["props"]["outcome"] == "finished"
    assert [step for step, _ in points] == list(range(1000))
    # Exponential functions differ in the last bit.
    assert [value for _, value in points] == pytest.approx(LOSSES, rel=1e-15)


def test_the_documented_commands_track_and_find_a_run(server, example):
    assert_tracked(server, example, example.run(server.query, server.ingest))


def test_without_a_server_the_example_fails_with_a_clear_message(example):
    query, ingest = (f"http://127.0.0.1:{free_port()}" for _ in range(2))
    finished = example.run(query, ingest)
    assert finished.returncode != 0
    assert ingest in finished.stderr, finished.stderr
    assert not re.search(r"Traceback|Exception|panicked|^\s+at ", finished.stderr, re.MULTILINE), finished.stderr


@pytest.fixture(scope="module")
def closed_server(tmp_path_factory) -> Iterator[tuple[Server, str]]:
    """A server with access control, and the token of its operator."""
    folder = tmp_path_factory.mktemp("closed")
    running = Server(folder, variables={"MATYAN_ACCESS": "on"}).start()
    [file] = folder.rglob("operator-token")
    yield running, file.read_text().strip()
    assert running.stop() == 0, running.said()


def test_the_example_takes_a_token(closed_server, example):
    server, token = closed_server
    refused = example.run(server.query, server.ingest, MATYAN_TOKEN="mtk_unknown")
    assert refused.returncode != 0
    finished = example.run(server.query, server.ingest, MATYAN_TOKEN=token)
    assert finished.returncode == 0, finished.stdout + finished.stderr
    assert "1000 points" in finished.stdout
    assert token not in finished.stdout + finished.stderr
    if example.language in EXPLORING:
        assert_explored_with_token(server, token, example, RUN_ID.search(finished.stdout)[0])


def assert_explored_with_token(server: Server, token: str, example: Example, run_id: str) -> None:
    """Checks that the program that shows runs takes the token, too."""
    for task, shown in [("table", "runs\tmean\tmin"), ("export", "clients.csv: ")]:
        command = documented(example, task).replace('"sweep"', '"clients"').replace("sweep.parquet", "clients.csv")
        program = replace(example, command=command)
        refused = program.run(server.query, server.ingest, MATYAN_TOKEN="mtk_unknown")
        assert refused.returncode != 0
        assert not re.search(r"Traceback|panic:", refused.stderr), refused.stderr
        finished = program.run(server.query, server.ingest, MATYAN_TOKEN=token)
        assert finished.returncode == 0, finished.stderr
        assert shown in finished.stdout
        assert token not in finished.stdout + finished.stderr
        if task == "table":
            assert f"\t{run_id}\t" in finished.stdout, finished.stdout
    exported = {row[0] for row in exported_rows(example.directory / "clients.csv")}
    assert run_id in exported


class CuttingProxy:
    """Forwards connections to a server. The first one is cut after some bytes from the client, or from the server."""

    def __init__(self, url: str, sent: int | None = None, received: int | None = None, pause: float = 0.5) -> None:
        address = urlsplit(url)
        self.target = (address.hostname, address.port)
        self.limits = (sent, received)
        self.pause = pause
        self.connections = 0
        self.listener = socket.create_server(("127.0.0.1", 0))
        Thread(target=self.accept, daemon=True).start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.listener.getsockname()[1]}"

    def accept(self) -> None:
        with suppress(OSError):
            while True:
                client, _ = self.listener.accept()
                self.connections += 1
                server = socket.create_connection(self.target)
                sent, received = self.limits if self.connections == 1 else (None, None)
                Thread(target=self.forward, args=(client, server, sent), daemon=True).start()
                Thread(target=self.forward, args=(server, client, received), daemon=True).start()

    def forward(self, source: socket.socket, target: socket.socket, limit: int | None) -> None:
        with suppress(OSError):
            while piece := source.recv(1024):
                target.sendall(piece)
                limit = limit and max(limit - len(piece), 0)
                if limit == 0:
                    # Long enough for acknowledgements of what has arrived, so that the client continues after them.
                    sleep(self.pause)
                    break
        for end in (source, target):
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)


def test_everything_is_stored_after_a_cut_connection(server, example):
    proxy = CuttingProxy(server.ingest, sent=6000)
    with closing(proxy.listener):
        assert_tracked(server, example, example.run(server.query, proxy.url))
    assert proxy.connections > 1


@pytest.mark.parametrize("example", ["TypeScript"], indirect=True)
def test_the_client_for_browsers_writes_and_reads(server, example):
    finished = replace(example, command=fenced(section("TypeScript"), "sh")[1]).run(server.query, server.ingest)
    assert finished.returncode == 0, finished.stderr
    assert "the last of clicks is 1" in finished.stdout


CHROMIUMS = ("chromium-headless-shell", "chromium", "chromium-browser", "google-chrome")
CHROMIUM = next(filter(None, map(shutil.which, CHROMIUMS)), None)


@contextmanager
def in_browser(example: Example, command: str, folder: Path) -> Iterator[tuple[Page, str, Server]]:
    """A page in Chromium, the origin of the bundled pages, and a server that admits them."""
    if CHROMIUM is None:
        reason = "Chromium is not on the PATH: `apt-get install chromium`"
        if "browser" in os.environ.get("REQUIRE", "").split(","):
            pytest.fail(reason)
        pytest.skip(reason)
    built = shell(command, example.directory)
    assert built.returncode == 0, built.stderr
    with served(example.directory / "page") as origin, sync_playwright() as playwright:
        server = Server(folder, variables={"CORS_ORIGINS": origin}).start()
        try:
            # The sandbox does not work as root, and the pages are trusted.
            browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
            page = browser.new_page()
            page.set_default_timeout(60_000)
            yield page, origin, server
            browser.close()
        finally:
            assert server.stop() == 0, server.said()


@pytest.mark.parametrize("example", ["TypeScript"], indirect=True)
def test_the_page_writes_and_reads_in_a_browser(example, tmp_path):
    command = fenced(section("TypeScript"), "sh")[2]
    with in_browser(example, command, tmp_path) as (page, origin, server):
        page.goto(f"{origin}/index.html?ingest={server.ingest}&query={server.query}")
        page.get_by_role("button").click()
        expect(page.locator("output")).to_contain_text("the last of clicks is 1", timeout=60_000)


@pytest.mark.parametrize("example", ["Rust"], indirect=True)
def test_the_search_in_rust_finds_what_was_tracked(server, example):
    tracked = example.run(server.query, server.ingest)
    command = fenced(section("Rust"), "sh")[1].replace("cargo run --quiet --example search --", in_rust("search"))
    finished = replace(example, command=command).run(server.query, server.ingest)
    assert finished.returncode == 0, finished.stderr
    run_id = RUN_ID.search(tracked.stdout)[0]
    printed = finished.stdout.partition(f"run {run_id}: ")[2].splitlines()
    assert json.loads(printed[0]) == PARAMS
    assert printed[1].startswith('  loss {"subset":"train"}: 1000 points, the last is ')


@pytest.mark.parametrize("example", ["Python"], indirect=True)
def test_the_search_over_rest_finds_what_was_tracked(server, example):
    tracked = example.run(server.query, server.ingest)
    [program] = fenced(section("Searches over REST"), "python")
    program = program.replace("http://127.0.0.1:53800", server.query)
    metrics = f"""
for run, content in search("{server.query}", "metric", "metric.name == 'loss'", p=10_000).items():
    points = content["traces"][0]["values"]
    losses = struct.unpack(f"<{{points['shape']}}d", points["blob"])
    print(run, len(losses), "points", (losses[0], losses[-1]))
"""
    finished = subprocess.run([sys.executable, "-c", program + metrics], capture_output=True, text=True, check=False)
    assert finished.returncode == 0, finished.stderr
    run_id = RUN_ID.search(tracked.stdout)[0]
    params = {"hparams": {"lr": 0.01, "layers": {"0": 64, "1": 64}}}
    [found] = re.findall(rf"^{run_id} .*? (\{{.*)$", finished.stdout, re.MULTILINE)
    assert json.loads(found) == params
    assert f"{run_id} 1000 points ({LOSSES[0]}, {LOSSES[-1]})" in finished.stdout


PROGRAMS = pytest.mark.parametrize("example", EXPLORING, indirect=True)


def documented(example: Example, task: str) -> str:
    """The documented command of a task of the program that shows runs."""
    block = fenced(section("Tables, live charts and exports as programs"), "sh")[list(TOOLS).index(example.language)]
    [command] = (line for line in block.splitlines() if f" {task}" in line)
    return command


@pytest.fixture(scope="session")
def sweep(server, stubs) -> list[GeneratedRun]:
    """Runs that are complete, and that the server finds."""
    runs = generate("sweep", 50)
    with RunWriter(server.ingest) as writer:
        writer.log(runs)
        writer.wait_until_stored(server.query)
    return runs


@PROGRAMS
def test_a_table_has_the_groups_and_their_runs(server, example, sweep):
    finished = replace(example, command=documented(example, "table")).run(server.query, server.ingest)
    assert finished.returncode == 0, finished.stderr
    assert_table([line.split("\t") for line in finished.stdout.splitlines()], sweep, expanded=1)


@PROGRAMS
@pytest.mark.parametrize("suffix", ["parquet", "arrow", "csv"])
def test_an_export_has_every_point(server, example, sweep, suffix):
    command = documented(example, "export").replace("sweep.parquet", f"sweep.{suffix}")
    finished = replace(example, command=command).run(server.query, server.ingest)
    assert finished.returncode == 0, finished.stderr
    assert finished.stdout == f"sweep.{suffix}: {50 * POINTS} rows\n"
    assert re.search(rf"{50 * POINTS} rows, (\d+) of \1 runs", finished.stderr), finished.stderr
    assert_exported(example.directory / f"sweep.{suffix}", sweep)


@PROGRAMS
@pytest.mark.parametrize("interrupted", [False, True])
def test_an_export_that_does_not_complete_leaves_no_file(server, example, sweep, interrupted):
    output = example.directory / "cut.csv"
    part = output.with_name("cut.csv.part")
    # After the first piece of the file, and before its end.
    proxy = CuttingProxy(server.query, received=400_000, pause=600 if interrupted else 0.5)
    url = proxy.url
    with closing(proxy.listener):
        exporting = subprocess.Popen(
            ["sh", "-c", documented(example, "export").replace("sweep.parquet", "cut.csv")],
            cwd=example.directory,
            env={**os.environ, "MATYAN_BACKEND_URL": url},
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        if interrupted:
            eventually(lambda: part.exists() and part.stat().st_size > 0, "the program writes the file")
            os.killpg(exporting.pid, signal.SIGINT)
        _, said = exporting.communicate(timeout=60)
    assert exporting.returncode != 0 and "Traceback" not in said, said
    assert interrupted or url in said
    assert not output.exists() and not part.exists()


def follow_over_a_restart(server: Server, runs: list[GeneratedRun], open_chart) -> None:
    """Logs a part of the runs while a chart is open, and the rest after the server was restarted."""
    active = runs[40:]
    counts = {run.run_id: POINTS for run in runs[:40]}

    def assert_shown(pieces: int) -> None:
        counts.update((run.run_id, pieces * POINTS // PIECES) for run in active)
        eventually(lambda: chart.shows(runs, counts), f"the chart has {pieces} of {PIECES} pieces")

    with RunWriter(server.ingest) as writer:
        writer.log(runs[:40])
        writer.log(active, range(2))
        writer.wait_until_stored(server.query)
        chart = open_chart()
        assert_shown(2)
        writer.log(active, range(2, 3))
        assert_shown(3)
        # Among points that the chart has already.
        for run in runs[:3]:
            writer.insert(run, index=10, loss=0.5)
            counts[run.run_id] += 1
        assert_shown(3)
    assert server.stop() == 0, server.said()
    server.start(query_port=urlsplit(server.query).port)
    assert_shown(3)
    with RunWriter(server.ingest) as writer:
        writer.log(active, range(3, 4))
    assert_shown(4)


@PROGRAMS
def test_a_chart_continues_over_a_restart(example, tmp_path):
    server = Server(tmp_path).start()
    command = documented(example, "chart")
    charts = []

    def open_chart() -> TerminalChart:
        charts.append(TerminalChart(command, example.directory, server.query, tmp_path / "chart.txt"))
        return charts[0]

    try:
        follow_over_a_restart(server, generate("sweep", 50), open_chart)
        assert "connecting again" in charts[0].close()
    finally:
        for chart in charts:
            chart.process.kill()
        assert server.stop() == 0, server.said()


@pytest.mark.parametrize("example", ["TypeScript"], indirect=True)
def test_the_page_shows_tables_live_charts_and_exports(example, tmp_path):
    runs = generate("sweep", 50)
    with in_browser(example, documented(example, "src/explore.ts"), tmp_path) as (page, origin, server):
        page.goto(f"{origin}/explore.html?query={server.query}")
        page.get_by_label("Query").fill('run.experiment == "sweep"')
        charts = []

        def open_chart() -> PageChart:
            charts.append(PageChart(page))
            return charts[0]

        follow_over_a_restart(server, runs, open_chart)
        assert_drawn(charts[0], runs)

        page.get_by_label("Group by").fill("hparams.optimizer, hparams.depth")
        page.get_by_label("Sort by").select_option("mean")
        page.get_by_role("button", name="Table").click()
        expect(page.locator("output")).to_have_text("6 groups")
        page.locator("tr").nth(1).click()
        size = int(page.locator("tr").nth(1).locator("td").nth(2).inner_text())
        expect(page.locator("tr")).to_have_count(7 + size)
        rows = [row.locator("td").all_inner_texts() for row in page.locator("tr").all()]
        assert_table(rows, runs, expanded=1)

        for suffix in ["parquet", "arrow", "csv"]:
            page.get_by_label("Format").select_option(suffix)
            with page.expect_download() as download:
                page.get_by_role("button", name="Export").click()
            download.value.save_as(tmp_path / f"sweep.{suffix}")
            assert_exported(tmp_path / f"sweep.{suffix}", runs)

        far = generate("far", 4, first_steps=(-(2**45), 2**45, 2**31 - 50, -(2**31) - 50))
        with RunWriter(server.ingest) as writer:
            writer.log(far)
            writer.wait_until_stored(server.query)
        page.get_by_label("Query").fill('run.experiment == "far"')
        chart = PageChart(page)
        eventually(lambda: chart.shows(far, {run.run_id: POINTS for run in far}), "the chart has steps of many bytes")


def unindented(text: str) -> str:
    return "\n".join(line.strip() for line in text.splitlines())


EXCERPTS = [(language, language, path) for language, path in SOURCES.items()]
EXCERPTS.append(("Tables, live charts and exports as programs", "TypeScript", "sdk/examples/typescript/src/chart.ts"))


@pytest.mark.parametrize(("title", "language", "path"), EXCERPTS)
def test_documented_code_is_that_of_the_example(title, language, path):
    source = unindented((ROOT / path).read_text())
    excerpts = fenced(section(title), language.lower())
    assert excerpts
    for excerpt in excerpts:
        assert unindented(excerpt) in source, excerpt

"""Matyan as users install it, from nothing to a chart, on this machine or in a root file system."""

import contextlib
import json
import os
import re
import shutil
import subprocess
import time
import urllib.parse
import urllib.request
from pathlib import Path

EXPERIMENT = "run.experiment == 'two moons'"
# Programs expect both in a root file system, and its copy on disk has neither.
ENTER = """
set -e
for name in dev proc; do mkdir -p "$0/$name"; mount --rbind "/$name" "$0/$name"; done
exec chroot "$0" "$@"
"""
TRIES = 3000


class Place:
    """This machine, or a root file system on it, with an empty directory for one installation."""

    def __init__(self, directory, root=None):
        self.directory = directory
        self.root = root
        self.environment = {
            **os.environ,
            "PYTHONPATH": "",
            "MATYAN_SPOOL_DIR": self.inside(directory / "spool"),
        }
        if root:
            # A program in a root file system starts in its top directory.
            self.environment["HOME"] = self.inside(directory)
            self.environment["MATYAN_DATA_DIR"] = self.inside(directory / "data")
            self.environment["PATH"] = "/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin"
            # Where the image has the shared libraries of the program.
            if (root / "usr/local/lib/matyan").is_dir():
                self.environment["LD_LIBRARY_PATH"] = "/usr/local/lib/matyan"

    def inside(self, path):
        """Returns a path as programs of this place see it."""
        return str(Path("/") / path.relative_to(self.root) if self.root else path)

    def command(self, program, *arguments):
        """Returns the command that runs a program here. The program is a path inside."""
        words = [str(word) for word in (program, *arguments)]
        if not self.root:
            return words
        # A user who is not root becomes root of a namespace, which may mount and change its root.
        rights = [] if os.geteuid() == 0 else ["--map-root-user"]
        return ["unshare", "--mount", *rights, "sh", "-c", ENTER, str(self.root), *words]

    def output(self, program, *arguments):
        """Runs a program, and returns what it has printed."""
        done = subprocess.run(
            self.command(program, *arguments),
            cwd=self.directory,
            env=self.environment,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    @contextlib.contextmanager
    def running(self, program):
        """Runs `matyan up` on free ports, and yields its addresses."""
        ready = self.directory / "ready.json"
        log = self.directory / "server.log"
        flags = ["--port", "0", "--frontier-port", "0", "--ready-file", self.inside(ready)]
        with (
            log.open("wb") as file,
            subprocess.Popen(
                self.command(program, "up", *flags),
                cwd=self.directory,
                env=self.environment,
                stdout=file,
                stderr=file,
            ) as process,
        ):
            try:
                for _ in range(TRIES):
                    if ready.exists():
                        break
                    assert process.poll() is None, log.read_text()
                    time.sleep(0.02)
                yield json.loads(ready.read_text())
            finally:
                process.terminate()
        assert process.returncode == 0, log.read_text()


def from_nothing_to_a_chart(clients, python, wheels, server=None):
    """Installs, starts the server, writes the runs of the demo and reads a chart.

    `server` is a program and its place. Without it, the program of the wheel is used. Returns the
    seconds from the start to the end of each step.
    """
    times = {}
    start = time.monotonic()

    def passed(step):
        times[step] = time.monotonic() - start

    programs = clients.directory / "venv" / "bin"

    def client(name, *arguments):
        return clients.output(clients.inside(programs / name), *arguments)

    if clients.root:
        wheels = shutil.copytree(wheels, clients.directory / "wheels")
    clients.output(python, "-m", "venv", clients.inside(programs.parent))
    passed("environment")
    package = "matyan-client" if server else "matyan"
    client("pip", "install", "--no-index", "--find-links", clients.inside(wheels), package)
    passed("installation")
    program, servers = server or (clients.inside(programs / "matyan"), clients)
    version = servers.output(program, "--version").split()[1]
    assert client("matyan-client", "--version").split()[1] == version
    with servers.running(program) as addresses:
        passed("server")
        clients.environment["MATYAN_BACKEND_URL"] = addresses["query"]
        clients.environment["MATYAN_FRONTIER_URL"] = addresses["ingest"]
        client("python", "-m", "matyan_client.demo", "--seconds", "0")
        passed("demo")
        address = ["--server", addresses["query"], "--json"]
        runs = [
            json.loads(line)
            for line in servers.output(program, "runs", "search", EXPERIMENT, *address).splitlines()
        ]
        assert len(runs) == 6
        status = json.loads(servers.output(program, "status", *address))
        assert (status["version"], status["advice"]) == (version, None)
        assert script_type(addresses["query"]) == "text/javascript"
        chart = ["--context", '{"subset": "train"}', "--points", "0"]
        points = servers.output(program, "metrics", runs[0]["run_id"], "loss", *chart, *address)
        assert json.loads(points)["points"] == 60
        passed("chart")
    return times


def script_type(address):
    """Returns the type of the script that the page of the web UI loads."""
    with urllib.request.urlopen(address, timeout=60) as answer:
        page = answer.read().decode()
    (base,) = re.findall(r'<base href="([^"]+)"', page)
    (script,) = re.findall(r'<script type="module"[^>]* src="([^"]+)"', page)
    script = urllib.parse.urljoin(urllib.parse.urljoin(address, base), script)
    with urllib.request.urlopen(script, timeout=60) as answer:
        return answer.headers.get_content_type()

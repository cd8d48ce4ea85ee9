"""A plugin of pytest with which W&B's system tests use a server of Matyan, without a change in their files.

The fixtures of these tests take their server, the users on it, and the proxy that watches requests from names in one
`conftest.py`. The plugin replaces these names. Each user becomes a project of the server, because W&B's users have
their own projects and a server of Matyan has no users.
"""

from __future__ import annotations

import contextlib
import json
import os
import secrets
from pathlib import Path
from urllib.parse import urlsplit

import httpx

CONFTEST = "tests.system_tests.conftest"
SERVER = os.environ["MATYAN_UPSTREAM_SERVER"]
OUTCOMES = Path(os.environ["MATYAN_UPSTREAM_OUTCOMES"])
SECONDS = 60


class Projects:
    """Stands for W&B's factory of users, teams and organizations."""

    # Path of the current user's project.
    path = ""

    def __init__(self, _service_url: str, worker_id: str) -> None:
        self.worker_id = worker_id

    def __enter__(self) -> Projects:
        return self

    def __exit__(self, *_error: object) -> None:
        """Keeps the projects: the server and its data are deleted after all tests."""

    def make_user(self, name: str | None = None, admin: bool = False) -> str:
        """A project with the name of the user, which is also the key of the API. Keys have at least 40 letters."""
        del admin
        name = name or f"user-{self.worker_id}-{secrets.token_hex(20)}"
        httpx.post(f"{SERVER}/api/v1/rest/projects/", json={"name": name}, timeout=SECONDS).raise_for_status()
        Projects.path = f"/p/{name}"
        os.environ["WANDB_BASE_URL"] = SERVER + Projects.path
        return name

    def __getattr__(self, name: str) -> object:
        raise NotImplementedError(f"{name}: the server has no teams and organizations")


def in_project(url: str) -> str:
    """The same URL in the project of the current user."""
    return urlsplit(url)._replace(path=Projects.path + urlsplit(url).path).geturl()


def watched(spy_proxy):
    """The proxy of the tests, with requests that go on to the project of the current user."""

    @contextlib.contextmanager
    def in_projects(**target):
        with spy_proxy(**target) as proxy:
            build = proxy._client.build_request
            proxy._client.build_request = lambda *, url, **rest: build(url=in_project(url), **rest)
            yield proxy

    return in_projects


def pytest_plugin_registered(plugin):
    if getattr(plugin, "__name__", "") != CONFTEST:
        return
    address = urlsplit(SERVER)
    local = plugin.LocalWandbBackendAddress(host=address.hostname, base_port=address.port, fixture_port=0)
    plugin.connect_to_local_wandb_backend = lambda **_name: local
    plugin.BackendFixtureFactory = Projects
    plugin.spy_proxy = watched(plugin.spy_proxy)


class Outcomes:
    """The outcome of each test, and the files that were not collected, in a file of JSON."""

    def __init__(self) -> None:
        self.tests: dict[str, str] = {}
        self.uncollected: dict[str, str] = {}

    def pytest_collectreport(self, report):
        if report.failed:
            self.uncollected[report.nodeid] = report.longreprtext

    def pytest_runtest_logreport(self, report):
        """A test fails with any of its phases, and one that is skipped has no phase that says anything else."""
        if report.failed:
            self.tests[report.nodeid] = "failed"
        elif report.skipped and hasattr(report, "wasxfail"):
            self.tests.setdefault(report.nodeid, "expected to fail")
        elif report.skipped:
            self.tests.setdefault(report.nodeid, "skipped")
        elif report.when == "call":
            self.tests.setdefault(report.nodeid, "passed")

    def pytest_sessionfinish(self):
        OUTCOMES.write_text(json.dumps({"tests": self.tests, "uncollected": self.uncollected}))


def pytest_configure(config):
    # With several processes, the one that distributes the tests receives all reports.
    if not hasattr(config, "workerinput"):
        config.pluginmanager.register(Outcomes())

"""A plugin of pytest with which MLflow's own tests use a server of Matyan, without a change in their files.

The fixtures of these tests start MLflow's server, or open its database. The plugin replaces what they start or open by the
URL of a project of the server: a new one for each test, because each of their databases is empty. Three things are then
different for a test, and the plugin makes up for them: tests of a database call it with less than the client sends, its
models may be files of the server's machine, and the files of a run can be read without a download.

A test says something about the server only if it sends a request, so the plugin records that, and which requests the server
answered by saying that it has no such operation.
"""

from __future__ import annotations

import importlib
import json
import os
import posixpath
import secrets
import sys
from collections import Counter
from pathlib import Path

import pytest
import requests

SERVER = os.environ["MATYAN_UPSTREAM_SERVER"]
OUTCOMES = Path(os.environ["MATYAN_UPSTREAM_OUTCOMES"])
TESTS = os.environ["MATYAN_UPSTREAM_TESTS"]
SECONDS = 60

NOT_ANSWERED = ("NOT_IMPLEMENTED", "ENDPOINT_NOT_FOUND")

# Outcomes of a test that has failed.
FAILURES = ("failed", "not answered")

# Requests of MLflow's own pages that the server answers like the requests of any page.
OWN_PAGES = (
    "/graphql",
    "/get-artifact",
    "/model-versions/get-artifact",
    "/ajax-api/2.0/mlflow/upload-artifact",
)

# A scheme for sources of models, which are paths in many tests.
SCHEME = "s3://bucket/"

# Words in the names of tests that are left out: of areas that the server does not answer, and one whose outcome is chance.
LEFT_OUT = {
    "tracing": [
        "trace",
        "tracing",
        "span",
        "otel",
        "assessment",
        "feedback",
        "expectation",
    ],
    "scorers": ["scorer", "scoring"],
    "evaluation data sets": [
        "evaluation_dataset",
        "experiments_rest_tracking",
        "at_once_rest_tracking",
        "cases_rest_tracking",
    ],
    "issues": ["issue"],
    "webhooks": ["webhook"],
    "the gateway": [
        "gateway",
        "secret",
        "endpoint",
        "model_definition",
        "guardrail",
        "budget",
        "provider",
    ],
    "workspaces": ["workspace"],
    "experiments by the first character of their ids": ["metric_history_on_non_existent_metric_key"],
}

LEFT_OUT_COUNTS = pytest.StashKey[Counter[str]]()

# Fixtures with several values that make no difference to the server, and the value to run with: the others would repeat
# the same requests.
REPEATED = {
    "store_type": "file",
    "mlflow_client": "file",
    "client": "file",
    "tracking_uri": "file",
    "registry_uri": "file",
    "workspaces_enabled": True,
}


def new_project() -> str:
    """The URL of a new project."""
    name = f"test-{secrets.token_hex(8)}"
    requests.post(f"{SERVER}/api/v1/rest/projects/", json={"name": name}, timeout=SECONDS).raise_for_status()
    return f"{SERVER}/p/{name}"


class Project:
    """The project of the running test."""

    url: str | None = None

    @classmethod
    def of_test(cls) -> str:
        cls.url = cls.url or new_project()
        return cls.url


class Started:
    """Stands for MLflow's server, in a thread or in a process."""

    def __init__(
        self,
        *_arguments: object,
        extra_env: dict[str, str] | None = None,
        **_options: object,
    ) -> None:
        if extra_env:
            pytest.skip("needs a server with settings of its own")

    def __enter__(self) -> str:
        return Project.of_test()

    def __exit__(self, *_error: object) -> None:
        """Keeps the project: the server and its data are deleted after all tests."""


def host() -> object:
    return importlib.import_module("mlflow.utils.rest_utils").MlflowHostCreds(Project.of_test())


def tracking_store() -> object:
    """The store with which MLflow's client sends its calls to a server, and which takes a run without tags."""

    class Store(importlib.import_module("mlflow.store.tracking.rest_store").RestStore):
        def create_run(self, experiment_id, user_id, start_time, tags, run_name):
            return super().create_run(experiment_id, user_id, start_time, tags or [], run_name)

    return Store(host)


def registry_store() -> object:
    """The store of models with which MLflow's client sends its calls to a server.

    The server refuses paths of its machine as sources. So they are sent with a scheme, which answers then do not have.
    """

    class Store(importlib.import_module("mlflow.store.model_registry.rest_store").RestStore):
        def _call_endpoint(self, api, json_body, *arguments, **options):
            content = json.loads(json_body) if json_body else {}
            if content.get("source") and ":" not in content["source"]:
                json_body = json.dumps(content | {"source": SCHEME + content["source"]})
            answer = super()._call_endpoint(api, json_body, *arguments, **options)
            for version in versions_of(answer):
                version.source = version.source.removeprefix(SCHEME)
            return answer

    return Store(host)


def versions_of(answer) -> list:
    """The versions of models in the answer to a request."""
    fields = {field.name for field in answer.DESCRIPTOR.fields}
    versions = list(answer.model_versions) if "model_versions" in fields else []
    if "model_version" in fields and answer.HasField("model_version"):
        versions.append(answer.model_version)
    return versions


def no_database(request: pytest.FixtureRequest) -> Path:
    """An empty file, which older tests copy before they give its path to MLflow's server."""
    file = request.getfixturevalue("tmp_path_factory").mktemp("no-database") / "empty"
    file.touch()
    return file


def store_by_url(request: pytest.FixtureRequest) -> object:
    return registry_store() if "/model_registry/" in request.node.nodeid else tracking_store()


def artifacts_by_url(request: pytest.FixtureRequest) -> object:
    url = new_project()
    root = f"{url}/api/2.0/mlflow-artifacts/artifacts"
    return request.module.ArtifactsServer(url, root, "not-a-directory-of-this-server", url, None)


def downloaded(local_path):
    """Returns `local_path`, a function of MLflow, for the files of this server, too: it downloads them."""

    def path(uri: str) -> str:
        if not uri.startswith("mlflow-artifacts:"):
            return local_path(uri)
        scheme, _, place = uri.partition(":")
        artifacts = importlib.import_module("mlflow.artifacts")
        return artifacts.download_artifacts(artifact_uri=f"{scheme}:{posixpath.normpath(place)}")

    return path


# By their names: what fixtures of MLflow's tests are instead.
FIXTURES = {
    "cached_db": no_database,
    "db_uri": lambda _request: Project.of_test(),
    "store": store_by_url,
    "artifacts_server": artifacts_by_url,
}
# A fixture with this name is replaced in this folder only: elsewhere it is something else.
FOLDERS = {"store": "tests/store/"}


@pytest.hookimpl(tryfirst=True)
def pytest_fixture_setup(fixturedef, request):
    replacement = FIXTURES.get(fixturedef.argname)
    if replacement is None or not request.node.nodeid.startswith(FOLDERS.get(fixturedef.argname, "")):
        return None
    value = replacement(request)
    fixturedef.cached_result = (value, fixturedef.cache_key(request), None)
    return value


def pytest_plugin_registered(plugin):
    """Replaces the address of a new database in the tests of older versions, whose fixtures build it themselves."""
    if getattr(plugin, "__name__", "") == "tests.conftest" and hasattr(plugin, "path_to_local_sqlite_uri"):
        plugin.path_to_local_sqlite_uri = lambda _path: Project.of_test()


def pytest_sessionstart():
    """Replaces MLflow's server before a module of tests imports it."""
    handlers = importlib.import_module("mlflow.server.handlers")
    handlers.initialize_backend_stores = lambda *_arguments, **_options: None
    servers = importlib.import_module("tests.tracking.integration_test_utils")
    servers._init_server = Started
    servers.ServerThread = Started


def pytest_pycollect_makeitem(collector):
    """Lets the tests of a module read the files of runs."""
    local_path = getattr(collector.module, "local_file_uri_to_path", None)
    if local_path and local_path.__module__ != __name__:
        collector.module.local_file_uri_to_path = downloaded(local_path)


def pytest_collection_modifyitems(config, items):
    own = [item for item in items if not is_repeat(item)]
    kept = [item for item in own if left_out(item.name) is None]
    config.stash[LEFT_OUT_COUNTS].update(area for item in own if (area := left_out(item.name)))
    config.hook.pytest_deselected(items=[item for item in items if item not in set(kept)])
    items[:] = kept


def is_repeat(item) -> bool:
    values = item.callspec.params if hasattr(item, "callspec") else {}
    return any(name in values and values[name] == value for name, value in REPEATED.items())


def left_out(name: str) -> str | None:
    """The area for which a test is left out."""
    function = name.partition("[")[0]
    return next(
        (area for area, words in LEFT_OUT.items() if any(word in function for word in words)),
        None,
    )


class Requests:
    """The requests that the running test has sent to the server."""

    def __init__(self) -> None:
        self.sent = False
        self.not_answered: list[str] = []
        self.send = requests.Session.send

    def begin(self, item) -> None:
        # The commands of MLflow send their requests in their own process.
        self.sent = "cli_env" in item.fixturenames
        self.not_answered = []

    def watch(self, session, request, **options):
        response = self.send(session, request, **options)
        path = request.url.removeprefix(SERVER)
        if path != request.url and not path.startswith("/api/v1/rest/projects/"):
            self.sent = True
            is_unknown = response.status_code in (404, 501) and any(code in response.text for code in NOT_ANSWERED)
            if is_unknown or operation(path) in OWN_PAGES:
                self.not_answered.append(f"{request.method} {operation(path)}")
        return response


def operation(path: str) -> str:
    """The path of a request without the project and the question."""
    return "/" + path.partition("?")[0].split("/", 3)[3]


class Outcomes:
    """The outcome of each test, and the files that were not collected, in a file of JSON."""

    def __init__(self) -> None:
        self.requests = Requests()
        self.tests: dict[str, dict[str, str]] = {}
        self.uncollected: dict[str, str] = {}
        watch = self.requests.watch
        requests.Session.send = lambda session, request, **options: watch(session, request, **options)

    def pytest_collectreport(self, report):
        if report.failed:
            self.uncollected[report.nodeid] = report.longreprtext

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_setup(self, item):
        Project.url = None
        self.requests.begin(item)

    def pytest_runtest_logreport(self, report):
        """A test fails with any of its phases, and one that is skipped has no phase that says anything else."""
        if report.failed:
            has_failed = self.tests.get(report.nodeid, {}).get("outcome") in FAILURES
            if not has_failed:
                self.tests[report.nodeid] = self.failure(report)
        elif report.skipped:
            self.tests.setdefault(report.nodeid, {"outcome": "skipped", "reason": report.longreprtext})
        elif report.when == "call":
            self.tests[report.nodeid] = {
                "outcome": "passed" if self.requests.sent else "no request",
                "reason": "",
            }

    def failure(self, report) -> dict[str, str]:
        if self.requests.not_answered:
            return {"outcome": "not answered", "reason": self.requests.not_answered[0]}
        return {"outcome": "failed", "reason": report.longreprtext}

    def pytest_sessionfinish(self, session):
        left_out = session.config.stash[LEFT_OUT_COUNTS]
        outcomes = {
            "tests": self.tests,
            "uncollected": self.uncollected,
            "left_out": left_out,
        }
        OUTCOMES.write_text(json.dumps(outcomes))


def pytest_configure(config):
    sys.path.append(TESTS)
    config.stash[LEFT_OUT_COUNTS] = Counter()
    config.pluginmanager.register(Outcomes())

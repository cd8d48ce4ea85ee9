"""Checks the OpenAPI description against the running server: responses to generated requests must conform to it.

Random ids would not exist, so most of them are replaced by ids from a real project.
"""

from __future__ import annotations

import os
import subprocess
import sys
import uuid
from pathlib import Path

import httpx
import pytest
from conftest import eventually
from matyan_client import Distribution, Run, Text

HERE = Path(__file__).parent

CHECKS = ",".join([
    "not_a_server_error", "status_code_conformance", "content_type_conformance", "response_headers_conformance",
    "response_schema_conformance", "unsupported_method",
])
"""Without checks that valid data is accepted, because not every text is a query, and that invalid data is rejected,
because the contract accepts `1` and `yes` for true."""


@pytest.fixture(scope="module")
def ids(server, tmp_path_factory):
    """Ids of a run with items of every kind, and of one entity of every kind."""
    run = Run(uuid.uuid4().hex, repo=server.query, frontier_url=server.ingest, capture_terminal_logs=False)
    run["hparams"] = {"lr": 0.1, "nan": float("nan")}
    for step in range(20):
        run.track(float(step), name="loss", step=step, context={"subset": "train"})
        run.track(Text(f"text {step}"), name="texts", step=step)
        run.track(Distribution([1.0, 2.0, 3.0]), name="weights", step=step)
    run.log_info("learning")
    artifact = tmp_path_factory.mktemp("artifact") / "a.txt"
    artifact.write_text("artifact")
    run.log_artifact(str(artifact))
    run.close()
    with httpx.Client(base_url=f"{server.query}/api/v1/rest", timeout=60) as http:
        eventually(lambda: http.get(f"/runs/{run.hash}/info/").json()["props"]["active"] is False, "the run is finished")
        post = lambda path, **body: http.post(path, json=body).raise_for_status().json()["id"]
        place = {"run_id": run.hash, "artifact_path": "fuzzed/a b.bin"}
        presigned = httpx.post(f"{server.ingest}/api/v1/rest/artifacts/presign/", json=place)
        app = post("/apps/", type="metrics", state={"a": None})
        project = f"fuzzed-{uuid.uuid4().hex}"
        http.post("/projects/", json={"name": project}).raise_for_status()
        return {
            "run": run.hash,
            "experiment": post("/experiments/", name="fuzzed"),
            "tag": post("/tags/", name="fuzzed"),
            "note": post(f"/runs/{run.hash}/note/", content="note"),
            "app": app,
            "dashboard": post("/dashboards/", name="board", app_id=app),
            "report": post("/reports/", name="report"),
            "project": project,
            "upload": presigned.raise_for_status().json()["upload_url"],
        }


@pytest.mark.parametrize("side", ["query", "ingest"])
def test_responses_conform_to_the_description(server, ids, side, tmp_path):
    environment = {f"FUZZ_{name.upper()}": value for name, value in ids.items()}
    # Schemathesis imports the hooks as a module.
    environment |= {"SCHEMATHESIS_HOOKS": "openapi_hooks", "PYTHONPATH": str(HERE), "NO_COLOR": "1"}
    examples = os.environ.get("MATYAN_API_EXAMPLES", "8")
    run = subprocess.run(
        [
            str(Path(sys.executable).with_name("schemathesis")), "run", f"{getattr(server, side)}/openapi.json",
            "--checks", CHECKS, "--phases", "examples,coverage,fuzzing", "--max-examples", examples,
            "--seed", "1", "--generation-deterministic", "--request-timeout", "60",
        ],
        env=os.environ | environment, cwd=tmp_path, capture_output=True, text=True, check=False,
    )
    assert run.returncode == 0, run.stdout[-20_000:] + run.stderr[-2_000:]
    if side == "ingest":
        # Some uploads passed the check of the signature.
        metrics = httpx.get(f"{server.ingest}/metrics/").text
        uploads = [line for line in metrics.splitlines() if "/blobs/{id}/" in line and "_total{" in line]
        assert any('method="PUT"' in line and '"2xx"' in line for line in uploads), uploads

"""Puts existing ids into most of the generated paths. Schemathesis loads this module by name."""

import os
from urllib.parse import parse_qsl, unquote, urlsplit

import schemathesis

SECTIONS = {
    "runs": "FUZZ_RUN", "experiments": "FUZZ_EXPERIMENT", "tags": "FUZZ_TAG", "apps": "FUZZ_APP",
    "dashboards": "FUZZ_DASHBOARD", "reports": "FUZZ_REPORT",
}
OTHERS = {"note_id": "FUZZ_NOTE", "tag_id": "FUZZ_TAG"}


@schemathesis.hook
def map_path_parameters(context, path_parameters):
    """Replaces generated ids, except in deletes, which would remove the entities for the other tests."""
    if not path_parameters or context.operation.method == "delete":
        return path_parameters
    section = next((name for name in SECTIONS if f"/{name}/" in context.operation.path), None)
    known = dict(path_parameters)
    for name in path_parameters:
        variable = OTHERS.get(name) or (SECTIONS.get(section) if name == "id" else None)
        # Decided by the generated value, so that a seed reproduces a run.
        if variable and len(str(path_parameters[name])) % 4:
            known[name] = os.environ[variable]
    return known


@schemathesis.hook
def map_case(context, case):
    """Sends half of the uploads to a presigned URL, because no generated value has a valid signature.

    Changes of projects go to their own project, because the other tests read the default project.
    """
    if case.operation.path.rstrip("/").endswith("/projects") and case.operation.method in ("put", "delete"):
        case.headers = {**(case.headers or {}), "matyan-project": os.environ["FUZZ_PROJECT"]}
    if "/blobs/" in case.operation.path and len(str(case.path_parameters)) % 2 and "FUZZ_UPLOAD" in os.environ:
        url = urlsplit(os.environ["FUZZ_UPLOAD"])
        case.path_parameters = {"key": unquote(url.path.partition("/blobs/")[2])}
        case.query = dict(parse_qsl(url.query))
    return case

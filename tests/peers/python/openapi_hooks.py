"""Puts ids that exist into most of the paths that are tried. Schemathesis loads it by name."""

import os

import schemathesis

SECTIONS = {
    "runs": "FUZZ_RUN", "experiments": "FUZZ_EXPERIMENT", "tags": "FUZZ_TAG", "apps": "FUZZ_APP",
    "dashboards": "FUZZ_DASHBOARD", "reports": "FUZZ_REPORT",
}
OTHERS = {"note_id": "FUZZ_NOTE", "tag_id": "FUZZ_TAG"}


@schemathesis.hook
def map_path_parameters(context, path_parameters):
    """Deleting and random text keep their own: what is deleted would be gone for the rest."""
    if not path_parameters or context.operation.method == "delete":
        return path_parameters
    section = next((name for name in SECTIONS if f"/{name}/" in context.operation.path), None)
    known = dict(path_parameters)
    for name in path_parameters:
        variable = OTHERS.get(name) or (SECTIONS.get(section) if name == "id" else None)
        # By a property of the value that was drawn, so that a seed repeats a run.
        if variable and len(str(path_parameters[name])) % 4:
            known[name] = os.environ[variable]
    return known

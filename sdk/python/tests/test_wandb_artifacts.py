"""Artifacts of the unmodified `wandb` package, the current version and one that is a year old."""

import pytest
from test_wandb_clients import PYTHONS, Client, client  # noqa: F401 - a fixture

from matyan_client import Repo

pytest.importorskip("wandb")


ARTIFACTS = """
import wandb
from pathlib import Path
for content in ("one", "two", "two"):
    run = wandb.init(project="{project}")
    Path("data.txt").write_text(content)
    artifact = wandb.Artifact("data", type="dataset", metadata={{"n": 1}})
    artifact.add_file("data.txt", name="folder/data.txt")
    run.log_artifact(artifact, aliases=["mine"]).wait()
    run.finish()
run = wandb.init(project="{project}")
used = run.use_artifact("data:latest")
print(used.version, Path(used.download(), "folder/data.txt").read_text())
first = run.use_artifact("data:v0")
print(first.version, Path(first.download(), "folder/data.txt").read_text(), first.metadata["n"])
run.finish()
api = wandb.Api()
artifact = api.artifact("matyan/{project}/data:mine")
artifact.aliases.append("best")
artifact.save()
print(api.artifact("matyan/{project}/data:best").version)
print(*[version.version for version in api.artifacts("dataset", "matyan/{project}/data")])
print([user.id for user in artifact.used_by()] == [run.id])
"""


def test_artifacts_have_versions_and_aliases(client, shared_server):  # noqa: F811
    project = f"artifacts-{client.directory.name}"
    printed = client.run(ARTIFACTS.format(project=project), shared_server.url)
    latest, first, best, versions, is_used = printed.splitlines()
    assert latest == "v1 two"
    assert first == "v0 one 1"
    assert best == "v1"
    assert versions == "v1 v0"
    assert is_used == "True"


DRAFTS = """
import wandb
from pathlib import Path
run = wandb.init(project="{project}")
for name in ("a", "b", "c", "d"):
    Path(name + ".txt").write_text(name * 3)
artifact = wandb.Artifact("data", type="dataset")
artifact.add_file("a.txt", name="folder/a.txt")
run.log_artifact(artifact).wait()
draft = run.use_artifact("data:latest").new_draft()
draft.add_file("b.txt")
run.log_artifact(draft).wait()
for name in ("c.txt", "d.txt"):
    added = wandb.Artifact("added", type="dataset", incremental=True)
    added.add_file(name)
    run.log_artifact(added).wait()
raw = wandb.Artifact("raw", type="dataset")
raw.add_file("a.txt")
run.use_artifact(raw)
table = wandb.Artifact("table", type="dataset")
table.add(wandb.Table(columns=["n"], data=[[1], [2]]), "rows")
run.log_artifact(table).wait()
run.finish()
"""

READ_DRAFTS = """
import wandb
from pathlib import Path
api = wandb.Api()
for name in ("data", "added"):
    version = api.artifact(f"matyan/{project}/{{name}}:latest")
    root = Path(version.download(root=f"all-{{name}}"))
    files = sorted(path for path in root.rglob("*") if path.is_file())
    contents = [f"{{path.relative_to(root)}}={{path.read_text()}}" for path in files]
    print(version.version, version.file_count, *contents)
"""

READ_SINGLE_FILES = """
import wandb
from pathlib import Path
api = wandb.Api()
version = api.artifact("matyan/{project}/data:latest")
for name in ("folder/a.txt", "b.txt"):
    print(Path(version.get_entry(name).download(root="single")).read_text())
table = api.artifact("matyan/{project}/table:latest")
print(table.get("rows").data)
print(*sorted(used.name for used in table.logged_by().used_artifacts()))
"""

READ_AFTER_DELETION = """
import wandb
from pathlib import Path
api = wandb.Api()
api.artifact("matyan/{project}/data:v0").delete(delete_aliases=True)
draft = api.artifact("matyan/{project}/data:latest")
print(Path(draft.get_entry("folder/a.txt").download(root="kept")).read_text())
"""


def test_artifacts_have_files_of_earlier_versions(client, shared_server):  # noqa: F811
    project = f"drafts-{client.directory.name}"
    client.run(DRAFTS.format(project=project), shared_server.url)

    def read(script, cache):
        script = script.format(project=project)
        # Nothing is read from the cache of another script.
        cache = str(client.directory / cache)
        return client.run(script, shared_server.url, WANDB_CACHE_DIR=cache).splitlines()

    assert read(READ_DRAFTS, "first") == [
        "v1 2 b.txt=bbb folder/a.txt=aaa",
        "v1 2 c.txt=ccc d.txt=ddd",
    ]
    assert read(READ_SINGLE_FILES, "second") == ["aaa", "bbb", "[[1], [2]]", "data:v0 raw:v0"]
    # The older client does not say which version it reads, so the place of the file is not found.
    if client.python == PYTHONS["current"]:
        assert read(READ_AFTER_DELETION, "third") == ["aaa"]


REFERENCES = """
import wandb
from pathlib import Path
Path("data.txt").write_text("elsewhere")
Path("own.txt").write_text("uploaded")
run = wandb.init(project="{project}")
first = wandb.Artifact("first", type="dataset")
first.add_file("own.txt")
run.log_artifact(first).wait()
second = wandb.Artifact("second", type="dataset")
second.add_reference(Path("data.txt").absolute().as_uri())
second.add_reference(run.use_artifact("first:latest").get_entry("own.txt"), "copy.txt")
second.add_file("own.txt")
run.log_artifact(second).wait()
run.finish()
version = wandb.Api().artifact("matyan/{project}/second:latest")
root = Path(version.download(root="all"))
files = [f"{{path.name}}={{path.read_text()}}" for path in sorted(root.iterdir())]
print(version.file_count, *files)
"""


def test_references_are_downloaded(client, shared_server):  # noqa: F811
    project = f"references-{client.directory.name}"
    printed = client.run(REFERENCES.format(project=project), shared_server.url)
    assert printed == "3 copy.txt=uploaded data.txt=elsewhere own.txt=uploaded\n"


LOGGED_AGAIN = """
import wandb
from pathlib import Path
Path("data.txt").write_text("one")
for _ in range(2):
    run = wandb.init(project="{project}")
    artifact = wandb.Artifact("data", type="dataset")
    artifact.add_file("data.txt")
    run.log_artifact(artifact).wait()
    run.finish()
for run in wandb.Api().runs("matyan/{project}"):
    print(*[version.name for version in run.logged_artifacts() if version.type == "dataset"])
"""


def test_a_version_that_is_logged_again_is_in_both_runs(client, shared_server):  # noqa: F811
    project = f"again-{client.directory.name}"
    printed = client.run(LOGGED_AGAIN.format(project=project), shared_server.url)
    assert printed.splitlines() == ["data:v0", "data:v0"]


LINKS = """
import wandb
from pathlib import Path
run = wandb.init(project="{project}")
Path("net.txt").write_text("weights")
artifact = wandb.Artifact("net", type="model")
artifact.add_file("net.txt")
run.log_artifact(artifact).wait()
linked = run.link_artifact(artifact, "{project}-links/best", aliases=["prod"])
print(linked.version, linked.is_link)
run.finish()
api = wandb.Api()
found = api.artifact("matyan/{project}-links/best:prod")
print(found.source_name, Path(found.download(), "net.txt").read_text())
found.aliases.append("new")
found.save()
print(api.artifact("matyan/{project}-links/best:new").version)
api.artifact("matyan/{project}-links/best:latest").unlink()
try:
    api.artifact("matyan/{project}-links/best:prod")
except Exception:
    print("no link")
print(api.artifact("matyan/{project}/net:latest").version)
"""


def test_versions_are_linked_to_other_collections(client, shared_server):  # noqa: F811
    project = f"linked-{client.directory.name}"
    printed = client.run(LINKS.format(project=project), shared_server.url)
    assert printed.splitlines() == ["v0 True", "net:v0 weights", "v0", "no link", "v0"]


LOG_DATA = """
import wandb
from pathlib import Path
run = wandb.init(project="{project}", id="{run}")
Path("data.txt").write_text("one")
artifact = wandb.Artifact("data", type="dataset")
artifact.add_file("data.txt")
run.log_artifact(artifact).wait()
used = run.use_artifact("data:latest")
print(Path(used.download(), "data.txt").read_text())
run.finish()
"""


def test_an_artifact_of_a_deleted_run_is_uploaded_again(client, shared_server):  # noqa: F811
    project = f"lost-{client.directory.name}"
    for run_id in ("first", "second"):
        script = LOG_DATA.format(project=project, run=run_id)
        # Nothing is read from the cache of the first run.
        cache = str(client.directory / f"cache-{run_id}")
        assert client.run(script, shared_server.url, WANDB_CACHE_DIR=cache).split() == ["one"]
        assert Repo(shared_server.url).delete_run(f"{run_id}:{project}")
    script = f"""
import wandb
try:
    wandb.Api().artifact("matyan/{project}/data:latest")
except Exception as error:
    print("not found")
"""
    assert client.run(script, shared_server.url) == "not found\n"


TAGS = """
import wandb
artifact = wandb.Api().artifact("matyan/{project}/data:latest")
artifact.tags = ["a", "b"]
artifact.save()
artifact.tags.remove("a")
artifact.save()
print(wandb.Api().artifact("matyan/{project}/data:latest").tags)
"""


def test_artifacts_have_tags(shared_server, tmp_path):
    current = Client(PYTHONS["current"], tmp_path)
    project = f"tags-{tmp_path.name}"
    current.run(LOG_DATA.format(project=project, run="r"), shared_server.url)
    assert current.run(TAGS.format(project=project), shared_server.url) == "['b']\n"

"""Bad input on every route of W&B's protocol, and the memory of the server for a long history."""

import json
import re
import sys
import urllib.parse
from pathlib import Path

import pytest
from peers import peers_module
from test_wandb_clients import Client, ask, begin_run, rows, send, stored

pytest.importorskip("wandb")

PROJECT = "limits"
SCHEMA = Path(__file__).parents[3] / "edge" / "wandb" / "src" / "schema.graphql"
STREAM = f"files/me/{PROJECT}/r/file_stream"

# The limits of bodies are 16 MiB at most.
HUGE = b" " * (17 << 20)


def check_refused(status, content):
    assert 400 <= status < 500, (status, content[:300])
    answer = json.loads(content)
    assert answer["errors"][0]["message"], answer


def execute(server, document, **variables):
    status, content = ask(
        server, "POST", "/graphql", json.dumps({"query": document, "variables": variables})
    )
    return status, json.loads(content)


def check_operation_refused(status, answer):
    """Checks the error of an operation, which W&B's server sends with a status of success."""
    assert status == 200 or 400 <= status < 500, (status, answer)
    assert answer["errors"][0]["message"], answer


STATE = """
query ($name: String, $draft: ID!) {
  artifact(id: $draft) {
    state digest description aliases { alias } files { edges { node { name } } }
  }
  projects { edges { node { name runs { edges { node {
    name displayName config summaryMetrics tags historyLineCount
    files { edges { node { name sizeBytes } } }
    outputArtifacts { edges { node { id state digest description aliases { alias } } } }
    inputArtifacts { edges { node { id } } }
  } } } } } }
  project(name: $name) {
    artifactTypes { edges { node { name } } }
    artifactCollections { edges { node { name description tags { edges { node { name } } } } } }
  }
}
"""


def state(server, artifacts):
    # It is answered once everything before it is applied.
    assert send(server, STREAM, {"complete": True, "exitcode": 0})[0] == 200
    data = succeed(server, STATE, name=PROJECT, draft=artifacts["DRAFT"])
    blobs = server.directory / "data" / "blobs"
    files = sorted((str(path), path.stat().st_size) for path in blobs.rglob("*") if path.is_file())
    return data, files


NEW_ARTIFACT = {
    "projectName": PROJECT,
    "runName": "r",
    "artifactTypeName": "dataset",
    "artifactCollectionName": "data",
    "digest": "0a",
    "aliases": [{"alias": "best"}],
}
MANIFEST_TEXT = b'{"version": 1, "storagePolicy": "wandb-storage-policy-v1", "contents": {}}'


def succeed(server, document, **variables):
    """Returns the data of an answer without errors."""
    status, answer = execute(server, document, **variables)
    assert (status, "errors" in answer) == (200, False), answer
    return answer["data"]


def new_artifact(server, name):
    document = (
        "mutation ($i: CreateArtifactInput!) { createArtifact(input: $i) { artifact { id } } }"
    )
    answer = succeed(server, document, i=NEW_ARTIFACT | {"artifactCollectionName": name})
    return answer["createArtifact"]["artifact"]["id"]


def commit(server, artifact):
    document = """mutation ($i: CreateArtifactManifestInput!) {
        createArtifactManifest(input: $i) { artifactManifest { file { uploadUrl } } }
    }"""
    manifest = {"artifactID": artifact, "name": "wandb_manifest.json", "digest": "0a"}
    answer = succeed(server, document, i=manifest | {"projectName": PROJECT, "runName": "r"})
    url = answer["createArtifactManifest"]["artifactManifest"]["file"]["uploadUrl"]
    status, content = ask(server, "PUT", path_of(server, url), MANIFEST_TEXT)
    assert status < 300, content
    document = (
        "mutation ($i: CommitArtifactInput!) { commitArtifact(input: $i) { artifact { id } } }"
    )
    succeed(server, document, i={"artifactID": artifact})


def path_of(server, url):
    return url.removeprefix(server.url.rstrip("/"))


@pytest.fixture(scope="module")
def artifacts(shared_server):
    """The ids of a draft and of a committed artifact, of a run with a row."""
    begin_run(shared_server, PROJECT, "r")
    assert send(shared_server, STREAM, rows(0, ['{"_step": 0, "a": 1}']))[0] == 200
    committed = new_artifact(shared_server, "data")
    commit(shared_server, committed)
    return {"DRAFT": new_artifact(shared_server, "draft"), "COMMITTED": committed}


@pytest.fixture
def unchanged(shared_server, artifacts):
    """Checks that a test stores nothing."""
    before = state(shared_server, artifacts)
    assert before[0]["project"]["artifactCollections"]["edges"]
    yield
    assert state(shared_server, artifacts) == before


BROKEN = [
    b"",
    b"{",
    b"7",
    b"null",
    b'"x"',
    b"[]",
    # The members of an object without their names.
    b'["{ viewer { id } }"]',
    b"[null, null, true, 0]",
    b"\0",
    b"\xff\xfe",
    b'{"a": ',
    b"[" * 5_000,
    b'{"a":' * 5_000,
]


@pytest.mark.parametrize("path", ["/graphql", f"/{STREAM}"])
def test_broken_bodies_are_refused(path, shared_server, unchanged):
    for body in BROKEN:
        check_refused(*ask(shared_server, "POST", path, body))


@pytest.mark.parametrize(
    "path", ["/graphql", f"/{STREAM}", "/sdk/otel/v1/metrics", "/sdk/otel/v1/logs"]
)
def test_huge_bodies_are_refused(path, shared_server, unchanged):
    status, content = ask(shared_server, "POST", path, HUGE)
    check_refused(status, content)
    assert status == 413


@pytest.mark.parametrize(
    "body",
    [
        {"files": 7},
        {"files": []},
        {"files": {"wandb-history.jsonl": 7}},
        {"files": {"wandb-history.jsonl": []}},
        {"files": {"wandb-history.jsonl": [0, ['{"a": 1}']]}},
        rows("0", ['{"a": 1}']),
        rows(2**63, ['{"a": 1}']),
        rows(0.5, ['{"a": 1}']),
        rows(0, '{"a": 1}'),
        rows(0, [{"a": 1}]),
        rows(0, ['{"a": 1}', "[1]"]),
        rows(0, ['{"a": 1}', "\0"]),
        {**rows(0, ['{"a": 1}']), "uploaded": "a"},
        {**rows(0, ['{"a": 1}']), "uploaded": ["a", 7]},
        {**rows(0, ['{"a": 1}']), "uploaded": ["a", "../b"]},
        {**rows(0, ['{"a": 1}']), "uploaded": ["a", "b\0"]},
        {**rows(0, ['{"a": 1}']), "uploaded": ["a", "x" * 5_000]},
        {**rows(0, ['{"a": 1}']), "uploaded": ["a"] * 10_001},
        {**rows(0, ['{"a": 1}']), "complete": "yes"},
        {**rows(0, ['{"a": 1}']), "exitcode": "0"},
    ],
    ids=lambda body: json.dumps(body)[:80],
)
def test_a_file_stream_with_a_wrong_member_is_refused_as_a_whole(body, shared_server, unchanged):
    check_refused(*ask(shared_server, "POST", f"/{STREAM}", json.dumps(body)))


@pytest.mark.parametrize(
    "body",
    [
        {"query": 7},
        {"query": ["{ viewer { id } }"]},
        {"query": "{ viewer { id } }", "variables": 7},
        {"query": "{ viewer { id } }", "variables": "{}"},
        {"query": "{ viewer { id } }", "operationName": 7},
        {"query": "{ viewer { id } }" + " " * (1 << 20)},
        {"query": "\0"},
    ],
    ids=lambda body: json.dumps(body)[:80],
)
def test_a_document_with_a_wrong_member_is_refused(body, shared_server, unchanged):
    check_refused(*ask(shared_server, "POST", "/graphql", json.dumps(body)))


# Names in paths.

READS = [
    "/files/me/{}/r/a",
    f"/files/me/{PROJECT}/{{}}/a",
    f"/files/me/{PROJECT}/r/{{}}",
    "/artifactsV2/default/me/{}/0a",
    "/artifactsV2/default/me/00/{}",
    "/artifactsV2/default/me/{}/data/00/0a/a",
    f"/artifactsV2/default/me/{PROJECT}/{{}}/00/0a/a",
    f"/artifactsV2/default/me/{PROJECT}/data/{{}}/0a/a",
    f"/artifactsV2/default/me/{PROJECT}/data/00/{{}}/a",
    "/artifactsV2/{}",
]
HOSTILE_SEGMENTS = [
    "..%2F..%2Fetc%2Fpasswd",
    "a%2F..%2Fb",
    "%2e%2e",
    "%00",
    "%ff",
    "%0d%0aX:1",
    "%5C..%5Ca",
    "%252e%252e%252f",
    "x" * 5_000,
]


@pytest.mark.parametrize("path", READS)
def test_hostile_names_in_paths_lead_nowhere(path, shared_server, unchanged):
    for segment in [*HOSTILE_SEGMENTS, "../../../../etc/passwd"]:
        check_refused(*ask(shared_server, "GET", path.format(segment)))


@pytest.mark.parametrize("path", READS)
def test_reads_with_a_body_are_refused(path, shared_server, unchanged):
    check_refused(*ask(shared_server, "GET", path.format("a"), HUGE))


@pytest.mark.parametrize("path", ["/me/{}/runs/r", f"/me/{PROJECT}/runs/{{}}"])
def test_pages_of_hostile_runs_stay_on_the_server(path, shared_server):
    for segment in ("..%2F..%2Fa", "%00", "%ff", "%0d%0aX:1", "%2F%2Fevil.example"):
        check_refused(*ask(shared_server, "GET", path.format(segment)))


@pytest.mark.parametrize(
    "path", ["/files/me/{}/r/file_stream", f"/files/me/{PROJECT}/{{}}/file_stream"]
)
def test_runs_with_hostile_names_are_not_written(path, shared_server, unchanged):
    body = json.dumps(rows(1, ['{"_step": 1, "a": 1}']))
    for segment in HOSTILE_SEGMENTS:
        check_refused(*ask(shared_server, "POST", path.format(segment), body))


# Operations of GraphQL.

HOSTILE = ["../../etc/passwd", "a/../b", "a\0b", "a\nb", "x" * 100_000]


def members(kind, name):
    """Returns the members of a type of the schema, and their types."""
    found = re.search(rf"^{kind} {name} {{\n(.*?)^}}", SCHEMA.read_text(), re.DOTALL | re.MULTILINE)
    return re.findall(r"^  (\w+)(?:\(input: ([^)]+)\))?: (.+)$", found[1], re.MULTILINE)


MUTATIONS = [(name, kind) for name, kind, _ in members("type", "Mutation")]

# Mutations that need no field, or keep nothing.
OPEN = {"upsertModel", "deleteFiles", "createArtifactFiles"}


def mutate(server, name, kind, value):
    document = f"mutation ($input: {kind}) {{ {name}(input: $input) {{ __typename }} }}"
    return execute(server, document, input=value)


@pytest.mark.parametrize(("name", "kind"), MUTATIONS)
def test_mutations_with_values_of_wrong_types_are_refused(name, kind, shared_server, unchanged):
    assert len(MUTATIONS) > 30
    for value in (7, True, "x", [], None):
        check_operation_refused(*mutate(shared_server, name, kind, value))
    if kind == "JSON":
        return
    fields = [field for field, _, _ in members("input", kind.rstrip("!"))]
    for value in (7, True, {}, [7], {"a": 1}, [[]], None, "", []):
        status, answer = mutate(shared_server, name, kind, dict.fromkeys(fields, value))
        if name in OPEN and not value:
            assert status == 200, answer
        else:
            check_operation_refused(status, answer)


# Documents with one wrong value.
QUERIES = {
    "project": "query ($v: String) { project(name: $v) { run(name: $v) { id } } }",
    "run": 'query ($v: String) { project(name: "limits") { run(name: $v) { id } } }',
    "artifact": 'query ($v: String) { project(name: "limits") { artifact(name: $v) { id } } }',
    "artifact id": "query ($v: ID!) { artifact(id: $v) { id } }",
    "collection id": "query ($v: ID!) { artifactCollection(id: $v) { id } }",
    "client id": "query ($v: ID!) { clientIDMapping(clientID: $v) { serverID } }",
}
RUN = 'query ($v: %s) { project(name: "limits") { run(name: "r") { %s } } }'
RUNS = 'query ($v: %s) { project(name: "limits") { runs(%s: $v) { edges { node { id } } } } }'
WRONG_ARGUMENTS = [
    (RUNS % ("JSONString", "filters"), ["{", "[]", "7", '{"$nothing": 1}', '{"a": {"$gt": {}}}']),
    (RUNS % ("String", "after"), ["../a", "\0", "-1", "x" * 5_000]),
    (RUNS % ("Int", "first"), ["x", 2**63, 0.5, []]),
    (RUN % ("String", "files(after: $v) { edges { cursor } }"), ["../a", "\0", "7"]),
    (
        RUN % ("[String]", "files(names: $v) { edges { cursor } }"),
        [["../a"], ["a", "\0"], ["a"] * 10_001],
    ),
    (RUN % ("String", "files(pattern: $v) { edges { cursor } }"), ["x" * 5_000]),
    (RUN % ("Int", "history(samples: $v)"), [2**63, "x", 0.5]),
    (
        RUN % ("[JSONString!]!", "sampledHistory(specs: $v)"),
        [["{"], ["{}"] * 101, [7], ['{"keys": 7}'], ['{"samples": "x"}']],
    ),
]


@pytest.mark.parametrize("name", QUERIES)
def test_nothing_is_found_by_hostile_names(name, shared_server, unchanged):
    for hostile in [*HOSTILE, "", "%", "' or '' = '"]:
        status, answer = execute(shared_server, QUERIES[name], v=hostile)
        if "errors" in answer:
            check_operation_refused(status, answer)
        else:
            assert status == 200, answer
            assert not re.search('"(id|serverID)": "', json.dumps(answer)), (hostile[:20], answer)


@pytest.mark.parametrize(("document", "values"), WRONG_ARGUMENTS)
def test_queries_with_wrong_arguments_are_refused(document, values, shared_server, unchanged):
    for value in values:
        check_operation_refused(*execute(shared_server, document, v=value))


# A valid input of each mutation, without the names that are tried.
FILES = {"projectName": PROJECT, "runName": "r", "files": ["a"]}
ALERT = {"projectName": PROJECT, "runName": "r", "title": "t", "text": "t"}
REWIND = {"projectName": PROJECT, "runName": "r", "metricName": "_step", "metricValue": 0}
TAGS = {"projectName": PROJECT, "artifactCollectionName": "data", "tags": [{"tagName": "t"}]}
MANIFEST = {
    "artifactID": "DRAFT",
    "name": "m",
    "digest": "0a",
    "projectName": PROJECT,
    "runName": "r",
}
PART = {"artifactID": "DRAFT", "name": "a", "uploadPartsInput": [{"partNumber": 1, "hexMD5": "0"}]}
COMPLETE = {
    "completeMultipartAction": "Complete",
    "completedParts": [{"partNumber": 1, "hexMD5": "0"}],
    "artifactID": "DRAFT",
    "storagePath": "a",
    "uploadID": "unknown",
}
NAMES = [
    ("upsertBucket", {"modelName": PROJECT}, "name"),
    ("upsertBucket", {"name": "new"}, "modelName"),
    ("upsertBucket", {"displayName": "new"}, "id"),
    ("updateRunState", {"state": "crashed"}, "id"),
    ("stopRun", {}, "id"),
    ("deleteRun", {}, "id"),
    ("rewindRun", REWIND, "runName"),
    ("rewindRun", REWIND, "projectName"),
    ("createRunFiles", FILES, "runName"),
    ("createRunFiles", FILES, "projectName"),
    ("markRunFilesUploaded", FILES, "runName"),
    ("markRunFilesUploaded", FILES, "projectName"),
    ("notifyScriptableRunAlert", ALERT, "runName"),
    ("notifyScriptableRunAlert", ALERT, "projectName"),
    ("createArtifact", NEW_ARTIFACT, "runName"),
    ("createArtifact", NEW_ARTIFACT, "projectName"),
    ("createArtifact", NEW_ARTIFACT, "artifactCollectionName"),
    ("createArtifactManifest", MANIFEST, "artifactID"),
    ("updateArtifactManifest", {}, "artifactManifestID"),
    ("commitArtifact", {}, "artifactID"),
    ("updateArtifact", {"description": "new"}, "artifactID"),
    ("useArtifact", {"artifactID": "COMMITTED", "projectName": PROJECT}, "runName"),
    ("useArtifact", {"projectName": PROJECT, "runName": "r"}, "artifactID"),
    ("linkArtifact", {"artifactID": "COMMITTED", "projectName": PROJECT}, "artifactPortfolioName"),
    ("linkArtifact", {"artifactPortfolioName": "links", "projectName": PROJECT}, "artifactID"),
    ("linkArtifact", {"artifactPortfolioName": "links", "artifactID": "COMMITTED"}, "projectName"),
    ("addAliases", {"aliases": [{"alias": "new"}]}, "artifactID"),
    ("updateArtifactSequence", {"description": "new"}, "artifactSequenceID"),
    ("updateArtifactSequence", {"artifactSequenceID": f"{PROJECT}/data"}, "name"),
    ("createArtifactCollectionTagAssignments", TAGS, "artifactCollectionName"),
    ("createArtifactCollectionTagAssignments", TAGS, "projectName"),
    ("completeMultipartUploadArtifact", COMPLETE, "artifactID"),
    ("completeMultipartUploadArtifact", COMPLETE, "storagePath"),
    ("completeMultipartUploadArtifact", COMPLETE, "uploadID"),
    (
        "completeMultipartUploadArtifact",
        COMPLETE | {"completeMultipartAction": "Abort"},
        "storagePath",
    ),
]


def with_ids(value, artifacts):
    return {
        field: artifacts.get(it, it) if isinstance(it, str) else it for field, it in value.items()
    }


@pytest.mark.parametrize(("name", "valid", "field"), NAMES)
def test_mutations_with_hostile_names_are_refused(
    name, valid, field, shared_server, artifacts, unchanged
):
    kinds = dict(MUTATIONS)
    for hostile in HOSTILE:
        sent = with_ids(valid, artifacts) | {field: hostile}
        check_operation_refused(*mutate(shared_server, name, kinds[name], sent))


@pytest.mark.parametrize("name", ["createRunFiles", "markRunFilesUploaded"])
def test_a_hostile_name_among_good_names_refuses_all_files(name, shared_server, unchanged):
    kinds = dict(MUTATIONS)
    for hostile in [*HOSTILE, "", "/a", "\\..\\a", "wandb-artifacts/a", "./wandb-artifacts/a"]:
        sent = FILES | {"files": ["good", hostile]}
        check_operation_refused(*mutate(shared_server, name, kinds[name], sent))


def test_artifacts_have_no_files_with_hostile_names(shared_server, artifacts, unchanged):
    for hostile in [*HOSTILE, "", "/a", "\\..\\a"]:
        for members in ({}, {"uploadPartsInput": PART["uploadPartsInput"]}):
            value = {
                "artifactFiles": [{"artifactID": artifacts["DRAFT"], **members, "name": hostile}]
            }
            check_operation_refused(
                *mutate(shared_server, "createArtifactFiles", "CreateArtifactFilesInput!", value)
            )


@pytest.mark.parametrize(
    "parts",
    [
        7,
        "x",
        [7],
        ["x"],
        [{}],
        [{"partNumber": 0}],
        [{"partNumber": 2}],
        [{"partNumber": -1}],
        [{"partNumber": 1}] * 2,
        [{"partNumber": "x"}],
        [{"partNumber": 2**63}],
        [{"partNumber": at + 1} for at in range(10_001)],
    ],
    ids=lambda parts: json.dumps(parts)[:40],
)
def test_uploads_with_wrong_parts_are_refused(parts, shared_server, artifacts, unchanged):
    file = {"artifactID": artifacts["DRAFT"], "name": "a", "uploadPartsInput": parts}
    begun = {"artifactFiles": [file]}
    check_operation_refused(
        *mutate(shared_server, "createArtifactFiles", "CreateArtifactFilesInput!", begun)
    )
    ended = with_ids(COMPLETE, artifacts) | {"completedParts": parts}
    check_operation_refused(
        *mutate(
            shared_server,
            "completeMultipartUploadArtifact",
            "CompleteMultipartUploadArtifactInput!",
            ended,
        )
    )


# Signed uploads, whose errors have the form of this server's own API.


def check_upload_refused(status, content):
    assert 400 <= status < 500, (status, content[:300])
    assert json.loads(content)["error"]["message"]


def signed_urls(server, artifacts):
    """Returns the paths of the uploads of a file, and of a part of a file."""
    document = """mutation ($file: CreateRunFilesInput!, $part: CreateArtifactFilesInput!) {
        createRunFiles(input: $file) { files { uploadUrl } }
        createArtifactFiles(input: $part) {
            files { edges { node { uploadMultipartUrls { uploadUrlParts { uploadUrl } } } } }
        }
    }"""
    part = {"artifactFiles": [with_ids(PART, artifacts)]}
    answer = succeed(server, document, file=FILES, part=part)
    (file,) = answer["createRunFiles"]["files"]
    (edge,) = answer["createArtifactFiles"]["files"]["edges"]
    (part,) = edge["node"]["uploadMultipartUrls"]["uploadUrlParts"]
    return [path_of(server, it["uploadUrl"]) for it in (file, part)]


def test_uploads_that_were_not_signed_are_refused(shared_server, artifacts):
    urls = signed_urls(shared_server, artifacts)
    before = state(shared_server, artifacts)
    for url in urls:
        path, _, query = url.partition("?")
        parent, _, name = path.rpartition("/")
        parameters = urllib.parse.parse_qsl(query)
        assert query, "a signed URL has parameters"
        changed = [path, f"{path}x?{query}", f"{parent}/..%2F{name}?{query}", f"{path}%00?{query}"]
        changed += [f"{parent}/../{name}?{query}", f"{parent}%2F{name}x?{query}"]
        changed += [f"{path}{'x' * 5_000}?{query}"]
        for at, (key, value) in enumerate(parameters):
            others = parameters[:at] + parameters[at + 1 :]
            for wrong in ("", "\0", "x" * 5_000, value[:-1] + ("1" if value[-1] == "0" else "0")):
                changed.append(f"{path}?{urllib.parse.urlencode([*others, (key, wrong)])}")
            changed.append(f"{path}?{urllib.parse.urlencode(others)}")
        for wrong in changed:
            check_upload_refused(*ask(shared_server, "PUT", wrong, b"content"))
        check_upload_refused(*ask(shared_server, "POST", url, b"content"))
    assert state(shared_server, artifacts) == before
    for url in urls:
        assert ask(shared_server, "PUT", url, b"content")[0] < 300, "the URL itself is valid"


# The memory of a long history.

SCAN = """
import wandb
rows = wandb.Api(timeout=600).run("matyan/{project}/r").scan_history()
steps = [row["_step"] for row in rows]
print(len(steps), steps == list(range(len(steps))))
"""

# Rows of one request.
CHUNK = 20_000

# Rows of the history that arrives, after the rows of another history.
FIRST = 100_000
ARRIVING = 600_000


def write_history(server, project, count):
    """Returns the bytes of the rows."""
    begin_run(server, project, "r")
    path = f"files/me/{project}/r/file_stream"
    written = 0
    for start in range(0, count, CHUNK):
        steps = range(start, min(start + CHUNK, count))
        lines = [json.dumps({"_step": i, "_timestamp": 1e9 + i, "loss": i / 2}) for i in steps]
        written += sum(map(len, lines))
        assert send(server, path, rows(start, lines))[0] == 200
    assert send(server, path, {"complete": True, "exitcode": 0})[0] == 200
    return written


def test_memory_of_the_server_does_not_grow_with_a_history_that_arrives(own_server):
    # What the first rows allocate stays for all later ones.
    write_history(own_server, "first", FIRST)
    memory = peers_module("memory")
    memory.reset_peak(own_server.process)
    before = memory.current(own_server.process)
    written = write_history(own_server, "rows", ARRIVING)
    growth = memory.peak(own_server.process) - before
    # The rows have 37 MB, and a server that kept them would take as much at least.
    assert growth < written, (growth, written)
    points = stored(own_server, "r", "rows").series("loss", {})
    assert (len(points.steps), points.values[-1]) == (ARRIVING, (ARRIVING - 1) / 2)


def test_memory_of_the_server_does_not_grow_with_a_history_that_is_scanned(own_server, tmp_path):
    client = Client(sys.executable, tmp_path)
    counts = (20_000, 200_000)
    for count in counts:
        write_history(own_server, f"rows-{count}", count)
    # What the first scan allocates stays for all later scans.
    client.run(SCAN.format(project=f"rows-{counts[0]}"), own_server.url)
    memory = peers_module("memory")
    sizes = {}
    for count in counts:
        memory.reset_peak(own_server.process)
        before = memory.current(own_server.process)
        printed = client.run(SCAN.format(project=f"rows-{count}"), own_server.url)
        assert printed.split() == [str(count), "True"]
        sizes[count] = memory.peak(own_server.process) - before
    # A history in memory would take more than 120 MB.
    assert max(sizes.values()) < 48 << 20, sizes

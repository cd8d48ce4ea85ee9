"""Answers that no Matyan server gives: other programs, and servers that mean harm."""

import contextlib
import http.server
import io
import json
import math
import threading
import warnings
import weakref
import zipfile

import pytest

from matyan_client import Repo, Run, _artifact_archive, _console, _stored_objects, errors
from matyan_client._query_result import FoundRun
from matyan_client.transport import _answers
from matyan_client.transport.http import HttpTransport

# Reads of a run. All of them are empty without a server, or raise an error of the server.
READS = {
    "props": lambda run: run.props,
    "tags": lambda run: run.tags,
    "artifacts": lambda run: run.artifacts,
    "name": lambda run: run.name,
    "creation_time": lambda run: run.creation_time,
    "created_at": lambda run: run.created_at,
    "end_time": lambda run: run.end_time,
    "finalized_at": lambda run: run.finalized_at,
    "duration": lambda run: run.duration,
    "experiment": lambda run: run.experiment,
    "archived": lambda run: run.archived,
    "active": lambda run: run.active,
    "metrics": lambda run: run.metrics(),
    "get_metric": lambda run: run.get_metric("a"),
    "sequences": lambda run: run.collect_sequence_info("metric"),
    "images": lambda run: run.get_image_sequence("a"),
    "param": lambda run: run.get("hparams"),
    "params": lambda run: run[...],
    "contains": lambda run: "hparams" in run,
    "html": lambda run: run._repr_html_(),
}
# Their errors name the member that is wrong.
WRONG = {
    "[]": "expected a dict, not list",
    "null": "expected a dict, not NoneType",
    '"x"': "expected a dict, not str",
    "{}": "`props` is missing",
    '{"props": 5}': "`props`: expected an object, found a number",
    '{"props": {}, "params": [1]}': "`params`: expected an object, found a list",
    '{"props": {}, "traces": "z"}': "`traces`: expected an object, found text",
    '{"props": {}, "artifacts": {"a": 1}}': "`artifacts`: expected a list, found an object",
    '{"props": {"parent": 5}}': "`props.parent`: expected an object or null, found a number",
    '{"props": {"tags": 7}}': "`props.tags`: expected a list, found a number",
    '{"props": {"tags": [1]}}': "`props.tags[0]`: expected an object, found a number",
    '{"props": {"tags": [{}]}}': "`props.tags[0].name` is missing",
    '{"props": {"name": 7}}': "`props.name`: expected text or null, found a number",
    '{"props": {"end_time": "x"}}': "`props.end_time`: expected a number or null, found text",
    '{"props": {"experiment": "e"}}': "`props.experiment`: expected an object or null, found text",
    '{"props": {"experiment": {"name": 1}}}': "`props.experiment.name`: expected text or null",
    '{"props": {}, "traces": {"metric": {"a": 1}}}': "`traces['metric']`: expected a list",
    '{"props": {}, "traces": {"images": [2]}}': "`traces['images'][0]`: expected an object",
    '{"props": {}, "traces": {"metric": [{"name": "m", "context": 3}]}}': "[0].context`: expected",
    '{"props": {}, "artifacts": [1]}': "`artifacts[0]`: expected an object, found a number",
    f'{{"props": {{"creation_time": 1{"0" * 400}}}}}': "`props.creation_time`: expected a number",
    f'{{"props": {{"creation_time": 1{"0" * 5000}}}}}': "unexpected answer: ",
    "[" * 100_000 + "]" * 100_000: "JSON that is nested too deeply",
    '{"params":' + '{"a":' * 50_000 + "1" + "}" * 50_001: "JSON that is nested too deeply",
}


@contextlib.contextmanager
def answering(body):
    """Yields the URL of a server that gives one answer to all requests."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            self.rfile.read(int(self.headers.get("content-length") or 0))
            self.send_response(200)
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def do_POST(self):
            self.do_GET()

        def log_message(self, *_):
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


@pytest.mark.parametrize("answer", WRONG, ids=range(len(WRONG)))
def test_a_wrong_answer_is_an_error_of_the_server_or_empty(answer):
    with answering(answer.encode()) as url:
        run = Run("r", repo=url, read_only=True)
        for read in READS.values():
            with contextlib.suppress(errors.ServerError):
                read(run)
        assert (run.props, run.tags, run.artifacts, run.metrics()) == ({}, [], [], [])
        assert "cannot be reached" in run._repr_html_()
        with pytest.raises(errors.ServerError) as raised:
            HttpTransport(url).get_run_info("r")
    assert WRONG[answer] in str(raised.value)
    assert str(raised.value).endswith("; the URL may be that of another program")


@pytest.mark.parametrize("run_hash", [None, "branch"])
@pytest.mark.parametrize(
    "answer", ["[]", "{}", '{"props": {"parent": 5}}', "[" * 100_000], ids=range(4)
)
def test_a_branch_is_recorded_whatever_the_server_answers(answer, run_hash):
    with answering(answer.encode()) as url:
        run = Run(run_hash, repo=url, fork_from="trunk", capture_terminal_logs=False, offline=False)
        assert run.health.pending > 0
        run._end(None, spent=math.inf)


def test_correct_members_are_read():
    info = {
        "params": {"hparams": {"lr": 0.1}},
        "traces": {
            "metric": [{"name": "m", "context": {}, "last_value": math.nan}],
            "texts": [{"name": "t", "context": {"a": [1]}, "last_value": 0.1}],
        },
        "props": {
            "name": None,
            "description": "",
            "experiment": {"id": None, "name": None, "description": None},
            "tags": [{"id": "t", "name": "tag", "color": None, "description": None}],
            "creation_time": 1,
            "end_time": None,
            "parent": None,
            "new": object(),
        },
        "artifacts": [{"name": "b", "path": "a/b", "uri": None}],
    }
    assert _answers.run_info(info) is info
    assert _answers.run_info({"props": {"experiment": None}})


def test_a_time_that_no_calendar_has_is_an_error_of_the_server():
    body = b'{"props": {"creation_time": 1e300, "end_time": NaN}}'
    with answering(body) as url:
        run = Run("r", repo=url, read_only=True)
        assert run.creation_time == 1e300
        with pytest.raises(errors.ServerError, match=r"1e\+300 seconds since the Unix epoch"):
            _ = run.created_at
        with pytest.raises(errors.ServerError, match="nan seconds since the Unix epoch"):
            _ = run.finalized_at


def test_params_that_are_too_deep_are_left_out_of_a_notebook():
    depth = 900
    params = '{"a":' * depth + "1" + "}" * depth
    context = '{"name": "m", "last_value": 1.0, "context": ' + params + "}"
    body = (
        f'{{"props": {{"name": "deep"}}, "params": {params}, "traces": {{"metric": [{context}]}}}}'
    )
    with answering(body.encode()) as url:
        assert "deep" in Run("r", repo=url, read_only=True)._repr_html_()


def test_points_of_a_curve_are_checked():
    one = {"name": "m", "context": {}, "iters": [0], "values": [10**400, None]}
    assert _answers.metric_batch(json.dumps([one]))
    for wrong in (5, [5], [{**one, "iters": 5}], [{**one, "name": None}]):
        with pytest.raises(errors.ServerError):
            _answers.metric_batch(json.dumps(wrong))
    with pytest.raises(errors.ServerError, match=r"`\[0\]\.name`: expected text, found a number"):
        _answers.entities([{"name": 1}])


def test_an_error_within_a_property_is_not_hidden(monkeypatch):
    run = Run("r", repo="http://127.0.0.1:1", read_only=True)

    def fail(_):
        raise AttributeError("the cause")

    monkeypatch.setattr(Run, "_info_or_empty", fail)
    with pytest.raises(AttributeError, match="the cause"):
        _ = run.props
    with pytest.raises(AttributeError, match="a run has no attribute 'log_metric': use `track`"):
        run.log_metric("a", 1)


@pytest.mark.parametrize("traces", [5, {"0": 5}, {"0": {}}, {"0": {"name": "m", "context": 5}}])
def test_a_wrong_series_of_a_search_is_an_error_of_the_server(traces):
    found = FoundRun({"hash": "r", "traces": traces}, "http://127.0.0.1:1", "metric")
    with pytest.raises(errors.ServerError, match="unexpected answer: `traces"):
        list(found)


def test_wrong_objects_are_an_error_of_the_server():
    class Wrong:
        def search_sequence(self, *_, **__):
            return [{"traces": {0: {"iters": {}, "timestamps": 5}}}]

    with pytest.raises(errors.ServerError, match="the series 'a' of images cannot be read"):
        list(_stored_objects.stored_steps(Wrong(), "r", "images", "a"))


def zipped(members, method=zipfile.ZIP_DEFLATED):
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w", method) as archive:
        for name, data in members.items():
            archive.writestr(name, data)
    return content.getvalue()


def test_what_is_no_archive_of_artifacts_is_an_error_of_the_server(tmp_path):
    packed = zipped({"a": b"some content" * 100})
    damaged = bytearray(packed)
    damaged[40] ^= 0xFF
    unknown = zipped({"a": b"content"}, zipfile.ZIP_BZIP2)
    for body in (b"hello", packed[:-5], bytes(damaged), unknown):
        with answering(body) as url, pytest.raises(errors.ServerError, match="expected a ZIP arch"):
            Run("r", repo=url, read_only=True).download_artifacts(tmp_path / "out")


def test_artifacts_do_not_fill_the_disk(tmp_path, monkeypatch):
    packed = zipped({"a/small": b"x", "a/zeros": bytes(1 << 20)})
    with answering(packed) as url:
        run = Run("r", repo=url, read_only=True)
        assert len(run.download_artifacts(tmp_path / "out")) == 2
        assert (tmp_path / "out" / "a" / "zeros").stat().st_size == 1 << 20
        monkeypatch.setattr(_artifact_archive, "_MAX_GROWTH_FREE", 1 << 10)
        with pytest.raises(
            ValueError, match="'a/zeros' makes the archive far larger than its file"
        ):
            run.download_artifacts(tmp_path / "refused")
    assert not list((tmp_path / "refused").iterdir())


def test_artifacts_do_not_lead_outside(tmp_path):
    for name in ("../evil", "/evil", "a/../../evil"):
        with answering(zipped({name: b"x"})) as url, pytest.raises(ValueError, match="outside of"):
            Run("r", repo=url, read_only=True).download_artifacts(tmp_path / "out")
    assert not list((tmp_path / "out").iterdir())


class Found:
    """Results of a search, as the core returns them."""

    next_cursor = None

    def __init__(self, runs, texts=()):
        self._runs = iter(runs)
        self.warnings = list(texts)

    def __iter__(self):
        return self

    def __next__(self):
        return next(self._runs)


def test_warnings_of_a_server_are_short_lines(monkeypatch):
    class Backend:
        url = "http://127.0.0.1:1"

        def search(self, *_):
            texts = [
                "\x1b[2J\x9b\u202elr\nmatyan: all is stored",
                *(f"{n} " * 10_000 for n in range(99)),
            ]
            return Found([("r", {})], texts)

    transport = HttpTransport("http://127.0.0.1:1")
    monkeypatch.setattr(transport, "_client", Backend())
    with warnings.catch_warnings(record=True) as shown:
        warnings.simplefilter("always")
        assert transport.search_runs("lr < 1") == [{"hash": "r"}]
    texts = [str(warning.message) for warning in shown]
    assert texts[0] == "query 'lr < 1': \\x1b[2J\\x9b\\u202elr\\nmatyan: all is stored"
    assert len(texts) == 20
    assert max(map(len, texts)) < 600


def test_a_result_of_a_search_that_is_no_object_is_an_error(monkeypatch):
    class Backend:
        url = "http://127.0.0.1:1"

        def search(self, *_):
            return Found([("r", "text")])

    transport = HttpTransport("http://127.0.0.1:1")
    monkeypatch.setattr(transport, "_client", Backend())
    with pytest.raises(errors.ServerError, match="expected a dict, not str"):
        transport.search_runs()


def test_a_list_of_hashes_keeps_one_run_at_a_time(monkeypatch):
    class Content(dict):
        """A dict that may be referred to weakly."""

    contents = []
    most = 0

    def runs():
        nonlocal most
        for number in range(10):
            content = Content(params="x" * 1000)
            contents.append(weakref.ref(content))
            yield f"r{number}", content
            del content
            most = max(most, sum(known() is not None for known in contents))

    class Backend:
        url = "http://127.0.0.1:1"

        def search(self, *_):
            return Found(runs())

    transport = HttpTransport("http://127.0.0.1:1")
    monkeypatch.setattr(transport, "_client", Backend())
    assert transport.find_hashes("") == [f"r{number}" for number in range(10)]
    assert most <= 2


def test_a_line_is_one_line(capsys):
    _console.say("matyan: the server says \x1b[2J\nmatyan: all is stored")
    assert capsys.readouterr().err == "matyan: the server says \\x1b[2J\\nmatyan: all is stored\n"


def test_an_experiment_without_a_name_is_an_error_of_the_server():
    missing = pytest.raises(errors.ServerError, match=r"`\[0\]\.name` is missing")
    with answering(b'[{"id": 1}]') as url, missing:
        Repo(url).list_experiments()

"""Whole runs against a gateway that answers like the gateway of Matyan 0.3, compared with what the
client of that version sent: every recorded message is turned into the call that sends it.
"""

import asyncio
import base64
import json
import threading
from pathlib import Path

import numpy as np
import pytest
from aiohttp import WSMsgType, web

from matyan_client import Run, Text

TRANSCRIPTS = Path(__file__).parents[3] / "tests" / "vectors" / "ws_transcripts.jsonl"

# Members that depend on the time or on the place of a call.
VOLATILE = {"client_datetime", "timestamp", "logger_info", "run_id"}
TYPES = {
    "float": float,
    "int": int,
    "bool": bool,
    "float32": np.float32,
    "float64": np.float64,
    "int64": np.int64,
}


class Gateway:
    """Frontier and blob store. It knows neither subprotocols nor binary messages."""

    def __init__(self):
        self.frames = []
        self.blobs = {}
        # Called with each message; an answer other than `None` replaces the usual one.
        self.answer = lambda items: None
        self.upload_headers = None
        self._loop = asyncio.new_event_loop()
        self._started = threading.Event()
        self._thread = threading.Thread(target=self._run)

    @property
    def items(self):
        """The messages that were accepted, in order."""
        return [item for frame in self.frames for item in frame]

    def __enter__(self):
        self._thread.start()
        assert self._started.wait(60)
        return self

    def __exit__(self, *_):
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()

    def _run(self):
        runner = web.AppRunner(self._application())
        self._loop.run_until_complete(runner.setup())
        site = web.TCPSite(runner, "127.0.0.1", 0)
        self._loop.run_until_complete(site.start())
        self.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
        self._started.set()
        self._loop.run_forever()
        self._loop.run_until_complete(runner.cleanup())

    def _application(self):
        application = web.Application(client_max_size=1 << 30)
        application.router.add_get("/api/v1/ws/runs/{run}", self._accept)
        application.router.add_post("/api/v1/rest/artifacts/presign", self._presign)
        application.router.add_put("/blobs/{key:.*}", self._store)
        return application

    async def _accept(self, request):
        socket = web.WebSocketResponse(max_msg_size=16 << 20)
        await socket.prepare(request)
        async for message in socket:
            if message.type != WSMsgType.TEXT:
                break
            frame = json.loads(message.data)
            items = frame if isinstance(frame, list) else [frame]
            # As in Matyan 0.3, the URL names the run, whatever the message says.
            items = [{**item, "run_id": request.match_info["run"]} for item in items]
            answer = self.answer(items)
            if answer == "close":
                break
            if answer is None:
                self.frames.append(items)
            await socket.send_str(answer or '{"status":"ok","error":null}')
        await socket.close()
        return socket

    async def _presign(self, request):
        asked = await request.json()
        key = f"{asked['run_id']}/{asked['artifact_path']}"
        url = f"{self.url}/blobs/{key}"
        return web.json_response({"upload_url": url, "s3_key": key, "headers": self.upload_headers})

    async def _store(self, request):
        names = self.upload_headers or {}
        if any(request.headers.get(name) != value for name, value in names.items()):
            return web.Response(status=403)
        self.blobs[request.match_info["key"]] = await request.read()
        return web.Response()


@pytest.fixture
def gateway():
    with Gateway() as gateway:
        yield gateway


def recorded(scenario):
    """Returns the messages of a scenario."""
    items = []
    for line in TRANSCRIPTS.read_text().splitlines():
        entry = json.loads(line)
        is_sent = (entry["direction"], entry["method"]) == ("client->server", "TEXT")
        if entry["scenario"] == scenario and entry["channel"] == "ws" and is_sent:
            frame = json.loads(entry["raw"])
            items += frame if isinstance(frame, list) else [frame]
    assert items
    return items


def exchanges(scenario, method):
    """Returns requests by HTTP of a scenario with their answers, as far as they have bodies."""
    entries = [json.loads(line) for line in TRANSCRIPTS.read_text().splitlines()]
    return [
        entry
        for entry in entries
        if (entry["scenario"], entry["channel"], entry["method"]) == (scenario, "http", method)
    ]


def opened(gateway, items):
    begin = next(item for item in items if item["type"] == "create_run")
    return Run(
        begin["run_id"],
        repo=gateway.url,
        force_resume=begin["force_resume"],
        capture_terminal_logs=False,
    )


def call(run, item):
    """Makes the call that sends a message."""
    match item:
        case {"type": "create_run" | "finish_run"}:
            pass
        case {"type": "log_hparams", "value": value}:
            for name, param in value.items():
                run[name] = param
        case {"type": "log_metric", "name": name, "value": value, "dtype": dtype}:
            place = {key: item[key] for key in ("step", "epoch", "context")}
            run.track(TYPES[dtype](value), name=name, **place)
        case {"type": "log_custom_object", "value": {"type": "text", "data": data}}:
            place = {key: item[key] for key in ("name", "step", "epoch", "context")}
            run.track(Text(data), **place)
        case {"type": "set_run_property"}:
            for name in ("name", "description", "archived", "experiment"):
                if name in item:
                    setattr(run, name, item[name])
        case {"type": "add_tag", "tag_name": name}:
            run.add_tag(name)
        case {"type": "remove_tag", "tag_name": name}:
            run.remove_tag(name)
        case {"type": "log_record", "message": message, "level": level}:
            names = {10: "debug", 20: "info", 30: "warning", 40: "error"}
            getattr(run, f"log_{names[level]}")(message, **item.get("extra_args", {}))
        case _:
            raise NotImplementedError(item["type"])


def by_type(items):
    """Returns messages by type, in order, without what depends on time and place."""
    found = {}
    for item in items:
        stable = {key: value for key, value in item.items() if key not in VOLATILE}
        # For the server, a member with null is none, and an empty context too.
        for key in [key for key, value in stable.items() if value is None]:
            del stable[key]
        if stable.get("context") == {}:
            del stable["context"]
        found.setdefault(item["type"], []).append(json.dumps(stable, sort_keys=True))
    return found


@pytest.mark.parametrize(
    "scenario",
    [
        "create_minimal",
        "create_with_experiment_generated_hash",
        "hparams",
        "metrics",
        "batching_burst",
        "properties_and_tags",
        "log_records",
        "resume_plain",
        "resume_force",
    ],
)
def test_a_run_sends_what_the_client_of_matyan_03_sent(gateway, scenario):
    expected = recorded(scenario)
    run = opened(gateway, expected)
    for item in expected:
        call(run, item)
    run.close()
    assert (run.health.pending, run.health.dropped) == (0, 0)
    found = gateway.items
    assert {item["run_id"] for item in found} == {expected[0]["run_id"]}
    assert (found[0]["type"], found[-1]["type"]) == ("create_run", "finish_run")
    assert all(len(frame) <= 100 for frame in gateway.frames)
    assert by_type(found) == by_type(expected)


@pytest.mark.parametrize("scenario", ["artifacts", "artifact_presign_with_headers"])
def test_artifacts_arrive_as_those_of_the_client_of_matyan_03(gateway, tmp_path, scenario):
    expected = recorded(scenario)
    answer = next(
        entry for entry in exchanges(scenario, "POST") if entry["direction"] == "server->client"
    )
    gateway.upload_headers = answer["body"]["headers"]
    contents = {}
    for entry in exchanges(scenario, "PUT"):
        if entry["direction"] == "client->server":
            path = entry["path"].removeprefix("/matyan-artifacts/").partition("?")[0]
            key = path.replace("%20", " ")
            contents[key] = base64.b64decode(entry["body"]["$base64"])
    run = opened(gateway, expected)
    for number, (key, content) in enumerate(contents.items()):
        path = key.partition("/")[2]
        file = tmp_path / f"{number}-{Path(path).name}"
        file.write_bytes(content)
        run.log_artifact(file, name=path)
    run.close()
    assert gateway.blobs == contents
    members = ("s3_key", "artifact_path")
    found = [item for item in gateway.items if item["type"] == "blob_ref"]
    wanted = [item for item in expected if item["type"] == "blob_ref"]
    assert {tuple(item[name] for name in members) for item in found} == {
        tuple(item[name] for name in members) for item in wanted
    }


def test_an_item_that_the_gateway_refuses_costs_no_other(gateway):
    expected = recorded("error_ack")
    refusal = '{"status":"error","error":"example validation error"}'

    def refuse(items):
        return refusal if any(item.get("name") == "lost" for item in items) else None

    gateway.answer = refuse
    run = opened(gateway, expected)
    for item in expected:
        call(run, item)
    run.close()
    kept = [item for item in expected if item.get("name") != "lost"]
    assert by_type(gateway.items) == by_type(kept)


def test_a_gateway_that_closes_without_an_answer_costs_nothing(gateway):
    expected = recorded("server_closes_without_ack")
    left = [3]

    def close(items):
        if left[0] and any(item.get("name") == "in_flight" for item in items):
            left[0] -= 1
            return "close"
        return None

    gateway.answer = close
    run = opened(gateway, expected)
    for item in expected:
        call(run, item)
    run.close()
    assert left == [0]
    assert by_type(gateway.items) == by_type(expected)

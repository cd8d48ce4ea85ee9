"""Watching runs and following a log through generated stubs, until the server stops."""

from __future__ import annotations

import threading
from urllib.parse import urlsplit

import grpc
import pytest
from conftest import Server, eventually
from matyan_client import Run


def collected(stream, taken):
    """Reads a stream on a separate thread. Returns the thread, and a list for the final status."""
    end = []

    def read():
        try:
            for message in stream:
                taken(message)
            end.append(grpc.StatusCode.OK)
        except grpc.RpcError as error:
            end.append(error.code())

    thread = threading.Thread(target=read)
    thread.start()
    return thread, end


@pytest.mark.usefixtures("stubs")
def test_watches_see_what_is_logged_and_end_with_the_server(tmp_path):
    from matyan.logs.v1 import logs_pb2, logs_pb2_grpc
    from matyan.runs.v1 import run_pb2, runs_pb2, runs_pb2_grpc

    server = Server(tmp_path).start()
    runs = {}
    lines = []
    resumes = []
    with grpc.insecure_channel(urlsplit(server.query).netloc) as channel:
        watching = runs_pb2_grpc.RunServiceStub(channel)
        parts = run_pb2.RunParts(props=True)

        def changed(message):
            resumes.append(message.resume)
            for change in message.changes:
                runs[change.run_id] = None if change.left else change.run

        first = collected(watching.Watch(runs_pb2.WatchRequest(parts=parts, snapshot=True)), changed)
        eventually(lambda: resumes, "the watch has started")
        run = Run(repo=server.query, frontier_url=server.ingest, capture_terminal_logs=False)
        run.name = "seen"
        eventually(lambda: runs.get(run.hash) and runs[run.hash].props.name == "seen", "the run is pushed")
        following = logs_pb2_grpc.LogServiceStub(channel)
        follower = following.Lines(logs_pb2.LinesRequest(run_id=run.hash, follow=True))
        second = collected(follower, lambda message: lines.extend(line.text for line in message.lines))
        for step in range(100):
            run._send_terminal_line(f"line {step}", step)
        eventually(lambda: len(lines) >= 100, "the lines are pushed")
        assert lines == [f"line {step}" for step in range(100)]
        run.close()
        eventually(lambda: runs[run.hash].props.active is False, "the end of the run is pushed")
        second[0].join(timeout=60)
        assert second[1] == [grpc.StatusCode.OK], "a followed log ends with its run"
        assert server.stop() == 0
        first[0].join(timeout=60)
        assert first[1] == [grpc.StatusCode.UNAVAILABLE], "a client that watches is asked to reconnect"
    server.start()
    with grpc.insecure_channel(urlsplit(server.query).netloc) as channel:
        watching = runs_pb2_grpc.RunServiceStub(channel)
        runs.clear()
        again = watching.Watch(runs_pb2.WatchRequest(parts=parts, resume=resumes[-1]))
        third = collected(again, changed)
        watching.Update(runs_pb2.UpdateRequest(run_id=run.hash, name="renamed"))
        eventually(lambda: runs.get(run.hash) and runs[run.hash].props.name == "renamed", "the watch resumes")
        again.cancel()
        third[0].join(timeout=60)
    assert server.stop() == 0

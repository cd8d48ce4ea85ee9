"""The updates about a trial that a connected reader gets while the worker of the trial runs."""

from __future__ import annotations

import threading
from pathlib import Path
from urllib.parse import urlsplit

import grpc
import optuna
from conftest import eventually, found_runs
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from optuna.trial import TrialState

API = Path(__file__).resolve().parents[3] / "proto" / "baseline.binpb"


def message_of_api(name):
    """The class of a message of the API."""
    pool = descriptor_pool.DescriptorPool()
    for file in descriptor_pb2.FileDescriptorSet.FromString(API.read_bytes()).file:
        pool.Add(file)
    return message_factory.GetMessageClass(pool.FindMessageTypeByName(name))


def following(channel, run_id, metric):
    """The messages with new points of a metric."""
    request = message_of_api("matyan.series.v1.FollowRequest")(settle_ms=0)
    request.runs.add(run_id=run_id).keys.add(name=metric)
    follow = channel.unary_stream(
        "/matyan.series.v1.SeriesService/Follow",
        request_serializer=lambda message: message.SerializeToString(),
        response_deserializer=message_of_api("matyan.series.v1.FollowResponse").FromString,
    )
    return follow(request)


def test_intermediate_values_reach_a_connected_reader_before_the_trial_ends(server, storage):
    study = optuna.create_study(storage=storage, study_name="live")
    trial = study.ask()
    [run] = eventually(lambda: found_runs(server, "run.experiment == 'live'"), "the trial is a run")
    points = []
    caught_up = threading.Event()

    def read(stream):
        try:
            for message in stream:
                for piece in message.series:
                    points.extend(zip(piece.steps, piece.values, strict=True))
                if message.caught_up:
                    caught_up.set()
        except grpc.RpcError:
            # The end of the test.
            assert stream.cancelled()

    with grpc.insecure_channel(urlsplit(server.query).netloc) as channel:
        stream = following(channel, run["run_id"], "intermediate_value")
        reader = threading.Thread(target=read, args=(stream,))
        reader.start()
        assert caught_up.wait(timeout=60)
        reported = []
        for step in range(5):
            trial.report(step / 7, step)
            reported.append((step, step / 7))
            eventually(lambda: len(points) > step, "the value is pushed")  # noqa: B023
            assert points == reported
        assert study.trials[0].state == TrialState.RUNNING
        study.tell(trial, 1.0)
        stream.cancel()
        reader.join(timeout=60)
    assert points == reported

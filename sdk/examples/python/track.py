"""Tracks a run over gRPC, searches for it, and prints what was found.

Training scripts should use the package `matyan_client`, which also keeps its data when a script is killed.
"""

import json
import math
import os
import sys
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from urllib.parse import urlsplit

import cbor2
import grpc
from matyan.common.v1.common_pb2 import OUTCOME_KIND_FINISHED, LogPosition, Outcome
from matyan.common.v1.limits_pb2 import Limits
from matyan.ingest.v1.batch_pb2 import (
    CreateRun,
    Event,
    FinishRun,
    IngestionBatch,
    LogParams,
    Points,
    SeriesDef,
    SetRunProperty,
)
from matyan.ingest.v1.ingest_pb2 import StreamBatch, StreamOpen, StreamRequest
from matyan.ingest.v1.ingest_pb2_grpc import IngestServiceStub
from matyan.runs.v1.run_pb2 import Run, RunParts
from matyan.search.v1.search_pb2 import MetricsRequest, Query
from matyan.search.v1.search_pb2_grpc import SearchServiceStub
from matyan.series.v1.series_pb2 import PointColumns

INGEST_URL = os.environ.get("MATYAN_FRONTIER_URL", "http://127.0.0.1:53801")
QUERY_URL = os.environ.get("MATYAN_BACKEND_URL", "http://127.0.0.1:53800")
TOKEN = os.environ.get("MATYAN_TOKEN", "")

PARAMS = {"hparams": {"lr": 0.01, "layers": [64, 64]}}
LOSSES = [math.exp(-step / 200) for step in range(1000)]
STEPS_PER_BATCH = 100

# Points refer to series by their number in this dictionary.
DICTIONARY = [SeriesDef(name="loss", context='{"subset": "train"}')]

# Connections in a row that fail before the script gives up. A training script would continue.
ATTEMPTS = 5


class BearerToken(
    grpc.UnaryUnaryClientInterceptor,
    grpc.UnaryStreamClientInterceptor,
    grpc.StreamUnaryClientInterceptor,
    grpc.StreamStreamClientInterceptor,
):
    """Sends a token with each call, to a server with access control."""

    def __init__(self, token: str) -> None:
        self.header = ("authorization", f"Bearer {token}")

    def intercept(self, call, details, request):
        return call(details._replace(metadata=[*(details.metadata or ()), self.header]), request)

    intercept_unary_unary = intercept_unary_stream = intercept
    intercept_stream_unary = intercept_stream_stream = intercept


@contextmanager
def connect(url: str) -> Iterator[grpc.Channel]:
    """A channel to the server. Errors of calls end the script with a message that names the server."""
    address = urlsplit(url)
    options = [("grpc.max_receive_message_length", Limits().message_bytes)]
    if address.scheme == "https":
        channel = grpc.secure_channel(address.netloc, grpc.ssl_channel_credentials(), options)
    else:
        channel = grpc.insecure_channel(address.netloc, options)
    with channel:
        try:
            yield grpc.intercept_channel(channel, BearerToken(TOKEN)) if TOKEN else channel
        except grpc.RpcError as error:
            sys.exit(f"track.py: {url}: {error.code().name}: {error.details()}")


def make_batches() -> Iterator[IngestionBatch]:
    yield IngestionBatch(
        series=DICTIONARY,
        events=[
            Event(create_run=CreateRun()),
            Event(set_run_property=SetRunProperty(experiment="clients")),
            Event(log_params=LogParams(value=cbor2.dumps(PARAMS))),
        ],
    )
    for start in range(0, len(LOSSES), STEPS_PER_BATCH):
        values = LOSSES[start : start + STEPS_PER_BATCH]
        steps = range(start, start + len(values))
        yield IngestionBatch(points=[Points(series=[0] * len(values), values=values, steps=steps)])
    yield IngestionBatch(events=[Event(finish_run=FinishRun(outcome=Outcome(kind=OUTCOME_KIND_FINISHED)))])


def stream_requests(
    run_id: str, producer_id: bytes, acknowledged: int, batches: list[bytes]
) -> Iterator[StreamRequest]:
    """The messages of one stream, which continues after the batches that were acknowledged."""
    known = DICTIONARY if acknowledged else []
    yield StreamRequest(
        open=StreamOpen(
            run_id=run_id,
            producer_id=producer_id,
            acknowledged=acknowledged,
            dictionary=IngestionBatch(series=known).SerializeToString(),
        )
    )
    for sequence in range(acknowledged + 1, len(batches) + 1):
        yield StreamRequest(batch=StreamBatch(sequence=sequence, batch=batches[sequence - 1]))


def send(ingest: IngestServiceStub, run_id: str, batches: list[bytes]) -> LogPosition:
    """Sends all batches, and returns the position in the log up to which they are stored.

    Nothing is stored twice: after a lost connection, what was not acknowledged is sent again with the
    same producer id, the same sequences and the same bytes.
    """
    producer_id = os.urandom(16)
    acknowledged = 0
    position = None
    failures = 0
    while acknowledged < len(batches):
        try:
            for response in ingest.Stream(stream_requests(run_id, producer_id, acknowledged, batches)):
                for rejection in response.rejections:
                    sys.exit(f"track.py: the server rejected `{rejection.field}`: {rejection.reason}")
                acknowledged = response.sequence
                position = response.position
                failures = 0
        except grpc.RpcError as error:
            failures += 1
            if error.code() != grpc.StatusCode.UNAVAILABLE or failures == ATTEMPTS:
                raise
            time.sleep(1)
    return position


def search(backend: SearchServiceStub, run_id: str, position: LogPosition) -> tuple[Run, list[float]]:
    """Returns the run with its params, and all points of its loss."""
    request = MetricsRequest(
        query=Query(text=f'run.hash == "{run_id}" and metric.name == "loss"'),
        parts=RunParts(props=True, params=True),
        density=0,
        columns=PointColumns(values=True),
    )
    # The answer includes everything up to this position.
    after = f"{position.log}/{position.partition}/{position.offset}"
    found = Run()
    values = []
    done = False
    for response in backend.Metrics(request, metadata=[("matyan-after", after)]):
        # A long series is split over several messages.
        for piece in response.runs:
            found.MergeFrom(piece.run)
            for series in piece.points:
                values.extend(series.values)
        done = response.done
    if not done:
        sys.exit("track.py: the search ended before its last message")
    return found, values


def main() -> None:
    run_id = uuid.uuid4().hex
    with connect(INGEST_URL) as channel:
        batches = [batch.SerializeToString() for batch in make_batches()]
        position = send(IngestServiceStub(channel), run_id, batches)
    with connect(QUERY_URL) as channel:
        run, values = search(SearchServiceStub(channel), run_id, position)
    params = cbor2.loads(run.params) if run.params else None
    if params != PARAMS or values != LOSSES:
        sys.exit(f"track.py: the run {run_id} is not as it was tracked: {params}, {len(values)} points")
    print(f"run {run_id} of {run.props.experiment.name}: {json.dumps(params)}")
    print(f"loss: {len(values)} points, from {values[0]} to {values[-1]}")


if __name__ == "__main__":
    main()

"""Runs for the tests of the example clients: logged over gRPC piece by piece, so that clients can follow them."""

from __future__ import annotations

import json
import math
import os
import random
import uuid
from dataclasses import dataclass, field
from urllib.parse import urlsplit

import grpc

CONTEXT = {"subset": "train"}
POINTS = 120
PIECES = 4


@dataclass
class GeneratedRun:
    """A run, and the points that it has in the end."""

    experiment: str
    optimizer: str
    depth: int
    steps: list[int]
    losses: list[float]
    run_id: str = field(default_factory=lambda: uuid.uuid4().hex)
    producer_id: bytes = field(default_factory=lambda: os.urandom(16))

    @property
    def points(self) -> list[tuple[int, float]]:
        return list(zip(self.steps, self.losses, strict=True))

    @property
    def context(self) -> str:
        return json.dumps(CONTEXT, separators=(",", ":"))


def generate(experiment: str, count: int, first_steps: tuple[int, ...] = (0, 0, -40)) -> list[GeneratedRun]:
    source = random.Random(count)
    runs = []
    for number in range(count):
        losses = [math.exp(-index / 40) + source.gauss(0, 0.1) for index in range(POINTS)]
        first = first_steps[number % len(first_steps)]
        steps = [first + 3 * index for index in range(POINTS)]
        runs.append(GeneratedRun(experiment, ["adam", "lamb", "sgd"][number % 3], 2 << (number % 2), steps, losses))
    runs[count // 2].losses[3:6] = [math.nan, math.inf, -math.inf]
    return runs


class RunWriter:
    """Logs runs in pieces, the first with the params of a run, and the last with its end."""

    def __init__(self, ingest: str) -> None:
        from matyan.ingest.v1.ingest_pb2_grpc import IngestServiceStub

        self.after: dict[int, str] = {}
        self.channel = grpc.insecure_channel(urlsplit(ingest).netloc)
        self.ingest = IngestServiceStub(self.channel)

    def __enter__(self) -> RunWriter:
        return self

    def __exit__(self, *_) -> None:
        self.channel.close()

    def log(self, runs: list[GeneratedRun], pieces: range = range(PIECES)) -> None:
        for piece in pieces:
            for run in runs:
                self.log_piece(run, piece)

    def log_piece(self, run: GeneratedRun, piece: int) -> None:
        import cbor2
        from matyan.common.v1.common_pb2 import OUTCOME_KIND_FINISHED, Outcome
        from matyan.ingest.v1 import batch_pb2

        events = []
        if piece == 0:
            params = {"hparams": {"optimizer": run.optimizer, "depth": run.depth}}
            events += [
                batch_pb2.Event(create_run=batch_pb2.CreateRun()),
                batch_pb2.Event(set_run_property=batch_pb2.SetRunProperty(experiment=run.experiment)),
                batch_pb2.Event(log_params=batch_pb2.LogParams(value=cbor2.dumps(params))),
            ]
        if piece == PIECES - 1:
            outcome = Outcome(kind=OUTCOME_KIND_FINISHED)
            events.append(batch_pb2.Event(finish_run=batch_pb2.FinishRun(outcome=outcome)))
        share = slice(piece * POINTS // PIECES, (piece + 1) * POINTS // PIECES)
        self.publish(run, share, events, producer_id=run.producer_id, sequence=piece + 1)

    def insert(self, run: GeneratedRun, index: int, loss: float) -> None:
        """Logs a point before others that the run has already. All of its pieces have been logged."""
        run.steps.insert(index, run.steps[index] - 1)
        run.losses.insert(index, loss)
        self.publish(run, slice(index, index + 1), [])

    def publish(self, run: GeneratedRun, share: slice, events: list, **producer: bytes | int) -> None:
        from matyan.ingest.v1 import batch_pb2
        from matyan.ingest.v1.ingest_pb2 import PublishRequest

        losses = run.losses[share]
        points = batch_pb2.Points(series=[0] * len(losses), values=losses, steps=run.steps[share])
        series = batch_pb2.SeriesDef(name="loss", context=run.context)
        batch = batch_pb2.IngestionBatch(series=[series], events=events, points=[points])
        request = PublishRequest(run_id=run.run_id, batch=batch.SerializeToString(), **producer)
        response = self.ingest.Publish(request, wait_for_ready=True)
        assert not response.rejections, response.rejections
        position = response.position
        self.after[position.partition] = f"{position.log}/{position.partition}/{position.offset}"

    def wait_until_stored(self, query: str) -> None:
        """Returns once searches find everything that was logged."""
        from matyan.search.v1.search_pb2 import RunsRequest
        from matyan.search.v1.search_pb2_grpc import SearchServiceStub

        after = [("matyan-after", position) for position in self.after.values()]
        with grpc.insecure_channel(urlsplit(query).netloc) as channel:
            assert list(SearchServiceStub(channel).Runs(RunsRequest(limit=1), metadata=after))[-1].done

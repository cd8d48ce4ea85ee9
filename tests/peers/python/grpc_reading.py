"""Reads series exactly, through generated stubs as any Python user of gRPC has them."""

from __future__ import annotations

import json
from contextlib import contextmanager
from urllib.parse import urlsplit

import grpc

NONE = -(2**63)


def series_points(base, run_hash, name, context):
    """(step, value, epoch or None) of every point, in ascending order of steps."""
    from matyan.common.v1 import common_pb2
    from matyan.series.v1 import series_pb2, series_pb2_grpc

    key = common_pb2.SeriesKey(name=name, context=json.dumps(context) if context else "")
    request = series_pb2.PointsRequest(
        run=series_pb2.RunSelection(run_id=run_hash, keys=[key]),
        columns=series_pb2.PointColumns(values=True, epochs=True, times=True),
    )
    with grpc.insecure_channel(urlsplit(base).netloc) as channel:
        for piece in series_pb2_grpc.SeriesServiceStub(channel).Points(request):
            points = piece.points
            epochs = points.epochs or [NONE] * len(points.steps)
            for step, value, epoch in zip(points.steps, points.values, epochs, strict=True):
                yield step, value, None if epoch == NONE else epoch


@contextmanager
def followed_points(base, run_hash, name, guard):
    """Follows a metric as an open chart does. The run may begin later. Gives (step, value) of each point as it arrives.

    `guard` only keeps a server that is silent from blocking a test forever, in seconds.
    """
    from matyan.common.v1 import common_pb2
    from matyan.series.v1 import series_pb2, series_pb2_grpc

    metric = series_pb2.RunSelection(run_id=run_hash, keys=[common_pb2.SeriesKey(name=name)])
    request = series_pb2.FollowRequest(runs=[metric])
    with grpc.insecure_channel(urlsplit(base).netloc) as channel:
        messages = series_pb2_grpc.SeriesServiceStub(channel).Follow(request, timeout=guard)
        next(message for message in messages if message.caught_up)
        yield (
            point
            for message in messages
            for series in message.series
            for point in zip(series.steps, series.values, strict=True)
        )
        messages.cancel()

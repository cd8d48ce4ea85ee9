"""Reads series exactly, through generated stubs as any Python user of gRPC has them."""

from __future__ import annotations

import json
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

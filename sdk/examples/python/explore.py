"""Shows the runs that a query finds: as a table of groups, as a live chart, and as a file for data tools."""

import argparse
import math
import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit

import grpc
from google.protobuf.message import Message
from matyan.common.v1.common_pb2 import SERIES_TYPE_METRIC, SeriesKey
from matyan.common.v1.limits_pb2 import Limits
from matyan.export.v1 import export_pb2
from matyan.export.v1.export_pb2_grpc import ExportServiceStub
from matyan.runs.v1.run_pb2 import ParamPath, Run, RunParts
from matyan.search.v1 import search_pb2
from matyan.search.v1.search_pb2_grpc import SearchServiceStub
from matyan.series.v1.series_pb2 import FollowRequest, RunSelection, SampleRequest
from matyan.series.v1.series_pb2_grpc import SeriesServiceStub

QUERY_URL = os.environ.get("MATYAN_BACKEND_URL", "http://127.0.0.1:53800")
TOKEN = os.environ.get("MATYAN_TOKEN", "")
CHARTED_RUNS = 50
CHART_WIDTH = 60
BARS = "▁▂▃▄▅▆▇█"

FORMATS = {
    ".arrow": export_pb2.FORMAT_ARROW,
    ".parquet": export_pb2.FORMAT_PARQUET,
    ".csv": export_pb2.FORMAT_CSV,
}


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
            sys.exit(f"explore.py: {url}: {error.code().name}: {error.details()}")


def read_groups(search: SearchServiceStub, options: argparse.Namespace) -> Iterator[search_pb2.Group]:
    """All groups of the runs, with an aggregate of the last values of the metric."""
    request = search_pb2.GroupsRequest(
        query=search_pb2.Query(text=options.query),
        by=[search_pb2.GroupBy(param=ParamPath(segments=path.split("."))) for path in options.by],
        aggregates=[search_pb2.Aggregate(metric=options.metric, metric_value=search_pb2.METRIC_VALUE_LAST)],
        order=search_pb2.GroupOrder.Value(f"GROUP_ORDER_{options.sort.upper()}"),
        descending=options.descending,
    )
    while True:
        response = search.Groups(request)
        yield from response.groups
        if not response.next_cursor:
            return
        request.cursor = response.next_cursor


def read_runs(search: SearchServiceStub, group: str, options: argparse.Namespace) -> Iterator[Run]:
    """The runs of a group, sorted by the last value of the metric."""
    request = search_pb2.RunsRequest(
        query=search_pb2.Query(text=options.query),
        group=group,
        sort=[
            search_pb2.Sort(
                metric=options.metric,
                metric_value=search_pb2.METRIC_VALUE_LAST,
                descending=options.descending,
            )
        ],
        parts=RunParts(series_types=[SERIES_TYPE_METRIC], series_keys=[options.metric]),
        limit=1000,
    )
    while True:
        for response in search.Runs(request):
            yield from response.runs
        # Only the last message has a cursor, and none if there are no more runs.
        if not response.done:
            sys.exit("explore.py: the search ended before its last message")
        if not response.next_cursor:
            return
        request.cursor = response.next_cursor


def table(channel: grpc.Channel, options: argparse.Namespace) -> None:
    search = SearchServiceStub(channel)
    print(*options.by, "runs", "mean", "min", sep="\t")
    for number, group in enumerate(read_groups(search, options), 1):
        values = [getattr(value, value.WhichOneof("value") or "", "-") for value in group.values]
        aggregate = group.aggregates[0]
        print(*values, group.run_count, number_text(aggregate, "mean"), number_text(aggregate, "min"), sep="\t")
        if number == options.expand:
            for run in read_runs(search, group.token, options):
                last = number_text(run.series[0], "last") if run.series else "-"
                print("", run.run_id, last, sep="\t")


def number_text(message: Message, field: str) -> str:
    return str(getattr(message, field)) if message.HasField(field) else "-"


class Chart:
    """The points of some runs."""

    def __init__(self, series: SeriesServiceStub, run_ids: list[str], metric: SeriesKey) -> None:
        self.series = series
        self.run_ids = run_ids
        self.selections = [RunSelection(run_id=run_id, keys=[metric]) for run_id in run_ids]
        self.points: list[dict[int, float]] = [{} for _ in run_ids]

    def follow(self) -> None:
        """Receives points until the server stops.

        Changes that were made without a connection are not reported, so all points are received again.
        """
        received: list[dict[int, float]] = [{} for _ in self.run_ids]
        for response in self.series.Follow(FollowRequest(runs=self.selections)):
            for piece in response.series:
                received[piece.place.run].update(zip(piece.steps, piece.values, strict=True))
            for place in response.stale:
                received[place.run] = self.read(place.run)
            # Until then, the chart has the points that it had before.
            if response.caught_up:
                self.points = received
            # An empty message only keeps the connection alive.
            if self.points is received and (response.caught_up or response.series or response.stale):
                self.draw()

    def read(self, run: int) -> dict[int, float]:
        points: dict[int, float] = {}
        for response in self.series.Sample(SampleRequest(runs=[self.selections[run]], density=0)):
            for piece in response.series:
                points.update(zip(piece.steps, piece.values, strict=True))
        return points

    def draw(self) -> None:
        if sys.stdout.isatty():
            print("\x1b[H\x1b[J", end="")
        print(f"{len(self.run_ids)} runs, {sum(map(len, self.points))} points")
        for run_id, points in zip(self.run_ids, self.points, strict=True):
            step = max(points, default="-")
            print(run_id, sparkline([*points.values()]), step, points.get(step, "-"))
        sys.stdout.flush()


def sparkline(values: list[float]) -> str:
    """A bar for each of some values, spread evenly."""
    width = min(len(values), CHART_WIDTH)
    shown = [values[index * len(values) // width] for index in range(width)]
    finite = [value for value in shown if math.isfinite(value)]
    low = min(finite, default=0)
    high = max(finite, default=0)
    scale = (len(BARS) - 1) / (high - low) if high > low else 0
    bars = (BARS[round((value - low) * scale)] if math.isfinite(value) else " " for value in shown)
    return "".join(bars).ljust(CHART_WIDTH)


def chart(channel: grpc.Channel, options: argparse.Namespace) -> None:
    """Draws the newest runs until Ctrl-C."""
    request = search_pb2.RunsRequest(query=search_pb2.Query(text=options.query), limit=CHARTED_RUNS, ids_only=True)
    responses = list(SearchServiceStub(channel).Runs(request))
    if not responses[-1].done:
        sys.exit("explore.py: the search ended before its last message")
    run_ids = [run_id for response in responses for run_id in response.run_ids]
    if not run_ids:
        sys.exit("explore.py: no run matches the query")
    drawn = Chart(SeriesServiceStub(channel), run_ids, options.metric)
    while True:
        try:
            drawn.follow()
        except grpc.RpcError as error:
            if error.code() != grpc.StatusCode.UNAVAILABLE:
                raise
            print(f"explore.py: {error.details()}; connecting again", file=sys.stderr)
            time.sleep(1)


def export(channel: grpc.Channel, options: argparse.Namespace) -> None:
    """Writes all points of the metric to a file, which gets its name once it is complete."""
    output: Path = options.output
    if output.suffix not in FORMATS:
        sys.exit(f"explore.py: the file name must end with {', '.join(FORMATS)}")
    request = export_pb2.MetricsRequest(
        query=search_pb2.Query(text=options.query, report_progress=True),
        names=[options.metric.name],
        format=FORMATS[output.suffix],
    )
    part = output.with_name(f"{output.name}.part")
    piece = export_pb2.Piece()
    try:
        with part.open("wb") as file:
            for response in ExportServiceStub(channel).Metrics(request):
                piece = response.piece
                file.write(piece.data)
                progress = piece.progress
                print(f"{piece.rows} rows, {progress.checked} of {progress.total} runs", end="\r", file=sys.stderr)
        if not piece.done:
            sys.exit("explore.py: the export ended before its last piece")
        part.replace(output)
    finally:
        # An export cannot be continued, so an incomplete file is of no use.
        part.unlink(missing_ok=True)
    print(f"{output}: {piece.rows} rows")


def parse_options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--query", default="", help="MatyanQL, such as `run.hparams.lr < 0.1`")
    parser.add_argument("--metric", default="loss")
    parser.add_argument(
        "--context", default='{"subset": "train"}', help="context of the metric, as JSON; an export has all"
    )
    commands = parser.add_subparsers(required=True)

    command = commands.add_parser("table", help="group runs by params")
    command.add_argument("--by", action="append", required=True, help="the path of a param, at most three times")
    command.add_argument("--sort", choices=["values", "count", "mean", "min", "max"], default="values")
    command.add_argument("--descending", action="store_true")
    command.add_argument("--expand", type=int, metavar="ROW", help="list the runs of this group, from 1")
    command.set_defaults(run=table)

    command = commands.add_parser("chart", help=f"draw the newest {CHARTED_RUNS} runs until Ctrl-C")
    command.set_defaults(run=chart)

    command = commands.add_parser("export", help="write points to a .parquet, .arrow or .csv file")
    command.add_argument("output", type=Path)
    command.set_defaults(run=export)

    options = parser.parse_args()
    options.metric = SeriesKey(name=options.metric, context=options.context)
    return options


def main() -> None:
    options = parse_options()
    try:
        with connect(QUERY_URL) as channel:
            options.run(channel, options)
    except KeyboardInterrupt:
        sys.exit(130)
    except OSError as error:
        sys.exit(f"explore.py: {error}")


if __name__ == "__main__":
    main()

"""The API as tools without `.proto` files use it: services are found and called through reflection."""

from __future__ import annotations

import grpc
import pytest
from google.protobuf import json_format
from google.protobuf.descriptor_pb2 import MethodOptions
from google.protobuf.descriptor_pool import DescriptorPool
from google.protobuf.message_factory import GetMessageClass
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import ProtoReflectionDescriptorDatabase

REFUSALS = {grpc.StatusCode.OK, grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.NOT_FOUND}
"""Status codes that an empty request may result in."""

SERVICES = {
    "grpc.health.v1.Health", "matyan.admin.v1.AdminService", "matyan.apps.v1.AppService",
    "matyan.artifacts.v1.ArtifactService", "matyan.backup.v1.BackupService", "matyan.dashboards.v1.DashboardService",
    "matyan.experiments.v1.ExperimentService", "matyan.ingest.v1.IngestService", "matyan.logs.v1.LogService",
    "matyan.metrics.v1.MetricService", "matyan.notes.v1.NoteService", "matyan.objects.v1.ObjectService", "matyan.project.v1.ProjectService",
    "matyan.reports.v1.ReportService", "matyan.runs.v1.RunService", "matyan.search.v1.SearchService",
    "matyan.series.v1.SeriesService", "matyan.system.v1.SystemService", "matyan.tags.v1.TagService",
}


class Reflected:
    """A channel whose methods are called by name with JSON requests, as grpcurl does."""

    def __init__(self, base):
        self.channel = grpc.insecure_channel(base.removeprefix("http://"))
        self.database = ProtoReflectionDescriptorDatabase(self.channel)
        self.pool = DescriptorPool(self.database)

    def methods(self):
        for name in self.database.get_services():
            yield from self.pool.FindServiceByName(name).methods

    def call(self, method, request):
        """Calls a method. Returns the responses in JSON, of a stream only the first."""
        message = json_format.ParseDict(request, GetMessageClass(method.input_type)(), descriptor_pool=self.pool)
        kind = self.channel.unary_stream if method.server_streaming else self.channel.unary_unary
        answering = kind(
            f"/{method.containing_service.full_name}/{method.name}",
            request_serializer=type(message).SerializeToString,
            response_deserializer=GetMessageClass(method.output_type).FromString,
        )(message, wait_for_ready=True)
        answers = [answering] if not method.server_streaming else [answer for answer, _ in zip(answering, range(1))]
        if method.server_streaming:
            answering.cancel()
        return [json_format.MessageToDict(answer) for answer in answers]


@pytest.fixture
def reflected(server):
    found = Reflected(server.query)
    yield found
    found.channel.close()


def test_every_service_is_described(reflected):
    assert SERVICES <= set(reflected.database.get_services())
    described = {method.full_name for method in reflected.methods()}
    assert {"matyan.runs.v1.RunService.Get", "matyan.search.v1.SearchService.Explain"} <= described


def test_methods_can_be_called_through_reflection(reflected):
    method = reflected.pool.FindMethodByName("matyan.system.v1.SystemService.Version")
    [version] = reflected.call(method, {})
    assert version["component"] == "backend" and version["version"]
    explain = reflected.pool.FindMethodByName("matyan.search.v1.SearchService.Explain")
    [wrong] = reflected.call(explain, {"kind": "SEARCH_KIND_RUNS", "query": {"text": "run.hparams.lr <"}})
    assert wrong["error"]["line"] == 1 and wrong["error"]["message"]


def test_every_reading_method_answers_an_empty_request(reflected):
    """With a result, or with what is missing: no method for clients is unimplemented, and none fails internally."""
    reading = [
        method for method in reflected.methods()
        if method.GetOptions().idempotency_level == MethodOptions.NO_SIDE_EFFECTS and not method.client_streaming
    ]
    assert len(reading) > 30
    unexpected = {}
    for method in reading:
        try:
            reflected.call(method, {})
            code = grpc.StatusCode.OK
        except grpc.RpcError as error:
            code = error.code()
        expected = REFUSALS
        # Only processes of the same system may ask who a caller is.
        if "ResolveService" in method.full_name:
            expected = {grpc.StatusCode.PERMISSION_DENIED}
        # Only the server's own pages sign people in.
        if "SignInService" in method.full_name:
            expected = {grpc.StatusCode.UNIMPLEMENTED}
        if code not in expected:
            unexpected[method.full_name] = code
    assert unexpected == {}

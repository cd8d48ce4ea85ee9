"""The plugin of protoc that generates clients for grpcio, which grpcio-tools has only inside of its own protoc."""

import sys
from pathlib import Path
from tempfile import TemporaryDirectory

from google.protobuf.compiler.plugin_pb2 import CodeGeneratorRequest, CodeGeneratorResponse
from google.protobuf.descriptor_pb2 import FileDescriptorSet
from grpc_tools import protoc

request = CodeGeneratorRequest.FromString(sys.stdin.buffer.read())
with TemporaryDirectory() as directory:
    descriptors = Path(directory, "descriptors.binpb")
    descriptors.write_bytes(FileDescriptorSet(file=request.proto_file).SerializeToString())
    options = [f"--descriptor_set_in={descriptors}", f"--grpc_python_out={directory}"]
    if protoc.main(["protoc", *options, *request.file_to_generate]):
        sys.exit("protoc_gen_grpc_python: protoc failed")
    generated = Path(directory).rglob("*.py")
    files = [
        CodeGeneratorResponse.File(name=str(path.relative_to(directory)), content=path.read_text())
        for path in sorted(generated)
    ]
response = CodeGeneratorResponse(file=files, supported_features=CodeGeneratorResponse.FEATURE_PROTO3_OPTIONAL)
sys.stdout.buffer.write(response.SerializeToString())

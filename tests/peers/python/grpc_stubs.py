"""Generated stubs of the API, as any Python user of gRPC has them."""

from __future__ import annotations

import sys
from pathlib import Path

import grpc_tools
from grpc_tools import protoc

PROTO_ROOT = Path(__file__).resolve().parents[3] / "proto" / "proto"


def generated(out: Path):
    """Generates the stubs, and makes them importable until the generator is resumed."""
    files = sorted(str(path) for path in PROTO_ROOT.rglob("*.proto"))
    include = [f"-I{PROTO_ROOT}", f"-I{Path(grpc_tools.__file__).with_name('_proto')}"]
    assert protoc.main(["protoc", *include, f"--python_out={out}", f"--grpc_python_out={out}", *files]) == 0
    sys.path.insert(0, str(out))
    yield out
    sys.path.remove(str(out))

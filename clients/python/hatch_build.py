# SPDX-License-Identifier: Apache-2.0
"""Writes ssmd/_core/ssmd_pb2.py and its types into the wheel; nothing is written into the source tree."""

import tempfile
from pathlib import Path
from typing import Any

from grpc_tools import protoc
from hatchling.builders.hooks.plugin.interface import BuildHookInterface


class ProtobufHook(BuildHookInterface):  # type: ignore[type-arg]
    """The messages of proto/ssmd.proto: beside us in a source distribution, two folders up in the repository."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Run protoc into a temporary folder and add what it wrote."""
        root = Path(self.root)
        proto = next(d for d in (root / "proto", root.parent.parent / "proto") if (d / "ssmd.proto").is_file())
        self.folder = tempfile.TemporaryDirectory()
        out = self.folder.name
        if protoc.main(["protoc", f"-I{proto}", f"--python_out={out}", f"--pyi_out={out}", "ssmd.proto"]) != 0:
            raise RuntimeError("protoc could not compile ssmd.proto")
        for name in ("ssmd_pb2.py", "ssmd_pb2.pyi"):
            build_data["force_include"][f"{out}/{name}"] = f"ssmd/_core/{name}"

    def finalize(self, version: str, build_data: dict[str, Any], artifact_path: str) -> None:
        """The wheel is written."""
        self.folder.cleanup()

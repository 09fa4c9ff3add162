"""Built files (.nnx): manifest, object code and weights in one file that runs by itself.

Layout: 8 bytes of magic; three lengths as little-endian u64 (manifest, code, weights); the
SHA-256 of all that follows; then the manifest as JSON, the object code, and the weights as a
safetensors file. The code is for the CPU named in the manifest, and is loaded nowhere else.
"""

from __future__ import annotations

import hashlib
import json
import struct
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from nnc.runtime.arrays import Array
from nnc.runtime.errors import UserError
from nnc.runtime.manifest import FORMAT, Compiled, Manifest, decode, encode
from nnc.runtime.weights import write_whole

MAGIC = b"NNCFILE1"
HEADER = struct.Struct("<8sQQQ32s")


def write(path: Path, compiled: Compiled, weights: Mapping[str, Array], machine: str) -> None:
    """Write a built file whole, or leave what was there."""
    from safetensors.numpy import save as serialise

    about = {"format": FORMAT, "machine": machine, "manifest": encode(compiled.manifest)}
    parts = (json.dumps(about).encode(), compiled.code, serialise(dict(weights)))
    check = hashlib.sha256(b"".join(parts)).digest()
    head = HEADER.pack(MAGIC, *(len(p) for p in parts), check)
    write_whole(path, head + b"".join(parts))


def read(path: Path, machine: str) -> tuple[Compiled, dict[str, Array]]:
    """Return the program and weights of a built file.

    Raises UserError for a file that is missing, damaged, or built for another machine.
    """
    if not path.is_file():
        raise UserError("E0651", f"there is no built file '{path}'", (), "`nnc build` makes one")
    about, code, weights = _parts(path, path.read_bytes())
    if about.get("machine") != machine:
        raise UserError(
            "E0653",
            f"'{path}' was built for another machine",
            (f"built for {about.get('machine')}", f"this is {machine}"),
            "build it here from its model file and weights",
        )
    from safetensors.numpy import load as deserialise

    manifest = decode(about["manifest"])
    if not isinstance(manifest, Manifest):
        raise UserError("E0652", f"'{path}' has no manifest")
    return Compiled(manifest, code), deserialise(weights)


def _parts(path: Path, raw: bytes) -> tuple[dict[str, Any], bytes, bytes]:
    if len(raw) < HEADER.size or raw[:8] != MAGIC:
        raise UserError("E0652", f"'{path}' is not a file that `nnc build` made")
    _, first, second, third, check = HEADER.unpack_from(raw)
    body = raw[HEADER.size :]
    if len(body) != first + second + third or hashlib.sha256(body).digest() != check:
        raise UserError("E0652", f"'{path}' is damaged", ("its checksum does not fit",))
    about = json.loads(body[:first])
    if about.get("format") != FORMAT:
        raise UserError(
            "E0652", f"'{path}' has format {about.get('format')}; this nnc reads {FORMAT}"
        )
    return about, body[first : first + second], body[first + second :]

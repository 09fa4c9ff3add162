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
from nnc.runtime.names import BUILT_MAGIC
from nnc.runtime.weights import write_whole

HEADER = struct.Struct("<8sQQQ32s")


def write(path: Path, compiled: Compiled, weights: Mapping[str, Array], machine: str) -> None:
    """Write a built file whole, or leave what was there."""
    from safetensors.numpy import save as serialise

    about = {"format": FORMAT, "machine": machine, "manifest": encode(compiled.manifest)}
    parts = (json.dumps(about).encode(), compiled.code, serialise(dict(weights)))
    check = hashlib.sha256(b"".join(parts)).digest()
    head = HEADER.pack(BUILT_MAGIC, *(len(p) for p in parts), check)
    write_whole(path, head + b"".join(parts))


def read(path: Path, machine: str) -> tuple[Compiled, dict[str, Array]]:
    """Return the program and weights of a built file.

    Raises UserError for a file that is missing, damaged, or built for another machine.
    """
    if not path.is_file():
        raise UserError("E0651", f"there is no built file '{path}'", (), "`nnc build` makes one")
    try:
        raw = path.read_bytes()
    except OSError as fault:
        reason = fault.strerror or str(fault)
        raise UserError("E0646", f"'{path}' cannot be read", (reason,)) from None
    about, code, weights = _parts(path, raw)
    if about.get("machine") != machine:
        raise UserError(
            "E0653",
            f"'{path}' was built for another machine",
            (f"built for {about.get('machine')}", f"this is {machine}"),
            "build it here from its model file and weights",
        )
    from safetensors import SafetensorError
    from safetensors.numpy import load as deserialise

    try:
        manifest = decode(about["manifest"])
        tensors = deserialise(weights)
    except (ValueError, TypeError, KeyError, SafetensorError) as fault:
        raise UserError("E0652", f"'{path}' is damaged", (str(fault),)) from None
    if not isinstance(manifest, Manifest):
        raise UserError("E0652", f"'{path}' has no manifest")
    return Compiled(manifest, code), tensors


def _parts(path: Path, raw: bytes) -> tuple[dict[str, Any], bytes, bytes]:
    if len(raw) < HEADER.size or not raw.startswith(BUILT_MAGIC):
        raise UserError("E0652", f"'{path}' is not a file that `nnc build` made")
    _, first, second, third, check = HEADER.unpack_from(raw)
    body = raw[HEADER.size :]
    if len(body) != first + second + third or hashlib.sha256(body).digest() != check:
        raise UserError("E0652", f"'{path}' is damaged", ("its checksum does not fit",))
    try:
        about = dict(json.loads(body[:first]))
    except (ValueError, TypeError) as fault:
        raise UserError("E0652", f"'{path}' is damaged", (str(fault),)) from None
    if about.get("format") != FORMAT:
        raise UserError(
            "E0652", f"'{path}' has format {about.get('format')}; this nnc reads {FORMAT}"
        )
    return about, body[first : first + second], body[first + second :]

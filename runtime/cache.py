"""``nnc cache``: what the compile cache holds, and a way to empty it."""

from __future__ import annotations

from nnc.ir import store
from nnc.runtime.report import emit_json, table


def info(*, as_json: bool) -> None:
    """Print the cache's place, its entries and bytes by kind, and why it is not used, if so."""
    found = store.info()
    if as_json:
        emit_json(
            {
                "directory": str(found.directory) if found.directory is not None else None,
                "entries": found.entries,
                "bytes": found.bytes,
                "limit": found.limit,
                "kinds": {k: {"entries": n, "bytes": b} for k, (n, b) in found.kinds.items()},
                "unused": found.unused,
                "ignored": found.ignored,
            }
        )
        return
    rows = [(kind, f"{count:,}", f"{size:,}") for kind, (count, size) in found.kinds.items()]
    rows.append(("all", f"{found.entries:,}", f"{found.bytes:,}"))
    print(found.directory)
    print(table([("kind", "entries", "bytes"), *rows], right=frozenset({1, 2})))
    print(f"at most {found.limit:,} bytes")
    for name, text in (("not used", found.unused), ("ignored", found.ignored)):
        if text is not None:
            print(f"{name}: {text}")


def clear(*, as_json: bool) -> None:
    """Remove every entry and print how many there were."""
    removed = store.clear()
    if as_json:
        emit_json({"removed": removed})
    else:
        print(f"{removed:,} entries removed")

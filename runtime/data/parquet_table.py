"""Parquet files: their row groups as pieces, read by pyarrow (the extra ``parquet``)."""

from __future__ import annotations

from collections.abc import Generator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from nnc.runtime.arrays import Array
from nnc.runtime.data.columns import MOST_CLASSES, Bound, Labels, bind_columns, shaped
from nnc.runtime.data.door import split_of
from nnc.runtime.data.extras import need
from nnc.runtime.data.source import PortsOf, Split
from nnc.runtime.data.stream import Pieced
from nnc.runtime.errors import UserError

BLOCK_ROWS = 1024
BUFFER_BYTES = 1 << 18
"""Bytes that pyarrow reads of a column at a time, so that no whole column chunk is held."""


class ParquetTable(Pieced):
    """A parquet file as pieced data (see ``stream``)."""

    def __init__(
        self, path: Path, model: PortsOf, options: Mapping[str, Any], labels: Labels
    ) -> None:
        need("pyarrow.parquet", "pyarrow", "parquet", "a parquet file")
        self._path = path
        self._model = model
        self._labels = labels
        self._finite = not options.get("allow_nan", False)
        with self._open() as file:
            meta = file.metadata
            groups = range(meta.num_row_groups)
            self.pieces = [meta.row_group(k).num_rows for k in groups]
            schema = file.schema_arrow
        if not sum(self.pieces):
            raise UserError("E0618", f"'{path}' has no rows")
        self._bound = bind_columns(model, options.get("columns", {}), schema.names, str(path))
        self._columns = list(dict.fromkeys(n for b in self._bound for n in b.names))
        self._text = {b.port.name for b in self._bound if _is_text(schema, b)}
        for bound in self._bound:
            if bound.port.name in self._text:
                self._labels.settle(bound.port, self._distinct(bound), str(path))

    def _open(self) -> Any:
        from pyarrow import parquet

        return _Guarded(self._path, parquet)

    def _distinct(self, bound: Bound) -> set[str]:
        if bound.port.name in self._labels.classes:
            return set()
        found: set[str] = set()
        with self._open() as file:
            for batch in file.iter_batches(columns=list(bound.names), use_threads=False):
                found.update(t for t in batch.column(0).unique().to_pylist() if t is not None)
                if len(found) > MOST_CLASSES:
                    raise UserError(
                        "E0606", f"'{bound.port.name}' has over {MOST_CLASSES} classes in "
                        f"'{self._path}'",
                    )  # fmt: skip
        return found

    def read(self, piece: int, start: int) -> Generator[Split, None, None]:
        """Read a row group from its row ``start`` on (see ``Pieced``)."""
        row = sum(self.pieces[:piece]) + 1
        skip = start
        with self._open() as file:
            for batch in file.iter_batches(
                batch_size=BLOCK_ROWS, row_groups=[piece], columns=self._columns, use_threads=False
            ):
                rows = batch.slice(skip) if skip else batch
                first = row + batch.num_rows - rows.num_rows
                row, skip = row + batch.num_rows, max(0, skip - batch.num_rows)
                if rows.num_rows:
                    yield self._split(rows, first)

    def _split(self, batch: Any, first: int) -> Split:
        bound = {b.port.name: b for b in self._bound}

        def where(name: str, place: tuple[int, ...]) -> str:
            names = bound[name].names
            return self._place(first + place[0], names[place[1]] if len(names) > 1 else names[0])

        arrays = {b.port.name: self._array(b, batch, first) for b in self._bound}
        return split_of(self._model, arrays, where, finite=self._finite)

    def _place(self, row: int, column: str) -> str:
        return f"in row {row} of '{self._path}', column '{column}'"

    def _array(self, bound: Bound, batch: Any, first: int) -> Array:
        if bound.port.name in self._text:
            (name,) = bound.names
            texts = batch.column(name)
            self._check_present(bound, texts, name, first)
            words = np.array(texts.to_pylist())
            return self._labels.numbers(bound.port, words, lambda k: self._place(first + k, name))
        arrays = [self._numbers(bound, batch.column(name), name, first) for name in bound.names]
        return np.stack(arrays, axis=1) if bound.several else shaped(bound.port, arrays[0])

    def _numbers(self, bound: Bound, column: Any, name: str, first: int) -> Array:
        import pyarrow as pa

        kind = column.type
        if self._finite or not bound.port.type.dtype.is_float or pa.types.is_nested(kind):
            self._check_present(bound, column, name, first)
        if _is_list(kind):
            return self._lists(bound, column, name, first)
        if pa.types.is_fixed_size_binary(kind):
            joined = b"".join(column.to_pylist())
            return np.frombuffer(joined, np.uint8).reshape(len(column), kind.byte_width)
        if pa.types.is_decimal(kind):
            column = column.cast(pa.float64())
        elif pa.types.is_dictionary(kind):
            column = column.dictionary_decode()
        if not _is_number(column.type):
            raise UserError(
                "E0605",
                f"the column '{name}' of '{self._path}' holds {kind}, which is no number",
                (f"the model declares {bound.port.name}: {bound.port.type}",),
            )
        return np.asarray(column.to_numpy(zero_copy_only=False))

    def _lists(self, bound: Bound, column: Any, name: str, first: int) -> Array:
        """Return a column of lists, all of one length, as rows of numbers."""
        import pyarrow.compute as pc

        lengths = pc.list_value_length(column).to_numpy(zero_copy_only=False)
        other = np.flatnonzero(lengths != lengths[0])
        if len(other):
            k = int(other[0])
            raise UserError(
                "E0607",
                f"'{bound.port.name}' has {lengths[k]} numbers {self._place(first + k, name)}",
                (f"{lengths[0]} in row {first}",),
            )
        flat = column.flatten()
        if flat.null_count:
            at = int(np.flatnonzero(flat.is_null().to_numpy(zero_copy_only=False))[0])
            raise self._missing(bound, first + at // int(lengths[0]), name)
        if _is_list(flat.type):
            inner = self._lists(bound, flat, name, first)
        elif _is_number(flat.type):
            inner = np.asarray(flat.to_numpy(zero_copy_only=False))
        else:
            raise UserError(
                "E0605", f"the column '{name}' of '{self._path}' holds lists of {flat.type}"
            )
        return inner.reshape(len(column), int(lengths[0]), *inner.shape[1:])

    def _check_present(self, bound: Bound, column: Any, name: str, first: int) -> None:
        if column.null_count:
            at = int(np.flatnonzero(column.is_null().to_numpy(zero_copy_only=False))[0])
            raise self._missing(bound, first + at, name)

    def _missing(self, bound: Bound, row: int, name: str) -> UserError:
        return UserError(
            "E0616",
            f"'{bound.port.name}' has no value {self._place(row, name)}",
            (),
            "mend the data, or say allow_nan = true where it is read if the model expects "
            "not-a-number there",
        )


class _Guarded:
    """A parquet file whose faults are told as those of the user's data."""

    def __init__(self, path: Path, parquet: Any) -> None:
        self._path = path
        self._parquet = parquet
        self._file: Any = None

    def __enter__(self) -> Any:
        with self._told():
            self._file = self._parquet.ParquetFile(
                self._path, memory_map=False, pre_buffer=False, buffer_size=BUFFER_BYTES
            )
        return self

    def __exit__(self, *fault: object) -> None:
        self._file.close()

    @property
    def metadata(self) -> Any:
        return self._file.metadata

    @property
    def schema_arrow(self) -> Any:
        return self._file.schema_arrow

    def iter_batches(self, **options: Any) -> Generator[Any, None, None]:
        with self._told():
            batches = self._file.iter_batches(**options)
        while True:
            with self._told():
                batch = next(batches, None)
            if batch is None:
                return
            yield batch

    def _told(self) -> _Told:
        return _Told(self._path)


class _Told:
    """Turns what pyarrow raises into a UserError."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: Any, fault: BaseException | None, trace: Any) -> None:
        from pyarrow import ArrowException

        if isinstance(fault, ArrowException | OSError | EOFError):
            raise UserError(
                "E0618", f"'{self._path}' cannot be read as parquet", (str(fault),)
            ) from None


def _is_list(kind: Any) -> bool:
    import pyarrow as pa

    return bool(
        pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind)
    )


def _is_number(kind: Any) -> bool:
    import pyarrow as pa

    types = pa.types
    return bool(types.is_integer(kind) or types.is_floating(kind) or types.is_boolean(kind))


def _is_text(schema: Any, bound: Bound) -> bool:
    import pyarrow as pa

    if not bound.may_be_labels:
        return False
    kind = schema.field(bound.names[0]).type
    kind = kind.value_type if pa.types.is_dictionary(kind) else kind
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind))

"""Writes the kernel of a contraction: panels, register tiles, and what follows elementwise."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace

from nnc.ir.index import Atom, Axis, Size, ceildiv, substitute
from nnc.ir.loops import Expr, Load
from nnc.passes.schedule.code import Code
from nnc.passes.schedule.contraction import K_BLOCK, ROW, Contraction, zero
from nnc.passes.schedule.exprs import compare, conjunction, op, position, rewrite
from nnc.passes.schedule.nest import LANE, Env, Nest
from nnc.passes.schedule.stage import volume
from nnc.passes.schedule.tiles import Tile, block_of

LANE_SIZE = Axis(LANE).as_poly()


@dataclass(frozen=True, slots=True)
class Shape:
    """Order-free sizes: register tile of ``rows`` x ``vectors``, task of ``tall`` x ``wide``."""

    rows: int = 12
    vectors: int = 2
    tall: int = 120
    wide: int = 128

    @classmethod
    def of(cls, product: Contraction) -> Shape:
        """The tile for a contraction: no wider and no taller than its result."""
        rows, columns = product.rows, product.n[1]
        shape = cls()
        if isinstance(columns, int):
            shape = replace(shape, vectors=min(shape.vectors, -(-columns // product.width)))
        if isinstance(rows, int):
            shape = replace(shape, rows=min(shape.rows, rows))
        return shape


@dataclass(frozen=True, slots=True)
class KBlock:
    """The part of K in one block: loops (axis, start, count), and its places at most."""

    loops: tuple[tuple[str, Size, Size], ...]
    most: int

    def place(self) -> Size:
        """The number of the present place within the block, row-major over its loops."""
        at: Size = 0
        for axis, start, count in self.loops:
            at = at * count + (Axis(axis).as_poly() - start)
        return at


@dataclass(slots=True)
class Tiled:
    """Writes the body. ``finish`` is called with each finished vector: axes, mask, value."""

    nest: Nest
    product: Contraction
    shape: Shape
    source: Callable[[str], str]
    finish: Callable[[Env, Expr | None, Expr], None]

    @property
    def code(self) -> Code:
        """Where it is written."""
        return self.nest.code

    @property
    def columns(self) -> int:
        """Columns of a register tile."""
        return self.shape.vectors * self.product.width

    def tiles(self) -> list[Tile]:
        """How results are cut into tasks: each point of the batch axes, blocks of M and of N."""
        product = self.product
        batch = [Tile(axis, extent, 1) for axis, extent in product.batch]
        return [
            *batch,
            Tile(ROW, product.rows, self._block(product.rows, self.shape.tall)),
            Tile(product.n[0], product.n[1], self._block(product.n[1], self.shape.wide)),
        ]

    def _block(self, extent: Size, most: int) -> int | None:
        return None if isinstance(extent, int) and extent <= most else most

    def write(self, cut: Sequence[Tile]) -> None:
        """Write the whole body for tasks cut as ``cut`` says."""
        with self.code.loop(LANE, self.product.width, "vector"):
            *_, row_tile, column_tile = cut
            _Block(self, self.nest.part(row_tile), self.nest.part(column_tile), cut).write()


@dataclass(slots=True)
class _Block:
    """One task: ``rows`` and ``columns`` are (start, count)."""

    kernel: Tiled
    rows: tuple[Size, Size]
    columns: tuple[Size, Size]
    cut: Sequence[Tile]
    sums: str = ""
    panel: str = ""
    packed: str = ""
    across: str = ""
    down: str = ""

    def write(self) -> None:
        """Write the task."""
        kernel, product = self.kernel, self.kernel.product
        code, dtype = kernel.code, product.stage.value.dtype
        self.across, self.down = code.fresh("column_tile"), code.fresh("row_tile")
        tall, wide = self._most(self.cut[-2]), self._most(self.cut[-1])
        tall = -(-tall // kernel.shape.rows) * kernel.shape.rows
        wide = -(-wide // kernel.columns) * kernel.columns
        blocks = block_of(product.k, K_BLOCK)
        most = _places(product.k, blocks)
        self.sums = code.cell("sums", dtype, None, (tall * wide,))
        self.panel = code.cell("panel", dtype, None, (most * kernel.columns,))
        if product.in_place() is None:
            self.packed = code.cell("packed", dtype, None, (tall * most,))
        self._clear(tall * wide)
        with self._k_blocks(blocks, most) as block:
            if self.packed:
                self._pack_left(block)
            with code.loop(self.across, ceildiv(self.columns[1], kernel.columns)):
                self._pack_right(block)
                with code.loop(self.down, ceildiv(self.rows[1], kernel.shape.rows)):
                    self._tile(block, wide)
        self._finish(wide)

    def _most(self, tile: Tile) -> int:
        if tile.block is not None:
            return tile.block
        assert isinstance(tile.extent, int), "only constant extents are left whole"
        return tile.extent

    def _clear(self, size: int) -> None:
        code, width = self.kernel.code, self.kernel.product.width
        dtype = self.kernel.product.stage.value.dtype
        name = code.fresh("clear")
        with code.loop(name, size // width):
            at = Axis(name).as_poly() * width + LANE_SIZE
            code.store(self.sums, (at,), zero(dtype))

    @contextmanager
    def _k_blocks(self, blocks: tuple[int, int] | None, most: int) -> Iterator[KBlock]:
        """Loop over the blocks of K."""
        axes, code = self.kernel.product.k, self.kernel.code
        if blocks is None:
            yield KBlock(tuple((a, 0, n) for a, n in axes), most)
            return
        place, size = blocks
        name, extent = axes[place]
        with ExitStack() as stack:
            for axis, n in axes[:place]:
                stack.enter_context(code.loop(axis, n))
            number = code.fresh(f"{name}_block")
            stack.enter_context(code.loop(number, ceildiv(extent, size)))
            start = Axis(number).as_poly() * size
            count = self.kernel.nest.length(extent, start, size)
            inside = tuple((a, 0, n) for a, n in axes[place + 1 :])
            yield KBlock(((name, start, count), *inside), most)

    # packing --------------------------------------------------------------------------------

    @contextmanager
    def _places(self, block: KBlock) -> Iterator[Size]:
        with ExitStack() as stack:
            for axis, start, count in block.loops:
                stack.enter_context(self.kernel.code.loop(axis, count, start=start))
            yield block.place()

    def _pack_right(self, block: KBlock) -> None:
        """Bring the right factor's panel of this column tile into the cell ``panel``."""
        kernel, product = self.kernel, self.kernel.product
        with self._places(block) as place:
            for v in range(kernel.shape.vectors):
                at = v * product.width + LANE_SIZE
                column = Axis(self.across).as_poly() * kernel.columns + at
                env: Env = {Axis(product.n[0]): self.columns[0] + column}
                value = self._value(product.right, env, self._column_mask(column))
                kernel.code.store(self.panel, (place * kernel.columns + at,), value)

    def _pack_left(self, block: KBlock) -> None:
        """Bring the left factor's rows of this task into the cell ``packed``, tile by tile."""
        kernel, product, code = self.kernel, self.kernel.product, self.kernel.code
        tile_rows = kernel.shape.rows
        with (
            code.loop(self.down, ceildiv(self.rows[1], tile_rows)),
            self._places(block) as place,
        ):
            for first in range(0, tile_rows, product.width):
                row = Axis(self.down).as_poly() * tile_rows + first + LANE_SIZE
                env = product.row_axes(self.rows[0] + row)
                used = min(product.width, tile_rows - first)
                own = compare("lt", LANE_SIZE, used) if used < product.width else None
                mask = conjunction(own, compare("lt", row, self.rows[1]))
                value = self._value(product.left, env, mask)
                at = (Axis(self.down).as_poly() * block.most + place) * tile_rows
                code.store(self.packed, (at + first + LANE_SIZE,), value, own)

    def _column_mask(self, column: Size) -> Expr | None:
        count = self.columns[1]
        if isinstance(count, int) and count % self.kernel.columns == 0:
            return None
        return compare("lt", column, count)

    def _value(self, factor: Expr, env: Env, mask: Expr | None) -> Expr:
        """A factor at a point; where ``mask`` is false it is 0 and nothing is read."""

        def size(s: Size) -> Size:
            return substitute(s, env)

        def load(e: Load) -> Expr:
            source = self.kernel.source(e.source)
            other = e.other if e.other is not None or mask is None else zero(e.dtype)
            if not e.dtype.is_float and mask is not None and e.other is None:
                other = op("cast", position(0), dtype=e.dtype)
            return Load(source, e.index, e.dtype, conjunction(mask, e.mask), other)

        value = rewrite(factor, size, load)
        if mask is None or isinstance(value, Load):
            return value
        return op("select", mask, value, zero(value.dtype), dtype=value.dtype)

    # register tiles -------------------------------------------------------------------------

    def _tile(self, block: KBlock, wide: int) -> None:
        """Multiply one register tile over this block of K, and add it to the sums."""
        kernel, product, code = self.kernel, self.kernel.product, self.kernel.code
        dtype = product.stage.value.dtype
        shape = kernel.shape
        lefts = self._left_places(block)
        cells = [
            [code.cell("acc", dtype, zero(dtype), lanes=True) for _ in range(shape.vectors)]
            for _ in range(shape.rows)
        ]
        with self._places(block) as place:
            rights = [
                code.bind(
                    Load(
                        self.panel,
                        (place * kernel.columns + v * product.width + LANE_SIZE,),
                        dtype,
                    )
                )
                for v in range(shape.vectors)
            ]
            for r in range(shape.rows):
                left = code.bind(lefts(r))
                for v in range(shape.vectors):
                    acc = cells[r][v]
                    code.store(acc, (), op("mad", left, rights[v], Load(acc, (), dtype)))
        for r in range(shape.rows):
            row = Axis(self.down).as_poly() * shape.rows + r
            for v in range(shape.vectors):
                column = Axis(self.across).as_poly() * kernel.columns + v * product.width
                at = row * wide + column + LANE_SIZE
                before = Load(self.sums, (at,), dtype)
                code.store(self.sums, (at,), op("add", before, Load(cells[r][v], (), dtype)))

    def _left_places(self, block: KBlock) -> Callable[[int], Expr]:
        """How row ``r`` of the present tile reads the left factor at the present place of K."""
        kernel, product, code = self.kernel, self.kernel.product, self.kernel.code
        tile_rows, dtype = kernel.shape.rows, product.stage.value.dtype
        if self.packed:
            at = (Axis(self.down).as_poly() * block.most + block.place()) * tile_rows
            return lambda r: Load(self.packed, (at + r,), dtype)
        found = product.in_place()
        assert found is not None, "what is not packed is read in place"
        source, base, along = found
        starts: list[Size] = []
        for r in range(tile_rows):
            row = Axis(self.down).as_poly() * tile_rows + r
            last = op("min", position(row), position(self.rows[1] - 1))
            number = code.whole(op("add", last, position(self.rows[0])))
            env: dict[Atom, Size] = {
                a: code.whole(position(s)) if not isinstance(s, int) else s
                for a, s in product.row_axes(number).items()
            }
            starts.append(code.whole(position(substitute(base, env))))
        return lambda r: Load(kernel.source(source), (starts[r] + along,), dtype)

    # results --------------------------------------------------------------------------------

    def _finish(self, wide: int) -> None:
        """Go over the finished sums, a vector at a time."""
        kernel, product, code = self.kernel, self.kernel.product, self.kernel.code
        dtype = product.stage.value.dtype
        start, count = self.columns
        name = code.fresh("finished_row")
        with code.loop(name, self.rows[1]):
            row = Axis(name).as_poly()
            env = {
                a: code.whole(position(s)) if not isinstance(s, int) else s
                for a, s in product.row_axes(self.rows[0] + row).items()
            }

            def vector(at: Env, mask: Expr | None) -> None:
                column = at[Axis(product.n[0])]
                place = row * wide + (column - start)
                kernel.finish(at, mask, Load(self.sums, (place,), dtype))

            kernel.nest.chunks(product.n[0], start, count, env, vector)


def _places(axes: Sequence[tuple[str, Size]], blocks: tuple[int, int] | None) -> int:
    """How many places of K a block holds at most."""
    inside = axes if blocks is None else [("", blocks[1]), *axes[blocks[0] + 1 :]]
    count = volume(inside)
    assert isinstance(count, int), "axes of symbolic extent are cut"
    return count

"""Writes one LLVM function: blocks, scopes, and where an instruction belongs.

No optimizer pass runs after us, so the two that matter happen while writing. An instruction
without effects goes to the outermost scope in which its operands are known (loop-invariant code
motion), and is written once (common subexpressions): a scope remembers what stands in it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from nnc.backends.llvm.target import Target
from nnc.backends.llvm.values import Value, register_type, suffix, vector
from nnc.ir.types import DType


@dataclass(slots=True)
class Phi:
    """A merge of values; ways in are added as the blocks they come from get finished."""

    ref: str
    type: str
    ways: list[tuple[str, str]] = field(default_factory=list)

    def add(self, ref: str, block: Block) -> None:
        """Add the value that arrives from ``block``."""
        self.ways.append((ref, block.name))

    def __str__(self) -> str:
        return f"{self.ref} = phi {self.type} " + ", ".join(f"[{r}, %{b}]" for r, b in self.ways)


@dataclass(slots=True)
class Block:
    """A basic block. Lines may be added until the function is printed, also once it has an end."""

    name: str
    phis: list[Phi] = field(default_factory=list)
    lines: list[str] = field(default_factory=list)
    end: str = ""


@dataclass(slots=True)
class Scope:
    """A region entered once per turn of a loop or side of a branch.

    ``block`` is where its next instruction goes. ``fence``: a side of a branch, out of which
    nothing that costs time is moved.
    """

    block: Block
    fence: bool = False
    seen: dict[str, str] = field(default_factory=dict)


class Builder:
    """The function being written, and the declarations it needs."""

    def __init__(self, target: Target, declarations: dict[str, str]) -> None:
        self.target = target
        self.declarations = declarations
        self.blocks: list[Block] = []
        self.allocations: list[str] = []
        self._names = 0
        self.scopes: list[Scope] = [Scope(self.new_block("entry"))]

    # names and blocks ---------------------------------------------------------------------------

    def name(self, stem: str = "v") -> str:
        """Return a new local name, without its ``%``."""
        self._names += 1
        return f"{stem}{self._names}"

    def new_block(self, stem: str) -> Block:
        """Add an empty block."""
        block = Block(self.name(stem))
        self.blocks.append(block)
        return block

    @property
    def block(self) -> Block:
        """Where the next instruction with an effect goes."""
        return self.scopes[-1].block

    @property
    def depth(self) -> int:
        """The number of the innermost scope."""
        return len(self.scopes) - 1

    def move_to(self, block: Block) -> None:
        """Go on writing the innermost scope in ``block``."""
        self.scopes[-1].block = block

    @contextmanager
    def scope(self, block: Block, fence: bool = False) -> Iterator[Scope]:
        """Write what follows in a new scope that begins with ``block``."""
        inner = Scope(block, fence)
        self.scopes.append(inner)
        try:
            yield inner
        finally:
            self.scopes.pop()

    # instructions -------------------------------------------------------------------------------

    def pure(self, text: str, depth: int, cheap: bool = False) -> tuple[str, int]:
        """Write an instruction without effects; return its name and the scope it stands in.

        ``depth`` is the deepest scope of its operands. ``cheap`` ones may leave a branch.
        """
        if not cheap:
            for at in range(self.depth, depth, -1):
                if self.scopes[at].fence:
                    depth = at
                    break
        for at in range(depth, len(self.scopes)):
            found = self.scopes[at].seen.get(text)
            if found is not None:
                return found, at
        ref = f"%{self.name()}"
        scope = self.scopes[depth]
        scope.block.lines.append(f"{ref} = {text}")
        scope.seen[text] = ref
        return ref, depth

    def make(
        self, dtype: DType, lanes: int, text: str, operands: Iterable[Value], cheap: bool = False
    ) -> Value:
        """Write an instruction without effects and return its value."""
        ref, depth = self.pure(text, max((v.depth for v in operands), default=0), cheap)
        return Value(ref, dtype, lanes, depth)

    def once(self, text: str, remember: bool = False) -> str:
        """Write an instruction here, as a load must be; return its name.

        With ``remember`` an equal one already here or in a scope around is used instead.
        """
        if remember:
            for scope in reversed(self.scopes):
                found = scope.seen.get(text)
                if found is not None:
                    return found
        ref = f"%{self.name()}"
        self.block.lines.append(f"{ref} = {text}")
        if remember:
            self.scopes[-1].seen[text] = ref
        return ref

    def effect(self, text: str) -> None:
        """Write an instruction without a result."""
        self.block.lines.append(text)

    def allocate(self, element: str, count: int, align: int) -> str:
        """Reserve stack memory for the whole call; return its address."""
        ref = f"%{self.name('cell')}"
        self.allocations.append(f"{ref} = alloca {element}, i64 {count}, align {align}")
        return ref

    def intrinsic(self, name: str, result: str, arguments: list[str], overloads: list[str]) -> str:
        """Declare an intrinsic and return ``result @name.suffixes``, ready for a call."""
        full = ".".join([name, *(suffix(t) for t in overloads)])
        self.declarations[full] = f"declare {result} @{full}({', '.join(arguments)})"
        return f"{result} @{full}"

    def widen(self, value: Value, lanes: int) -> Value:
        """Repeat a scalar over the lanes of a vector."""
        if value.lanes == lanes:
            return value
        element = register_type(value.dtype)
        if value.is_constant:
            return Value(f"splat ({element} {value.ref})", value.dtype, lanes)
        wide = vector(element, lanes)
        first = self.make(
            value.dtype,
            lanes,
            f"insertelement {wide} poison, {element} {value.ref}, i64 0",
            [value],
        )
        text = f"shufflevector {wide} {first.ref}, {wide} poison, <{lanes} x i32> zeroinitializer"
        return self.make(value.dtype, lanes, text, [first])

    # control ------------------------------------------------------------------------------------

    def jump(self, to: Block) -> None:
        """End the current block by going to ``to``."""
        self.block.end = f"br label %{to.name}"

    def branch(self, condition: str, yes: Block, no: Block) -> None:
        """End the current block by going to one of two."""
        self.block.end = f"br i1 {condition}, label %{yes.name}, label %{no.name}"

    @contextmanager
    def only_if(self, condition: Value) -> Iterator[None]:
        """Write what follows so that it runs where ``condition`` holds, then go on for both."""
        inside, after = self.new_block("then"), self.new_block("after")
        self.branch(condition.ref, inside, after)
        with self.scope(inside, fence=True):
            yield
            self.jump(after)
        self.move_to(after)

    def phi(self, block: Block, llvm_type: str) -> Phi:
        """Add a merge at the head of ``block``."""
        made = Phi(f"%{self.name()}", llvm_type)
        block.phis.append(made)
        return made

    def text(self, head: str) -> str:
        """Return the finished function."""
        lines = [f"{head} {{"]
        for i, block in enumerate(self.blocks):
            lines.append(f"{block.name}:")
            lines += [f"  {phi}" for phi in block.phis]
            if i == 0:
                lines += [f"  {line}" for line in self.allocations]
            lines += [f"  {line}" for line in block.lines]
            lines.append(f"  {block.end or 'unreachable'}")
        return "\n".join([*lines, "}", ""])

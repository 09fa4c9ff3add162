"""Gives each element of a scattering sum one owner, by residue splitting.

Where a dim of the result is ``s*i + d*u + c``, the longer axis (say ``i``) is eliminated: with
``m = s / gcd(s, d)``, ``u = m*q + r`` for ``0 <= r < m`` and ``h = i + (d*m/s)*q``, the dim is
``s*h + d*r + c``, which no two pairs (h, r) share. What was a scatter over ``i`` and ``u`` is then
a sum over ``q`` alone for every element: the data gradient of a strided convolution becomes one
dense contraction for each residue ``r`` (``pieces``), without holes.

Subscripts ``(i + c) // k`` and ``(i + c) % k`` are split likewise, ``i + c = k*q + r``.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from math import gcd

from nnc.ir.expr import Expr, loads_in
from nnc.ir.graph import Form, Node, form_sizes
from nnc.ir.index import (
    Atom,
    Axis,
    FloorDiv,
    Mod,
    Poly,
    Size,
    axes_of,
    axis,
    ceildiv,
    dims_of,
    divides,
    floordiv,
    linear_in_axes,
    substitute,
)
from nnc.ir.prove import Facts, facts_of, proves_nonneg
from nnc.ir.scalar import make
from nnc.passes.forms import (
    conjunction,
    conjuncts,
    fresh,
    inside,
    is_empty,
    owns,
    substitute_form,
    undetermined,
)
from nnc.passes.guards import absorb, guard_condition, relax

SOLVABLE = frozenset({"sum", "prod", "max", "min", "any", "all"})
MOST_RESIDUES = 64
"""A split into more residues than this stays a scatter: each becomes a loop nest of its own."""


@dataclass(slots=True)
class _Split:
    """Axes replaced so far, the new box, and what must hold for a point to be one of the old."""

    box: dict[str, Size]
    taken: set[str]
    replaced: dict[str, Size] = field(default_factory=dict)
    needed: list[Size] = field(default_factory=list)

    def within(self, value: Size, extent: Size) -> None:
        """Require ``0 <= value < extent``."""
        self.needed += [value, extent - 1 - value]

    def axis(self, base: str, extent: Size) -> Poly:
        """Add an axis to the box."""
        name = fresh(base, self.taken)
        self.box[name] = extent
        return axis(name)


def solve(node: Node, known: Iterable[Size] = ()) -> Node:
    """Return an equal node in which each element is stored to by one point of the result's axes.

    ``node`` itself where that is so already, where it is no reducing form, or where it cannot be
    done: diagonals, subscripts made from data, weights that are not constants, two residues in
    one dim. Guards that the split needs become ``outside = 0`` of a factor where that says the
    same, else conditions. ``known`` are sizes that are at least 0.
    """
    form = node.op
    known = tuple(known)
    if not isinstance(form, Form) or form.reduce not in SOLVABLE or is_empty(form):
        return node
    if owns(form, known):
        return node
    done = _split_divisions(form, known)
    if not owns(done.form, known):
        residues = _split_residues(done, node.type.shape, known)
        if residues is None:
            return node
        done = residues
    solved = _guarded(done, node, known)
    return Node(solved, node.inputs, node.type, node.span, node.name)


@dataclass(frozen=True, slots=True)
class _Solved:
    """A form over a new box that may hold points too many: those where ``needed`` is negative."""

    form: Form
    needed: tuple[Size, ...] = ()


def _names(form: Form) -> set[str]:
    """Every axis and dim that a form mentions: names a new axis must not have."""
    names = {name for name, _ in form.axes}
    for size in (*form_sizes(form), *(extent for _, extent in form.axes)):
        names |= axes_of(size) | dims_of(size)
    return names


def _rebuilt(old: _Solved, split: _Split) -> _Solved:
    changed = substitute_form(old.form, split.replaced, split.box.items())
    facts = Facts(changed.axes)
    out = tuple(settle(o, facts) for o in changed.out)
    mapping: dict[Atom, Size] = {Axis(name): size for name, size in split.replaced.items()}
    needed = tuple(substitute(s, mapping) for s in old.needed)
    return _Solved(replace(changed, out=out), (*needed, *split.needed))


# -------------------------------------------------------------------------- floor divisions


def settle(size: Size, facts: Facts) -> Size:
    """Replace ``v // k`` by 0 and ``v % k`` by ``v`` where v is proven to lie in 0..k."""
    if isinstance(size, int):
        return size
    changes: dict[Atom, Size] = {}
    for a in size.all_atoms():
        if isinstance(a, FloorDiv | Mod):
            short = proves_nonneg(a.value, facts) and proves_nonneg(a.by - 1 - a.value, facts)
            if short:
                changes[a] = 0 if isinstance(a, FloorDiv) else a.value
    return substitute(size, changes)


def _split_divisions(form: Form, known: Sequence[Size]) -> _Solved:
    """Split each axis ``i`` of a subscript ``(i + c) // k`` or ``% k`` of the result."""
    found: dict[str, tuple[int, int]] = {}
    for o in form.out:
        for a in o.all_atoms() if isinstance(o, Poly) else ():
            if isinstance(a, FloorDiv | Mod):
                shifted = _shifted_axis(a.value)
                if shifted is not None:
                    found.setdefault(shifted[0], (shifted[1], a.by))
    if not found:
        return _Solved(form)
    extents = dict(form.axes)
    split = _Split({}, _names(form))
    for name, extent in form.axes:
        if name not in found:
            split.box[name] = extent
            continue
        c, k = found[name]
        c %= k
        q = split.axis(f"{name}_q", floordiv(extent - 1 + c, k) + 1)
        r = split.axis(f"{name}_r", k)
        split.replaced[name] = q * k + r - c
        split.within(split.replaced[name], extents[name])
    return _rebuilt(_Solved(form), split)


def _shifted_axis(value: Size) -> tuple[str, int] | None:
    """The axis and the constant of ``axis + constant``."""
    linear = linear_in_axes(value)
    if linear is None or not isinstance(linear[1], int):
        return None
    match list(linear[0].items()):
        case [(name, 1)]:
            return name, linear[1]
    return None


# -------------------------------------------------------------------------------- residues


def _split_residues(old: _Solved, shape: Sequence[Size], known: Sequence[Size]) -> _Solved | None:
    """Split the dims that several undetermined axes share; None where it cannot be done."""
    form = old.form
    own = frozenset(name for o in form.out for name in axes_of(o))
    box = replace(form, axes=tuple((n, e) for n, e in form.axes if n in own))
    left = undetermined(box, known)
    split = _Split(dict(form.axes), _names(form))
    met: set[str] = set()
    for o, size in zip(form.out, shape, strict=True):
        mine = axes_of(o) & left
        if not mine:
            continue
        if mine & met or not _split_dim(o, mine, size, split):
            return None
        met |= mine
    return _rebuilt(old, split)


def _split_dim(subscript: Size, mine: frozenset[str], size: Size, split: _Split) -> bool:
    """Split one dim of ``size``, whose subscript ``mine`` share; False where it cannot be done."""
    linear = linear_in_axes(subscript)
    if linear is None or any(True for _ in loads_in(subscript)):
        return False
    weights: dict[str, int] = {}
    rest = linear[1]
    for name, c in linear[0].items():
        if name not in mine:
            rest = rest + axis(name) * c
        elif isinstance(c, int):
            weights[name] = c
        else:
            return False
    longest = max(weights, key=lambda n: _length(split.box[n], weights[n], n))
    return _eliminate(longest, weights, rest, size, split)


def _length(extent: Size, weight: int, name: str) -> tuple[bool, int, int, str]:
    """What orders axes by length: symbolic extents are taken to be long."""
    constant = extent if isinstance(extent, int) else 0
    return not isinstance(extent, int), constant, -abs(weight), name


def _eliminate(
    longest: str, weights: Mapping[str, int], rest: Size, size: Size, split: _Split
) -> bool:
    """Replace ``longest`` by ``h`` and each other axis ``u`` by ``m*q + r``."""
    s = weights[longest]
    others = {name: w for name, w in weights.items() if name != longest}
    steps = {name: abs(s) // gcd(s, w) for name, w in others.items()}
    residues = [name for name, m in steps.items() if m > 1 and split.box[name] != 1]
    if len(residues) > 1 or any(steps[name] > MOST_RESIDUES for name in residues):
        return False
    back: Size = 0
    spread = (0, 0)
    for name, w in others.items():
        extent, m = split.box.pop(name), steps[name]
        q = split.axis(f"{name}_q", ceildiv(extent, m))
        value: Size = q * m
        if name in residues:
            value = value + split.axis(f"{name}_r", m)
            ends = (0, w * (m - 1))
            spread = (min(ends), max(ends))
        split.replaced[name] = value
        if name in residues and not divides(extent, m):
            split.needed.append(extent - 1 - value)
        back = back + q * (w * m // s)
    extent = split.box.pop(longest)
    if axes_of(rest):
        low, count = _span(back, split)
        count = count + extent - 1
    else:
        low, count = _reach(s, rest, spread, size)
    h = split.axis(f"{longest}_h", count)
    split.replaced[longest] = h + low - back
    split.within(split.replaced[longest], extent)
    return True


def _reach(s: int, rest: Size, spread: tuple[int, int], size: Size) -> tuple[Size, Size]:
    """The least h, and how many there are, with ``0 <= s*h + rest + residue < size``.

    The residue is any of the ``spread``: these are all that can store inside the dim, and they
    store to every element of it.
    """
    first, last = -rest - spread[1], size - 1 - rest - spread[0]
    if s < 0:
        first, last, s = -last, -first, -s
    low = ceildiv(first, s)
    return low, floordiv(last, s) - low + 1


def _span(back: Size, split: _Split) -> tuple[Size, Size]:
    """The least value of ``back`` and how many it takes, its axes varying freely."""
    linear = linear_in_axes(back)
    assert linear is not None
    low: Size = 0
    high: Size = 0
    for name, c in linear[0].items():
        assert isinstance(c, int)
        far = (split.box[name] - 1) * c
        low, high = (low + far, high) if c < 0 else (low, high + far)
    return low, high - low + 1


# ---------------------------------------------------------------------------------- guards


def _guarded(solved: _Solved, node: Node, known: Sequence[Size]) -> Form:
    """Turn what is needed into guards: of factors where that says the same, else conditions."""
    form = solved.form
    facts = facts_of(form, known)
    open_ = [s for s in solved.needed if not proves_nonneg(s, facts)]
    where = conjunction([*conjuncts(form.where), *(_at_least_zero(s) for s in open_)])
    plain = Facts(form.axes, tuple(known))
    drops = _drops(form, node.type.shape, plain)
    form = guard_condition(replace(form, where=where, drops=drops), node.inputs, known)
    return relax(absorb(form, node.inputs, known), node.inputs, known)


def _drops(form: Form, shape: Sequence[Size], facts: Facts) -> bool:
    """Whether a store may fall outside; where data makes the place, whether it might before."""
    pairs = list(zip(form.out, shape, strict=True))
    made = [any(True for _ in loads_in(o)) for o in form.out]
    static = [pair for pair, data in zip(pairs, made, strict=True) if not data]
    if any(made) and form.drops:
        return True
    return not inside([o for o, _ in static], [n for _, n in static], facts)


def _at_least_zero(size: Size) -> Expr:
    """The condition ``size >= 0``, with what is subtracted brought to the other side."""
    if isinstance(size, int):
        return make.const(size >= 0, make.apply("ge", make.position(size), make.position(0)).dtype)
    left: Size = 0
    right: Size = 0
    for monomial, c in size.terms:
        term: Size = c
        for a in monomial:
            term = term * a.as_poly()
        if c > 0 and any(isinstance(a, Axis) for a in monomial):
            left = left + term
        else:
            right = right - term
    if isinstance(left, int):
        return make.apply("le", make.position(right), make.position(left))
    return make.apply("ge", make.position(left), make.position(right))

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from support.graphs import GraphCase, graph_cases
from support.loop_layout import loop_layout

from nnc.ir import loops
from nnc.ir.expr import Const, Position
from nnc.ir.index import axis, dim, floordiv, mod
from nnc.ir.loops import Cell, For, If, Let, Load, Local, Op, Param, Store
from nnc.ir.loops_text import LoopSyntaxError, parse_program, print_program, print_statement
from nnc.ir.span import Span
from nnc.ir.types import DType
from nnc.passes.lower import lower
from nnc.passes.math import expand

F, I64, B = DType.F32, DType.I64, DType.BOOL
i, j, n = axis("i"), axis("j"), dim("n")

TEXT = """\
program mlp dims batch, n
site "subscript" of "ids" limit n at "m.nn":3:9
buffer "state:*": f32[70] state
buffer "state:w": f32[64] state inside "state:*" + 6
buffer "input:ids": i64[batch] input
buffer y: f32[batch, n] output
function grow(r a: f32[m, $n], rw "if": f32[2]) sizes m, n
  for k < m seq
    "if"[1] = "if"[1] + a[k, 0]
kernel k3(r ids: i64[batch], w y: f32[batch, n], r w: f32[64]) dims batch, n grid b at "m.nn":0:70
  let e = ids[b]
  check i64{e} < i64{n} site 0 value e
  cell s: f32[2] stack = 0.0f32
  call grow(w[e], s[0]; 2, 3)
  for j = 16*b count 16 vector
    cell acc: f32 lanes = f32(ids[b]) * -1.0f32
    for k < ((n + 3)//4) seq
      acc[] = mad(acc[], w[k], (w[j] if j2 else 0.5f32)) where i64{k} < i64{n}
    y[b, j] = fold.add(acc[])
    if f32{b} > 0.0f32 & true
      y[b, ((j)%8)] = -acc[] / 2.0f32
    else
      sync
entry main dims batch
  when batch - 2 >= 0
    repeat t < batch
      launch k3("input:ids", y, "state:w") over t + 1
      barrier
  else
    launch k3("input:ids", y, "state:w") over 1
"""


def test_text_prints_as_it_was_read():
    text = TEXT.replace("j2", "i64{j} < 64i64")
    program = parse_program(text)
    assert print_program(program) == text
    assert parse_program(print_program(program)) == program
    assert program.kernels[0].span == Span("m.nn", 0, 70)
    assert program.functions[0].params[0].extents == (axis("m"), dim("n"))


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        ("kernel k()\n  x[0] = 1.0f32 +\n", "line 3: a name expected"),
        ("kernel k()\n  let a = b\n", "no value is called b"),
        ("kernel k()\n  let a = 1.0f32 + 1i64\n", "add: operands of one type"),
        ("kernel k()\n  let a = 1.0\n", "1.0 needs a type"),
        ("kernel k(r x: f33)\n", "an element type expected, not 'f33'"),
        ("kernel k()\n    sync\n  sync\n", "unexpected indentation"),
        ("kernel k()\n  sync sync\n", "unexpected 'sync'"),
        ("widget\n", "a declaration expected"),
    ],
)
def test_faults_tell_the_line(bad, message):
    with pytest.raises(LoopSyntaxError, match=message):
        parse_program("program p\n" + bad)


def of_body(*body: loops.Stmt) -> loops.Program:
    params = (Param("x", F, (n, 8), "r"), Param("y", F, (n, 8), "rw"))
    buffers = tuple(loops.Buffer(p.name, F, p.extents, "state") for p in params)
    kernel = loops.Kernel("k", params, ("n",), ("i",), body)
    entry = loops.Entry("main", ("n",), (loops.Launch("k", ("x", "y"), (n,)),))
    return loops.Program("p", ("n",), buffers, (), (kernel,), (entry,))


LITERALS = [
    Const(v, t)
    for t in (F, DType.F64, DType.BF16)
    for v in (0.0, -0.0, 1e-45, -2.5, 1e30, float("inf"), float("-inf"), float("nan"))
] + [Const(-3, I64), Const(2**64 - 1, DType.U64), Const(False, B), Const(True, B)]


def test_every_literal_survives():
    for literal in LITERALS:
        for value in (literal, Op("select", (Const(True, B), literal, literal), literal.dtype)):
            program = of_body(Let("a", value))
            assert parse_program(print_program(program)) == program


X = Load("x", (i, j), F)
EXPRESSIONS = st.recursive(
    st.sampled_from([X, Const(1.5, F), Const(-1.5, F), Position(j + 1, F), Local("v", F)]),
    lambda inner: st.one_of(
        st.builds(
            lambda op, a, b: Op(op, (a, b), F),
            st.sampled_from(["add", "sub", "mul", "div", "max", "pow"]),
            inner,
            inner,
        ),
        st.builds(lambda op, a: Op(op, (a,), F), st.sampled_from(["neg", "exp", "abs"]), inner),
        st.builds(
            lambda op, a, b, c: Op("select", (Op(op, (a, b), B), c, a), F),
            st.sampled_from(["lt", "eq", "ge"]),
            inner,
            inner,
            inner,
        ),
        st.builds(lambda a: Op("cast", (Op("bitcast", (a,), DType.I32),), F), inner),
        st.builds(lambda a, b: Load("x", (i, j), F, Op("lt", (a, b), B), b), inner, inner),
        st.builds(lambda a: loops.Fold("add", a, F), inner),
    ),
    max_leaves=25,
)


@settings(max_examples=200, deadline=None, derandomize=True)
@given(EXPRESSIONS, EXPRESSIONS)
def test_random_expressions_survive(value, mask):
    store = Store("y", (i, j), value, Op("lt", (mask, value), B))
    program = of_body(For("j", 8, "vector", (Let("v", X), store)))
    assert parse_program(print_program(program)) == program


def test_shared_and_deep_expressions_stay_short():
    e: loops.Expr = X
    for _ in range(400):
        e = Op("add", (e, e), F)
    program = of_body(For("j", 8, "seq", (Store("y", (i, j), e),)))
    text = print_program(program)
    assert len(text) < 12_000
    assert print_program(parse_program(text)) == text  # == on the programs would never end
    deep: loops.Expr = X
    for _ in range(2000):
        deep = Op("mad", (deep, X, Const(1, F)), F)
    text = print_program(of_body(For("j", 8, "seq", (Store("y", (i, j), deep),))))
    assert print_program(parse_program(text)) == text


WORDS = ["seq", "vector", "lane", "lanes", "count", "where", "site", "value", "over", "dims"]
WORDS += ["grid", "at", "sizes", "of", "if", "else", "for", "f32", "true", "nan", "sync", "a b"]


@pytest.mark.parametrize("name", WORDS)
def test_any_word_may_be_a_name(name):
    place = (axis(name), axis(name) + dim("n"))
    value = Load(name, place, F, Op("lt", (Position(axis(name)), Position(n)), B), Const(0, F))
    inner = Store(name, place, value, Op("lt", (Position(axis(name)), Position(axis(name))), B))
    loop = For(name, axis(name) + 3, "seq", (inner,), axis(name))
    let = If(Const(True, B), (Let(name, Const(1, F)), Let("z", Local(name, F))))
    param = Param(name, F, (n, dim(name)), "rw")
    kernel = loops.Kernel(name, (param,), ("n", name), (name,), (loop, let))
    buffer = loops.Buffer(name, F, (n, dim(name)), "state")
    launch = loops.Repeat(name, dim(name), (loops.Launch(name, (name,), (axis(name),)),))
    entry = loops.Entry(name, ("n", name), (loops.When((dim(name),), (launch,), (launch,)),))
    program = loops.Program(name, ("n", name), (buffer,), (), (kernel,), (entry,))
    assert parse_program(print_program(program)) == program


def test_axes_and_dims_of_one_name_are_told_apart():
    index = (dim("i") - 1, floordiv(i + 1, 2) * n + mod(axis("z"), 4))
    program = of_body(
        Cell("c", F, (2, 3), None, "stack"), If(Const(True, B), (Store("y", index, X),))
    )
    text = print_program(program)
    assert "y[$i - 1, ((i + 1)//2)*n + ((@z)%4)] = x[i, @j]" in text
    assert parse_program(text) == program
    assert print_statement(For("j", n, "seq", ())) == "for j < $n seq"


@settings(max_examples=60, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
@given(graph_cases())
def test_lowered_programs_survive(case: GraphCase):
    program = lower("test", {"main": case.graph}, loop_layout(case.graph))
    assert parse_program(print_program(program)) == program
    program = expand(program)
    assert parse_program(print_program(program)) == program

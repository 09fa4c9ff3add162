"""Each rule of loop programs, by a program that breaks it; lowered programs keep them all."""

import pytest
from hypothesis import HealthCheck, given, settings
from support.graphs import GraphCase, graph_cases
from support.loop_layout import loop_layout

from nnc.ir.loops_text import parse_program
from nnc.ir.loops_verify import VerifyError, verify
from nnc.passes.lower import lower
from nnc.passes.math import expand

HEAD = """\
program p dims n
site "subscript" of "x" limit n
buffer x: f32[n, 8] frozen
buffer y: f32[n, 8] state
buffer ids: i64[n] input
function twice(r a: f32[8], rw b: f32[m]) sizes m
  b[0] = a[0] + a[1]
kernel k(r x: f32[n, 8], w y: f32[n, 8], r ids: i64[n]) dims n grid i
"""
TAIL = """\
entry main dims n
  launch k(x, y, ids) over n
"""


def check(body: str, head: str = HEAD, tail: str = TAIL) -> None:
    lines = "".join(f"  {line}\n" for line in body.splitlines())
    verify(parse_program(head + lines + tail))


GOOD = [
    "let e = ids[i]\ny[e, 0] = x[e, 7]",
    "for j < 8 vector\n  y[i, j] = exp(x[i, j]) where i64{j} < 8i64",
    "for j < 8 vector\n  cell s: f32 lanes = x[i, j]\n  y[i, 0] = fold.max(s[])",
    "cell s: f32[2] = 0.0f32\nfor k < 2 unroll\n  s[k] = f32{k}\ny[i, 0] = s[1]",
    "cell s: f32[2] stack\nfor k < n seq\n  s[((k)%2)] = f32{k}\ny[i, 0] = s[1]",
    "cell s: f32[4] shared\nfor j < 4 lane\n  s[j] = 1.0f32\n  sync",
    "cell s: f32[4] = 0.0f32\ncall twice(x[i, 0], s[1]; 3)",
    "check ids[i] < i64{n} site 0 value ids[i]",
    "for j < 8 vector\n  y[i, j] = 1.0f32\nfor j < 8 seq\n  y[i, j] = 2.0f32",
]


@pytest.mark.parametrize("body", GOOD)
def test_good_bodies_pass(body):
    check(body)


BAD = [
    ("y[i, q] = 1.0f32", "dim q is not known here"),
    ("y[@q, 0] = 1.0f32", "axis q is not known here"),
    ("y[i] = 1.0f32", "y takes 2 subscripts"),
    ("z[i] = 1.0f32", "no tensor or cell is called z"),
    ("x[i, 0] = 1.0f32", "x may not be stored to"),
    ("let a = y[i, 0]", "y may not be loaded"),
    ("y[i, 0] = 1.0f64", "f32 expected, not f64"),
    ("y[i, 0] = 1.0f32 where 1i64", "bool expected, not i64"),
    ("y[i, 0] = (x[i, 0] if true else 0.0f64)", "f32 expected, not f64"),
    ("let a = add:f64(x[i, 0], x[i, 1])", "f32 expected, not f64"),
    ("let a = add:f32(x[i, 0], ids[i])", "operands of one type"),
    ("let a = foo:f32(x[i, 0])", "no operation is called foo"),
    ("let a = 1i64\nlet a = 2i64", "a is bound twice"),
    ("for i < 4 seq\n  sync", "i is bound twice"),
    ("if x[i, 0]\n  y[i, 0] = 1.0f32", "bool expected, not f32"),
    ("for j < 6 vector\n  y[i, j] = 1.0f32", "a vector loop may not have the extent 6"),
    ("for j < n vector\n  y[i, j] = 1.0f32", "a vector loop may not have the extent n"),
    ("for j < n unroll\n  y[i, j] = 1.0f32", "an? unroll loop may not have the extent n"),
    ("for j < 8 whirl\n  y[i, j] = 1.0f32", "a whirl loop"),
    ("for j < 8 vector\n  for k < 2 vector\n    y[i, j] = 1.0f32", "inside the vector loop over j"),
    ("for j < 8 vector\n  y[i, 0] = f32{j}", "a vector is stored to one element"),
    ("for j < 8 vector\n  y[i, 0] = 1.0f32 where i64{j} < 1i64", "a vector is stored to one"),
    ("for j < 8 vector\n  if i64{j} < 1i64\n    y[i, j] = 1.0f32", "depends on the vector axis j"),
    ("for j < 8 vector\n  for k < j seq\n    y[i, j] = 1.0f32", "bounds of a loop differ"),
    ("for j < 8 vector\n  cell s: f32 = f32{j}", "without lanes starts as a vector"),
    ("cell s: f32 lanes = 0.0f32", "lanes outside a vector loop"),
    ("cell s: f32 heap = 0.0f32", "no space for cells is called heap"),
    ("cell s: f32[8] = 0.0f32\ny[i, 0] = s[i]", "i in a subscript of the registers s"),
    ("for j < 8 vector\n  cell s: f32[8] lanes = 0.0f32\n  y[i, j] = s[j]", "not chosen by"),
    ("for j < 8 vector\n  let e = ids[j]\n  y[i, j] = x[e, 0]", "differs between lanes stands in"),
    ("y[i, 0] = fold.add(x[i, 0])", "no fold by add here"),
    ("check ids[i] < 1i64 site 1 value ids[i]", "a fault has a site"),
    ("call thrice(x[i, 0]; 3)", "there is no function thrice"),
    ("cell s: f32[4] = 0.0f32\ncall twice(x[i, 0], s[1])", "twice takes other arguments"),
    ("call twice(x[i, 0], y[i, 0]; 3)", "y may not be loaded"),
    ("sync", "lanes meet outside a lane loop"),
]


@pytest.mark.parametrize(("body", "message"), BAD)
def test_bad_bodies_are_refused(body, message):
    with pytest.raises(VerifyError, match=message):
        check(body)


def test_the_fault_shows_where_it_is():
    with pytest.raises(VerifyError) as fault:
        check("for j < 8 seq\n  y[i, j, 0] = x[i, j]")
    assert str(fault.value) == "kernel k: y takes 2 subscripts\n  y[i, j, 0] = x[i, j]"


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("buffer x:", "buffer y:", "two of one name: buffer y"),
        ("[n, 8] frozen", "[m, 8] frozen", "buffer x: dim m is not known"),
        (" frozen", " attic", "no space is called attic"),
        ("8] state", "8] state inside x + -1", "it does not fit in x"),
        ("8] state", "8] state inside x + 1", "does not fit in x"),
        ("i64[n] input", "i64[n] input inside x + 0", "no i64 buffer x before it"),
        ("(r x: f32[n, 8]", "(rw x: f32[n, 8]", "writes x, which is frozen"),
        ("(r x: f32[n, 8]", "(r x: f64[n, 8]", "x does not fit parameter x of k"),
        ("(r x: f32[n, 8]", "(r x: f32[n, n]", None),
        ("(r x: f32[n, 8]", "(r x: f32[8*n + 1]", "x does not fit parameter x of k"),
        ("(r x: f32[n, 8]", "(r x: f32[n, 8], r z: f32[n]", "takes other views"),
        ("(r x: f32[n, 8]", "(q x: f32[n, 8]", "no access is called q"),
        ("(x, y, ids)", "(x, z, ids)", "there is no buffer z"),
        ("launch k(", "launch l(", "there is no kernel l"),
        ("over n", "over m", "dim m is not known in m"),
        ("over n", "over n, n", "another grid"),
        ("dims n\n  launch", "\n  launch", "dim n is not known in n"),
        ("dims n\n  launch", "dims n, m\n  launch", "the program has no dim m"),
        ("ids: i64[n]) dims", "ids: i64[n], w v: f32[n, 8]) dims", "takes other views"),
    ],
)
def test_programs_and_launches(old, new, message):
    text = HEAD + "  y[i, 0] = 1.0f32\n" + TAIL
    assert old in text
    changed = text.replace(old, new)
    if message is None:
        verify(parse_program(changed))
        return
    with pytest.raises(ValueError, match=message):
        verify(parse_program(changed))


def test_one_buffer_is_not_written_through_two_parameters():
    head = HEAD.replace("(r x: f32[n, 8]", "(rw x: f32[n, 8]")
    with pytest.raises(VerifyError, match="writes y through two parameters"):
        check("y[i, 0] = 1.0f32", head, TAIL.replace("(x,", "(y,"))
    check("y[i, 0] = x[i, 0]", HEAD, TAIL.replace("(x,", "(y,"))


def test_functions_call_only_earlier_ones():
    head = HEAD.replace("  b[0] = a[0] + a[1]", "  call twice(a[0], b[0]; m)")
    with pytest.raises(VerifyError, match="twice, which is not defined before it"):
        check("y[i, 0] = 1.0f32", head)


def test_operations_that_backends_lack_can_be_refused():
    program = parse_program(HEAD + "  y[i, 0] = exp(x[i, 0])\n" + TAIL)
    verify(program)
    with pytest.raises(VerifyError, match="no operation is called exp here"):
        verify(program, native=True)
    verify(expand(program), native=True)


@settings(max_examples=60, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
@given(graph_cases(steps=8))
def test_lowered_programs_pass(case: GraphCase):
    program = lower("test", {"main": case.graph}, loop_layout(case.graph))
    verify(program)
    verify(expand(program), native=True)

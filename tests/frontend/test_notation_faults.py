"""What index notation refuses, and what it says."""

from __future__ import annotations

import numpy as np
import pytest
from support.notation import Program

from nnc.frontend.elaborate.faults import Fault


def program() -> Program:
    tensors = {
        "x": (np.zeros(5), "n"),
        "y": (np.zeros(6), "m"),
        "t": (np.zeros((5, 6)), "nm"),
        "ids": (np.zeros(5, np.int32), "n"),
        "f": (np.zeros(()), ()),
        "ok": (np.ones(5, bool), "n"),
    }
    return Program(tensors, {"k": 3})


# statement, code, what is underlined, a part of the rest
FAULTS = [
    ("a[i] = 1.0", "E0301", "i", "i subscripts nothing"),
    ("a[i, j] = x[i]", "E0301", "j", "j < n"),
    ("a[i] = if i < 3 then x[i + 1] else 0", "E0301", "i", "every read by i is guarded"),
    ("a[i] = x[i % 3]", "E0301", "i", "no read by i tells one"),
    ("a[i] = x[i] + y[i]", "E0302", "i", "a dim of x of size n"),
    ("a[i] = x[i + 1] + y[i + 1]", "E0302", "i + 1", "i < n - 1"),
    ("a[i < n, i < 3] = x[i]", "E0302", "3", "again"),
    ("a[i] = x[i] + sum[i](y[i])", "E0303", "i", "an index here"),
    ("a[n] = x[n]", "E0303", "n", "a dim"),
    ("a[k] = x[k]", "E0303", "k", "config"),
    ("a[i] = sum[n](x[n])", "E0303", "n", "a dim"),
    ("a[i, j] = t[i*j, 0] + x[i] + y[j]", "E0304", "i*j", "i*j is a product"),
    ("a[i] = t[i]", "E0305", "t[i]", "t: f64[n, m]"),
    ("a[i] = t[i, 0, 0]", "E0305", "t[i, 0, 0]", "3 subscripts"),
    ("a[.., i] = f + t[.., i, i, i]", "E0305", "t[.., i, i, i]", "at least 3"),
    ("a[i] = x[i + 1] - x[i]", "E0306", "i + 1", "reaches n, and the dim has size n"),
    ("a[i] = x[i + 1] - x[i]", "E0306", "i + 1", "bind i < n - 1"),
    ("a[i < n] = x[i - 1]", "E0306", "i - 1", "reaches -1"),
    ("a[i < n] = x[i - 1]", "E0306", "i - 1", "if i - 1 >= 0 then x[i - 1] else 0"),
    ("a[i < n] = sum[u < 3](x[i + u - 1])", "E0306", "i + u - 1", "reaches -1 and n"),
    ("a[i] = x[i] + x[2]", "E0306", "2", "`require 2 < n`"),
    ("a[i] = t[i, ids[i + 1]]", "E0306", "i + 1", "ids may be read outside"),
    ("a[i] = if x[i] > 0 then x[i + 1] else 0", "E0306", "i + 1", "conditions around it"),
    ("a[i] = if i > 1 then x[i - 3] else x[i]", "E0306", "i - 3", "i - 3 >= 0"),
    ("a[i] = sum[j](t[i, :])", "E0307", ":", "scalar"),
    ("a[i] = i[0] + x[i]", "E0307", "i", "index"),
    ("a[i] = x[i] + y", "E0202", "x[i]", "subscript the tensor"),
    ("a[i] = x[i] + x[f]", "E0308", "f", "f64"),
    ("a[i] = x[ok[i]]", "E0308", "ok[i]", "bool"),
    ("a[i] = x[i] + x[0.5]", "E0308", "0.5", "whole number"),
    ("a[i] = sum[i + 1](x[i])", "E0309", "i + 1", "sum[i < n](...)"),
    ("a[i] = sum[j <= i](x[j])", "E0309", "j <= i", "where"),
    ("a[i] = sum[j < ids[i]](x[j])", "E0309", "ids[i]", "a filter"),
    ("a[i] = sum[j < i](x[j])", "E0309", "i", "filter"),
    ("a[i] = sum[j](x[j], y[j])", "E0309", "sum[j](x[j], y[j])", "axis = 0"),
    ("a[i:2] = x[i]", "E0309", "i:2", "index for each dim"),
    ("a[i] = x[i where i > 2]", "E0309", "i > 2", "if ..."),
    ("a[i] = x[..]", "E0310", "..", "on the left"),
    ("a[.., ..] = x[..]", "E0310", "..", "twice"),
    ("a[..] = t[.., ..]", "E0310", "..", "twice"),
    ("a[i + u] = x[i] * y[u]", "E0311", "i + u", "add up"),
    ("a[i % 2] = x[i]", "E0311", "i % 2", "several elements"),
    ("a[i + u] = 2*sum[j](x[i] * y[u] * t[i, j])", "E0311", "i + u", "several elements"),
    ("a[i - 1] = x[i]", "E0312", "i - 1", "i - 1 < n"),
    ("a[ids[e]] = x[e]", "E0312", "ids[e]", "sum[e where ids[e] == v]"),
    ("a[i] = mean[j](ids[j]) + x[i]", "E0313", "ids[j]", "float(x)"),
    ("a[i] = max[j](ok[j])", "E0313", "ok[j]", "any, all and sum"),
    ("a[i] = any[j](x[j])", "E0202", "x[j]", "a truth value"),
    ("a[i] = x[2*i + 1] + x[i + j]", "E0315", "j", "sum[j](...)"),
    ("a[i] = x[i] + x[j]", "E0315", "j", "nothing binds the index j"),
]


@pytest.mark.parametrize(("statement", "code", "underlined", "part"), FAULTS)
def test_fault(statement: str, code: str, underlined: str, part: str) -> None:
    found, text, source = program().fault(statement)
    assert found.code == code, text
    assert found.span is not None
    assert source.excerpt(found.span) == underlined, text
    assert part in text, text


def test_every_wrong_read_of_a_statement_is_told() -> None:
    it = program()
    with pytest.raises(Fault) as first:
        it.elaborate("a[i < n] = x[i + 1] + x[i - 1]")
    it.elab.report(first.value)
    assert [d.code for d in it.elab.diagnostics] == ["E0306", "E0306"]


def test_a_fault_shows_range_and_dim() -> None:
    _, text, _ = program().fault("a[i] = x[i + 1] - x[i]")
    assert text == (
        "error[E0306]: x may be read outside\n"
        "  --> t.nn:2:14\n"
        "   |\n"
        " 2 |     a[i] = x[i + 1] - x[i]\n"
        "   |              ^^^^^ i + 1 reaches n, and the dim has size n\n"
        "   |                         - i runs over a dim of size n\n"
        "   = the dim has size n: its subscripts are 0 to n - 1\n"
        "   = i + 1 comes to 1 to n\n"
        "help: guard it: if i + 1 < n then x[i + 1] else 0; or bind i < n - 1"
    )

"""Functions of the library that came after the first ones, against PyTorch and scikit-learn."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support.library import agree
from tests.support.nets import net

torch = pytest.importorskip("torch")
F = torch.nn.functional
RNG = np.random.default_rng(11)

ACTIVATIONS: dict[str, Any] = {
    "relu6(x)": F.relu6,
    "hardtanh(x, -0.5, 2)": lambda x: F.hardtanh(x, -0.5, 2),
    # PyTorch's own gradients of these hold constants in single precision
    "hardsigmoid(x)": lambda x: F.relu6(x + 3) / 6,
    "hardswish(x)": lambda x: x * F.relu6(x + 3) / 6,
    "selu(x)": F.selu,
    "celu(x, 0.7)": lambda x: torch.where(x > 0, x, 0.7 * torch.expm1(x / 0.7)),
    "mish(x)": F.mish,
    "log_sigmoid(x)": F.logsigmoid,
    "softsign(x)": F.softsign,
    "tanh_shrink(x)": F.tanhshrink,
    "soft_shrink(x, 0.3)": lambda x: F.softshrink(x, 0.3),
    "hard_shrink(x, 0.3)": lambda x: F.hardshrink(x, 0.3),
    "softmin(x, axis = 0)": lambda x: F.softmin(x, 0),
    "sign(x) * x": lambda x: torch.sign(x) * x,
    "flip(x, axis = 0)": lambda x: x.flip(0),
    "roll(x, -2)": lambda x: x.roll(-2, -1),
    "roll(x, 1, axis = 0)": lambda x: x.roll(1, 0),
    "tril(x, -1)": lambda x: x.tril(-1),
    "triu(x, 1)": lambda x: x.triu(1),
    "normalize(x)": lambda x: F.normalize(x, dim=-1),
    "cumsum(x, axis = 0)": lambda x: x.cumsum(0),
    "cumprod(x)": lambda x: x.cumprod(-1),
    "sort(x)": lambda x: x.sort(-1).values,
    "sort(x, axis = 0, descending = true)": lambda x: x.sort(0, descending=True).values,
}


def test_functions_of_one_tensor() -> None:
    x = RNG.normal(0, 3, (5, 7))
    for names in (list(ACTIVATIONS)[:14], list(ACTIVATIONS)[14:]):
        agree(
            f"y = stack({', '.join(names)})",
            {"x": x},
            lambda t, names=names: torch.stack([ACTIVATIONS[n](t["x"]) for n in names]),
        )


OTHERS: dict[str, Any] = {
    "glu(x, axis = 1)": lambda x: F.glu(x, 1),
    "logsumexp(x, axis = 1)": lambda x: x.logsumexp(1),
    "logsumexp(x * 300, keep = true)": lambda x: (x * 300).logsumexp(-1, keepdim=True),
    "norm(x, axis = 0)": lambda x: x.norm(dim=0),
    "norm(x, p = 3, keep = true)": lambda x: x.norm(p=3, dim=-1, keepdim=True),
    "repeat_elements(x, 3, axis = 1)": lambda x: x.repeat_interleave(3, 1),
    "tile(x, 2, axis = 0)": lambda x: x.tile(2, 1, 1),
    "diagonal_matrix(x[0])": lambda x: x[0].diag_embed(),
    "diagonal(x[:, :, 0:4])": lambda x: x[:, :, :4].diagonal(dim1=1, dim2=2),
    "trace(x[0, :, 0:4])": lambda x: x[0, :, :4].trace(),
}


@pytest.mark.parametrize("call", OTHERS)
def test_functions_with_results_of_other_shapes(call: str) -> None:
    agree(f"y = {call}", {"x": RNG.normal(0, 1, (3, 4, 5))}, lambda t: OTHERS[call](t["x"]))


@given(st.integers(0, 2), st.integers(1, 4), st.booleans())
@settings(max_examples=4)
def test_gather_scatter_and_take(axis: int, many: int, negative: bool) -> None:
    rng = np.random.default_rng(many)
    x = rng.normal(0, 1, (3, 2, 4))
    shape = [3, 2, 4]
    shape[axis] = many
    ids = rng.integers(0, x.shape[axis], shape).astype(np.int32)
    row = rng.integers(0, x.shape[axis], many).astype(np.int32)
    values = rng.normal(0, 1, shape)
    at = axis - 3 if negative else axis
    agree(f"y = gather(x, ids, {at})", {"x": x, "ids": ids},
          lambda t: t["x"].gather(axis, t["ids"].long()))  # fmt: skip
    agree(f"y = scatter_add(x, ids, v, {at})", {"x": x, "ids": ids, "v": values},
          lambda t: t["x"].scatter_add(axis, t["ids"].long(), t["v"]))  # fmt: skip
    agree(f"y = take(x, ids, {at})", {"x": x, "ids": row},
          lambda t: t["x"].index_select(axis, t["ids"].long()))  # fmt: skip


@pytest.mark.parametrize("n", [1, 65, 4097])
def test_sums_and_products_of_all_before(n: int) -> None:
    x = RNG.normal(0, 1, (2, n))
    agree("y = cumsum(x)", {"x": x}, lambda t: t["x"].cumsum(-1))
    near_one = RNG.uniform(0.9, 1.1, (2, n))
    near_one[0, n // 2] = 0 if n > 1 else 1
    agree("y = cumprod(x)", {"x": near_one}, lambda t: t["x"].cumprod(-1))


@given(st.integers(1, 9), st.booleans(), st.integers(0, 1), st.data())
@settings(max_examples=5)
def test_sorting_is_stable(n: int, descending: bool, axis: int, data: st.DataObject) -> None:
    k = data.draw(st.integers(1, n))
    x = np.random.default_rng(n).integers(0, 4, (n, n)).astype(np.float64)
    x[0, n // 2] = np.nan
    program = net(
        f"model M {{\ninput x: float[{n}, {n}]\n"
        f"output order = argsort(x, {axis}, descending = {str(descending).lower()})\n"
        f"best, places = top_k(where(isnan(x), -1, x), {k}, {axis})\noutput best\noutput places\n}}"
    )
    found = program(x=x.astype(np.float32))
    given_ = torch.tensor(x)
    order = given_.sort(dim=axis, descending=descending, stable=True).indices
    np.testing.assert_array_equal(found["order"], order.numpy())
    clean = torch.nan_to_num(given_, nan=-1.0)
    firsts = clean.sort(dim=axis, descending=True, stable=True)
    np.testing.assert_array_equal(found["places"], firsts.indices.narrow(axis, 0, k).numpy())
    np.testing.assert_array_equal(found["best"], firsts.values.narrow(axis, 0, k).numpy())


def test_the_best_of_one_element_is_read_where_it_lies() -> None:
    """What is read where the data says must be in memory, in a kernel of one point too."""
    program = net(
        "model M {\ninput x: float[1, 1]\nbest, places = top_k(where(isnan(x), -1, x), 1, 0)\n"
        "output best\noutput places\n}"
    )
    for value, best in [(7.0, 7.0), (-3.0, -3.0), (np.nan, -1.0)]:
        assert program(x=np.full((1, 1), value, np.float32))["best"] == best


def test_the_gradient_of_top_k_goes_where_its_elements_came_from() -> None:
    x = RNG.normal(0, 1, (3, 6))
    agree("y, places = top_k(x, 2)", {"x": x}, lambda t: t["x"].topk(2, -1).values)


def test_what_is_not_finite_is_told() -> None:
    x = np.array([0.0, 1.0, -np.inf, np.inf, np.nan], np.float32)
    found = net(
        "model M {\ninput x: float[n]\noutput nan = isnan(x)\noutput inf = isinf(x)\n"
        "output finite = isfinite(x)\noutput s = sign(x)\n}"
    )(x=x)
    np.testing.assert_array_equal(found["nan"], np.isnan(x))
    np.testing.assert_array_equal(found["inf"], np.isinf(x))
    np.testing.assert_array_equal(found["finite"], np.isfinite(x))
    np.testing.assert_array_equal(found["s"][:4], np.sign(x)[:4])


A, B, C = (RNG.normal(0, 1, (6, 4)) for _ in range(3))
UNIT = RNG.uniform(0, 1, (6, 4))
IDS = np.array([0, 3, 1, 1, 2, 3], np.int32)
LIKE = np.array([1.0, -1, 1, 1, -1, -1])
WEIGHT = np.array([0.5, 1.0, 2.0, 0.3])
FIXED = ("l", "v", "w", "t")
"""What losses take as given: no gradient goes to these."""
LOSSES: list[tuple[str, dict[str, Any], Any]] = [
    ("nll(log_softmax(a), k)", {"a": A, "k": IDS},
     lambda t: F.cross_entropy(t["a"], t["k"].long())),
    ("kl_divergence(log_softmax(a), softmax(b))", {"a": A, "b": B},
     lambda t: F.kl_div(F.log_softmax(t["a"], -1), F.softmax(t["b"], -1), reduction="batchmean")),
    ("weighted_cross_entropy(a, k, w, ignore = 1)", {"a": A, "k": IDS, "w": WEIGHT},
     lambda t: F.cross_entropy(t["a"], t["k"].long(), t["w"].detach(), ignore_index=1)),
    ("masked_cross_entropy(a, k, 3)", {"a": A, "k": IDS},
     lambda t: F.cross_entropy(t["a"], t["k"].long(), ignore_index=3)),
    ("weighted_binary_cross_entropy(a, t, 0.7, 3)", {"a": A, "t": UNIT},
     lambda t: 0.7 * F.binary_cross_entropy_with_logits(
         t["a"], t["t"], pos_weight=torch.tensor(3.0, dtype=torch.float64))),
    ("mean(cosine_similarity(a, b))", {"a": A, "b": B},
     lambda t: F.cosine_similarity(t["a"], t["b"], -1).mean()),
    ("cosine_embedding(a, b, l, 0.1)", {"a": A, "b": B, "l": LIKE},
     lambda t: F.cosine_embedding_loss(t["a"], t["b"], t["l"].detach(), 0.1)),
    ("triplet(a, b, c, margin = 0.5)", {"a": A, "b": B, "c": C},
     lambda t: F.triplet_margin_loss(t["a"], t["b"], t["c"], 0.5)),
    ("hinge(a[:, 0], l)", {"a": A, "l": LIKE},
     lambda t: (1 - t["l"].detach() * t["a"][:, 0]).clamp(min=0).mean()),
    ("multi_margin(a, k)", {"a": A, "k": IDS},
     lambda t: F.multi_margin_loss(t["a"], t["k"].long())),
    ("poisson_nll(a, t)", {"a": A, "t": UNIT},
     lambda t: F.poisson_nll_loss(t["a"], t["t"], log_input=True)),
    ("gaussian_nll(a, b, u)", {"a": A, "b": B, "u": UNIT + 0.1},
     lambda t: F.gaussian_nll_loss(t["a"], t["b"], t["u"])),
    ("margin_ranking(a[:, 0], b[:, 0], l, 0.2)", {"a": A, "b": B, "l": LIKE},
     lambda t: F.margin_ranking_loss(t["a"][:, 0], t["b"][:, 0], t["l"].detach(), 0.2)),
    ("dice(u, v)", {"u": UNIT, "v": (C > 0) * 1.0},
     lambda t: 1 - (2 * (t["u"] * t["v"].detach()).sum() + 1)
     / (t["u"].sum() + t["v"].detach().sum() + 1)),
    ("focal(a, v)", {"a": A, "v": (C > 0) * 1.0},
     lambda t: (torch.where(t["v"] > 0, 0.25, 0.75)
                * torch.where(t["v"] > 0, 1 - t["a"].sigmoid(), t["a"].sigmoid()) ** 2
                * F.binary_cross_entropy_with_logits(t["a"], t["v"].detach(),
                                                     reduction="none")).mean()),
    ("contrastive(a, b, l, 3)", {"a": A, "b": B, "l": LIKE},
     lambda t: torch.where(t["l"] > 0, ((t["a"] - t["b"]) ** 2).sum(-1),
                           (3 - (t["a"] - t["b"]).norm(dim=-1)).clamp(min=0) ** 2).mean() / 2),
    ("log_cosh(a, b)", {"a": A, "b": B}, lambda t: (t["a"] - t["b"]).cosh().log().mean()),
    ("info_nce(a, b, 0.5)", {"a": A, "b": B}, lambda t: 0.5 * sum(
        F.cross_entropy(z, torch.arange(6)) for z in (
            F.normalize(t["a"], dim=1) @ F.normalize(t["b"], dim=1).T / 0.5,
            F.normalize(t["b"], dim=1) @ F.normalize(t["a"], dim=1).T / 0.5))),
]  # fmt: skip


@pytest.mark.parametrize("row", LOSSES, ids=lambda row: row[0].split("(")[0])
def test_losses(row: tuple[str, dict[str, Any], Any]) -> None:
    call, arrays, reference = row
    data = {n: a for n, a in arrays.items() if n in FIXED}
    rest = {n: a for n, a in arrays.items() if n not in FIXED}
    agree(f"y = {call}", rest, reference, data=data)


def test_metrics() -> None:
    sklearn = pytest.importorskip("sklearn.metrics")
    rng = np.random.default_rng(12)
    n, classes = 40, 5
    logits = rng.normal(0, 1, (n, classes)).astype(np.float32)
    target = rng.integers(0, classes - 1, n).astype(np.int32)
    score = (rng.integers(0, 12, n) / 12).astype(np.float32)
    flags = (rng.uniform(0, 1, n) > 0.6).astype(np.int32)
    found = net(
        """
        model M {
            input logits: float[n, 5]
            input k: i32[n]
            input s: float[n]
            input t: i32[n]
            guess = argmax(logits)
            yes = t == 1
            output top1 = accuracy(logits, k)
            output top3 = top_k_accuracy(logits, k, 3)
            output p = precision(s > 0.5, yes)
            output r = recall(s > 0.5, yes)
            output f = f1(s > 0.5, yes)
            output macro = macro_f1(guess, k, 5)
            output iou = mean_iou(guess, k, 5)
            output area = auc(s, yes)
            output ap = average_precision(s, yes)
            output perplexing = perplexity(logits, k)
            output r2 = r2(s, float(t))
        }
        """
    )(logits=logits, k=target, s=score, t=flags)
    guess, yes = logits.argmax(1), score > 0.5
    expected = {
        "top1": sklearn.accuracy_score(target, guess),
        "top3": sklearn.top_k_accuracy_score(target, logits, k=3, labels=range(classes)),
        "p": sklearn.precision_score(flags, yes),
        "r": sklearn.recall_score(flags, yes),
        "f": sklearn.f1_score(flags, yes),
        "macro": sklearn.f1_score(target, guess, average="macro", labels=range(classes),
                                  zero_division=0),
        "iou": sklearn.jaccard_score(target, guess, average="macro"),
        "area": sklearn.roc_auc_score(flags, score),
        "ap": sklearn.average_precision_score(flags, score),
        "perplexing": np.exp(F.cross_entropy(torch.tensor(logits),
                                             torch.tensor(target).long()).item()),
        "r2": sklearn.r2_score(flags, score),
    }  # fmt: skip
    for name, value in expected.items():
        np.testing.assert_allclose(found[name], value, rtol=2e-6, err_msg=name)


def test_overlap_of_boxes() -> None:
    a = np.array([[0, 0, 2, 2], [0, 0, 1, 1], [1, 1, 4, 3]], np.float32)
    b = np.array([[1, 1, 3, 3], [2, 2, 3, 3], [1, 1, 4, 3]], np.float32)
    found = net(
        "model M {\ninput a: float[n, 4]\ninput b: float[n, 4]\noutput y = box_iou(a, b)\n}"
    )
    np.testing.assert_allclose(found(a=a, b=b)["y"], [1 / 7, 0, 1], rtol=1e-6)

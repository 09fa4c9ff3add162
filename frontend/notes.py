"""What is said of names that no file declares: primitives, words, keys, types.

``nnc doc`` prints these, and the page on the library. A test holds each table against what it is
about, so that nothing can be added to the language without a word on it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Note:
    """How a name is written, and what it means."""

    usage: str
    about: str


def _each(names: str, usage: str, about: Mapping[str, str]) -> dict[str, Note]:
    return {name: Note(usage.format(name), about[name]) for name in names.split()}


PRIMITIVES: dict[str, Note] = {
    **_each(
        "exp expm1 log log1p sqrt rsqrt tanh erf sin cos floor ceil round",
        "{}(x)",
        {
            "exp": "e to the power of each element.",
            "expm1": "exp(x) - 1, exact where x is near 0.",
            "log": "The natural logarithm; of 0 it is -infinity, below it not a number.",
            "log1p": "log(1 + x), exact where x is near 0.",
            "sqrt": "The square root; below 0 not a number.",
            "rsqrt": "1 / sqrt(x).",
            "tanh": "The hyperbolic tangent.",
            "erf": "The error function.",
            "sin": "The sine of an angle in radians.",
            "cos": "The cosine of an angle in radians.",
            "floor": "The greatest whole number that is not above x, as a decimal; no gradient.",
            "ceil": "The least whole number that is not below x, as a decimal; no gradient.",
            "round": "The nearest whole number, of two the even one, as a decimal; no gradient.",
        },
    ),
    "abs": Note("abs(x)", "The absolute value, of any number."),
    "max": Note(
        "max(x, y) or max(x, axis = ..., keep = false)",
        "The greater of two, element by element, or the greatest element of one tensor; "
        "not-a-number stays.",
    ),
    "min": Note(
        "min(x, y) or min(x, axis = ..., keep = false)",
        "The lesser of two, element by element, or the least element of one tensor; "
        "not-a-number stays.",
    ),
    "pow": Note("pow(x, y)", "x to the power of y, as x^y."),
    "stop_gradient": Note("stop_gradient(x)", "x, taken as a constant by derivatives."),
    **_each(
        "sum mean prod any all",
        "{}(x, axis = ..., keep = false)",
        {
            "sum": "The sum of all elements, or over `axis`; of truth values, how many hold.",
            "mean": "The mean of all elements, or over `axis`; of truth values, the share.",
            "prod": "The product of all elements, or over `axis`.",
            "any": "Whether one of the truth values holds.",
            "all": "Whether each of the truth values holds.",
        },
    ),
    **_each(
        "argmax argmin",
        "{}(x, axis = -1, keep = false)",
        {
            "argmax": "The place of the greatest element along one axis; the first that wins.",
            "argmin": "The place of the least element along one axis; the first that wins.",
        },
    ),
    **_each(
        "var std",
        "{}(x, axis = ..., keep = false, sample = false)",
        {
            "var": "The variance, over the count, or with `sample = true` over one less.",
            "std": "The root of the variance, over the count, or with `sample = true` over one "
            "less.",
        },
    ),
    **{
        name: Note(f"{name}(x)", f"x as {what}; the fraction is dropped.")
        for name, what in (
            ("i64", "whole numbers of 64 bits"),
            ("i32", "whole numbers of 32 bits"),
            ("i8", "whole numbers of 8 bits"),
            ("u8", "bytes, 0 to 255"),
            ("int", "a whole number known at compile time"),
        )
    },
    **{
        name: Note(f"{name}(x)", f"x as {what}.")
        for name, what in (
            ("float", "decimals of the working type"),
            ("f64", "decimals of 64 bits"),
            ("f32", "decimals of 32 bits"),
            ("f16", "decimals of 16 bits, which cannot be computed with yet"),
            (
                "bf16",
                "decimals of 16 bits with the range of f32, which cannot be computed with yet",
            ),
        )
    },
    "bool": Note("bool(x)", "x as truth values: whether it is not 0."),
    "random_uniform": Note(
        "random_uniform[dims]()",
        "Fresh random numbers in [0, 1), keyed by seed, step, and place in program and batch.",
    ),
    "random_normal": Note(
        "random_normal[dims]()",
        "Fresh standard normal numbers, keyed by seed, step, and place in program and batch.",
    ),
    "reshape": Note("reshape(x, shape)", "The same elements in another shape; one dim may be -1."),
    "transpose": Note(
        "transpose(x, axes = ...)", "The last two dims swapped, or all dims in the order `axes`."
    ),
    "split": Note(
        "split(x, parts, axis = -1)",
        "Parts along an axis, as a tuple: so many equal ones, or ones of the sizes given.",
    ),
    "pad": Note(
        "pad(x, before, after, axis = ..., value = 0)", "x made longer along an axis with `value`."
    ),
    "shape": Note("shape(x, axis, size)", "The dims as whole numbers, one, or with another size."),
    "size": Note("size(x)", "How many elements x has."),
    "rank": Note("rank(x)", "How many dims x has."),
    "concat": Note("concat(a, b, ..., axis = -1)", "Tensors joined along a dim."),
    "stack": Note("stack(a, b, ..., axis = 0)", "Tensors joined along a new dim."),
    "grad": Note("grad(y, x)", "The derivative of the number y by the tensor x."),
    "copy": Note("copy(net)", "An instance whose parameters are buffers, at first those of net."),
    "whole": Note("whole(x)", "In a metric, x over all rows of the split."),
    "check_gradient": Note("check_gradient(f)", "In a test, f's derivative against differences."),
}
"""The primitive functions, of this version or a later one."""

VALUES: dict[str, Note] = {
    "training": Note("training", "Whether this is a step of training, known at compile time."),
    "step": Note("step", "The step of training, a decimal from 1."),
    "pi": Note("pi", "3.141592653589793."),
}
"""Names of values that are always there."""

WORDS: dict[str, Note] = {
    "if": Note(
        "if c then a else b, or if c { } else { }",
        "A choice: of values, element by element; or of statements, at compile time.",
    ),
    "then": Note("if c then a else b", "What a choice gives where its condition holds."),
    "else": Note("if c then a else b", "What a choice gives where its condition does not hold."),
    "and": Note("a and b", "Whether both hold."),
    "or": Note("a or b", "Whether one of two holds."),
    "not": Note("not a", "Whether a does not hold."),
    "true": Note("true", "The truth value that holds."),
    "false": Note("false", "The truth value that does not hold."),
    "return": Note("return value", "The result of a function or layer, or several: return a, b."),
    "yield": Note("yield value", "In a repeat or scan: one entry of the stacked result."),
    "require": Note(
        'require condition, "message"',
        "What must hold: decided at compile time, or checked first at each call.",
    ),
    "assert": Note("assert a == b within 1e-6", "In a test: what must hold."),
    "scan": Note("scan t < n carry (h = ...) { }", "A loop that carries state from step to step."),
    "repeat": Note("repeat i < n { }", "A block run n times, with separate layers each time."),
    "language": Note("language 1", "A first line: the version of the language."),
    "import": Note('import "file.nn" as name', "Brings in the declarations of another file."),
    "as": Note('import "file.nn" as name', "Gives an imported file or a train block a name."),
    "model": Note("model Name(config) { }", "Declares a model: its ports, losses and metrics."),
    "train": Note("train Model { key = value }", "Says how a model is trained."),
    "fn": Note(
        "fn name(x: type) -> type = value",
        "Declares a function; as a type of config, any function.",
    ),
    "layer": Note(
        "layer name(config)(x: type) -> type { }", "Declares a layer: a function with parameters."
    ),
    "optimizer": Note(
        "optimizer name(config)(w, g, t) { }",
        "Declares how a parameter w follows from its gradient g at step t.",
    ),
    "schedule": Note(
        "schedule name(config)(t) = value", "Declares a number that depends on the step t."
    ),
    "test": Note('test "name" { assert ... }', "Declares a test of the file's functions."),
    "in": Note("input x: type in low..high", "The range of allowed values, without its end."),
    "where": Note("sum[i where c](x)", "Takes only the elements for which c holds."),
    "within": Note("assert a == b within 1e-6", "How far apart two numbers may be."),
    "with": Note("with gradient(dy) { return ... }", "Begins a written derivative."),
    "gradient": Note(
        "with gradient(dy) { return ... }",
        "A written derivative: from that of the result to that of each argument.",
    ),
    "carry": Note("scan t < n carry (h = ...) { }", "The state of a scan, with its first values."),
    "until": Note("scan t < n until all(done) { }", "Ends a scan early."),
    "reverse": Note("scan reverse t < n { }", "A scan from the end to the beginning."),
    "input": Note("input name: type", "Declares what a model is given."),
    "target": Note("target name: type", "Declares what only losses and metrics are given."),
    "output": Note("output name = value", "Declares what inference computes."),
    "loss": Note("loss value, or loss name = value", "Declares a number that training lowers."),
    "metric": Note("metric name = value", "Declares a number that evaluation reports."),
    "param": Note("param name: type = initialiser", "Declares state that is trained."),
    "buffer": Note("buffer name: type = value", "Declares state that is not trained."),
    "state": Note("state name = value", "In an optimizer: state kept for each parameter."),
    "step": Note("step name { key = value }", "In a train block: one of several kinds of steps."),
    "update": Note("update name = value", "In training: the next value of a buffer."),
}
"""The words of the grammar, those that are reserved and those that are not."""

KEYS: dict[str, Note] = {
    "data": Note('data = npz("file.npz", validation = 0.2)', "Where the arrays come from."),
    "optimizer": Note(
        'optimizer = adam(lr = 1e-3), or { "pattern" = ... }', "What changes the parameters."
    ),
    "minimize": Note("minimize = fit, or (fit, small)", "The losses to minimise; all without it."),
    "batch": Note("batch = 64", "The rows of a step; 32 without it."),
    "epochs": Note("epochs = 30", "How often training goes over the data."),
    "steps": Note("steps = 1000", "How many steps training has, instead of epochs."),
    "seed": Note("seed = 7", "What first values, the order of rows and draws follow from; else 0."),
    "accumulate": Note("accumulate = 4", "How many small batches make one step."),
    "clip_norm": Note("clip_norm = 1.0", "The greatest norm of all gradients together."),
    "freeze": Note('freeze = "encoder.**"', "The parameters that are not trained, by pattern."),
    "regularize": Note(
        'regularize = l2(1e-4), or { "pattern" = ... }', "Penalties added to the loss."
    ),
    "precision": Note('precision = "f64"', 'What the type float is: "f32" or "f64".'),
    "adapt": Note('adapt = { "pattern" = lora(rank = 8) }', "Layers put round others."),
    "augment": Note("augment = ...", "How training rows are changed before use."),
    "budget": Note("budget = { memory = 1GiB }", "The memory that training may use."),
    "checkpoint": Note(
        "checkpoint = { epochs = 1, keep = 3 }",
        "How often training is saved (steps, epochs, minutes), and what is kept.",
    ),
    "early_stop": Note(
        "early_stop = { patience = 5, metric = accuracy }",
        "When training ends before its time; the best weights remain.",
    ),
    "ema": Note("ema = 0.999", "Averages of the weights are kept, evaluated and saved."),
    "weights": Note('weights = safetensors("file")', "The weights that training begins with."),
}
"""The keys of a train block, of this version or a later one."""

READERS: dict[str, Note] = {
    "npz": Note('data = npz("file.npz", validation = 0.2)', "Arrays by name, as NumPy saves them."),
    "idx": Note('data = idx(image = "images.gz", label = "labels.gz")', "The format of MNIST."),
    "npy": Note('data = npy(image = "x.npy", label = "y.npy")', "A mapped file for each array."),
    "csv": Note(
        'data = csv("file.csv", columns = { x = ["a", "b"], y = "kind" })',
        "Columns by name; text labels become class numbers. Options: `delimiter`, `header`, "
        "`allow_nan`, `memory`.",
    ),
    "parquet": Note(
        'data = parquet("file.parquet", columns = { x = "pixels" })',
        "Columns by name, streamed where they are larger than `memory`. Needs pyarrow.",
    ),
    "images": Note(
        'data = images("folder", size = 64)',
        "Images in folders of their class. Needs Pillow.",
    ),
    "tokens": Note(
        'data = tokens("text.bin", window = 256)',
        "Windows of token ids, and the ids that come next. Options: `stride`, `type`.",
    ),
}
"""The readers of data that a train block may name."""

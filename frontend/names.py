"""What an unknown name was probably meant to be: a slip, another spelling, another word for it."""

from __future__ import annotations

from collections.abc import Iterable

_CLOSE = 0.7
"""How alike (difflib's ratio) two words must be for one to be a slip for the other."""
_ELSEWHERE: dict[str, tuple[str, ...]] = {
    # layers and functions
    "dense": ("linear",), "fc": ("linear",), "fullyconnected": ("linear",), "nn": (),
    "batchnormalization": ("batch_norm",), "batchnorm1d": ("batch_norm",),
    "batchnorm2d": ("batch_norm",), "batchnorm3d": ("batch_norm",),
    "layernormalization": ("layer_norm",), "instancenorm2d": ("instance_norm",),
    "lookup": ("embedding",), "embed": ("embedding",), "conv1d": ("conv1d",),
    "maxpool2d": ("max_pool2d", "max_pool"), "avgpool2d": ("avg_pool2d", "avg_pool"),
    "maxpooling2d": ("max_pool2d", "max_pool"), "averagepooling2d": ("avg_pool2d", "avg_pool"),
    "multiheadattention": ("attention", "self_attention"), "swish": ("silu",),
    "view": ("reshape",), "permute": ("transpose",), "cat": ("concat",), "concatenate": ("concat",),
    "hstack": ("concat",), "matmul": ("matmul",), "mm": ("matmul",), "bmm": ("matmul",),
    "power": ("pow",), "square": (), "clamp": ("clip",), "minimum": ("min",), "maximum": ("max",),
    "softargmax": ("softmax",), "detach": ("stop_gradient",), "amax": ("max",), "amin": ("min",),
    "randn": ("normal",), "rand": ("uniform",), "xavieruniform": ("glorot_uniform",),
    "xaviernormal": ("glorot_normal",), "kaiminguniform": ("he_uniform",),
    "kaimingnormal": ("he_normal",), "log_prob": (), "mean_squared_error": ("mse",),
    "mseloss": ("mse",), "l1loss": ("mae",), "crossentropyloss": ("cross_entropy",),
    "nllloss": ("cross_entropy",), "bce": ("binary_cross_entropy",),
    "bceloss": ("binary_cross_entropy",), "bcewithlogitsloss": ("binary_cross_entropy",),
    "sparsecategoricalcrossentropy": ("cross_entropy",),
    "categoricalcrossentropy": ("cross_entropy",), "smoothl1loss": ("huber",),
    # types
    "float32": ("float", "f32"), "float64": ("f64",), "double": ("f64",), "float16": ("f16",),
    "half": ("f16",), "bfloat16": ("bf16",), "int32": ("i32",), "int64": ("i64",),
    "long": ("i64",), "int8": ("i8",), "uint8": ("u8",), "byte": ("u8",), "boolean": ("bool",),
    "tensor": ("float",), "str": ("text",), "string": ("text",), "callable": ("fn",),
    # parameters
    "dim": ("axis",), "dims": ("axis", "axes", "shape"), "axes": ("axis",), "keepdim": ("keep",),
    "keepdims": ("keep",), "learningrate": ("lr",), "rate": ("lr",), "stepsize": ("lr",),
    "alpha": ("lr",), "epsilon": ("eps",), "decay": ("weight_decay",), "p": ("rate",),
    "prob": ("rate",), "units": ("out",), "outfeatures": ("out",), "outchannels": ("out",),
    "filters": ("out",), "channels": ("out",), "features": ("out",), "kernelsize": ("kernel",),
    "strides": ("stride",), "padding": ("pad",), "usebias": ("with_bias",), "bias": ("with_bias",),
    "numembeddings": ("vocab",), "embeddingdim": ("width",), "numheads": ("heads",),
    "nheads": ("heads",), "activation": ("act",), "smoothing": ("label_smoothing",),
    "betas": ("beta1",), "negativeslope": ("slope",), "dtype": (), "numclasses": ("classes",),
    # train blocks
    "batchsize": ("batch",), "numepochs": ("epochs",), "nepochs": ("epochs",),
    "maxepochs": ("epochs",), "maxsteps": ("steps",), "iterations": ("steps",),
    "numsteps": ("steps",), "dataset": ("data",), "traindata": ("data",), "opt": ("optimizer",),
    "optim": ("optimizer",), "randomseed": ("seed",), "gradclip": ("clip_norm",),
    "clipgradnorm": ("clip_norm",), "maxgradnorm": ("clip_norm",), "clip": ("clip_norm",),
    "gradientaccumulation": ("accumulate",), "patience": ("early_stop",), "val": ("validation",),
    "valid": ("validation",), "validationsplit": ("validation",), "valsplit": ("validation",),
    "holdout": ("validation",), "dev": ("validation",),
}  # fmt: skip
"""Words of other libraries, without case and underscores, and ours, the likeliest first."""


def nearest(word: str, known: Iterable[str]) -> str | None:
    """Return the known word that ``word`` most likely stands for, or None.

    The same word in another case or with other underscores comes first, then the word that other
    libraries have for it, then one that differs in few letters.
    """
    import difflib

    words = sorted(set(known))
    plain = _plain(word)
    same = [w for w in words if _plain(w) == plain]
    if same:
        return same[0]
    ours = next((w for w in _ELSEWHERE.get(plain, ()) if w in words), None)
    if ours is not None:
        return ours
    found = difflib.get_close_matches(word, words, n=1, cutoff=_CLOSE)
    if not found and word != word.lower():
        found = difflib.get_close_matches(word.lower(), words, n=1, cutoff=_CLOSE)
    return found[0] if found else None


def _plain(word: str) -> str:
    return word.replace("_", "").replace("-", "").lower()

"""tanh and erf of f32 and f64: a polynomial near 0, and one minus what is missing beyond."""

from __future__ import annotations

from nnc.ir.types import DType
from nnc.passes.math.exp_log import exp_within
from nnc.passes.math.terms import FORMATS, Term, horner, mad, select

TANH_EDGE, ERF_EDGE = 0.625, 1.0
# From here on the result is 1.
TANH_FLAT = {DType.F32: 10.0, DType.F64: 20.0}
ERF_FLAT = {DType.F32: 4.0, DType.F64: 6.0}

# (tanh(x) / x - 1) / x^2 by x^2, for |x| <= 0.625
TANH_F32 = (
    -0.3333328, 0.13331419, -0.053738292, 0.02063543, -0.005701635,
)  # fmt: skip
TANH_F64 = (
    -0.33333333333333315, 0.13333333333329983, -0.05396825396616629, 0.021869488471209442,
    -0.008863234347091992, 0.003592114305245243, -0.001455727738849334, 0.0005894588424801548,
    -0.00023703010721104955, 9.158892298911681e-05, -3.021640306771011e-05, 6.054708118202181e-06,
)  # fmt: skip
TANH = {DType.F32: TANH_F32, DType.F64: TANH_F64}

# erf(x) / x - 1 by x^2, for |x| <= 1
ERF_F32 = (
    0.12837917, -0.3761263, 0.11283618, -0.026855124, 0.005190726, -0.0008030654, 7.919902e-05,
)  # fmt: skip
ERF_F64 = (
    0.1283791670955126, -0.37612638903183876, 0.11283791670958783, -0.026866170645631897,
    0.00522397762924565, -0.0008548327199358272, 0.00012055338161400656, -1.4925748180206354e-05,
    1.6463247307130268e-06, -1.6372371891698225e-07, 1.4798357234369911e-08,
    -1.1876555591839105e-09, 6.762801638832501e-11,
)  # fmt: skip
ERF = {DType.F32: ERF_F32, DType.F64: ERF_F64}

# -log(1 - erf(x)) by x - 2, for x from 1 to ERF_FLAT; weighted, for only its exponential counts
ERF_TAIL_F32 = (
    5.364941, 4.41816, 0.92375046, 0.01646968, -0.003563932, 0.00073012145, -0.00014358657,
    1.878845e-05,
)  # fmt: skip
ERF_TAIL_F64 = (
    5.364941264616638, 4.418160805994416, 0.9237508418237693, 0.016465118136857,
    -0.0035707563454969084, 0.0007323993864466644, -0.00013530933892685751,
    2.0706426757965485e-05, -1.9521818068581697e-06, -2.0362426090783092e-07,
    1.7318635665219128e-07, -5.7825158553318166e-08, 1.3968826932978758e-08,
    -2.5166264924583623e-09, 2.6178408237948143e-10, 3.409376608515739e-11,
    -3.176103356811858e-11, 1.1227733203522014e-11, -2.1978565687520683e-12,
    1.8353771587551788e-13,
)  # fmt: skip
ERF_TAIL = {DType.F32: ERF_TAIL_F32, DType.F64: ERF_TAIL_F64}


def tanh(x: Term) -> Term:
    """Hyperbolic tangent."""
    fmt, a = FORMATS[x.dtype], abs(x)
    z = a * a
    near = mad(horner(z, TANH[x.dtype]), z * a, a)
    flat = TANH_FLAT[x.dtype]
    far = 1.0 - 2.0 / (exp_within(fmt, select(a > flat, flat, a) * 2.0) + 1.0)
    return fmt.with_sign(select(a < TANH_EDGE, near, far), x)


def erf(x: Term) -> Term:
    """The error function."""
    fmt, a = FORMATS[x.dtype], abs(x)
    near = mad(horner(a * a, ERF[x.dtype]), a, a)
    flat = ERF_FLAT[x.dtype]
    t = select(a > flat, flat, a) - 2.0
    far = 1.0 - exp_within(fmt, -horner(t, ERF_TAIL[x.dtype]))
    return fmt.with_sign(select(a < ERF_EDGE, near, far), x)

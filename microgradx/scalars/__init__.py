"""Elementwise functions and their slopes, as arithmetic on plain numbers.

Each function here is the only definition of its kind. Called with numbers it computes numbers; called
with arrays or tensors it is handed to their executor. The very same text becomes a Numba loop and a CUDA
device function, and, since a slope is only arithmetic, it also runs on Tensors: second derivatives come
for free. A new activation is one definition and one slope.

The table begins with `choices`, which need nothing else; then come `arithmetic` and `activations`. What such
a function is stands in `definition`.
"""

from microgradx.scalars.definition import (
    NUMBERS, Domain, Elementwise, Named, Operand, check_definition, declarations, differentiable, elementwise,
    executors, functions, inf, recorders, signature_of,
)  # fmt: skip
from microgradx.scalars.choices import (
    clip, equal, greater, greater_equal, less, less_equal, logical_and, logical_not, logical_or, maximum,
    minimum, not_equal, sign, where,
)  # fmt: skip
from microgradx.scalars.arithmetic import (
    absolute, add, cos, divide, erf, exp, expm1, log, log1p, multiply, negative, power, rsqrt, sin, sqrt,
    square, subtract,
)  # fmt: skip
from microgradx.scalars.activations import (
    elu, gelu, gelu_tanh, leaky_relu, relu, sigmoid, silu, softplus, softsign, tanh,
)  # fmt: skip

EXAMPLES = {
    absolute: "mg.abs(-2) → 2", square: "mg.square(3) → 9", sqrt: "mg.sqrt(9) → 3.0",
    rsqrt: "mg.rsqrt(4) → 0.5", exp: "mg.exp(1) → 2.718281828459045", expm1: "mg.expm1(1e-20) → 1e-20",
    log: "mg.log(8) → 2.0794415416798357", log1p: "mg.log1p(1e-20) → 1e-20",
    sin: "mg.sin(math.pi / 2) → 1.0", cos: "mg.cos(math.pi) → -1.0", erf: "mg.erf(1) → 0.842700792949714...",
    where: "mg.where(2 > 1, 3, 4) → 3", sign: "mg.sign(-3) → -1", maximum: "mg.maximum(2, 5) → 5",
    minimum: "mg.minimum(2, 5) → 2", clip: "mg.clip(7, max=5) → 5", tanh: "mg.tanh(1) → 0.761594155955764...",
    sigmoid: "mg.sigmoid(0) → 0.5", relu: "mg.relu(-2) → 0", leaky_relu: "mg.leaky_relu(-2, 0.5) → -1.0",
    elu: "mg.elu(-1) → -0.632120558828557...", silu: "mg.silu(1) → 0.731058578630004...",
    gelu: "mg.gelu(1) → 0.841344746068542...", gelu_tanh: "mg.gelu_tanh(1) → 0.841191990608276...",
    softplus: "mg.softplus(1000) → 1000.0", softsign: "mg.softsign(1) → 0.5",
}  # fmt: skip
"""A call of each function that has a public name: the end of its docstring."""

for _function, _example in EXAMPLES.items():
    _call, _value = _example.split(" → ")
    _function.__doc__ = f"{_function.__doc__}\n\n>>> {_call}\n{_value}"

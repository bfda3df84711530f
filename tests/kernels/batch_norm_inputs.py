"""Inputs of batch normalisation with PReLU, and what a backend or torch's layers make of them, for its tests."""

import torch
from torch import nn
from v2f_kernels.batch_norm_prelu import OP

EPS, MOMENTUM = 1e-5, 0.1
BACKENDS = ("reference", "torch")
DTYPES = (torch.float32, torch.float16)  # the interpreter computes bfloat16 wrongly: it is compiled, not run
FORMS = {"norm": (False, False), "PReLU": (True, False), "residual": (False, True), "both": (True, True)}
"""Whether there is a slope, and a residual."""


def noise(*shape, seed=0, dtype=torch.float64, scale=1.0, shift=0.0):
    generator = torch.Generator().manual_seed(seed)
    x = (torch.randn(*shape, generator=generator, dtype=torch.float64) * scale + shift).to(dtype)
    return x.contiguous(memory_format=torch.channels_last) if x.ndim == 4 else x


def running(channels, dtype=torch.float64):
    """Statistics of earlier batches and their number."""
    mean, variance = noise(channels, seed=5, dtype=dtype), noise(channels, seed=6, dtype=dtype).abs() + 0.5
    return mean, variance, torch.tensor(7)


def given(shape, form, dtype=torch.float64, weights=None):
    """Name -> tensor that gets a gradient."""
    channels, (sloped, added) = shape[1], FORMS[form]
    named = {
        "x": noise(*shape, dtype=dtype, scale=2, shift=1),
        "weight": noise(channels, seed=1, dtype=weights or dtype),
        "bias": noise(channels, seed=2, dtype=weights or dtype),
    }
    if sloped:
        named["slope"] = noise(channels, seed=3, dtype=weights or dtype, scale=0.3)
    if added:
        named["residual"] = noise(*shape, seed=4, dtype=dtype)
    return named


def call(backend, named, state):
    x, weight, bias = named["x"], named["weight"], named["bias"]
    slope, residual = named.get("slope"), named.get("residual")
    return OP.backend(backend)(x, weight, bias, *state, MOMENTUM, EPS, slope, residual)


def call_through(backend, named, state):
    """y and x, added: x has two gradients."""
    x, weight, bias, slope = (named.get(name) for name in ("x", "weight", "bias", "slope"))
    y, same = OP.backend(backend)(
        x, weight, bias, *state, MOMENTUM, EPS, slope, named.get("residual"), through=True
    )
    return 0.5 * same + y


def layers(named, state):
    """What `nn.BatchNorm2d`, `nn.PReLU` and an addition make of it in training; they change `state`."""
    channels = named["x"].shape[1]
    norm = nn.BatchNorm2d(channels, eps=EPS, momentum=MOMENTUM).double()
    (norm.running_mean, norm.running_var, norm.num_batches_tracked) = state
    y = torch.func.functional_call(norm, {"weight": named["weight"], "bias": named["bias"]}, (named["x"],))
    if "slope" in named:
        y = torch.func.functional_call(nn.PReLU(channels).double(), {"weight": named["slope"]}, (y,))
    return y + named["residual"] if "residual" in named else y


def measured(function, named, dtype=None):
    """Name -> y, gradients and running statistics of a call, and the counter."""
    inputs = {k: t.detach().to(dtype or t.dtype).requires_grad_() for k, t in named.items()}
    shape = named["x"].shape
    state = running(shape[1], torch.float64 if dtype == torch.float64 else torch.float32)
    y = function(inputs, state)
    gradients = torch.autograd.grad(y, list(inputs.values()), noise(*shape, seed=9, dtype=y.dtype))
    made = {"y": y.detach(), **{f"d{k}": g for k, g in zip(inputs, gradients, strict=True)}}
    return {**made, "running_mean": state[0], "running_var": state[1]}, int(state[2])

"""A profile's kernels are put into parts by name, and a part's work is what the network's layers add up to."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from bench.generation import rungs
from bench.kernels import kernel_parts
from bench.kernels.step_profile import Kernel
from v2f_engine.backends import choose
from v2f_engine.models.fold import freeze

SEEN = {  # names as the profiler gave them on an H200
    "sm90_xmma_fprop_implicit_gemm_f16f16_f16f32_f32_nhwckrsc_nhwc_tilesize128x128x64": "convolutions",
    "sm90_xmma_dgrad_implicit_gemm_indexed_f16f16_f16f32_f32_nhwckrsc_nhwc_tilesize128x256x64": "convolutions",
    "nvjet_sm90_hsh_192x192_64x4_2x1_v_bz_coopB_bias_TNN": "matrix products",
    "moments_kernel": "group_norm_silu",
    "merge_moments_kernel": "group_norm_silu",
    "apply_kernel": "group_norm_silu",
    "single_pass_kernel": "group_norm_silu",
    "layer_norm_forward_kernel": "layer_norm",
    "attention_forward_kernel": "attention",
    "to_uint8_kernel": "to_uint8",
    "expand_forward_kernel": "expand_tokens",
    "Memset (Device)": "copies and layout",
    "void at::native::vectorized_elementwise_kernel<8, at::native::GeluCUDAKernelImpl(at::TensorIteratorBase&": "GELU",
    "void at::native::elementwise_kernel<128, 4, at::native::gpu_kernel_impl_nocast<at::native::CUDAFunctor_add<c10": (
        "element-wise"
    ),
    "void at::native::(anonymous namespace)::CatArrayBatchedCopy<at::native::(anonymous namespace)": (
        "copies and layout"
    ),
    "something_nobody_knows": "other",
}


@pytest.mark.parametrize("name", SEEN)
def test_a_kernel_is_of_the_part_its_name_says(name: str) -> None:
    assert kernel_parts.part_of(name) == SEEN[name]


def test_rows_hold_all_the_time_once_and_rates_where_work_is_known() -> None:
    kernels = [Kernel("moments_kernel", 9, 300.0, 0.3), Kernel("apply_kernel", 8, 200.0, 0.2)]
    kernels += [Kernel(f"k{i}", 1, 500.0 / 30, 0.5 / 30) for i in range(30)]
    work = {"group_norm_silu": kernel_parts.Work(bytes=5e6)}
    rows = kernel_parts.rows("generation", "batch 10", kernels, 10, work)
    parts = {row.contender: row for row in rows if row.case.endswith("by part")}
    assert (
        parts["all kernels"].check
        == "100.000 us/image, 100.0 % of device time, 47 launches; 10000 images/s without gaps"
    )
    assert parts["group_norm_silu"].check == "50.000 us/image, 50.0 % of device time, 17 launches"
    assert parts["group_norm_silu"].bytes == 5e6
    for ending in ("by part", "kernels"):
        mine = [r for r in rows if r.case.endswith(f": {ending}") and r.contender != "all kernels"]
        assert sum(r.timing.p50 for r in mine if r.timing) == pytest.approx(1e-3)
    assert any(row.contender == "7 others" for row in rows)


def test_work_is_what_the_layers_add_up_to() -> None:
    """FLOP of the decoder's convolutions by their own formula; bytes of the uint8 tail by its shapes."""
    model, choice = rungs.network("mini"), choose("cpu", "fp32")
    frozen = freeze(model, device="cpu", dtype=torch.float32)
    flop, tail = 0.0, frozen.im_decoder

    def counted(module: nn.Module, inputs: tuple[torch.Tensor, ...], output: torch.Tensor) -> None:
        nonlocal flop
        assert isinstance(module, nn.Linear)
        flop += 2.0 * output.numel() * module.in_features

    hooks = [m.register_forward_hook(counted) for m in frozen.modules() if isinstance(m, nn.Linear)]
    vectors, noise, n_masked = rungs.Batch.draw(1, "cpu").device
    with torch.no_grad():
        frozen.decode(vectors, noise, n_masked, rungs.N_DROPPED)
    for hook in hooks:
        hook.remove()
    work = kernel_parts.work_of_generation(model, choice, 4)
    assert tail is not None
    assert work["matrix products"].flop >= 4 * flop > 0
    twice = kernel_parts.work_of_generation(model, choice, 8)
    assert twice["convolutions"].flop == pytest.approx(2 * work["convolutions"].flop)
    weights = 2 * work["to_uint8"].bytes - twice["to_uint8"].bytes  # does not grow with the batch
    assert 0 < weights < work["to_uint8"].bytes
    channels = 16
    per_image = (twice["to_uint8"].bytes - work["to_uint8"].bytes) / 4
    assert per_image == channels * 112 * 112 * 4 + 3 * 112 * 112


def test_flop_of_a_step_that_asks_for_a_slope_at_a_leaf_are_counted() -> None:
    """torch's own counter hooks what a module is given and refuses that, so a card's profile of a step was lost."""
    layer = nn.Conv2d(3, 4, 3)
    with kernel_parts.flop_counter() as counter:
        seen = torch.ones(2, 3, 5, 5, requires_grad=True)
        loss = layer(seen).square().mean()
        torch.autograd.grad(loss, seen, retain_graph=True)
        loss.backward(inputs=list(layer.parameters()))
    forward = 2 * 2 * 4 * 3 * 9 * 9
    assert kernel_parts.flop_by_part(counter) == {"convolutions": 3 * forward}

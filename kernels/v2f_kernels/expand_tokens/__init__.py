"""From a projected identity vector to the encoder's input, in one pass.

    expand_tokens(feature, weight, bias, masked, kept, position, norm_weight, norm_bias, eps) -> tokens

    row 0:   LayerNorm(feature + position[0])
    row 1+k: LayerNorm(e + position[1 + r]),  r = kept[k],
             e = feature where masked[r], else weight[r] * feature + bias[r]

Args:
    feature: [B, D] float32, float16, bfloat16 or float64.
    weight, bias: [49]: the published `feature_token` Linear(1 -> 49), applied to every scalar.
    masked: bool [B, 49].
    kept: int64 [B, K]: rows that enter the encoder, ascending, each at most once per image.
    position: [50, D].
    norm_weight, norm_bias: [D]; eps: of the LayerNorm.

Returns:
    tokens: [B, 1 + K, D], dtype of feature; arithmetic in fp32 (fp64 for fp64).

Gradients: feature, weight, bias, position, norm_weight, norm_bias. A second derivative exists in `reference`
and `torch` only.

Parameters may have any floating dtype. `triton` wants float32, float16 or bfloat16 on a CUDA device, and
D <= 2048; it trusts the values of `kept` (checking them would wait for the GPU).

Raises ValueError on shapes and dtypes outside of this, each with what was expected and found.
"""

from v2f_kernels._op import Op

OP = Op(
    "expand_tokens",
    {
        "reference": "v2f_kernels.expand_tokens.reference:expand_tokens",
        "torch": "v2f_kernels.expand_tokens.torch_native:expand_tokens",
        "triton": "v2f_kernels.expand_tokens.triton_op:expand_tokens",
    },
)

__all__ = ["OP"]

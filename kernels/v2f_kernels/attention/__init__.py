"""Self-attention over a short row, packed as its GEMM leaves it.

    attention(qkv, *, dropout=0.0, seed=0) -> out

    out[b, i, h] = sum_j drop(softmax_j(q[b,i,h] . k[b,j,h] / sqrt(d))) v[b,j,h]

Args:
    qkv: [B, N, 3, H, d] float32, float16, bfloat16 or float64; N <= 64.
    dropout: probability of zeroing a softmax weight; survivors are scaled by 1 / (1 - dropout).
    seed: 64-bit key of the dropout mask. The weight (b, h, i, j) is dropped when
        uniform(philox4x32(counter=(c mod 2**32, c >> 32, 0, 0), key=seed)[0]) < dropout,
        c = ((b * H + h) * 64 + i) * 64 + j.

Returns:
    out: [B, N, H * d], dtype of qkv; softmax and sums in fp32 (fp64 for fp64).

Gradients: qkv.
Source: Vaswani et al. 2017; dropout inside attention as in the published Vec2Face blocks.
"""

from v2f_kernels._op import Op

OP = Op(
    "attention",
    {
        "reference": "v2f_kernels.attention.reference:attention",
        "torch": "v2f_kernels.attention.torch_native:attention",
    },
)

__all__ = ["OP"]

"""Self-attention over a short row, packed as its GEMM leaves it.

    attention(qkv, *, dropout=0.0, seed=0) -> out

    out[b, i, h] = sum_j drop(softmax_j(q[b,i,h] . k[b,j,h] / sqrt(d))) v[b,j,h]

Args:
    qkv: [B, N, 3, H, d] float32, float16, bfloat16 or float64; 1 <= N <= 64.
    dropout: probability of zeroing a softmax weight, 0 <= dropout < 1; survivors are scaled by
        1 / (1 - dropout).
    seed: 64-bit key of the dropout mask, 0 <= seed < 2**64; or an int64 tensor of one element that holds
        it, which a CUDA graph can be replayed with. With c = ((b * H + h) * 64 + i) * 64 + j, the weight
        (b, h, i, j) is dropped when word c mod 4 of
            philox4x32(counter=(c // 4 mod 2**32, c // 4 >> 32, 0, 0), key=(seed mod 2**32, seed >> 32))
        is below round(dropout * 2**32): all four words of a counter are used, and every backend drops the
        same weights.

Returns:
    out: [B, N, H * d], dtype of qkv; softmax and sums in fp32 (fp64 for fp64).

Gradients: qkv. A second derivative exists in `reference` and `torch` only.

`triton` wants float32, float16 or bfloat16 on a CUDA device and 1 <= d <= 128. Heads start at multiples of d,
so a d that is a multiple of 8 (4 in float32) keeps its 16-byte loads.

Source: Vaswani et al. 2017; dropout inside attention as in the published Vec2Face blocks.

Raises ValueError on shapes, dtypes, dropout or seeds outside of this, each with what was expected and found.
"""

from v2f_kernels._op import Op

OP = Op(
    "attention",
    {
        "reference": "v2f_kernels.attention.reference:attention",
        "torch": "v2f_kernels.attention.torch_native:attention",
        "torch_products": "v2f_kernels.attention.torch_products:attention",
        "triton": "v2f_kernels.attention.triton_op:attention",
    },
)

__all__ = ["OP"]

"""What each candidate should bring, by arithmetic, written down before it is measured."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Candidate:
    """A way to compute something that a contest on a card decides about.

    Args:
        name: as the table calls it.
        kind: `generation`, `training` or `cpu`.
        op: that it implements, or the part of the engine it changes.
        shapes: where it takes part.
        replaces: what runs today, with the measured time where there is one.
        arithmetic: bytes, FLOP and rates behind the prediction.
        predicted: the prediction in us an image or ms a step.
        backend: its name among the op's backends, by which the interpreter judges it; None for what is no backend.
        kernels: (op's folder, kernel or `*`) under the compile gate; empty for a library's.
        proven: what else proves it without a GPU.
    """

    name: str
    kind: str
    op: str
    shapes: str
    replaces: str
    arithmetic: str
    predicted: str
    backend: str | None = None
    kernels: tuple[tuple[str, str], ...] = ()
    proven: str = ""

    @property
    def contender(self) -> str:
        """Its name in a contest's rows."""
        return self.backend or self.name

    @property
    def case(self) -> str:
        """How a contest's rows for its op begin."""
        return f"{self.op} "


_MOMENTS = ("group_norm_silu", "moments_kernel")

SUM = """
If every prediction holds, an image takes 91 us, 11,000 images/s, not yet 12,000: convolutions 42.3 and products 20.8 as
measured, residuals read inside them 2.5, moments 5.2, apply 8.1, small norms 1.6, tail 4.2, GELU 0.4, LayerNorm 2.8,
attention 2.0, the rest 1.3; biases 0. The 8 us to 83 would have to come from `triton_flat` above 600 TFLOP/s (2 us at
112, moments joined: 1.7 more) and from 8-bit products. A training step is traced at 79.7 ms, 1,606 images/s
(`results/trace/generator.json`); 64 ms would be 2,000.
"""

CANDIDATES: tuple[Candidate, ...] = (
    Candidate(
        "conv3x3 cudnn",
        "generation",
        "conv3x3",
        "all seven shapes of the decoder",
        "bias and residual kernels, 13.4 us (measured), of which residuals 7.6",
        "residual before bias stays on cuDNN's precompiled engine 41; 4.16 M elements an image: 25.0 MB at 3.3 TB/s go,"
        " reading the residual, 8.3 MB, may stay",
        "-5.1 to -7.6 us",
        "cudnn",
        proven="planned by cuDNN 9.19 and 9.28 without a card (`make cudnn-plans`): engine 41, 131 B of workspace; an"
        " imagined library computes its graphs",
    ),
    Candidate(
        "conv3x3 torch_joined",
        "generation",
        "conv3x3",
        "all seven shapes of the decoder",
        "bias, residual and moments as passes of their own",
        "one pass reads the convolution's output and the residual, writes y and its partial moments: 3 passes instead"
        " of 2 (bias) + 3 (residual) + 1 (moments)",
        "-3 us at 112 (8.1 of 11.1 with the convolution), -0.7 at 56",
        "torch_joined",
        (("add_statistics", "*"),),
    ),
    Candidate(
        "conv3x3 triton_flat",
        "generation",
        "conv3x3",
        "128@112, 256->128@56, 128@56, 256@28; sm_90",
        "cuDNN 5.24, 2.57, 1.36, 1.24 us (measured) and the passes behind it",
        "at 482 / 600 TFLOP/s: 7.75 / 6.23, 3.92 / 3.15, 1.96 / 1.57, 2.19 / 1.76 us with everything joined; ties with"
        " cuDNN and one joined pass at 454, 609, 444, 579 TFLOP/s, with cuDNN's graph at 597, 662, 580, 684",
        "-0.4 to -1.9 us at 112 beside torch_joined",
        "triton_flat",
        (("conv3x3_flat", "*"),),
    ),
    Candidate(
        "e4m3 convolutions",
        "generation",
        "image_decoder",
        "residual blocks at 28, 56, 112; sm_90",
        "cuDNN and the norm's pass: 7.19 us at 128@112, 3.54 at 256->128@56, 1.85 at 128@56, 1.48 at 256@28",
        "e4m3 products at 578 / 771 TFLOP/s (1.2 and 1.6 times 482), the norm's pass 1.5 y instead of 2 y at 3.3 TB/s:"
        " 7.93 / 6.31, 4.00 / 3.19, 2.00 / 1.59, 2.01 / 1.56 us with bias, residual and moments",
        "-8 to -17 us of 113.8, -1 to -10 of 83; 1.2x needs 812 TFLOP/s",
        proven="interpreted beside its specification; identity cosine of `mini` 0.9981 (CPU); 124 registers, no spill",
    ),
    Candidate(
        "moments, eight loads under way",
        "generation",
        "group_norm_silu",
        "all of two passes",
        "moments, 10.3 us (measured)",
        "15.6 MB an image read once at 3.3 TB/s: 4.7 us; 1.1 of it is the goal",
        "-5.1 us",
        "triton",
        (_MOMENTS,),
    ),
    Candidate(
        "group_norm_silu triton_resident",
        "generation",
        "group_norm_silu",
        "7 to 28 pixels",
        "one pass, 4.7 us in 16 launches (measured); torch wins at 7 (0.45 against 0.65)",
        "reads twice, the second time from L1 and L2, keeps no image in registers: more programs in flight",
        "-1 us",
        "triton_resident",
        (("group_norm_silu", "resident_kernel"),),
    ),
    Candidate(
        "a bias left to the norm behind",
        "generation",
        "group_norm_silu",
        "behind the four upsamplings",
        "bias kernels, five of 10.9 MB: 7.7 us (measured, 1.4 TB/s); ours with bias 10.2 us for the four levels",
        "the norm adds it while it reads (`shift`); at 14 and 56 pixels nothing else reads the sum, at 28 and 112 it"
        " returns with the residual: cuDNN 6.5 us (measured) and moments of 4.8 MB",
        "7.7 us instead of 10.2",
        "triton",
        (("group_norm_silu", "*"),),
    ),
    Candidate(
        "upper levels in chunks",
        "generation",
        "image_decoder",
        "56 and 112 pixels, 4 to 32 images at a time",
        "the whole batch at once",
        "22 passes of 85.1 MB an image read from L2 (a guess: 5.5 TB/s); every launch 256 / n times (a guess: 3.3 us)",
        "+2.6 (32 images) to +21 us (4): a loss is predicted",
        proven="same images (`tests/models/test_chunks.py`)",
    ),
    Candidate(
        "gelu_linear cudnn",
        "generation",
        "gelu_linear",
        "768 to 3072",
        "cuBLAS, then GELU: 3.9 us (measured)",
        "2.89 M elements an image, 11.55 MB less at 3.3 TB/s",
        "-3.5 us; lost if the product becomes 50 % slower",
        "cudnn",
        proven="9.28 plans it for sm_90: 168 registers, no spill",
    ),
    Candidate(
        "gelu_linear quack",
        "generation",
        "gelu_linear",
        "768 to 3072",
        "the same",
        "the same",
        "-3.5 us",
        "quack",
        proven="written from its interface; nothing of it ran",
    ),
    Candidate(
        "discriminator's norms",
        "training",
        "group_norm_leaky",
        "128@56, 256@28, 512@14",
        "fp32 NCHW norms, leaky ReLUs, biases: part of 49.4 ms (predicted)",
        "3 x (925 MB forward + 1,490 MB backward) = 7.2 GB at 3.3 TB/s",
        "2.2 ms instead of 25",
        "triton",
        (("group_norm_leaky", "*"),),
    ),
    Candidate(
        "discriminator's stem",
        "training",
        "multi_scale_stem",
        "3 to 64 channels @112",
        "three convolutions, a concatenation: 10 +- 6 ms (a guess)",
        "rows unfolded to 48 channels, one 15x1 convolution: 1.16 GFLOP an image (15x15 of 8 channels: 2.89)",
        "2.6 ms",
        "triton",
        (("multi_scale_stem", "*"),),
    ),
    Candidate(
        "fakes judged once",
        "training",
        "discriminator",
        "the whole of it",
        "a second forward of the fakes",
        "0.83 TFLOP and 2.6 GB fewer",
        "-2.2 ms",
        proven="terms and weights of two passes to 1e-12 and 1e-11 in fp64",
    ),
    Candidate(
        "frozen recogniser",
        "training",
        "bias_prelu",
        "iresnet100, every block",
        "norms, PReLUs, residuals apart, 207 layout conversions: 58.8 ms (predicted)",
        "norms into weights and edge biases; 1.39 GB a pass, 2.06 passes each way; residuals 0.89 GB, 3 passes",
        "19.6 ms",
        "triton",
        (("bias_prelu", "*"), ("bias_residual", "*")),
        proven="60 random networks equal in fp64 to 1e-10",
    ),
    Candidate(
        "perceptual distance",
        "training",
        "unit_distance",
        "64@56, 128@28, 256@14",
        "8 GB of fp32: 3.5 ms (predicted)",
        "90 MB x 5 passes",
        "0.17 ms",
        "triton",
        (("unit_distance", "*"),),
    ),
    Candidate(
        "SSIM",
        "training",
        "ssim",
        "3@112, 11 taps",
        "97 kernels, 5.8 ms (predicted)",
        "3.8 GB become 0.44",
        "0.23 ms",
        "triton",
        (("ssim", "*"),),
    ),
    Candidate(
        "folded upsampling with gradients",
        "training",
        "upsample_conv3x3",
        "512@7 to 128@56",
        "nearest in fp32, then 3x3: part of 40.1 ms (predicted)",
        "3 x 0.65 TFLOP at 550 fewer: 3.6 ms; 347 M elements through nearest and casts: 5.2 ms",
        "-9.3 ms",
        proven="`torch_folded`: gradients of the plain form in fp64",
    ),
    Candidate(
        "a recogniser's norms",
        "training",
        "batch_norm_prelu",
        "SE-IResNet50, its own training, 78 norms",
        "torch's norms, PReLUs, residuals apart: 25.8 ms a step (predicted)",
        "18.7 GB: moments 1.0, apply 1.5, backward sums 2.0, backward apply 2.2 ms; products 9.0",
        "17.8 ms a step",
        "triton",
        (("batch_norm_prelu", "*"),),
        proven="nn.BatchNorm2d + PReLU + addition in fp64 to 1e-10",
    ),
    Candidate(
        "weights cast in two calls",
        "training",
        "optimiser",
        "195 weights of a captured step",
        "390 casts",
        "2 x 1.04 GB at 3.3 TB/s instead of 1.18 ms of single casts",
        "-0.55 ms",
        proven="a graph keeps the eager weights bit for bit",
    ),
)

"""Faults in numbers: loss terms, clips, averages, rates, cells of the report, reasons of deaths."""

from __future__ import annotations

from mutant import Mutant

STEP = "v2f_engine/train/generator_step.py"
BY_HAND = ("tests/train/test_step_by_hand.py",)
VERIFY = ("tests/evaluate/test_evaluate_verification.py",)
CELLS = ("tests/evaluate/test_report_cells.py",)
PAGE = "v2f_engine/evaluate/report/page.py"
APART = "v2f_engine/evaluate/report/apart.py"
INTERVALS = ("tests/evaluate/test_intervals.py",)
BESIDE = ("tests/evaluate/test_report_beside.py",)
APPLY = "kernels/v2f_kernels/group_norm_silu/triton_apply.py"
LOOPS = ("tests/kernels/test_interpreted_loops.py", "-m", "interpreter")
LOST = ("tests/scale/test_lost_workers.py",)

MUTANTS = [
    # Training.
    Mutant(
        "the generator's identity is compared with the real image's own feature",
        STEP,
        'terms["identity"] = identity_loss(seen.features, part.features)',
        'terms["identity"] = identity_loss(seen.features, self.view.recogniser(real)[1])',
        BY_HAND,
    ),
    Mutant(
        "the pose model's identity is compared with the real image's own feature",
        "v2f_engine/train/pose.py",
        'terms["identity"] = identity_loss(seen.features, features)',
        'terms["identity"] = identity_loss(seen.features, self.view.recogniser(real)[1])',
        BY_HAND,
    ),
    Mutant(
        "the generator's SSIM sees [-1, 1]",
        STEP,
        "ssim((fake + 1) / 2, (real + 1) / 2)",
        "ssim(fake, real)",
        BY_HAND,
    ),
    Mutant(
        "the pose model's SSIM sees [-1, 1]",
        "v2f_engine/train/pose.py",
        "ssim((fake + 1) / 2, (real + 1) / 2)",
        "ssim(fake, real)",
        BY_HAND,
    ),
    Mutant(
        "early steps count less in the average",
        STEP,
        "decay = min(self.settings.ema",
        "decay = max(self.settings.ema",
        BY_HAND,
    ),
    Mutant(
        "the generator's gradient is not clipped",
        STEP,
        "clip_grad_norm_(module.parameters(), self.settings.clip or math.inf, foreach=True)",
        "clip_grad_norm_(module.parameters(), math.inf if module is self.model else self.settings.clip)",
        BY_HAND,
    ),
    Mutant(
        "the discriminator's gradient is not clipped",
        STEP,
        "clip_grad_norm_(module.parameters(), self.settings.clip or math.inf, foreach=True)",
        "clip_grad_norm_(module.parameters(), math.inf if module is self.critic else self.settings.clip)",
        BY_HAND,
    ),
    Mutant(
        "the adaptive weight loses its factor",
        STEP,
        "return weights.gan_adaptive * adaptive_weight(",
        "return adaptive_weight(",
        BY_HAND,
    ),
    Mutant(
        "the augmentation mirror stands faces on their heads",
        "v2f_engine/train/recogniser_step.py",
        "images[mirrored].flip(3)",
        "images[mirrored].flip(2)",
        BY_HAND,
    ),
    Mutant(
        "the published leak is left out",
        STEP,
        "if self.settings.as_published.critic_leak:",
        "if False:",
        BY_HAND,
    ),
    Mutant(
        "the discriminator leaks though nobody asked",
        STEP,
        "if self.settings.as_published.critic_leak:",
        "if True:",
        BY_HAND,
    ),
    Mutant(
        "a training begins anew where it should go on",
        STEP,
        "if settings.start_from is not None:",
        "if False:",
        BY_HAND,
    ),
    Mutant(
        "a picture's height is written as its width",
        "v2f_engine/train/events.py",
        "_integer(1, height) + _integer(2, width)",
        "_integer(1, width) + _integer(2, height)",
        ("tests/train/test_training_files.py",),
    ),
    Mutant(
        "a resumed run leaves later events standing",
        "v2f_engine/train/events.py",
        "        if step:\n            self._record(_field(7",
        "        if False:\n            self._record(_field(7",
        ("tests/train/test_training_files.py",),
    ),
    Mutant(
        "a bad record is named by a number that is not its own",
        "v2f_engine/data/formats/dataset.py",
        'return f"{self.path}: record {index}"',
        'return f"{self.path}: record {index + 1}"',
        ("tests/train/test_train_generator_command.py",),
    ),
    # Evaluation.
    Mutant(
        "verification forgets the mirrored image",
        "v2f_engine/evaluate/verification.py",
        "flip_sum=True",
        "flip_sum=False",
        VERIFY,
    ),
    Mutant(
        "VAL is taken at thrice the rate",
        "v2f_engine/evaluate/verification.py",
        "FAR = 1e-3",
        "FAR = 3e-3",
        VERIFY,
    ),
    Mutant(
        "the held-out fold leaks into the threshold of VAL",
        "v2f_engine/evaluate/verification.py",
        "_threshold_at_far(distance[~test & ~same])",
        "_threshold_at_far(distance[~same])",
        VERIFY,
    ),
    Mutant(
        "the held-out fold leaks into the threshold of the accuracy",
        "v2f_engine/evaluate/verification.py",
        "((distance[~test] < t) == same[~test]).mean()",
        "((distance < t) == same).mean()",
        VERIFY,
    ),
    Mutant(
        "of equally good thresholds the highest is taken",
        "v2f_engine/evaluate/verification.py",
        "THRESHOLDS[int(np.argmax(hits))]",
        "THRESHOLDS[len(hits) - 1 - int(np.argmax(hits[::-1]))]",
        VERIFY,
    ),
    Mutant(
        "of one rate's points the smallest TPR is taken",
        "v2f_engine/evaluate/ijb.py",
        "return [float(tpr[int(np.argmin(np.abs(fpr - rate)))]) for rate in fprs]",
        "return [float(tpr[::-1][int(np.argmin(np.abs(fpr[::-1] - rate)))]) for rate in fprs]",
        ("tests/evaluate/test_evaluate_ijb.py",),
    ),
    Mutant(
        "the tile of the reference's EER shows ours",
        PAGE,
        "percent(real[section][which])",
        "percent(record[section][which])",
        CELLS,
    ),
    Mutant(
        "FMR100 stands in the cell of FMR1000",
        APART,
        'with_ends(missed("fmr1000")',
        'with_ends(missed("fmr100")',
        CELLS,
    ),
    Mutant(
        "the unique and the consistent share are swapped",
        APART,
        """        number(three["unique"]),
        number(three["consistent"]),
""",
        """        number(three["consistent"]),
        number(three["unique"]),
""",
        CELLS,
    ),
    Mutant(
        "genuine and impostor cosines are drawn for each other",
        APART,
        'area("different people", scores["impostor"], RED), area("same person", scores["genuine"], OWN)',
        'area("different people", scores["genuine"], RED), area("same person", scores["impostor"], OWN)',
        CELLS,
    ),
    Mutant(
        "the reference is the set itself",
        "v2f_engine/evaluate/report/measure.py",
        "**measure_section(reference, threshold",
        "**measure_section(source, threshold",
        CELLS,
    ),
    Mutant(
        "what is missed has the ends of what is matched",
        APART,
        '{**ends, "low": 1 - ends["high"], "high": 1 - ends["low"]}',
        '{**ends, "low": ends["low"], "high": ends["high"]}',
        CELLS,
    ),
    Mutant(
        "a difference is the other set's less ours",
        "v2f_engine/evaluate/report/measure.py",
        "difference(Interval(**first[name]), Interval(**theirs[name]))",
        "difference(Interval(**theirs[name]), Interval(**first[name]))",
        BESIDE,
    ),
    Mutant(
        "the ends of a difference take the wrong sides",
        "v2f_engine/evaluate/intervals.py",
        "below = math.hypot(one.value - one.low, other.high - other.value)",
        "below = math.hypot(one.high - one.value, other.value - other.low)",
        INTERVALS,
    ),
    Mutant(
        "a pair of two people has the weight of one of them",
        "v2f_engine/evaluate/resample.py",
        "            product *= columns[some[:, 1]]\n",
        "",
        INTERVALS,
    ),
    Mutant(
        "a person drawn twice is a stranger to himself",
        "v2f_engine/evaluate/resample.py",
        "(whole.sum(axis=1) ** 2 - (whole**2).sum(axis=1)) / 2",
        "(whole.sum(axis=1) ** 2 - whole.sum(axis=1)) / 2",
        INTERVALS,
    ),
    Mutant(
        "identities are drawn without replacement",
        "v2f_engine/evaluate/resample.py",
        "drawn = (words * np.uint64(identities) >> np.uint64(32)).astype(np.int64)",
        "drawn = words.argsort(axis=1).astype(np.int64)",
        INTERVALS,
    ),
    Mutant(
        "a rate's trials are its pairs",
        "v2f_engine/evaluate/intervals.py",
        "trials = spread / variance if spread > 0 and variance > 1e-18 else float(identities)",
        "trials = 8.0 * identities",
        INTERVALS,
    ),
    Mutant(
        "chance counts the set's images instead of the gallery's",
        "v2f_engine/evaluate/report/measure.py",
        "by_chance(fmr, len(gallery.features))",
        "by_chance(fmr, len(source.features))",
        CELLS,
    ),
    Mutant(
        "an order of channels resets the normalisation",
        "v2f_engine/models/embedder.py",
        "Pixels(channels, graph.pixels.mean, graph.pixels.std)",
        "Pixels(channels)",
        ("tests/train/test_extract.py",),
    ),
    Mutant(
        "features of padding are returned",
        "v2f_engine/models/onnx_embedder.py",
        "parts.append(found[: len(part)].astype(np.float32))",
        "parts.append(found.astype(np.float32))",
        ("tests/train/test_extract.py",),
    ),
    # Export.
    Mutant(
        "the tail of a half-precision graph is computed in fp16",
        "v2f_engine/export/graph.py",
        "F.conv2d(x, conv.weight, padding=1).float() + bias.float()[:, None, None]",
        "F.conv2d(x, conv.weight, padding=1) + bias[:, None, None]",
        ("tests/export/test_onnx_small.py",),
    ),
    # Kernels.
    Mutant(
        "GroupNorm in two passes omits eps",
        APPLY,
        "return mean, tl.rsqrt(variance + eps), weight, bias",
        "return mean, tl.rsqrt(variance), weight, bias",
        LOOPS,
    ),
    Mutant(
        "GroupNorm in one pass omits eps",
        APPLY,
        "z = away * (tl.rsqrt(variance + eps)[:, None]",
        "z = away * (tl.rsqrt(variance)[:, None]",
        LOOPS,
    ),
    Mutant(
        "the norm before a convolution omits eps",
        "kernels/v2f_kernels/group_norm_silu/triton_moments.py",
        "scale = tl.rsqrt(variance + eps) * weight",
        "scale = tl.rsqrt(variance) * weight",
        LOOPS,
    ),
    Mutant(
        "GroupNorm's backward merge forgets the turns before: dz",
        APPLY,
        "tile1 += tl.load(",
        "tile1 = tl.load(",
        LOOPS,
    ),
    Mutant(
        "GroupNorm's backward merge forgets the turns before: dz xhat",
        APPLY,
        "tile2 += tl.load(",
        "tile2 = tl.load(",
        LOOPS,
    ),
    Mutant(
        "GroupNorm's backward sums forget the turns before",
        APPLY,
        "sum2 += dz * xhat",
        "sum2 = dz * xhat",
        LOOPS,
    ),
    Mutant(
        "GroupNorm's moments forget the turns before",
        "kernels/v2f_kernels/group_norm_silu/triton_moments.py",
        "sum1, sum2 = add_deviations(x, inside, shift, sum1, sum2)",
        "sum1, sum2 = add_deviations(x, inside, shift, sum1, 0 * sum2)",
        LOOPS,
    ),
    Mutant(
        "merged moments forget the turns before",
        "kernels/v2f_kernels/group_norm_silu/triton_moments.py",
        "m2_sum += m2 +",
        "m2_sum = m2 +",
        LOOPS,
    ),
    Mutant(
        "GELU's bias gradient forgets the turns before",
        "bench/candidates/gelu_linear/triton_gelu.py",
        "dbias += dz",
        "dbias = dz",
        LOOPS,
    ),
    Mutant(
        "the product before GELU forgets the turns before",
        "bench/candidates/gelu_linear/triton_gelu.py",
        "tl.dot(x, weight, acc=sums, input_precision=PRECISION)",
        "tl.dot(x, weight, input_precision=PRECISION)",
        LOOPS,
    ),
    # Workers.
    Mutant(
        "the coordinator's reason gives way to another worker's guess",
        "v2f_engine/scale/queue.py",
        "if reason in (SILENT, DIED) else reason",
        "if False else reason",
        LOST,
    ),
    Mutant(
        "a slow worker is taken for a stuck one",
        "v2f_engine/scale/queue.py",
        "return int((self.beats / worker).read_bytes().split()[1])",
        "return 0",
        LOST,
    ),
    Mutant(
        "why a stuck worker was ended is lost",
        "v2f_engine/scale/coordinator.py",
        "slot.stuck = slot.stuck or what",
        "pass",
        LOST,
    ),
]

"""Faults of the trainings' fast paths: frozen networks without norms, graphs of steps, resumed optimisers."""

from __future__ import annotations

from mutant import Mutant

TRAIN, MODELS = "v2f_engine/train", "v2f_engine/models"
FAST = ("-m", "not slow")
VIEW = ("tests/train/test_view.py", "tests/models/test_frozen_iresnet.py", *FAST)
GRAPHED = ("tests/train/test_graphed_recogniser.py", *FAST)
SLOTS = ("tests/train/test_resumed_slots.py", *FAST)
STEPPING = ("tests/train/test_stepping.py", *FAST)

MUTANTS = [
    Mutant(
        "a view compares the real images with themselves",
        f"{TRAIN}/view.py",
        "maps, features = self.recogniser(fake)\n        if self.lpips",
        "maps, features = self.recogniser(real)\n        if self.lpips",
        VIEW,
    ),
    Mutant(
        "a folded block forgets its first norm's shift",
        f"{MODELS}/frozen_iresnet.py",
        "seen, seen, weight, shift) + own, wide)",
        "seen, seen, weight, 0 * shift) + own, wide)",
        VIEW,
    ),
    Mutant(
        "the shift at an image's edge is that of its middle",
        f"{MODELS}/frozen_iresnet.py",
        "(0.0, 1.0, 1.0), (1.0, 1.0, 0.0), (0.0, 1.0, 0.0))",
        "(1.0, 1.0, 1.0), (1.0, 1.0, 1.0), (1.0, 1.0, 1.0))",
        VIEW,
    ),
    Mutant(
        "a shortcut's bias is dropped",
        f"{MODELS}/frozen_iresnet.py",
        "scale, of_shortcut = scale_shift(norm)",
        "scale, _ = scale_shift(norm)",
        VIEW,
    ),
    Mutant(
        "the folded head's columns are in the plain order",
        f"{MODELS}/frozen_iresnet.py",
        "flat = last_map.permute(0, 2, 3, 1).flatten(1)",
        "flat = last_map.contiguous().flatten(1)",
        VIEW,
    ),
    Mutant(
        "a gate sees a branch without its bias",
        f"{MODELS}/frozen_iresnet.py",
        "branch = self.gate(F.conv2d(h, self.weight2, self.at_gate, self.stride, 1))",
        "branch = self.gate(F.conv2d(h, self.weight2, None, self.stride, 1))",
        VIEW,
    ),
    Mutant(
        "a graph's labels are those of its capture",
        f"{TRAIN}/graphed_recogniser.py",
        "        captured.labels.copy_(labels, non_blocking=True)\n",
        "",
        GRAPHED,
    ),
    Mutant(
        "a graph outlives the slots that it was captured with",
        f"{TRAIN}/graphed_recogniser.py",
        "register_load_state_dict_post_hook(lambda _: self._forget())",
        "register_load_state_dict_post_hook(lambda _: None)",
        GRAPHED,
    ),
    Mutant(
        "a resumed optimiser's slots lie in the order of their file",
        f"{TRAIN}/checkpoint.py",
        "torch.empty_like(parameters[index], dtype=value.dtype, device=value.device).copy_(value)",
        "value",
        SLOTS,
    ),
    Mutant(
        "a generator's folder is there before its graph is refused",
        f"{TRAIN}/generator.py",
        "    require_stepping(settings.stepping, group)\n    settings = settings.on(group.world)\n    with",
        "    settings = settings.on(group.world)\n    with",
        STEPPING,
    ),
    Mutant(
        "a recogniser's command reads data before its graph is refused",
        "v2f_engine/cli/train.py",
        "        require_stepping(settings.stepping, group)\n",
        "",
        STEPPING,
    ),
    Mutant(
        "a recogniser's command drops --stepping",
        "v2f_engine/cli/train.py",
        'return (f"stepping={self.stepping}", *(self.values or ()))',
        "return tuple(self.values or ())",
        STEPPING,
    ),
]

"""Faults of the wiring: a value that is not passed on, a stream that is another one, a race that nobody met."""

from __future__ import annotations

from mutant import Mutant

OPTIONS = "tests/wiring/test_every_option.py"
WHOLE = ("tests/wiring/test_generate_to_the_end.py",)
EXCLUDED = ("tests/wiring/test_excluded_people.py",)
STREAMS = ("tests/test_golden_streams.py",)
RACES = ("tests/scale/test_scale_races.py",)
CLI, ENGINE = "v2f_engine/cli", "v2f_engine/pipeline"


def option(command: str, name: str) -> tuple[str, ...]:
    """The cases of one option."""
    return (OPTIONS, "-k", f"{command.replace(' ', ' and ')} and {name}")


MUTANTS = [
    Mutant(
        "perturbation not passed on to the engine",
        f"{ENGINE}/draws.py",
        "self.images.perturbation.draw(",
        "type(self.images.perturbation)().draw(",
        WHOLE,
    ),
    Mutant(
        "generate drops exclude",
        f"{ENGINE}/generation.py",
        "exclude=asked.exclude,",
        "",
        (*EXCLUDED, "-k", "generate"),
    ),
    Mutant(
        "v2f generate drops exclude",
        f"{CLI}/generate.py",
        "exclude=rate.excluded(self.exclude),",
        "",
        (*EXCLUDED, "-k", "generate"),
    ),
    Mutant(
        "v2f ids sample drops exclude",
        f"{CLI}/ids.py",
        "seed=stream.seed,\n                    source=source,\n                    exclude=rate.excluded(exclude),",
        "seed=stream.seed,\n                    source=source,\n                    exclude=None,",
        (*EXCLUDED, "-k", "sample"),
    ),
    Mutant(
        "v2f ids prove drops exclude",
        f"{CLI}/prove.py",
        "exclude=rate.excluded(vectors.exclude),",
        "exclude=None,",
        (*EXCLUDED, "-k", "prove"),
    ),
    Mutant(
        "prove drops exclude",
        f"{ENGINE}/proof.py",
        "exclude=asked.exclude,",
        "",
        (*EXCLUDED, "-k", "prove"),
    ),
    Mutant(
        "no range check of the exclusion's threshold",
        "v2f_engine/vectors/exclusion.py",
        'between("exclude_cosine", threshold, -1, 1)',
        "pass",
        (*EXCLUDED, "-k", "range"),
    ),
    Mutant(
        "v2f generate ignores --unsigned",
        f"{CLI}/steering.py",
        "signed=not self.unsigned,",
        "signed=True,",
        option("generate", "unsigned"),
    ),
    Mutant(
        "v2f generate ignores --jpeg-quality",
        f"{CLI}/generate.py",
        '"extend": growing})',
        '"extend": growing, "jpeg_quality": 95})',
        option("generate", "jpeg"),
    ),
    Mutant(
        "generate ignores jpeg_quality",
        "v2f_engine/options.py",
        "Encoder(quality=self.jpeg_quality, library=self.jpeg_encoder)",
        "Encoder()",
        WHOLE,
    ),
    Mutant(
        "v2f train generator ignores --accumulate",
        f"{CLI}/train_generator.py",
        '{"accumulate": self.accumulate}',
        "{}",
        option("train generator", "accumulate"),
    ),
    Mutant(
        "v2f train generator ignores --start-from",
        f"{CLI}/train_generator.py",
        "**network.changes, **budget.changes, **run.changes}",
        '**network.changes, **budget.changes, **run.changes, "start_from": None}',
        option("train generator", "start"),
    ),
    Mutant(
        "v2f train recogniser ignores --start-from",
        f"{CLI}/train.py",
        '"start_from": self.start_from, **batch}',
        "**batch}",
        option("train recogniser", "start"),
    ),
    Mutant(
        "v2f evaluate separability ignores --radius",
        f"{CLI}/evaluate.py",
        "measure_uniqueness(table, radius=radius)",
        "measure_uniqueness(table)",
        option("evaluate separability", "radius"),
    ),
    Mutant(
        "v2f evaluate leakage ignores --gallery-labels",
        f"{CLI}/evaluate.py",
        "sets.read(gallery, gallery_labels)",
        "sets.read(gallery)",
        option("evaluate leakage", "gallery"),
    ),
    Mutant(
        "v2f evaluate ijb ignores --no-scores",
        f"{CLI}/evaluate_recognisers.py",
        "use_scores=scores, curve=curve",
        "curve=curve",
        option("evaluate ijb", "scores"),
    ),
    Mutant(
        "measure_ijb ignores use_scores",
        "v2f_engine/evaluate/ijb.py",
        "protocol.scores if use_scores else None",
        "None",
        option("evaluate ijb", "scores"),
    ),
    Mutant(
        "DCFace's radius taken for a cosine",
        "v2f_engine/evaluate/dcface.py",
        "reject_similar(units.astype(np.float32), 1 - radius)",
        "reject_similar(units.astype(np.float32), radius)",
        ("tests/evaluate/test_dcface_radius.py",),
    ),
    Mutant(
        "mask counts drawn from MASK_ROWS",
        "v2f_engine/models/mask_schedule.py",
        "Purpose.MASK_COUNT",
        "Purpose.MASK_ROWS",
        (*STREAMS, "-k", "masks"),
    ),
    Mutant(
        "sigma drawn from PERTURBATION",
        "v2f_engine/vectors/perturbation.py",
        "uniforms(seed, Purpose.SIGMA,",
        "uniforms(seed, Purpose.PERTURBATION,",
        (*STREAMS, "-k", "sigma"),
    ),
    Mutant(
        "take-back ignores a new holder",
        "v2f_engine/scale/queue.py",
        "ours = (found or UNREADABLE).name == holder.name",
        "ours = found is not None or holder is not None",
        RACES,
    ),
    Mutant(
        "a worker publishes without looking at its lease",
        "v2f_engine/scale/worker.py",
        "guard=lambda: queue.holds(number)",
        "guard=lambda: True",
        RACES,
    ),
    Mutant(
        "a stalled worker is never ended",
        "v2f_engine/scale/coordinator.py",
        "elif stalled > self._limits.stall_s:",
        "elif stalled < 0:",
        RACES,
    ),
    Mutant(
        "an ONNX file's sidecar always says opset 20",
        "v2f_engine/export/onnx.py",
        '"opset": str(opset)',
        '"opset": "20"',
        option("export onnx", "opset"),
    ),
]

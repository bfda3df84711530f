"""What a user writes with the public names, under `mypy --strict`; `reveal_type` lines are held by test_user_script."""

from pathlib import Path
from typing import reveal_type

import numpy as np
import torch
from torch.utils.data import DataLoader

import v2f_engine as v2f

engine = v2f.Engine.load("mini", device="cpu")
people = engine.sample_identities(100, seed=0)
few = people[10:20]
reveal_type(people)  # expected: v2f_engine.vectors.identities.Identities
reveal_type(few)  # expected: v2f_engine.vectors.identities.Identities
reveal_type(people[3])  # expected: ndarray[Any, dtype[float32]]
reveal_type(people[np.array([1, 2])])  # expected: v2f_engine.vectors.identities.Identities
reveal_type(len(people))  # expected: int

stream = engine.images(few, images_per_id=5, seed=0, batch_size=16)
reveal_type(stream)  # expected: v2f_engine.pipeline.image_stream.ImageStream
for batch in stream:
    reveal_type(batch)  # expected: v2f_engine.batch.ImageBatch
    reveal_type(batch.images)  # expected: ndarray[Any, dtype[uint8]]
    reveal_type(batch[0])  # expected: ndarray[Any, dtype[uint8]]
    reveal_type(batch[:4])  # expected: v2f_engine.batch.ImageBatch
    reveal_type(batch.to_torch())  # expected: Tensor

report = v2f.generate(
    n_ids=10, images_per_id=5, out=Path("faces"), format="webdataset", seed=np.int64(3).item()
)
reveal_type(report)  # expected: v2f_engine.pipeline.generate_report.GenerateReport
reveal_type(report.complete)  # expected: bool
reveal_type(report.dataset)  # expected: v2f_engine.data.formats.dataset.Dataset

faces = v2f.open_dataset("faces")
image, label = faces[0]
reveal_type(image)  # expected: ndarray[Any, dtype[uint8]]
reveal_type(label)  # expected: int
reveal_type(faces[:8])  # expected: v2f_engine.batch.ImageBatch
reveal_type(v2f.verify_dataset("faces").ok)  # expected: bool
reveal_type(v2f.convert_dataset("faces", "lmdb", "lmdb").images)  # expected: int
reveal_type(v2f.select_dataset("faces", "best", v2f.Rule(keep=2)).images)  # expected: int
reveal_type(v2f.ChoiceOptions(make=8).make)  # expected: int
reveal_type(v2f.open_training_set("faces").labels)  # expected: ndarray[Any, dtype[int64]]
reveal_type(v2f.repair("faces"))  # expected: tuple[int, ...]
reveal_type(v2f.load_identities("people.safetensors"))  # expected: v2f_engine.vectors.identities.Identities
reveal_type(v2f.sample_identities(5))  # expected: v2f_engine.vectors.identities.Identities
larger = v2f.extend_identities("people.safetensors", 9)
reveal_type(larger)  # expected: v2f_engine.vectors.identities.Identities
reveal_type(v2f.Perturbation((0.3,), (1.0,)).levels)  # expected: tuple[float, ...]
reveal_type(v2f.__version__)  # expected: str

streamed = engine.dataset(torch.zeros(2, 512), 5, batch_size=8, shuffle=True)
reveal_type(streamed)  # expected: v2f_engine.pipeline.streamed.StreamedFaces
loader: DataLoader[object] = DataLoader(streamed, batch_size=None, num_workers=2)

try:
    v2f.Engine.load("nothing")
except v2f.V2FError as error:
    print(error)
except v2f.errors.ConfigError:
    pass

"""Where the page's images are made: the engines, the recogniser that judges, and a row of a person.

A row is made by the engine and the makers of `v2f generate`, of the same draws: what is seen is what a set will hold.
"""

from __future__ import annotations

import base64
import time
import warnings
from collections import OrderedDict
from contextlib import closing
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from v2f_engine.attributes.targets import Verdict
from v2f_engine.batch import ImageBatch
from v2f_engine.errors import V2FWarning
from v2f_engine.models.embedder import open_reader
from v2f_engine.models.features import extract_features
from v2f_engine.models.weights import LoadedModel
from v2f_engine.options import ImageOptions, OutputOptions
from v2f_engine.pipeline.engine import Engine
from v2f_engine.pipeline.given import given_vectors
from v2f_engine.pipeline.makers.steered import Steering
from v2f_engine.ui.asked import POSE_MODEL_OF, Settings, Who
from v2f_engine.ui.begun import Begun
from v2f_engine.ui.desk import Check, Emit
from v2f_engine.ui.gallery import Gallery
from v2f_engine.ui.uploads import face_of
from v2f_engine.ui.words import without_places
from v2f_engine.vectors.gate import DIMENSION
from v2f_engine.vectors.identities import Identities

Float32 = NDArray[np.float32]

CENTRE = ImageOptions(8, seed=0)
"""Plain images whose mean feature is a person's centre; the first of them is the person's picture elsewhere."""
SHEETS = 4096
"""People whose centre and picture are held, 9 KB each."""
SHOWN = ("yaw", "pitch", "quality")


@dataclass(frozen=True)
class Sheet:
    """What is known of a person.

    Args:
        picture: JPEG.
        centre: float32 `[D]`, the mean feature of plain images at unit length.
        likeness: cosine of that centre to the person's vector.
    """

    picture: bytes
    centre: Float32
    likeness: float


class Studio:
    """Engines, recogniser and people, for one thread at a time.

    Raises:
        ModelNotFound, CheckpointError, ConfigError, VectorError: of what it was begun with.
    """

    def __init__(self, begun: Begun) -> None:
        self.begun = begun
        self.encoder = OutputOptions().encoder
        self._engines = {str(begun.engine.model): Engine.open(begun.engine)}
        first = self.engine(str(begun.engine.model))
        self.device = str(first.runner.describe()["device"])
        loaded = first.loaded
        own = isinstance(loaded, LoadedModel) and loaded.pose is not None
        self.pose_model = str(begun.engine.model) if own else POSE_MODEL_OF.get(str(begun.engine.model))
        self.reader = open_reader(begun.recogniser, device=self.device, fetch=begun.engine.fetch)
        table = None if begun.vectors is None else first.people.admitted(given_vectors(begun.vectors), False)
        self.gallery = Gallery(first.people, table)
        self._sheets: OrderedDict[Who, Sheet] = OrderedDict()

    def engine(self, model: str) -> Engine:
        """The engine of a model, opened on first use."""
        if model not in self._engines:
            self._engines[model] = Engine.open(replace(self.begun.engine, model=model))
        return self._engines[model]

    def row(self, who: Who, settings: Settings, emit: Emit, check: Check) -> None:
        """Makes a row: emits `begin`, `progress` of steering, an `image` each, and `end`."""
        since = time.perf_counter()
        way = settings.taken(self.pose_model is not None)
        emit({"kind": "begin", "who": who.to_json(), "way": way, "images": settings.images})
        sheet = self.sheet(who)
        check()
        options = settings.engine_options(self.begun.engine, self.pose_model)
        base = self.engine(str(options.model))
        engine = Engine(base.loaded, base.runner, options.schedule, usual=settings.masks is None)
        asked = settings.control(self.pose_model is not None)
        control = None if asked is None else engine.control(asked)
        if control is not None and isinstance(control.maker, Steering):
            _watch(control.maker, min(settings.images, control.maker.rows), emit, check)
        noise = settings.perturbation or (engine.plain if control is None else control).maker.noise
        images = ImageOptions(settings.images, settings.variation, noise)
        with closing(engine.batches(self._alone(who), images, control=control)) as batches:  # type: ignore[type-var]
            for batch in batches:
                check()
                self._show(batch, sheet, emit)
        self.gallery.note_drawn(who)
        emit({"kind": "end", **self._beside(who, sheet), "seconds": round(time.perf_counter() - since, 3)})

    def sheet(self, who: Who) -> Sheet:
        """Who that is; made once."""
        if who in self._sheets:
            self._sheets.move_to_end(who)
            return self._sheets[who]
        engine = self.engine(str(self.begun.engine.model))
        images = next(engine.batches(self._alone(who), CENTRE, batch_size=CENTRE.images_per_id)).images
        centre = _unit(_unit(self.features(images)).mean(axis=0, keepdims=True))[0]
        vector = self.gallery.vector(who)
        fits = len(vector) == len(centre)
        likeness = float(_unit(vector[None])[0] @ centre) if fits else float("nan")
        self._sheets[who] = Sheet(self.encoder.encode(images[0]), centre, likeness)
        while len(self._sheets) > SHEETS:
            self._sheets.popitem(last=False)
        return self._sheets[who]

    def features(self, images: NDArray[np.uint8]) -> Float32:
        """float32 `[N, D]` by the recogniser."""
        return extract_features(self.reader.model, images)

    def upload(self, data: bytes) -> dict[str, Any]:
        """A person of an uploaded face, and what was done to the picture.

        Raises:
            DatasetError: no aligned face. VectorError: the recogniser's features are not this model's.
        """
        face = face_of(data)
        found = Identities.from_vectors(self.features(face.image[None]), "an uploaded face", DIMENSION)
        with warnings.catch_warnings(record=True) as heard:
            warnings.simplefilter("always", V2FWarning)
            table = self.gallery.people.admitted(found, False)
        said = [without_places(str(one.message)) for one in heard if issubclass(one.category, V2FWarning)]
        who = self.gallery.add_face(table.vectors[0])
        told = [line for line in (face.told, *said) if line]
        return {"who": who.to_json(), "told": told, "src": source_of(self.encoder.encode(face.image))}

    def card(self, who: Who) -> dict[str, Any]:
        """A person for the tray."""
        return {**who.to_json(), "src": source_of(self.sheet(who).picture)}

    def _alone(self, who: Who) -> Identities:
        key = np.array([self.gallery.key(who)], np.int64)
        return Identities(self.gallery.vector(who)[None], key, {"noise": "candidate"})

    def _show(self, batch: ImageBatch, sheet: Sheet, emit: Emit) -> None:
        cosines = _unit(self.features(batch.images)) @ sheet.centre
        for row, image in enumerate(batch.images):
            values = {name: float(column[row]) for name, column in batch.attributes.items()}
            line = {
                "kind": "image",
                "number": int(batch.image[row]),
                "src": source_of(self.encoder.encode(image)),
                "cosine": round(float(cosines[row]), 4),
                "same": bool(cosines[row] >= self.gallery.limit),
                "failed": bool(values.get("failed", 0)),
            }
            if "verdict" in values:
                line["verdict"] = Verdict(int(values["verdict"])).name
                line["iterations"] = int(values["iterations"])
                line["reached"] = {name: round(values[name], 1) for name in SHOWN if name in values}
            emit(line)

    def _beside(self, who: Who, sheet: Sheet) -> dict[str, Any]:
        """What is said of the person when the row is there."""
        likeness = None if np.isnan(sheet.likeness) else round(sheet.likeness, 4)
        found = self.gallery.nearest(who)
        if found is None:
            return {"likeness": likeness, "nearest": None}
        nearest = {
            "who": found.who.to_json(),
            "src": source_of(self.sheet(found.who).picture),
            "cosine": round(found.cosine, 4),
            "rejected": found.rejected,
        }
        return {"likeness": likeness, "nearest": nearest}


def source_of(jpeg: bytes) -> str:
    """What an `img` shows."""
    return f"data:image/jpeg;base64,{base64.b64encode(jpeg).decode()}"


def _unit(rows: Float32) -> Float32:
    return np.asarray(rows / np.linalg.norm(rows, axis=-1, keepdims=True), np.float32)


def _watch(maker: Steering, images: int, emit: Emit, check: Check) -> None:
    """Steering tells each iteration, and stops where nobody waits for it any longer."""
    steerer = maker.control.steerer(maker.names)
    advance, most = steerer.advance, maker.control.settings.iterations
    count = 0

    def watched() -> None:
        nonlocal count
        check()
        count += 1
        left = int(steerer.slots.active.sum())
        emit({"kind": "progress", "iteration": count, "most": most, "left": left, "images": images})
        advance()

    steerer.advance = watched

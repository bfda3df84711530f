"""Faces made while a trainer reads them: a torch `IterableDataset`, shared out among loader workers and ranks.

Batch g of the run (one image where no `batch_size` is given) is made by rank g mod ranks, and of that rank's batches
the k-th by worker k mod workers, as torch's loader asks them in turn. So every image is made once, whoever many there
are, and with `batch_size` a rank even sees the same batches in the same order with any number of workers.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch.utils.data import IterableDataset, get_worker_info

from v2f_engine.config import a_function, whole_number, yes_or_no
from v2f_engine.errors import ConfigError
from v2f_engine.options import ImageOptions
from v2f_engine.pipeline.draws import Draw, Draws
from v2f_engine.pipeline.finish import finished, rebatched
from v2f_engine.randomness import Purpose
from v2f_engine.vectors.dealing import dealt
from v2f_engine.vectors.identities import Identities

if TYPE_CHECKING:
    from collections.abc import Generator

    from v2f_engine.attributes.control import AttributeControl
    from v2f_engine.pipeline.engine import Engine
    from v2f_engine.pipeline.makers.posed import PoseCondition

EPOCH_STEP = 0x9E3779B97F4A7C15
"""Odd, so that no two epochs of a run have the same seed of their order."""


@dataclass(frozen=True)
class Share:
    """Which images of a run one worker makes.

    Args:
        total: images of the run.
        size: images a batch.
        rank, ranks, worker, workers: whose share it is.
    """

    total: int
    size: int
    rank: int = 0
    ranks: int = 1
    worker: int = 0
    workers: int = 1

    @property
    def batches(self) -> range:
        """Numbers of its batches."""
        every = self.workers * self.ranks
        return range(self.worker * self.ranks + self.rank, -(-self.total // self.size), every)

    def __len__(self) -> int:
        """How many images."""
        short = -self.total % self.size
        last = bool(self.batches) and (self.batches[-1] + 1) * self.size > self.total
        return len(self.batches) * self.size - (short if last else 0)

    def places(self, first: int, stop: int) -> NDArray[np.int64]:
        """int64: where its images `first` to `stop` stand in the run."""
        batch, within = np.divmod(np.arange(first, stop, dtype=np.int64), self.size)
        return (self.batches.start + batch * self.batches.step) * self.size + within


@dataclass(frozen=True)
class Shared(Draws):
    """The draws of a share, perhaps in another order and of later images.

    Args:
        share: which of the run's places.
        shuffle: a seed of the order of the run's images, or None for (identity, image).
        later: added to an image's number.
    """

    share: Share = Share(0, 1)
    shuffle: int | None = None
    later: int = 0

    def __len__(self) -> int:
        return len(self.share)

    def batches(self, size: int) -> Generator[Draw]:
        per_id, run = self.images.images_per_id, self.run * self.images.images_per_id
        for start in range(0, len(self), size):
            place = self.share.places(start, min(len(self), start + size))
            if self.shuffle is not None:
                place = dealt(self.shuffle, Purpose.SHOWN_ORDER, place, run)
            row, image = np.divmod(place, per_id)
            yield self.at(row, image + self.later)


class StreamedFaces(IterableDataset[Any]):
    """Faces of an engine for `torch.utils.data.DataLoader`; made by `Engine.dataset`, where the arguments stand.

    Each epoch gives the same images, unless `fresh`; `set_epoch` says which it is, in running workers too. `len` is the
    number of items of this rank. Started workers (`spawn`) load the engine's model themselves, once each; forked ones
    share it, which a GPU does not allow.
    """

    def __init__(
        self,
        engine: Engine,
        identities: Identities,
        asked: ImageOptions,
        *,
        control: AttributeControl | PoseCondition | None = None,
        transform: Callable[[torch.Tensor], Any] | None = None,
        batch_size: int | None = None,
        shuffle: bool = False,
        fresh: bool = False,
        drop_last: bool = False,
        rank: int | None = None,
        world_size: int | None = None,
    ) -> None:
        a_function("transform", transform)
        self.transform = transform
        self.shuffle, self.fresh = yes_or_no("shuffle", shuffle), yes_or_no("fresh", fresh)
        self.drop_last = yes_or_no("drop_last", drop_last)
        self.batch_size = None if batch_size is None else whole_number("batch_size", batch_size, 1)
        if (rank is None) != (world_size is None):
            raise ConfigError(
                "rank and world_size: give both, or neither where torch.distributed knows them."
            )
        if rank is not None and world_size is not None:
            rank, world_size = whole_number("rank", rank, 0), whole_number("world_size", world_size, 1)
            if rank >= world_size:
                raise ConfigError(f"rank must be below world_size ({world_size}), found {rank}.")
            self._given: tuple[int, int] | None = (rank, world_size)
        else:
            self._given = None
        self.identities, self.asked = identities, asked
        self._engine: Engine | None = engine
        self._opened, self._usual, self._describe = engine.asked, engine.usual, engine.describe()
        self._control_asked = control
        self._control = None if control is None else engine.control(control)
        self._epoch = torch.zeros(1, dtype=torch.int64)
        self._epoch.share_memory_()  # type: ignore[no-untyped-call]

    @property
    def classes(self) -> int:
        """Number of labels."""
        return len(self.identities)

    @property
    def epoch(self) -> int:
        """Which pass it is: decides the order, and `fresh` images."""
        return int(self._epoch[0])

    def set_epoch(self, epoch: int) -> None:
        """Says which pass comes next; workers that are running hear of it."""
        self._epoch[0] = whole_number("epoch", epoch, 0)

    def _place(self) -> tuple[int, int]:
        """(rank, ranks): given, or of the process group that there is, or of the one in which this was pickled."""
        from torch import distributed

        if self._given is None and distributed.is_available() and distributed.is_initialized():
            return distributed.get_rank(), distributed.get_world_size()
        return self._given or (0, 1)

    def _share(self, worker: int = 0, workers: int = 1) -> Share:
        rank, ranks = self._place()
        total, size = len(self.identities) * self.asked.images_per_id, self.batch_size or 1
        if self.drop_last:
            total -= total % (size * ranks)
        return Share(total, size, rank, ranks, worker, workers)

    def __len__(self) -> int:
        share = self._share()
        return len(share) if self.batch_size is None else len(share.batches)

    def __iter__(self) -> Iterator[Any]:
        info = get_worker_info()
        share = self._share(*((0, 1) if info is None else (info.id, info.num_workers)))
        engine = self._open()
        control = self._control
        masks = engine.masks if control is None else control.maker.usual_masks or engine.masks
        draws = Draws.of(self.identities, self.asked, masks)
        order = (self.asked.seed + self.epoch * EPOCH_STEP) % 2**64 if self.shuffle else None
        later = self.epoch * self.asked.images_per_id if self.fresh else 0
        shared = Shared(
            draws.identity,
            draws.keys,
            draws.centres,
            draws.images,
            draws.masks,
            draws.run,
            draws.given,
            draws.group,
            share=share,
            shuffle=order,
            later=later,
        )
        size = self.batch_size or engine.runner.batch_size
        with closing(rebatched(finished(control or engine.plain, shared), size)) as made:
            for batch in made:
                images, labels = batch.to_torch(), torch.from_numpy(batch.identity.copy())
                if self.batch_size is not None:
                    yield (images if self.transform is None else self.transform(images)), labels
                    continue
                for image, label in zip(images, labels.tolist(), strict=True):
                    yield (image if self.transform is None else self.transform(image)), label

    def _open(self) -> Engine:
        """The engine: this process's own, or loaded anew in one that was started."""
        from v2f_engine.pipeline.engine import Engine

        if self._engine is None:
            assert self._opened is not None, "refused when it was pickled"
            engine = Engine.open(self._opened)
            engine.usual = self._usual
            if engine.describe() != self._describe:
                raise ConfigError(
                    "the engine that a loader's worker opened would make other bytes than the one it was made from: "
                    "the model's file has changed, or the worker runs on another kind of device."
                )
            self._engine = engine
            self._control = None if self._control_asked is None else engine.control(self._control_asked)
        elif (
            str(self._describe["runner"].get("device", "")).startswith("cuda")
            and torch.cuda._is_in_bad_fork()
        ):
            raise ConfigError(
                "A forked process cannot use a GPU. Give the loader multiprocessing_context='spawn', or num_workers=0."
            )
        return self._engine

    def __getstate__(self) -> dict[str, Any]:
        if self._opened is None:
            raise ConfigError(
                "this engine was not made by Engine.load, so a worker cannot load it: use num_workers=0, or forked "
                "workers."
            )
        return {**self.__dict__, "_engine": None, "_control": None, "_given": self._place()}

    def __repr__(self) -> str:
        rank, ranks = self._place()
        of = f", rank {rank} of {ranks}" if ranks > 1 else ""
        return (
            f"StreamedFaces({self.classes:,} people x {self.asked.images_per_id}, {len(self):,} "
            f"{'images' if self.batch_size is None else f'batches of {self.batch_size}'}{of})"
        )


def shared_out(
    engine: Engine, identities: Identities, asked: ImageOptions, control: Any, **how: Any
) -> StreamedFaces:
    """A `StreamedFaces`; options that count over a whole run go with neither other orders nor later images.

    Raises:
        ConfigError: such a combination, or an argument out of range.
    """
    # told of the table once, and not by every worker
    noise = asked.perturbation.over(identities.vectors, identities.keys)
    made = StreamedFaces(engine, identities, replace(asked, perturbation=noise), control=control, **how)
    if made.fresh and (asked.mask_batch != 1 or asked.sigma_shares != "drawn"):
        raise ConfigError(
            "fresh images have no place in a run: leave mask_batch and sigma_shares at their defaults."
        )
    return made

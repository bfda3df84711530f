"""The plain way: the runner decodes each draw."""

from __future__ import annotations

from collections.abc import Generator, Iterable

from v2f_engine.pipeline.draws import Draw
from v2f_engine.pipeline.makers import Made, Maker
from v2f_engine.runtime import Runner, with_rows


class Plain(Maker):
    """Images as the runner makes them."""

    def __init__(self, runner: Runner) -> None:
        self.runner = runner
        self.rows = self.batch = runner.batch_size

    def __call__(self, draw: Draw) -> Made:
        return Made.joined([Made(self.runner(*part.inputs)) for part in draw.parts(self.rows)])

    def stream(self, draws: Iterable[Draw]) -> Generator[Made]:
        made = self.runner.stream(draw.inputs for draw in draws)
        try:
            for images in made:
                yield Made(images)
        finally:
            made.close()

    def smaller(self, rows: int) -> Plain:
        return Plain(with_rows(self.runner, rows))

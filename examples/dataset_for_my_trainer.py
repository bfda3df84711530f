"""A dataset in one's own PyTorch loop: made once, read from its shards by a DataLoader; a small classifier learns it.

`open_training_set` reads every format that the engine writes, and those of others; `read` gives rows by number.
"""

import argparse
from pathlib import Path

import torch
from torch import nn
from torch.utils.data import DataLoader, Dataset

import v2f_engine as v2f
from v2f_engine.data import open_training_set


class Faces(Dataset):
    """Rows of a stored set as float32 `[3, 112, 112]` in [-1, 1] and the person's number."""

    def __init__(self, folder: Path) -> None:
        self.rows = open_training_set(folder)

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, row: int) -> tuple[torch.Tensor, int]:
        read = self.rows.read([row])
        return torch.from_numpy(read.images[0]).permute(2, 0, 1) / 127.5 - 1, int(read.labels[0])


def main(out: Path) -> None:
    report = v2f.generate(n_ids=8, images_per_id=12, out=out, format="webdataset", seed=0)
    faces = Faces(report.out)
    print(f"{len(faces)} images of {faces.rows.classes} people in {report.out}")
    torch.manual_seed(0)
    network = nn.Sequential(
        nn.Conv2d(3, 16, 7, 4), nn.ReLU(), nn.Conv2d(16, 32, 3, 2), nn.ReLU(), nn.AdaptiveAvgPool2d(4), nn.Flatten(),
        nn.Linear(512, faces.rows.classes),
    )  # fmt: skip
    optimizer = torch.optim.Adam(network.parameters(), 4e-3)
    for epoch in range(8):
        losses, right = [], 0
        for images, people in DataLoader(faces, batch_size=16, shuffle=True):
            logits = network(images)
            loss = nn.functional.cross_entropy(logits, people)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            losses.append(loss.item())
            right += int((logits.argmax(1) == people).sum())
        print(
            f"epoch {epoch + 1}  loss {sum(losses) / len(losses):.3f}  right {100 * right / len(faces):.0f} %"
        )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("trainer_faces"))
    main(parser.parse_args().out)

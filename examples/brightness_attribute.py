"""An attribute of your own: `v2f generate --attribute examples/brightness_attribute.py:Brightness ...`.

Any differentiable function of images will do, a network of yours included: `Attribute.from_callable` takes a
`torch.nn.Module` as well.
"""

import torch

from v2f_engine.attributes.targets import Attribute


def brightness(images: torch.Tensor) -> torch.Tensor:
    """Mean grey level 0..255 of the middle of the picture; images `[B, 3, 112, 112]` in [-1, 1]."""
    middle = images[:, :, 28:84, 28:84]
    return (middle.mean((1, 2, 3)) + 1.0) * 127.5


Brightness = Attribute.from_callable("brightness", brightness, goal=150.0, tolerance=5.0, weight=1.0)

"""A scene: a focal stack whose heights are known."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from models.focal_stack import FocalStack


@dataclass(frozen=True)
class Scene:
    """``stack`` with its true ``height_um`` (H, W) float32 in the unit of ``stack.z_um``, NaN where it is not known.

    ``kind`` says what is seen ("gravure", "scratches", ...), so that errors can be told apart by it.
    """

    name: str
    kind: str
    stack: FocalStack
    height_um: NDArray[np.float32]

    def __post_init__(self) -> None:
        if self.height_um.shape != self.stack.image_shape:
            raise ValueError(f"heights {self.height_um.shape} do not fit frames {self.stack.image_shape}")

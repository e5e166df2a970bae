"""3D TFT: depth images from a 3-D time-frequency transform of the stack, the steady ones fused.

Yan et al., "Intelligent microscopic 3D shape reconstruction method based on 3D time-frequency transformation",
Scientia Sinica Informationis 53 (2023) 282. Only its abstract was to be had. It names the parts: the stack is one
3-D image; a 3-D time-frequency transform turns it into depth images of different scale, region and direction; a
locally stable clustering on texture features selects those of good homogeneity; a layer-by-layer sifting balance
tree fuses them selectively. It says neither which transform, nor which features, nor how the tree sifts. So this is
a stand-in with the same parts and not their algorithm:

- Transform: undecimated separable B3-spline wavelets (a trous; Starck, Murtagh and Bijaoui 1998), three scales and
  three directions in the frame, each split along z into a smooth and a detail band: 18 bands. Beside them, of each
  scale, the sum of the smooth ones of all directions up to this scale: in noise no band says enough by itself.
- Depth image of a band: the peak along z of the mean size of its coefficients over the window.
- Features of a depth image: deviation from its local median, part of neighbours that jump by more than a step, local
  spread; their logarithms fall into two clusters (k-means), and the steadier one is kept.
- Tree: in each layer the steadiest image is paired with the least steady one and so on. Where a pair agrees within a
  step, the mean weighted by local steadiness is taken, elsewhere the height of the locally steadier image. A fused
  image that is less steady than the better one of its pair is dropped for that one.
"""

from collections.abc import Callable, Iterator

import cv2
import numpy as np
from numpy.typing import NDArray

Plane = NDArray[np.float32]

SCALES = 3
B3_SPLINE = (1 / 16, 1 / 4, 3 / 8, 1 / 4, 1 / 16)
SMOOTHING_ALONG_Z = 1.0
BANDS = SCALES * (3 * 2 + 1)
AGREED = 1.0
"""Steps; heights further apart are two answers, not one with noise."""
LEAST_DEVIATION = np.float32(0.1)
"""Steps; nothing is trusted as if it were steadier."""
MOST_MEANS_ROUNDS = 20


def bands(
    grey: NDArray[np.uint8 | np.uint16],
    z: NDArray[np.float64],
    window: int,
    *,
    stabilise: bool,
    check: Callable[[], None],
) -> Iterator[NDArray[np.float32]]:
    """Strength (N, H, W) float32, not negative, of each of the BANDS sub-bands around every pixel.

    ``grey``: (N, H, W) frames; ``z``: (N,) heights in steps, rising. ``stabilise``: on the square root of the grey
    values. ``check`` is called often and may raise to stop. What was yielded must be used before the next is asked
    for. Memory: four volumes.
    """
    low = grey.astype(np.float32)
    if stabilise:
        np.sqrt(low, out=low)
    smooth = _smoothing_along_z(z)
    detail = np.empty_like(low)
    together = np.zeros_like(low)
    for scale in range(SCALES):
        kernel = np.zeros(4 * 2**scale + 1, np.float32)
        kernel[:: 2**scale] = B3_SPLINE
        for direction in ("across", "down", "both"):
            for frame, out in zip(low, detail, strict=True):
                check()
                out[...] = _detail(frame, kernel, direction)
            smoothed = np.tensordot(smooth, detail, 1)
            detail -= smoothed
            for band in (smoothed, detail):
                for frame in band:
                    check()
                    cv2.blur(np.abs(frame), (window, window), dst=frame)
                yield band
            together += smoothed
            del smoothed, band
        yield together
        for frame in low:
            frame[...] = cv2.sepFilter2D(frame, -1, kernel, kernel)


def _detail(frame: Plane, kernel: Plane, direction: str) -> Plane:
    one = np.ones(1, np.float32)
    if direction == "down":
        smooth = cv2.sepFilter2D(frame, -1, kernel, one)
        return np.asarray(smooth - cv2.sepFilter2D(smooth, -1, one, kernel))
    rough = frame - cv2.sepFilter2D(frame, -1, kernel, one)
    smooth = cv2.sepFilter2D(rough, -1, one, kernel)
    return np.asarray(smooth if direction == "across" else rough - smooth)


def _smoothing_along_z(z: NDArray[np.float64]) -> NDArray[np.float32]:
    """(N, N) matrix that smooths a curve sampled at ``z``; a straight line stays straight on unequal steps, too."""
    difference = np.diff(np.eye(len(z)), axis=0)
    roughness = difference.T @ (difference / np.diff(z)[:, None])
    return np.linalg.inv(np.eye(len(z)) + SMOOTHING_ALONG_Z * roughness).astype(np.float32)


def fused(depth_images: list[Plane], window: int) -> Plane:
    """One height map (H, W) from the depth images (H, W) float32, in steps, of all bands; none has NaN."""
    steady = _steady_cluster(depth_images)
    layer = sorted(((_deviation(image, window), image) for image in steady), key=_unsteadiness)
    while len(layer) > 1:
        half = len(layer) // 2
        pairs = zip(layer[:half], layer[::-1], strict=False)
        above = layer[half : len(layer) - half]  # the one in the middle of an odd number waits
        for better, other in pairs:
            image = _fused_pair(better, other)
            both = (_deviation(image, window), image)
            above.append(min(both, better, key=_unsteadiness))
        layer = sorted(above, key=_unsteadiness)
    return layer[0][1]


def _deviation(image: Plane, window: int) -> Plane:
    """How far the heights around each pixel lie off their local median, on average."""
    return np.asarray(cv2.blur(cv2.absdiff(image, cv2.medianBlur(image, 5)), (window, window)))


def _unsteadiness(node: tuple[Plane, Plane]) -> float:
    return float(node[0].mean())


def _fused_pair(one: tuple[Plane, Plane], other: tuple[Plane, Plane]) -> Plane:
    weights = [1 / (deviation + LEAST_DEVIATION) ** 2 for deviation, _image in (one, other)]
    mean = (weights[0] * one[1] + weights[1] * other[1]) / (weights[0] + weights[1])
    steadier = np.where(weights[0] >= weights[1], one[1], other[1])
    return np.asarray(np.where(cv2.absdiff(one[1], other[1]) > AGREED, steadier, mean))


def _steady_cluster(depth_images: list[Plane]) -> list[Plane]:
    """Those of the steadier one of two clusters of texture features."""
    features = np.stack([_features(image) for image in depth_images])
    features -= features.mean(axis=0)
    features /= features.std(axis=0) + 1e-9
    rank = features.sum(axis=1)
    centres = features[[rank.argmin(), rank.argmax()]]
    for _round in range(MOST_MEANS_ROUNDS):
        unsteady = np.argmin(np.linalg.norm(features[:, None] - centres, axis=2), axis=1)
        members = [features[unsteady == i] for i in (0, 1)]
        moved = np.stack([m.mean(axis=0) if len(m) else c for m, c in zip(members, centres, strict=True)])
        if np.array_equal(moved, centres):
            break
        centres = moved
    return [image for image, bad in zip(depth_images, unsteady, strict=True) if not bad]


def _features(image: Plane) -> NDArray[np.float64]:
    jumps = np.concatenate([np.abs(np.diff(image, axis=axis)).ravel() > AGREED for axis in (0, 1)])
    variance = cv2.sqrBoxFilter(image, cv2.CV_32F, (5, 5)) - cv2.blur(image, (5, 5)) ** 2
    spread = np.sqrt(np.maximum(variance, 0))
    values = (_deviation(image, 1).mean(), jumps.mean(), np.median(spread), spread.mean())
    return np.log(np.array(values, dtype=np.float64) + 1e-3)

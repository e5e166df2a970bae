"""Values continued smoothly into holes: the solution of Laplace's equation between what is known around them.

The membrane of Poisson image editing (Pérez, Gangnet, Blake, ACM Transactions on Graphics 22 (2003) 313).
"""

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage, sparse
from scipy.sparse.linalg import cg, spsolve

Image = NDArray[np.float64]
Mask = NDArray[np.bool_]

# Above this, elimination takes more memory and time than iterations from a good start.
_DIRECT = 60_000
_TOLERANCE = 1e-5


def harmonic(values: NDArray[np.floating], unknown: Mask) -> Image:
    """``values`` (H, W) float64 with the pixels of ``unknown`` (H, W) bool filled harmonically.

    What is neither unknown nor finite is a wall that nothing crosses, like the border of the map. Unknown pixels that
    touch no known value, not even through others, become NaN.
    """
    values = np.asarray(values, np.float64)
    known = np.isfinite(values) & ~unknown
    filled = np.where(known, values, np.nan)
    reached = _reached(unknown, known)
    if reached.any():
        filled[reached] = _solve(filled, reached)
    return filled


def _reached(unknown: Mask, known: Mask) -> Mask:
    """The unknown pixels in a region that has a known neighbour."""
    regions, count = ndimage.label(unknown)
    touching = np.zeros(count + 1, np.bool_)
    touching[np.unique(regions[ndimage.binary_dilation(known) & unknown])] = True
    touching[0] = False
    return np.asarray(touching[regions])


def _start(values: Image, unknown: Mask) -> Image:
    """A first guess for many unknown pixels: the solution at half the resolution, or what is nearest."""
    near = ndimage.distance_transform_edt(np.isnan(values), return_distances=False, return_indices=True)
    height, width = values.shape
    padding = ((0, height % 2), (0, width % 2))
    blocks = (
        np.pad(np.where(np.isfinite(values), values, 0.0), padding),
        np.pad(np.isfinite(values), padding).astype(float),
        np.pad(unknown, padding).astype(float),
    )
    total, known, open_ = (
        block.reshape(block.shape[0] // 2, 2, block.shape[1] // 2, 2).sum(axis=(1, 3)) for block in blocks
    )
    coarse = np.where(known > 0, total / np.maximum(known, 1), np.nan)
    solved = harmonic(coarse, (known == 0) & (open_ > 0))
    fine = np.repeat(np.repeat(solved, 2, axis=0), 2, axis=1)[:height, :width]
    return np.where(np.isfinite(fine), fine, values[tuple(near)])


def _solve(values: Image, unknown: Mask) -> Image:
    """The values of the unknown pixels, in the order of ``unknown``. Every region of them has a known neighbour."""
    count = int(np.count_nonzero(unknown))
    number = np.full(values.shape, -1)
    number[unknown] = np.arange(count)
    degree, right = np.zeros(count), np.zeros(count)
    rows, columns = [], []
    for axis in (0, 1):
        one = [slice(None), slice(None)]
        other = [slice(None), slice(None)]
        one[axis], other[axis] = slice(None, -1), slice(1, None)
        for here, there in ((tuple(one), tuple(other)), (tuple(other), tuple(one))):
            both = (number[here] >= 0) & (number[there] >= 0)
            rows.append(number[here][both])
            columns.append(number[there][both])
            rim = (number[here] >= 0) & np.isfinite(values[there])
            degree += np.bincount(rows[-1], minlength=count) + np.bincount(number[here][rim], minlength=count)
            right += np.bincount(number[here][rim], weights=values[there][rim], minlength=count)
    row, column = np.concatenate(rows), np.concatenate(columns)
    coupling = sparse.csr_matrix((-np.ones(len(row)), (row, column)), shape=(count, count))
    system = sparse.diags(degree) + coupling
    if count <= _DIRECT:
        return np.asarray(spsolve(system.tocsc(), right, permc_spec="MMD_AT_PLUS_A"))
    guess = _start(values, unknown)[unknown]
    scale = float(np.std(guess)) or 1.0
    jacobi = sparse.diags(1 / degree)
    solution, _state = cg(
        system, right, x0=guess, rtol=0.0, atol=_TOLERANCE * scale * count**0.5, maxiter=2000, M=jacobi
    )
    return np.asarray(solution)

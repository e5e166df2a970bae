"""What Yan et al., Journal of Software 34 (2023), print of GPLWS-Net, to stand beside what is measured here."""

from typing import NamedTuple


class PaperVariant(NamedTuple):
    """A row of tables 1 to 3: ``network`` is the one here that it describes, ``mse`` is on the 4D Light Field set."""

    table: int
    what: str
    network: str
    parameters: int
    mse: float


PAPER_ABLATION = (
    PaperVariant(1, "concatenated links", "gplws-net-2023-concat", 546_321, 0.0275),
    PaperVariant(1, "additive links", "gplws-net-2023", 540_273, 0.0275),
    PaperVariant(2, "concatenated links, plain convolution", "gplws-net-2023-concat-plain", 1_213_872, 0.0516),
    PaperVariant(2, "concatenated links, depthwise", "gplws-net-2023-concat-depthwise", 200_400, 0.0473),
    PaperVariant(2, "concatenated links, group-parallel", "gplws-net-2023-concat", 444_048, 0.0534),
    PaperVariant(2, "additive links, plain convolution", "gplws-net-2023-plain", 754_020, 0.0468),
    PaperVariant(2, "additive links, depthwise", "gplws-net-2023-depthwise", 106_344, 0.0479),
    PaperVariant(2, "additive links, group-parallel", "gplws-net-2023", 260_853, 0.0372),
    PaperVariant(3, "no re-parameterization", "gplws-net-2023-single", 540_936, 0.0339),
)

ABOUT_ABLATION = """\
The paper prints the parameters of its variants, but neither widths nor groups nor the number of modules. Ours follow
from table 1, whose two counts they give exactly: widths 12, 24, 48 and 96, four groups and 17 searches, 1, 5, 5 and 6
of each width. Concatenated links add three 1x1x1 convolutions from 2 c to c channels, 6,048 parameters.

Tables 2 and 3 do not fit to that network, so the difference there is not an error of either:

- **Table 2 counts another network.** Its last row, additive links and group-parallel, is by name the network of
  table 1, but has 260,853 parameters instead of 540,273. A 3x3x3 search has 27 c² parameters when plain, 27 c²/4 in
  four groups and 27 c depthwise. With that the rows with additive links belong, but for 363 parameters in the last, to
  seven searches, 1, 2, 2 and 2 of each width, and 96,948 parameters of everything else; the rows with concatenated
  links to searches whose c add up to 480 and c² to 38,016, and 187,440 others. The paper does not say what was left
  out. Here the convolution alone is exchanged, in all 17 searches, so that a row differs from the published network in
  what its name says and in nothing else.
- **Table 3**: without re-parameterization each search ends in a norm of 2 c parameters instead of a bias of c, which
  is 948 more over all 17. The paper prints 663 more than in table 1.

The mean square errors are of different data and units, in steps here: only their order can agree.
"""

PAPER_SECONDS = {
    "256x256x5": (2.617, 3.020),
    "512x512x10": (9.498, 11.987),
    "540x960x15": (30.44, 42.61),
    "600x800x10": (17.80, 31.57),
}
"""Seconds of GPLWS-Net and of its best peer in the same paper, on a Xeon Silver 4210."""

"""Re-parameterization: three branches while training, one convolution afterwards.

X. Ding et al., RepVGG: making VGG-style ConvNets great again, CVPR 2021; in 3D and with groups as in Yan et al.,
Journal of Software 34 (2023): W' = W gamma / alpha, b' = (b - mu) gamma / alpha + beta, summed over the branches.
"""

import torch
from torch import Tensor, nn


class ReparameterizedConv3d(nn.Module):
    """Grouped convolution (B, C, N, H, W) -> (B, C, N, H, W): kxkxk + BN, 1x1x1 + BN and identity + BN, summed."""

    def __init__(self, channels: int, *, kernel: int | tuple[int, int, int] = 3, groups: int = 1) -> None:
        super().__init__()
        size = (kernel,) * 3 if isinstance(kernel, int) else kernel
        self.kernel, self.groups = size, groups
        self.wide = nn.Conv3d(
            channels, channels, size, padding=(size[0] // 2, size[1] // 2, size[2] // 2), groups=groups, bias=False
        )
        self.wide_norm = nn.BatchNorm3d(channels)
        self.point = nn.Conv3d(channels, channels, 1, groups=groups, bias=False)
        self.point_norm = nn.BatchNorm3d(channels)
        self.identity_norm = nn.BatchNorm3d(channels)

    def forward(self, x: Tensor) -> Tensor:
        total: Tensor = self.wide_norm(self.wide(x)) + self.point_norm(self.point(x)) + self.identity_norm(x)
        return total

    @torch.no_grad()
    def fuse(self) -> nn.Conv3d:
        """One convolution with the same output, for the statistics gathered so far."""
        channels, share = self.wide.out_channels, self.wide.in_channels // self.groups
        middle = (self.kernel[0] // 2, self.kernel[1] // 2, self.kernel[2] // 2)
        identity = torch.zeros(channels, share, 1, 1, 1, device=self.wide.weight.device)
        identity[torch.arange(channels), torch.arange(channels) % share] = 1.0
        kernel, bias = _with_norm(self.wide.weight, self.wide_norm)
        for weight, norm in ((self.point.weight, self.point_norm), (identity, self.identity_norm)):
            scaled, offset = _with_norm(weight, norm)
            kernel[:, :, middle[0], middle[1], middle[2]] += scaled[:, :, 0, 0, 0]
            bias = bias + offset
        fused = nn.Conv3d(channels, channels, self.kernel, padding=middle, groups=self.groups, device=kernel.device)
        fused.weight.copy_(kernel)
        assert fused.bias is not None
        fused.bias.copy_(bias)
        return fused


def _with_norm(weight: Tensor, norm: nn.BatchNorm3d) -> tuple[Tensor, Tensor]:
    """Kernel and bias of a bias-free convolution followed by ``norm``."""
    assert norm.running_mean is not None
    assert norm.running_var is not None
    gain = norm.weight / torch.sqrt(norm.running_var + norm.eps)
    return weight * gain[:, None, None, None, None], norm.bias - norm.running_mean * gain


def fuse(network: nn.Module) -> nn.Module:
    """Put every part of ``network`` that has a ``fuse()`` into its inference form, in place, and in eval mode."""
    for name, child in network.named_children():
        fused = getattr(child, "fuse", None)
        if fused is not None:
            setattr(network, name, fused())
        else:
            fuse(child)
    return network.eval()

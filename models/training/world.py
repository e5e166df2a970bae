"""The processes that train together: one, or those that torchrun started."""

import contextlib
import os
from collections.abc import Iterator
from dataclasses import dataclass

import torch
import torch.distributed
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from models.errors import InputError
from models.language import _


@dataclass(frozen=True)
class World:
    """This process is number ``rank`` of ``size``; the first one writes, validates and decides."""

    rank: int
    size: int
    device: torch.device

    @property
    def is_first(self) -> bool:
        return self.rank == 0

    @property
    def device_name(self) -> str:
        return torch.cuda.get_device_name(self.device) if self.device.type == "cuda" else self.device.type

    def wrapped(self, network: nn.Module) -> nn.Module:
        """``network`` with its gradients averaged over all processes."""
        if self.size == 1:
            return network
        devices = [self.device] if self.device.type == "cuda" else None
        # Which heads of a network are used depends on the loss.
        return DistributedDataParallel(network, device_ids=devices, find_unused_parameters=True)

    def agreed(self, fraction: float, stop: int) -> tuple[float, int]:
        """What the first process says: clocks differ, and one that stops alone leaves the others waiting."""
        if self.size == 1:
            return fraction, stop
        said = torch.tensor([fraction, stop], dtype=torch.float64, device=self.device)
        torch.distributed.broadcast(said, 0)
        return float(said[0]), int(said[1])


@contextlib.contextmanager
def joined_world(device: str | None = None) -> Iterator[World]:
    """The world that torchrun's variables describe, or a world of one. ``device`` None takes a GPU if there is one.

    Raises InputError for a device that is not there.
    """
    size = int(os.environ.get("WORLD_SIZE", "1"))
    rank, local = int(os.environ.get("RANK", "0")), int(os.environ.get("LOCAL_RANK", "0"))
    chosen = _device(device, local)
    if size == 1:
        yield World(0, 1, chosen)
        return
    torch.distributed.init_process_group("nccl" if chosen.type == "cuda" else "gloo")
    try:
        yield World(rank, size, chosen)
    finally:
        torch.distributed.destroy_process_group()


def _device(name: str | None, local_rank: int) -> torch.device:
    if name is None:
        name = f"cuda:{local_rank}" if torch.cuda.is_available() else "cpu"
    try:
        device = torch.device(name)
        torch.empty(1, device=device)
    except (RuntimeError, AssertionError) as error:
        raise InputError(_("The device '{name}' cannot be used.").format(name=name)) from error
    if device.type == "cuda":
        torch.cuda.set_device(device)
    return device

"""Where a training runs: the device, and the processes that train together."""

from __future__ import annotations

import os
from types import TracebackType

import torch
from torch import distributed, nn

from labdiff.errors import CheckpointError

DEVICES = ("auto", "cpu", "cuda")


def device_named(name: str) -> torch.device:
    """The device of that name; "auto" is the GPU where there is one, under torchrun this process's own.

    Raises CheckpointError for any other name than those of DEVICES, and where the GPU is not there.
    """
    if name not in DEVICES:
        raise CheckpointError(f"There is no device called {name!r}: say {', '.join(DEVICES[:-1])} or {DEVICES[-1]}.")
    if name == "cpu" or (name == "auto" and not torch.cuda.is_available()):
        return torch.device("cpu")
    if not torch.cuda.is_available():
        raise CheckpointError("No GPU that PyTorch can use is here: say --device cpu.")
    index, count = int(os.environ.get("LOCAL_RANK", 0)), torch.cuda.device_count()
    if index >= count:
        raise CheckpointError(f"Process {index + 1} has no GPU, since there are {count}: lower --nproc-per-node.")
    return torch.device(f"cuda:{index}")


class Processes:
    """The processes that train together: one, or those that torchrun started.

    size: how many. rank: which of them this is. main: whether it is the first, which alone writes and prints.
    """

    def __init__(self, device: torch.device) -> None:
        self.size, self.rank = int(os.environ.get("WORLD_SIZE", 1)), int(os.environ.get("RANK", 0))
        self.main = self.rank == 0
        self.device = device

    def __enter__(self) -> Processes:
        if self.size > 1:
            if self.device.type == "cuda":
                torch.cuda.set_device(self.device)
            distributed.init_process_group("nccl" if self.device.type == "cuda" else "gloo")
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        if self.size > 1 and kind is None:  # after a failure the others can't be waited for
            distributed.destroy_process_group()

    def share(self, batch: torch.Tensor) -> torch.Tensor:
        """This process's part of a batch: every size-th of it. (B, ...) to (B / size, ...)."""
        return batch[self.rank :: self.size]

    def wrap(self, network: nn.Module) -> nn.Module:
        """The network, whose gradients are averaged over all processes at each backward pass."""
        return nn.parallel.DistributedDataParallel(network) if self.size > 1 else network

    def mean(self, value: torch.Tensor) -> float:
        """A number averaged over all processes."""
        value = value.detach().clone()
        if self.size > 1:
            distributed.all_reduce(value)
        return value.item() / self.size

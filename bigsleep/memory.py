"""How much of what CLIP sees a device bears at once."""

from __future__ import annotations

import math

import psutil
import torch
from torch import Tensor

from bigsleep.models.perceptor import Perceptor

CHUNK = {"cpu": 64, "cuda": 256, "mps": 64}  # cutouts that CLIP sees at once, where memory allows
CPU_CHUNK_BYTES = 400e6  # of what CLIP keeps of them; with more a CPU is slower, having new pages to clear


def even_part(count: int, most: int) -> int:
    """The first part of ``count`` cutouts in as few chunks of at most ``most`` as there must be, all about as large.

    >>> even_part(64, 23)
    22
    """
    return math.ceil(count / math.ceil(count / most))


def affordable_chunk(perceptor: Perceptor, device: torch.device) -> int:
    """How many cutouts CLIP may see at once: at most the device's ``CHUNK``, in at most half of its free memory.

    On a CPU in ``CPU_CHUNK_BYTES`` at most.
    """
    room = free_memory(device) / 2
    if device.type == "cpu":
        room = min(room, CPU_CHUNK_BYTES)
    return max(1, min(CHUNK[device.type], int(room / cutout_bytes(perceptor, device))))


def free_memory(device: torch.device) -> int:
    """Bytes that are free on a device."""
    if device.type == "cuda":
        unused = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        return torch.cuda.mem_get_info(device)[0] + unused
    if device.type == "mps":
        return torch.mps.recommended_max_memory() - torch.mps.current_allocated_memory()
    return psutil.virtual_memory().available


def cutout_bytes(perceptor: Perceptor, device: torch.device) -> int:
    """Bytes that CLIP keeps of one cutout between its forward and its backward pass."""
    kept: dict[int, int] = {}

    def keep(tensor: Tensor) -> Tensor:
        kept[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        pixels = torch.zeros(1, 3, perceptor.size, perceptor.size, device=device, requires_grad=True)
        features = perceptor.encode_images(pixels)
    weights = {parameter.untyped_storage().data_ptr() for parameter in perceptor.parameters()}
    del features  # until here it held what was kept
    return max(1, sum(size for place, size in kept.items() if place not in weights))

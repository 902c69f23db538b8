"""Compute a part of a training step in bfloat16, whose matrix products are several times faster where the processor has them.

In: a device and the wanted precision. Out: a context. Weights, losses and optimizers stay in float32.
"""

from __future__ import annotations

import contextlib
from typing import Literal

import torch

Precision = Literal["float32", "bfloat16"]


def computing_in(precision: Precision, device: torch.device) -> contextlib.AbstractContextManager:
    """Return a context in which matrix products run in a precision.

    Args:
        precision: ``float32``, or ``bfloat16``, which has 8 significant bits. A GPU has fast bfloat16, and so have CPUs with
            AMX or AVX-512 BF16; on other CPUs it is slower than float32.
        device: The device that computes.
    """
    if precision == "float32":
        return contextlib.nullcontext()
    return torch.autocast(device.type, torch.bfloat16)

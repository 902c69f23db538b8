"""Where the matrix products of a Spark task run.

In: the param ``device``. Out: a device of torch, on the GPU that Spark gave to the task, or None for numpy.
"""

from __future__ import annotations

from pyspark import TaskContext

from qarm_features.quantizers.arrays.torch_products import torch_device


def task_device(name: str) -> str | None:
    """Returns the torch device for the products of the task that calls it, or None for numpy.

    Args:
        name: ``cpu``, ``cuda``, ``auto`` or ``torch-cpu``, see ``torch_products.torch_device``.
    """
    context = TaskContext.get()
    gpus = context.resources().get("gpu") if context else None
    return torch_device(name, gpu=int(gpus.addresses[0]) if gpus else 0)

"""What a Spark task knows about itself.

In: the task that calls. Out: the number of its partition, and the device of its matrix products.
"""

from __future__ import annotations

from pyspark import TaskContext

from qarm_features.quantizers.arrays.torch_products import torch_device


def task_context() -> TaskContext:
    """Return the context of the task that calls it.

    Raises:
        RuntimeError: No Spark task is running in this process.
    """
    context = TaskContext.get()
    if context is None:
        raise RuntimeError(
            "This function was called outside a Spark task. Call it in a function that Spark distributes."
        )
    return context


def task_partition() -> int:
    """Return the number of the partition of the task that calls it, from 0."""
    return task_context().partitionId()


def task_device(name: str) -> str | None:
    """Return the torch device for the products of the task that calls it, or None for numpy.

    Args:
        name: ``cpu``, ``cuda``, ``auto`` or ``torch-cpu``, see ``torch_products.torch_device``.
    """
    context = TaskContext.get()
    gpus = context.resources().get("gpu") if context else None
    return torch_device(name, gpu=int(gpus.addresses[0]) if gpus else 0)

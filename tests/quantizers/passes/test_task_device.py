"""A task uses the GPU that Spark gave it, and imports torch only if the param ``device`` needs it."""

from __future__ import annotations

import sys
from types import SimpleNamespace

import pytest

from qarm_features.quantizers.passes import task_device as module
from qarm_features.quantizers.passes.task_device import task_context, task_device


def run_as_task(monkeypatch, resources):
    context = SimpleNamespace(resources=lambda: resources)
    monkeypatch.setattr(module, "TaskContext", SimpleNamespace(get=lambda: context))


@pytest.mark.parametrize(("resources", "gpu"), [({}, 0), ({"gpu": SimpleNamespace(addresses=["3"])}, 3)])
def test_a_task_uses_the_gpu_that_spark_gave_it(monkeypatch, resources, gpu):
    asked = []
    monkeypatch.setattr(module, "torch_device", lambda name, *, gpu: asked.append((name, gpu)) or f"cuda:{gpu}")
    run_as_task(monkeypatch, resources)

    assert task_device("cuda") == f"cuda:{gpu}"
    assert asked == [("cuda", gpu)]


def test_numpy_is_used_outside_a_task_too():
    assert task_device("cpu") is None
    assert task_device("torch-cpu") == "cpu"


def test_a_gpu_without_torch_names_the_extra_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "torch", None)

    with pytest.raises(
        ImportError, match=r"device is cuda, which needs torch\. .*pip install 'qarm-features\[torch\]'"
    ):
        task_device("cuda")


def test_a_function_of_tasks_is_refused_elsewhere():
    with pytest.raises(RuntimeError, match=r"This function was called outside a Spark task\. Call it in"):
        task_context()

"""Item pairs in, an aligned item encoder and its metrics out (QARM, arXiv 2411.11739, section 1).

:func:`align` is a plain function: call it, or let ``TorchDistributor`` or ``torchrun`` call it in every process. It
stops early on held-out pairs, keeps the best weights, and after a kill goes on from its last checkpoint.
"""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

from torch import nn

from qarm_features.alignment.options import AlignmentOptions
from qarm_features.alignment.packing import packed
from qarm_features.alignment.run import AlignmentRun
from qarm_features.alignment.training_data import TrainingData
from qarm_features.torch_processes import Processes, joined_processes

logger = logging.getLogger(__name__)

METRICS_FILE = "metrics.json"


def align(
    encoder: nn.Module | Callable[[], nn.Module],
    source: str | Path,
    output_dir: str | Path,
    *,
    options: AlignmentOptions | None = None,
    checkpoint_dir: str | Path | None = None,
    scratch: str | Path | None = None,
) -> dict[str, Any]:
    """Aligns an item encoder, in this process or together with the other processes of ``torch.distributed``.

    With WORLD_SIZE above 1 in the environment every process must call it with the same arguments. Negatives come from
    the pairs of all processes; the result is that of one process with the same batch_size, up to rounding.

    Args:
        encoder: an ``ItemEncoder`` with a Fusion-Q-Former, trained in place; or, lighter to send, a function that
            builds one in each process, seeded: ``functools.partial(ItemEncoder, modalities, q_former={...})``.
        source: folder of items/ and pairs/ as :mod:`qarm_features.alignment.packing` says; every process reads it.
        output_dir: local folder; the first process writes what ``encoder.save_pretrained`` writes, and metrics.json.
        options: how to train; None for the defaults.
        checkpoint_dir: folder for checkpoints, from which a later call with the same arguments goes on; of a training
            that ended, the next call only writes the result again. None: no checkpoints.
        scratch: local folder of each machine for the packed data; None: within source.

    Returns:
        What metrics.json holds, in every process: ``untrained`` and ``valid`` (loss in nats, hit_rate: share of
        held-out pairs whose target is among the 10 nearest of ``num_candidates`` items), ``epochs`` (one entry each:
        train_loss, valid_loss, valid_hit_rate, temperature, pairs_per_second), ``best_epoch`` from 0, None when the
        untrained encoder was best and is kept, ``rejected_items`` (broken ones; their pairs are left out),
        ``num_pairs``, ``num_weights``, ``options``.

    Raises:
        ValueError: if the encoder has no Fusion-Q-Former, the data are not as they should be, a checkpoint is of
            another training, or the loss is not finite.
    """
    options = options or AlignmentOptions()
    _let_epochs_be_seen()
    with joined_processes(seed=options.seed, num_threads=options.num_threads, use_gpu=options.use_gpu) as processes:
        folder = _pack_once_per_machine(source, scratch, processes)
        data = TrainingData(folder, batch_size=options.batch_size, seed=options.seed)
        module = (encoder if isinstance(encoder, nn.Module) else encoder()).to(processes.device)
        if module.q_former is None:
            raise ValueError("q_former of the encoder is None, must be set. Build ItemEncoder with q_former={...}.")
        run = AlignmentRun(module, data, options, processes, checkpoint_dir)
        metrics = run.train() | {"options": asdict(options)}
        if processes.rank == 0:
            module.save_pretrained(output_dir)
            (Path(output_dir) / METRICS_FILE).write_text(json.dumps(metrics, indent=2, allow_nan=False))
            if metrics["best_epoch"] is None:
                logger.warning("no epoch was better than the untrained encoder, which is kept")
        processes.wait()
    return metrics


def _let_epochs_be_seen() -> None:
    """Lets a process of torchrun, which starts without any log, write ours to stderr: from there it reaches the driver."""
    if "TORCHELASTIC_RUN_ID" in os.environ and not logger.hasHandlers():
        handler = logging.StreamHandler()
        handler.setFormatter(logging.Formatter("%(message)s"))
        package = logging.getLogger("qarm_features")
        package.addHandler(handler)
        package.setLevel(logging.INFO)


def _pack_once_per_machine(source: str | Path, scratch: str | Path | None, processes: Processes) -> Path:
    if os.environ.get("LOCAL_RANK", "0") == "0":
        packed(source, scratch)
    processes.wait()
    return packed(source, scratch)

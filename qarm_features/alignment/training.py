"""Align an item encoder by training it on item pairs.

In: a folder of items and item pairs, and an encoder. Out: the aligned encoder and its metrics (QARM, arXiv 2411.11739,
section 1). ``align`` is a plain function: call it, or let ``TorchDistributor`` or ``torchrun`` call it in every process.
Training stops early by the result on held-out pairs and keeps the best weights. A killed training run continues from its last
checkpoint.
"""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from qarm_features.alignment.options import AlignmentOptions
from qarm_features.alignment.packing import packed
from qarm_features.alignment.run import AlignmentRun
from qarm_features.alignment.training_data import TrainingData
from qarm_features.encoders.item_encoder import ItemEncoder
from qarm_features.torch_processes import Processes, joined_processes
from qarm_features.training_log import log_to_stderr

logger = logging.getLogger(__name__)

METRICS_FILE = "metrics.json"


def align(
    encoder: ItemEncoder | Callable[[], ItemEncoder],
    source: str | Path,
    output_dir: str | Path,
    *,
    options: AlignmentOptions | None = None,
    checkpoint_dir: str | Path | None = None,
    scratch: str | Path | None = None,
) -> dict[str, Any]:
    """Align an item encoder, in this process or together with the other processes of ``torch.distributed``.

    If WORLD_SIZE is above 1 in the environment, every process must call this function with the same arguments. Negatives come
    from the pairs of all processes, so the result equals that of one process with the same ``batch_size``, up to rounding.

    Args:
        encoder: Encoder with a Fusion-Q-Former, trained in place; or a function that builds such an encoder in each process,
            for example ``functools.partial(ItemEncoder, modalities, q_former={...})``. torch is seeded before the call.
        source: Folder with ``items/`` and ``pairs/`` in the layout of ``qarm_features.alignment.packing``; every process
            must see it.
        output_dir: Local folder to which the first process saves the encoder and ``metrics.json``.
        options: Options of the training run; None uses the defaults.
        checkpoint_dir: Folder for checkpoints, from which a later call with the same arguments continues. After a completed
            training run, such a call only writes the result again. None writes no checkpoints.
        scratch: Local folder on each machine for the packed data; None uses ``source``.

    Returns:
        The content of ``metrics.json``, in every process:

        - ``untrained`` and ``valid``: ``loss`` in nats, ``hit_rate`` (the share of held-out pairs whose target item is among
          the 10 nearest of ``num_candidates`` items), ``hit_rates`` and ``beats_matched`` by bucket of popularity, and
          ``score``, by which training stops (``held_out.measure`` explains them), before training and after the best epoch.
        - ``epochs``: for each epoch ``train_loss``, ``temperature``, ``pairs_per_second``, and the same figures of held-out
          pairs, as ``valid_loss``, ``valid_score``, ``valid_hit_rate``, ``valid_hit_rate_new`` and so on.
        - ``best_epoch``: number of the best epoch, from 0; None if the untrained encoder was best and is kept.
        - ``rejected_items``: number of items with broken content; their pairs are left out.
        - ``num_pairs``, ``num_weights`` and ``options``.

    Raises:
        ValueError: The encoder has no Fusion-Q-Former, the training data are not valid, a checkpoint was written by another
            training run, or the loss is not finite.

    Example::

        build = functools.partial(ItemEncoder, {"precomputed": {"dim": 64}}, q_former={"dim": 32})
        metrics = align(build, "training_data", "aligned_encoder", options=AlignmentOptions(epochs=3))
        encoder = ItemEncoder.from_pretrained("aligned_encoder")
    """
    options = options or AlignmentOptions()
    log_to_stderr()
    with joined_processes(seed=options.seed, num_threads=options.num_threads, use_gpu=options.use_gpu) as processes:
        folder = _pack_once_per_machine(source, scratch, processes)
        data = TrainingData(folder, batch_size=options.batch_size, seed=options.seed)
        module = (encoder if isinstance(encoder, ItemEncoder) else encoder()).to(processes.device)
        if module.q_former is None:
            raise ValueError("The encoder has no Fusion-Q-Former to train. Build ItemEncoder with q_former={...}.")
        run = AlignmentRun(module, data, options, processes, checkpoint_dir)
        metrics = run.train() | {"options": asdict(options)}
        if processes.rank == 0:
            module.save_pretrained(output_dir)
            (Path(output_dir) / METRICS_FILE).write_text(json.dumps(metrics, indent=2, allow_nan=False))
            if metrics["best_epoch"] is None:
                logger.warning("No epoch was better than the untrained encoder, which is kept.")
        processes.wait()
    return metrics


def align_new(arguments: Mapping[str, Any], source: str, output_dir: str, **how: Any) -> dict[str, Any]:
    """Build an item encoder and align it, so that the process that publishes the result need not load a backbone.

    Args:
        arguments: Keyword arguments of ``ItemEncoder``.
        source: Folder of the training data, as for ``align``.
        output_dir: Local folder to which the first process saves the encoder, as for ``align``.
        how: Further arguments of ``align``.

    Returns:
        ``metrics`` as ``align`` returns them, beside the entries of ``ItemEncoder.description``.
    """
    built: list[ItemEncoder] = []

    def build() -> ItemEncoder:
        built.append(ItemEncoder(**arguments))
        return built[0]

    metrics = align(build, source, output_dir, **how)
    return {"metrics": metrics, **built[0].description}


def _pack_once_per_machine(source: str | Path, scratch: str | Path | None, processes: Processes) -> Path:
    if os.environ.get("LOCAL_RANK", "0") == "0":
        packed(source, scratch)
    processes.wait()
    return packed(source, scratch)

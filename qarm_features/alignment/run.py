"""Run the training of one alignment: epochs, checkpoints and early stopping.

In: an encoder and the packed training data. Out: the encoder with the best weights, and metrics.
"""

from __future__ import annotations

import logging
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.console import Console
from rich.progress import Progress
from torch import Tensor, nn

from qarm_features.alignment.checkpoint import (
    Checkpoint,
    load_checkpoint,
    optimizer_tensors,
    restore_optimizer,
    save_checkpoint,
)
from qarm_features.alignment.experiment_log import LogMetrics, experiment_log
from qarm_features.alignment.gathering import broadcast_weights
from qarm_features.alignment.held_out import draw_held_out, encode_items, held_out_loss, mean_cosine, measure
from qarm_features.alignment.item_content import ItemContent
from qarm_features.alignment.loss import LOG_TEMPERATURE_BOUNDS, bounded_temperature
from qarm_features.alignment.options import AlignmentOptions
from qarm_features.alignment.residual_codes import AT_ONCE, SAMPLE, ResidualCodes, codes_of, fit_codebooks
from qarm_features.alignment.steps import (
    LOG_TEMPERATURE,
    adamw,
    add_gradients,
    encode_content,
    learning_weights,
    scheduled_learning_rate,
)
from qarm_features.alignment.training_data import PairBatch, TrainingData
from qarm_features.encoders.item_encoder import ItemEncoder
from qarm_features.storage.artifacts import fingerprint
from qarm_features.torch_processes import Processes
from qarm_features.training_log import EpochProgress, left_at_most

logger = logging.getLogger("qarm_features.alignment")

_COLLAPSED = 0.99  # mean cosine of items above which a warning is logged
_UNTRAINED = -1  # value of best_epoch while no epoch is better than the untrained encoder


class AlignmentRun:
    """Train an encoder.

    Args:
        encoder: Encoder with a Fusion-Q-Former, on ``processes.device``.
        data: Packed training data.
        options: Options of the training run.
        processes: Processes that train together.
        checkpoint_dir: Folder for checkpoints; None writes no checkpoints.
    """

    def __init__(
        self,
        encoder: ItemEncoder,
        data: TrainingData,
        options: AlignmentOptions,
        processes: Processes,
        checkpoint_dir: str | Path | None,
    ) -> None:
        self.encoder, self.data, self.options, self.processes = encoder, data, options, processes
        self.checkpoint_dir = checkpoint_dir
        self.content = ItemContent(encoder, data.items, cache_bytes=options.cache_bytes)
        self.held_out = draw_held_out(
            data, max_pairs=options.max_valid_pairs, num_candidates=options.num_candidates, seed=options.seed
        )
        self.weights = learning_weights(encoder, options.temperature, processes.device)
        broadcast_weights(self.weights.values(), processes)
        self.optimizer = adamw(self.weights, learning_rate=options.learning_rate, weight_decay=options.weight_decay)
        self.best: dict[str, Tensor] = {}
        self.codes: ResidualCodes | None = None
        self.state: dict[str, Any] = {"epoch": 0, "batch": 0, "loss_sum": 0.0, "seconds": 0.0, "epochs": []}

    def train(self) -> dict[str, Any]:
        """Train to the end, put the best weights into the encoder, and return the metrics without the options."""
        if not self._resume():
            if self.processes.rank == 0:
                contents, items = len(self.data.items), int(self.data.items.copies.sum())
                logger.info(
                    "%s item pairs of %s items%s, at most %d epochs. First the untrained encoder is measured.",
                    *(f"{len(self.data.pairs):,}", f"{items:,}"),
                    f" with {contents:,} different contents" if contents < items else "",
                    self.options.epochs,
                )
            untrained = self._measure()
            self.state |= {
                "untrained": untrained,
                "best": untrained,
                "best_epoch": _UNTRAINED,
                "inputs": self._inputs(),
            }
            self.best = self._copy_weights()
        first = self.processes.rank == 0  # only this process writes files and logs
        with experiment_log("align-encoder", asdict(self.options), active=first) as log:
            while self.state["epoch"] < self.options.epochs and not self._has_stopped():
                self._train_epoch()
                self._end_epoch(log)
        self._load(self.best)
        self.encoder.eval()
        return self._metrics()

    def _train_epoch(self) -> None:
        """Run the steps of an epoch, starting with batch ``state["batch"]``."""
        if self.options.code_weight and self.state["batch"] == 0:
            self.codes = self._fit_codes()
        self.encoder.train()
        number = self.data.num_batches
        lines = EpochProgress(
            logger, epoch=self.state["epoch"], epochs=self.options.epochs, unit="pairs",
            total=len(self.data.pairs) * (number - self.state["batch"]) // max(1, number),
            active=self.processes.rank == 0,
        )  # fmt: skip
        console = Console(stderr=True)
        hidden = self.processes.rank > 0 or not console.is_terminal
        with Progress(console=console, transient=True, disable=hidden) as progress:
            bar = progress.add_task(f"epoch {self.state['epoch']}", total=number, completed=self.state["batch"])
            for batch in self.data.batches(self.state["epoch"], first=self.state["batch"]):
                started = time.perf_counter()
                self.state["loss_sum"] += self._step(batch) * len(batch.weight)
                self.state["batch"] += 1
                self.state["seconds"] += time.perf_counter() - started
                progress.advance(bar)
                lines.advance(len(batch.weight))
                if self.state["batch"] % self.options.checkpoint_steps == 0 and self.state["batch"] < number:
                    self._save()

    def _step(self, batch: PairBatch) -> float:
        step = self._steps_done()
        # The seed depends on the step only, so that a resumed training run applies the same dropout.
        seed = (self.options.seed * 1_000_003 + step) * self.processes.world_size + self.processes.rank
        torch.manual_seed(seed % 2**63)
        self.optimizer.zero_grad(set_to_none=True)
        kept_near = self.options.num_anchors if self.options.geometry_weight else 0
        num_anchors = max(kept_near, self.options.uniform_negatives or 0)
        anchors = self.data.anchors(self.state["epoch"], self.state["batch"], number=num_anchors)
        loss = add_gradients(
            self.content, batch, anchors, self.weights,
            data=self.data, options=self.options, processes=self.processes, codes=self.codes,
        )  # fmt: skip
        nn.utils.clip_grad_norm_(self.weights.values(), self.options.max_grad_norm)
        num_steps = self.options.epochs * self.data.num_batches
        rate = scheduled_learning_rate(
            step, num_steps, highest=self.options.learning_rate, warmup_share=self.options.warmup_share
        )
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        self.optimizer.step()
        self.weights[LOG_TEMPERATURE].data.clamp_(*LOG_TEMPERATURE_BOUNDS)
        return loss

    def _fit_codes(self) -> ResidualCodes | None:
        """Fit residual codes to the present embeddings of all items, the same in every process."""
        self.encoder.eval()
        sample = self.data.anchors(self.state["epoch"], self.data.num_batches, number=SAMPLE)
        encoded = self._encoded(sample)
        codebooks = self.processes.broadcast(lambda: fit_codebooks(encoded, seed=self.options.seed))
        if codebooks is None:
            return None
        everything = np.arange(len(self.data.items))
        parts = np.split(everything, range(AT_ONCE, len(everything), AT_ONCE))
        of_all = [encoded] if len(sample) == len(everything) else map(self._encoded, parts)
        return ResidualCodes(torch.cat([codes_of(one, codebooks) for one in of_all]), torch.from_numpy(codebooks))

    def _encoded(self, items: np.ndarray) -> Tensor:
        return encode_items(
            lambda index: encode_content(self.content, index, self.options.precision),
            items,
            self.processes,
            micro_batch_size=self.options.micro_batch_size,
        )

    def _end_epoch(self, log: LogMetrics) -> None:
        """Measure the encoder, copy the weights if they are the best so far, log, and save a checkpoint."""
        measured, epoch = self._measure(), self.state["epoch"]
        num_pairs = len(self.data.pairs)
        entry = {
            "train_loss": self.state["loss_sum"] / num_pairs,
            "valid_loss": measured["loss"],
            "valid_hit_rate": measured["hit_rate"],
            "valid_score": measured["score"],
            "temperature": float(bounded_temperature(self.weights[LOG_TEMPERATURE].detach())),
            "pairs_per_second": num_pairs / max(self.state["seconds"], 1e-9),
        }
        shown = list(entry.values())
        by_bucket = measured["beats_matched"]
        entry |= {f"valid_beats_matched_{name}": share for name, share in by_bucket.items()}
        entry |= {f"valid_hit_rate_{name}": share for name, share in measured["hit_rates"].items()}
        if _sort_key(measured) > _sort_key(self.state["best"]):
            self.state |= {"best_epoch": epoch, "best": measured}
            self.best = self._copy_weights()
        self.state["epochs"].append(entry)
        left = left_at_most(epoch, self.options.epochs, self.state["seconds"])
        self.state |= {"epoch": epoch + 1, "batch": 0, "loss_sum": 0.0, "seconds": 0.0}
        self._save()
        if self.processes.rank == 0:
            log(entry, epoch)
            logger.info(
                "epoch %d: train loss %.4f, valid loss %.4f, valid HitRate@10 %.4f, nearer than items as popular %.4f (%s), "
                "temperature %.4f, %.0f pairs/s%s",
                epoch, *shown[:4], ", ".join(f"{name} {share:.3f}" for name, share in by_bucket.items()), *shown[4:], left,
            )  # fmt: skip

    def _measure(self) -> dict[str, Any]:
        """Return the loss and the figures of ``measure`` on held-out pairs, the same in every process."""
        self.encoder.eval()
        embeddings = self._encoded(self.held_out.items)
        is_trained = self.processes.rank == 0 and self.state["batch"] > 0  # only one process logs
        if is_trained and (cosine := mean_cosine(embeddings)) > _COLLAPSED:
            logger.warning(
                "The encoder has collapsed: the mean cosine of item embeddings is %.3f, so all items have nearly the same "
                "embedding. Set alignment.view_weight: 1, or lower alignment.learning_rate.",
                cosine,
            )
        return self.processes.broadcast(
            lambda: {
                "loss": held_out_loss(
                    embeddings, self.held_out, self.weights[LOG_TEMPERATURE], data=self.data, options=self.options
                ),
                **measure(embeddings, self.held_out, self.data.known),
            }
        )

    def _has_stopped(self) -> bool:
        return self.state["epoch"] - 1 - max(self.state["best_epoch"], 0) >= self.options.patience

    def _steps_done(self) -> int:
        return self.state["epoch"] * self.data.num_batches + self.state["batch"]

    def _metrics(self) -> dict[str, Any]:
        best, rejected = self.state["best_epoch"], self.processes.gather(set(self.content.rejected))
        return {
            "untrained": self.state["untrained"],
            "valid": self.state["best"],
            "epochs": self.state["epochs"],
            "best_epoch": None if best == _UNTRAINED else best,
            "rejected_items": self.processes.broadcast(
                lambda: int(self.data.items.copies[sorted(set().union(*rejected))].sum())
            ),
            "num_pairs": len(self.data.pairs),
            "num_weights": sum(weight.numel() for weight in self.weights.values()),
        }

    def _copy_weights(self) -> dict[str, Tensor]:
        return {name: weight.detach().cpu().clone() for name, weight in self.weights.items()}

    def _load(self, weights: dict[str, Tensor]) -> None:
        with torch.no_grad():
            for name, weight in weights.items():
                self.weights[name].copy_(weight)

    def _inputs(self) -> dict[str, Any]:
        """Return the inputs that decide the result of the training run, without options that only change its speed."""
        speed = {"num_threads", "use_gpu", "cache_bytes", "step_bytes", "micro_batch_size", "checkpoint_steps"}
        options = {name: value for name, value in asdict(self.options).items() if name not in speed}
        encoder = fingerprint(self.encoder.config)
        stop = "beats_matched by bucket"  # a checkpoint of a run that stopped by another measure is refused
        return options | {
            "stop": stop,
            "items": len(self.data.items),
            "pairs": self.data.fingerprint,
            "encoder": encoder,
        }

    def _save(self) -> None:
        if self.checkpoint_dir is not None and self.processes.rank == 0:
            tensors = {
                "weights": self._copy_weights(),
                "best": self.best,
                "optimizer": optimizer_tensors(self.optimizer, self.weights),
                **({} if self.codes is None else {"codes": self.codes._asdict()}),
            }
            save_checkpoint(self.checkpoint_dir, self._steps_done(), Checkpoint(self.state, tensors))
        self.processes.wait()

    def _resume(self) -> bool:
        """Continue from the newest checkpoint of the first process, and return True if there is one."""
        folder = self.checkpoint_dir
        if folder is None:
            return False
        found = self.processes.broadcast(lambda: load_checkpoint(folder, inputs=self._inputs()))
        if found is None:
            return False
        self.state, self.best = found.state, found.tensors["best"]
        self._load(found.tensors["weights"])
        if "codes" in found.tensors:
            self.codes = ResidualCodes(**found.tensors["codes"])
        restore_optimizer(self.optimizer, self.weights, found.tensors["optimizer"])
        logger.info("Training continues from epoch %d, batch %d.", self.state["epoch"], self.state["batch"])
        return True


def _sort_key(measured: dict[str, Any]) -> tuple[float, float]:
    """Return a key that is larger for a better encoder: a higher score, then a lower loss."""
    return measured["score"], -measured["loss"]

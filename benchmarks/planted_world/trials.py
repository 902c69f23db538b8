"""A trial gives the AUC of the oracle and of every model of an idea, in one world with one seed."""

from __future__ import annotations

import time
from typing import Any, NamedTuple

import numpy as np
import torch

from qarm_features.ranking import RankingModel, TrainingOptions
from qarm_features.ranking.data.item_features import ItemFeatures, TokensInMemory
from qarm_features.ranking.train.evaluation import predict
from qarm_features.ranking.train.fitting import fit
from qarm_features.ranking.train.metrics import area_under_roc

from .batches import BEHAVIORS, ItemIndexes, WorldBatches, index_items, latest_positives
from .catalog import Catalog, Strengths, make_catalog
from .ideas import CODES, LEVELS, NEAREST, Idea, Model
from .impressions import PARTS, TRAIN_END, Impressions, make_impressions, parts_of
from .oracle import oracle_auc
from .representations import (
    DIM,
    MODALITY,
    align,
    co_click_pairs,
    encode,
    nearest_items,
    new_q_former,
    rq_codes,
    unit_rows,
)

_BATCH, _SMALLEST_BATCH = 4096, 256  # rows of a batch at full scale, and at least
_SIZES = {"item_dim": 16, "code_dim": 8, "hidden_dims": (64, 32), "attention_dim": 16, "dropout": 0.0}


class Figures(NamedTuple):
    """AUCs on some of the rows.

    Attributes:
        ceiling: AUC of the parts that a model with the idea can know.
        models: AUC of each model by name.
        valid: AUC of each model by name on valid rows of the same kind, by which models are chosen.
    """

    ceiling: float
    models: dict[str, float]
    valid: dict[str, float]


class Trial(NamedTuple):
    """The result of a trial.

    Attributes:
        idea: Name of the idea.
        planted: False in the control world.
        seed: Seed of the world and of the training.
        new_items: AUCs on the test rows of items that are not in the training rows, whose IDs give no information.
        all_items: AUCs on all test rows, where an item's ID can learn a part of what an idea finds.
        seconds: Seconds of training of each model by name.
    """

    idea: str
    planted: bool
    seed: int
    new_items: Figures
    all_items: Figures
    seconds: dict[str, float]


class World:
    """Catalog and impressions of one seed. The inputs of models are made on first use."""

    def __init__(self, strengths: Strengths, *, items: int, users: int, per_user: int, seed: int) -> None:
        self.strengths, self.seed = strengths, seed
        self.catalog: Catalog = make_catalog(items, nuisance=strengths.nuisance, seed=seed)
        self.seen: Impressions = make_impressions(
            self.catalog, strengths, num_users=users, per_user=per_user, seed=seed
        )
        self.indexes: ItemIndexes = index_items(self.catalog, self.seen)
        self.arrived = np.flatnonzero(self.catalog.arrival < TRAIN_END)
        self._made: dict[Any, Any] = {}

    def q_former(self):
        """Return the Fusion-Q-Former, aligned on co-clicks of the training rows."""
        return self._once("q_former", self._align)

    def embeddings(self, content: str) -> np.ndarray:
        """Return item embeddings (I, D) float32 of unit norm, of "true", "frozen" or "aligned" content."""
        make = {
            "true": lambda: unit_rows(self.catalog.true_content),
            "frozen": lambda: unit_rows(self.catalog.frozen_content),
            "aligned": lambda: encode(self.q_former(), self.catalog.tokens),
        }
        return self._once(content, make[content])

    def codes(self, content: str, codebook_size: int = CODES) -> np.ndarray:
        """Return RQ codes (I, 3)."""
        options = {"num_levels": LEVELS, "codebook_size": codebook_size, "seed": self.seed}
        return self._once(
            ("codes", content, codebook_size), lambda: rq_codes(self.embeddings(content), self.arrived, **options)
        )

    def nearest(self, content: str) -> tuple[np.ndarray, np.ndarray]:
        """Return the 25 items of the training rows nearest to each item (I, 25), and their cosines (I, 25)."""
        known = self.indexes.item[1 : 1 + self.indexes.num_known]
        return self._once(("nearest", content), lambda: nearest_items(self.embeddings(content), known, k=NEAREST))

    def behaviors(self) -> np.ndarray:
        """Return the latest positives before each impression."""
        return self._once("behaviors", lambda: latest_positives(self.seen.item, self.seen.label, BEHAVIORS))

    def parts(self, rows: np.ndarray) -> np.ndarray:
        """Return the parts (N, 7) of the true logits of rows."""
        user, step = rows // self.seen.item.shape[1], rows % self.seen.item.shape[1]
        item, match = self.seen.item[user, step][:, None], self.seen.match[user, step][:, None]
        return parts_of(self.catalog, self.strengths, item, self.seen.group[user], match=match).reshape(-1, len(PARTS))

    def _align(self):
        pairs = co_click_pairs(self.seen.item, self.seen.label, self.seen.rows("train"))
        q_former = new_q_former(self.catalog.tokens.shape[2], self.seed)
        return align(q_former, self.catalog.tokens, pairs, seed=self.seed)

    def _once(self, key: Any, make: Any) -> Any:
        if key not in self._made:
            self._made[key] = make()
        return self._made[key]


def sizes(scale: float) -> dict[str, int]:
    """Return the numbers of items, users and impressions of each user, at a scale of 50,000 items and users."""
    return {"items": round(50_000 * scale), "users": round(50_000 * scale), "per_user": 40}


def run_trial(idea: Idea, *, planted: bool, seed: int, scale: float, epochs: int, threads: int = 1) -> Trial:
    """Make the world of an idea, or its control world, and train the idea's models in it.

    Args:
        idea: The idea.
        planted: False for the control world.
        seed: Seed of the world and of the training.
        scale: Scale of the numbers of items, users and impressions, in (0, 1].
        epochs: Largest number of epochs. The best one on the valid rows counts.
        threads: Number of torch threads.
    """
    torch.set_num_threads(threads)
    strengths = idea.strengths if planted else idea.control
    world = World(strengths, **sizes(scale), seed=seed)
    trained = {
        model.name: train(model, idea, world, scale=scale, epochs=epochs, threads=threads) for model in idea.models
    }
    by_split = {}
    for split in ("valid", "test"):
        rows = world.seen.rows(split)
        is_new = world.indexes.of_item[world.seen.item.ravel()[rows]] > world.indexes.num_known
        by_split[split] = rows, world.seen.label.ravel()[rows], {True: is_new, False: np.full(len(rows), True)}
    parts = world.parts(by_split["test"][0])

    def figures(new_items: bool) -> Figures:
        aucs = {}
        for split, (_, label, kinds) in by_split.items():
            kept = kinds[new_items]
            logits = {name: logit[split][kept] for name, (logit, _) in trained.items()}
            aucs[split] = {name: area_under_roc(label[kept], logit) for name, logit in logits.items()}
        _, label, kinds = by_split["test"]
        ceiling = oracle_auc(parts[kinds[new_items]], label[kinds[new_items]], idea.known)
        return Figures(ceiling, aucs["test"], aucs["valid"])

    seconds = {name: seconds for name, (_, seconds) in trained.items()}
    return Trial(idea.name, planted, seed, figures(True), figures(False), seconds)


def train(
    model: Model, idea: Idea, world: World, *, scale: float, epochs: int, threads: int
) -> tuple[dict[str, np.ndarray], float]:
    """Train one model, and return its logits of the valid and test rows in their order, and the seconds."""
    started = time.perf_counter()
    torch.manual_seed(world.seed)
    ranking = build(model, world)
    options = {
        "codes": world.codes(model.content, model.codebook_size)[:, : ranking.config.num_levels],
        "behaviors": world.behaviors() if idea.with_behaviors else None,
        "with_history": ranking.config.use_history,
        "batch_size": max(_SMALLEST_BATCH, round(_BATCH * scale)),  # so that a pass has as many steps at every scale
        "seed": world.seed,
    }
    batches = {
        split: WorldBatches(world.seen, world.indexes, world.seen.rows(split), shuffle=split == "train", **options)
        for split in ("train", "valid", "test")
    }
    training = TrainingOptions(epochs=epochs, patience=1, learning_rate=5e-3, seed=world.seed, num_threads=threads)
    fit(ranking, batches["train"], batches["valid"], training)
    logits = {split: predict(ranking, batches[split]).logit for split in ("valid", "test")}
    return logits, time.perf_counter() - started


def build(model: Model, world: World) -> RankingModel:
    """Build the ranking model of a world with its item features."""
    switches = {"id_dropout": 0.3, "num_levels": LEVELS, **model.switches}
    indexes, features = world.indexes, {}
    by_index = indexes.item
    if switches.get("use_nearest_items"):
        items, cosines = world.nearest(model.content)
        features["nearest_items"] = np.where(np.arange(len(by_index))[:, None] > 0, indexes.of_item[items][by_index], 0)
        features["nearest_distances"] = (1 - cosines)[by_index]
    if switches.get("use_frozen_vector"):
        vectors = world.embeddings(model.content)
        switches["vector_dim"] = vectors.shape[1]
        features["vectors"] = np.concatenate([np.zeros_like(vectors[:1]), vectors[by_index[1:]]])
    if switches.get("use_fusion"):
        tokens = torch.from_numpy(world.catalog.tokens)
        store = TokensInMemory({MODALITY: (tokens, torch.ones(tokens.shape[:2], dtype=torch.bool))})
        switches |= {"token_dims": store.token_dims, "content_dim": DIM}
        features |= {"content": store, "content_rows": np.where(np.arange(len(by_index)) > 0, by_index, -1)}
    sizes = {"codebook_size": model.codebook_size, "codebook_version": 0, **_SIZES}
    ranking = RankingModel(num_items=indexes.num_known, **sizes, **switches)
    if features:
        ranking.set_item_features(ItemFeatures(**features))
    if model.fusion == "fixed" and ranking.items.fusion is not None:
        ranking.items.fusion.requires_grad_(False)
    if model.content_by_loss_only:
        torch.nn.init.zeros_(ranking.items.vector.weight)
        ranking.items.vector.requires_grad_(False)
    return ranking

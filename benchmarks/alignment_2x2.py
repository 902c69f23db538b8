"""Which loss and which item pairs align an encoder without teaching it popularity: MovieLens-1M, text.

Rows: the frozen encoder, the frozen encoder with popularity added, and encoders aligned with every combination of a loss
(popularity correction: as at first; none; with the positive spared, at power 0.5 and 1; and some of these with 512 or 2,048
items of the whole catalog as negatives beside the batch) and of pairs (as mined by default; or divided by the popularity of
the target, with both directions and a cap per target). By name alone: embeddings pulled to what their codes decode to, LoRA
in the backbone, and a trial that the package does not have, drawn negatives of the types of the pair alone. Every encoder
trains the same number of passes and keeps its last weights, so that no row is chosen by a criterion that favors it.

Columns: HitRate@10 of later co-clicks, of targets with at most 5 positives and of new targets; the same after the targets
were exchanged at random (popularity alone); and the share of items as popular as the target that are farther than it, .5 by
chance. The columns of codes replace each embedding by what 3 levels of 64 codes decode to, and say which share of variance
this loses. Differences from the row ``--against`` have a 95% interval by resampled users.

Each trained encoder's embeddings are stored in ``--work``, and a second call goes on from there.
Data: ``$QARM_DATA/ml1m`` or ``../shared/data/ml1m``. ::

    python benchmarks/alignment_2x2.py --work /tmp/valid                               # to choose
    python benchmarks/alignment_2x2.py --work /tmp/test --period test --seeds 3 --rows today/old corrected/spared-0.5
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import torch
from alignment_2x2_inputs import DATA, PAIRS, Contents, build_encoder, prepare
from alignment_trials.places import Places
from alignment_trials.types import OfOtherTypes
from torch.nn.functional import normalize

from qarm_features.alignment import AlignmentOptions
from qarm_features.alignment.packing import packed
from qarm_features.alignment.residual_codes import ResidualCodes, codes_of, fit_codebooks
from qarm_features.alignment.run import AlignmentRun
from qarm_features.alignment.training_data import TrainingData
from qarm_features.evaluation.intervals import user_interval
from qarm_features.ranking.data.popularity import FEW
from qarm_features.torch_processes import joined_processes

HITS = 10


class Trial(NamedTuple):
    """How an encoder is aligned.

    Attributes:
        options: Options of the loss.
        of_types: True if a drawn item is a negative of an item only if the two share a genre.
        lora_rank: Rank of LoRA in the backbone of the text; 0 leaves the backbone frozen.
        to_places: True if items are pulled to their embeddings of the start of the epoch, and not to those of their codes.
    """

    options: dict[str, Any]
    of_types: bool = False
    lora_rank: int = 0
    to_places: bool = False


LOSSES: dict[str, dict[str, Any]] = {
    "old": {"popularity_correction": True, "popularity_power": None},
    "none": {"popularity_correction": False},
    "spared-0.5": {"popularity_correction": True, "popularity_power": 0.5},
    "spared-1": {"popularity_correction": True, "popularity_power": 1.0},
    "old-uniform": {"popularity_correction": True, "popularity_power": None, "uniform_negatives": 512},
    "none-uniform": {"popularity_correction": False, "uniform_negatives": 512},
    "none-uniform-2048": {"popularity_correction": False, "uniform_negatives": 2048},
    "spared-0.5-uniform": {"popularity_correction": True, "popularity_power": 0.5, "uniform_negatives": 512},
}
_BEST = LOSSES["none-uniform-2048"]
TRIALS: dict[str, Trial] = {
    **{f"codes-{weight:g}": Trial(_BEST | {"code_weight": weight}) for weight in (0.3, 0.5, 1.0)},
    "places": Trial(_BEST | {"code_weight": 0.5}, to_places=True),
    "types": Trial(_BEST, of_types=True),
    "lora-8": Trial(_BEST, lora_rank=8),
    **{name: Trial(options) for name, options in LOSSES.items()},
}


class LastWeights(AlignmentRun):
    """A training run that keeps the weights of its last epoch, whatever the held-out pairs say."""

    to_places = False

    def _fit_codes(self) -> Any:
        return Places(self._encoded(np.arange(len(self.data.items)))) if self.to_places else super()._fit_codes()

    def _measure(self) -> dict[str, Any]:
        measured = {"loss": 0.0, "hit_rate": 0.0, "hit_rates": {}, "beats_matched": {}}
        return measured | {"score": self.state["epoch"] + 1.0 if self.state["batch"] else 0.0}


def train(work: Path, pairs: str, trial: Trial, options: AlignmentOptions) -> np.ndarray:
    """Train an encoder and return the published embeddings (n, D) of all items."""
    with joined_processes(seed=options.seed, num_threads=options.num_threads, use_gpu=False) as processes:
        data = TrainingData(packed(work / pairs), batch_size=options.batch_size, seed=options.seed)
        contents = Contents(data, work)
        encoder = build_encoder(lora_rank=trial.lora_rank)
        run = LastWeights(encoder, data, options, processes, None)
        run.to_places = trial.to_places
        if not trial.lora_rank:  # or else the tokens change in training
            run.content = contents.of(encoder, data)
        if trial.of_types:
            data.known = OfOtherTypes(data.known, np.load(work / "types.npy"))
        run.train()
        with torch.inference_mode():
            parts = np.array_split(np.arange(len(data.items)), 1 + len(data.items) // 512)
            aligned = torch.cat([run.content.encode(part) for part in parts])
        frozen = encoder.frozen_weight * contents.frozen
        return normalize(torch.cat([aligned, frozen], 1), dim=1).numpy()


def measure(embeddings: np.ndarray, pairs: pd.DataFrame, matched: pd.DataFrame, added: np.ndarray) -> pd.DataFrame:
    """Rank the targets of the co-clicks.

    Args:
        embeddings: (n, D) embeddings of all items, unit L2 norm.
        pairs: ``trigger``, ``target`` and ``exchanged`` (item indexes), in the order of the pairs.
        matched: ``row`` of the pair and ``item``, an item as popular as its target.
        added: (n,) what is added to the cosine with each item.

    Returns:
        A row for each pair: ``hit``, ``exchanged`` (a hit after the targets were exchanged), ``beats`` in [0, 1].
    """
    found = ranked(embeddings, pairs, matched, added)
    vectors = torch.from_numpy(embeddings)
    codebooks = fit_codebooks(vectors, seed=0)
    assert codebooks is not None  # no item is rejected
    codes = ResidualCodes(codes_of(vectors, codebooks), torch.from_numpy(codebooks))
    of_codes = codes.decode(np.arange(len(embeddings))).numpy()
    lost = np.square(embeddings - of_codes).sum() / np.square(embeddings - embeddings.mean(0)).sum()
    by_codes = ranked(of_codes / np.linalg.norm(of_codes, axis=1, keepdims=True).clip(1e-9), pairs, matched, added)
    return found.assign(decoded=by_codes["hit"], decoded_beats=by_codes["beats"], lost=lost)


def ranked(embeddings: np.ndarray, pairs: pd.DataFrame, matched: pd.DataFrame, added: np.ndarray) -> pd.DataFrame:
    """Return the columns ``hit``, ``exchanged`` and ``beats`` of ``measure``."""
    trigger, rows = pairs["trigger"].to_numpy(), np.arange(len(pairs))
    scores = embeddings[trigger] @ embeddings.T + added
    scores[rows, trigger] = -np.inf

    def hits(target: np.ndarray) -> np.ndarray:
        least = scores[rows, target][:, None]
        return ((scores >= least).sum(1) - 1 < HITS) & (target != trigger)  # an item as near counts as nearer

    target = pairs["target"].to_numpy()
    nearer = scores[matched["row"], matched["item"]] >= scores[matched["row"], target[matched["row"]]]
    beats = 1 - pd.Series(nearer).groupby(matched["row"].to_numpy()).mean().reindex(rows)
    return pd.DataFrame({"hit": hits(target), "exchanged": hits(pairs["exchanged"].to_numpy()), "beats": beats})


def embeddings_of(name: str, seed: int, work: Path, arguments: argparse.Namespace) -> np.ndarray:
    """Return the embeddings of an aligned encoder for one seed, from the work folder or trained now."""
    file = work / "rows" / f"{name.replace('/', '-')}-{seed}.npy"
    if not file.exists():
        pairs, loss = name.split("/")
        trial = TRIALS[loss]
        options = AlignmentOptions(
            **trial.options,
            epochs=arguments.epochs,
            patience=arguments.epochs,
            seed=seed,
            num_threads=arguments.threads,
        )
        embeddings = train(work, pairs, trial, options)
        file.parent.mkdir(exist_ok=True)
        draft = file.with_suffix(".draft.npy")
        np.save(draft, embeddings)
        draft.rename(file)
        print(f"{name}, seed {seed}: trained", flush=True)
    return np.load(file)


def table(rows: dict[str, list[pd.DataFrame]], pairs: pd.DataFrame, against: str) -> None:
    """Print one line for each row: means over seeds, deviations, and differences from one row."""
    slices = {
        "all": np.ones(len(pairs), bool), "few": pairs["positives"].to_numpy() <= FEW,
        "new": (pairs["slice"] == "new").to_numpy(),
    }  # fmt: skip
    print("pairs: " + ", ".join(f"{name} {int(mask.sum()):,}" for name, mask in slices.items()))
    users, columns = pairs["user"].to_numpy(), rows["frozen"][0].columns
    means = {
        name: {column: np.mean([one[column].to_numpy(float) for one in found], 0) for column in columns}
        for name, found in rows.items()
    }
    base = means[against]
    for name, found in rows.items():
        mean = means[name]
        shown = []
        for part, mask in slices.items():
            hit = [float(one["hit"][mask].mean()) for one in found]
            shown.append(f"HR {part} {np.mean(hit):.4f}" + (f" ± {np.std(hit, ddof=1):.4f}" if len(hit) > 1 else ""))
        shown.append(f"exchanged {mean['exchanged'].mean():.4f}")
        shown += [f"beats {part} {np.nanmean(mean['beats'][mask]):.3f}" for part, mask in slices.items()]
        lifts = mean["hit"] - mean["exchanged"]
        shown.append(f"lift {lifts.mean():.4f}")
        shown.append(f"of codes: lost {mean['lost'].mean():.3f} HR {mean['decoded'].mean():.4f}")
        shown.append(f"beats {np.nanmean(mean['decoded_beats']):.4f}")
        if name != against:
            for words, column in (("beats", "beats"), ("beats of codes", "decoded_beats")):
                shown.append(difference(f"{words} - {against}", mean[column], base[column], users))
            shown.append(difference(f"lift - {against}", lifts, base["hit"] - base["exchanged"], users))
        print(f"{name:22} {'  '.join(shown)}")


def difference(words: str, own: np.ndarray, other: np.ndarray, users: np.ndarray) -> str:
    """Return a difference in words, with its 95% interval by resampled users."""
    values = own - other
    kept = ~np.isnan(values)
    low, high = user_interval(values[kept], users[kept]) or (np.nan, np.nan)
    return f"{words} {values[kept].mean():+.4f} [{low:+.4f}, {high:+.4f}]"


def main() -> None:
    """Measure every row that the work folder does not hold, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", help="folder for what is finished; a temporary one by default")
    parser.add_argument("--period", choices=["valid", "test"], default="valid")
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rows", nargs="+", default=[f"{pairs}/{loss}" for pairs in PAIRS for loss in LOSSES])
    parser.add_argument("--against", default="frozen", help="row from which differences are printed")
    arguments = parser.parse_args()
    if not DATA.is_dir():
        sys.exit(f"{DATA} is absent: set QARM_DATA to a folder that holds ml1m. Skipped.")
    with tempfile.TemporaryDirectory() as temporary:
        work = Path(arguments.work or temporary)
        work.mkdir(parents=True, exist_ok=True)
        os.environ.setdefault("HF_HUB_OFFLINE", "1")
        prepare(work, period=arguments.period)
        pairs, matched, items = (pd.read_parquet(work / f"{one}.parquet") for one in ("pairs", "matched", "items"))
        frozen, nothing = np.load(work / "frozen.npy"), np.zeros(len(items), np.float32)
        popularity = float((work / "weight").read_text()) * np.log1p(items["positives"].to_numpy(np.float32))
        added = {"frozen": nothing, "frozen + popularity": popularity}
        rows = {name: [measure(frozen, pairs, matched, numbers)] for name, numbers in added.items()}
        for name in arguments.rows:
            trained = [embeddings_of(name, seed, work, arguments) for seed in range(arguments.seeds)]
            rows[name] = [measure(embeddings, pairs, matched, nothing) for embeddings in trained]
        print(f"MovieLens-1M, text, {arguments.period} period, {arguments.epochs} passes, {arguments.seeds} seeds")
        table(rows, pairs, arguments.against)


if __name__ == "__main__":
    main()

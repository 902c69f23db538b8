"""Residual k-means against its rivals on the same embeddings: RQ-VAE, OPQ, random codes, hashed IDs, the catalog's hierarchy.

Every rival has about as many bits: three levels of 64 codes on MovieLens-1M and of 256 on The Complete Journey. Measures are
reconstruction, collisions, usage, how much more often co-clicked items share codes than exchanged ones and than items as
popular, neighbors kept, and the test AUC of one ranking model. A rival's seed is also that of the ranking model. Figures are
kept in a file, so that a run that was stopped goes on where it was. ::

    python benchmarks/rival_codes.py --folder rivals
    python benchmarks/rival_codes.py --folder rivals --catalogs journey --rivals OPQ RQ-VAE --seeds 1

Data: ``$QARM_DATA/ml1m`` and ``$QARM_DATA/completejourney`` (``items``, ``purchases`` and ``impressions`` as Parquet), by
default in ``../shared/data``; what is absent is skipped.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping
from pathlib import Path

import faiss
import numpy as np
import torch
from rival_codes.catalogs import JOURNEY_NOTE, Catalog, journey, movielens
from rival_codes.measures import measure
from rival_codes.quantizers import RIVALS, Codes
from rival_codes.table import Results, table, winners

WITHOUT = "no codes"


def catalogs(folder: Path) -> dict[str, Callable[[], Catalog | None]]:
    """Return the catalogs by name; each is read when it is called."""
    return {
        "unaligned": lambda: movielens(folder / "ml1m", "unaligned"),
        "aligned": lambda: movielens(folder / "ml1m", "aligned"),
        "journey": lambda: journey(folder / "journey"),
    }


def compare(catalog: Catalog, results: Results, args: argparse.Namespace) -> None:
    """Measure the rivals that were not measured yet, and then their AUCs."""
    print(f"\n{catalog.name}: {len(catalog.item_id):,} items, {catalog.embeddings.shape[1]} dimensions, "
          f"{len(catalog.pairs['co-clicks'].user):,} co-clicks, {len(catalog.pairs['together'].user):,} pairs bought "
          "together", flush=True)  # fmt: skip
    rivals = [rival for rival in RIVALS if not args.rivals or rival.name in args.rivals]
    rivals = [rival for rival in rivals if catalog.hierarchy is not None or not rival.needs_hierarchy]
    wanted = [(rival, seed) for seed in range(args.seeds) for rival in rivals if rival.seeded or seed == 0]
    for rival, seed in wanted:
        if not results.has(catalog.name, rival.name, seed, "bits"):
            found = rival.quantize(catalog, seed)
            keep_codes(args.folder, catalog.name, rival.name, seed, found)
            results.add(catalog.name, rival.name, seed, measure(catalog, found))
            print(f"  {rival.name}, seed {seed}: {found.seconds:.1f} s", flush=True)
    if catalog.ranking is None or args.no_ranking:
        return
    for seed in range(args.seeds):
        for name in (WITHOUT, *[rival.name for rival in rivals]):
            if results.has(catalog.name, name, seed, "auc"):
                continue
            kept = None if name == WITHOUT else codes_kept(args.folder, catalog.name, name, seed)
            codes, sizes = (None, []) if kept is None else (kept["codes"], kept["sizes"].tolist())
            aucs = catalog.ranking.aucs(catalog.item_id, codes, sizes, seed=seed, threads=args.threads)
            results.add(catalog.name, name, seed, aucs)
            print(f"  {name}, seed {seed}: AUC {aucs['auc']:.4f}", flush=True)


def keep_codes(folder: Path, catalog: str, rival: str, seed: int, found: Codes) -> None:
    """Keep codes for the ranking model."""
    (folder / "codes").mkdir(parents=True, exist_ok=True)
    np.savez(folder / "codes" / f"{catalog}, {rival}, {seed}.npz", codes=found.codes, sizes=found.sizes)


def codes_kept(folder: Path, catalog: str, rival: str, seed: int) -> Mapping[str, np.ndarray]:
    """Return codes that were kept; those of seed 0 where every seed gives the same."""
    file = folder / "codes" / f"{catalog}, {rival}, {seed}.npz"
    return np.load(file if file.is_file() else file.with_name(f"{catalog}, {rival}, 0.npz"))


def main() -> None:
    """Print a table for each catalog, and who beats residual k-means."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, required=True, help="folder of projects, embeddings and figures")
    parser.add_argument(
        "--catalogs", nargs="+", choices=("unaligned", "aligned", "journey"), default=["aligned", "journey"]
    )
    parser.add_argument("--rivals", nargs="+", choices=[rival.name for rival in RIVALS], help="by default all")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--no-ranking", action="store_true", help="train no ranking models")
    args = parser.parse_args()
    faiss.omp_set_num_threads(args.threads)
    torch.set_num_threads(args.threads)
    results = Results(args.folder / "figures.jsonl")
    for name in args.catalogs:
        catalog = catalogs(args.folder)[name]()
        if catalog is None:
            continue
        start_spark(args.threads)
        compare(catalog, results, args)
        if name == "journey":
            print(JOURNEY_NOTE)
        for line in (*table(results.of(catalog.name)), *winners(results.of(catalog.name))):
            print(line)


def start_spark(threads: int) -> None:
    """Start the session in which residual k-means is fitted, or keep the one that is open."""
    from qarm_features.jobs.spark_session import start_session
    from qarm_features.settings.sections import SparkOptions

    start_session(SparkOptions(master=f"local[{threads}]"), name="rival_codes", log_file=None)


if __name__ == "__main__":
    main()

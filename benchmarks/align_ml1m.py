"""Item alignment on MovieLens-1M: HitRate@10 of the next liked item, with the aligned and the frozen encoder.

The jobs run on a project of their own: ingest, mine pairs from the train split, align, and evaluate on later co-clicks.
Data: ``$QARM_DATA/ml1m`` or ``../shared/data/ml1m``. ::

    python benchmarks/align_ml1m.py --modalities text --seeds 3            # on the valid period, to choose settings
    python benchmarks/align_ml1m.py --modalities text image --period test  # once, for the final figure
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import tempfile
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

import pandas as pd
import yaml

DATA = Path(os.environ.get("QARM_DATA", Path(__file__).resolve().parents[2] / "shared" / "data")) / "ml1m"
TEXT = ["title", "genres", "plot", "director", "actors"]


def write_project(folder: Path, *, modalities: list[str], period: str, changes: dict) -> str:
    """Write the catalog, the click log and qarm.yaml, and return the moment that item pairs must lie before."""
    log = {name: pd.read_parquet(DATA / f"interactions_{name}.parquet") for name in ("train", "valid", "test")}
    kept = [log["train"], log["valid"]] if period == "valid" else list(log.values())
    folder.mkdir(parents=True)
    pd.concat(kept).drop_duplicates(["user_id", "item_id", "event_timestamp"]).to_parquet(
        folder / "log.parquet", coerce_timestamps="us"
    )
    pd.read_parquet(DATA / "items.parquet").to_parquet(folder / "items.parquet")
    items = {"path": "items.parquet", "title": "title", "text": TEXT if "text" in modalities else []}
    if "image" in modalities:
        items["image"] = "poster"
    settings = {
        "max_rejected_share": 0.5,  # a third of the catalog has no poster
        "items": items,
        "interactions": {"path": "log.parquet", "label": "label"},
        "encoder": {"align": True, **changes.pop("encoder", {})},
        **changes,
    }
    (folder / "qarm.yaml").write_text(yaml.safe_dump(settings))
    return str(pd.Timestamp(log[period]["event_timestamp"].min()).tz_localize(None).isoformat())


def run_jobs(folder: Path, until: str, seeds: int) -> Iterator[dict]:
    """Mine pairs once, then yield the figures of evaluate-encoder for every seed, in one Spark session."""
    from qarm_features.jobs.align_encoder import align_encoder
    from qarm_features.jobs.command import run_job
    from qarm_features.jobs.context import JobContext
    from qarm_features.jobs.evaluate_encoder import evaluate_encoder
    from qarm_features.jobs.ingest_catalog import ingest_catalog
    from qarm_features.jobs.mine_item_pairs import mine_item_pairs
    from qarm_features.settings.load import load_settings

    for seed in range(seeds):
        settings = load_settings(folder / "qarm.yaml", seed=seed)
        context = JobContext(settings, spark_log_on_stderr=False)
        if seed == 0:
            run_job(ingest_catalog, context)
            run_job(mine_item_pairs, context, until=until)
        run_job(align_encoder, context)
        run_job(evaluate_encoder, context)
        yield json.loads((settings.artifacts_path / "evaluations" / "encoder.json").read_text())


def main() -> None:
    """Print the mean and standard deviation over seeds, by slice."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--modalities", nargs="+", choices=["text", "image"], default=["text"])
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--period", choices=["valid", "test"], default="valid")
    parser.add_argument("--set", nargs="*", default=[], help="further settings, for example alignment.epochs=5")
    arguments = parser.parse_args()
    if not DATA.is_dir():
        sys.exit(f"{DATA} is absent: set QARM_DATA to a folder that holds ml1m. Skipped.")
    changes: dict = {}
    for given in arguments.set:
        name, value = given.split("=")
        section, key = name.split(".")
        changes.setdefault(section, {})[key] = yaml.safe_load(value)
    found = defaultdict(list)
    with tempfile.TemporaryDirectory() as folder:
        project = Path(folder) / "project"
        until = write_project(project, modalities=arguments.modalities, period=arguments.period, changes=changes)
        for seed, figures in enumerate(run_jobs(project, until, arguments.seeds)):
            print(f"seed {seed}: {json.dumps(figures)}", flush=True)
            for version, rates in figures["hit_rate"].items():
                name = "frozen" if int(version) == figures["frozen"] else "aligned"
                for part, rate in rates.items():
                    found[part, name].append(rate)
    print(f"{'+'.join(arguments.modalities)}, {arguments.period} period, {arguments.seeds} seeds")
    for part in figures["pairs"]:
        shown = [_shown(name, found[part, name]) for name in ("frozen", "aligned")]
        print(f"  {part:14} {figures['pairs'][part]:6} co-clicks  {'  '.join(shown)}  chance {figures['chance']:.4f}")


def _shown(name: str, rates: list[float | None]) -> str:
    rates = [rate for rate in rates if rate is not None]
    if not rates:
        return f"{name} -"
    return f"{name} {statistics.mean(rates):.4f} ± {statistics.stdev(rates) if len(rates) > 1 else 0:.4f}"


if __name__ == "__main__":
    main()

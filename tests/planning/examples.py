"""Sizes and constants that the tests of plans share."""

from __future__ import annotations

from qarm_features.planning.constants import Constants

UNITS = {
    "ingest_catalog": ("item_bytes", "event_rows"),
    "mine_item_pairs": ("positive_rows", "trigger_items"),
    "embed_items": ("item_bytes", "encoder_flops", "rescanned_bytes"),
    "fit_codebooks": ("multiply_adds", "item_bytes"),
    "assign_semantic_ids": ("multiply_adds", "item_bytes"),
    "find_nearest_items": ("search_multiply_adds", "item_bytes"),
    "write_content_tokens": ("item_bytes", "encoder_flops"),
    "build_user_behavior": ("sequence_values",),
    "publish_features": ("item_rows", "sequence_values"),
    "build_training_set": ("sequence_values",),
    "write_report": ("item_rows", "event_rows"),
    "align_encoder": (),
    "train_ranking_model": (),
}
ALONE = {
    "fit_codebooks": ("start_multiply_adds",),
    "write_content_tokens": ("laid_out_bytes",),
    "align_encoder": ("pair_passes",),
    "publish_features": ("counted_keys",),
    "train_ranking_model": ("row_passes", "table_updates"),
}


def constants(seconds: float = 1e-9, fixed: float = 0.0, **parts) -> Constants:
    """Returns constants in which each unit takes as many seconds, and a byte of a shuffle per byte or row."""
    stages = {}
    for stage, units in UNITS.items():
        known = {"fixed": fixed} | dict.fromkeys(units, seconds)
        alone = dict.fromkeys(ALONE.get(stage, ()), seconds)
        moved = {name: 1.0 for name in units if not name.endswith(("_adds", "_flops"))}
        shuffled = {name: size for name, size in moved.items() if name != "rescanned_bytes"}
        stages[stage] = {
            "cpu_seconds": known,
            "driver_seconds": alone,
            "read_bytes": moved,
            "shuffle_bytes": shuffled,
        }
    machine = {"processor": "test", "cores": 2, "memory_gib": 8, "load_average": 0.5, "versions": {}}
    run = {"items": 10_000, "events": 10_000, "users": 100, "dim": 64, "levels": 3, "codebook_size": 64}
    whole = {
        "machine": machine,
        "measured_on": "2026-01-01",
        "about": "Made up.",
        "runs": [run],
        "parallel_efficiency": 0.5,
        "stages": stages,
        "redis": {
            "item_key": {"fixed": 100.0, "release": 40.0, "code": 5.0},
            "user_key": [[10.0, 500.0], [50.0, 2_000.0]],
        },
    }
    return Constants.model_validate(whole | parts)

"""The jobs of the command line: which there are, which of them a run takes, and where they are imported from.

In: settings, and flags of ``qarm run``. Out: names of jobs in the order in which they run, and the jobs themselves.
"""

from __future__ import annotations

from concurrent.futures import Future, ThreadPoolExecutor
from importlib import import_module
from typing import TYPE_CHECKING

from qarm_features.settings.load import Settings

if TYPE_CHECKING:
    from qarm_features.jobs.job import Job

# Jobs of `qarm run` in the order in which they run. Each stands in the module of its name.
JOBS: tuple[str, ...] = (
    "ingest_catalog",
    "mine_item_pairs",
    "align_encoder",
    "embed_items",
    "fit_codebooks",
    "assign_semantic_ids",
    "build_user_behavior",
    "publish_features",
    "build_training_set",
    "train_ranking_model",
    "write_report",
)
ALIGNMENT_JOBS = ("mine_item_pairs", "align_encoder")  # `qarm run` leaves these out while encoder.align is false.
RANKING_JOBS = ("build_training_set", "train_ranking_model")  # And these while every row of the log is positive.
# Jobs that `qarm run` does not run by itself.
OTHER_JOBS: tuple[str, ...] = (
    "advise_codes",
    "evaluate_encoder",
    "find_nearest_items",
    "evaluate_codes",
    "monitor",
    "export_semantic_ids",
    "write_content_tokens",
    "export_encoder",
    "build_explorer",
    "code_frozen_items",
    "repair",
    "follow",
)
# What `qarm run --compare` adds, each before the job named beside it.
COMPARING_JOBS = {"code_frozen_items": "embed_items", "evaluate_encoder": "fit_codebooks"}
SHOWN_AS = {"write_report": "report"}


def shown_as(name: str) -> str:
    """Returns the command of a job."""
    return SHOWN_AS.get(name, name.replace("_", "-"))


def jobs_until(until: str | None) -> tuple[str, ...]:
    """Returns the jobs of a run up to one, or all.

    Args:
        until: Command or name of the last job; None for all.

    Raises:
        ValueError: There is no such job in a run.
    """
    if until is None:
        return JOBS
    asked = until.replace("_", "-")
    for number, name in enumerate(JOBS, 1):
        if asked in (shown_as(name), name.replace("_", "-")):
            return JOBS[:number]
    raise ValueError(f"--until is {until}, must be one of {', '.join(map(shown_as, JOBS))}.")


def jobs_of(wanted: tuple[str, ...], settings: Settings) -> tuple[str, ...]:
    """Returns the wanted jobs without those that the settings leave out."""
    left_out: tuple[str, ...] = () if settings.encoder.align else ALIGNMENT_JOBS
    if settings.interactions.label is None:
        left_out += RANKING_JOBS
    return tuple(name for name in wanted if name not in left_out)


def comparing(names: tuple[str, ...], settings: Settings) -> tuple[str, ...]:
    """Returns the jobs with those that compare the aligned encoder with the frozen one.

    Raises:
        ValueError: The settings ask for no alignment.
    """
    if not settings.encoder.align:
        raise ValueError(
            "--compare needs an aligned encoder, but encoder.align is false. Set encoder.align: true in qarm.yaml."
        )
    before = {later: added for added, later in COMPARING_JOBS.items()}
    return tuple(part for name in names for part in (before.get(name), name) if part)


def load(name: str) -> Job[...]:
    """Imports a job."""
    job: Job[...] = getattr(import_module(f"qarm_features.jobs.{name}"), name)
    return job


def load_in_background(names: tuple[str, ...]) -> dict[str, Future[Job[...]]]:
    """Imports the jobs one after another in a thread. Feast and torch take over ten seconds, while Spark can work."""
    thread = ThreadPoolExecutor(1)
    return {name: thread.submit(load, name) for name in names}

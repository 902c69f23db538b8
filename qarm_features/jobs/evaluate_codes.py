"""item_semantic_ids, item_embeddings, interactions, codebooks -> figures of one codebook version, or of two."""

from __future__ import annotations

from typing import Annotated

import typer
from rich.console import Console

from qarm_features.evaluation.codes import evaluate_version
from qarm_features.jobs.context import JobContext, current_codebooks
from qarm_features.jobs.job import Counts, job
from qarm_features.jobs.states import EVALUATIONS
from qarm_features.report.code_table import code_table
from qarm_features.storage.artifacts import write_json


@job(
    after="assign-semantic-ids",
    reads=("item_semantic_ids", "item_embeddings", "interactions", "codebooks/"),
    writes=(EVALUATIONS,),
    settings=("codebooks", "seed"),
)
def evaluate_codes(
    context: JobContext,
    codebook_version: Annotated[int | None, typer.Option(help="Version to evaluate; by default the newest.")] = None,
    against: Annotated[int | None, typer.Option(help="Version to compare it with.")] = None,
    k: Annotated[int, typer.Option(help="Nearest items of HitRate@k.", min=1)] = 10,
    max_pairs: Annotated[int, typer.Option(help="Most co-clicks looked at, drawn by seed.", min=1)] = 5_000,
    max_queries: Annotated[int, typer.Option(help="Items whose neighbors are compared, of all.", min=1)] = 1_000,
) -> Counts:
    """Measures semantic IDs over all items without a ranking model: what codes know of co-clicks later than all item pairs,
    neighborhoods, error, collisions, balance."""
    settings, options = context.settings, {"k": k, "max_pairs": max_pairs, "max_queries": max_queries}
    wanted = current_codebooks(context, codebook_version)
    versions = [*([] if against is None else [current_codebooks(context, against)]), wanted]
    found = []
    for codebooks in versions:
        other = against if codebooks is wanted else None
        figures = evaluate_version(context.warehouse, codebooks, against=other, seed=settings.seed, **options)
        write_json(settings.artifacts_path / "evaluations" / f"codes_v{codebooks.version}.json", figures)
        found.append(figures)
    Console(highlight=False).print(code_table(found))
    return Counts(found[-1]["items"], found[-1]["items"], 0, f"codebooks v{wanted.version}")

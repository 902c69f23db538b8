"""Evaluates one codebook version, or compares two.

In: ``item_semantic_ids``, ``item_embeddings``, ``interactions``, codebooks. Out: figures on the terminal and as JSON.
"""

from __future__ import annotations

from typing import Annotated, Any

import typer

from qarm_features.evaluation.codes import evaluate_version
from qarm_features.jobs.context import ENCODER_SETTINGS, JobContext, current_codebooks
from qarm_features.jobs.job import Counts, job
from qarm_features.jobs.states import EVALUATIONS
from qarm_features.report.code_table import code_table
from qarm_features.storage.artifacts import write_json
from qarm_features.storage.origins import require_embeddings_of, require_same_origin
from qarm_features.storage.tables import ITEM_SEMANTIC_IDS
from qarm_features.terminal import plain_console
from qarm_features.training.time_split import SPLIT_SETTINGS


@job(
    after="assign-semantic-ids",
    reads=("item_semantic_ids", "item_embeddings", "interactions", "codebooks/"),
    writes=(EVALUATIONS,),
    settings=(*ENCODER_SETTINGS, "codebooks", *SPLIT_SETTINGS),
)
def evaluate_codes(
    context: JobContext,
    codebook_version: Annotated[
        int | None, typer.Option(help="Codebook version to evaluate; the newest by default.")
    ] = None,
    against: Annotated[int | None, typer.Option(help="Codebook version to compare it with.")] = None,
    k: Annotated[int, typer.Option(help="Number k of nearest items in HitRate@k.", min=1)] = 10,
    max_pairs: Annotated[int, typer.Option(help="Highest number of co-clicks, sampled by seed.", min=1)] = 5_000,
    max_queries: Annotated[
        int, typer.Option(help="Highest number of items, sampled by seed, whose neighbors are compared.", min=1)
    ] = 1_000,
) -> Counts:
    """Measures the semantic IDs of all items without a ranking model.

    The figures are the error, collisions, code usage, how well codes keep neighborhoods of the embeddings, and how often
    co-clicks share codes, each beside what popularity alone reaches. Only co-clicks later than all item pairs count, or
    those of the valid and test split where no pairs were mined.
    """
    settings = context.settings
    options: dict[str, Any] = {"k": k, "max_pairs": max_pairs, "max_queries": max_queries, "seed": settings.seed}
    wanted = current_codebooks(context, codebook_version)
    versions = [*([] if against is None else [current_codebooks(context, against)]), wanted]
    found = []
    for codebooks in versions:
        require_same_origin(context.warehouse, ITEM_SEMANTIC_IDS, codebooks)
        require_embeddings_of(context.warehouse, codebooks)
        other = against if codebooks is wanted else None
        figures = evaluate_version(context.warehouse, codebooks, ranking=settings.ranking, against=other, **options)
        write_json(settings.artifacts_path / "evaluations" / f"codes_v{codebooks.version}.json", figures)
        found.append(figures)
    plain_console().print(code_table(found))
    return Counts(found[-1]["items"], found[-1]["items"], 0, f"codebooks v{wanted.version}")

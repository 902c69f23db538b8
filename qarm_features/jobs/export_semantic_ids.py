"""Exports semantic IDs for generative recommenders.

In: ``item_semantic_ids`` of a release. Out: files in a folder of the user.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from pyspark.sql import functions as F

from qarm_features.feature_store.publishing.releases import published_releases, require_promoted_release
from qarm_features.jobs.context import JobContext, require_codebooks_of
from qarm_features.jobs.job import Counts, job
from qarm_features.jobs.states import RELEASES
from qarm_features.semantic_ids.assign import level_sizes
from qarm_features.semantic_ids.export import ExportFormat, code_shape
from qarm_features.semantic_ids.export import export_semantic_ids as export
from qarm_features.storage.tables import ITEM_SEMANTIC_IDS


@job(after="publish-features", reads=("item_semantic_ids", RELEASES), writes=("your --output",))
def export_semantic_ids(
    context: JobContext,
    output: Annotated[Path, typer.Option(help="Folder to write to; it must be empty or not exist.")],
    file_format: Annotated[
        ExportFormat, typer.Option("--format", help="Format of the files.")
    ] = ExportFormat.INDEX_JSON,
    codebook_version: Annotated[
        int | None, typer.Option(help="Codebook version of the release; the promoted one by default.")
    ] = None,
) -> Counts:
    """Writes the semantic IDs of a release to files for generative recommenders.

    The formats are index.json of LETTER, LC-Rec and MiniOneRec, .npy files, and the list of tokens that a Hugging Face
    tokenizer adds. The collision index tells items with the same semantic ID apart.
    """
    release = require_promoted_release(context.settings)
    if codebook_version is not None:
        releases = {one.codebook_version: one for one in published_releases(context.settings)}
        if codebook_version not in releases:
            present = ", ".join(map(str, releases))
            raise ValueError(
                f"--codebook-version is {codebook_version}, must be that of a published release: {present}. "
                f"Run: qarm publish-features --codebook-version {codebook_version}"
            )
        release = releases[codebook_version]
    require_codebooks_of(context, release)
    codes = context.warehouse.read(ITEM_SEMANTIC_IDS, version=release.delta_version)
    codes = codes.where(F.col("codebook_version") == release.codebook_version)
    codebooks = context.artifacts("codebooks").get(release.codebook_version)
    sizes = level_sizes(codebooks.manifest)
    shape = code_shape(codes, num_levels=release.num_levels, codebook_size=sizes, rows=release.rows)
    made_from = {"release": release.view_name, "codebook_version": release.codebook_version}
    made_from |= {"encoder_version": release.encoder_version, "delta_version": release.delta_version}
    files = export(codes, shape, output, file_format=file_format, **made_from)
    return Counts(release.rows, release.rows, 0, f"{', '.join(files)} of {release.view_name} in {output}")

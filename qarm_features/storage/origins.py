"""Rows and the artifact that made them belong together: codes mean nothing under other codebooks of the same number.

In: an artifact, and a table whose rows name it by its number. Out: nothing, or an ``OriginError`` if the rows were made by
another artifact that had this number, for example before the folder of all artifacts was lost.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass

from qarm_features.storage.artifacts import Artifact
from qarm_features.storage.known_values import parts, values
from qarm_features.storage.plain_files import TableError
from qarm_features.storage.tables import ITEM_EMBEDDINGS, ITEM_NEAREST_ITEMS, ITEM_SEMANTIC_IDS, Table
from qarm_features.storage.warehouse import Warehouse

logger = logging.getLogger(__name__)


class OriginError(TableError):
    """Rows of a table were made by another artifact than the one that has their number now."""


@dataclass(frozen=True)
class Origin:
    """The artifact that makes the rows of a table.

    Attributes:
        noun: What the rows hold.
        version: Column of its number.
        fingerprint: Column of its fingerprint.
        anew: What makes these rows anew under a number of their own.
    """

    noun: str
    version: str
    fingerprint: str
    anew: str


ORIGINS = {
    ITEM_EMBEDDINGS: Origin(
        "embeddings",
        "encoder_version",
        "encoder_fingerprint",
        "move that folder away, so that the next encoder gets a new number, and run qarm run",
    ),
    ITEM_SEMANTIC_IDS: Origin(
        "codes",
        "codebook_version",
        "codebook_fingerprint",
        "fit new codebooks, which get a new number, by qarm fit-codebooks --fresh, and then run qarm assign-semantic-ids",
    ),
    ITEM_NEAREST_ITEMS: Origin(
        "VQ codes",
        "bank_version",
        "bank_fingerprint",
        "freeze a new bank, which gets a new number, by qarm find-nearest-items --refit",
    ),
}


def is_of_encoder(artifact: Artifact, encoder: Artifact) -> bool:
    """Return False if codebooks or a bank were made from embeddings of another encoder that had the same number.

    Args:
        artifact: Codebooks or a bank. Those of an earlier release do not tell, and count as made by this encoder.
        encoder: Encoder of the number that their manifest names.
    """
    return artifact.manifest.get("encoder_fingerprint") in (None, encoder.fingerprint)


def require_embeddings(warehouse: Warehouse, encoder: Artifact) -> None:
    """Refuse an encoder version of which the table has no embedding, or those of another encoder of this number.

    Raises:
        TableError: ``item_embeddings`` has no row of the version.
        OriginError: Rows have another fingerprint than the encoder.
    """
    require_same_origin(warehouse, ITEM_EMBEDDINGS, encoder)
    present = parts(warehouse, ITEM_EMBEDDINGS, "encoder_version")
    if present and str(encoder.version) not in present:
        raise TableError(
            f"Table item_embeddings has no row with encoder_version = {encoder.version}. Present: "
            f"{', '.join(sorted(present, key=int))}. Run: qarm embed-items"
        )


def require_embeddings_of(warehouse: Warehouse, codebooks: Artifact, *, version: int | None = None) -> None:
    """Refuse codebooks whose encoder is not the one that made the embeddings in the table.

    Args:
        warehouse: The tables.
        codebooks: Codebook version, whose manifest names its encoder.
        version: Delta version of ``item_embeddings``, the newest by default.

    Raises:
        OriginError: The embeddings of that encoder version have another fingerprint.
    """
    number, expected = codebooks.manifest["encoder_version"], codebooks.manifest.get("encoder_fingerprint")
    part = {"encoder_version": number}
    found = values(warehouse, ITEM_EMBEDDINGS, "encoder_fingerprint", part=part, version=version)
    others = sorted(found - {None, expected})
    if expected is not None and others:
        raise OriginError(
            f"Codebooks v{codebooks.version} were fitted on embeddings of encoder v{number} with the fingerprint {expected}, "
            f"but item_embeddings holds those of {others[0]}. Fit new ones. Run: qarm fit-codebooks --fresh"
        )


def require_same_origin(warehouse: Warehouse, table: Table, artifact: Artifact, *, version: int | None = None) -> None:
    """Refuse rows that another artifact of the same number made. Rows of an earlier release, without a fingerprint, pass.

    The log of the table tells it, without a scan, unless the rows are of several origins.

    Args:
        warehouse: The tables.
        table: Table of the rows: one of ``ORIGINS``.
        artifact: Artifact that the rows are used with.
        version: Delta version of the table, the newest by default.

    Raises:
        OriginError: Rows have another fingerprint than the artifact.
    """
    origin = ORIGINS[table]
    found = values(warehouse, table, origin.fingerprint, part={origin.version: artifact.version}, version=version)
    others = sorted(found - {None, artifact.fingerprint})
    if others:
        raise OriginError(
            f"{table.name} holds {origin.noun} of {artifact.kind} v{artifact.version} with the fingerprint {others[0]}, but "
            f"{artifact.place} has {artifact.fingerprint}: it was made anew under an old number. Restore the folder of that "
            f"fingerprint from a backup, or {origin.anew}."
        )
    if None in found:
        logger.warning(
            "WARNING: %s holds %s of %s v%d without a fingerprint, written by an earlier release, so nothing proves that "
            "%s made them. If the folder was lost since: %s.",
            table.name, origin.noun, artifact.kind, artifact.version, artifact.place, origin.anew,
        )  # fmt: skip

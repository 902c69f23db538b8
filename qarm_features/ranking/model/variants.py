"""Variants of the ranking model by name, with the switches that each of them sets.

In: ``ranking.variants`` of qarm.yaml: names, or names with switches. Out: switches of ``RankingConfig`` by name. A name that
begins with + adds to "item IDs + semantic IDs".
"""

from collections.abc import Mapping, Sequence
from dataclasses import fields
from typing import Any

from qarm_features.ranking.model.ranking_config import RankingConfig

_WITHOUT_CIC = {"use_fusion": True, "use_content_interest": True}
# The Content-ID-Contrastive loss (CIC) compares both sides in a space of its own. On item IDs themselves it outweighs the log
# loss, and an ID of new items that it makes from their content was worse than none.
_EM3 = {**_WITHOUT_CIC, "content_id_weight": 0.01, "content_id_dim": 16, "content_id_negatives": 16}
_MATCH = {"use_match": True, "use_ages": True}
_HISTORY = {"use_history": True, "use_counters": True, "use_ages": True}
VARIANTS: Mapping[str, Mapping[str, Any]] = {
    "item IDs": {"use_semantic_ids": False},
    "item IDs + frozen vector": {"use_semantic_ids": False, "use_frozen_vector": True},
    "item IDs + semantic IDs": {},
    "+prefixes": {"use_prefixes": True},
    "+nearest items": {"use_nearest_items": True},
    "+match": _MATCH,
    "+nearest items, match": {"use_nearest_items": True, **_MATCH},
    "+frozen vector": {"use_frozen_vector": True},
    "+fusion": {"use_fusion": True},
    "+EM3 without CIC": _WITHOUT_CIC,
    "+EM3": _EM3,
    "+history": _HISTORY,
    # Without CIC, with which it was no better than codes alone.
    "all": {"use_nearest_items": True, "use_frozen_vector": True, **_MATCH, **_WITHOUT_CIC, **_HISTORY},
}
_OF_THE_DATA = {"num_items", "num_levels", "codebook_size", "codebook_version", "vector_dim", "token_dims"}


def named_variants(variants: Sequence[str] | Mapping[str, Mapping[str, Any] | None]) -> dict[str, dict[str, Any]]:
    """Returns the switches of each variant.

    Args:
        variants: Names of ``VARIANTS``. Or a mapping from names to fields of ``RankingConfig``; None for a name of
            ``VARIANTS``.

    Raises:
        ValueError: If a name or a switch is unknown, or there is no variant.
    """
    given = variants if isinstance(variants, Mapping) else dict.fromkeys(variants)
    if not given:
        raise ValueError(f"ranking.variants is empty, must name at least one of {', '.join(VARIANTS)}.")
    known = {field.name for field in fields(RankingConfig)} - _OF_THE_DATA
    found = {}
    for name, switches in given.items():
        if switches is None and name not in VARIANTS:
            raise ValueError(
                f'ranking.variants names "{name}", must be of {", ".join(VARIANTS)}. '
                "Or give the switches of your own: {name: {use_match: true}}"
            )
        unknown = sorted(set(switches or ()) - known)
        if unknown:
            raise ValueError(
                f'ranking.variants sets {", ".join(unknown)} of "{name}", must be of {", ".join(sorted(known))}.'
            )
        found[name] = dict(VARIANTS[name] if switches is None else switches)
    return found

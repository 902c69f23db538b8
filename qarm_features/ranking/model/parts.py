"""The parts of a ranking model: which item features and readings a configuration switches on.

In: a ``RankingConfig``. Out: item features and readings by the name under which their weights are saved.
"""

import importlib
import pkgutil
from collections.abc import Iterable
from importlib.metadata import entry_points
from typing import TypeVar

from qarm_features.ranking import modules
from qarm_features.ranking.data.ranking_batch import COLUMNS_OF_FIELD
from qarm_features.ranking.model.item_representation import ITEM_FEATURES
from qarm_features.ranking.model.ranking_config import RankingConfig
from qarm_features.ranking.modules.behavior_match import BehaviorMatchReading, ImpressionMatchReading
from qarm_features.ranking.modules.content_fusion import ContentFusion
from qarm_features.ranking.modules.content_interest import ContentInterestReading
from qarm_features.ranking.modules.content_match import BehaviorContentMatch, ImpressionContentMatch
from qarm_features.ranking.modules.frozen_vector import FrozenVector
from qarm_features.ranking.modules.history_features import BehaviorCount, Counters, LabeledHistory
from qarm_features.ranking.modules.item_ids import ItemIDs
from qarm_features.ranking.modules.item_rates import ItemRates
from qarm_features.ranking.modules.nearest_items_embedding import NearestItems
from qarm_features.ranking.modules.prefix_embedding import PrefixEmbedding
from qarm_features.ranking.modules.ranking_input import RANKING_INPUTS, ItemFeature, ModelSizes, Reading
from qarm_features.ranking.modules.semantic_id_embedding import SemanticIDEmbedding
from qarm_features.ranking.modules.target_attention import AttendedBehaviors

Part = TypeVar("Part", ItemFeature, Reading)

ENTRY_POINTS = "qarm_features.ranking_inputs"
# The MLP of a saved model reads the readings in this order; those of ``RankingConfig.inputs`` follow.
INPUT_ORDER = (
    "length",
    "attention",
    "match",
    "labelled",
    "impression_match",
    "content_match",
    "impression_content_match",
    "interest",
    "counters",
    "item_rates",
)
CODES = ("item_codes", "behavior_codes", "impression_codes")
ITEM_ARRAYS = ("nearest_items", "nearest_distances", "vectors", "content")


def item_features_of(config: RankingConfig) -> dict[str, ItemFeature]:
    """Builds the item features that a configuration switches on.

    The order of the names is the order of the representation, of the weights in a saved model, and of the random numbers
    that the first weights are drawn from.

    Args:
        config: Configuration of the ranking model.

    Returns:
        Item features by name; never empty.

    Raises:
        ValueError: If ``config.inputs`` names a ranking input that is not registered.
    """
    features: dict[str, ItemFeature] = {}
    codes = (config.num_levels, config.codebook_size)
    version = config.codebook_version
    item_ids = None
    if config.use_item_ids:
        item_ids = ItemIDs(config.num_items, config.item_dim, id_dropout=config.id_dropout)
        features["item_ids"] = item_ids
    if config.use_semantic_ids:
        features["semantic_ids"] = SemanticIDEmbedding(*codes, config.code_dim, codebook_version=version)
    if config.use_prefixes:
        features["prefixes"] = PrefixEmbedding(
            *codes, config.prefix_dim, num_rows=config.prefix_rows, codebook_version=version
        )
    if config.use_nearest_items:
        shared = item_ids if config.share_nearest_items else None
        features["nearest_items"] = NearestItems(config.num_items, config.item_dim, item_ids=shared)
    if config.vector_dim and config.use_frozen_vector:
        features["vector"] = FrozenVector(config.vector_dim, config.content_dim)
    if config.token_dims and config.use_fusion:
        features["fusion"] = ContentFusion(
            config.token_dims,
            dim=config.content_dim,
            num_queries=config.num_queries,
            num_layers=config.fusion_layers,
            num_heads=config.num_heads,
            flatten_queries=config.flatten_queries,
        )
    sizes = ModelSizes(config.num_items, *codes)
    return features | _registered_parts(config, sizes, ItemFeature)


def readings_of(config: RankingConfig, *, dim: int, content_dim: int) -> dict[str, Reading]:
    """Builds the readings that a configuration switches on.

    The order of the names is the order of the weights in a saved model, and of the random numbers that the first weights
    are drawn from. ``INPUT_ORDER`` is the order of the inputs.

    Args:
        config: Configuration of the ranking model.
        dim: D of an item's representation, at least 1.
        content_dim: D of an item's content; 0 for a model without content.

    Returns:
        Readings by name.

    Raises:
        ValueError: If ``config.inputs`` names a ranking input that is not registered.
    """
    readings: dict[str, Reading] = {"length": BehaviorCount()}
    ages, impressions, hidden_dim = config.use_ages, config.use_history, config.attention_dim
    if config.use_history_vectors:
        readings["attention"] = AttendedBehaviors(dim, hidden_dim=hidden_dim)
    if config.use_match:
        pooled_dim = dim if config.use_history_vectors else None
        readings["match"] = BehaviorMatchReading(config.num_levels, use_ages=ages, dim=pooled_dim)
        if impressions:
            readings["impression_match"] = ImpressionMatchReading(config.num_levels, use_ages=ages)
    if config.use_content_match:
        readings["content_match"] = BehaviorContentMatch()
        if impressions:
            readings["impression_content_match"] = ImpressionContentMatch()
    if impressions:
        attend = config.use_history_vectors
        readings["labelled"] = LabeledHistory(dim, hidden_dim=hidden_dim, use_ages=ages, attend=attend)
    if config.use_counters:
        readings["counters"] = Counters()
    if config.use_content_interest:
        readings["interest"] = ContentInterestReading(
            content_dim,
            config.content_dim,
            num_heads=config.num_heads,
            rank=config.interest_rank,
            base=config.interest_base,
        )
    if config.use_item_rates:
        readings["item_rates"] = ItemRates(before_row=config.item_rates == "before_row")
    sizes = ModelSizes(config.num_items, config.num_levels, config.codebook_size, dim, content_dim)
    return readings | _registered_parts(config, sizes, Reading)


def needs_of(parts: Iterable[ItemFeature | Reading]) -> frozenset[str]:
    """Returns all that the parts of a model read: optional fields of a batch, codes, and arrays of ``ItemFeatures``.

    Args:
        parts: Item features and readings.

    Raises:
        ValueError: If a part names something that does not exist.
    """
    known = {*COLUMNS_OF_FIELD, *CODES, *ITEM_ARRAYS}
    needs: set[str] = set()
    for part in parts:
        unknown = sorted(part.needs - known)
        if unknown:
            raise ValueError(
                f"needs of {type(part).__name__} holds {', '.join(unknown)}, must be of {', '.join(sorted(known))}."
            )
        needs |= part.needs
    if needs & {name for name in COLUMNS_OF_FIELD if name.startswith("impression_")}:
        needs |= {"impression_index", "impression_mask"}
        if needs & {*CODES}:  # the representation of an impression reads its codes
            needs.add("impression_codes")
    return frozenset(needs)


def registered_input(name: str) -> type[ItemFeature] | type[Reading]:
    """Finds the class of a registered ranking input.

    Looked through are classes that are registered already, the files of ``qarm_features.ranking.modules``, and the entry
    points "qarm_features.ranking_inputs" of installed packages.

    Args:
        name: A name of ``RankingConfig.inputs``.

    Raises:
        ValueError: If there is none of this name.
    """
    if name not in RANKING_INPUTS:
        for file in pkgutil.iter_modules(modules.__path__):
            importlib.import_module(f"{modules.__name__}.{file.name}")
    if name not in RANKING_INPUTS:
        for entry in entry_points(group=ENTRY_POINTS, name=name):
            entry.load()
    if name not in RANKING_INPUTS:
        registered = ", ".join(sorted(RANKING_INPUTS)) or "none"
        raise ValueError(
            f'inputs names "{name}", must be one of the registered ranking inputs ({registered}). '
            "Import the file that holds @ranking_input before the model is built or loaded. For the command line, install it "
            f"with an entry point of the group {ENTRY_POINTS}."
        )
    return RANKING_INPUTS[name]


def _registered_parts(config: RankingConfig, sizes: ModelSizes, kind: type[Part]) -> dict[str, Part]:
    """Builds the registered ranking inputs of one kind."""
    parts: dict[str, Part] = {}
    for name, options in config.inputs.items():
        if name in (*ITEM_FEATURES, *INPUT_ORDER):
            raise ValueError(f'inputs names "{name}", which is a part of every ranking model. Choose another name.')
        cls = registered_input(name)
        if issubclass(cls, kind):
            parts[name] = cls(sizes, **options)
    return parts

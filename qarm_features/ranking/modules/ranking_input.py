"""The two kinds of ranking inputs, and how to add one of your own.

An item feature describes an item; targets, behaviors and impressions share it. A reading describes the user and the target
together. In: items, or the rows of a batch. Out: one tensor each, which ``RankingModel`` puts side
by side as inputs of its MLP.

To add a ranking input, write one class and register it. Nothing else changes: its file may stand in this folder, which is
searched for names that a configuration uses, or in code of your own that you import before you build the model. ::

    @ranking_input("recent_share")
    class RecentShare(Reading):
        needs = frozenset({"behavior_age"})

        def __init__(self, sizes: ModelSizes, *, days: float = 7.0) -> None:
            super().__init__()
            self.days, self.output_dim = days, 1

        def read(self, rows: Rows) -> Tensor:
            recent = (rows.field("behavior_age") < self.days) & rows.batch.behavior_mask
            return recent.float().mean(dim=1, keepdim=True)

    RankingModel(num_items=3, use_semantic_ids=False, inputs={"recent_share": {"days": 30.0}})
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple, TypeVar

from torch import Tensor, nn

from qarm_features.ranking.data.item_features import ItemFeatures
from qarm_features.ranking.data.ranking_batch import RankingBatch
from qarm_features.ranking.modules.looked_up import LookedUp

SECONDS_PER_DAY = 86_400.0


class ModelSizes(NamedTuple):
    """The sizes that a registered ranking input may build on.

    Attributes:
        num_items: Size of the item vocabulary, at least 0.
        num_levels: L of the codebooks; 0 for a model without codes.
        codebook_size: K of the codebooks; 0 for a model without codes.
        dim: D of an item's whole representation; 0 while item features are built.
        content_dim: D of an item's content; 0 while item features are built, and for a model without content.

    Example:
        >>> ModelSizes(num_items=100, num_levels=3, codebook_size=256).dim
        0
    """

    num_items: int
    num_levels: int
    codebook_size: int
    dim: int = 0
    content_dim: int = 0


class ItemCounts(NamedTuple):
    """Counts of the training rows.

    Attributes:
        positives: (num_items + 1,) int64 by item index.
        impressions: (num_items + 1,) int64 by item index.
        positive_rate: () float32 in (0, 1), the smoothed rate over all items.
    """

    positives: Tensor
    impressions: Tensor
    positive_rate: Tensor


class UniqueItems(NamedTuple):
    """The distinct items of a batch, as ``ItemFeature.look_up`` sees them.

    Attributes:
        item_index: (U,) int64 item indexes, ascending; above num_items = an item without an ID embedding.
        features: Features of the items beside their codes.
        vector_mean: (D,) float32 mean of the frozen vectors; empty for a model without them.

    Example:
        An item feature reads what it needs of the distinct items of a batch::

            def look_up(self, unique: UniqueItems) -> Tensor:
                return unique.features.rows("vectors", unique.item_index)
    """

    item_index: Tensor
    features: ItemFeatures
    vector_mean: Tensor


class Items(NamedTuple):
    """Items at places of any shape, as ``ItemFeature.embed`` sees them.

    Attributes:
        item_index: (...) int64 item indexes, at least 0; above num_items = an item without an ID embedding.
        codes: (..., L) int64 in [-1, K); -1 = missing.
        looked_up: (..., looked_up_dim) float32, what the feature's own ``look_up`` returned for these items.
        content_as_id: (..., item_dim) float32, the content mapped into the space of item IDs; None without this map.

    Example:
        An item feature embeds items from their codes::

            def embed(self, items: Items) -> Tensor:
                return self.table(items.codes[..., 0] + 1)
    """

    item_index: Tensor
    codes: Tensor
    looked_up: Tensor
    content_as_id: Tensor | None


@dataclass
class Rows:
    """One batch, as ``Reading.read`` sees it; user-side tensors have B rows, or one row that stands for all B.

    Args:
        batch: Indexes, codes, masks, labels, ages and counters.
        target: (B, D) float32 representation of the target items.
        looked_up: Rows looked up for targets (B,), behaviors (B, T) and, if any input reads them, impressions (B, T2).
        counts: Counts of the training rows.
        represent: Function that represents items, from their index, codes and looked-up tensors.

    Example:
        A reading reads a field of the batch and the representation of the target::

            def read(self, rows: Rows) -> Tensor:
                return rows.target * rows.field("counters")[:, 2:3].log1p()
    """

    batch: RankingBatch
    target: Tensor
    looked_up: Sequence[LookedUp]
    counts: ItemCounts
    represent: Callable[[Tensor, Tensor, LookedUp], Tensor]

    @cached_property
    def behavior(self) -> Tensor:
        """The representation of the behaviors, (B, T, D) float32; it is computed when the first reading needs it."""
        return self.represent(self.batch.behavior_index, self.batch.behavior_codes, self.looked_up[1])

    @cached_property
    def impression(self) -> Tensor:
        """The representation of the impressions, (B, T2, D) float32; it is computed when the first reading needs it."""
        index, codes = self.field("impression_index"), self.batch.impression_codes
        if codes is None:  # a model without codes does not read them
            codes = index.unsqueeze(-1)[..., :0]
        return self.represent(index, codes, self.looked_up[2])

    def field(self, name: str) -> Tensor:
        """Returns an optional field of the batch that the reading's ``needs`` name.

        Raises:
            ValueError: If the batch does not hold it.
        """
        tensor = getattr(self.batch, name)
        if tensor is None:
            raise ValueError(f"The batch holds no {name}. Name it in the needs of the ranking input that reads it.")
        return tensor


class ItemFeature(nn.Module):
    """One part of an item's representation: a subclass sets ``output_dim`` and defines ``embed``.

    What depends on the item alone and is costly goes into ``look_up``, which sees each item of a batch once.

    Attributes:
        output_dim: Width of what ``embed`` returns, at least 1.
        needs: Names of what it reads: "item_codes", and arrays of ``ItemFeatures``: "nearest_items", "vectors",
            "content".
        looked_up_dim: Width of what ``look_up`` returns; 0 for an item feature that looks nothing up.
        is_content: True if what was looked up is content, which content readings then read too.

    Example:
        >>> class IsKnown(ItemFeature):
        ...     output_dim = 1
        ...     def embed(self, items: Items) -> Tensor:
        ...         return (items.item_index > 0).float().unsqueeze(-1)
        >>> IsKnown().needs
        frozenset()
    """

    output_dim: int
    needs: frozenset[str] = frozenset()
    looked_up_dim: int = 0
    is_content: bool = False

    def look_up(self, unique: UniqueItems) -> Tensor:
        """Returns (U, looked_up_dim) float32 for the distinct items of a batch."""
        raise NotImplementedError

    def embed_looked_up(self, looked_up: Tensor) -> Tensor | None:
        """Returns (U, output_dim) float32 for U distinct items from what was looked up of them, (U, looked_up_dim) float32.

        An item feature that reads nothing else defines this instead of ``embed``; it is then computed once per distinct item.
        """
        return None

    def embed(self, items: Items) -> Tensor:
        """Returns (..., output_dim) float32 for items at places of any shape."""
        embedded = self.embed_looked_up(items.looked_up)
        if embedded is None:
            raise NotImplementedError(f"{type(self).__name__} defines neither embed nor embed_looked_up.")
        return embedded


class Reading(nn.Module):
    """One input about the user and the target: a subclass sets ``output_dim`` and defines ``read``.

    Attributes:
        output_dim: Width of what ``read`` returns, at least 1.
        needs: Names of what it reads: optional fields of ``RankingBatch``, "item_codes", "behavior_codes", and arrays of
            ``ItemFeatures``.

    Example:
        >>> class NumberOfBehaviors(Reading):
        ...     output_dim = 1
        ...     def read(self, rows: Rows) -> Tensor:
        ...         return rows.batch.behavior_mask.sum(dim=1, keepdim=True).float()
        >>> NumberOfBehaviors().output_dim
        1
    """

    output_dim: int
    needs: frozenset[str] = frozenset()

    def read(self, rows: Rows) -> Tensor:
        """Returns (B, output_dim) float32, or one row that stands for all B."""
        raise NotImplementedError

    def logit(self, rows: Rows, inputs: Tensor) -> Tensor | None:
        """Returns a part of the logit (B,) that is linear in ``inputs``, which ``read`` returned; None adds nothing."""
        return None

    def linear_weights(self) -> list[Tensor]:
        """Returns the weights of the linear part of the logit, which have no weight decay."""
        return []


InputClass = TypeVar("InputClass", bound=type[ItemFeature] | type[Reading])
RANKING_INPUTS: dict[str, type[ItemFeature] | type[Reading]] = {}


def ranking_input(name: str) -> Callable[[InputClass], InputClass]:
    """Registers a class as the ranking input ``name`` of ``RankingConfig.inputs``.

    The model builds it as ``Class(sizes, **options)``, with ``ModelSizes`` and the options of the configuration. Its
    weights are saved as ``items.<name>`` or ``history.<name>``.

    Args:
        name: A Python identifier that no other ranking input has.

    Raises:
        ValueError: If the name is not an identifier, or another class has it.
        TypeError: If the class is neither an ItemFeature nor a Reading.

    Example:
        See the docstring of this module for a whole ranking input::

            @ranking_input("recent_share")
            class RecentShare(Reading): ...

            RankingModel(num_items=3, use_semantic_ids=False, inputs={"recent_share": {"days": 30.0}})
    """
    if not name.isidentifier():
        raise ValueError(f'name is "{name}", must be a Python identifier. The weights are saved under this name.')

    def register(cls: InputClass) -> InputClass:
        if not issubclass(cls, (ItemFeature, Reading)):
            raise TypeError(f"{cls.__name__} is neither an ItemFeature nor a Reading. Inherit from one of them.")
        other = RANKING_INPUTS.get(name)
        if other is not None and (other.__module__, other.__qualname__) != (cls.__module__, cls.__qualname__):
            raise ValueError(
                f'The ranking input "{name}" exists already, as {other.__qualname__}. Choose another name.'
            )
        RANKING_INPUTS[name] = cls
        return cls

    return register

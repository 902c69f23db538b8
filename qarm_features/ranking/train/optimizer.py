"""The optimizers of a ranking model: which weights decay, which learn at a rate of their own, and the warm-up.

In: a model and the options of its training. Out: AdamW, SparseAdam for the tables of a large catalog, and schedules that are
stepped after every batch.
"""

from collections.abc import Mapping

from torch import Tensor, nn
from torch.optim import AdamW, Optimizer, SparseAdam
from torch.optim.lr_scheduler import LambdaLR

from qarm_features.ranking.model.parts import INPUT_ORDER, ITEM_FEATURES
from qarm_features.ranking.model.ranking_model import RankingModel
from qarm_features.ranking.train.training_options import SPARSE_FROM, TrainingOptions

_BETA_2 = 0.999  # that of AdamW


def tables_of_items(model: RankingModel) -> list[nn.Embedding]:
    """Returns the tables with one row per item ID."""
    rows = model.config.num_items + 1
    return [part for part in model.modules() if isinstance(part, nn.Embedding) and part.num_embeddings == rows]


def updates_sparsely(model: RankingModel, options: TrainingOptions, *, num_processes: int) -> bool:
    """Returns whether a batch updates only the rows of tables that it names.

    Args:
        model: Model whose weights are trained.
        options: Options of the training.
        num_processes: Number of processes that train together.

    Raises:
        ValueError: If ``options.sparse_ids`` is true and several processes train: they add up dense gradients.
    """
    if options.sparse_ids and num_processes > 1:
        raise ValueError(f"sparse_ids is True, must be False or None where {num_processes} processes train together.")
    if options.sparse_ids is None:
        return num_processes == 1 and model.config.num_items >= SPARSE_FROM
    return options.sparse_ids


def optimizers_of(model: RankingModel, options: TrainingOptions, *, num_processes: int = 1) -> list[Optimizer]:
    """Returns AdamW, and SparseAdam for the tables of item IDs if a batch updates only the rows that it names.

    The tables give gradients of the kind that their optimizer takes from then on.

    Args:
        model: Model whose weights are trained.
        options: Options of the training.
        num_processes: Number of processes that train together.

    Raises:
        ValueError: If several processes cannot train as ``options.sparse_ids`` says, or ``options.part_learning_rates`` names
            something that is no part of any model.
    """
    is_sparse = updates_sparsely(model, options, num_processes=num_processes)
    for table in tables_of_items(model):
        table.sparse = is_sparse
    sparse = sparse_optimizer_of(model, options)
    return [optimizer_of(model, options), *([] if sparse is None else [sparse])]


def sparse_optimizer_of(model: RankingModel, options: TrainingOptions) -> SparseAdam | None:
    """Returns SparseAdam for the tables whose gradients are sparse; None if there are none.

    It has no momentum. That of AdamW moves a row on over the batches that do not name it, about ten times as far as the first
    step; without momentum the row goes all that way at once.

    Args:
        model: Model whose weights are trained.
        options: Options of the training.
    """
    rates = _rates_of_weights(model, options.part_learning_rates or {})
    groups: dict[float, list[Tensor]] = {}
    for weight in _sparse_weights(model):
        groups.setdefault(rates.get(id(weight), options.learning_rate), []).append(weight)
    if not groups:
        return None
    found = [{"params": members, "lr": rate} for rate, members in groups.items()]
    return SparseAdam(found, lr=options.learning_rate, betas=(0.0, _BETA_2))


def optimizer_of(model: RankingModel, options: TrainingOptions) -> AdamW:
    """Returns AdamW without weight decay for tables, one-dimensional weights and linear parts of a few numbers.

    Most rows of a table are not in a batch, and decay would shrink them all the same. Tables whose gradients are sparse are
    left to ``sparse_optimizer_of``.

    Args:
        model: Model whose weights are trained.
        options: Options of the training.

    Raises:
        ValueError: If ``options.part_learning_rates`` names something that is no part of any model.
    """
    tables = {id(module.weight) for module in model.modules() if isinstance(module, nn.Embedding)}
    spared = tables | {id(weight) for weight in model.linear_weights()}
    rates = _rates_of_weights(model, options.part_learning_rates or {})
    sparse = {id(weight) for weight in _sparse_weights(model)}
    weights = [weight for weight in model.parameters() if weight.requires_grad and id(weight) not in sparse]
    groups: dict[tuple[float, float], list[Tensor]] = {}
    for weight in weights:
        decay = 0.0 if weight.ndim < 2 or id(weight) in spared else options.weight_decay
        groups.setdefault((rates.get(id(weight), options.learning_rate), decay), []).append(weight)
    return AdamW(
        [{"params": members, "lr": rate, "weight_decay": decay} for (rate, decay), members in groups.items()],
        lr=options.learning_rate,
    )


def warm_up(optimizer: Optimizer, steps: int) -> LambdaLR:
    """Returns a schedule by which step n, from 1, has the n / steps part of its learning rates, and all of them afterwards.

    Args:
        optimizer: Optimizer before its first step.
        steps: Number of steps of the warm-up, at least 0.
    """
    return LambdaLR(optimizer, lambda step: min(1.0, (step + 1) / max(1, steps)))


def _sparse_weights(model: RankingModel) -> list[Tensor]:
    tables = {
        id(part.weight): part.weight for part in model.modules() if isinstance(part, nn.Embedding) and part.sparse
    }
    return [weight for weight in tables.values() if weight.requires_grad]


def _rates_of_weights(model: RankingModel, rates: Mapping[str, float]) -> dict[int, float]:
    """Returns learning rates by the identity of the weight, for the weights of parts with a rate of their own."""
    parts: dict[str, nn.Module] = {**model.items.features, **model.history.readings}
    unknown = sorted(rates.keys() - parts.keys() - {*ITEM_FEATURES, *INPUT_ORDER})
    if unknown:
        known = ", ".join(sorted({*ITEM_FEATURES, *INPUT_ORDER, *parts}))
        raise ValueError(f"part_learning_rates names {', '.join(unknown)}, must be of {known}.")
    return {id(weight): rates[name] for name in rates if name in parts for weight in parts[name].parameters()}

"""Models whose saved names and logits must never change, and what they were when they were recorded.

``python -m tests.ranking.model.saved_models`` records them anew; do that only for variants that are new.
"""

import json
from pathlib import Path

import torch

from qarm_features.ranking import RankingModel
from qarm_features.ranking.model.variants import VARIANTS
from tests.ranking.ranking_rows import CONFIG, CONTENT, SWITCHES, item_features, random_rows

RECORD = Path(__file__).with_name("saved_models.json")
_WIDTHS = {"vector_dim": 3, "token_dims": {"text": 4, "image": 3}, **CONTENT}
_CIC_ON_IDS = {"content_id_weight": 0.1, "new_items_from_content": True}  # what the variants +EM3 and all had at first
CONFIGS = {name: CONFIG | _WIDTHS | dict(switches) for name, switches in VARIANTS.items()} | {
    "every switch": CONFIG | SWITCHES["all"] | {"share_nearest_items": True, "id_dropout": 0.5},
    "fusion, interest, new items from content": CONFIG
    | _WIDTHS
    | {"use_fusion": True, "use_content_interest": True, "new_items_from_content": True},
    **{
        f"{name}, CIC on IDs": CONFIG
        | _WIDTHS
        | {key: value for key, value in VARIANTS[name].items() if not key.startswith("content_id")}
        | _CIC_ON_IDS
        for name in ("+EM3", "all")
    },
    "numbers of the history": CONFIG | SWITCHES["numbers of the history"],
    "content interest of vectors": CONFIG | SWITCHES["content interest of vectors"],
}


def numbered_model(name: str) -> RankingModel:
    """A model whose weights are the same on every machine: a sine of their place, none of them alike."""
    model = RankingModel(**CONFIGS[name])
    with torch.no_grad():
        for number, weight in enumerate(model.parameters()):
            place = torch.arange(weight.numel(), dtype=torch.float64) + 17.0 * number
            weight.copy_((0.5 * place.sin()).reshape(weight.shape))
    model.set_item_features(item_features())
    model.set_item_counts(torch.arange(10), torch.arange(10) * 3)
    return model.eval()


def facts(name: str) -> dict[str, list]:
    """The names of a model's weights in their order, and its logits of four rows."""
    model = numbered_model(name)
    return {
        "state_dict": [f"{key} {list(tensor.shape)}" for key, tensor in model.state_dict().items()],
        "logits": [round(logit, 5) for logit in model(random_rows()).tolist()],
    }


if __name__ == "__main__":
    RECORD.write_text(json.dumps({name: facts(name) for name in CONFIGS}, indent=1) + "\n")

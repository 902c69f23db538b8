"""An option that is named both in the settings and in the class that it configures has one default."""

from __future__ import annotations

import dataclasses
import inspect

import pytest

from qarm_features.alignment import AlignmentOptions
from qarm_features.encoders import ENCODERS
from qarm_features.encoders.item_encoder import ItemEncoder
from qarm_features.fusion.q_former import FusionQFormer
from qarm_features.quantizers import NearestItems, ResidualKMeans
from qarm_features.ranking import RankingConfig, TrainingOptions
from qarm_features.settings.codes import Codebooks
from qarm_features.settings.codes import NearestItems as NearestItemsSection
from qarm_features.settings.ranking import Ranking
from qarm_features.settings.section import Section
from qarm_features.settings.sections import Alignment, Encoder

# Two defaults on purpose: (default of the settings, default of the class). Projects were fitted and trained with the first,
# and published figures of library calls come from the second.
DIFFERENT = {
    ("ItemEncoder", "tokens_kept"): (16, None),
    ("ItemEncoder", "frozen_weight"): (1.0, 0.0),
    ("FusionQFormer", "num_queries"): (4, 8),
    ("FusionQFormer", "num_layers"): (1, 2),
}


def snake_case(name: str) -> str:
    return "".join(f"_{letter.lower()}" if letter.isupper() else letter for letter in name)


def defaults_of_a_class(configured: type) -> dict[str, object]:
    if dataclasses.is_dataclass(configured):
        return {field.name: field.default for field in dataclasses.fields(configured)}
    parameters = inspect.signature(configured.__init__).parameters.values()
    return {snake_case(p.name): p.default for p in parameters if p.default is not inspect.Parameter.empty}


def plain(default: object) -> object:
    return tuple(default) if isinstance(default, list) else default


@pytest.mark.parametrize(
    ("section", "configured"),
    [
        (Alignment, AlignmentOptions),
        (Ranking, TrainingOptions),
        (Ranking, RankingConfig),
        (Codebooks, ResidualKMeans),
        (NearestItemsSection, NearestItems),
        (Encoder, ItemEncoder),
        (Encoder, FusionQFormer),
        *[(Encoder, encoder) for encoder in ENCODERS.values()],
    ],
    ids=lambda one: one.__name__,
)
def test_settings_and_the_class_that_they_configure_have_the_same_defaults(
    section: type[Section], configured: type
) -> None:
    of_class = defaults_of_a_class(configured)
    # A setting without a value leaves the default to the class.
    in_settings = {n: plain(f.default) for n, f in section.model_fields.items() if f.default is not None}
    shared = in_settings.keys() & of_class.keys()

    found = {name: (in_settings[name], plain(of_class[name])) for name in shared}

    assert shared
    different = {name: both for name, both in found.items() if both[0] != both[1]}
    assert different == {name: both for (owner, name), both in DIFFERENT.items() if owner == configured.__name__}

"""CodebookVersioned: weights of one codebook refuse the codes of another."""

import pytest
import torch

from qarm_features.ranking.modules.codebook_version import CodebookVersioned
from qarm_features.ranking.modules.semantic_id_embedding import SemanticIDEmbedding


class Table(CodebookVersioned):
    """A module of somebody else."""


def test_codes_of_the_own_codebook_version_pass():
    assert Table(4).check_codebook_version(4) is None


def test_codes_of_another_codebook_version_are_refused_with_the_way_out():
    message = (
        r"Codes are of codebook version 1, this table was trained on version 0\. "
        r"Retrain the model on version 1, its tables warm-started by remap, or read the pinned view item_semantic_id__cb0\."
    )
    with pytest.raises(ValueError, match=message):
        Table(0).check_codebook_version(1)


def test_a_module_without_a_version_cannot_vouch_for_codes_and_names_its_own_class():
    with pytest.raises(
        ValueError, match=r"the codes are of version 2\. Build it with Table\(\.\.\., codebook_version=2\)"
    ):
        Table().check_codebook_version(2)


def test_the_version_travels_with_the_weights():
    loaded = Table()

    loaded.load_state_dict(Table(7).state_dict())

    assert int(loaded.codebook_version) == 7


def test_a_semantic_id_table_keeps_the_names_of_what_it_saves():
    state = SemanticIDEmbedding(2, 3, 1, codebook_version=5).state_dict()

    assert {name: tuple(value.shape) for name, value in state.items()} == {
        "codebook_version": (),
        "table.weight": (8, 1),
    }
    assert state["codebook_version"].dtype == torch.int64

"""The tokens of a text are the hidden states of its backbone."""

import pytest
import torch
from transformers import AutoModel

from qarm_features.encoders import BrokenContent, TextEncoder
from tests.encoders import tiny_backbones


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tiny_backbones.bert(tmp_path_factory.mktemp("bert"))


def test_tokens_are_the_last_hidden_states_and_padding_is_masked(folder):
    encoder = TextEncoder(folder)

    tokens = encoder(["red lamp", "blue"])

    reference = AutoModel.from_pretrained(folder).eval()
    with torch.no_grad():
        expected = reference(torch.tensor([[2, 4]])).last_hidden_state
    torch.testing.assert_close(tokens.values[:1], expected, atol=1e-6, rtol=1e-5)
    assert tokens.mask.tolist() == [[True, True], [True, False]]


def test_a_long_text_is_cut_to_max_tokens_and_what_the_backbone_holds(folder):
    text = "lamp " * 100

    assert TextEncoder(folder, max_tokens=8)([text]).values.shape == (1, 8, 8)
    assert TextEncoder(folder, max_tokens=128)([text]).values.shape == (1, 16, 8)


def test_decoding_bounds_the_text_without_changing_its_tokens(folder):
    encoder = TextEncoder(folder, max_tokens=8)

    decoded = encoder.decode("lamp " * 1_000_000)

    assert len(decoded) == 64 * 8
    assert torch.equal(encoder([decoded]).values, encoder(["lamp " * 100]).values)


@pytest.mark.parametrize(("raw", "reason"), [(7, "text is not a string"), ("a\ud800", "text is not valid Unicode")])
def test_what_is_no_text_is_refused(folder, raw, reason):
    with pytest.raises(BrokenContent, match=f"^{reason}$"):
        TextEncoder(folder).decode(raw)

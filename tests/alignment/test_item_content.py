"""Frozen tokens are computed once, rejected items are 0, and the cache does not change the embeddings."""

import numpy as np
import pyarrow as pa
import pytest
import torch

from qarm_features import ItemEncoder
from qarm_features.alignment.item_content import ItemContent
from qarm_features.alignment.packing import packed
from qarm_features.alignment.training_data import PackedItems
from tests.alignment.planted_pairs import planted_encoder, write_planted_source
from tests.encoders import published_backbones as shapes
from tests.encoders.published_backbones import dense, published


@pytest.fixture(scope="module")
def items(tmp_path_factory) -> PackedItems:
    return PackedItems(packed(write_planted_source(tmp_path_factory.mktemp("items") / "source")))


@pytest.fixture
def encoder():
    torch.manual_seed(0)
    return planted_encoder()


def counted_rows(encoder) -> list[int]:
    """Returns a list that grows by the number of rows at each call of the encoder of precomputed vectors."""
    calls = []
    encoder.encoders["precomputed"].register_forward_pre_hook(lambda module, inputs: calls.append(len(inputs[0])))
    return calls


def test_embeddings_are_those_of_the_encoder_itself(encoder, items):
    index = np.array([5, 100, 5])

    embeddings = ItemContent(encoder, items, cache_bytes=10**6).encode(index)

    expected = encoder.encode(items.columns(index)).embeddings
    assert torch.allclose(embeddings, expected, atol=2e-3)  # tokens are kept as float16


def test_tokens_of_a_frozen_backbone_are_computed_once(encoder, items):
    content, calls = ItemContent(encoder, items, cache_bytes=10**6), counted_rows(encoder)

    for _ in range(3):
        content.encode(np.array([0, 1, 70]))

    assert calls == [64, 56]  # two blocks of neighboring items


def test_texts_of_similar_length_share_a_batch_whichever_item_is_read_first(tmp_path):
    folder = published(tmp_path / "tiny", shapes.qwen3, "lasttoken", dense(12))
    texts = ["lamp", "a blue chair in the red lamp of the chair", "red lamp"] * 40
    items = PackedItems(packed(write_planted_source(tmp_path / "source", text=texts)))
    torch.manual_seed(0)
    encoder = ItemEncoder({"text": {"backbone": folder}}, q_former={"dim": 8, "num_heads": 2, "num_queries": 2})
    shapes_of_tokens, plain, whole = [], encoder.modality_output, np.arange(len(texts))

    def counted(*arguments):
        output = plain(*arguments)
        shapes_of_tokens.append(tuple(output.tokens.mask.shape))
        return output

    encoder.modality_output = counted

    ends = [ItemContent(encoder, items, cache_bytes=10**6) for _ in range(2)]
    for content, first in zip(ends, ([119], [1])):
        content.encode(np.array(first))

    (rows, short), (others, long) = shapes_of_tokens[:2]
    assert (rows, others) == (64, 56) and short < long
    assert shapes_of_tokens[2:] == shapes_of_tokens[:2]
    assert torch.equal(ends[0].encode(whole), ends[1].encode(whole))


def test_without_memory_they_are_computed_each_time_and_alike(encoder, items):
    index = np.arange(80)
    expected = ItemContent(encoder, items, cache_bytes=10**6).encode(index)
    content, calls = ItemContent(encoder, items, cache_bytes=0), counted_rows(encoder)

    first, second = content.encode(index), content.encode(index)

    assert torch.allclose(first, expected, atol=1e-6)
    assert torch.equal(first, second)
    assert len(calls) > 2
    assert not content._is_cached.any()


def test_a_trained_backbone_is_run_each_time_and_gets_its_gradient(encoder, items):
    """A trained scale is applied to the vectors at each call, but decoding happens once."""
    module = encoder.encoders["precomputed"]
    module.trained, module.scale = True, torch.nn.Parameter(torch.ones(()))
    forward = module.forward
    module.forward = lambda decoded: forward(decoded)._replace(values=forward(decoded).values * module.scale)
    decoded, plain = [], module.decode
    module.decode = lambda raw: decoded.append(1) or plain(raw)
    content = ItemContent(encoder, items, cache_bytes=10**6)

    for _ in range(2):
        content.encode(np.array([0, 1]))[:, 0].sum().backward()

    assert module.scale.grad is not None
    assert len(decoded) == 64


def test_an_item_with_broken_content_is_all_0_and_its_reason_is_kept(encoder, tmp_path):
    vectors = [[1.0 + item] * 12 for item in range(120)]
    vectors[2] = [0.0] * 12
    source = write_planted_source(tmp_path / "source", precomputed=pa.array(vectors))
    content = ItemContent(encoder, PackedItems(packed(source)), cache_bytes=10**6)

    embeddings = content.encode(np.array([1, 2, 3]))

    assert embeddings.any(1).tolist() == [True, False, True]
    assert content.rejected == {2: "precomputed is all zero"}
    assert not content.encode(np.array([2])).any()


@pytest.mark.parametrize("value", [1e6, 1e-6])
def test_numbers_that_float16_cannot_hold_are_kept_as_they_are(encoder, tmp_path, value):
    vectors = (np.eye(120, 12) + 1) * value
    source = write_planted_source(tmp_path / "source", precomputed=pa.array(list(vectors)))
    items = PackedItems(packed(source))

    embeddings = ItemContent(encoder, items, cache_bytes=10**6).encode(np.arange(3))

    assert torch.allclose(embeddings, encoder.encode(items.columns(np.arange(3))).embeddings, atol=1e-6)


def test_the_geometry_that_alignment_keeps_is_that_of_the_published_vectors(tmp_path):
    folder = published(tmp_path / "tiny", shapes.qwen3, "lasttoken", dense(12), prompts={"document": "the item: "})
    texts = ["red lamp", "a blue chair in the red lamp of the chair", "lamp"] * 40
    source = write_planted_source(tmp_path / "source", text=texts)
    torch.manual_seed(0)
    q_former = {"dim": 8, "num_heads": 2, "num_queries": 2}
    encoder = ItemEncoder({"text": {"backbone": folder}}, q_former=q_former, tokens_kept=3)
    content = ItemContent(encoder, PackedItems(packed(source)), cache_bytes=10**6)
    index = np.array([0, 1, 2, 100])

    found = content.frozen_geometry(index)

    vectors = ItemEncoder({"text": {"backbone": folder}}).encode({"text": [texts[item] for item in index]}).embeddings
    torch.testing.assert_close(found, vectors, atol=1e-5, rtol=0)
    expected = encoder.encode({"text": [texts[item] for item in index]}).embeddings
    torch.testing.assert_close(content.encode(index), expected, atol=2e-3, rtol=0)

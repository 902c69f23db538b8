"""A text embedder as its authors publish it gives the vectors that sentence-transformers gives."""

import json

import pytest
import torch
from sentence_transformers import SentenceTransformer
from torch.nn.functional import normalize

from qarm_features import ItemEncoder
from qarm_features.encoders import TextEncoder
from tests.encoders import published_backbones as shapes
from tests.encoders.published_backbones import TEXTS, dense, published

IDENTITY = "torch.nn.modules.linear.Identity"
E5 = {"query": "query: ", "passage": "passage: "}
NOMIC = {"query": "search_query: ", "passage": "search_document: ", "Clustering": "clustering: "}
GEMMA = {"query": "task: search result | query: ", "document": "title: none | text: ", "Retrieval": "none"}
QWEN = {"query": "Instruct: find items\nQuery:", "document": ""}
SHAPES = {
    "MiniLM": ((shapes.bert, "mean", "Normalize"), {"transformer": {"max_seq_length": 16, "do_lower_case": False}}, ""),
    "BGE": ((shapes.bert, "cls", "Normalize"), {}, ""),
    "GTE": ((shapes.modern_bert, "cls"), {"prompts": {}}, ""),
    "Qwen3-Embedding": ((shapes.qwen3, "lasttoken", "Normalize"), {"prompts": QWEN}, ""),
    "GTE-Qwen2": ((shapes.two_way_qwen3, "lasttoken", "Normalize"), {"prompts": QWEN}, ""),
    "E5": (
        (shapes.xlm_roberta, "mean", "Normalize"),
        {"prompts": E5, "transformer": {"max_seq_length": 32}},
        "passage: ",
    ),
    "Nomic": ((shapes.nomic_bert, "mean", "Normalize"), {"prompts": NOMIC}, "search_document: "),
    "EmbeddingGemma": (
        (shapes.gemma3, "mean", dense(24, IDENTITY, bias=False), dense(16, IDENTITY, in_features=24), "Normalize"),
        {"prompts": GEMMA},
        "title: none | text: ",
    ),
    "LaBSE": ((shapes.bert, "cls", dense(16), "Normalize"), {}, ""),
    "DistilUSE": ((shapes.bert, "mean", dense(12)), {}, ""),
    "Sentence-T5": ((shapes.t5, "mean", dense(16, IDENTITY, bias=False), "Normalize"), {}, ""),
    "Instructor": (
        (shapes.t5, "mean", dense(16, IDENTITY, bias=False), "Normalize"),
        {"prompts": {"document": "the red item "}, "include_prompt": False},
        "the red item ",
    ),
    "SGPT": ((shapes.bert, "weightedmean"), {}, ""),
    "several ways": ((shapes.bert, ["cls", "max", "mean", "mean_sqrt_len_tokens", "lasttoken"]), {}, ""),
    "prompt left out, pads left": (
        (shapes.qwen3, ["mean", "weightedmean", "max", "cls"]),
        {"prompts": {"document": "the red item "}, "include_prompt": False},
        "the red item ",
    ),
    "residual": ((shapes.bert, "mean", dense(12, use_residual=True), "Normalize", dense(8, in_features=12)), {}, ""),
    "default prompt": ((shapes.bert, "mean"), {"prompts": {"a": "a red "}, "default": "a"}, "a red "),
    "lower case": ((shapes.bert, "mean"), {"transformer": {"max_seq_length": 16, "do_lower_case": True}}, ""),
}


@pytest.fixture(scope="module", params=SHAPES)
def shape(request, tmp_path_factory):
    """Folder of a shape, and the prompt of its items."""
    arguments, options, prompt = SHAPES[request.param]
    return published(tmp_path_factory.mktemp("published") / "tiny", *arguments, **options), prompt


def library(folder, texts, prompt, **options):
    model = SentenceTransformer(folder, device="cpu")
    return model.encode(texts, prompt=prompt, normalize_embeddings=True, convert_to_tensor=True, **options).float()


def encode(folder, texts, batch_size=64, **options):
    encoder = ItemEncoder({"text": {"backbone": folder, "max_tokens": 512, **options}})
    embeddings, reasons = encoder.encode({"text": texts}, batch_size=batch_size)
    assert reasons == [None] * len(texts)
    return embeddings


def test_every_shape_gives_the_vectors_of_the_library(shape):
    folder, prompt = shape

    found = encode(folder, TEXTS)

    torch.testing.assert_close(found, library(folder, TEXTS, prompt), atol=1e-4, rtol=0)


def test_a_text_has_the_same_vector_alone_and_in_any_batch(shape):
    folder, _ = shape

    together, alone = encode(folder, TEXTS), encode(folder, TEXTS, batch_size=1)

    torch.testing.assert_close(together, alone, atol=1e-4, rtol=0)


def test_the_first_values_alone_are_the_library_s_truncated_vector(shape):
    folder, prompt = shape

    found = encode(folder, TEXTS, vector_dim=6)

    assert found.shape == (len(TEXTS), 6)
    torch.testing.assert_close(found, library(folder, TEXTS, prompt, truncate_dim=6), atol=1e-4, rtol=0)


def test_lora_learns_through_tokens_and_vector_of_every_shape(shape):
    encoder = TextEncoder(shape[0], lora_rank=2)

    tokens, pooled = encoder.encode([encoder.decode(text) for text in TEXTS])
    (tokens.values[tokens.mask].square().sum() + pooled[:, 0].sum()).backward()

    adapters = {name: weight.grad for name, weight in encoder.named_parameters() if weight.requires_grad}
    assert adapters and all("lora_" in name for name in adapters)
    assert all(gradient.abs().sum() > 0 for name, gradient in adapters.items() if "lora_B" in name)
    frozen = TextEncoder(shape[0]).encode([encoder.decode(text) for text in TEXTS])
    torch.testing.assert_close(tokens.values, frozen[0].values)  # untrained adapters change nothing
    torch.testing.assert_close(pooled, frozen[1])
    for name, weight in encoder.named_parameters():
        weight.data += 0.1 * torch.randn_like(weight) if "lora_B" in name else 0
    together, alone = encoder.encode(TEXTS)[1], torch.cat([encoder.encode([text])[1] for text in TEXTS])
    torch.testing.assert_close(together, alone, atol=1e-4, rtol=0)
    assert (together - pooled).abs().max() > 1e-3


def test_the_newer_files_of_the_library_are_read_too(tmp_path):
    from sentence_transformers.sentence_transformer import modules

    published(tmp_path / "plain", shapes.bert, None)
    (tmp_path / "plain" / "modules.json").unlink()
    parts = [
        modules.Transformer(str(tmp_path / "plain"), max_seq_length=12),
        modules.Pooling(16, "cls", include_prompt=False),
        modules.Dense(16, 8, activation_function=torch.nn.ReLU()),
        modules.LayerNorm(8),
        modules.Normalize(),
    ]
    prompts = {"document": "the red item ", "query": "query: "}
    SentenceTransformer(modules=parts, prompts=prompts, truncate_dim=5).save_pretrained(str(tmp_path / "newer"))
    assert "embedding_dimension" in json.loads((tmp_path / "newer" / "1_Pooling" / "config.json").read_text())

    found = encode(str(tmp_path / "newer"), TEXTS)

    assert found.shape == (len(TEXTS), 5)
    torch.testing.assert_close(found, library(str(tmp_path / "newer"), TEXTS, prompts["document"]), atol=1e-4, rtol=0)


def test_a_prompt_is_chosen_by_its_name_or_written_out(tmp_path):
    folder = published(tmp_path / "tiny", shapes.bert, "mean", prompts=E5)

    by_name, written = encode(folder, TEXTS, prompt="query"), encode(folder, TEXTS, prompt="the item: ")

    torch.testing.assert_close(by_name, library(folder, TEXTS, "query: "), atol=1e-4, rtol=0)
    torch.testing.assert_close(written, library(folder, TEXTS, "the item: "), atol=1e-4, rtol=0)
    torch.testing.assert_close(encode(folder, TEXTS, prompt=""), library(folder, TEXTS, ""), atol=1e-4, rtol=0)
    assert (by_name - written).abs().max() > 1e-2


def test_tokens_of_the_prompt_and_padding_are_not_content(tmp_path):
    folder = published(tmp_path / "tiny", shapes.qwen3, "lasttoken", prompts={"document": "the item: "})
    encoder = TextEncoder(folder)

    tokens, pooled = encoder.encode(["red lamp", "blue"])

    assert tokens.mask.sum(1).tolist() == [3, 2]  # the words and the last token, but not the prompt
    torch.testing.assert_close(tokens.values[:, -1], pooled)
    assert encoder(["red lamp", "blue"]).mask.tolist() == tokens.mask.tolist()


def test_the_token_that_is_the_vector_is_never_averaged(tmp_path):
    first = published(tmp_path / "first", shapes.bert, "cls")
    last = published(tmp_path / "last", shapes.qwen3, "lasttoken")
    text = [{"text": "red blue lamp chair of in the a red blue lamp"}]

    for folder, place in ((first, 0), (last, -1)):
        encoder = ItemEncoder({"text": {"backbone": folder}}, q_former={"dim": 8, "num_heads": 2}, tokens_kept=3)
        (values, mask), pooled = encoder.outputs(text)["text"]

        assert mask.tolist() == [[True] * 3]
        torch.testing.assert_close(values[:, place], pooled)


def test_the_frozen_part_of_an_aligned_encoder_is_the_published_vector(tmp_path):
    folder = published(tmp_path / "tiny", shapes.bert, "cls", dense(12), prompts=E5)
    aligned = ItemEncoder(
        {"text": {"backbone": folder}}, q_former={"dim": 8, "num_heads": 2}, tokens_kept=2, frozen_weight=1.0
    )

    embeddings, _ = aligned.encode({"text": TEXTS})

    assert aligned.dim == 8 + 12
    torch.testing.assert_close(normalize(embeddings[:, 8:]), library(folder, TEXTS, "passage: "), atol=1e-4, rtol=0)
    aligned.save_pretrained(tmp_path / "saved")
    again = ItemEncoder.from_pretrained(str(tmp_path / "saved"))
    assert again.config == aligned.config
    torch.testing.assert_close(again.encode({"text": TEXTS}).embeddings, embeddings)


def test_texts_that_are_messages_of_a_chat(tmp_path):
    folder = published(tmp_path / "tiny", shapes.qwen3, "lasttoken", "Normalize", prompts={"document": "the red item"})
    words = shapes.tokenizer(before="", after="", side="left", longest=24)
    words.chat_template = (
        "{% for message in messages %}{{ message.role }} : {{ message.content }} [SEP] {% endfor %}"
        "{% if add_generation_prompt %}in : [CLS]{% endif %}"
    )
    words.save_pretrained(folder)
    way = {"method": "forward", "method_output_name": "last_hidden_state"}
    shapes.write(
        tmp_path / "tiny",
        "sentence_bert_config.json",
        {
            "modality_config": {"text": way, "message": {**way, "format": "flat"}},
            "module_output_name": "token_embeddings",
            "processing_kwargs": {"chat_template": {"add_generation_prompt": True}},
        },
    )
    texts = ["red lamp", "blue", "red lamp in the a of chair " * 9]

    torch.testing.assert_close(encode(folder, texts), library(folder, texts, "the red item"), atol=1e-4, rtol=0)
    with pytest.raises(
        ValueError, match=f"text_backbone is {folder}, which reads 24 tokens, but .* have 3[0-9]. Set a sh"
    ):
        TextEncoder(folder, prompt="a red lamp " * 8)
    for file in (tmp_path / "tiny").glob("chat_template*"):
        file.unlink()
    with pytest.raises(ValueError, match=f"text_backbone is {folder}, .* messages of a chat but has no chat template"):
        TextEncoder(folder)


def test_a_decoder_whose_tokens_see_those_behind_them_is_run_so(tmp_path):
    two_ways = TextEncoder(published(tmp_path / "two", shapes.two_way_qwen3, "lasttoken"))
    one_way = TextEncoder(published(tmp_path / "one", shapes.qwen3, "lasttoken"))

    first = [[encoder([text]).values[0, 0] for text in ("red lamp", "red chair")] for encoder in (two_ways, one_way)]

    assert (first[0][0] - first[0][1]).abs().max() > 1e-3
    torch.testing.assert_close(*first[1])

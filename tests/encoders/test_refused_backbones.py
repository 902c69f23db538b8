"""What cannot be used as its authors publish it is refused by its name, before anything is encoded."""

import json

import pytest
import torch
from safetensors.torch import load_file, save_file

from qarm_features import ItemEncoder
from qarm_features.encoders import TextEncoder
from qarm_features.encoders.recipe import read_recipe
from tests.encoders import published_backbones as shapes
from tests.encoders.published_backbones import dense, published, write


@pytest.fixture
def folder(tmp_path):
    published(tmp_path / "tiny", shapes.bert, "cls", dense(8), "Normalize")
    return tmp_path / "tiny"


def modules(folder, *types):
    paths = ["", "1_Pooling", "2_Dense", "3_Normalize"]
    write(folder, "modules.json", [{"name": str(i), "path": paths[i], "type": kind} for i, kind in enumerate(types)])


OURS = "sentence_transformers.models."


@pytest.mark.parametrize(
    ("types", "message"),
    [
        (
            ["custom_st.Transformer", OURS + "Pooling"],
            r"needs code of its authors \(custom_st.Transformer\), which is not run",
        ),
        (
            [OURS + "StaticEmbedding"],
            r"needs a module StaticEmbedding \(sentence_transformers.models.StaticEmbedding\)",
        ),
        ([OURS + "Transformer", OURS + "WeightedLayerPooling"], "needs a module WeightedLayerPooling"),
        ([OURS + "Transformer"], "is made of Transformer, must be a Transformer and a Pooling, then layers"),
        ([OURS + "Transformer", OURS + "Dense", OURS + "Pooling"], "is made of Transformer, Dense, Pooling, must be"),
        (["sentence_transformers.base.modules.router.Router"], "needs a module Router"),
    ],
)
def test_modules_that_are_not_known(folder, types, message):
    modules(folder, *types)

    with pytest.raises(ValueError, match=f"^encoder.text_backbone is {folder}, which {message}"):
        read_recipe(str(folder))


@pytest.mark.parametrize(
    ("file", "content", "message"),
    [
        ("config_sentence_transformers.json", {"model_type": "SparseEncoder"}, "is a SparseEncoder. Take an embedder"),
        ("1_Pooling/config.json", {"pooling_mode": "attention"}, "pools by attention. Known are mean, cls"),
        ("2_Dense/config.json", dense(8, "my.Swish"), "has a Dense layer with my.Swish. Known are Identity, Tanh"),
        (
            "2_Dense/config.json",
            dense(8, module_input_name="token_embeddings"),
            "has a Dense layer over token_embeddings",
        ),
        (
            "2_Dense/config.json",
            dense(12),
            "has other weights in .*2_Dense/model.safetensors than its config.json says",
        ),
        ("2_Dense/config.json", dense(8, in_features=12), "has no weights of 2_Dense for vectors of 16 values"),
        ("sentence_bert_config.json", {"transformer_task": "fill-mask"}, "does fill-mask, must do feature-extraction"),
        ("sentence_bert_config.json", {"config_args": {"rope": 2}}, "asks for rope in sentence_bert_config.json"),
        ("sentence_bert_config.json", {"processing_kwargs": {"text": {}}}, "asks for processing_kwargs text"),
        (
            "sentence_bert_config.json",
            {"modality_config": {"text": {"method": "get_text_features", "method_output_name": "pooler_output"}}},
            "does not pool its last hidden states",
        ),
    ],
)
def test_files_that_ask_for_what_is_not_done_here(folder, file, content, message):
    write(folder, file, content)

    with pytest.raises(ValueError, match=f"^encoder.text_backbone is {folder}, which {message}"):
        TextEncoder(str(folder))


def test_a_decoder_that_its_authors_changed_by_code_of_their_own(tmp_path):
    folder = published(tmp_path / "tiny", shapes.two_way_qwen3, "lasttoken")
    assert read_recipe(folder) == {"pooling": ["lasttoken"]}
    config = json.loads((tmp_path / "tiny" / "config.json").read_text())
    del config["is_causal"]
    write(tmp_path / "tiny", "config.json", config)

    with pytest.raises(
        ValueError, match=r"needs code of its authors \(auto_map in config.json\), which is not run and may"
    ):
        read_recipe(folder)


def test_files_that_are_missing_or_broken(folder):
    (folder / "2_Dense" / "model.safetensors").rename(folder / "2_Dense" / "pytorch_model.bin")
    with pytest.raises(
        ValueError, match="has no 2_Dense/model.safetensors, and weights in another format are not read. Load"
    ):
        read_recipe(str(folder))
    (folder / "1_Pooling" / "config.json").unlink()
    with pytest.raises(ValueError, match="lacks 1_Pooling/config.json. Download the whole repository"):
        read_recipe(str(folder))
    (folder / "modules.json").write_text("[{")
    with pytest.raises(ValueError, match="has a modules.json that is not valid JSON. Download it again"):
        read_recipe(str(folder))
    write(
        folder,
        "modules.json",
        [{"path": "", "type": OURS + "Transformer"}, {"path": "../..", "type": OURS + "Pooling"}],
    )
    with pytest.raises(ValueError, match=r"names the file ../../config.json outside its folder"):
        read_recipe(str(folder))


def test_other_weights_of_a_layer_under_the_same_name(folder, tmp_path):
    ItemEncoder({"text": {"backbone": str(folder)}}).save_pretrained(tmp_path / "saved")
    weights = load_file(folder / "2_Dense" / "model.safetensors")
    save_file({name: weight + 1 for name, weight in weights.items()}, folder / "2_Dense" / "model.safetensors")

    with pytest.raises(
        ValueError, match="has weights in 2_Dense with sha256 .*, must be .* as in the encoder's manifest"
    ):
        ItemEncoder.from_pretrained(str(tmp_path / "saved"))


@pytest.mark.parametrize(
    "name", ["bge-base-en-v1.5", "gte-large", "Qwen3-Embedding-0.6B", "e5-mistral-7b", "my-embedding-v2"]
)
def test_a_known_embedder_without_its_modules_is_not_guessed(tmp_path, name):
    folder = published(tmp_path / name, shapes.bert, None)
    (tmp_path / name / "modules.json").unlink()

    with pytest.raises(
        ValueError, match=f"{name}, which has no modules.json, .* set encoder.text_pooling to one of mean, cls"
    ):
        read_recipe(folder)
    assert read_recipe(folder, pooling="cls", prompt="") == {"pooling": ["cls"]}
    assert read_recipe(folder, pooling="mean") == {}


def test_a_copy_under_another_name_is_known_by_what_its_config_says(tmp_path):
    folder = published(tmp_path / "mine", shapes.bert, None)
    (tmp_path / "mine" / "modules.json").unlink()
    assert read_recipe(folder) == {}
    config = json.loads((tmp_path / "mine" / "config.json").read_text())
    write(tmp_path / "mine", "config.json", {**config, "_name_or_path": "BAAI/bge-base-en"})

    with pytest.raises(ValueError, match="has no modules.json"):
        read_recipe(folder)


def test_a_folder_of_the_hub_s_cache_is_known_by_its_repository(tmp_path):
    snapshot = tmp_path / "models--BAAI--bge-m3" / "snapshots" / ("0" * 40)
    shapes.bert(snapshot)

    with pytest.raises(ValueError, match="has no modules.json"):
        read_recipe(str(snapshot))


@pytest.mark.parametrize(
    ("name", "prompt"),
    [
        ("e5-base-v2", "passage: "),
        ("multilingual-e5-small", "passage: "),
        ("nomic-embed-text-v1.5", "search_document: "),
    ],
)
def test_a_prompt_that_stands_on_the_authors_page_only_must_be_set(tmp_path, name, prompt):
    folder = published(tmp_path / name, shapes.bert, "mean", "Normalize")

    with pytest.raises(
        ValueError, match=f"{name}, which expects a prompt .* Set encoder.text_prompt, for example to '{prompt}'"
    ):
        read_recipe(folder)
    assert read_recipe(folder, prompt=prompt) == {"prompt": prompt}
    assert read_recipe(folder, prompt="") == {}


def test_a_mistyped_name_of_a_prompt_is_no_prompt(tmp_path):
    folder = published(tmp_path / "tiny", shapes.bert, "mean", prompts={"query": "query: ", "passage": "passage: "})

    with pytest.raises(
        ValueError, match=r"encoder.text_prompt is pasage, must be a prompt of .* \(its prompts: query, passage\)"
    ):
        read_recipe(folder, prompt="pasage")


def test_a_prompt_must_leave_room_for_a_text(tmp_path):
    folder = published(tmp_path / "tiny", shapes.bert, "mean", prompts={"document": "a red lamp of the "})

    with pytest.raises(
        ValueError, match="encoder.max_tokens is 7, must be at least 8: the prompt 'a red lamp of the ' alone has 6"
    ):
        TextEncoder(folder, max_tokens=7)
    assert TextEncoder(folder, max_tokens=8)(["blue lamp"]).mask.sum() == 3


def test_more_values_than_a_vector_has(folder):
    with pytest.raises(ValueError, match="encoder.text_dim is 9, must be at most 8, the length of the vectors of"):
        TextEncoder(str(folder), vector_dim=9)


def test_a_backbone_whose_files_nobody_can_ask_for(monkeypatch, tmp_path):
    """The cache holds the model of a hub name, but nobody ever asked for its modules.json, and the hub is not reached."""
    snapshot = tmp_path / "models--acme--encoder" / "snapshots" / ("0" * 40)
    shapes.bert(snapshot)
    write(tmp_path / "models--acme--encoder", "refs/main", None)
    (tmp_path / "models--acme--encoder" / "refs" / "main").write_text("0" * 40)
    for module in ("huggingface_hub.constants", "transformers.utils.hub.constants"):
        monkeypatch.setattr(f"{module}.HF_HUB_CACHE", str(tmp_path))

    with pytest.raises(
        ValueError, match="acme/encoder, which is not a folder, and its modules.json is neither on this machine"
    ):
        read_recipe("acme/encoder")
    assert read_recipe("acme/encoder", pooling="cls", prompt="") == {"pooling": ["cls"]}
    write(
        snapshot,
        "modules.json",
        [{"path": "", "type": OURS + "Transformer"}, {"path": "1_Pooling", "type": OURS + "Pooling"}],
    )
    write(snapshot, "1_Pooling/config.json", {"pooling_mode_cls_token": True})
    assert read_recipe("acme/encoder") == {"pooling": ["cls"]}


def test_a_text_without_any_token_has_no_direction(tmp_path):
    published(tmp_path / "tiny", shapes.bert, "cls")
    shapes.tokenizer(before="", after="").save_pretrained(tmp_path / "tiny")
    encoder = ItemEncoder({"text": {"backbone": str(tmp_path / "tiny")}})

    for texts in (["", "red"], [""]):
        embeddings, reasons = encoder.encode({"text": texts})

        assert reasons[0] == "item embedding has no direction: content is all zeros or not finite"
        assert torch.isfinite(embeddings[1:]).all() and reasons[1:] == [None] * (len(texts) - 1)

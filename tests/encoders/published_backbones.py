"""Make tiny text embedders on disk, in the shapes in which authors publish them."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

WORDS = [
    "red",
    "blue",
    "lamp",
    "chair",
    "a",
    "of",
    "in",
    "the",
    "item",
    "document",
    "passage:",
    "query:",
    "text:",
    "item:",
]
WORDS += ["search_document:", "title:", "none", "|", "0", "4"]
TEXTS = ["red lamp", "a blue chair in the red lamp of the chair", "", "Red LAMP", "blue " * 40 + "chair"]


def tokenizer(*, before: str = "[CLS]", after: str = "[SEP]", side: str = "right", longest: int = 512):
    """Returns a tokenizer of whole words that puts special tokens around a text."""
    from tokenizers import Tokenizer, models, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]"]
    vocabulary = {word: number for number, word in enumerate([*special, *WORDS])}
    words = Tokenizer(models.WordLevel(vocabulary, unk_token="[UNK]"))
    words.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    template = " ".join(part for part in (before, "$A", after) if part)
    used = [(token, vocabulary[token]) for token in (before, after) if token]
    words.post_processor = processors.TemplateProcessing(single=template, special_tokens=used)
    return PreTrainedTokenizerFast(
        tokenizer_object=words, pad_token="[PAD]", unk_token="[UNK]", cls_token="[CLS]", sep_token="[SEP]",
        padding_side=side, model_max_length=longest,
    )  # fmt: skip


SIZES = {"hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 2, "num_attention_heads": 2}
DECODER = {**SIZES, "num_key_value_heads": 1, "head_dim": 8, "vocab_size": 32, "pad_token_id": 0, "bos_token_id": 2}


def bert(folder: Path) -> None:
    from transformers import BertConfig, BertModel

    _save(BertModel(BertConfig(**SIZES, vocab_size=32, max_position_embeddings=32)), folder, tokenizer())


def xlm_roberta(folder: Path) -> None:
    """Saves an XLM-RoBERTa, whose positions start behind the padding index."""
    from transformers import XLMRobertaConfig, XLMRobertaModel

    config = XLMRobertaConfig(**SIZES, vocab_size=32, max_position_embeddings=34, pad_token_id=0)
    _save(XLMRobertaModel(config), folder, tokenizer(longest=32))


def qwen3(folder: Path) -> None:
    """Saves a decoder that pads on the left and ends each text with a token."""
    from transformers import Qwen3Config, Qwen3ForCausalLM

    config = Qwen3Config(**DECODER, max_position_embeddings=64)
    _save(Qwen3ForCausalLM(config), folder, tokenizer(before="", side="left", longest=64))


def two_way_qwen3(folder: Path) -> None:
    """Saves a decoder in which every token sees all others, as GTE-Qwen2 has it."""
    qwen3(folder)
    config = json.loads((folder / "config.json").read_text())
    code = {"AutoModel": "modeling_qwen.Qwen3Model"}  # the authors' own code, which says the same
    write(folder, "config.json", {**config, "is_causal": False, "auto_map": code})


def gemma3(folder: Path) -> None:
    """Saves a decoder whose attention goes in both directions."""
    from transformers import Gemma3TextConfig, Gemma3TextModel

    config = Gemma3TextConfig(**DECODER, max_position_embeddings=64, use_bidirectional_attention=True)
    _save(Gemma3TextModel(config), folder, tokenizer(longest=64))


def modern_bert(folder: Path) -> None:
    from transformers import ModernBertConfig, ModernBertModel

    config = ModernBertConfig(**SIZES, vocab_size=32, max_position_embeddings=64, pad_token_id=0, bos_token_id=2,
                              eos_token_id=3, cls_token_id=2, sep_token_id=3)  # fmt: skip
    _save(ModernBertModel(config), folder, tokenizer(longest=64))


def nomic_bert(folder: Path) -> None:
    from transformers import NomicBertConfig, NomicBertModel

    config = NomicBertConfig(**SIZES, vocab_size=32, max_position_embeddings=64, pad_token_id=0)
    _save(NomicBertModel(config), folder, tokenizer(longest=64))


def t5(folder: Path) -> None:
    """Saves the encoder of a T5."""
    from transformers import T5Config, T5EncoderModel

    config = T5Config(d_model=16, d_kv=8, d_ff=24, num_layers=2, num_heads=2, vocab_size=32, pad_token_id=0,
                      decoder_start_token_id=0)  # fmt: skip
    _save(T5EncoderModel(config), folder, tokenizer(before="", longest=64))


def _save(model, folder: Path, words) -> None:
    for parameter in model.parameters():  # random biases and scales, so that no part of a model does nothing
        parameter.data += 0.1 * torch.randn_like(parameter)
    model.save_pretrained(folder)
    words.save_pretrained(folder)


def write(folder: Path, name: str, content: Any) -> None:
    (folder / name).parent.mkdir(parents=True, exist_ok=True)
    (folder / name).write_text(json.dumps(content))


def published(
    folder: Path,
    model,
    pooling: str | Sequence[str] | None,
    *layers: str | Mapping[str, Any],
    prompts: Mapping[str, str] | None = None,
    default: str | None = None,
    transformer: Mapping[str, Any] | None = None,
    include_prompt: bool = True,
    prefix: str = "sentence_transformers.models",
) -> str:
    """Saves a model with the files that sentence-transformers wrote for many years, and returns its folder.

    Args:
        folder: Folder to write.
        model: Function of this module that saves the model and its tokenizer.
        pooling: Ways of pooling; None writes no Pooling module.
        layers: ``"Normalize"``, or the configuration of a ``Dense`` layer.
        prompts: Prompts by name; None writes no file of prompts.
        default: Name of the default prompt.
        transformer: Content of ``sentence_bert_config.json``.
        include_prompt: Whether the tokens of the prompt are pooled.
        prefix: Package in the names of the modules.
    """
    torch.manual_seed(0)
    model(folder)
    modules = [("", "Transformer")]
    if pooling is not None:
        asked = [pooling] if isinstance(pooling, str) else pooling
        keys = {"cls": "cls_token", "mean": "mean_tokens", "max": "max_tokens", "lasttoken": "lasttoken",
                "mean_sqrt_len_tokens": "mean_sqrt_len_tokens", "weightedmean": "weightedmean_tokens"}  # fmt: skip
        modes = {f"pooling_mode_{key}": mode in asked for mode, key in keys.items()}
        write(
            folder, "1_Pooling/config.json", {"word_embedding_dimension": 16, **modes, "include_prompt": include_prompt}
        )
        modules.append(("1_Pooling", "Pooling"))
    for layer in layers:
        place = f"{len(modules)}_{layer if isinstance(layer, str) else 'Dense'}"
        (folder / place).mkdir()
        modules.append((place, place.partition("_")[2]))
        if not isinstance(layer, str):
            _dense(folder / place, dict(layer))
    listed = [
        {"idx": i, "name": str(i), "path": path, "type": f"{prefix}.{kind}"} for i, (path, kind) in enumerate(modules)
    ]
    write(folder, "modules.json", listed)
    if prompts is not None:
        write(folder, "config_sentence_transformers.json", {"prompts": prompts, "default_prompt_name": default})
    if transformer is not None:
        write(folder, "sentence_bert_config.json", transformer)
    return str(folder)


def _dense(folder: Path, config: dict[str, Any]) -> None:
    from safetensors.torch import save_file

    linear = torch.nn.Linear(config["in_features"], config["out_features"], bias=config.get("bias", True))
    weights = {f"linear.{name}": weight.detach().clone() for name, weight in linear.named_parameters()}
    if config.get("use_residual"):
        weights["residual.weight"] = torch.randn(config["out_features"], config["in_features"])
    save_file(weights, folder / "model.safetensors")
    write(folder, "config.json", config)


def dense(out: int, activation: str = "torch.nn.modules.activation.Tanh", **more: Any) -> dict[str, Any]:
    return {"in_features": 16, "out_features": out, "bias": True, "activation_function": activation, **more}

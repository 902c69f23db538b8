"""Make tiny embedders of images and texts on disk, in the shapes in which authors publish them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from tests.encoders.published_backbones import write

SPECIAL = ["<|image_pad|>", "<|video_pad|>", "<|vision_start|>", "<|vision_end|>", "<|im_start|>", "<|im_end|>"]
WORDS = [
    "<|endoftext|>",
    "system",
    "user",
    "assistant",
    "Represent",
    "input.",
    "the",
    "red",
    "lamp",
    "blue",
    "chair",
    "are",
    "0",
    "4",
]
TEMPLATE = (  # in the manner of Qwen
    "{% for message in messages %}<|im_start|>{{ message.role }}\n"
    "{% for part in message.content %}{% if part.type == 'image' %}<|vision_start|><|image_pad|><|vision_end|>"
    "{% else %}{{ part.text }}{% endif %}{% endfor %}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
TEXT = {"hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 2, "num_attention_heads": 2,
        "num_key_value_heads": 1, "vocab_size": 32, "max_position_embeddings": 4096}  # fmt: skip
PIXELS = {"patch_size": 8, "merge_size": 2, "size": {"shortest_edge": 32 * 32, "longest_edge": 96 * 96}}


def tokenizer(side: str):
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    vocabulary = {word: number for number, word in enumerate(["[PAD]", "[UNK]", *SPECIAL, *WORDS])}
    words = Tokenizer(models.WordLevel(vocabulary, unk_token="[UNK]"))
    words.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    made = PreTrainedTokenizerFast(
        tokenizer_object=words, pad_token="[PAD]", unk_token="[UNK]", padding_side=side, model_max_length=2048
    )
    made.add_special_tokens({"additional_special_tokens": [*SPECIAL, "<|endoftext|>"]})
    return made


def qwen3_vl(folder: Path, *, side: str = "left") -> None:
    """Saves a Qwen3-VL and its processor; the weights have the names of the whole model, as published ones do."""
    from transformers import (
        Qwen2VLImageProcessor,
        Qwen3VLConfig,
        Qwen3VLForConditionalGeneration,
        Qwen3VLProcessor,
        Qwen3VLVideoProcessor,
    )

    rope = {"rope_type": "default", "rope_theta": 1e4, "mrope_section": [2, 1, 1], "mrope_interleaved": True}
    vision = {"depth": 2, "hidden_size": 16, "intermediate_size": 24, "num_heads": 2, "patch_size": 8, "out_hidden_size": 16,
              "num_position_embeddings": 64, "deepstack_visual_indexes": [0]}  # fmt: skip
    words = tokenizer(side)
    text = {**TEXT, "head_dim": 8, "rope_parameters": rope}
    config = Qwen3VLConfig(text_config=text, vision_config=vision, **_tokens(words))
    processor = Qwen3VLProcessor(
        Qwen2VLImageProcessor(**PIXELS), words, Qwen3VLVideoProcessor(patch_size=8), chat_template=TEMPLATE
    )
    _save(Qwen3VLForConditionalGeneration(config), processor, folder)


def qwen2_vl(folder: Path, *, side: str = "left") -> None:
    from transformers import (
        Qwen2VLConfig,
        Qwen2VLForConditionalGeneration,
        Qwen2VLImageProcessor,
        Qwen2VLProcessor,
        Qwen2VLVideoProcessor,
    )

    vision = {"depth": 2, "embed_dim": 16, "num_heads": 2, "patch_size": 8, "hidden_size": 16, "mlp_ratio": 2}
    words = tokenizer(side)
    text = {**TEXT, "rope_parameters": {"rope_type": "default", "rope_theta": 1e4, "mrope_section": [2, 1, 1]}}
    config = Qwen2VLConfig(text_config=text, vision_config=vision, **_tokens(words))
    processor = Qwen2VLProcessor(
        Qwen2VLImageProcessor(**PIXELS), words, Qwen2VLVideoProcessor(patch_size=8), chat_template=TEMPLATE
    )
    _save(Qwen2VLForConditionalGeneration(config), processor, folder)


def modules_json(folder: Path, *, prompts: dict[str, str], chat: dict[str, Any] | None) -> str:
    """Writes the files of sentence-transformers 5.4 and later for a model of messages, and returns the folder."""
    kinds = ["base.modules.transformer.Transformer", "sentence_transformer.modules.pooling.Pooling",
             "base.modules.normalize.Normalize"]  # fmt: skip
    paths = ["", "1_Pooling", "2_Normalize"]
    listed = [
        {"idx": i, "name": str(i), "path": path, "type": f"sentence_transformers.{kind}"}
        for i, (path, kind) in enumerate(zip(paths, kinds))
    ]
    write(folder, "modules.json", listed)
    write(
        folder,
        "1_Pooling/config.json",
        {"embedding_dimension": 16, "pooling_mode": "lasttoken", "include_prompt": True},
    )
    write(folder, "2_Normalize/config.json", {})
    write(folder, "config_sentence_transformers.json", {"model_type": "SentenceTransformer", "prompts": prompts})
    way = {"method": "forward", "method_output_name": "last_hidden_state"}
    transformer: dict[str, Any] = {
        "transformer_task": "feature-extraction",
        "modality_config": {"text": way, "image": way, "video": way, "message": {**way, "format": "structured"}},
        "module_output_name": "token_embeddings",
    }
    if chat:
        transformer["processing_kwargs"] = {"chat_template": chat}
    write(folder, "sentence_bert_config.json", transformer)
    return str(folder)


def _tokens(words) -> dict[str, int]:
    ids = dict(zip(SPECIAL, words.convert_tokens_to_ids(SPECIAL)))
    return {"image_token_id": ids["<|image_pad|>"], "video_token_id": ids["<|video_pad|>"],
            "vision_start_token_id": ids["<|vision_start|>"], "vision_end_token_id": ids["<|vision_end|>"]}  # fmt: skip


def _save(model, processor, folder: Path) -> None:
    torch.manual_seed(0)
    for parameter in model.parameters():
        parameter.data = 0.3 * torch.randn_like(parameter)
    model.save_pretrained(folder)
    processor.save_pretrained(folder)

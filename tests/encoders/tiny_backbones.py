"""Make backbones of a few thousand random weights, saved like any Hugging Face model."""

from __future__ import annotations

import json
from pathlib import Path

import torch

VISION = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "patch_size": 8}
IMAGES = {"size": {"shortest_edge": 32}, "crop_size": {"height": 24, "width": 24}, "do_center_crop": True}


def save(model, folder: Path, preprocessor: dict | None = None) -> str:
    """Saves a model with its preprocessing configuration, and returns its folder."""
    model.save_pretrained(folder)
    if preprocessor is not None:
        (folder / "preprocessor_config.json").write_text(json.dumps(preprocessor))
    return str(folder)


def vit(folder: Path, preprocessor: dict | None = None) -> str:
    """Saves a vision transformer of 24 x 24 pixels."""
    from transformers import ViTConfig, ViTModel

    torch.manual_seed(0)
    return save(ViTModel(ViTConfig(**VISION, image_size=24)), folder, preprocessor)


def clip(folder: Path) -> str:
    """Saves a CLIP of pictures and text, of 24 x 24 pixels."""
    from transformers import CLIPConfig, CLIPModel

    torch.manual_seed(0)
    text = {"hidden_size": 8, "intermediate_size": 8, "num_hidden_layers": 1, "num_attention_heads": 1, "vocab_size": 9}
    config = CLIPConfig(text_config=text, vision_config={**VISION, "image_size": 24})
    return save(CLIPModel(config), folder, {**IMAGES, "image_mean": [0.1, 0.2, 0.3], "image_std": [0.4, 0.5, 0.6]})


def wav2vec2(folder: Path) -> str:
    """Saves a wav2vec2 with one token for every 20 samples."""
    from transformers import Wav2Vec2Config, Wav2Vec2FeatureExtractor, Wav2Vec2Model

    torch.manual_seed(0)
    config = Wav2Vec2Config(
        hidden_size=16, intermediate_size=16, num_hidden_layers=1, num_attention_heads=2, conv_dim=(8, 8),
        conv_kernel=(10, 2), conv_stride=(10, 2), num_feat_extract_layers=2, num_conv_pos_embeddings=8,
        num_conv_pos_embedding_groups=2,
    )  # fmt: skip
    Wav2Vec2FeatureExtractor(sampling_rate=8000).save_pretrained(folder)
    return save(Wav2Vec2Model(config), folder)


def spectrogram_transformer(folder: Path) -> str:
    """Saves an audio spectrogram transformer."""
    from transformers import ASTConfig, ASTFeatureExtractor, ASTModel

    torch.manual_seed(0)
    ASTFeatureExtractor(num_mel_bins=32, max_length=64).save_pretrained(folder)
    config = ASTConfig(
        **{**VISION, "patch_size": 16}, num_mel_bins=32, max_length=64, frequency_stride=16, time_stride=16
    )
    return save(ASTModel(config), folder)


def whisper(folder: Path) -> str:
    """Saves a Whisper, encoder and decoder, of two seconds."""
    from transformers import WhisperConfig, WhisperFeatureExtractor, WhisperModel

    torch.manual_seed(0)
    WhisperFeatureExtractor(feature_size=20, chunk_length=2).save_pretrained(folder)
    config = WhisperConfig(
        d_model=16, encoder_layers=1, decoder_layers=1, encoder_attention_heads=2, decoder_attention_heads=2,
        encoder_ffn_dim=16, decoder_ffn_dim=16, num_mel_bins=20, max_source_positions=100, vocab_size=20,
        pad_token_id=0, bos_token_id=0, eos_token_id=0, decoder_start_token_id=0,
    )  # fmt: skip
    return save(WhisperModel(config), folder)


def clap(folder: Path) -> str:
    """Saves a CLAP of recordings and text, of two seconds, with 4 x 4 tokens."""
    from transformers import ClapConfig, ClapFeatureExtractor, ClapModel

    torch.manual_seed(0)
    ClapFeatureExtractor(
        feature_size=32, sampling_rate=8000, hop_length=160, max_length_s=2, truncation="rand_trunc", frequency_max=4000
    ).save_pretrained(folder)
    audio = {
        "spec_size": 64, "num_mel_bins": 32, "patch_size": 4, "patch_stride": [4, 4], "window_size": 2,
        "patch_embeds_hidden_size": 4, "hidden_size": 16, "depths": [1, 1, 1], "num_attention_heads": [1, 1, 2],
    }  # fmt: skip
    text = {"hidden_size": 8, "intermediate_size": 8, "num_hidden_layers": 1, "num_attention_heads": 1, "vocab_size": 9}
    return save(ClapModel(ClapConfig(audio_config=audio, text_config=text)), folder)


def tokenizer(words: list[str]):
    """Returns a tokenizer of whole words."""
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    vocabulary = {word: number for number, word in enumerate(["<pad>", "<unk>", *words])}
    words_only = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    words_only.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return PreTrainedTokenizerFast(tokenizer_object=words_only, pad_token="<pad>", unk_token="<unk>")


def bert(folder: Path) -> str:
    """Saves a BERT over three words."""
    from transformers import BertConfig, BertModel

    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=5, hidden_size=8, intermediate_size=8, num_hidden_layers=1, num_attention_heads=2,
        max_position_embeddings=16,
    )  # fmt: skip
    tokenizer(["red", "blue", "lamp"]).save_pretrained(folder)
    return save(BertModel(config), folder)


def llava(folder: Path) -> str:
    """Saves a LLaVA, a model of pictures and text, over three words and 24 x 24 pixels."""
    from transformers import CLIPVisionConfig, LlamaConfig, LlavaConfig, LlavaForConditionalGeneration, LlavaProcessor
    from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil

    torch.manual_seed(0)
    words = tokenizer(["<image>", "red", "blue", "lamp"])
    words.add_special_tokens({"additional_special_tokens": ["<image>"]})
    language = LlamaConfig(
        vocab_size=8, hidden_size=16, intermediate_size=16, num_hidden_layers=1, num_attention_heads=2,
        num_key_value_heads=2, pad_token_id=0,
    )  # fmt: skip
    config = LlavaConfig(
        vision_config=CLIPVisionConfig(**VISION, image_size=24), text_config=language,
        image_token_index=words.convert_tokens_to_ids("<image>"), image_seq_length=9,
    )  # fmt: skip
    images = CLIPImageProcessorPil(size={"shortest_edge": 24}, crop_size={"height": 24, "width": 24})
    LlavaProcessor(
        images, words, patch_size=8, vision_feature_select_strategy="default", num_additional_image_tokens=1
    ).save_pretrained(folder)
    return save(LlavaForConditionalGeneration(config), folder)

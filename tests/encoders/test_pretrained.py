"""Any Hugging Face backbone works frozen, or with LoRA, and is restored by its name and hash."""

import hashlib

import numpy as np
import peft
import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModel

from qarm_features.encoders import AudioEncoder, ImageEncoder, TextEncoder
from qarm_features.encoders.pretrained import weights_sha256
from tests.decoding.media_files import picture, recording, tone
from tests.encoders import tiny_backbones


@pytest.fixture(autouse=True)
def quiet():
    from transformers.utils import logging

    logging.disable_progress_bar()


def test_a_vision_backbone_sees_what_its_preprocessor_says_and_gives_its_own_hidden_states(tmp_path):
    encoder = ImageEncoder(tiny_backbones.clip(tmp_path))
    pixels = encoder.decode(picture("PNG", (72, 36)))

    tokens = encoder([pixels])

    assert pixels.shape == (3, 24, 24)  # 72 x 36 -> 64 x 32 -> its center
    reference = AutoModel.from_pretrained(tmp_path).eval().vision_model
    mean, std = torch.tensor([[0.1, 0.2, 0.3], [0.4, 0.5, 0.6]]).view(2, 3, 1, 1)
    with torch.no_grad():
        expected = reference(pixel_values=((pixels / 255 - mean) / std)[None]).last_hidden_state
    torch.testing.assert_close(tokens.values, expected, atol=1e-5, rtol=1e-5)
    assert tokens.mask.shape == (1, 10) and encoder.dim == 16 and not encoder.trained
    assert not tokens.values.requires_grad


def test_a_center_crop_equals_pillow_s_resize_then_crop(tmp_path):
    encoder = ImageEncoder(tiny_backbones.vit(tmp_path, tiny_backbones.IMAGES))

    pixels = encoder.decode(picture("PNG", (72, 36)))
    thin = encoder.decode(picture("PNG", (4000, 1)))

    assert pixels[:, 12, 2].tolist() == [255, 0, 0] and pixels[:, 12, 21].tolist() == [0, 0, 255]
    assert thin.shape == (3, 24, 24)


def test_without_a_preprocessor_the_whole_picture_has_the_backbone_s_size(tmp_path):
    encoder = ImageEncoder(tiny_backbones.vit(tmp_path))

    assert encoder.decode(picture("PNG", (100, 50))).shape == (3, 24, 24)
    assert encoder([encoder.decode(picture())]).values.shape == (1, 10, 16)


@pytest.mark.parametrize(
    ("preprocessor", "size"),
    [({"size": 24}, (24, 24)), ({"size": {"height": 24, "width": 24}, "do_normalize": False}, (24, 24))],
)
def test_older_and_newer_preprocessors_are_understood(tmp_path, preprocessor, size):
    assert ImageEncoder(tiny_backbones.vit(tmp_path, preprocessor)).size == size


@pytest.mark.parametrize(
    ("backbone", "tokens", "standing"),
    [
        ("wav2vec2", 800, [800, 200]),
        ("clap", 16, [16, 16]),
        ("spectrogram_transformer", 10, [10, 10]),
        ("whisper", 100, [100, 25]),
    ],
)
def test_an_audio_backbone_gives_its_tokens_and_marks_those_of_the_clip(tmp_path, backbone, tokens, standing):
    encoder = AudioEncoder(getattr(tiny_backbones, backbone)(tmp_path), clip_seconds=2)
    clips = [encoder.decode(recording(tone(440, seconds, 8000), 8000)) for seconds in (3, 0.5)]

    both, alone = encoder(clips), encoder(clips[1:])

    assert len(clips[0]) == 2 * encoder.sample_rate
    assert both.values.shape == (2, tokens, 16)
    assert both.mask.sum(1).tolist() == standing
    torch.testing.assert_close(both.values[1], alone.values[0], atol=1e-4, rtol=0)


def test_training_mode_never_reaches_a_frozen_backbone(tmp_path):
    encoder = TextEncoder(tiny_backbones.bert(tmp_path))

    encoder.train()

    assert encoder.training and not any(module.training for module in encoder.backbone.model.modules())
    assert not any(parameter.requires_grad for parameter in encoder.parameters())
    assert set(encoder.state_dict()) == encoder.frozen_names()


def test_only_lora_is_trained_and_saved_and_a_loaded_encoder_gives_the_same_tokens(tmp_path):
    encoder = TextEncoder(tiny_backbones.bert(tmp_path / "bert"), lora_rank=2)
    before = encoder(["red lamp"]).values
    encoder.train()
    optimizer = torch.optim.SGD([p for p in encoder.parameters() if p.requires_grad], lr=1.0)
    for _ in range(2):
        encoder(["red lamp", "blue"]).values[..., 0].sum().backward()
        optimizer.step()
    kept = {name: value for name, value in encoder.state_dict().items() if name not in encoder.frozen_names()}
    save_file(kept, tmp_path / "model.safetensors")

    loaded = TextEncoder(**encoder.config)
    loaded.load_state_dict(load_file(tmp_path / "model.safetensors"), strict=False)

    assert encoder.trained and loaded.config == encoder.config
    assert {name for name, p in encoder.named_parameters() if p.requires_grad} == set(kept)
    assert all("lora_" in name for name in kept) and len(kept) == 2 * 3  # A and B of query, key and value
    assert not torch.allclose(encoder(["red lamp"]).values, before)
    assert torch.equal(loaded(["red lamp"]).values, encoder(["red lamp"]).values)


def test_lora_equals_peft_s_own_model(tmp_path):
    folder = tiny_backbones.vit(tmp_path)
    encoder = ImageEncoder(folder, lora_rank=2)
    adapters = {name: torch.randn_like(p) for name, p in encoder.named_parameters() if p.requires_grad}
    encoder.load_state_dict(adapters, strict=False)
    config = peft.LoraConfig(r=2, lora_alpha=4, target_modules=["q_proj", "k_proj", "v_proj", "query", "key", "value"])
    reference = peft.tuners.LoraModel(AutoModel.from_pretrained(folder).eval(), config, "default")
    names = {name.replace("backbone.model.", "model."): value for name, value in adapters.items()}
    assert not reference.load_state_dict(names, strict=False).unexpected_keys
    pixels = encoder.decode(picture())

    with torch.no_grad():
        expected = reference(pixel_values=((pixels - 127.5) / 127.5)[None]).last_hidden_state

    torch.testing.assert_close(encoder([pixels]).values, expected, atol=1e-5, rtol=1e-5)


def test_adapters_of_a_half_precision_backbone_train_in_full_precision_and_tokens_are_float32(tmp_path):
    tiny_backbones.vit(tmp_path / "float")
    folder = tiny_backbones.save(AutoModel.from_pretrained(tmp_path / "float").bfloat16(), tmp_path / "half")
    encoder = ImageEncoder(folder, lora_rank=2)

    values = encoder([encoder.decode(picture())]).values

    assert values.dtype == torch.float32 and encoder.backbone.dtype == torch.bfloat16
    assert {p.dtype for p in encoder.parameters() if p.requires_grad} == {torch.float32}


def test_lora_without_a_known_attention_is_refused(tmp_path):
    from transformers import ResNetConfig, ResNetModel

    config = ResNetConfig(embedding_size=4, hidden_sizes=[4, 8], depths=[1, 1], layer_type="basic")
    folder = tiny_backbones.save(ResNetModel(config), tmp_path, {"size": 32})

    assert ImageEncoder(folder)([torch.zeros(3, 32, 32, dtype=torch.uint8)]).values.shape == (1, 16, 8)
    with pytest.raises(
        ValueError,
        match=r"encoder.lora_rank is 4, must be 0 with .*, which has no attention projection with a known name",
    ):
        ImageEncoder(folder, lora_rank=4)


def test_another_backbone_than_in_the_manifest_is_refused(tmp_path):
    folder = tiny_backbones.vit(tmp_path)

    assert ImageEncoder(folder, sha256=ImageEncoder(folder).config["sha256"]).dim == 16
    with pytest.raises(ValueError, match=r"Weights of .* have sha256 .*, must be abc as in the encoder's manifest"):
        ImageEncoder(folder, sha256="abc")


def test_a_checkpoint_without_a_pooling_head_has_one_hash_and_one_without_layers_is_refused(tmp_path):
    folder = tiny_backbones.vit(tmp_path)
    weights = load_file(tmp_path / "model.safetensors")
    headless = {name: value for name, value in weights.items() if "pooler" not in name}
    save_file(headless, tmp_path / "model.safetensors", metadata={"format": "pt"})

    assert ImageEncoder(folder).config["sha256"] == ImageEncoder(folder).config["sha256"]
    layerless = {name: value for name, value in headless.items() if "layernorm." not in name}
    save_file(layerless, tmp_path / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ValueError, match=r"encoder.image_backbone is .*, must hold all weights. Its checkpoint lacks"):
        ImageEncoder(folder)


@pytest.mark.parametrize(
    ("encoder", "setting"),
    [(TextEncoder, "text_backbone"), (ImageEncoder, "image_backbone"), (AudioEncoder, "audio_backbone")],
)
def test_a_folder_without_safetensors_is_refused(tmp_path, encoder, setting):
    with pytest.raises(ValueError, match=f"encoder.{setting} is .*, must be a folder or Hugging Face name with safe"):
        encoder(str(tmp_path))


def test_an_audio_backbone_without_an_extractor_and_text_without_a_tokenizer_are_refused(tmp_path):
    tiny_backbones.wav2vec2(tmp_path / "w")
    (tmp_path / "w" / "preprocessor_config.json").unlink()
    tiny_backbones.bert(tmp_path / "b")
    for file in ("tokenizer.json", "tokenizer_config.json"):
        (tmp_path / "b" / file).unlink()

    with pytest.raises(ValueError, match=r"encoder.audio_backbone is .*, must hold preprocessor_config.json"):
        AudioEncoder(str(tmp_path / "w"))
    with pytest.raises(ValueError, match=r"encoder.text_backbone is .*, must hold a tokenizer"):
        TextEncoder(str(tmp_path / "b"))


def test_the_hash_is_over_names_and_bytes():
    module = torch.nn.Linear(2, 1)
    with torch.no_grad():
        module.weight.copy_(torch.tensor([[1.0, 2.0]]))
        module.bias.zero_()
    expected = hashlib.sha256(b"bias" + np.zeros(1, "<f4").tobytes() + b"weight" + np.array([1, 2], "<f4").tobytes())

    assert weights_sha256(module) == expected.hexdigest()
    assert weights_sha256(torch.nn.BatchNorm1d(1)) != weights_sha256(
        module
    )  # a number without dimensions is hashed too

"""A vision-language model encodes an item's image and text together."""

import pytest
import torch
from transformers import AutoModelForImageTextToText

from qarm_features import ItemEncoder
from qarm_features.embedding.encoder_versions import item_encoder_config, media_limits, with_limits
from qarm_features.encoders import BrokenContent, ImageTextEncoder
from qarm_features.settings.load import load_settings
from tests.decoding.media_files import picture
from tests.encoders import tiny_backbones


@pytest.fixture(scope="module")
def encoder(tmp_path_factory):
    return ImageTextEncoder(tiny_backbones.llava(tmp_path_factory.mktemp("llava")))


def test_tokens_are_the_last_hidden_states_over_image_and_text(encoder):
    pair = encoder.decode({"image": picture(), "text": "red lamp"})

    tokens = encoder([pair])

    from qarm_features.encoders.image_text import _picture

    inputs = encoder.processor(text="<image>\nred lamp", images=_picture(pair["image"]), return_tensors="pt")
    reference = AutoModelForImageTextToText.from_pretrained(encoder.config["backbone"]).eval()
    with torch.no_grad():
        expected = reference(**inputs, output_hidden_states=True).hidden_states[-1]
    assert tokens.values.shape == (1, 9 + 2, 16) and encoder.dim == 16
    torch.testing.assert_close(tokens.values, expected, atol=1e-5, rtol=1e-5)


def test_items_without_an_image_or_a_text_share_a_batch_with_whole_ones(encoder):
    rows = [
        encoder.decode({"image": None, "text": "blue"}),
        encoder.decode({"image": picture(), "text": "red lamp"}),
        encoder.decode({"image": picture("JPEG"), "text": None}),
    ]

    tokens = encoder(rows)

    assert tokens.mask.sum(1).tolist() == [1, 11, 9]
    for row, pair in enumerate(rows):
        alone = encoder([pair])
        torch.testing.assert_close(
            tokens.values[row][tokens.mask[row]], alone.values[0][alone.mask[0]], atol=1e-5, rtol=0
        )


def test_an_image_is_shrunk_and_a_text_is_cut(encoder):
    pair = encoder.decode({"image": picture("PNG", (2000, 500)), "text": "lamp " * 10_000})

    assert pair["image"].shape == (3, 192, 768)
    assert len(pair["text"]) == 16 * 128


def test_broken_pairs_are_refused(encoder):
    for raw, reason in [
        ({"image": None, "text": None}, "image and text are both missing"),
        ({"image": None, "text": 7}, "text is not a string"),
        ({"image": b"text", "text": "lamp"}, "image is not JPEG, PNG or WebP"),
        ({"image": "/etc/hostname", "text": "lamp"}, "image URI is outside media_roots"),
    ]:
        with pytest.raises(BrokenContent, match=f"^{reason}$"):
            encoder.decode(raw)


def test_a_frozen_model_is_restored_by_its_name_and_lora_is_saved(encoder):
    adapted = ImageTextEncoder(encoder.config["backbone"], lora_rank=2)

    assert not encoder.trained and set(encoder.state_dict()) == encoder.frozen_names()
    assert ImageTextEncoder(**encoder.config).config == encoder.config
    trained = {name for name, p in adapted.named_parameters() if p.requires_grad}
    assert adapted.trained and trained == set(adapted.state_dict()) - adapted.frozen_names() != set()


def test_a_backbone_without_a_processor_is_refused(tmp_path):
    with pytest.raises(
        ValueError, match=r"encoder.image_text_backbone is .*, must hold a processor of images and text"
    ):
        ImageTextEncoder(tiny_backbones.wav2vec2(tmp_path))


def test_the_item_encoder_reads_image_and_text_together_as_the_settings_say(tmp_path):
    backbone = tiny_backbones.llava(tmp_path / "llava")
    (tmp_path / "qarm.yaml").write_text(
        "items: {path: items.parquet, text: [text], image: picture}\n"
        "interactions: {path: log.parquet}\n"
        f"encoder: {{align: true, image_text_backbone: {backbone}, dim: 16, num_queries: 2, frozen_weight: 0}}\n"
    )
    settings = load_settings(tmp_path / "qarm.yaml")
    limits = media_limits(settings.encoder, settings.path)
    encoder = ItemEncoder(**with_limits(item_encoder_config(settings.items, settings.encoder, aligned=True), limits))
    columns = {"text": ["red", "red", None, None], "image": [None, picture(), picture(), None]}

    embeddings, reasons = encoder.encode(columns)

    assert list(encoder.encoders) == ["image_text"]
    assert encoder.columns == ["text", "image", "image_uri"]
    assert reasons == [None, None, None, "no modality that the encoder reads (image_text)"]
    assert len({tuple(row) for row in embeddings[:3].tolist()}) == 3
    encoder.save_pretrained(tmp_path / "saved")
    again = ItemEncoder.from_pretrained(tmp_path / "saved", limits=limits)
    torch.testing.assert_close(again.encode(columns).embeddings[:3], embeddings[:3])

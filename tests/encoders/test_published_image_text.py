"""A vision-language embedder gives the vectors of its authors' recipe."""

import io
import subprocess
import sys

import pytest
import torch
from PIL import Image
from torch.nn.functional import normalize

from qarm_features import ItemEncoder
from qarm_features.encoders import ImageTextEncoder
from qarm_features.encoders.recipe import read_recipe
from tests.decoding.media_files import picture
from tests.encoders import vision_language_backbones as shapes

pytest.importorskip("torchvision", reason="the processors of Qwen need torchvision")
PROMPT = "Represent the red input."
PAIRS = [
    {"text": "red lamp"},
    {"text": "the blue chair are the red lamp", "image": picture("PNG", (72, 40))},
    {"image": picture("PNG", (64, 64))},
    {"text": "lamp", "image": picture("PNG", (300, 90))},
]


@pytest.fixture(scope="module", params=["Qwen3-VL", "Qwen2-VL", "Qwen3-VL, pads right, no instruction"])
def folder(request, tmp_path_factory):
    place = tmp_path_factory.mktemp("published") / "tiny"
    save = shapes.qwen2_vl if "Qwen2" in request.param else shapes.qwen3_vl
    save(place, side="right" if "right" in request.param else "left")
    return shapes.modules_json(
        place,
        prompts={"query": "the", "document": "" if "no instruction" in request.param else PROMPT},
        chat=None if "Qwen2" in request.param else {"add_generation_prompt": True},
    )


def columns(pairs):
    return {name: [pair.get(name) for pair in pairs] for name in ("text", "image")}


def encode(folder, pairs, **options):
    encoder = ItemEncoder({"image_text": {"backbone": folder, "max_tokens": 512, **options}})
    embeddings, reasons = encoder.encode(columns(pairs))
    assert reasons == [None] * len(pairs)
    return embeddings


def opened(pair):
    """Returns a pair as sentence-transformers takes it: the image first, opened."""
    image = {"image": Image.open(io.BytesIO(pair["image"])).convert("RGB")} if "image" in pair else {}
    return {**image, **({"text": pair["text"]} if "text" in pair else {})}


def library(folder, pairs):
    from sentence_transformers import SentenceTransformer

    model = SentenceTransformer(folder, device="cpu")
    return torch.stack([torch.from_numpy(model.encode_document([opened(pair)])[0]) for pair in pairs])


def test_pairs_texts_and_images_have_the_vectors_of_the_library(folder):
    torch.testing.assert_close(encode(folder, PAIRS), library(folder, PAIRS), atol=1e-4, rtol=0)


def test_a_pair_has_the_same_vector_alone_and_in_any_batch(folder):
    alone = torch.cat([encode(folder, [pair]) for pair in PAIRS])

    torch.testing.assert_close(encode(folder, PAIRS), alone, atol=1e-4, rtol=0)


def test_a_long_text_keeps_the_end_of_the_template(folder):
    long = [{"text": "red lamp " * 2000}]

    torch.testing.assert_close(encode(folder, long, max_tokens=8192), library(folder, long), atol=1e-4, rtol=0)
    cut = encode(folder, [{"text": "red lamp " * 10}], max_tokens=6)
    torch.testing.assert_close(cut, library(folder, [{"text": "red lamp red lamp red lamp"}]), atol=1e-4, rtol=0)


def test_tokens_of_the_instruction_are_not_content_and_the_last_one_is_the_vector(folder):
    encoder = ImageTextEncoder(folder)
    pairs = [encoder.decode({"image": None, "text": None, **pair}) for pair in PAIRS]

    tokens, pooled = encoder.encode(pairs)

    assert tokens.mask[0].sum() in (2 + 1, 2 + 3)  # two words and the end of the template
    last = [values[mask][-1] for values, mask in zip(tokens.values, tokens.mask)]
    torch.testing.assert_close(torch.stack(last), pooled)


def test_lora_learns_through_tokens_and_vector(folder):
    encoder = ImageTextEncoder(folder, lora_rank=2)
    pairs = [encoder.decode({"image": None, "text": None, **pair}) for pair in PAIRS]

    tokens, pooled = encoder.encode(pairs)
    (tokens.values[tokens.mask].square().sum() + pooled[:, 0].sum()).backward()

    gradients = [weight.grad for name, weight in encoder.named_parameters() if "lora_B" in name]
    assert gradients and all(gradient.abs().sum() > 0 for gradient in gradients)


def test_an_encoder_is_restored_and_the_first_values_can_be_kept(folder, tmp_path):
    encoder = ItemEncoder({"image_text": {"backbone": folder, "vector_dim": 6, "max_tokens": 512}})
    encoder.save_pretrained(tmp_path / "saved")

    again = ItemEncoder.from_pretrained(str(tmp_path / "saved"))

    found = again.encode(columns(PAIRS)).embeddings
    assert again.config == encoder.config
    torch.testing.assert_close(found, normalize(library(folder, PAIRS)[:, :6]), atol=1e-4, rtol=0)


def by_script(folder, pair, instruction, end, **limits):
    """The vector of one pair by the authors' scripts: system message, image, text, then the state of the last token."""
    from transformers import AutoModel, AutoProcessor

    processor, model = AutoProcessor.from_pretrained(folder), AutoModel.from_pretrained(folder).eval()
    image = "<|vision_start|><|image_pad|><|vision_end|>" if "image" in pair else ""
    written = (
        f"<|im_start|>system\n{instruction}<|im_end|>\n<|im_start|>user\n{image}{pair.get('text', '')}<|im_end|>\n"
        f"<|im_start|>assistant\n{end}"
    )
    images = [opened(pair)["image"]] if "image" in pair else None
    inputs = processor(text=[written], images=images, return_tensors="pt", **(limits if images else {}))
    with torch.no_grad():
        return normalize(model(**inputs).last_hidden_state[:, -1])


@pytest.mark.parametrize(
    ("name", "shape", "instruction", "end", "limits"),
    [
        ("Qwen3-VL-Embedding-2B", shapes.qwen3_vl, "Represent the user's input.", "", {}),
        (
            "gme-Qwen2-VL-2B-Instruct", shapes.qwen2_vl, "You are a helpful assistant.", "<|endoftext|>",
            {"images_kwargs": {"size": {"shortest_edge": 200_704, "longest_edge": 1_003_520}}},
        ),
    ],
)  # fmt: skip
def test_a_family_that_is_published_with_a_script_is_read_by_that_script(
    tmp_path, name, shape, instruction, end, limits
):
    """Source: QwenLM/Qwen3-VL-Embedding, src/models/qwen3_vl_embedding.py; Alibaba-NLP/gme-Qwen2-VL-2B-Instruct,
    gme_inference.py."""
    shape(tmp_path / name)
    folder = str(tmp_path / name)
    expected = torch.cat([by_script(folder, pair, instruction, end, **limits) for pair in PAIRS])

    torch.testing.assert_close(encode(folder, PAIRS), expected, atol=1e-4, rtol=0)
    assert read_recipe(folder, setting="encoder.image_text_backbone", prompt="A lamp.")["prompt"] == "A lamp."
    with pytest.raises(ValueError, match=f"encoder.text_backbone is .*{name}, which reads images too. Set it as"):
        read_recipe(folder)


def test_an_adapter_and_code_of_authors_are_refused(tmp_path):
    folder = tmp_path / "jina-embeddings-v4"
    shapes.qwen3_vl(folder)
    with pytest.raises(ValueError, match="jina-embeddings-v4, which has no modules.json"):
        ImageTextEncoder(str(folder))
    shapes.write(folder, "modules.json", [{"path": "", "type": "custom_st.Transformer"}])
    with pytest.raises(
        ValueError, match=r"jina-embeddings-v4, which needs code of its authors \(custom_st.Transformer\)"
    ):
        ImageTextEncoder(str(folder))
    shapes.write(folder, "adapter_config.json", {"base_model_name_or_path": "Qwen/Qwen2.5-VL-3B-Instruct"})
    with pytest.raises(ValueError, match="which is an adapter of another model. Merge it into that model by peft"):
        ImageTextEncoder(str(folder))


def test_without_torchvision_the_package_to_install_is_named(tmp_path):
    shapes.qwen3_vl(tmp_path / "Qwen3-VL-Embedding-2B")
    code = (
        "import sys; sys.modules['torchvision'] = None\n"
        "from qarm_features.encoders import ImageTextEncoder; ImageTextEncoder('Qwen3-VL-Embedding-2B')"
    )

    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=tmp_path)

    assert done.stderr.splitlines()[-1] == (
        "ImportError: The processor of Qwen3-VL-Embedding-2B (encoder.image_text_backbone) needs the package torchvision, "
        "which is not installed. Run: pip install torchvision"
    )

"""Read how the authors of an embedder make one vector of a text: prompt, pooling and the layers behind it.

In: the folder or Hugging Face name of a backbone, with the files that sentence-transformers writes (``modules.json`` and
those that it names). Out: a recipe, which is JSON and holds only what differs from ``PLAIN``. An encoder saves its recipe, so
that a later change of these files does not change the encoder. What cannot be followed exactly is refused by its name.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, get_args

from qarm_features.encoders.published_files import PublishedFiles, Refused
from qarm_features.encoders.published_layers import published_layers
from qarm_features.settings.sections import PoolingMode

Recipe = dict[str, Any]

# Mean pooling of all tokens, without a prompt; the item embedding is scaled to length 1 in any case.
PLAIN: Recipe = {
    "pooling": ["mean"],  # more than one are concatenated
    "prompt": "",
    "include_prompt": True,  # whether the tokens of the prompt are pooled too
    "chat": None,  # arguments of the chat template, of which the prompt is the system message; None joins prompt and text
    "lower_case": False,
    "max_tokens": None,  # None takes what tokenizer and model allow
    "tokenizer": {},  # further arguments of the tokenizer
    "subfolder": "",
    "images": {},  # arguments of the image processor
    "layers": [],
    "dim": None,  # number of values that are kept of the vector; None keeps all
}
# Encoders of release 0.1.0 have no pooling of their own: the tokens that are kept are averaged.
RELEASE_0_1_0: Recipe = {"pooling": []}
_DOCUMENT = ("document", "passage", "search_document", "corpus")  # an item is a document, never a query
_PROMPT_ON_THE_PAGE_ONLY = (
    (r"^e5-(small|base|large)(?!.*instruct)|^multilingual-e5-(small|base|large)(?!.*instruct)", "passage: "),
    (r"^nomic-embed-text", "search_document: "),
    (r"^instructor-", "Represent the product: "),
)
# Recipes that authors publish as a script beside the model, not in modules.json: family, recipe.
# Source: github.com/QwenLM/Qwen3-VL-Embedding, src/models/qwen3_vl_embedding.py; huggingface.co/Alibaba-NLP/
# gme-Qwen2-VL-2B-Instruct, gme_inference.py (for documents, which take its default instruction).
_SCRIPTS: tuple[tuple[str, Recipe], ...] = (
    (
        r"^qwen3-vl-embedding",
        {
            "chat": {"add_generation_prompt": True, "format": "structured"},
            "prompt": "Represent the user's input.",
            "pooling": ["lasttoken"],
            "max_tokens": 8192,
        },
    ),
    (
        r"^gme-qwen2-vl",
        {
            "chat": {"add_generation_prompt": True, "format": "structured", "suffix": "<|endoftext|>"},
            "prompt": "You are a helpful assistant.",
            "pooling": ["lasttoken"],
            "max_tokens": 1800,
            "images": {"size": {"shortest_edge": 256 * 28 * 28, "longest_edge": 1280 * 28 * 28}},  # numbers of pixels
        },
    ),
)
_NEVER_PLAIN = (
    r"^(bge-|gte-|e5-|multilingual-e5-|qwen3-(vl-)?embedding|gme-qwen|jina-(clip|embeddings?)|nomic-embed|snowflake-arctic|"
    r"arctic-embed|stella|mxbai-embed|instructor-|labse|embeddinggemma|granite-embedding|sfr-embedding|nv-embed|uae-large|"
    r"sentence-t5|gtr-t5|linq-embed|kalm-embedding)|e5-mistral|[-_]embed(ding)?s?([-_]|$)"
)


def full_recipe(recipe: Mapping[str, Any]) -> Recipe:
    """Return a recipe with the values of ``PLAIN`` that it leaves out."""
    return {**PLAIN, **recipe}


def read_recipe(
    backbone: str,
    *,
    setting: str = "encoder.text_backbone",
    prompt: str | None = None,
    pooling: str | None = None,
    dim: int | None = None,
) -> Recipe:
    """Read the recipe of a backbone.

    Args:
        backbone: Local folder or Hugging Face name.
        setting: Name of the setting that holds the backbone, for error messages.
        prompt: Name of one of the authors' prompts, or a prompt written out; None takes their prompt of documents.
        pooling: Way of pooling in place of the authors'; None takes theirs.
        dim: Number of values that are kept of the vector (Matryoshka); None keeps as many as the authors.

    Returns:
        The recipe, without the values that are as in ``PLAIN``. It is ``{}`` for a folder without ``modules.json``, whose
        tokens are averaged.

    Raises:
        ValueError: The recipe cannot be followed exactly, or would have to be guessed.
    """
    files = PublishedFiles(backbone, setting)
    if not files.has_model:
        return _brief({**PLAIN, "prompt": prompt or "", "pooling": [pooling or "mean"], "dim": dim})
    modules = files.read("modules.json", unknown_is_missing=pooling is not None and prompt is not None)
    options = files.read("config_sentence_transformers.json", unknown_is_missing=True) or {}
    kind = options.get("model_type", "SentenceTransformer")
    if kind != "SentenceTransformer":
        raise files.refused(f"is a {kind}", "Take an embedder that gives one vector for each text.")
    if files.find("adapter_config.json", unknown_is_missing=True) is not None:
        raise files.refused(
            "is an adapter of another model", "Merge it into that model by peft, and name the merged folder."
        )
    script = _script(files, modules)
    if script is None and files.has_own_decoder:
        raise files.refused(
            "needs code of its authors (auto_map in config.json), which is not run and may change its attention",
            "Take another embedder, or give its vectors as items.precomputed.",
        )
    if script is not None:
        recipe = {**PLAIN, **script}
    else:
        recipe = dict(PLAIN) if modules is None else published_layers(files, modules)
    if recipe["chat"] is not None and setting == "encoder.text_backbone" and script is not None:
        raise files.refused("reads images too", "Set it as encoder.image_text_backbone.")
    if modules is None and script is None and pooling is None and _is_known(files.names, _NEVER_PLAIN):
        raise files.refused(
            "has no modules.json, without which its pooling would be guessed",
            f"Download the whole repository of its authors, or set encoder.text_pooling to one of {_modes()}.",
        )
    if pooling is not None:
        recipe["pooling"] = [pooling]
    recipe["prompt"] = script["prompt"] if script and prompt is None else _prompt(files, options, prompt)
    recipe["dim"] = dim or options.get("truncate_dim")
    return _brief(recipe)


def described(arguments: Mapping[str, Any]) -> dict[str, Any]:
    """Return the arguments of an encoder without a recipe that changes nothing, as release 0.1.0 described it.

    Args:
        arguments: Constructor arguments of the encoder of one modality.

    Returns:
        What a fingerprint is made of, so that encoders and tokens of that release are still found.
    """
    others = {name: value for name, value in arguments.items() if name != "recipe"}
    recipe = dict(arguments.get("recipe") or {})
    if recipe.get("max_tokens", 0) >= arguments.get("max_tokens", 0):
        recipe.pop("max_tokens", None)  # the setting cuts a text first
    return others if recipe in ({}, RELEASE_0_1_0) else {**others, "recipe": recipe}


def _script(files: PublishedFiles, modules: Any) -> Recipe | None:
    """Return the recipe of a family whose authors publish a script, unless ``modules.json`` says all without their code."""
    own_code = modules and not str(modules[0].get("type")).startswith("sentence_transformers.")
    if modules is not None and not own_code:
        return None
    return next((recipe for family, recipe in _SCRIPTS if _is_known(files.names, family)), None)


def _prompt(files: PublishedFiles, options: Mapping[str, Any], asked: str | None) -> str:
    """Return the prompt of items: the one asked for, else the authors' prompt of documents."""
    prompts = {name: text or "" for name, text in (options.get("prompts") or {}).items()}
    if asked is not None:
        if asked and asked not in prompts and re.fullmatch(r"[\w-]+", asked):  # a mistyped name is no prompt
            names = ", ".join(prompts) or "none"
            raise ValueError(
                f"encoder.text_prompt is {asked}, must be a prompt of {files.backbone} (its prompts: {names}) or a prompt "
                "written out, for example 'passage: '."
            )
        return prompts.get(asked, asked)
    found = [prompts[name] for name in _DOCUMENT if name in prompts]
    if not found:
        default = options.get("default_prompt_name")
        found = [prompts.get(default or "", "")] if default and "query" not in default.lower() else []
    if not any(prompts.values()):
        for family, usual in _PROMPT_ON_THE_PAGE_ONLY:
            if _is_known(files.names, family):
                raise files.refused(
                    "expects a prompt that its authors name on its page, not in its files",
                    f"Set encoder.text_prompt, for example to {usual!r}, or to '' for none.",
                )
    return next((prompt for prompt in found if prompt), "")


def _is_known(names: list[str], family: str) -> bool:
    return any(re.search(family, name.lower()) for name in names)


def _brief(recipe: Mapping[str, Any]) -> Recipe:
    return {name: value for name, value in recipe.items() if value != PLAIN[name]}


def _modes() -> str:
    return ", ".join(get_args(PoolingMode))


__all__ = ["PLAIN", "RELEASE_0_1_0", "Recipe", "Refused", "described", "full_recipe", "read_recipe"]

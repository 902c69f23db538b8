"""Say in plain words how an encoder reads a text and makes one vector of it.

In: a text or image-text encoder. Out: one line for each of pooling, prompt, layers, longest text and vector.
"""

from __future__ import annotations

from typing import Any

from qarm_features.encoders.published_files import PublishedFiles

_POOLING = {
    "mean": "mean of all tokens",
    "cls": "first token",
    "lasttoken": "last token",
    "max": "greatest value over all tokens",
    "mean_sqrt_len_tokens": "sum of all tokens over the square root of their number",
    "weightedmean": "mean of all tokens, later ones weigh more",
}


def understood(encoder: Any) -> list[str]:
    """Describe what was understood of a backbone's files.

    Args:
        encoder: ``TextEncoder`` or ``ImageTextEncoder``.

    Returns:
        One line for each thing.
    """
    recipe, files = encoder.recipe, PublishedFiles(encoder.config["backbone"], "")
    modules = files.read("modules.json", unknown_is_missing=True)
    source = "" if modules is not None else " (it has no modules.json, so nothing says how its authors pool)"
    last = str(modules[-1].get("type", "")) if modules else ""
    layers = [
        f"Dense {layer['sizes'][0]} -> {layer['sizes'][1]} with {layer['activation']}"
        if "sizes" in layer
        else layer["type"]
        for layer in recipe["layers"]
    ]
    allowed = recipe["max_tokens"] or encoder.tokenizer.model_max_length
    authors = f", of {allowed:,} that its authors allow" if allowed < 10**7 else ""
    lines = [
        f"pooling: {', '.join(_POOLING[mode] for mode in recipe['pooling'])}{source}",
        f"prompt: {_prompt(recipe)}",
        f"layers: {', '.join(layers) or 'none'}",
        f"longest text: {encoder.max_tokens:,} tokens (encoder.max_tokens){authors}",
        f"vector: {encoder.head.dim} values of {encoder.head.whole_dim}, {'' if last.endswith('.Normalize') else 'not '}"
        "normalized by its authors; item embeddings always are",
    ]
    if "auto_map" in (files.read("config.json", unknown_is_missing=True) or {}):
        lines.append("code: its authors publish code of their own, which is not run; transformers' model is used")
    return lines


def _prompt(recipe: dict[str, Any]) -> str:
    if not recipe["prompt"]:
        return "none" if recipe["chat"] is None else "none; texts are messages of the chat template"
    if recipe["chat"] is not None:
        return f"{recipe['prompt']!r}, the system message of the chat template"
    return repr(recipe["prompt"]) + ("" if recipe["include_prompt"] else ", whose tokens are not pooled")

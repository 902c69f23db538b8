"""Read pooling and layers from ``modules.json`` and the files that it names.

In: ``PublishedFiles`` and the content of ``modules.json``. Out: a recipe without its prompt, complete. Both the names that
sentence-transformers wrote up to version 5.3 and those of later versions are understood.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, get_args

from qarm_features.encoders.published_files import PublishedFiles
from qarm_features.settings.sections import PoolingMode

_OLD_MODES = {  # in the order in which several are concatenated
    "pooling_mode_cls_token": "cls",
    "pooling_mode_max_tokens": "max",
    "pooling_mode_mean_tokens": "mean",
    "pooling_mode_mean_sqrt_len_tokens": "mean_sqrt_len_tokens",
    "pooling_mode_weightedmean_tokens": "weightedmean",
    "pooling_mode_lasttoken": "lasttoken",
}
_TRANSFORMER_FILES = (
    "sentence_bert_config.json",
    "sentence_roberta_config.json",
    "sentence_distilbert_config.json",
    "sentence_camembert_config.json",
    "sentence_albert_config.json",
    "sentence_xlm-roberta_config.json",
    "sentence_xlnet_config.json",
)
_TOKENIZER_ARGUMENTS = {"model_max_length", "padding_side", "truncation_side", "add_eos_token", "add_bos_token"}
_WITHOUT_EFFECT = {
    "use_fast",
    "clean_up_tokenization_spaces",
    "use_cache",
    "dtype",
    "torch_dtype",
    "attn_implementation",
}
ACTIVATIONS = ("Identity", "Tanh", "ReLU", "GELU", "SiLU", "Sigmoid", "LeakyReLU", "ELU", "Mish", "Softsign")


def published_layers(files: PublishedFiles, modules: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Read the recipe that ``modules.json`` describes.

    Args:
        files: Files of the embedder.
        modules: Content of its ``modules.json``.

    Returns:
        The recipe with all its entries except ``prompt`` and ``dim``.

    Raises:
        Refused: A module is not known, or is not used in a known way.
    """
    kinds = [_kind(files, str(module.get("type"))) for module in modules]
    paths = [str(module.get("path") or "") for module in modules]
    if kinds[:2] != ["Transformer", "Pooling"] or "Transformer" in kinds[1:] or "Pooling" in kinds[2:]:
        raise files.refused(
            f"is made of {', '.join(kinds)}, must be a Transformer and a Pooling, then layers",
            "Take another embedder, or give its vectors as items.precomputed.",
        )
    recipe = {**_transformer(files, paths[0]), **_pooling(files, paths[1])}
    recipe["layers"] = [
        layer for kind, path in zip(kinds[2:], paths[2:]) for layer in [_layer(files, kind, path)] if layer is not None
    ]
    while recipe["layers"] and recipe["layers"][-1] == {"type": "Normalize"}:
        recipe["layers"].pop()  # every item embedding is scaled to length 1 at the end
    return recipe


def _kind(files: PublishedFiles, type_name: str) -> str:
    package, _, kind = type_name.rpartition(".")
    supported = ("Transformer", "Pooling", "Dense", "Normalize", "LayerNorm", "Dropout")
    if package.partition(".")[0] != "sentence_transformers" or kind not in supported:
        what = "code of its authors" if package.partition(".")[0] != "sentence_transformers" else f"a module {kind}"
        raise files.refused(
            f"needs {what} ({type_name}), which is not run here",
            "Take another embedder, or give its vectors as items.precomputed.",
        )
    return kind


def _transformer(files: PublishedFiles, path: str) -> dict[str, Any]:
    found = (files.read(_join(path, name), unknown_is_missing=True) for name in _TRANSFORMER_FILES)
    config: dict[str, Any] = next((content for content in found if content), {})
    if config.get("transformer_task", "feature-extraction") != "feature-extraction":
        raise files.refused(f"does {config['transformer_task']}, must do feature-extraction", "Take an embedder.")
    given = {**(config.get("tokenizer_args") or {}), **(config.get("processor_kwargs") or {})}
    others = {**(config.get("config_args") or {}), **(config.get("config_kwargs") or {})}
    others |= {**(config.get("model_args") or {}), **(config.get("model_kwargs") or {})}
    odd = sorted((set(given) - _TOKENIZER_ARGUMENTS | set(others)) - _WITHOUT_EFFECT - {"trust_remote_code"})
    if odd or config.get("tokenizer_name_or_path"):
        raise files.refused(
            f"asks for {', '.join(odd) or 'another tokenizer'} in sentence_bert_config.json, which is not followed here",
            "Take another embedder, or give its vectors as items.precomputed.",
        )
    lengths = [config.get("document_length"), config.get("max_seq_length"), given.pop("model_max_length", None)]
    return {
        "subfolder": path,
        "chat": _chat(files, config),
        "lower_case": bool(config.get("do_lower_case", False)),
        "max_tokens": next((length for length in lengths if length), None),
        "tokenizer": {name: value for name, value in given.items() if name in _TOKENIZER_ARGUMENTS},
    }


def _chat(files: PublishedFiles, config: Mapping[str, Any]) -> dict[str, Any] | None:
    """Return the arguments of the chat template, or None if texts are tokenized as they are."""
    ways: Mapping[str, Any] = config.get("modality_config") or {"text": {}}
    way = ways.get("message") or ways.get("text") or {}
    usual = way.get("method", "forward") == "forward" and way.get("method_output_name", "last_hidden_state") in (
        "last_hidden_state",
        ["last_hidden_state"],
    )
    if (
        not usual
        or not {"text", "message"} & set(ways)
        or config.get("module_output_name", "token_embeddings") != "token_embeddings"
    ):
        raise files.refused("does not pool its last hidden states", "Give its vectors as items.precomputed.")
    asked = config.get("processing_kwargs") or {}
    odd = sorted(set(asked) - {"chat_template"}) + sorted(
        set(asked.get("chat_template") or {}) - {"add_generation_prompt"}
    )
    if odd:
        raise files.refused(f"asks for processing_kwargs {', '.join(odd)}", "Give its vectors as items.precomputed.")
    if "message" not in ways:
        return None
    return {**(asked.get("chat_template") or {}), "format": ways["message"].get("format", "structured")}


def _pooling(files: PublishedFiles, path: str) -> dict[str, Any]:
    config = files.read(_join(path, "config.json"))
    if config is None:
        raise files.refused(f"lacks {_join(path, 'config.json')}", "Download the whole repository of its authors.")
    asked = config.get("pooling_mode") or [mode for key, mode in _OLD_MODES.items() if config.get(key)] or "mean"
    modes = [asked] if isinstance(asked, str) else list(asked)
    unknown = sorted(set(modes) - set(get_args(PoolingMode)))
    if unknown:
        raise files.refused(f"pools by {', '.join(unknown)}", f"Known are {', '.join(get_args(PoolingMode))}.")
    include = bool(config.get("include_prompt", True)) and not any(
        name.startswith("instructor-") for name in files.names
    )
    return {"pooling": modes, "include_prompt": include}


def _layer(files: PublishedFiles, kind: str, path: str) -> dict[str, Any] | None:
    config = files.read(_join(path, "config.json"), unknown_is_missing=True) or {}
    for end in ("module_input_name", "module_output_name"):
        if config.get(end) not in (None, "sentence_embedding"):
            raise files.refused(f"has a {kind} layer over {config[end]}", "Give its vectors as items.precomputed.")
    if kind == "Dropout":
        return None
    if kind == "Normalize":
        return {"type": "Normalize"}
    if files.find(_join(path, "model.safetensors")) is None:
        raise files.refused(
            f"has no {_join(path, 'model.safetensors')}, and weights in another format are not read",
            "Load it by sentence-transformers once and save it again, or take another copy.",
        )
    if kind == "LayerNorm":
        return {"type": "LayerNorm", "path": path, "dim": config["dimension"]}
    activation = str(config.get("activation_function", "torch.nn.modules.activation.Tanh"))
    name = activation.rpartition(".")[2]
    if not activation.startswith("torch.nn.") or name not in ACTIVATIONS:
        raise files.refused(f"has a Dense layer with {activation}", f"Known are {', '.join(ACTIVATIONS)} of torch.nn.")
    return {
        "type": "Dense",
        "path": path,
        "sizes": [config["in_features"], config["out_features"]],
        "bias": bool(config.get("bias", True)),
        "activation": name,
        "residual": bool(config.get("use_residual", False)),
    }


def _join(path: str, name: str) -> str:
    return f"{path}/{name}" if path else name

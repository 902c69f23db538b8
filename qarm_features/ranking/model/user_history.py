"""All readings of a batch, side by side.

In: a batch, and the representations of its items. Out: inputs of the MLP (B, F) and a linear part of the logit (B,).
User-side tensors may have one row for all B targets, so that what does not depend on the target is computed once.
"""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from qarm_features.ranking.modules.ranking_input import Reading, Rows


class UserHistory(nn.Module):
    """Puts readings side by side.

    Args:
        readings: Readings by the name under which their weights are saved.
        order: Names of the readings in the order of the inputs; readings it does not name follow.
    """

    def __init__(self, readings: Mapping[str, Reading], *, order: Sequence[str]) -> None:
        super().__init__()
        for name, reading in readings.items():
            self.add_module(name, reading)
        self.names = tuple(dict.fromkeys([name for name in order if name in readings] + list(readings)))
        self.output_dim = sum(reading.output_dim for reading in readings.values())

    @property
    def readings(self) -> dict[str, Reading]:
        """The readings by name, in the order of the inputs."""
        readings = {}
        for name in self.names:
            reading = self._modules[name]
            assert isinstance(reading, Reading)
            readings[name] = reading
        return readings

    def linear_weights(self) -> list[Tensor]:
        """Returns the weights of the readings' linear parts of the logit."""
        return [weight for reading in self.readings.values() for weight in reading.linear_weights()]

    def forward(self, rows: Rows) -> tuple[Tensor, Tensor]:
        """Reads a batch.

        Args:
            rows: One batch, with the representation of its targets.

        Returns:
            (B, F) float32 and the linear part of the logit, (B,) float32 or 0.
        """
        parts, linear = [], rows.target.new_zeros(())
        for reading in self.readings.values():
            inputs = reading.read(rows)
            parts.append(inputs.expand(len(rows.target), -1))
            logit = reading.logit(rows, inputs)
            if logit is not None:
                linear = linear + logit
        return torch.cat(parts, dim=1), linear

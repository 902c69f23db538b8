"""The params of `FiniteScalar`, in pyspark.ml's way: camelCase, with setters and getters."""

from __future__ import annotations

import math

from pyspark.ml.param import Param, Params, TypeConverters
from pyspark.ml.param.shared import HasSeed

from qarm_features.quantizers.params.residual_kmeans_params import WeightedColumns

PROJECTIONS, SPACINGS = ("pca", "random"), ("mass", "error")
_MOST_CODES = 2**31


def check_levels(levels: list[int], name: str) -> None:
    """Refuses numbers of scalars out of range.

    Raises:
        ValueError: One is below 2, or their product does not fit an int code.
    """
    if not levels or min(levels) < 2 or math.prod(levels) > _MOST_CODES:
        raise ValueError(
            f"{name} is {levels}, must be numbers from 2 with a product of at most 2**31, as [8, 8, 8, 5]."
        )


class FiniteScalarParams(WeightedColumns, HasSeed):
    """The params of the estimator, see there."""

    levels = Param(Params._dummy(), "levels", "scalars of each dimension.", TypeConverters.identity)
    codebookSize = Param(Params._dummy(), "codebookSize", "the most codes, 2 to 65536.", TypeConverters.toInt)
    projection = Param(Params._dummy(), "projection", "pca or random.", TypeConverters.toString)
    spacing = Param(Params._dummy(), "spacing", "mass or error.", TypeConverters.toString)

    def __init__(self) -> None:
        super().__init__()
        self._setDefault(
            inputCol="residual",
            outputCol="fsq_code",
            levels=None,
            codebookSize=4096,
            projection="pca",
            spacing="mass",
            seed=0,
        )

    def setLevels(self, value: list[int] | None):
        """Sets the scalars of each dimension."""
        return self._set(levels=value)

    def setCodebookSize(self, value: int):
        """Sets the most codes."""
        return self._set(codebookSize=value)

    def setProjection(self, value: str):
        """Sets the axes: pca or random."""
        return self._set(projection=value)

    def setSpacing(self, value: str):
        """Sets where scalars stand: mass or error."""
        return self._set(spacing=value)

    def setSeed(self, value: int):
        """Sets the seed."""
        return self._set(seed=value)

    def getLevels(self) -> list[int] | None:
        """Returns the scalars of each dimension, None where they are to be shared out."""
        return self.getOrDefault(self.levels)

    def getCodebookSize(self) -> int:
        """Returns the most codes."""
        return self.getOrDefault(self.codebookSize)

    def getProjection(self) -> str:
        """Returns the axes."""
        return self.getOrDefault(self.projection)

    def getSpacing(self) -> str:
        """Returns where scalars stand."""
        return self.getOrDefault(self.spacing)

    def check_params(self) -> None:
        """Refuses params out of range.

        Raises:
            ValueError: levels, codebookSize, projection or spacing is.
        """
        if self.getLevels() is not None:
            check_levels(self.getLevels(), "levels")
        if not 2 <= self.getCodebookSize() <= 65_536:
            raise ValueError(f"codebookSize is {self.getCodebookSize()}, must be 2 to 65536.")
        for name, known in (("projection", PROJECTIONS), ("spacing", SPACINGS)):
            if (value := self.getOrDefault(name)) not in known:
                raise ValueError(f"{name} is {value}, must be {' or '.join(known)}.")

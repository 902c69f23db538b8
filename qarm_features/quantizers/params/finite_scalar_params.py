"""The params of ``FiniteScalar``, in camelCase with setters and getters, as pyspark.ml names params.

In: values that a user sets. Out: checked values.
"""

from __future__ import annotations

import math
from typing import Self

from pyspark.ml.param import Param, Params, TypeConverters
from pyspark.ml.param.shared import HasSeed

from qarm_features.quantizers.params.residual_kmeans_params import WeightedColumns

PROJECTIONS, SPACINGS = ("pca", "random"), ("mass", "error")
_MOST_CODES = 2**31


def check_levels(levels: list[int], name: str) -> None:
    """Refuse numbers of scalars that are out of range.

    Args:
        levels: Number of scalars of each dimension.
        name: Name of the param, for the error.

    Raises:
        ValueError: A number is below 2, or the product of all does not fit an int code.

    Example:
        >>> check_levels([8, 8, 8, 5], "levels")
    """
    if not levels or min(levels) < 2 or math.prod(levels) > _MOST_CODES:
        raise ValueError(
            f"{name} is {levels}, must be numbers from 2 with a product of at most 2**31, such as [8, 8, 8, 5]."
        )


class FiniteScalarParams(WeightedColumns, HasSeed):
    """The params of the estimator ``FiniteScalar``, which explains them."""

    levels = Param(Params._dummy(), "levels", "Number of scalars of each dimension.", TypeConverters.identity)
    codebookSize = Param(Params._dummy(), "codebookSize", "Maximal number of codes, 2 to 65536.", TypeConverters.toInt)
    projection = Param(Params._dummy(), "projection", "Axes of the projection: pca or random.", TypeConverters.toString)
    spacing = Param(Params._dummy(), "spacing", "Spacing of the scalars: mass or error.", TypeConverters.toString)

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

    def setLevels(self, value: list[int] | None) -> Self:
        """Set the number of scalars of each dimension."""
        return self._set(levels=value)

    def setCodebookSize(self, value: int) -> Self:
        """Set the maximal number of codes."""
        return self._set(codebookSize=value)

    def setProjection(self, value: str) -> Self:
        """Set the axes of the projection: pca or random."""
        return self._set(projection=value)

    def setSpacing(self, value: str) -> Self:
        """Set the spacing of the scalars: mass or error."""
        return self._set(spacing=value)

    def setSeed(self, value: int) -> Self:
        """Set the seed for random axes."""
        return self._set(seed=value)

    def getLevels(self) -> list[int] | None:
        """Return the number of scalars of each dimension, or None if the fit chooses them."""
        return self.getOrDefault(self.levels)

    def getCodebookSize(self) -> int:
        """Return the maximal number of codes."""
        return self.getOrDefault(self.codebookSize)

    def getProjection(self) -> str:
        """Return the kind of the axes: pca or random."""
        return self.getOrDefault(self.projection)

    def getSpacing(self) -> str:
        """Return the spacing of the scalars: mass or error."""
        return self.getOrDefault(self.spacing)

    def check_params(self) -> None:
        """Refuse params that are out of range.

        Raises:
            ValueError: ``levels``, ``codebookSize``, ``projection`` or ``spacing`` is out of range.
        """
        levels = self.getLevels()
        if levels is not None:
            check_levels(levels, "levels")
        if not 2 <= self.getCodebookSize() <= 65_536:
            raise ValueError(f"codebookSize is {self.getCodebookSize()}, must be 2 to 65536.")
        for name, known in (("projection", PROJECTIONS), ("spacing", SPACINGS)):
            if (value := self.getOrDefault(name)) not in known:
                raise ValueError(f"{name} is {value}, must be {' or '.join(known)}.")

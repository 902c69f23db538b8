"""A ranking input as an installed package would bring it."""

from qarm_features.ranking.modules.history_features import BehaviorCount
from qarm_features.ranking.modules.ranking_input import ranking_input


@ranking_input("from_a_package")
class FromAPackage(BehaviorCount):
    """Reads the number of behaviors."""

"""Runs the job ``mine-item-pairs`` by spark-submit."""

from qarm_features.jobs.command import main
from qarm_features.jobs.mine_item_pairs import mine_item_pairs

if __name__ == "__main__":
    main(mine_item_pairs)

"""Runs the job ``find-nearest-items`` by spark-submit."""

from qarm_features.jobs.command import main
from qarm_features.jobs.find_nearest_items import find_nearest_items

if __name__ == "__main__":
    main(find_nearest_items)

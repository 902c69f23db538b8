"""Runs the job ``monitor`` by spark-submit."""

from qarm_features.jobs.command import main
from qarm_features.jobs.monitor import monitor

if __name__ == "__main__":
    main(monitor)

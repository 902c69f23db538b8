"""Runs the job ``write-report`` by spark-submit."""

from qarm_features.jobs.command import main
from qarm_features.jobs.write_report import write_report

if __name__ == "__main__":
    main(write_report)

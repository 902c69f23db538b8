"""Runs the job ``advise-codes`` by spark-submit."""

from qarm_features.jobs.advise_codes import advise_codes
from qarm_features.jobs.command import main

if __name__ == "__main__":
    main(advise_codes)

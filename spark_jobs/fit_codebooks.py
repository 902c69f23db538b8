"""Runs the job ``fit-codebooks`` by spark-submit."""

from qarm_features.jobs.fit_codebooks import fit_codebooks
from qarm_features.jobs.session import main

if __name__ == "__main__":
    main(fit_codebooks)

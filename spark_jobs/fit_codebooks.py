"""Runs the job ``fit-codebooks`` by spark-submit."""

from qarm_features.jobs.command import main
from qarm_features.jobs.fit_codebooks import fit_codebooks

if __name__ == "__main__":
    main(fit_codebooks)

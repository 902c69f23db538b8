"""Runs the job ``write-content-tokens`` by spark-submit."""

from qarm_features.jobs.command import main
from qarm_features.jobs.write_content_tokens import write_content_tokens

if __name__ == "__main__":
    main(write_content_tokens)

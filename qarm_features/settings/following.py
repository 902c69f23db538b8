"""The section ``follow`` of the settings: how ``qarm follow`` takes up files that arrive.

In: nothing. Out: a pydantic model that ``Settings`` puts together. A new setting is one line here; its description becomes
the comment in ``qarm.yaml``.
"""

from __future__ import annotations

from typing import Literal

from pydantic import Field, field_validator

from qarm_features.settings.section import Section


class Following(Section):
    """How qarm follow takes up files that are added to the folders of the catalog and of the click log."""

    trigger_seconds: float = Field(
        5.0, gt=0, description="Seconds between two looks for new files, above 0; qarm follow --trigger-seconds wins."
    )
    max_files: int = Field(
        100, ge=1, description="Highest number of files of each source that one batch takes up, at least 1."
    )
    on_changed: Literal["keep", "reassign"] = Field(
        "keep",
        description="What happens to the semantic ID of an item whose content has changed: keep it, or reassign it from the "
        "new content. A model that was trained on the old ID sees it move.",
    )
    checkpoint: str | None = Field(
        None,
        description="Folder of this machine that records which files were taken up; null uses the folder follow beside its "
        "locks and logs.",
    )
    metrics_port: int | None = Field(
        None,
        ge=0,
        le=65_535,
        description="Port on which Prometheus finds the lag and the rows of the batches; null opens none.",
    )
    metrics_address: str = Field(
        "127.0.0.1", description="Address of this machine on which metrics_port is open; 0.0.0.0 is every one."
    )

    @field_validator("checkpoint")
    @classmethod
    def _on_this_machine(cls, value: str | None) -> str | None:
        if value is not None and "://" in value:
            raise ValueError("must be a folder of this machine, not a URI")
        return value

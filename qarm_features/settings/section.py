"""What all sections of the settings have in common.

In: nothing. Out: the base of the pydantic models.
"""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict


class Section(BaseModel):
    """A part of the settings: validated, frozen, without unknown names."""

    model_config = ConfigDict(extra="forbid", frozen=True)

"""A job: a function that runs one stage, and the declaration of all that its result depends on.

In: a function that takes a ``JobContext`` and its own flags. Out: a ``Job`` that can be called in the same way, and that
``qarm run`` can skip. Each module beside this one that is named after a job holds that job.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Concatenate, Generic, ParamSpec

from qarm_features.jobs.cautions import rejected_rows
from qarm_features.jobs.context import JobContext
from qarm_features.jobs.counts import Counts as Counts
from qarm_features.jobs.recording import recorded
from qarm_features.jobs.states import Place
from qarm_features.settings.load import Settings

Flags = ParamSpec("Flags")
ExtraInputs = Callable[[Settings], Mapping[str, Any]]


def no_extra_inputs(settings: Settings) -> Mapping[str, Any]:
    """Returns no inputs: everything that the job reads is named by ``reads``."""
    return {}


@dataclass(frozen=True)
class Job(Generic[Flags]):
    """A function that runs one stage, with the names of its inputs and outputs.

    Args:
        function: Function that does the work. It takes a ``JobContext`` and the job's own flags.
        after: Commands that must have run before, for people.
        reads: Tables, artifacts and places that the function reads. A name that starts with "your " is shown only.
        writes: Tables, artifacts and places that the function writes, named in the same way.
        settings: Names of the settings that change the result, for example "codebooks" or "behavior.max_length".
        extra_inputs: Function that returns the state of further inputs by name, for example of the user's own files.
    """

    function: Callable[Concatenate[JobContext, Flags], Counts]
    after: str
    reads: tuple[str | Place, ...]
    writes: tuple[str | Place, ...]
    settings: tuple[str, ...] = ()
    extra_inputs: ExtraInputs = no_extra_inputs

    @property
    def name(self) -> str:
        """Name of the job, which is also the name of its module."""
        return self.function.__name__

    def __call__(self, context: JobContext, *args: Flags.args, **flags: Flags.kwargs) -> Counts:
        """Runs the job in a context, and records the run unless it is a dry one."""

        def work() -> Counts:
            counts = self.function(context, *args, **flags)
            if "rejected_rows" in self.writes:
                found = rejected_rows(counts.rows_in, counts.rows_rejected)
                counts = counts._replace(warnings=(*found, *counts.warnings))
            return counts

        context.describe(self.name)
        try:
            if flags.get("dry_run"):
                return work()
            return recorded(self.name, context, work, reads=self.reads, writes=self.writes)
        finally:
            # Spark would reuse a cached DataFrame although the files behind it have changed.
            if "spark" in vars(context):
                context.spark.catalog.clearCache()


def job(
    *,
    after: str,
    reads: tuple[str | Place, ...],
    writes: tuple[str | Place, ...],
    settings: tuple[str, ...] = (),
    extra_inputs: ExtraInputs = no_extra_inputs,
) -> Callable[[Callable[Concatenate[JobContext, Flags], Counts]], Job[Flags]]:
    """Declares a function as a job; the arguments are those of ``Job``.

    A name in ``reads`` or ``writes`` is the name of a table, or of a kind of artifact with a slash at its end, as in
    ``"codebooks/"``.
    """

    def declare(function: Callable[Concatenate[JobContext, Flags], Counts]) -> Job[Flags]:
        return Job(function, after, reads, writes, settings, extra_inputs)

    return declare

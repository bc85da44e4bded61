"""Every error this project raises on purpose, and the exit code it ends a command with.

SweepError                    exit
  UsageError                     2   bad arguments, space, environment, resources or permissions
    SpaceError                   2   one or more problems in a search space, listed together
    StoreError                   2   the store of a remote --out does not do what it is asked
  StateError                     3   the run folder cannot be trusted as it is; nothing was changed
    StudyUnreadable, SpaceChanged, AlreadyRunning
  TrialsFailed                   1   the baseline or more than half of the trials failed
  Interrupted                   75   stopped on request; the same command goes on
    DiskFull                    75   stopped for lack of space; once some is free the same command goes on
    StorageLost                 75   the study's database went away; once it is back the same command goes on
TrialFailed                          one trial's reason; never ends a sweep
LeaseLost                            another driver took a trial over; never ends a sweep
ExportFailed                         a policy cannot be written as a file of its own, which is left out
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from difflib import get_close_matches

EXIT_DONE = 0
EXIT_TRIALS_FAILED = 1
EXIT_USAGE = 2
EXIT_STATE = 3
EXIT_INTERRUPTED = 75


class SweepError(Exception):
    """Base of the errors that end a command; `exit_code` is what the shell sees."""

    exit_code = EXIT_TRIALS_FAILED


class UsageError(SweepError):
    """What was asked for cannot be done; nothing was started or changed."""

    exit_code = EXIT_USAGE


class SpaceError(UsageError):
    """A search space has problems; `problems` holds one line for each."""

    def __init__(self, problems: Sequence[str], source: str = "") -> None:
        self.problems = list(problems)
        self.source = source
        count = "1 problem" if len(self.problems) == 1 else f"{len(self.problems)} problems"
        prefix = f"{source}: " if source else ""
        lines = [f"{source or 'search space'}: {count}", *(f"  {prefix}{problem}" for problem in self.problems)]
        super().__init__("\n".join(lines))

    def at(self, source: str) -> SpaceError:
        """The same problems, naming the file or option they come from."""
        return SpaceError(self.problems, source)


class StoreError(UsageError):
    """The store of a remote `--out` does not do what it is asked; once a sweep runs, it is asked again."""


class StateError(SweepError):
    """A run folder cannot be used as it is; nothing in it was changed."""

    exit_code = EXIT_STATE


class StudyUnreadable(StateError):
    """The study's database cannot be read."""


class SpaceChanged(StateError):
    """The run folder was written for a different sweep."""


class AlreadyRunning(StateError):
    """Another live process owns the run folder."""


class TrialsFailed(SweepError):
    """The sweep ended, but what failed is too much to trust the rest."""

    exit_code = EXIT_TRIALS_FAILED


class Interrupted(SweepError):
    """Stopped on request; the same command goes on."""

    exit_code = EXIT_INTERRUPTED


class DiskFull(Interrupted):
    """Stopped because the disk is full, or soon would be; once some of it is free the same command goes on."""


class StorageLost(Interrupted):
    """The study's database went away; once it is back the same command goes on."""


class LeaseLost(Exception):
    """Another driver took a trial over; what this one knows of it counts no more."""


class TrialFailed(Exception):
    """A configuration or its environment failed; the message is the trial's recorded reason."""


class ExportFailed(Exception):
    """A policy cannot be written as a file of its own; the message says which and why."""


def nearest(word: str, known: Iterable[str]) -> str:
    """`; did you mean "x"?` for the known words close to `word`, or an empty string."""
    matches = get_close_matches(word, list(known), n=3, cutoff=0.5)
    return f"; did you mean {' or '.join(repr(match) for match in matches)}?".replace("'", '"') if matches else ""

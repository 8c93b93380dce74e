"""Less of the processor for what can wait, so that readings which arrive meanwhile do not."""

import os

NICENESS = 10


def give_way() -> None:
    """Let others go first from now on; on Linux this counts for the calling thread and those that it starts."""
    os.nice(NICENESS)

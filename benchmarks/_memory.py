"""The most memory this program held."""

from __future__ import annotations

import resource
from pathlib import Path


def peak_bytes() -> int:
    """Largest resident set since this program began.

    `getrusage` counts from the fork, so a small child of a large process would seem large.
    """
    status = Path("/proc/self/status")
    if not status.exists():
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    held = next(line for line in status.read_text().splitlines() if line.startswith("VmHWM"))
    return int(held.split()[1]) * 1024

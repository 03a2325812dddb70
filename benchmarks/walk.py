"""The walk of an import through the package: modules met, and calls from one module to another.

`python3 run.py bench walk [--lines N] [--bad SHARE] [--path]`. Some made-up lines are imported into
a new store in this process, after a first import that loads the modules. A hop is a call, or a
resumption of a generator, whose direct caller is a function of another module of the package.
`--bad` is the share of lines that the fast path leaves to the reference parser or that are no
responses. `--path` prints the hops of one line in order.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections import Counter
from itertools import pairwise
from pathlib import Path
from types import FrameType
from typing import Any

import verifyanalytics as va
from benchmarks._answers import answers

INSIDE = "verifyanalytics."


def hops_of_an_import(lines: list[bytes]) -> list[tuple[str, str, str]]:
    """Import some lines; give (calling module, called module, called function) of each hop."""
    hops: list[tuple[str, str, str]] = []

    def profile(frame: FrameType, event: str, _: Any) -> None:
        if event != "call" or frame.f_back is None:
            return
        called = str(frame.f_globals.get("__name__", ""))
        calling = str(frame.f_back.f_globals.get("__name__", ""))
        if calling != called and called.startswith(INSIDE) and calling.startswith(INSIDE):
            hops.append((calling, called, frame.f_code.co_qualname))

    with tempfile.TemporaryDirectory() as folder:
        for name in ("warm", "measured"):
            place = Path(folder) / name
            place.mkdir()
            (place / "a.ndjson").write_bytes(b"".join(lines))
            if name == "measured":
                sys.setprofile(profile)
            try:
                va.import_responses(place / "a.ndjson", place / "store", workers=0)
            finally:
                sys.setprofile(None)
    return hops


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--lines", type=int, default=7)
    parser.add_argument("--bad", type=float, default=0.3)
    parser.add_argument("--path", action="store_true", help="print the walk of one line")
    given = parser.parse_args()
    hops = hops_of_an_import(list(answers(given.lines, bad=given.bad)))
    modules = {module for hop in hops for module in hop[:2]}
    print(f"import of {given.lines} lines: {len(modules)} modules, {len(hops)} hops")
    pairs = Counter((calling, called) for calling, called, _ in hops)
    for (calling, called), n in pairs.most_common():
        print(f"{n:5}  {calling.removeprefix(INSIDE)} → {called.removeprefix(INSIDE)}")
    if given.path:
        walk = [f"{called.removeprefix(INSIDE)}.{name}" for _, called, name in
                hops_of_an_import(list(answers(1)))]  # fmt: skip
        print("\n".join([walk[0], *(b for a, b in pairwise(walk) if a != b)]))


if __name__ == "__main__":
    main()

"""The demos: a synthetic sample from import to charts, and calls to a vendor that misbehaves."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from verifyanalytics.analysis import scores, tags, verdicts
from verifyanalytics.collecting.run import CollectSummary
from verifyanalytics.collecting.verbs import collect, resolve
from verifyanalytics.errors import StorageError, UsageError
from verifyanalytics.importing.progress import ImportProgress, ImportSummary
from verifyanalytics.importing.run import import_responses
from verifyanalytics.notebooks import build as notebooks
from verifyanalytics.simulator import serve, simulate
from verifyanalytics.store.store import Store
from verifyanalytics.vendor.api import UNKNOWN_TOKEN
from verifyanalytics.vendor.client import Client
from verifyanalytics.vendor.credentials import Credentials

if TYPE_CHECKING:
    import pandas as pd

_MARK = "demo.json"
_PACKAGE = Path(__file__).parent
_SAMPLES = (_PACKAGE / "_share" / "sample", _PACKAGE.parent / "data" / "sample")
"""Where the sample may lie: in an installed wheel, in a clone."""


@dataclass(frozen=True)
class Demo:
    """What the demo made."""

    out: Path
    store: Path
    imported: ImportSummary
    tables: dict[str, pd.DataFrame]  # the summary: a few small tables by title
    charts: list[Path]  # PNG files
    page: Path  # the first look as one HTML file that loads nothing from outside


def run_demo(
    out: str | Path = "out/demo", *, progress: Callable[[ImportProgress], object] | None = None
) -> Demo:
    """Import the synthetic sample, sum it up, draw the charts and run the first notebook.

    Parameters
    ----------
    out : path
        A folder that is new, empty, or of an earlier demo, which is replaced.
    progress : callable, optional
        As of `import_responses`.

    Returns
    -------
    Demo

    Raises
    ------
    UsageError
        The folder holds something else.
    StorageError
        It cannot be written.

    See Also
    --------
    report : The weekly report of a store.
    simulate : More synthetic data, of any size.

    Examples
    --------
    The whole demo takes about a minute. It replaces no folder but its own:

    >>> import verifyanalytics as va
    >>> va.run_demo(Path(va.__file__).parent)  # doctest: +ELLIPSIS
    Traceback (most recent call last):
    verifyanalytics.errors.UsageError: ... holds something else than a demo; give another folder
    """
    folder = Path(out).absolute()
    try:
        prepare(folder)
        with closing(Store(folder / "store", create=True)) as store:
            imported = import_responses(_sample(folder), store, progress=progress)
            v = store.read("verifications")
        return Demo(
            out=folder,
            store=folder / "store",
            imported=imported,
            tables=_summary(v),
            charts=_draw(v, folder / "charts"),
            page=notebooks.execute(
                "01_first_look", {"STORE": str(folder / "store")}, folder / "first_look.html"
            ),
        )
    except OSError as error:
        where = error.filename or folder
        raise StorageError(f"demo: {where}: {error.strerror}", path=folder) from error


def prepare(folder: Path) -> None:
    """Make the folder, or empty one that an earlier demo made; refuse any other."""
    if folder.exists() and not folder.is_dir():
        raise UsageError(f"{folder} is a file; give a folder")
    if folder.is_dir() and any(folder.iterdir()):
        if not (folder / _MARK).is_file():
            raise UsageError(f"{folder} holds something else than a demo; give another folder")
        shutil.rmtree(folder)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / _MARK).write_text(
        json.dumps({"about": "made by the demo; a new demo replaces this folder"}) + "\n",
        encoding="utf-8",
    )


def _sample(folder: Path) -> list[Path]:
    for place in _SAMPLES:
        if paths := sorted(place.glob("*.ndjson*")):
            return paths
    # an installation without the sample: simulate one of the same size
    simulated = simulate(
        20_000, seed=1, out=folder / "sample", by="month", repeats=40, oddities=True
    )
    return [path for path in simulated.paths if ".ndjson" in path.suffixes]


def _summary(v: Any) -> dict[str, pd.DataFrame]:
    """Sum up verifications in a few small tables, by title."""
    levels = scores.vendor_thresholds(v)
    pass_rule = levels[(levels["level"] == "1e-4") & levels["threshold"].notna()]
    each = [
        ("The vendor's verdict", verdicts.acceptance_rate(v, every="month"),
         ["period", "n_decided", "n_accepted"], "acceptance_rate"),
        ("The first gate that failed, and the verdict", verdicts.funnel(v),
         ["first_gate", "result", "n_rows"], "share"),
        ("Scores at the vendor's pass rule (claimed FMR 1e-4)", pass_rule,
         ["regime", "threshold", "first_at", "n"], "match_rate"),
        ("Verdicts that contradict the numbers", verdicts.contradictions(v),
         ["regime", "meaning", "n_rows", "n_of"], "share"),
        ("Most frequent risk tags", tags.rates(v).head(8),
         ["tag", "name_en", "n_tag", "n"], "tag_rate"),
    ]  # fmt: skip
    return {
        title: frame[[*columns, rate, f"{rate}_low", f"{rate}_high"]]
        for title, frame, columns, rate in each
    }


def _draw(v: Any, folder: Path) -> list[Path]:
    """Draw each chart of the first look into a PNG file."""
    import numpy as np
    from matplotlib import pyplot as plt

    from verifyanalytics import charts

    axes = {
        "score_histogram": charts.scores.histogram(scores.histogram(v)),
        "match_rates": charts.scores.match_rates(scores.match_rates(v, range(50, 100))),
        "vendor_thresholds": charts.scores.vendor_thresholds(
            scores.vendor_thresholds(v, every="week")
        ),
        "tag_rates": charts.tags.rates(tags.rates(v)),
    }
    folder.mkdir()
    for name, drawn in axes.items():
        figure = np.ravel(drawn)[0].figure
        figure.savefig(folder / f"{name}.png", dpi=120)
        plt.close(figure)
    return [folder / f"{name}.png" for name in axes]


# ------------------------------------------------------------------ the live demo

FAULTS = """
rate_50429    share=0.05 retry_after=0
reset_after   share=0.02
reset_before  share=0.02
html_504      share=0.01
truncated_json share=0.01
"""
"""What goes wrong: limits, calls lost before and after they were processed, replies cut off."""

_ROUNDS = 20
"""Five lost calls in a row stop a run of the collector; so many runs are started at most."""


@dataclass(frozen=True)
class LiveDemo:
    """What the live demo saw: two summaries of the collector, and both bills side by side."""

    store: Path
    collected: CollectSummary
    resolved: CollectSummary
    runs: int
    bill: pd.DataFrame
    tables: pd.DataFrame


def run_live_demo(folder: Path, *, n: int = 300, seed: int = 1) -> LiveDemo:
    """Collect `n` simulated calls with faults into a store in a folder, and compare the bills."""
    import pandas as pd

    fixed = {"req_key": "cert_pro_src_verify", "sdk_data": "simulated", "risk_info": "simulated"}
    requests = [{**fixed, "byted_token": f"demo-{number:04}"} for number in range(n)]
    with (
        serve(seed=seed, faults=FAULTS, latency=0.005, ready_after=0.0) as service,
        closing(Store(folder / "store", create=True)) as store,
    ):
        client = Client(Credentials(service.access_key, service.secret_key), service.address)
        runs, left = 0, n
        while left and runs < _ROUNDS:
            runs += 1
            collected = collect(requests, store, client=client, rate=200.0)
            left = collected.states["PLANNED"]
        resolved = resolve(store, client=client, rate=200.0, grace_s=0.0, no_result=UNKNOWN_TOKEN)
        counted = service.bill()
        received = resolved.states["OK"] + resolved.states["REJECTED"]
        bill = pd.DataFrame(
            [
                ("calls processed", received, counted.processed),
                ("processed more than once", 0, counted.repeated),
                ("units billed", resolved.billed, counted.billed),
                ("calls whose billing is unknown", resolved.unknown, 0),
                ("rows in the store", len(store.read("verifications")), counted.processed),
            ],
            columns=["count", "collector", "vendor"],
        )
        return LiveDemo(store.path, collected, resolved, runs, bill, store.tables())

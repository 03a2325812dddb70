"""The demo: the synthetic sample imported, summed up, drawn, and read as a notebook.

It walks the whole street once, with public functions only: what it does can be done by hand with
one's own data.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from verifyanalytics.analysis.scores.distributions import histogram as score_histogram
from verifyanalytics.analysis.scores.distributions import match_rates, vendor_thresholds
from verifyanalytics.analysis.tags.frequencies import rates as tag_rates
from verifyanalytics.analysis.verdicts.decisions import acceptance_rate, contradictions, funnel
from verifyanalytics.errors import StorageError, UsageError
from verifyanalytics.importing.progress import ImportProgress, ImportSummary
from verifyanalytics.importing.run import import_responses
from verifyanalytics.notebooks import build as notebooks
from verifyanalytics.simulator import simulate
from verifyanalytics.store.store import Store

if TYPE_CHECKING:
    import pandas as pd

_MARK = "demo.json"
_PACKAGE = Path(__file__).parent
_SAMPLES = (_PACKAGE / "_share" / "sample", _PACKAGE.parent / "data" / "sample")
"""Where the sample may lie: in an installed wheel, in a clone."""

_SIMULATED = 20_000
_TOP_TAGS = 8


@dataclass(frozen=True)
class Demo:
    """What the demo made.

    Attributes
    ----------
    out : Path
        The folder.
    store : Path
        The store in it; every verb works on it with `--store`.
    imported : ImportSummary
    tables : dict of str to pandas.DataFrame
        The summary: a few small tables by title.
    charts : list of Path
        PNG files.
    page : Path
        The first look as one HTML file that needs nothing from outside.
    """

    out: Path
    store: Path
    imported: ImportSummary
    tables: dict[str, pd.DataFrame]
    charts: list[Path]
    page: Path


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
            tables=summary(v),
            charts=_draw(v, folder / "charts"),
            page=notebooks.execute(
                "01_first_look", {"STORE": str(folder / "store")}, folder / "first_look.html"
            ),
        )
    except OSError as error:
        where = error.filename or folder
        raise StorageError(f"demo: {where}: {error.strerror}", path=folder) from error


def prepare(folder: Path) -> None:
    """Make the folder, or empty one that an earlier demo made; touch nothing else."""
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
    """Find the sample that travels with us, or simulate one."""
    for place in _SAMPLES:
        if found := sorted(place.glob("*.ndjson*")):
            return found
    simulated = simulate(
        _SIMULATED, seed=1, out=folder / "sample", by="month", repeats=40, oddities=True
    )
    return [path for path in simulated.paths if ".ndjson" in path.suffixes]


# ------------------------------------------------------------------ what is said


def summary(v: Any) -> dict[str, pd.DataFrame]:
    """Sum up verifications in a few small tables, by title.

    Parameters
    ----------
    v : frame of verifications

    Returns
    -------
    dict of str to pandas.DataFrame
        Counts, rates and 95 % intervals; see the functions of the same kind for their meaning.
    """
    levels = vendor_thresholds(v)
    pass_rule = levels[(levels["level"] == "1e-4") & levels["threshold"].notna()]
    return {
        "The vendor's verdict": acceptance_rate(v, every="month")[
            ["period", "n_decided", "n_accepted", *_rate("acceptance_rate")]
        ],
        "The first gate that failed, and the verdict": funnel(v)[
            ["first_gate", "result", "n_rows", *_rate("share")]
        ],
        "Scores at the vendor's pass rule (claimed FMR 1e-4)": pass_rule[
            ["regime", "threshold", "first_at", "n", *_rate("match_rate")]
        ],
        "Verdicts that contradict the numbers": contradictions(v)[
            ["regime", "meaning", "n_rows", "n_of", *_rate("share")]
        ],
        "Most frequent risk tags": tag_rates(v).head(_TOP_TAGS)[
            ["tag", "name_en", "n_tag", "n", *_rate("tag_rate")]
        ],
    }


def _rate(name: str) -> list[str]:
    return [name, f"{name}_low", f"{name}_high"]


# ------------------------------------------------------------------ what is shown


def _draw(v: Any, folder: Path) -> list[Path]:
    """Draw each chart of the first look into a PNG file."""
    import numpy as np
    from matplotlib import pyplot as plt

    from verifyanalytics import charts

    pictures: dict[str, Callable[[], Any]] = {
        "score_histogram": lambda: charts.scores.histogram(score_histogram(v)),
        "match_rates": lambda: charts.scores.match_rates(match_rates(v, range(50, 100))),
        "vendor_thresholds": lambda: charts.scores.vendor_thresholds(
            vendor_thresholds(v, every="week")
        ),
        "tag_rates": lambda: charts.tags.rates(tag_rates(v)),
    }
    folder.mkdir()
    paths = []
    for name, draw in pictures.items():
        figure = np.ravel(draw())[0].figure
        paths.append(folder / f"{name}.png")
        figure.savefig(paths[-1], dpi=120)
        plt.close(figure)
    return paths

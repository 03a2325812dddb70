"""The threshold tuner, `va.tune`: move a threshold by hand and read what it would do.

Everything is counted once, per regime and segment; after that a move reads running sums, draws one
rule over a fixed picture, and sends it as a PNG. So it costs the same on a thousand rows and on ten
million. The numbers are those of `va.scores.match_rates`, `va.bounds.label_free`,
`va.scores.what_if` and `va.accuracy.error_rates`; the field below the picture holds the calls that
give them. Without a front end (a script, a notebook run by a program) a figure shows the same.
"""

from __future__ import annotations

import base64
import math
from collections.abc import Mapping, Sequence
from typing import Any

import ipywidgets as widgets
import narwhals as nw
import pandas as pd
from IPython import get_ipython

from verifyanalytics.analysis import labels
from verifyanalytics.arguments import number
from verifyanalytics.charts.style import usable
from verifyanalytics.codebook.book import Lang
from verifyanalytics.errors import UsageError
from verifyanalytics.tuner import panel
from verifyanalytics.tuner.counts import EVERYONE, K, Segment, Tally
from verifyanalytics.tuner.labelled_counts import LabelledTally
from verifyanalytics.tuner.picture import Picture, still

_LANGUAGES = (("English", "en"), ("中文", "zh"), ("English · 中文", "both"))
_SLIDE = 0.5  # a pixel of the slider is about this much; the box takes hundredths


def tune(
    v: Any,
    truth: Any = None,
    *,
    by: str | Sequence[str] | None = None,
    threshold: float | None = None,
    regime: str | None = None,
    segment: tuple[str, str] | None = None,
    lang: str = "en",
    assume_random: bool = False,
    cluster: str | None = "subject",
) -> Tuner:
    """Move a threshold by hand and see what it would do: match rate, bounds, who would change.

    Parameters
    ----------
    v : frame of verifications
        pandas, Polars, Arrow, a DuckDB relation or another lazy frame, such as `store.scan()`.
    truth : frame, optional
        From `va.labels.join`, or a frame of labels, which is joined to `v` here.
    by : str or sequence of str, optional
        Columns to choose segments by, such as `ctx_channel`; of at most 60 values each. Values
        without a single score are not offered.
    threshold : float, optional
        Where to begin: 0 to 100 in steps of 0.01, or a threshold of the vendor's. Default: the
        regime's own 1e-4 threshold, today's.
    regime : str, optional
        Default: the regime with most scores. Regimes are never pooled.
    segment : tuple of str, optional
        Column and value to begin with.
    lang : {"en", "zh", "both"}
    assume_random, cluster
        As in `va.accuracy.error_rates`.

    Returns
    -------
    Tuner
        Shows itself at the end of a cell: controls in a front end, else a figure. In a plain
        script the figure is pyplot's, and `plt.show()` shows it.

    Raises
    ------
    MissingColumnError, UsageError
        A needed column is not there; no row has a score; no such regime, segment or language.

    Notes
    -----
    Making it passes over the data a few times; a move does not. Labelled rows are kept in memory,
    some 100 bytes each.

    See Also
    --------
    verifyanalytics.scores.match_rates, verifyanalytics.bounds.label_free,
    verifyanalytics.scores.what_if, verifyanalytics.accuracy.error_rates

    Examples
    --------
    >>> from matplotlib import pyplot
    >>> v = pd.DataFrame({"code": 10000, "sub_code": 0, "score": [65.0, 75.0, 85.0], "alive": True,
    ...     "result": [False, True, True], "threshold_1e_3": 60, "threshold_1e_4": 70,
    ...     "threshold_1e_5": 80, "threshold_1e_6": 90})
    >>> tuner = tune(v, threshold=80)
    >>> tuner.tables()["match_rates"][["threshold", "n_match", "n"]].values.tolist()
    [[80.0, 1.0, 3.0]]
    >>> pyplot.close("all")
    """
    keys = [by] if isinstance(by, str) else list(by or ())
    usable(lang)  # refuses what is no language before anything is counted
    tally = Tally(v, keys)
    labelled, given = None, ""
    if truth is not None:
        given = "truth"
        if "score" not in nw.from_native(truth).collect_schema().names():
            truth, given = labels.join(v, truth), "labels"
        labelled = LabelledTally(truth, keys, cluster=cluster, assume_random=assume_random)
    settings: dict[str, Any] = {"assume_random": True} if assume_random else {}
    settings |= {"cluster": cluster} if cluster != "subject" else {}
    made = Tuner(tally, labelled, given, keys, settings)
    made.set(threshold=threshold, regime=regime, segment=segment, lang=lang)
    if get_ipython() is None:
        made.figure()
    return made


class Tuner:
    """A threshold, a regime, a segment and a language, and what follows from them.

    Made by `tune`. `set` moves it from code as the controls do by hand; `tables` are the numbers
    shown; `code` gives the calls that reproduce them.

    Attributes
    ----------
    widget : ipywidgets.VBox
        The controls.
    """

    def __init__(
        self,
        tally: Tally,
        labelled: LabelledTally | None,
        given: str,
        keys: Sequence[str],
        settings: Mapping[str, Any],
    ) -> None:
        self._tally, self._labelled = tally, labelled
        self._given, self._keys, self._settings = given, list(keys), dict(settings)
        self._regime, self._segment = tally.regimes()[0], EVERYONE
        self._threshold = math.nan  # until the first `set`
        self._lang: Lang = "en"
        self._picture, self._drawn = Picture(), ("", EVERYONE, "")
        self._busy = False
        self._make_widgets()

    # -------------------------------------------------------------- state

    @property
    def threshold(self) -> float:
        """The threshold, 0–100."""
        return self._threshold

    @property
    def regime(self) -> str:
        """The regime whose rows are looked at."""
        return self._regime

    @property
    def segment(self) -> tuple[str, str] | None:
        """Column and value of the segment; None is everyone."""
        return None if self._segment == EVERYONE else (self._segment.column, self._segment.value)

    @property
    def lang(self) -> str:
        """The language: `en`, `zh` or `both`."""
        return self._lang

    def set(
        self,
        *,
        threshold: float | None = None,
        regime: str | None = None,
        segment: tuple[str, str] | None = None,
        lang: str | None = None,
    ) -> None:
        """Move the tuner; what is not given stays (at first: the regime's own 1e-4 threshold).

        The segment `("", "")` is everyone.

        Raises
        ------
        UsageError
            No such threshold, regime, segment or language.
        """
        new_regime = self._regime if regime is None else regime
        if new_regime not in self._tally.regimes():
            raise UsageError(
                f"no regime {regime!r} with a score; there are: {', '.join(self._tally.regimes())}"
            )
        new_segment = self._segment if segment is None else _segment(segment)
        if (new_regime, new_segment) not in self._tally.groups:
            if segment is not None:
                raise UsageError(f"no score of {segment!r} in regime {new_regime}")
            new_segment = EVERYONE
        new_lang = self._lang if lang is None else usable(lang)
        new_threshold = self._threshold if threshold is None else number(threshold, "threshold")
        if threshold is None and math.isnan(new_threshold):
            new_threshold = float(self._tally.groups[new_regime, EVERYONE].points[1])
        self._tally.at(new_threshold)
        self._regime, self._segment, self._lang = new_regime, new_segment, new_lang
        self._threshold = new_threshold
        self._refresh()

    # -------------------------------------------------------------- what is shown

    def tables(self) -> dict[str, pd.DataFrame]:
        """Return the numbers that are shown, as the rows of the functions that they are named by.

        Returns
        -------
        dict of DataFrame
            `match_rates`, `label_free`, `what_if` (unit `rows`, without `not_needed`) and,
            with labels, `error_rates` (empty where none is labelled).
        """
        at = (self._regime, self._segment, self._threshold)
        found = {
            "match_rates": self._tally.match_rates(*at),
            "label_free": self._tally.label_free(*at),
            "what_if": self._tally.what_if(*at),
        }
        if self._labelled is not None:
            found["error_rates"] = self._labelled.error_rates(*at)
        return found

    @property
    def code(self) -> str:
        """The calls that give what is shown, and the tuner as it stands."""
        segment = self._segment
        by = f", by={segment.column!r}" if segment.column else ""
        here = '(table["regime"] == regime)'
        if segment.column:
            here += f" & (table[{segment.column!r}].map(str) == {segment.value!r})"
        lines = [
            f"regime, threshold = {self._regime!r}, {self._threshold!r}",
            f"here = lambda table: table[{here}]",
            f"here(va.scores.match_rates(v, threshold{by}))",
            f"here(va.bounds.label_free(v, threshold, k={K}{by}))",
            f"here(va.scores.what_if(v, threshold{by}))",
        ]
        more = "".join(f", {name}={value!r}" for name, value in self._settings.items())
        if self._labelled is not None:
            if self._given == "labels":
                lines.insert(2, "truth = va.labels.join(v, labels)")
            if segment.column not in ("result", "mated") and self._labelled.both_classes:
                lines.append(f"here(va.accuracy.error_rates(truth, threshold{by}{more}))")
        given = f", {self._given}" if self._given else ""
        listed = f", by={self._keys!r}" if self._keys else ""
        chosen = f", segment={self.segment!r}" if self.segment else ""
        state = f"threshold=threshold, regime=regime{chosen}, lang={self._lang!r}{more}"
        return "\n".join([*lines, f"va.tune(v{given}{listed}, {state})"])

    def figure(self) -> Any:
        """Return a figure of what is shown: in a notebook its own, else pyplot's for `show`."""
        from matplotlib.figure import Figure

        if get_ipython() is None:
            from matplotlib import pyplot as plt

            figure: Any = plt.figure("va.tune", clear=True)
        else:
            figure = Figure()
        still(
            figure,
            self._tally.histogram(self._regime, self._segment),
            self._threshold,
            self._match_rate(),
            self._sections(self.tables()),
            self._lang,
        )
        return figure

    def png(self) -> bytes:
        """Return the picture that the front end shows, as PNG."""
        wanted = (self._regime, self._segment, self._lang)
        if wanted != self._drawn:
            self._picture.show(self._tally.histogram(self._regime, self._segment), self._lang)
            self._drawn = wanted
        return self._picture.png(self._threshold, self._match_rate())

    def _match_rate(self) -> float:
        group = self._tally.groups[self._regime, self._segment]
        n = group.totals["n_scored"] + group.totals["n_withheld"]
        return int(group.reached[self._tally.at(self._threshold)]) / n

    def _sections(self, tables: dict[str, pd.DataFrame]) -> list[panel.Section]:
        own = float(self._tally.groups[self._regime, self._segment].points[1])
        segment = " = ".join(self.segment) if self.segment else ""
        return panel.sections(tables, own, self._lang, segment)

    def _repr_mimebundle_(self, **_: Any) -> dict[str, Any]:
        """Show controls where there is a front end for them, the figure where there is none."""
        import io

        with io.BytesIO() as file:
            self.figure().savefig(file, format="png", dpi=110)
            picture = base64.b64encode(file.getvalue()).decode("ascii")
        views = self.widget._repr_mimebundle_() or {}
        text = panel.to_text(self._sections(self.tables()))
        return {**views, "image/png": picture, "text/plain": text}

    # -------------------------------------------------------------- controls

    def _make_widgets(self) -> None:
        wide = {"description_width": "initial"}
        fit = widgets.Layout(width="auto", min_width="190px")
        self._regimes = widgets.Dropdown(options=self._tally.regimes(), style=wide, layout=fit)
        self._segments = widgets.Dropdown(style=wide, layout=fit)
        self._languages = widgets.Dropdown(options=_LANGUAGES, style=wide, layout=fit)
        self._slider = widgets.FloatSlider(
            min=0, max=100, step=_SLIDE, readout=False, style=wide,
            layout=widgets.Layout(width="480px"),
        )  # fmt: skip
        self._box = widgets.BoundedFloatText(
            min=0, max=100, step=0.01, layout=widgets.Layout(width="110px")
        )
        self._image = widgets.Image(
            format="png", layout=widgets.Layout(width="600px", max_width="100%", height="auto")
        )
        self._numbers = widgets.HTML(layout=widgets.Layout(flex="1 1 380px"))
        self._title = widgets.Label()
        self._code = widgets.Textarea(
            rows=8, layout=widgets.Layout(width="auto", max_width="1040px")
        )
        rows = [self._regimes, *([self._segments] if self._keys else []), self._languages]
        choose = widgets.HBox(rows, layout=widgets.Layout(flex_flow="row wrap"))
        move = widgets.HBox([self._slider, self._box])
        seen = widgets.HBox(
            [widgets.VBox([move, self._image]), self._numbers],
            layout=widgets.Layout(flex_flow="row wrap", grid_gap="0 24px"),
        )
        self.widget = widgets.VBox([choose, seen, self._title, self._code])
        for control in (self._regimes, self._segments, self._languages, self._slider, self._box):
            control.observe(self._moved, names="value")

    def _moved(self, change: Mapping[str, Any]) -> None:
        """Take a control's new value over."""
        if self._busy:  # it is us who set the control
            return
        control, value = change["owner"], change["new"]
        if control is self._regimes:
            self.set(regime=value)
        elif control is self._segments:
            self._segment = value
            self._refresh()
        elif control is self._languages:
            self.set(lang=value)
        else:
            self.set(threshold=self._near(value))

    def _near(self, value: float) -> float:
        """Return the threshold that a control means: its own value, or the next hundredth."""
        exact = float(value) in self._tally.groups[self._regime, EVERYONE].points
        return float(value) if exact else round(float(value), 2)

    def _refresh(self) -> None:
        tables = self.tables()
        self._busy = True
        try:
            self._name_controls()
            self._regimes.value = self._regime
            self._segments.value = self._segment
            self._languages.value = self._lang
            self._box.value = self._threshold
            # between two steps the browser would move the slider, and the threshold with it
            self._slider.value = round(self._threshold / _SLIDE) * _SLIDE
        finally:
            self._busy = False
        self._image.value = self.png()
        self._numbers.value = panel.to_html(self._sections(tables))
        self._code.value = self.code

    def _name_controls(self) -> None:
        lang = self._lang
        named = [
            (panel.word("everyone", lang) if s == EVERYONE else f"{s.column} = {s.value}", s)
            for s in self._tally.segments(self._regime)
        ]
        if [*self._segments.options] != named:
            self._segments.options = named
        controls = {
            "regime": self._regimes,
            "segment": self._segments,
            "language": self._languages,
            "threshold": self._slider,
        }
        for key, control in controls.items():
            control.description = panel.word(f"control_{key}", lang)
        truth = "code_truth" if self._given else "code"
        self._title.value = panel.word(truth, lang, truth=self._given)


def _segment(given: Any) -> Segment:
    if not isinstance(given, tuple | list) or len(given) != 2:
        raise UsageError(f"a segment is (column, value), as ('ctx_channel', 'app'), not {given!r}")
    return Segment(*map(str, given))

"""What a report looks for in the data of its periods, for its first sentence and its table."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from verifyanalytics.analysis.base.regimes import INCOMPLETE
from verifyanalytics.analysis.base.rows import GATES
from verifyanalytics.reporting.changes import Change, Count
from verifyanalytics.reporting.data import Figures, Slice


@dataclass(frozen=True, slots=True)
class Check:
    """One thing that is looked for: the key of its name, and how often it was found."""

    key: str
    change: Change

    @property
    def found(self) -> bool:
        """It is there, in either period."""
        before = self.change.before
        return bool(self.change.now.x or (before and before.x))

    @property
    def absent(self) -> bool:
        """It could have been there in this period, and is not there."""
        return not self.found and self.change.now.n > 0


def checks(f: Figures) -> list[Check]:
    """Look for everything that is odd about the answers of the period and of that before."""
    looked: dict[str, Callable[[Slice], Count]] = {
        "d_no_risk": _no_risk,
        "d_incomplete": _incomplete,
        "d_undecided": _undecided,
        "d_despite": despite,
        "d_issues": lambda part: Count(part.n_with_issues, part.n_rows, part.deff),
    }
    if not f.partial:
        looked["d_days"] = lambda part: _empty_days(f, part)
    return [
        Check(key, Change(count(f.now), count(f.before) if f.before is not None else None))
        for key, count in looked.items()
    ]


def despite(part: Slice) -> Count:
    """Rows accepted although a gate fails, of those accepted."""
    table = part.funnel
    accepted = table["result"].fillna(value=False).astype(bool)
    n = int(table.loc[accepted & table["first_gate"].isin(GATES), "n_rows"].sum())
    return Count(n, part.accepted.x, part.deff)


def _no_risk(part: Slice) -> Count:
    return Count(int(part.funnel["n_risk_not_asked"].sum()), part.n_rows, part.deff)


def _incomplete(part: Slice) -> Count:
    held = part.regimes
    odd = held[held["regime"] == INCOMPLETE]
    return Count(int(odd["n_answered"].sum()), int(held["n_answered"].sum()), part.deff)


def _undecided(part: Slice) -> Count:
    """Answers without a verdict."""
    table = part.funnel[part.funnel["first_gate"] != "answered"]
    n = int(table.loc[table["result"].isna(), "n_rows"].sum())
    return Count(n, int(table["n_rows"].sum()), part.deff)


def _empty_days(f: Figures, part: Slice) -> Count:
    """Days of a whole period without any call, of its days."""
    period = f.period if part is f.now or f.compared is None else f.compared
    n_days = (period.after.start - period.start).days
    return Count(n_days - int(part.days["starts_at"].notna().sum()), n_days)

"""The simulated world: its parameters and their ranges, and the rates that are true of it.

The vendor's claim F(t), the false-match rate at score t, is log-linear between the four thresholds.
Scores of nonmated attempts are drawn by its inverse, so that P(score >= t) = k · F(t) at every
score t with two decimals from the 1e-3 threshold upwards: with k = 1 the claim is true, with k = 3
the true rate is three times the claimed one. Below, a Weibull body meets the tail in value and
slope. Scores have two decimals, as the vendor's have, and are rounded *down*: so rounding moves no
score over a threshold and the claim stays exact.
"""

from __future__ import annotations

import dataclasses
import datetime as dt
import functools
import itertools
import math
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from verifyanalytics.errors import UsageError

Floats = NDArray[np.float64]
Thresholds = tuple[float, float, float, float]
"""Scores of the claimed rates 1e-3, 1e-4, 1e-5, 1e-6."""


class Tag(NamedTuple):
    """A risk tag of the simulated vendor: its code, risk score, rate and the group it comes in."""

    code: str
    severity: int
    rate: float
    group: str | None


TAGS = (
    Tag("14004", 600, 0.015, "device"),
    Tag("13001", 300, 0.040, "ip"),
    Tag("14005", 900, 0.005, "device"),
    Tag("14015", 900, 0.006, "device"),
    Tag("14001", 900, 0.003, "device"),
    Tag("14008", 600, 0.006, "device"),
    Tag("14009", 300, 0.030, None),
    Tag("14010", 300, 0.050, "ip"),
    Tag("13004", 600, 0.010, "ip"),
    Tag("11003", 300, 0.020, "account"),
    Tag("11005", 300, 0.015, "account"),
    Tag("11006", 600, 0.005, "account"),
)
"""Tags in the order in which an answer lists them; the risk score is that of the worst one."""

GROUPS = {"device": 0.03, "ip": 0.06, "account": 0.03}
"""How often a session is of a kind that draws the tags of a group together."""


class Species(NamedTuple):
    """A presentation attack: share among attacks, how often liveness sees it, points it loses."""

    name: str
    share: float
    detected: float
    cost: float


SPECIES = (
    Species("print", 0.40, 0.98, 6.0),
    Species("replay", 0.35, 0.94, 3.0),
    Species("mask", 0.10, 0.85, 14.0),
    Species("injection", 0.15, 0.60, 1.0),
)
"""Attacks show the face of the subject: their scores are mated scores less the cost."""

CHANNELS = (("app", 0.70), ("h5", 0.20), ("miniprogram", 0.10))
REGIONS = (("east", 0.4), ("north", 0.3), ("south", 0.2), ("west", 0.1))
APP_VERSIONS = ("5.1.0", "5.2.0", "5.3.0")
"""Later versions replace earlier ones over the period: the mix shifts, the scores do not."""

LABELLED = ("none", "all", "random", "accepted", "stratified")
LOCAL_OFFSET_HOURS = 8
"""The simulated day and its request ids follow the clock of +08:00."""

_RANGES: dict[str, tuple[float, float]] = {
    **dict.fromkeys(("dark_cost", "blur_cost", "h5_cost", "drift_points"), (-50.0, 100.0)),
    "days": (1, 3660),
    **dict.fromkeys(("impostor_attempts", "max_attempts"), (1, 15)),
    "k": (0.001, 100.0),
    "mated_median": (1.0, 99.9),
    "mated_spread": (0.01, 5.0),
    **dict.fromkeys(("attack_lift", "impostor_lift"), (0.0, 1000.0)),
    "image_bytes": (0, 50_000_000),
}
"""Ranges of numbers; every other one is a share or a probability, 0 to 1."""


@dataclass(frozen=True, slots=True, kw_only=True)
class World:
    """Everything that can be chosen about the simulated world.

    A *session* is one person who comes to be verified (mated, nonmated or an attack); its rows are
    the attempts. Shares of people are shares of sessions. Costs are points of score.

    Attributes
    ----------
    start : datetime.date
        First local day (+08:00).
    days : int
        Length of the period.
    impostor_share : float
        Zero-effort nonmated sessions: live people before honest cameras, the wrong person.
    impostor_attempts : int
        Attempts of each nonmated session, whatever comes back: so the claim holds row by row.
    impostor_correlation : float
        Correlation of the attempts of one nonmated session (Gaussian copula); 1 repeats the score.
    attack_share : float
        Sessions that are presentation or injection attacks, of the `SPECIES`.
    people_share : float
        Distinct mated subjects per row wanted; below 1 the same people come back.
    retry_share : float
        How often a person who was turned away tries again at once, up to `max_attempts`.
    max_attempts : int
        Most attempts in a session, 1–15.
    thresholds, thresholds_after : tuple of four floats; the second may be None
        Scores of the claimed rates 1e-3, 1e-4, 1e-5, 1e-6 before and after the switch.
    switch_at : float
        When the second tuple begins, as a share of the period.
    k : float
        True false-match rate over the claimed one.
    mated_median, mated_spread : float
        Mated scores are logit-normal: their median, and the standard deviation of the logit.
    person_share : float
        Part of that variance that belongs to the person and returns with each attempt.
    dark_share, dark_cost : float
        Images with brightness below 0.08, and what they cost a mated score.
    blur_share, blur_cost : float
        Images with clarity below 3, and their cost.
    h5_cost : float
        What the channel h5 costs a mated score.
    drift_week, drift_points : int or None, float
        In this week of the period (from 0) mated scores are lower by so many points.
    live_fail : float
        Live people whom liveness turns away.
    attack_detected : float or None
        Share of attacks that liveness sees; None: as the species has it.
    withheld_share : float
        Scores below the own 1e-4 threshold that come as "faces do not match" without a score.
    acquire_share : float
        Images that cannot be compared; three times as often when dark.
    identity_share : float
        Sessions whose identity data fail before any comparison.
    fault_share : float
        Service and gateway faults.
    risk_absent, measure_absent : float
        Answers without risk_result, without req_measure_info.
    tag_ties : float
        How strongly tags of a group come together; 0: independent, with the same rates.
    marker_tag : str
        A tag with P(attack | tag) = `attack_lift` · P(attack | no tag), and alike for nonmated.
    attack_lift, impostor_lift : float
        These ratios; 1: no relation.
    hidden_tag : str or None
        The vendor's unwritten rule: this tag turns the result false although all gates pass.
    no_source_share : float
        Sessions called with the req_key without source.
    no_source_pass : float or None
        Score at which those pass, if that is above their 1e-4 threshold.
    labelled : str
        Who gets a label: none, all, random, accepted (result true only, no inclusion
        probability), stratified (more where the thresholds are).
    label_share : float
        Probability of a label; a factor on the strata's own weights when stratified.
    label_error : float
        Labels whose `mated` is wrong.
    fraud_share : float
        Accepted nonmated rows and attacks that come to light later, as labels of origin fraud.
    image_bytes : int
        Length of each image's base64 text (random, no pictures).
    digit_ids : float
        Request ids of 19 digits; the others begin with their date.
    env_same : float
        Environment images graded exactly as the face image.

    Raises
    ------
    UsageError
        A value out of its range; the message names the parameter and the range.

    Examples
    --------
    >>> World(k=2.0, impostor_share=0.3).fmr(70.0)
    0.0002
    >>> World(attack_share=2)
    Traceback (most recent call last):
    ...
    verifyanalytics.errors.UsageError: attack_share is 2; it must lie in [0, 1]

    See Also
    --------
    simulate_responses, claimed_fmr
    """

    start: dt.date = dt.date(2024, 4, 1)
    days: int = 91
    impostor_share: float = 0.02
    impostor_attempts: int = 1
    impostor_correlation: float = 0.0
    attack_share: float = 0.01
    people_share: float = 0.7
    retry_share: float = 0.6
    max_attempts: int = 4
    thresholds: Thresholds = (60.0, 70.0, 80.0, 90.0)
    thresholds_after: Thresholds | None = (62.0, 72.0, 82.0, 92.0)
    switch_at: float = 0.5
    k: float = 1.0
    mated_median: float = 92.0
    mated_spread: float = 0.8
    person_share: float = 0.4
    dark_share: float = 0.08
    dark_cost: float = 8.0
    blur_share: float = 0.10
    blur_cost: float = 4.0
    h5_cost: float = 2.0
    drift_week: int | None = None
    drift_points: float = 0.0
    live_fail: float = 0.01
    attack_detected: float | None = None
    withheld_share: float = 0.3
    acquire_share: float = 0.03
    identity_share: float = 0.02
    fault_share: float = 0.01
    risk_absent: float = 0.03
    measure_absent: float = 0.01
    tag_ties: float = 0.8
    marker_tag: str = "14010"
    attack_lift: float = 2.0
    impostor_lift: float = 1.0
    hidden_tag: str | None = "14004"
    no_source_share: float = 0.15
    no_source_pass: float | None = 90.0
    labelled: str = "all"
    label_share: float = 1.0
    label_error: float = 0.0
    fraud_share: float = 0.0
    image_bytes: int = 0
    digit_ids: float = 0.3
    env_same: float = 0.6

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):
            low, high = _RANGES.get(field.name, (0.0, 1.0))
            value = getattr(self, field.name)
            if field.type in ("float", "int") and not low <= value <= high:
                raise UsageError(f"{field.name} is {value}; it must lie in [{low:g}, {high:g}]")
        codes = [tag.code for tag in TAGS]
        for name, choices in (
            ("labelled", LABELLED), ("marker_tag", codes), ("hidden_tag", [*codes, None])
        ):  # fmt: skip
            if (given := getattr(self, name)) not in choices:
                known = ", ".join(filter(None, choices))
                raise UsageError(f"{name} is {given!r}; it can be {known}")
        if self.impostor_share + self.attack_share > 1:
            raise UsageError("impostor_share and attack_share together exceed 1")
        if self.attack_detected is not None and not 0 <= self.attack_detected <= 1:
            raise UsageError(f"attack_detected is {self.attack_detected}; it must lie in [0, 1]")
        rates = zip(self.kind_rates("attack"), self.kind_rates("impostor"), strict=True)
        if any(attack + nonmated > 1 + 1e-9 for attack, nonmated in rates):
            raise UsageError(
                f"attack_lift {self.attack_lift:g} or impostor_lift {self.impostor_lift:g} is "
                "too large for these shares: with the marker tag a rate would pass 1"
            )
        _check_thresholds("thresholds", self.thresholds)
        if self.thresholds_after is not None:
            _check_thresholds("thresholds_after", self.thresholds_after)

    @classmethod
    def null(cls, **parameters: Any) -> World:
        """Return a world in which nothing is related to anything.

        One regime, no attacks, no drift, no cost of any quality or channel, tags independent of
        each other and of who comes, no unwritten rule. Retries stay: they are why rows of one
        subject must not be counted as independent.

        Parameters
        ----------
        **parameters
            Fields that shall differ from this.
        """
        nothing: dict[str, Any] = {
            **dict.fromkeys(("dark_cost", "blur_cost", "h5_cost", "tag_ties"), 0.0),
            **dict.fromkeys(("attack_share", "no_source_share"), 0.0),
            **dict.fromkeys(("thresholds_after", "hidden_tag"), None),
            "attack_lift": 1.0,
        }
        return cls(**(nothing | parameters))

    def altered(self, **parameters: Any) -> World:
        """Return this world with other values for some fields; an unknown name is a UsageError."""
        known = sorted(field.name for field in dataclasses.fields(World))
        if unknown := sorted(set(parameters) - set(known)):
            raise UsageError(
                f"no parameter {', '.join(unknown)} of a world; there are: {', '.join(known)}"
            )
        return dataclasses.replace(self, **parameters)

    def tuples(self) -> list[Thresholds]:
        """Return the threshold tuples in their order of time, one or two."""
        return [self.thresholds, *([self.thresholds_after] if self.thresholds_after else [])]

    def kind_rates(self, kind: str) -> tuple[float, float]:
        """Return P(`attack` or `impostor` | no marker tag) and P(… | marker tag)."""
        share, lift = getattr(self, f"{kind}_share"), getattr(self, f"{kind}_lift")
        marker = next(tag.rate for tag in TAGS if tag.code == self.marker_tag)
        rate = share / (1 + marker * (lift - 1))
        return rate, rate * lift

    def fmr(self, score: float, *, after: bool = False) -> float:
        """Return the true P(score >= `score`) of a zero-effort nonmated attempt.

        Exact for scores with two decimals; from the 1e-3 threshold upwards it is k times what
        the vendor claims.

        Parameters
        ----------
        score : float
            0–100.
        after : bool
            Under the second threshold tuple.
        """
        thresholds = self.tuples()[-1 if after else 0]
        body, power = _body(thresholds, self.k)
        if score <= 0:
            return 1.0
        if score < thresholds[0]:
            return float(10.0 ** -(body * (score / thresholds[0]) ** power))
        return self.k * claimed_fmr(score, thresholds)

    def fnmr(self, score: float) -> float:
        """Return the true P(score < `score`) of a first mated attempt outside a drift week.

        Later attempts follow a failed one and fail more often.
        """
        total = 0.0
        middle = _logit(self.mated_median)
        parts = (
            (self.dark_share, self.dark_cost),
            (self.blur_share, self.blur_cost),
            (dict(CHANNELS)["h5"], self.h5_cost),
        )
        for present in itertools.product((False, True), repeat=len(parts)):
            weight, level = 1.0, score
            for is_so, (share, cost) in zip(present, parts, strict=True):
                weight *= share if is_so else 1 - share
                level += is_so * cost
            if level >= 100:
                total += weight
            elif level > 0:
                z = (_logit(level) - middle) / self.mated_spread
                total += weight * 0.5 * math.erfc(-z / math.sqrt(2))
        return total


def _logit(score: float) -> float:
    return math.log(score / (100.0 - score))


def _check_thresholds(name: str, values: tuple[float, ...] | None) -> None:
    if values is None or len(values) != 4 or not all(np.diff((0.0, *values, 100.01)) > 0):
        raise UsageError(f"{name} is {values}; it must be four rising scores in (0, 100]")
    if any(abs(value * 100 - round(value * 100)) > 1e-9 for value in values):
        raise UsageError(f"{name} is {values}; scores have two decimals")


def claimed_fmr(score: float, thresholds: Thresholds) -> float:
    """Return F(score), the false-match rate that the vendor claims.

    Log-linear through the four points; above the last threshold the last slope goes on, below the
    first there is no claim.

    Parameters
    ----------
    score : float
        0–100.
    thresholds : tuple of four floats
        Scores of the claimed rates 1e-3, 1e-4, 1e-5, 1e-6, rising.

    Returns
    -------
    float
        A rate, 0–1; NaN below the first threshold.

    Examples
    --------
    >>> claimed_fmr(75.0, (60, 70, 80, 90)) == 10**-4.5
    True
    >>> claimed_fmr(59.0, (60, 70, 80, 90))
    nan

    See Also
    --------
    World.fmr : The true rate: k times the claimed one.
    """
    if score < thresholds[0]:
        return math.nan
    if score > thresholds[3]:
        per_point = 1 / (thresholds[3] - thresholds[2])
        return float(10.0 ** -(6 + (score - thresholds[3]) * per_point))
    return float(10.0 ** -float(np.interp(score, thresholds, (3.0, 4.0, 5.0, 6.0))))


def nonmated_scores(u: ArrayLike, thresholds: Thresholds, k: float) -> Floats:
    """Turn uniform numbers in (0, 1) into nonmated scores: the inverse of `World.fmr`.

    A small number becomes a high score, 0–100, not yet rounded down to two decimals.
    """
    level = -np.log10(np.asarray(u, dtype=np.float64))
    body, power = _body(thresholds, k)
    scores = thresholds[0] * (np.maximum(level, 0.0) / body) ** (1 / power)
    tail = level >= body
    claimed = level[tail] + math.log10(k)
    high = np.interp(claimed, (3.0, 4.0, 5.0, 6.0), thresholds)
    scores[tail] = high + np.maximum(claimed - 6.0, 0.0) * (thresholds[3] - thresholds[2])
    return np.minimum(scores, 100.0)


def _body(thresholds: Thresholds, k: float) -> tuple[float, float]:
    """Return −log10 P(score >= t₁ₑ₋₃) and the Weibull power that makes body and tail smooth."""
    at_join = 3.0 - math.log10(k)
    return at_join, thresholds[0] / (at_join * (thresholds[1] - thresholds[0]))


@functools.cache
def tag_probabilities(ties: float) -> tuple[tuple[float, float], ...]:
    """Return for each tag P(tag | its group is drawn) and P(tag | not); the rate stays the same."""
    pairs = []
    for tag in TAGS:
        inside = outside = tag.rate
        if share := GROUPS.get(tag.group or ""):
            inside = tag.rate * (1 + ties * (0.9 / share - 1))
            outside = (tag.rate - share * inside) / (1 - share)
        pairs.append((inside, outside))
    return tuple(pairs)

"""The simulated population: rows as arrays, block by block, drawn from a `World` and a seed.

Every number is a function of (seed, name of the quantity, session, attempt): a counter-based
generator (SplitMix64 over a hashed key) instead of a stream. So the same rows come out on every
platform and Python, in any order, block by block, and a column that is not asked for costs nothing.
NumPy's own distributions are not used: their streams may change from version to version.

A block is 32,768 rows in order of time. Sessions are laid along the period; the attempts of a
session follow each other by 15–75 s; the block keeps its first rows and drops the rest. Each row
ends in one of `OUTCOMES`: codes, HTTP status, units billed, and what the reply holds.
"""

from __future__ import annotations

import functools
import hashlib
import math
from collections.abc import Iterator
from dataclasses import dataclass, fields
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray
from scipy import special

from verifyanalytics.simulator.world import (
    APP_VERSIONS,
    CHANNELS,
    GROUPS,
    LOCAL_OFFSET_HOURS,
    REGIONS,
    SPECIES,
    TAGS,
    World,
    nonmated_scores,
    tag_probabilities,
)

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]

BLOCK_ROWS = 1 << 15
MATED, NONMATED, FIRST_SPECIES = 0, 1, 2
"""Kinds of a row; a species of attack is FIRST_SPECIES plus its place in `SPECIES`."""
KINDS = (None, None, *(species.name for species in SPECIES))
"""The name of the attack of each kind."""
NO, YES, UNKNOWN = 0, 1, 2
"""Values of `alive` and `result`."""

_GOLDEN = np.uint64(0x9E3779B97F4A7C15)
_MIX_1 = np.uint64(0xBF58476D1CE4E5B9)
_MIX_2 = np.uint64(0x94D049BB133111EB)
_ATTEMPTS = 16  # room for attempts in a row's number
_DAY_US = 86_400_000_000
_HOURS = np.array(
    [4, 2, 1, 1, 1, 2, 4, 7, 11, 14, 15, 14, 13, 13, 14, 14, 13, 13, 14, 15, 16, 14, 11, 7],
    dtype=np.float64,
)
_DAY_CLOCK = np.concatenate([[0.0], np.cumsum(_HOURS) / _HOURS.sum()])


@dataclass(frozen=True, slots=True)
class Outcome:
    """One way a call can end: codes, HTTP status and stage are those of the code book.

    Attributes
    ----------
    stage : str
        compare, alive, acquire, identity, internal or gateway.
    http_status, code : int, int or None
    message : str
    sub_code, sub_message : int or None, str
        algorithm_base_resp; None: the reply has none.
    measure : int or None
        Billed units; None: the reply has no req_measure_info.
    gateway : tuple of (int or None, str) or None
        CodeN and Code of a gateway error.
    scored, graded : bool
        The reply carries a score; the quality of its images and the thresholds.
    weight : float
        How often, among the outcomes of its stage.
    """

    stage: str
    http_status: int
    code: int | None
    message: str
    sub_code: int | None = None
    sub_message: str = ""
    measure: int | None = None
    gateway: tuple[int | None, str] | None = None
    scored: bool = False
    graded: bool = False
    weight: float = 1.0

    @property
    def shape(self) -> str:
        """Which of the four shapes the reply has: graded, ungraded, fault or gateway."""
        if self.measure is None:
            return "fault" if self.gateway is None else "gateway"
        return "graded" if self.graded else "ungraded"


def _business(
    stage: str, sub_code: int, sub_message: str, *, billed: bool, weight: float
) -> Iterator[Outcome]:
    """Yield the two forms of a business failure: as 50215 with HTTP 400, and as 10000."""
    for status, code, message, part in (
        (400, 50215, f"RPCProcess: {sub_message}", 0.6),
        (200, 10000, "Success", 0.4),
    ):
        yield Outcome(
            stage, status, code, message, sub_code, sub_message, int(billed),
            graded=stage != "identity", weight=weight * part,
        )  # fmt: skip


OUTCOMES: tuple[Outcome, ...] = (
    Outcome("compare", 200, 10000, "Success", 0, "", 1, scored=True, graded=True),
    *_business("compare", 210311, "faces do not match", billed=True, weight=0.8),
    *_business("compare", 210313, "not consistent, probably one person", billed=True, weight=0.2),
    *_business("alive", 210312, "motion liveness mismatch", billed=False, weight=0.4),
    *_business("alive", 210702, "face liveness score too low", billed=False, weight=0.6),
    *_business("acquire", 210302, "face image bad quality", billed=True, weight=0.35),
    *_business("acquire", 210305, "no face in face image", billed=False, weight=0.25),
    *_business("acquire", 210701, "face quality score too low", billed=False, weight=0.25),
    *_business("acquire", 210306, "several faces in face image", billed=False, weight=0.1),
    *_business("acquire", 210314, "probe image modelling failed", billed=True, weight=0.05),
    *_business("identity", 210207, "name and id number differ", billed=False, weight=0.5),
    *_business("identity", 210309, "source has no base image", billed=False, weight=0.3),
    *_business("identity", 210308, "base image of bad quality", billed=True, weight=0.1),
    *_business("identity", 201403, "daily cap for this id number", billed=False, weight=0.1),
    Outcome("internal", 500, 50500, "Internal Error", weight=0.3),
    Outcome(
        "internal", 500, 50501, "Internal RPC Error", 100001, "data source internal error",
        weight=0.2,
    ),
    Outcome("internal", 429, 50429, "Request Has Reached API Limit", weight=0.2),
    Outcome("internal", 429, 50430, "Request Has Reached API Concurrent Limit", weight=0.1),
    Outcome("internal", 401, 50400, "Access Denied: Internal Error", weight=0.05),
    Outcome(
        "gateway", 429, None, "Request was rejected because the request speed is above the limit",
        gateway=(None, "FlowLimitExceeded"), weight=0.08,
    ),
    Outcome(
        "gateway", 500, None, "Internal error", gateway=(100014, "InternalError"), weight=0.05
    ),
    Outcome(
        "gateway", 401, None, "The request signature does not match",
        gateway=(100010, "SignatureDoesNotMatch"), weight=0.02,
    ),
)  # fmt: skip
"""Every outcome; its index is what the population draws. The first is a comparison with a score."""

SCORED = np.array([outcome.scored for outcome in OUTCOMES])
GRADED = np.array([outcome.graded for outcome in OUTCOMES])
ANSWERED = np.array([outcome.measure is not None for outcome in OUTCOMES])
"""Whether the reply of an outcome has a score; images and thresholds; a verdict. By its index."""


class Draw:
    """Numbers of one seed, each named by its quantity and counted by its index.

    Examples
    --------
    >>> Draw(1).bits("channel", np.arange(2)).tolist()
    [12910513557284579846, 2203328490553653172]
    """

    def __init__(self, seed: int) -> None:
        self._seed = seed

    def bits(self, name: str, index: NDArray[Any]) -> NDArray[np.uint64]:
        """Return 64 random bits for each index."""
        x = index.astype(np.uint64)
        x *= _GOLDEN
        x += _key(self._seed, name)
        x ^= x >> np.uint64(30)
        x *= _MIX_1
        x ^= x >> np.uint64(27)
        x *= _MIX_2
        x ^= x >> np.uint64(31)
        return x

    def uniform(self, name: str, index: NDArray[Any]) -> Floats:
        """Return a number in the open interval (0, 1) for each index."""
        u = (self.bits(name, index) >> np.uint64(12)).astype(np.float64)
        u += 0.5
        u *= 2.0**-52
        return u

    def happens(self, name: str, index: NDArray[Any], share: float | Floats) -> Bools:
        """Return True with probability `share` for each index."""
        if isinstance(share, float) and share in (0.0, 1.0):
            return np.full(index.shape, share == 1.0)
        hit: Bools = self.uniform(name, index) < share
        return hit

    def pick(self, name: str, index: NDArray[Any], weights: tuple[float, ...]) -> Ints:
        """Return a place in `weights`, in proportion to them, for each index."""
        edges = np.cumsum(weights)[:-1] / math.fsum(weights)
        place: Ints = np.searchsorted(edges, self.uniform(name, index), side="right")
        return place

    def normal(self, name: str, index: NDArray[Any]) -> Floats:
        """Return a standard normal number for each index."""
        z: Floats = special.ndtri(self.uniform(name, index))
        return z


@functools.lru_cache(maxsize=4096)
def _key(seed: int, name: str) -> np.uint64:
    digest = hashlib.blake2b(f"{seed}\0{name}".encode(), digest_size=8).digest()
    return np.uint64(int.from_bytes(digest, "little"))


@dataclass(frozen=True, slots=True)
class Sessions:
    """Sessions as arrays of equal length: the columns that their attempts share.

    Attributes
    ----------
    number : Ints
        A number of its own for each session over all blocks.
    kind : small ints
        `MATED`, `NONMATED` or a species.
    subject : Ints
        A number; that of a nonmated session or an attack is its own, negative.
    started : Ints
        Microseconds since 1970 UTC, whole milliseconds.
    week, regime : small ints
        Week of the period; 0 before the switch of the thresholds, 1 after.
    channel, version, region : small ints
        Places in `CHANNELS`, `APP_VERSIONS`, `REGIONS`.
    tags, risk : Ints
        Bit i: the session has `TAGS[i]`; the risk score of the worst one.
    no_source, unidentified : Bools
    """

    number: Ints
    kind: Ints
    subject: Ints
    started: Ints
    week: Ints
    regime: Ints
    no_source: Bools
    channel: Ints
    version: Ints
    region: Ints
    tags: Ints
    risk: Ints
    unidentified: Bools

    def __len__(self) -> int:
        return len(self.number)

    def take(self, places: NDArray[Any]) -> Self:
        """Return the rows at `places`, in that order."""
        return type(self)(*(getattr(self, field.name)[places] for field in fields(self)))


@dataclass(frozen=True, slots=True)
class Block(Sessions):
    """Rows, which are attempts of sessions, in order of time.

    Attributes
    ----------
    row : Ints
        session · 16 + attempt: further quantities (quality, ids, images) are drawn by it.
    attempt : Ints
        0 for the first attempt.
    occurred : Ints
        Microseconds since 1970 UTC, whole milliseconds.
    risk_asked, dark, blurred : Bools
    hidden : Ints
        The score in hundredths, whether or not the answer shows it.
    alive, result : small ints
        `NO`, `YES`, `UNKNOWN`.
    outcome : small ints
        Place in `OUTCOMES`.
    """

    row: Ints
    attempt: Ints
    occurred: Ints
    risk_asked: Bools
    dark: Bools
    blurred: Bools
    hidden: Ints
    alive: Ints
    result: Ints
    outcome: Ints


def blocks(n: int, seed: int, world: World) -> Iterator[Block]:
    """Yield the rows of a simulation, `BLOCK_ROWS` at a time and `n` together."""
    for first in range(0, n, BLOCK_ROWS):
        yield _block(first, min(BLOCK_ROWS, n - first), n, seed, world)


def _block(first: int, n_rows: int, n: int, seed: int, world: World) -> Block:
    rows_a_session = _rows_a_session(world)
    base = first << 8  # blocks never share a session
    sessions = int(n_rows / rows_a_session * 1.04) + 64
    while True:
        index = np.arange(sessions, dtype=np.int64)
        u = Draw(seed).uniform("arrival", base + index)
        place = (first + (index + u) * rows_a_session) / n
        rows = _attempts(base + index, place, n, seed, world)
        order = np.argsort(rows.occurred, kind="stable")[:n_rows]
        block = rows.take(order)
        # Enough once the last kept row is earlier than any session that was not drawn.
        if len(block) == n_rows and block.occurred[-1] < _clock(place[-1:], world)[0]:
            return block
        sessions += sessions // 4


@functools.lru_cache(maxsize=256)
def _rows_a_session(world: World) -> float:
    """Return how many attempts a session has on average, from a pilot of 8,192 sessions."""
    index = np.arange(1 << 13, dtype=np.int64)
    rows = _attempts(index, (index + 0.5) / len(index), len(index), -1, world)
    return len(rows) / len(index)


def _clock(place: Floats, world: World) -> Ints:
    """Turn places in the period into times: few people come at night."""
    day, within = np.divmod(place * world.days, 1.0)
    hour = np.interp(within, _DAY_CLOCK, np.arange(25.0))
    start = (world.start - type(world.start)(1970, 1, 1)).days * _DAY_US
    ms = day.astype(np.int64) * 86_400_000 + (hour * 3_600_000.0).astype(np.int64)
    clock: Ints = start + (ms - LOCAL_OFFSET_HOURS * 3_600_000) * 1000
    return clock


def _sessions(number: Ints, place: Floats, n: int, seed: int, world: World) -> Sessions:
    draw = Draw(seed)
    tags = _tags(draw, number, world)
    marked = _has(tags, world.marker_tag).astype(np.int64)
    attack = np.array(world.kind_rates("attack"))[marked]
    nonmated = np.array(world.kind_rates("impostor"))[marked]
    u = draw.uniform("kind", number)
    species = draw.pick("species", number, tuple(s.share for s in SPECIES)) + FIRST_SPECIES
    kind = np.where(u < attack, species, np.where(u < attack + nonmated, NONMATED, MATED))
    n_subjects = max(1, round(n * world.people_share))
    subject = (draw.uniform("person", number) * n_subjects).astype(np.int64)
    switched = (place >= world.switch_at) & (world.thresholds_after is not None)
    newest = np.minimum(place * 2 + draw.uniform("version", number), len(APP_VERSIONS) - 1)
    return Sessions(
        number=number,
        kind=kind,
        subject=np.where(kind == MATED, subject, -1 - number),
        started=_clock(place, world),
        week=(place * world.days / 7).astype(np.int64),
        regime=switched.astype(np.int64),
        no_source=draw.happens("no_source", number, world.no_source_share),
        channel=draw.pick("channel", number, tuple(share for _, share in CHANNELS)),
        version=newest.astype(np.int64),
        region=draw.pick("region", number, tuple(share for _, share in REGIONS)),
        tags=tags,
        risk=risk_scores()[tags],
        unidentified=draw.happens("identity", number, world.identity_share),
    )


def _tags(draw: Draw, number: Ints, world: World) -> Ints:
    drawn = {group: draw.happens(group, number, share) for group, share in GROUPS.items()}
    mask = np.zeros(len(number), dtype=np.int64)
    for place, (tag, (inside, outside)) in enumerate(
        zip(TAGS, tag_probabilities(world.tag_ties), strict=True)
    ):
        share = np.where(drawn[tag.group], inside, outside) if tag.group else tag.rate
        mask |= draw.happens(tag.code, number, share).astype(np.int64) << place
    return mask


@functools.cache
def risk_scores() -> Ints:
    """Return the risk score of every set of tags: that of its worst tag, 0 without one."""
    masks = np.arange(1 << len(TAGS), dtype=np.int64)
    worst = np.zeros(len(masks), dtype=np.int64)
    for place, tag in enumerate(TAGS):
        worst = np.where(masks >> place & 1, np.maximum(worst, tag.severity), worst)
    return worst


def _has(tags: Ints, code: str | None) -> Bools:
    """Return where the set holds the tag; nowhere for None."""
    bit = next((1 << place for place, tag in enumerate(TAGS) if tag.code == code), 0)
    has: Bools = (tags & bit) != 0
    return has


def _attempts(number: Ints, place: Floats, n: int, seed: int, world: World) -> Block:
    """Return the attempts of all sessions: in each round, those of the sessions that go on."""
    sessions = _sessions(number, place, n, seed, world)
    clock = sessions.started.copy()
    rounds = []
    for attempt in range(max(world.max_attempts, world.impostor_attempts)):
        made = _attempt(sessions, clock, attempt, seed, world)
        rounds.append(made)
        draw, again = Draw(seed), np.zeros(len(made), dtype=np.bool_)
        if attempt + 1 < world.max_attempts:
            again = (made.result != YES) & draw.happens("retry", made.row, world.retry_share)
        again = np.where(made.kind == NONMATED, attempt + 1 < world.impostor_attempts, again)
        pause = 15_000 + (draw.uniform("pause", made.row) * 60_000).astype(np.int64)
        clock = (clock + pause * 1000)[again]
        sessions = sessions.take(again)
        if not len(clock):
            break
    columns = (field.name for field in fields(Block))
    return Block(*(np.concatenate([getattr(r, name) for r in rounds]) for name in columns))


def _attempt(s: Sessions, clock: Ints, attempt: int, seed: int, world: World) -> Block:
    draw, row = Draw(seed), s.number * _ATTEMPTS + attempt
    dark = draw.happens("dark", row, world.dark_share)
    blurred = draw.happens("blurred", row, world.blur_share)
    hidden = _scores(s, row, dark, blurred, seed, world)
    seen = [s.detected if world.attack_detected is None else world.attack_detected for s in SPECIES]
    fails = np.array([world.live_fail, world.live_fail, *seen])[s.kind]
    live = draw.uniform("alive", row) >= fails
    asked = ~draw.happens("risk_absent", row, world.risk_absent)
    bars = np.array([round(t[1] * 100) for t in world.tuples()])[s.regime]
    outcome = _outcomes(draw, s, row, dark, live, hidden < bars, world)
    answered = ANSWERED[outcome]
    if world.no_source_pass is not None:
        bars = np.where(s.no_source, np.maximum(bars, round(world.no_source_pass * 100)), bars)
    risky = asked & ((s.risk >= 900) | _has(s.tags, world.hidden_tag))
    passes = SCORED[outcome] & (hidden >= bars) & live & ~risky
    return Block(
        **{field.name: getattr(s, field.name) for field in fields(s)},
        row=row,
        attempt=np.full(len(row), attempt, dtype=np.int64),
        occurred=clock,
        risk_asked=asked & answered,
        dark=dark,
        blurred=blurred,
        hidden=hidden,
        alive=np.where(_ALIVE_SHOWN[outcome], live, UNKNOWN),
        result=np.where(answered, passes, UNKNOWN),
        outcome=outcome,
    )


def _scores(s: Sessions, row: Ints, dark: Bools, blurred: Bools, seed: int, world: World) -> Ints:
    """Return scores in whole hundredths, rounded down; see the module `world` for why."""
    draw = Draw(seed)
    person = draw.normal("face", s.subject) * math.sqrt(world.person_share)
    person += draw.normal("mated", row) * math.sqrt(1 - world.person_share)
    middle = math.log(world.mated_median / (100 - world.mated_median))
    score = 100 * special.expit(middle + world.mated_spread * person)
    score -= dark * world.dark_cost + blurred * world.blur_cost
    score -= (s.channel == 1) * world.h5_cost
    score -= np.array([0.0, 0.0, *(species.cost for species in SPECIES)])[s.kind]
    if world.drift_week is not None:
        score -= (s.week == world.drift_week) * world.drift_points
    wrong = np.flatnonzero(s.kind == NONMATED)
    if rho := world.impostor_correlation:
        z = draw.normal("impostor", s.number[wrong]) * math.sqrt(rho)
        u = special.ndtr(z + draw.normal("nonmated", row[wrong]) * math.sqrt(1 - rho))
    else:
        u = draw.uniform("nonmated", row[wrong])
    for regime, thresholds in enumerate(world.tuples()):
        here = s.regime[wrong] == regime
        score[wrong[here]] = nonmated_scores(u[here], thresholds, world.k)
    hundredths: Ints = np.floor(np.clip(score * 100, 1, 10_000)).astype(np.int64)
    return hundredths


def _outcomes(
    draw: Draw, s: Sessions, row: Ints, dark: Bools, live: Bools, below: Bools, world: World
) -> Ints:
    """Return each row's place in `OUTCOMES`: the first stage that stops it."""
    u = draw.uniform("stage", row)
    blind = np.minimum(world.acquire_share * np.where(dark, 3, 1), 1.0)
    fault = u < world.fault_share
    acquire = draw.uniform("acquire", row) < blind
    unseen = ~live & draw.happens("alive_code", row, 0.3)
    withheld = below & draw.happens("withheld", row, world.withheld_share)
    outcome = np.zeros(len(row), dtype=np.int64)
    for stages, stopped in (
        (("compare",), withheld),
        (("alive",), unseen),
        (("acquire",), acquire),
        (("identity",), s.unidentified),
        (("internal", "gateway"), fault),
    ):
        rows = np.flatnonzero(stopped)
        weights = tuple(o.weight * (o.stage in stages) for o in OUTCOMES[1:])
        outcome[rows] = 1 + draw.pick("outcome", row[rows], weights)
    return outcome


_ALIVE_SHOWN = np.array([outcome.stage in ("compare", "alive") for outcome in OUTCOMES])

"""One run of the collector: calls go out at a pace, outcomes are committed, a reason may stop it.

The retry table is `replies.RULES`; this is what carries it out. Workers take planned calls from a
short queue; a call's intent is on the disk before it goes out and its outcome before the next.
Whatever stops the run (signal, budget, refusal, full disk) stops new calls; those in flight end.
"""

from __future__ import annotations

import queue
import random
import threading
import time
import traceback
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from verifyanalytics.collecting.rate_limit import Pace
from verifyanalytics.errors import UsageError, VerifyAnalyticsError
from verifyanalytics.journal.journal import Journal
from verifyanalytics.journal.raw_answers import raw_line
from verifyanalytics.vendor.client import Client
from verifyanalytics.vendor.replies import QUERY_RULES, RULES, Outcome, Reply, Rule, State, as_query

LONGEST_WISH_S = 120.0
"""A longer ``Retry-After`` stops the run: it is better resumed."""

BACKOFF_S = 0.5
BACKOFF_MOST_S = 30.0


@dataclass(frozen=True, slots=True)
class Planned:
    """A call that may go out.

    Attributes
    ----------
    key : str
        Keyed hash of the token.
    action : str
    body : dict
        The validated request; secrets are in it, so it has no repr.
    token : str
        The byted_token.
    subject : str, optional
        Keyed hash of the person.
    context : dict, optional
    is_open : bool
        It is in doubt: a query may settle it, and it is never sent.
    sent_at : float
        POSIX time at which a call in doubt went out.
    """

    key: str
    action: str
    body: dict[str, Any] = field(repr=False)
    token: str = field(repr=False)
    subject: str | None = None
    context: dict[str, str] | None = field(default=None, repr=False)
    is_open: bool = False
    sent_at: float = 0.0


@dataclass(frozen=True, slots=True)
class Attempt:
    """One time that a call went out.

    Attributes
    ----------
    number : int
        From 1, over all runs.
    tries : int
        From 1, in this run.
    seconds : float
        Until its reply was read.
    """

    number: int
    tries: int
    seconds: float


@dataclass(slots=True)
class Stopped:
    """Why a run ended before its work did."""

    exit_code: int
    reason: str


class Run:
    """Workers, pace and budget around a client and a journal.

    Attributes
    ----------
    stopped : Stopped or None
        Why no new call goes out.
    outcomes : Counter
        Attempts by what they came to.
    n_sent : int
        Calls that went out, retries included.
    n_done : int
        Calls that this run is done with, whatever came of them.
    n_left : int
        Calls that were given up without an outcome, while the run went on.

    Parameters
    ----------
    client, journal
    pace : Pace
    workers : int
    max_calls : int, optional
        Calls this run may send, retries included.
    print_key : bytes, optional
        Keep keyed fingerprints of pictures.
    stop : threading.Event
        Set from outside to end the run gracefully.
    log : callable
        Takes one event as a dict of allowed fields.
    rules : mapping
        What follows from an outcome; `QUERY_RULES` when every call is a query.
    """

    def __init__(
        self,
        client: Client,
        journal: Journal,
        pace: Pace,
        *,
        workers: int,
        stop: threading.Event,
        max_calls: int | None = None,
        print_key: bytes | None = None,
        log: Callable[[dict[str, Any]], None],
        rules: Mapping[Outcome, Rule] = RULES,
    ) -> None:
        self.client, self.journal, self.pace = client, journal, pace
        self.stop = stop
        self.stopped: Stopped | None = None
        self.outcomes: Counter[Outcome] = Counter()
        self.n_sent = 0
        self.n_done = self.n_left = 0
        self.rules = rules
        self._workers, self._left, self._print_key, self._log = workers, max_calls, print_key, log
        self._lock = threading.Lock()
        self._in_a_row = 0
        self._mended: Counter[Outcome] = Counter()
        self._random = random.Random()

    def send(self, calls: Iterable[Planned], between: Callable[[], None] | None = None) -> None:
        """Send every call, each until it has an outcome or the run stops.

        Parameters
        ----------
        calls : iterable of Planned
            Taken as workers become free, so it may be long.
        between : callable, optional
            Called on this thread now and then while calls go out.
        """
        waiting: queue.Queue[Planned | None] = queue.Queue(maxsize=2 * self._workers)
        crew = [
            threading.Thread(target=self._work, args=(waiting,), name=f"collect-{n}")
            for n in range(self._workers)
        ]
        for worker in crew:
            worker.start()
        try:
            for call in calls:
                if not self._offer(waiting, call):
                    break
                if between is not None:
                    between()
            self._see_off(waiting, crew, between)
        except BaseException:
            self.stop.set()
            raise
        finally:
            self._see_off(waiting, crew, None)

    def _see_off(
        self,
        waiting: queue.Queue[Planned | None],
        crew: Sequence[threading.Thread],
        between: Callable[[], None] | None,
    ) -> None:
        """Tell the workers that there is no more, and wait for what they have in flight."""
        for _ in crew:
            self._offer(waiting, None, to=crew)
        for worker in crew:
            while worker.is_alive():  # a signal comes through between two waits
                worker.join(0.2)
                if between is not None:
                    between()

    def halt(self, exit_code: int, reason: str) -> None:
        """Let no new call go out; the first reason stands unless a worse one comes."""
        with self._lock:
            if self.stopped is None or (exit_code == 7 != self.stopped.exit_code):
                self.stopped = Stopped(exit_code, reason)
        self.stop.set()

    def _offer(
        self,
        waiting: queue.Queue[Planned | None],
        call: Planned | None,
        *,
        to: Sequence[threading.Thread] = (),
    ) -> bool:
        """Put a call before the workers until the run stops; the end, while one of them lives."""
        while any(worker.is_alive() for worker in to) if to else not self.stop.is_set():
            try:
                waiting.put(call, timeout=0.2)
            except queue.Full:
                continue
            return True
        return False

    def _work(self, waiting: queue.Queue[Planned | None]) -> None:
        """Take calls until the end; whatever happens to one, the others are not left waiting."""
        while (call := waiting.get()) is not None:
            if self.stop.is_set():
                continue
            try:
                self._see_through(call)
            except VerifyAnalyticsError as error:
                self.halt(error.exit_code, str(error))
            except Exception as error:  # noqa: BLE001 - it ends the run, told by its name
                self.halt(1, f"a worker failed: {_where(error)}")
            with self._lock:
                self.n_done += 1

    def _see_through(self, call: Planned) -> None:
        """Try one call until it has an outcome that is not another try."""
        tries = 0
        while self.pace.wait(self.stop) and self._may_spend(call):
            number = self._begin(call, tries + 1)
            if number is None:
                self._refund()
                return
            tries += 1
            mended = self._mended.copy()
            started = time.monotonic()
            reply = self.client.call(call.action, call.body)
            attempt = Attempt(number, tries, time.monotonic() - started)
            reply, rule = self._commit(call, reply, attempt)
            if rule.state is not State.PLANNED:
                return
            delay = self._delay(reply, rule, tries, mended)
            if delay is None or self.stop.wait(delay):
                return

    def _begin(self, call: Planned, tries: int) -> int | None:
        """Commit the intent; None when the same token stood twice: the other one has it."""
        try:
            return self.journal.send(call.key, call.token)
        except UsageError:
            return None

    def _commit(self, call: Planned, reply: Reply, attempt: Attempt) -> tuple[Reply, Rule]:
        """Write down what came back; only then count it and speak of it."""
        reply, raw = self._raw(call, reply)
        rule = self.rules[reply.outcome]
        self.journal.outcome(call.key, rule.state, reply, raw)
        self._count(call, reply, rule, rule.state, attempt)
        return reply, rule

    def _raw(self, call: Planned, reply: Reply) -> tuple[Reply, bytes | None]:
        """The answer as it is kept; a code without strict JSON around it is no answer."""
        if reply.outcome not in {Outcome.ANSWERED, Outcome.REJECTED}:
            return reply, None
        raw = raw_line(
            reply.body,
            action=call.action,
            req_key=call.body["req_key"],
            token=call.key,
            received_at=datetime.now(UTC),
            http_status=reply.http_status,
            subject=call.subject,
            context=call.context,
            print_key=self._print_key,
        )
        return (reply, raw) if raw is not None else (_unparsed(reply), None)

    def _count(
        self, call: Planned, reply: Reply, rule: Rule, state: State, attempt: Attempt
    ) -> None:
        with self._lock:
            self.outcomes[reply.outcome] += 1
            if rule.in_a_row is None:
                self._in_a_row = 0
            elif attempt.tries >= rule.tries:
                self._in_a_row += 1
            streak = self._in_a_row
        self._log(event(call.key, reply, state, attempt))
        if rule.in_a_row and streak >= rule.in_a_row:
            self.halt(6, f"{streak} calls in a row without a known outcome")

    def _delay(
        self, reply: Reply, rule: Rule, tries: int, mended: Counter[Outcome]
    ) -> float | None:
        """Seconds until the next try; None when there is none, and why the run stops."""
        if reply.outcome is Outcome.RATE_LIMITED:
            self.pace.halve()
            if (reply.retry_after or 0.0) > LONGEST_WISH_S:
                self.halt(6, f"the vendor asks to wait {reply.retry_after:.0f} s")
                return None
        if reply.outcome in {Outcome.CLOCK, Outcome.REFUSED}:
            if self._mends(reply, mended):
                return 0.0
        elif tries < rule.tries:
            wish = reply.retry_after
            return wish if wish is not None else self._backoff(tries)
        if rule.stop is not None:
            said = reply.gateway_code or reply.code or reply.http_status or ""
            self.halt(rule.stop, f"{reply.outcome} {said}: {reply.message}".strip())
        else:
            with self._lock:
                self.n_left += 1
        return None

    def _backoff(self, tries: int) -> float:
        most = min(BACKOFF_MOST_S, BACKOFF_S * 2.0 ** (tries - 1))
        with self._lock:
            return self._random.uniform(0.0, most)

    def _mends(self, reply: Reply, mended: Counter[Outcome]) -> bool:
        """Correct the clock, or take fresh credentials, once a run.

        A call that went out before the mending gets another try as well.
        """
        with self._lock:
            if self._mended[reply.outcome] > mended[reply.outcome]:
                return True
            if self._mended[reply.outcome]:
                return False
            mend = self.client.correct_clock if reply.outcome is Outcome.CLOCK else None
            done = mend(reply) if mend else self.client.refresh_credentials()
            self._mended[reply.outcome] += done
            return done

    def _may_spend(self, call: Planned) -> bool:
        with self._lock:
            if self._left is None or self._left > 0:
                self._left = None if self._left is None else self._left - 1
                self.n_sent += 1
                return True
        # a token that stood twice needs no second call
        if call.is_open or self.journal.standing([call.key]).get(call.key) is State.PLANNED:
            self.halt(6, "the run's budget of calls is spent")
        return False

    def _refund(self) -> None:
        with self._lock:
            self.n_sent -= 1
            self._left = None if self._left is None else self._left + 1


def event(key: str, reply: Reply, state: State, attempt: Attempt) -> dict[str, Any]:
    """The fields of a call that a log may hold: no token, no payload, no key."""
    return {
        "time": datetime.now(UTC).isoformat(timespec="milliseconds"),
        "event": reply.outcome.value,
        "key": key[:8],
        "attempt": attempt.number,
        "http_status": reply.http_status,
        "code": reply.code,
        "gateway_code": reply.gateway_code,
        "request_id": reply.request_id,
        "ms": round(attempt.seconds * 1000),
        "bytes": len(reply.body),
        "state": state.value,
    }


def _unparsed(reply: Reply) -> Reply:
    return Reply(
        Outcome.UNPARSED,
        http_status=reply.http_status,
        code=reply.code,
        request_id=reply.request_id,
        message="not strict JSON",
        body=reply.body,
    )


def _where(error: Exception) -> str:
    """Name and place of an error; its text may hold what a log must not."""
    frames = traceback.extract_tb(error.__traceback__)
    place = f" in {Path(frames[-1].filename).name}, line {frames[-1].lineno}" if frames else ""
    return f"{type(error).__name__}{place}"


_ASKING = {
    **QUERY_RULES,
    **{
        outcome: replace(QUERY_RULES[outcome], in_a_row=RULES[outcome].in_a_row)
        for outcome in (Outcome.FAULT, Outcome.LOST)
    },
}
"""A query may be asked again, but five in a row that were given up stop the run all the same."""


class QueryRun(Run):
    """A run of queries: whatever happens to one, it is asked again, and nothing is ever sent twice.

    Queries that were planned as such end settled or stay PLANNED. For a call in doubt a query can
    only bring the outcome: without one it stays as it was.
    """

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, rules=_ASKING, **options)

    def _begin(self, call: Planned, tries: int) -> int | None:
        return tries if call.is_open else super()._begin(call, tries)

    def _commit(self, call: Planned, reply: Reply, attempt: Attempt) -> tuple[Reply, Rule]:
        reply = as_query(reply)
        return (
            self._settle(call, reply, attempt)
            if call.is_open
            else super()._commit(call, reply, attempt)
        )

    def _settle(self, call: Planned, reply: Reply, attempt: Attempt) -> tuple[Reply, Rule]:
        """Write down what a query found out about a call in doubt."""
        reply, raw = self._raw(call, reply)
        rule = self.rules[reply.outcome]
        state = rule.state
        if self._proves_nothing_was_done(call, reply):
            state = State.NOT_PROCESSED
            rule = Rule(state)
            reply, raw = replace(reply, billed=False), None
        elif state is State.PLANNED:
            state = State.IN_DOUBT  # the query failed, not the call: it stays as it was
        if state is not State.IN_DOUBT:
            with suppress(UsageError):  # the same token stood twice: the other one settled it
                self.journal.settle(call.key, state, reply, raw)
        self._count(call, reply, rule, state, attempt)
        return reply, rule

    def _proves_nothing_was_done(self, call: Planned, reply: Reply) -> bool:
        return False


class SettlingRun(QueryRun):
    """A run of queries for calls in doubt: each ends settled, or stays as it was.

    Parameters
    ----------
    grace_s, kept_s : float
        A query that finds nothing proves that nothing was processed only when the call went out
        at least `grace_s` seconds ago (the vendor works asynchronously) and less than `kept_s`
        ago (results are kept about an hour).
    """

    def __init__(self, *args: Any, grace_s: float, kept_s: float, **options: Any) -> None:
        self._grace_s, self._kept_s = grace_s, kept_s
        super().__init__(*args, **options)

    def _proves_nothing_was_done(self, call: Planned, reply: Reply) -> bool:
        age = time.time() - call.sent_at
        return reply.outcome is Outcome.NO_RESULT and self._grace_s <= age < self._kept_s

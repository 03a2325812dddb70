"""Send calls: threads take them from a queue, within the rate limit, and retry by the table.

The retry table is `vendor.replies.RULES`. A call's intent is on the disk before it goes out, and
its outcome before the next call. A signal, the budget, a refusal or a full disk stops new calls;
those in flight are finished and committed.
"""

from __future__ import annotations

import math
import queue
import random
import threading
import time
import traceback
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

from verifyanalytics.arguments import number
from verifyanalytics.collecting.rate_limit import RateLimit
from verifyanalytics.collecting.requests import PlannedCall
from verifyanalytics.errors import UsageError, VerifyAnalyticsError
from verifyanalytics.journal.journal import Journal
from verifyanalytics.journal.raw_answers import raw_line
from verifyanalytics.store.store import Store
from verifyanalytics.vendor.api import RESULT_KEPT_S
from verifyanalytics.vendor.client import Client
from verifyanalytics.vendor.replies import (
    ANSWERS,
    QUERY_RULES,
    RULES,
    NoResult,
    Outcome,
    Reply,
    Rule,
    State,
    as_query,
)

LONGEST_RETRY_AFTER_S = 120.0
"""A longer ``Retry-After`` stops the run: it is better resumed."""

BACKOFF_S = 0.5
BACKOFF_MOST_S = 30.0


class CallTry(NamedTuple):
    """One time that a call went out: its number over all runs and in this one, and its duration."""

    number: int
    tries: int
    seconds: float


class Stopped(NamedTuple):
    """Why a run ended before its work did."""

    exit_code: int
    reason: str


Event = dict[str, Any]


@dataclass(frozen=True, slots=True)
class CollectOptions:
    """The options of `collect`, `query` and `resolve`, which describe them; checked when made."""

    store: Store
    client: Client | None
    journal: str | Path | None
    workers: int
    rate: float | None
    stop: threading.Event | None
    progress: Callable[[Event], None] | None
    log: Callable[[Event], None] | None
    queries: bool = True
    max_calls: int | None = None
    dry_run: bool = False
    again: bool = False
    image_prints: bool = False
    grace_s: float | None = None
    no_result: NoResult | None = None

    def __post_init__(self) -> None:
        RateLimit(self.rate)
        number(self.workers, "workers", low=1, high=256, whole=True)
        if self.max_calls is not None:
            number(self.max_calls, "max_calls", low=1, whole=True)
        if self.grace_s is not None:
            number(self.grace_s, "grace_s", low=0.0)


class Sender:
    """Threads, rate limit and budget around a client and a journal.

    Attributes
    ----------
    stopped : Stopped or None
        Why no new call goes out.
    n_sent : int
        Calls that went out, retries included.
    n_done, n_left : int
        Calls that this run is done with; those of them that were given up without an outcome.
    set_aside : Counter of str
        Refusals that concerned single calls: what was said, and how often.
    """

    rules: Mapping[Outcome, Rule] = RULES
    """What follows from an outcome."""

    def __init__(
        self, options: CollectOptions, journal: Journal, log: Callable[[Event], None]
    ) -> None:
        self.options, self.journal = options, journal
        self.client = options.client or Client()
        self.limit = RateLimit(options.rate)
        self.stop = options.stop or threading.Event()
        self.stopped: Stopped | None = None
        self.n_sent = self.n_done = self.n_left = 0
        self.set_aside: Counter[str] = Counter()
        self._clock_offset: float | None = None
        self._log = log
        self._print_key = options.store.print_key if options.image_prints else None
        self._budget = math.inf if options.max_calls is None else options.max_calls
        self._lock = threading.Lock()
        self._in_a_row = 0
        self._remedied: Counter[Outcome] = Counter()

    def send(self, calls: Iterable[PlannedCall], between: Callable[[], None] | None = None) -> None:
        """Send every call, each until it has an outcome or the run stops.

        Calls are taken as threads become free; `between` is called on this thread now and then.
        """
        n_workers = int(self.options.workers)
        waiting: queue.Queue[PlannedCall | None] = queue.Queue(maxsize=2 * n_workers)
        threads = [
            threading.Thread(target=self._work, args=(waiting,), name=f"collect-{n}")
            for n in range(n_workers)
        ]
        for worker in threads:
            worker.start()
        try:
            for call in calls:
                if not self._offer(waiting, call):
                    break
                if between is not None:
                    between()
            self._finish(waiting, threads, between)
        except BaseException:
            self.stop.set()
            raise
        finally:
            self._finish(waiting, threads, None)

    def _finish(
        self,
        waiting: queue.Queue[PlannedCall | None],
        threads: Sequence[threading.Thread],
        between: Callable[[], None] | None,
    ) -> None:
        """Tell the workers that there is no more, and wait for what they have in flight."""
        for _ in threads:
            self._offer(waiting, None, to=threads)
        for worker in threads:
            while worker.is_alive():  # a signal comes through between two waits
                worker.join(0.2)
                if between is not None:
                    between()

    def halt(self, exit_code: int, reason: str) -> None:
        """Let no new call go out; the first reason is kept, unless the disk fails later."""
        with self._lock:
            if self.stopped is None or (exit_code == 7 != self.stopped.exit_code):
                self.stopped = Stopped(exit_code, reason)
        self.stop.set()

    def _offer(
        self,
        waiting: queue.Queue[PlannedCall | None],
        call: PlannedCall | None,
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

    def _work(self, waiting: queue.Queue[PlannedCall | None]) -> None:
        """Take calls until the end; whatever happens to one, the others are not left waiting."""
        while (call := waiting.get()) is not None:
            if self.stop.is_set():
                continue
            try:
                self._try(call)
            except VerifyAnalyticsError as error:
                self.halt(error.exit_code, str(error))
            except Exception as error:  # noqa: BLE001 - it ends the run and is named
                self.halt(1, f"a worker failed: {_where(error)}")
            with self._lock:
                self.n_done += 1

    def _try(self, call: PlannedCall) -> None:
        """Send one call until its outcome is not another try."""
        tries = 0
        while self.limit.wait(self.stop) and self._may_spend(call):
            remedied = self._remedied.copy()
            sent = self._exchange(call, tries + 1)
            if sent is None:  # not sent: it costs nothing of the budget
                with self._lock:
                    self.n_sent -= 1
                    self._budget += 1
                return
            tries += 1
            reply, rule = self._commit(call, *sent)
            if rule.state is not State.PLANNED:
                return
            delay = self._delay(reply, rule, tries, remedied)
            if delay is None or self.stop.wait(delay):
                return

    def _exchange(self, call: PlannedCall, tries: int) -> tuple[Reply, CallTry] | None:
        """Commit the intent and call; None when the call is not to be sent."""
        number = self._begin(call, tries)
        if number is None:
            return None
        started = time.monotonic()
        reply = self.client.call(call.action, call.body)
        if reply.server_time is not None:
            self._clock_offset = reply.server_time - time.time()
        return reply, CallTry(number, tries, time.monotonic() - started)

    def _begin(self, call: PlannedCall, tries: int) -> int | None:
        """Commit the intent; None when the same token is in the input twice and was taken."""
        try:
            return self.journal.send(
                call.key, call.token, endpoint=self.client.endpoint, account=self.client.account,
                clock_offset=self._clock_offset,
            )  # fmt: skip
        except UsageError:
            return None

    def _commit(self, call: PlannedCall, reply: Reply, attempt: CallTry) -> tuple[Reply, Rule]:
        """Commit what came back; only then count and log it."""
        reply, raw = self._raw(call, reply)
        rule = self.rules[reply.outcome]
        self.journal.outcome(call.key, rule.state, reply, raw)
        self._count(call, reply, rule, rule.state, attempt)
        return reply, rule

    def _raw(self, call: PlannedCall, reply: Reply) -> tuple[Reply, bytes | None]:
        """The response as it is kept; a code without strict JSON around it is none."""
        if reply.outcome not in ANSWERS:
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
        if raw is not None:
            return reply, raw
        unparsed = replace(
            reply, outcome=Outcome.UNPARSED, message="not strict JSON", sub_code=None, billed=None,
            retry_after=None,
        )  # fmt: skip
        return unparsed, None

    def _count(
        self, call: PlannedCall, reply: Reply, rule: Rule, state: State, attempt: CallTry
    ) -> None:
        with self._lock:
            if reply.outcome in {Outcome.ANSWERED, Outcome.REJECTED, Outcome.NO_RESULT}:
                self._in_a_row = 0
            elif rule.in_a_row is not None and attempt.tries >= rule.tries:
                self._in_a_row += 1
            streak = self._in_a_row
        self._log(event(call.key, reply, state, attempt))
        if rule.in_a_row and rule.stop and streak >= rule.in_a_row:
            self.halt(rule.stop, f"{streak} calls in a row without an answer: {_named(reply)}")

    def _delay(
        self, reply: Reply, rule: Rule, tries: int, remedied: Counter[Outcome]
    ) -> float | None:
        """Seconds until the next try; None when there is none, and why the run stops."""
        if reply.outcome is Outcome.RATE_LIMITED:
            self.limit.halve()
            if (reply.retry_after or 0.0) > LONGEST_RETRY_AFTER_S:
                self.halt(6, f"the vendor asks to wait {reply.retry_after:.0f} s")
                return None
        if reply.outcome in {Outcome.CLOCK, Outcome.REFUSED, Outcome.DENIED}:
            if self._remedies(reply, remedied):
                return 0.0
        elif tries < rule.tries:
            if reply.retry_after is not None:
                return reply.retry_after
            most = min(BACKOFF_MOST_S, BACKOFF_S * 2.0 ** (tries - 1))
            return random.uniform(0.0, most)
        if rule.stop is not None and rule.in_a_row is None:
            self.halt(rule.stop, _named(reply))
        with self._lock:
            if rule.stop is None:
                self.n_left += 1
            elif rule.stop == 5 and rule.in_a_row is not None:
                self.set_aside[_named(reply)] += 1
        return None

    def _remedies(self, reply: Reply, remedied: Counter[Outcome]) -> bool:
        """Correct the clock, or take fresh credentials, once a run.

        A call that went out before the remedy gets another try as well.
        """
        with self._lock:
            if self._remedied[reply.outcome] > remedied[reply.outcome]:
                return True
            if self._remedied[reply.outcome]:
                return False
            is_clock = reply.outcome is Outcome.CLOCK
            done = (
                self.client.correct_clock(reply) if is_clock else self.client.refresh_credentials()
            )
            self._remedied[reply.outcome] += done
            return done

    def _may_spend(self, call: PlannedCall) -> bool:
        with self._lock:
            if self._budget > 0:
                self._budget -= 1
                self.n_sent += 1
                return True
        # a token that is in the input twice needs no second call
        if call.is_open or self.journal.standing([call.key]).get(call.key) is State.PLANNED:
            self.halt(6, "the run's budget of calls is spent")
        return False


def event(key: str, reply: Reply, state: State, attempt: CallTry) -> dict[str, Any]:
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


def _named(reply: Reply) -> str:
    code = reply.gateway_code or reply.code or reply.http_status or ""
    return f"{reply.outcome} {code}: {reply.message}".strip()


def _where(error: Exception) -> str:
    """Name and place of an error; its text may hold what a log must not."""
    frames = traceback.extract_tb(error.__traceback__)
    place = f" in {Path(frames[-1].filename).name}, line {frames[-1].lineno}" if frames else ""
    return f"{type(error).__name__}{place}"


class QuerySender(Sender):
    """Sends queries: each may be repeated, whatever came of it, and no verification is sent.

    Queries that were planned as such end settled or stay PLANNED. For a call in doubt a query can
    only bring the outcome: without one it stays as it was.
    """

    rules = QUERY_RULES

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self.unproven: set[str] = set()
        """Calls for which a query found no result, if `no_result` does not call it proof."""

    def _begin(self, call: PlannedCall, tries: int) -> int | None:
        return tries if call.is_open else super()._begin(call, tries)

    def _commit(self, call: PlannedCall, reply: Reply, attempt: CallTry) -> tuple[Reply, Rule]:
        reply = as_query(reply, self.options.no_result)
        if not call.is_open:
            return super()._commit(call, reply, attempt)
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
            with suppress(UsageError):  # the same token is there twice: it is settled already
                self.journal.settle(call.key, state, reply, raw)
        self._count(call, reply, rule, state, attempt)
        return reply, rule

    def _proves_nothing_was_done(self, call: PlannedCall, reply: Reply) -> bool:
        """Say whether a query that found no result proves that the call was not processed.

        It does when the vendor's word on that answer is given (`no_result`), the query went where
        the call went, for the same account, and the call is older than `grace_s`, since the vendor
        works asynchronously, and young enough for its result to be kept: both by the server's
        clock, since the local one may have been wrong or set meanwhile.
        """
        sent, options = call.sent, self.options
        if options.grace_s is None or reply.outcome is not Outcome.NO_RESULT or sent is None:
            return False
        if options.no_result is None or not options.no_result.is_in(reply):
            self.unproven.add(call.key)
            return False
        if (sent.endpoint, sent.account) != (self.client.endpoint, self.client.account):
            return False
        if sent.sent_at is None or sent.clock_offset is None or reply.server_time is None:
            return False
        age = reply.server_time - (sent.sent_at + sent.clock_offset)
        return options.grace_s <= max(age, 0.0) < RESULT_KEPT_S

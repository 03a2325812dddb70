"""Scripts of faults: when each strikes, one rule a line.

The name of a fault, then ``key=value`` pairs that say when and how::

    # a bad day
    rate_50429   share=0.10 retry_after=2
    reset_after  share=0.02 per_token=1
    html_504     calls=17,40-42
    stall_before token=9f86d0

When: ``calls`` (numbers of signed calls to the action, from 1, with ranges), ``share`` (chance,
seeded), ``token`` (beginning of `token_digest`), ``action`` (CertVerify, CertVerifyQuery or any),
``times`` (at most so often), ``per_token`` (at most so often for each token). All given must hold;
the first rule that fits a call strikes. ``processed=yes|no`` decides where a fault can come before
or after the processing.
"""

from __future__ import annotations

import hashlib
import shlex
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field

from verifyanalytics.errors import UsageError
from verifyanalytics.simulator.server.faults import FAULTS, HttpReply, Kind, Step
from verifyanalytics.vendor.api import ACTIONS, VERIFY

_NUMBERS = ("seconds", "per_second", "mib", "bytes")


@dataclass(frozen=True, slots=True)
class Rule:
    """One line of a script: a fault, when it strikes and how.

    The fields are the words of the line (see the module); `calls` empty, `token` empty and `times`
    or `per_token` None set no condition.
    """

    kind: Kind
    processed: bool
    action: str = VERIFY
    calls: tuple[range, ...] = ()
    share: float = 1.0
    token: str = ""
    times: int | None = None
    per_token: int | None = None
    options: Mapping[str, str] = field(default_factory=dict)

    def steps(self, reply: HttpReply) -> list[Step]:
        """Return what happens on the wire instead of `reply`."""
        return self.kind.play(reply, self.options)


class Script:
    """Rules with a memory of how often they struck; decides call by call.

    A call's chance depends on seed, token and number, not on the order in which calls of several
    threads arrive.
    """

    def __init__(self, rules: tuple[Rule, ...], seed: int = 0) -> None:
        self._rules, self._seed = rules, seed
        self._struck: Counter[tuple[int, str]] = Counter()

    def strike(self, action: str, digest: str, number: int, nth: int) -> Rule | None:
        """Return the rule that strikes a call, if any, and remember it.

        `digest` is the `token_digest`; the call is the `number`-th to the action, and the `nth` of
        its token, from 1.
        """
        for place, rule in enumerate(self._rules):
            if self._fits(place, rule, action, digest, number, nth):
                self._struck[place, ""] += 1
                self._struck[place, digest] += 1
                return rule
        return None

    def _fits(
        self, place: int, rule: Rule, action: str, digest: str, number: int, nth: int
    ) -> bool:
        if rule.action not in (action, "any") or not digest.startswith(rule.token):
            return False
        if rule.calls and not any(number in numbers for numbers in rule.calls):
            return False
        if rule.times is not None and self._struck[place, ""] >= rule.times:
            return False
        if rule.per_token is not None and self._struck[place, digest] >= rule.per_token:
            return False
        if rule.share >= 1:
            return True
        text = f"{self._seed}\0{place}\0{action}\0{digest}\0{nth}".encode()
        chance = int.from_bytes(hashlib.blake2b(text, digest_size=6).digest(), "big") / 2**48
        return chance < rule.share


def token_digest(token: str) -> str:
    """Return the name under which scripts and the ledger know a token.

    Parameters
    ----------
    token : str
        A byted_token.

    Returns
    -------
    str
        SHA-256 in hexadecimal: 64 digits, lower case.

    Examples
    --------
    >>> token_digest("t1")[:6]
    '628b49'

    See Also
    --------
    read_ledger, parse_script
    """
    return hashlib.sha256(token.encode()).hexdigest()


def parse_script(text: str) -> tuple[Rule, ...]:
    """Read a script of faults.

    Parameters
    ----------
    text : str
        One rule a line, such as ``html_504 calls=3,7-9``; ``#`` begins a comment.

    Returns
    -------
    tuple of Rule
        In their order: the first that fits a call strikes.

    Raises
    ------
    UsageError
        Names the line and what would work.

    Examples
    --------
    >>> [rule.kind.name for rule in parse_script("html_504 calls=3,7-9 processed=no")]
    ['html_504']

    See Also
    --------
    serve : Plays a script; `FAULTS` is the catalogue.
    """
    rules = []
    for number, line in enumerate(text.splitlines(), start=1):
        try:
            words = shlex.split(line, comments=True)
            if words:
                rules.append(_rule(words))
        except ValueError as error:
            raise UsageError(f"line {number} of the faults: {error}") from error
    return tuple(rules)


def _rule(words: list[str]) -> Rule:
    kind = FAULTS.get(words[0])
    if kind is None:
        raise ValueError(f"no fault {words[0]!r}; there are: {', '.join(sorted(FAULTS))}")
    pairs = {}
    for word in words[1:]:
        name, sign, value = word.partition("=")
        if not sign:
            raise ValueError(f"{word!r} is no key=value")
        pairs[name] = value
    options = {name: pairs.pop(name) for name in kind.options if name in pairs}
    for name in _NUMBERS:
        float(options.get(name, "0"))
    processed = kind.processed
    if "processed" in pairs:
        processed = _choice("processed", pairs.pop("processed"), ("yes", "no")) == "yes"
        if processed != kind.processed and not kind.open:
            raise ValueError(f"{kind.name} is {'' if kind.processed else 'not '}processed always")
    limits = {name: int(pairs.pop(name)) for name in ("times", "per_token") if name in pairs}
    rule = Rule(
        kind,
        processed,
        action=_choice("action", pairs.pop("action", VERIFY), (*ACTIONS, "any")),
        calls=tuple(
            range(int(first), int(last or first) + 1)
            for first, _, last in (
                part.partition("-") for part in pairs.pop("calls", "").split(",") if part
            )
        ),
        share=float(share := pairs.pop("share", "1")),
        token=pairs.pop("token", "").lower(),
        options=options,
        **limits,
    )
    if not 0 <= rule.share <= 1:
        raise ValueError(f"share is {share}; it must lie in [0, 1]")
    if pairs:
        raise ValueError(f"{kind.name} has no {', '.join(sorted(pairs))}")
    return rule


def _choice(name: str, value: str, choices: tuple[str, ...]) -> str:
    if value not in choices:
        raise ValueError(f"{name} is {value!r}; it can be {', '.join(choices)}")
    return value

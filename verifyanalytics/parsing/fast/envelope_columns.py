"""Our envelope on the fast road: what stands around the replies of a block, as columns."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from verifyanalytics.parsing.envelope import (
    EPOCH,
    MICROSECOND,
    ReadOptions,
    context_names,
    keyed_hash,
    read_time,
)
from verifyanalytics.parsing.fast.columns import Flags
from verifyanalytics.parsing.redaction import is_kept
from verifyanalytics.parsing.strict_json import Number

_PLANS = 1 << 10


class Surround:
    """Reads what envelopes say; one for a kernel, because contexts repeat their names.

    Parameters
    ----------
    options : ReadOptions
    """

    def __init__(self, options: ReadOptions) -> None:
        self._options = options
        self._plans: dict[tuple[str, ...], dict[str, str] | None] = {}

    def columns(
        self, envelopes: Sequence[Any] | None, n: int, odd: set[int]
    ) -> dict[str, pa.Array]:
        """Columns that do not come from the reply, the time apart.

        Parameters
        ----------
        envelopes : sequence of Envelope or None
            None: the replies stand alone.
        n : int
            How many there are.
        odd : set of int
            Grows by the places that only the reference can read.
        """
        options = self._options
        made = {
            "action": _constant(options.action, n),
            "req_key": _constant(options.req_key, n),
            "http_status": pa.nulls(n, pa.int16()),
            "token": pa.nulls(n, pa.string()),
            "subject": pa.nulls(n, pa.string()),
        } | {f"ctx_{name}": _constant(text, n) for name, text in options.context.items()}
        if envelopes is None:
            return made
        actions = [e.action or options.action for e in envelopes]
        req_keys = [e.req_key or options.req_key for e in envelopes]
        statuses = [e.http_status for e in envelopes]
        odd.update(i for i, s in enumerate(statuses) if s is not None and not -32768 <= s < 32768)
        for texts in (actions, req_keys):
            _leave_unfit(texts, odd)
        made["action"], made["req_key"] = (
            pa.array(actions, pa.string()),
            pa.array(req_keys, pa.string()),
        )
        made["http_status"] = pa.array(
            [s if i not in odd else None for i, s in enumerate(statuses)], pa.int16()
        )
        made["token"] = self._hashes("token", [e.byted_token for e in envelopes])
        made["subject"] = self._hashes("subject", [e.subject for e in envelopes])
        return made | self._contexts([e.context or {} for e in envelopes], odd)

    def _hashes(self, kind: str, secrets: list[str | None]) -> pa.Array:
        key = self._options.key
        hashed = [keyed_hash(key, kind, text) if text and key else None for text in secrets]
        return pa.array(hashed, pa.string())

    def _contexts(
        self, contexts: list[dict[str, str | None]], odd: set[int]
    ) -> dict[str, pa.Array]:
        plans = [self._plan(context) for context in contexts]
        odd.update(place for place, plan in enumerate(plans) if plan is None)
        names = sorted({name for plan in plans if plan for name in plan})
        made = {}
        for name in names:
            constant = self._options.context.get(name)
            texts = [
                _said(context, plan, name, constant)
                for context, plan in zip(contexts, plans, strict=True)
            ]
            _leave_unfit(texts, odd)
            made[f"ctx_{name}"] = pa.array(texts, pa.string())
        return made

    def _plan(self, context: dict[str, str | None]) -> dict[str, str] | None:
        """Column → name in the context; None when something of it has to go to `extra`."""
        names = tuple(context)
        if names not in self._plans:
            if len(self._plans) >= _PLANS:
                self._plans.clear()
            chosen = context_names(context, self._options)
            self._plans[names] = chosen if len(chosen) == len(names) else None
        return self._plans[names]


def _said(
    context: dict[str, str | None], plan: dict[str, str] | None, name: str, constant: str | None
) -> str | None:
    text = context[plan[name]] if plan and name in plan else None
    return constant if text is None else text


def _constant(text: str | None, n: int) -> pa.Array:
    return pa.nulls(n, pa.string()) if text is None else pa.repeat(pa.scalar(text), n)


def _leave_unfit(texts: Sequence[str | None], odd: set[int]) -> None:
    """Leave to the reference what may not stay as it is; few different texts stand over many."""
    unfit = {text for text in set(texts) if text is not None and not is_kept(text)}
    if unfit:
        odd.update(place for place, text in enumerate(texts) if text in unfit)


def moments(envelopes: Sequence[Any], odd: set[int]) -> tuple[npt.NDArray[np.int64], Flags]:
    """Times that envelopes name: microseconds since 1970, and where there is one."""
    made, known = np.zeros(len(envelopes), np.int64), np.zeros(len(envelopes), bool)
    for place, envelope in enumerate(envelopes):
        said = envelope.occurred_at
        if said is None:
            continue
        moment = read_time(Number(said) if isinstance(said, int) else said)
        if moment is None:
            odd.add(place)
        else:
            made[place], known[place] = (moment - EPOCH) // MICROSECOND, True
    return made, known

"""Our envelope on the fast path: what stands around the replies of a block, as columns."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from verifyanalytics.parsing.fast.decoding import Flags
from verifyanalytics.parsing.text import (
    EPOCH,
    MICROSECOND,
    Number,
    ReadOptions,
    context_names,
    is_kept,
    keyed_hash,
    read_time,
)

_MAX_PLANS = 1 << 10


class EnvelopeColumns:
    """Makes columns of envelopes; one for a flattener, because contexts repeat their names."""

    def __init__(self, options: ReadOptions) -> None:
        self._options = options
        self._plan = lru_cache(_MAX_PLANS)(self._plan_of)

    def columns(
        self, envelopes: Sequence[Any] | None, n: int, needs_reference: set[int]
    ) -> dict[str, pa.Array]:
        """Columns of `n` responses that come from `envelopes` (None: all replies stand alone)."""
        options = self._options
        if envelopes is None:
            constants = {
                "action": options.action,
                "req_key": options.req_key,
                **{f"ctx_{name}": text for name, text in options.context.items()},
            }
            return {
                name: pa.nulls(n, pa.string()) if text is None else pa.repeat(pa.scalar(text), n)
                for name, text in constants.items()
            }
        columns: dict[str, list[Any]] = {
            "action": [e.action or options.action for e in envelopes],
            "req_key": [e.req_key or options.req_key for e in envelopes],
            **self._contexts([e.context or {} for e in envelopes], needs_reference),
        }
        for texts in columns.values():
            # few different texts stand over many responses
            unfit = {text for text in set(texts) if text is not None and not is_kept(text)}
            if unfit:
                needs_reference.update(i for i, text in enumerate(texts) if text in unfit)
        key = options.key
        for kind, secrets in (
            ("token", [e.byted_token for e in envelopes]),
            ("subject", [e.subject for e in envelopes]),
        ):
            columns[kind] = [keyed_hash(key, kind, s) if s and key else None for s in secrets]
        statuses = [e.http_status for e in envelopes]
        for place, status in enumerate(statuses):
            if status is not None and not -32768 <= status < 32768:
                needs_reference.add(place)
                statuses[place] = None
        arrays = {name: pa.array(texts, pa.string()) for name, texts in columns.items()}
        return {**arrays, "http_status": pa.array(statuses, pa.int16())}

    def _contexts(
        self, contexts: list[dict[str, str | None]], needs_reference: set[int]
    ) -> dict[str, list[str | None]]:
        plans = [self._plan(tuple(context)) for context in contexts]
        needs_reference.update(place for place, plan in enumerate(plans) if plan is None)
        constants = self._options.context
        columns: dict[str, list[str | None]] = {
            name: [constants.get(name)] * len(plans)
            for name in sorted({*constants, *(name for plan in plans if plan for name in plan)})
        }
        for place, (context, plan) in enumerate(zip(contexts, plans, strict=True)):
            for name, sent_as in (plan or {}).items():
                text = context[sent_as]
                if text is not None:
                    columns[name][place] = text
        return {f"ctx_{name}": texts for name, texts in columns.items()}

    def _plan_of(self, names: tuple[str, ...]) -> dict[str, str] | None:
        """Column → name in a context; None when something of it has to go to `extra`."""
        chosen = context_names(dict.fromkeys(names), self._options)
        return chosen if len(chosen) == len(names) else None


def moments(
    envelopes: Sequence[Any], needs_reference: set[int]
) -> tuple[npt.NDArray[np.int64], Flags]:
    """Times that envelopes name: microseconds since 1970, and where there is one."""
    times, known = np.zeros(len(envelopes), np.int64), np.zeros(len(envelopes), bool)
    for place, envelope in enumerate(envelopes):
        sent = envelope.occurred_at
        if sent is None:
            continue
        moment = read_time(Number(sent) if isinstance(sent, int) else sent)
        if moment is None:
            needs_reference.add(place)
        else:
            times[place], known[place] = (moment - EPOCH) // MICROSECOND, True
    return times, known

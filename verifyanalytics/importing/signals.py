"""Ctrl-C and SIGTERM while an import runs: they unwind it, but no commit."""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Callable, Iterator
from types import FrameType
from typing import Self


class Signals:
    """Handlers of SIGINT and SIGTERM that unwind an import, and wait while it commits.

    Within the context SIGTERM unwinds as Ctrl-C does and ends the program with 143; within `held`
    both wait until the commit is in or refused. Handlers that were there are called in turn, and
    are put back at the end. Outside the main thread nothing is changed: no signal arrives there.
    """

    def __init__(self) -> None:
        self._before: dict[int, Callable[[int, FrameType | None], object]] = {}
        self._held = False
        self._waiting: list[int] = []

    def __enter__(self) -> Self:
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM):
                handler = signal.getsignal(number)
                if callable(handler):
                    self._before[number] = handler
                elif handler is signal.SIG_DFL and number == signal.SIGTERM:
                    self._before[number] = _exit
        for taken in self._before:
            signal.signal(taken, self._receive)
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, signal.SIG_DFL if handler is _exit else handler)

    @contextlib.contextmanager
    def held(self) -> Iterator[None]:
        """Let signals wait; those that came are delivered at the end."""
        self._held = True
        try:
            yield
        finally:
            self._held = False
            if self._waiting:
                number = self._waiting[0]
                self._waiting.clear()
                self._before[number](number, None)

    def _receive(self, number: int, frame: FrameType | None) -> None:
        if self._held:
            self._waiting.append(number)
        else:
            self._before[number](number, frame)


def _exit(number: int, frame: FrameType | None) -> None:
    raise SystemExit(128 + number)

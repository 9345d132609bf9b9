"""What every worker says of itself: health once a second and at each change of state, and events."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from pipeline.bus import Publisher
from pipeline.clock import NS_PER_S, Percentiles, Rate, now_ns
from pipeline.messages import Event, EventKind, Health, WorkerState

_MEMORY = Path("/proc/self/statm")
_AGES_KEPT = 4096


class Reporter:
    """Health and events of one worker, on its Publisher to the results."""

    def __init__(self, session: str, worker: str, results: Publisher) -> None:
        self._session, self._worker, self._results = session, worker, results
        self._ages_ms = Percentiles(_AGES_KEPT)
        self._rate = Rate(1.0)
        self._state: WorkerState = "starting"
        self._count = self._health_seq = self._event_seq = 0
        self._since_ns = now_ns()

    def handled(self, age_ms: float | None = None) -> None:
        """One frame, chunk or message is done; `age_ms` from its capture."""
        self._state = "running"
        self._count += 1
        if age_ms is not None:
            self._ages_ms.add(age_ms)

    def enter(self, state: WorkerState, drops: Mapping[str, int] | None = None) -> None:
        """Say a change of state at once."""
        self._state = state
        self._send(drops or {})

    def tick(self, drops: Mapping[str, int]) -> None:
        """To be called often: says once a second how it goes."""
        if self._rate.due(now_ns()):
            self._send(drops)

    def event(self, kind: EventKind, text: str) -> None:
        """Say what a person or a recording should know of."""
        self._results.send(
            Event(session=self._session, source=self._worker, seq=self._event_seq, t_ns=now_ns(), kind=kind, text=text)
        )
        self._event_seq += 1

    def _send(self, drops: Mapping[str, int]) -> None:
        t_ns = now_ns()
        p50, p95, p99 = self._ages_ms.read() or (None, None, None)
        self._results.send(
            Health(
                session=self._session,
                source=self._worker,
                seq=self._health_seq,
                t_ns=t_ns,
                state=self._state,
                fps=round(self._count * NS_PER_S / max(1, t_ns - self._since_ns), 2),
                drops=dict(drops),
                age_p50_ms=_rounded(p50),
                age_p95_ms=_rounded(p95),
                age_p99_ms=_rounded(p99),
                rss_mb=rss_mb(),
            )
        )
        self._health_seq += 1
        self._count, self._since_ns = 0, t_ns
        self._ages_ms.clear()


def rss_mb() -> float | None:
    """Memory of this process that is resident, in MB (10^6 bytes); None where the system does not say."""
    if not _MEMORY.is_file():
        return None
    return round(int(_MEMORY.read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 1e6, 1)


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 3)

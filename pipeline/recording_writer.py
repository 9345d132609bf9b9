"""The writing side of a recorded session: the growing files of one folder, brought to the disk by `flush`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import msgspec

from pipeline.append import AppendFile, Queue
from pipeline.clock import WallClock, now_ns
from pipeline.config import ConfigError
from pipeline.messages import EngagementFrame, Event, Health, Wire
from pipeline.recording import (
    END_OF_STREAM,
    EVENTS,
    HEADER,
    HEALTH,
    RESULTS,
    SESSION,
    Counts,
    How,
    Results,
    SessionEnd,
    SessionInfo,
    check_folder,
    encode_results,
    read_session,
    write_session,
)

WAITING_LIMIT = 3000  # of each kind; for results of one face at 30 Hz it is 100 s


class RecordingWriter:
    """Owns the files of a folder from its first moment to `close`."""

    def __init__(self, folder: Path, info: SessionInfo) -> None:
        """Starts in an empty folder, or goes on with one of the same session. Raises ConfigError, RecordingError."""
        before = read_session(folder) if (folder / SESSION).is_file() else None
        if before is not None and before.session == info.session:
            info = msgspec.structs.replace(before, resumed=before.resumed + 1)
        else:
            check_folder(folder)
        self.folder, self.info = folder, info
        try:
            write_session(folder, info)
            self._results = _result_queue(folder)
            self._events = _line_queue(folder / EVENTS)
            self._health = _line_queue(folder / HEALTH)
        except OSError as error:
            raise ConfigError(f"--record {folder}: cannot write there: {error.strerror}") from error
        self._info_is_written = True

    @property
    def waiting(self) -> int:
        """Results that are not on the disk yet."""
        return self._results.waiting

    @property
    def lost(self) -> int:
        """Results that came and will never be on the disk."""
        return self._results.lost

    def add(self, message: Wire) -> None:
        """Takes a message; it is in its file after the next `flush`."""
        if isinstance(message, EngagementFrame):
            self._results.add(message)
            if self.info.model is None:
                self._change(msgspec.structs.replace(self.info, model=message.model, backend=message.backend))
        elif isinstance(message, Event):
            self._events.add(message)
        elif isinstance(message, Health):
            self._health.add(message)

    def flush(self) -> str | None:
        """Brings everything to the disk; otherwise why not, in words. Everything that did not fit still waits."""
        # Events and health are small: they may fit, and say what happened, where the results do not.
        problems = [_attempt(queue.flush) for queue in (self._results, self._events, self._health)]
        problems.append(self._write_info())
        return next(filter(None, problems), None)

    def close(self, how: How) -> str | None:
        """Completes and closes the files; returns as `flush` does. What waits now is lost, and counted as lost."""
        problem = self.flush()
        queues = (self._results, self._events, self._health)
        written = Counts(*(queue.written for queue in queues))
        lost = Counts(*(queue.lost + queue.waiting for queue in queues))
        t_ns = now_ns()
        end = SessionEnd(how=how, wall_time=WallClock().iso(t_ns), t_ns=t_ns, written=written, lost=lost)
        self._change(msgspec.structs.replace(self.info, ended=end))
        problems = (problem, _attempt(self._end_results), self._write_info())
        for queue in queues:
            queue.file.close()
        return next(filter(None, problems), None)

    def _end_results(self) -> None:
        # Its few bytes fit where the results did not: without them the stream says that it was cut off, as it was.
        if not self._results.waiting:
            self._results.file.append(END_OF_STREAM)

    def _write_info(self) -> str | None:
        problem = None if self._info_is_written else _attempt(lambda: write_session(self.folder, self.info))
        self._info_is_written = problem is None
        return problem

    def _change(self, info: SessionInfo) -> None:
        self.info = info
        self._info_is_written = False


def _attempt(write: Callable[[], None]) -> str | None:
    """Why the disk refused, in words; None if it did not."""
    try:
        write()
    except OSError as error:
        return error.strerror or str(error)
    return None


def _result_queue(folder: Path) -> Queue[EngagementFrame]:
    """The stream, begun or cut to its last whole batch. Raises OSError, RecordingError."""
    before, count = 0, 0
    if (folder / RESULTS).is_file():
        results = Results(folder)
        for batch in results.batches():
            count += batch.num_rows
        before = results.whole_bytes
    file = AppendFile(folder / RESULTS, before)
    if before == 0:
        file.append(HEADER)
    return Queue(file, encode_results, WAITING_LIMIT, count)


def _line_queue(path: Path) -> Queue[Wire]:
    """The file, new or cut to its last whole line. Raises OSError."""
    before = path.read_bytes() if path.is_file() else b""
    whole = before[: before.rfind(b"\n") + 1]
    return Queue(AppendFile(path, len(whole)), _encode_lines, WAITING_LIMIT, whole.count(b"\n"))


def _encode_lines(messages: Sequence[Wire]) -> bytes:
    return b"".join(msgspec.json.encode(message) + b"\n" for message in messages)

"""Pure: the account of captured frames, of which none goes missing without a count."""

from __future__ import annotations

from dataclasses import dataclass

from pipeline.messages import Drops, FramePacket


@dataclass(slots=True)
class Account:
    """Where every captured frame went, from the first that reached this worker: captured == published + stale.

    A worker that is started anew in the middle of a session gives the account from there on, and says so.
    """

    published: int = 0
    stale: int = 0
    decode: int = 0
    _first_seq: int | None = None
    _next_seq: int = 0
    _sender_decode: int = 0

    def take(self, packet: FramePacket, lost: int) -> Drops:
        """The losses up to this frame, which is going to be published; `lost`: what the socket has passed over."""
        if self._first_seq is None:
            self._first_seq = self._next_seq = packet.seq - min(lost, packet.seq)
        if packet.seq < self._next_seq:
            self._next_seq = self._sender_decode = 0  # a sender that starts anew counts from 0
        self.stale += packet.seq - self._next_seq
        self.decode += packet.decode_errors - self._sender_decode
        self.published += 1
        self._next_seq, self._sender_decode = packet.seq + 1, packet.decode_errors
        return Drops(stale=self.stale, decode=self.decode)

    def end(self, sent: int) -> None:
        """The sender is done; it has sent this many frames."""
        self.stale += max(0, sent - self._next_seq)

    @property
    def losses(self) -> dict[str, int]:
        """Drops by reason, as health messages say them."""
        return {"stale": self.stale, "decode": self.decode}

    def __str__(self) -> str:
        since = f"from frame {self._first_seq} on: " if self._first_seq else ""
        total = self.published + self.stale
        return f"{since}captured {total} = published {self.published} + stale {self.stale}, decode errors {self.decode}"

"""Prints the results of a live session as they come: python -m pipeline.subscribe [ENDPOINT] [--json].

The example to start a client from: subscribe, receive, use the fields of EngagementFrame. Without this package the
same messages can be read by any ZeroMQ SUB socket: [b"engagement", JSON], described in docs/.
"""

from __future__ import annotations

import signal
import sys
from typing import Annotated

import msgspec
import typer

from pipeline.bus import BusError, Subscriber
from pipeline.config import OutputConfig
from pipeline.messages import EngagementFrame, Event, MessageError, Wire

SHARES_SHOWN = 3


def main(
    endpoint: Annotated[str, typer.Argument(help="where a session publishes")] = OutputConfig().bind,
    json: Annotated[bool, typer.Option("--json", help="the messages themselves, one a line")] = False,
) -> None:
    """Prints the results of a live session as they come, until Ctrl-C."""
    if hasattr(signal, "SIGPIPE"):
        signal.signal(signal.SIGPIPE, signal.SIG_DFL)  # `| head` ends this quietly
    try:
        with Subscriber(endpoint, ["engagement"] if json else ["engagement", "event"]) as subscriber:
            print(f"waiting for results at {endpoint} (Ctrl-C ends this)", file=sys.stderr)
            while True:
                received = subscriber.receive(timeout_ms=1000)
                if received is not None:
                    message = received.message
                    print(msgspec.json.encode(message).decode() if json else describe(message), flush=True)
    except (BusError, MessageError) as error:
        print(error, file=sys.stderr)
        raise typer.Exit(2) from None
    except KeyboardInterrupt:
        pass


def describe(message: Wire) -> str:
    """A message in one line."""
    if isinstance(message, Event):
        return f"{message.source}: {message.kind}: {message.text}"
    if not isinstance(message, EngagementFrame):
        raise TypeError(f"unexpected {type(message).__name__}")
    age_ms = (message.t_publish_ns - message.t_capture_ns) / 1e6
    return f"{message.wall_time} frame {message.seq} face {message.face}: {why(message)} (age {age_ms:.1f} ms)"


def why(result: EngagementFrame) -> str:
    """The score as the sum that it is: base, the largest shares, and all others together."""
    if result.score is None or result.base is None:
        return result.status
    shares = sorted(result.contributions, key=lambda share: -abs(share.contribution))
    shown, others = shares[:SHARES_SHOWN], shares[SHARES_SHOWN:]
    terms = [f"{share.concept} {share.contribution:+.3f}" for share in shown]
    rest = sum(share.contribution for share in others)
    score = f"{result.score:.3f}" + ("" if result.uncertainty is None else f" ± {result.uncertainty:.3f}")
    return f"score {score} = base {result.base:.3f}, {', '.join(terms)}, {len(others)} others {rest:+.3f}"


if __name__ == "__main__":
    typer.run(main)

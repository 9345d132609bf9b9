"""The account of captured frames."""

from hypothesis import given
from hypothesis import strategies as st

from pipeline.account import Account
from pipeline.messages import FramePacket


def _packet(seq: int, decode_errors: int = 0) -> FramePacket:
    return FramePacket(
        session="s",
        source="demo",
        seq=seq,
        t_capture_ns=0,
        t_send_ns=0,
        width_px=640,
        height_px=360,
        decode_errors=decode_errors,
    )


@given(st.lists(st.integers(1, 5), min_size=1, max_size=30), st.integers(0, 4), st.integers(0, 3))
def test_captured_is_published_and_stale(steps: list[int], unseen: int, decode: int) -> None:
    account, seq, lost = Account(), -1, 0
    for step in steps:
        seq, lost = seq + step, lost + step - 1
        # The socket may already know of frames that are lost after this one.
        assert account.take(_packet(seq, decode), lost + unseen).stale == seq + 1 - account.published
    account.end(seq + 1 + unseen)
    assert account.published == len(steps)
    assert account.published + account.stale == seq + 1 + unseen
    assert account.losses["decode"] == decode


def test_an_account_begun_in_the_middle_says_so() -> None:
    account = Account()
    assert account.take(_packet(2), lost=2).stale == 2
    assert str(account) == "captured 3 = published 1 + stale 2, decode errors 0"
    later = Account()
    later.take(_packet(300), lost=0)
    later.take(_packet(303), lost=2)
    assert str(later) == "from frame 300 on: captured 4 = published 2 + stale 2, decode errors 0"


def test_a_sender_that_starts_anew_is_counted_on() -> None:
    account = Account()
    for seq, decode in ((0, 0), (1, 2), (0, 0), (3, 1)):
        account.take(_packet(seq, decode), lost=0)
    assert (account.published, account.stale, account.decode) == (4, 2, 3)

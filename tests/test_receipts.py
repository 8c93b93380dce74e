"""Receipts between node and bridge, in any order, repeated, lost: nothing is forgotten too early."""

import tempfile
from pathlib import Path

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from bridge.store.sources import Source
from mqtt_client.errors import InvalidReading
from mqtt_client.messages import Receipt, decode, encode
from mqtt_client.outbox.opening import open_outbox
from tests.node.actors import drafts

ROOM = 40


class Conversation(RuleBasedStateMachine):
    """An outbox and a source, with a network between them that loses, repeats and reorders."""

    def __init__(self) -> None:
        super().__init__()
        self._folder = tempfile.TemporaryDirectory()
        self._path = Path(self._folder.name) / "outbox.db"
        self._open()
        self.source = Source(1, 1, "kitchen", self.epoch, 1)
        self.receipts: list[bytes] = []
        self.receipts.append(encode(self.source.receipt("store")))

    def _open(self) -> None:
        self.outbox = open_outbox(self._path, "kitchen", "boot", ROOM)
        self.outbox.begin_publishing()
        self.epoch = self.outbox.current.name

    @property
    def held(self) -> set[int]:
        return {seq for first, last in self.outbox.current.rows for seq in range(first, last + 1)}

    @property
    def told_lost(self) -> set[int]:
        return {
            seq
            for loss in self.outbox.losses.told
            if loss.last is not None
            for seq in range(loss.first, loss.last + 1)
        }

    @rule(number=st.integers(1, ROOM + 5))
    def take(self, number: int) -> None:
        """Take readings; full, the oldest are given up."""
        rows = self.outbox.put(drafts(number))
        self.outbox.current.attempted.add(rows[0].seq, rows[-1].seq)

    @precondition(lambda self: self.held)
    @rule(data=st.data())
    def arrive(self, data: st.DataObject) -> None:
        """Let any readings arrive, in any order, perhaps again."""
        for seq in data.draw(st.lists(st.sampled_from(sorted(self.held)), max_size=10)):
            self.source.commit(seq)

    @rule()
    def tell_losses(self) -> None:
        """Let the losses arrive."""
        for loss in self.outbox.losses.told:
            self.source.lose(loss.first, loss.last)

    @rule()
    def tell_floor(self) -> None:
        """Let the floor arrive."""
        self.source.tell_floor(self.outbox.current.floor)

    @rule()
    def send_receipt(self) -> None:
        """Send a receipt; it may arrive at any time, or never."""
        self.receipts.append(encode(self.source.receipt("store")))

    @rule(data=st.data())
    def receive_receipt(self, data: st.DataObject) -> None:
        """Let any receipt arrive that was ever sent."""
        receipt = decode(Receipt, data.draw(st.sampled_from(self.receipts)))
        assert not self.outbox.settle(receipt.epoch, receipt.through, receipt.beyond), "no receipt of ours is foreign"

    @rule()
    def restart_node(self) -> None:
        """End the node and begin again."""
        self.outbox.close()
        self._open()

    @invariant()
    def nothing_is_forgotten_that_the_bridge_does_not_have(self) -> None:
        """Every number is held, told as lost, or known to the bridge."""
        known = {
            seq for part in (self.source.committed, self.source.lost) for a, b in part for seq in range(a, b + 1)
        }
        assert set(range(1, self.outbox.current.next_seq)) <= self.held | self.told_lost | known

    @invariant()
    def what_is_committed_is_not_lost(self) -> None:
        """The two sets of the bridge never share a number."""
        assert not any(list(self.source.lost.within(*part)) for part in self.source.committed)

    def teardown(self) -> None:
        """Close the outbox."""
        self.outbox.close()
        self._folder.cleanup()


Conversation.TestCase.settings = settings(max_examples=25, stateful_step_count=30, deadline=None)
TestConversation = Conversation.TestCase


def test_a_receipt_with_a_range_that_ends_before_it_begins_is_none() -> None:
    with pytest.raises(InvalidReading, match="beyond"):
        decode(Receipt, b'{"store":"s","epoch":"e","through":1,"beyond":[[5,4]]}')

"""What is due, and when; the sender asked without a broker."""

from pathlib import Path
from typing import cast

from mqtt_client.outbox.opening import open_outbox
from mqtt_client.publisher.connection import Connection
from mqtt_client.publisher.delivery import Delivery, Kind
from mqtt_client.publisher.sender import Sender
from mqtt_client.topics import Topics


def test_what_nobody_took_is_tried_at_once_when_a_bridge_comes_online(tmp_path: Path) -> None:
    outbox = open_outbox(tmp_path / "outbox.db", "kitchen", "boot", 1000)
    nobody = cast(Connection, None)  # nothing is sent here
    sender = Sender(outbox, nobody, Topics(), "kitchen", by_broker=False)
    for now in (100.0, 110.0, 120.0, 130.0, 150.0):
        sender.refused(Delivery(Kind.BACKLOG, now), "nobody subscribes to them", now)
    assert [at > 150.0 for at in sender.deadlines(150.0, bridge_is_online=False)] == [True]

    sender.bridge_came(151.0)

    outbox.close()
    assert sender.deadlines(151.0, bridge_is_online=False) == []
    assert sender.troubles  # it counts as delivered only when it is

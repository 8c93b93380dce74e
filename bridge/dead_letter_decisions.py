"""The operator's retry of a dead letter: judged anew at the front door, or sent to the server once more.

A payload whose number counts as committed already, and a reading that the
server refused, need no lock; another payload is taken in under the lock of
ingest, since both write the same interval sets.
"""

from dataclasses import dataclass

from bridge import dead_letters
from bridge.dead_letters import DeadLetter
from bridge.settings import BridgeSettings
from bridge.store import locks
from bridge.store.database import Store
from bridge.store.intake import Intake, Message
from mqtt_client.errors import InvalidReading
from mqtt_client.topics import Topics


@dataclass(frozen=True)
class Outcome:
    """What became of a retry."""

    taken: bool
    text: str


def retry(settings: BridgeSettings, store: Store, letter: DeadLetter) -> Outcome:
    """Take one letter in again.

    Raises:
        LockHeld: the payload would change what a running ingest holds in memory; stop it for the retry.
    """
    if letter.reading_id is not None:
        dead_letters.retried(store, [letter.id])
        return Outcome(True, "waits to be sent to the server again")
    identity = None
    if letter.node is not None and letter.epoch is not None and letter.seq is not None:
        identity = (letter.node, letter.epoch, letter.seq)
    message = Message(letter.topic or "", letter.payload)
    intake = Intake(store, Topics(settings.mqtt_topic_prefix))
    try:
        if identity is None:
            intake.rehearse(message)
            with locks.held(settings, "ingest"):
                intake.take_again(message, None)
        else:
            intake.take_again(message, identity)
    except InvalidReading as exc:
        return Outcome(False, f"is still refused: {exc}")
    dead_letters.retried(store, [letter.id])
    return Outcome(True, "taken in")

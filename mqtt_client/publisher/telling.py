"""Which losses to tell, and when to tell them again: until the bridge's receipt has passed them."""

from mqtt_client.outbox.epoch import Loss
from mqtt_client.outbox.outbox import Outbox
from mqtt_client.publisher.resend import FIRST_WAIT_S, LONGEST_WAIT_S


class Telling:
    """The losses of an outbox on their way; each is told once, and again as readings are."""

    def __init__(self, outbox: Outbox) -> None:
        """Begin with nothing told."""
        self._outbox = outbox
        self._told: set[tuple[int, int | None]] = set()
        self._again = False
        self._wait_s = FIRST_WAIT_S
        self._deadline = 0.0

    def restart(self) -> None:
        """Tell all again as soon as a bridge is online."""
        self._again = True

    def receipt_moved(self, now: float) -> None:
        """Note that a receipt has passed some."""
        self._wait_s = FIRST_WAIT_S
        self._deadline = now + FIRST_WAIT_S

    @property
    def deadline(self) -> float | None:
        """When all are told again unless a receipt passes them, None where there are none."""
        return self._deadline if self._outbox.losses.told else None

    def tick(self, now: float, *, bridge_is_online: bool, is_under_way: bool) -> None:
        """Begin again when it is time; while one is under way, not yet."""
        if not self._outbox.losses.told:
            self.receipt_moved(now)
        elif bridge_is_online and now >= self._deadline:
            self._wait_s = min(2 * self._wait_s, LONGEST_WAIT_S)
            self._deadline = now + self._wait_s
            self._again = True
        if self._again and bridge_is_online and not is_under_way:
            self._told.clear()
            self._again = False

    def next_loss(self) -> Loss | None:
        """Return the next loss to tell, in the order in which they happened.

        An unknown number is told only after all readings of its epoch have a
        receipt, since the bridge then takes all the epoch's holes as lost.
        """
        for loss in self._outbox.losses.told:
            if (loss.id, loss.last) not in self._told:
                epoch = self._outbox.find(loss.epoch)
                if loss.last is not None or epoch is None or not epoch.rows:
                    return loss
        return None

    def sent(self, loss: Loss) -> None:
        """Note that a loss is under way."""
        self._told.add((loss.id, loss.last))

    def failed(self, loss: Loss) -> None:
        """Note that the broker did not take it."""
        self._told.discard((loss.id, loss.last))

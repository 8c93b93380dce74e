"""Takes the bridge's receipts to the outbox.

A receipt may be repeated, old, of another epoch, of another store, or nonsense
that a stranger sent; none of that harms the outbox.
"""

import logging

from mqtt_client.errors import InvalidReading
from mqtt_client.messages import Receipt, decode
from mqtt_client.outbox.outbox import Outbox

log = logging.getLogger("publisher")


class Receipts:
    """The receipts that came in, and where they come from."""

    def __init__(self, outbox: Outbox, store: str | None) -> None:
        """Begin; ``store`` sent the last receipt of an earlier run, None where there was none."""
        self.store = store
        self.last: Receipt | None = None
        self.count = 0
        self._outbox = outbox
        self._through: dict[str, int] = {}

    def take(self, payload: bytes) -> Receipt | None:
        """Settle what a receipt covers; return it, or None where it is no receipt."""
        try:
            receipt = decode(Receipt, payload)
        except InvalidReading as exc:
            log.warning("a receipt cannot be read: %s", exc)
            return None
        if self.store is not None and self.store != receipt.store:
            log.warning("receipts now come from store %s, before from %s", receipt.store, self.store)
        self.store, self.last, self.count = receipt.store, receipt, self.count + 1
        if self._outbox.settle(receipt.epoch, receipt.through, receipt.beyond):
            log.warning(
                "the receipt covers %s-%d, which this outbox never published: it went back in time, or runs twice; "
                "new readings have epoch %s",
                receipt.epoch,
                receipt.through,
                self._outbox.current.name,
            )
        return receipt

    def has_moved(self, receipt: Receipt) -> bool:
        """Tell whether a receipt's ``through`` differs from the epoch's one before, and remember it."""
        before = self._through.get(receipt.epoch)
        self._through[receipt.epoch] = receipt.through
        return before != receipt.through

"""An MCP3008 on mocked pins that answers bit by bit, as its datasheet (DS21295, figure 6-1) says."""

from gpiozero.pins.mock import MockFactory, MockSPIDevice

CLOCK, MOSI, MISO, CHIP_ENABLE = 11, 10, 9, (8, 7)


class Converter(MockSPIDevice):  # type: ignore[misc]  # gpiozero has no types
    """Start bit, single-ended bit, three bits of the channel; one null bit, then ten bits of the share of VREF."""

    def __init__(self, factory: MockFactory, chip_enable: int = 0) -> None:
        super().__init__(CLOCK, MOSI, MISO, CHIP_ENABLE[chip_enable], pin_factory=factory)
        self.counts = dict.fromkeys(range(8), 0)
        self.conversions: list[int] = []

    def on_bit(self) -> None:
        """Answer once the last bit of the channel is in."""
        if 1 not in self.rx_buf:
            return
        command = self.rx_buf[self.rx_buf.index(1) :]
        if len(command) == 5:
            assert command[1] == 1, "single-ended"
            channel = command[2] * 4 + command[3] * 2 + command[4]
            self.conversions.append(channel)
            self.tx_buf = [0, 0]
            self.tx_word(self.counts[channel], 10)


def code(share: float) -> int:
    """Return the converter's code for a share of its reference voltage (equation 4-2)."""
    return min(int(share * 1024), 1023)

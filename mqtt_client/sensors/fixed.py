"""The values of the script that this replaces: 22 °C and 50 %, always."""


class Fixed:
    """A sensor that never changes."""

    stands_still = True
    """Nobody shall be told that it is stuck."""

    def __init__(self, argument: str) -> None:
        """Take no argument.

        Raises:
            ValueError: an argument was given.
        """
        if argument:
            raise ValueError("fixed takes no argument")

    def open(self) -> None:
        """Need nothing."""

    def read(self) -> dict[str, float]:
        """Return the values."""
        return {"temperature": 22.0, "humidity": 50.0}

    def close(self) -> None:
        """Hold nothing."""

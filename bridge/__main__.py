"""``python -m bridge`` does the same as ``mqtt-bridge``."""

from bridge.cli import main

main()

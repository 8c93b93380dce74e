"""``python -m mqtt_client`` is ``mqtt-node``."""

from mqtt_client.cli import main

if __name__ == "__main__":
    main(prog_name="mqtt-node")

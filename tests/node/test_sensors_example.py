"""The example of docs/adding-a-sensor.md: what is printed there is what works here."""

import os
import re
import subprocess
import tomllib
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from typing import Any

import pytest

from mqtt_client.errors import SensorFailed
from tests.processes import python

ROOT = Path(__file__).parent.parent.parent
EXAMPLE = ROOT / "examples" / "wifi-sensor"
TABLE = """Inter-| sta-|   Quality        |   Discarded packets               | Missed | WE
 face | tus | link level noise |  nwid  crypt   frag  retry   misc | beacon | 22
 wlan0: 0000   58.  -52.  -256        0      0      0      0      0        0
"""


@pytest.fixture
def wifi() -> Any:
    """The example's class."""
    spec = spec_from_file_location("wifi_sensor", EXAMPLE / "wifi_sensor.py")
    assert spec
    assert spec.loader
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.Wifi


def test_it_reads_the_signal_of_its_card(tmp_path: Path, wifi: Any) -> None:
    table = tmp_path / "wireless"
    table.write_text(TABLE, encoding="ascii")

    assert wifi("", table).read() == {"wifi_signal": -52.0}
    with pytest.raises(SensorFailed, match="no Wi-Fi card wlan1"):
        wifi("wlan1", table).read()


def test_the_node_finds_it_by_its_entry_point(tmp_path: Path) -> None:
    project = tomllib.loads((EXAMPLE / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    information = tmp_path / "wifi_sensor-1.0.dist-info"
    information.mkdir()
    (information / "METADATA").write_text(
        "Metadata-Version: 2.1\nName: wifi-sensor\nVersion: 1.0\n", encoding="utf-8"
    )
    for group, drivers in project["entry-points"].items():
        lines = [f"[{group}]", *(f"{name} = {target}" for name, target in drivers.items())]
        (information / "entry_points.txt").write_text("\n".join(lines), encoding="utf-8")
    environment = {
        **os.environ,
        "PYTHONPATH": f"{tmp_path}{os.pathsep}{EXAMPLE}",
        "NODE_SENSORS": "signal=wifi:no-such-card,main=fixed",
    }

    done = subprocess.run(
        python("-m", "mqtt_client", "read"),
        env=environment,
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )

    assert done.stdout == "main: temperature 22 °C, humidity 50 %RH\n"
    assert re.fullmatch(
        r"signal: (no Wi-Fi card no-such-card|FileNotFoundError: .*/proc/net/wireless.*)\n", done.stderr
    )
    assert done.returncode == 1


@pytest.mark.parametrize("page", ["adding-a-sensor.md", "adding-a-sensor.fr.md"])
def test_the_page_prints_the_example_as_it_stands(page: str) -> None:
    text = (ROOT / "docs" / page).read_text(encoding="utf-8")

    assert (EXAMPLE / "wifi_sensor.py").read_text(encoding="utf-8").strip() in text
    assert '[project.entry-points."mqtt_sensor_bridge.sensors"]\nwifi = "wifi_sensor:Wifi"' in text


def test_the_pages_say_the_same() -> None:
    english, french = (
        (ROOT / "docs" / page).read_text(encoding="utf-8") for page in ("adding-a-sensor.md", "adding-a-sensor.fr.md")
    )

    def shape(text: str) -> list[str]:
        return re.findall(r"^#+ ", re.sub(r"```.*?```", "", text, flags=re.DOTALL), re.MULTILINE)

    assert shape(english) == shape(french)
    assert re.findall(r"```.*?```", english, re.DOTALL) == re.findall(r"```.*?```", french, re.DOTALL)

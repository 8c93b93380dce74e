"""Drivers, their registry, and what of their values is sent."""

import time
from pathlib import Path
from queue import SimpleQueue
from typing import Any

import pytest

from mqtt_client.clock import SystemTime
from mqtt_client.errors import SensorFailed, SettingsError
from mqtt_client.reading import check_values
from mqtt_client.sensors.cpu import Cpu
from mqtt_client.sensors.fixed import Fixed
from mqtt_client.sensors.quality import Quality
from mqtt_client.sensors.registry import make_sensors
from mqtt_client.sensors.replay import Replay
from mqtt_client.sensors.sampler import Sample, Sampler, SensorState
from mqtt_client.sensors.sensor import Sensor
from mqtt_client.sensors.simulated import Simulated
from mqtt_client.setting_values import SensorSpec, sensor_specs
from tests.processes import eventually


def test_fixed_gives_the_old_scripts_values() -> None:
    assert Fixed("").read() == {"temperature": 22.0, "humidity": 50.0}


def test_simulated_is_plausible_moves_and_can_be_repeated() -> None:
    one, two = Simulated("7"), Simulated("7")
    series = [one.read() for _ in range(500)]

    assert all(10 < values["temperature"] < 30 and 20 < values["humidity"] < 80 for values in series)
    assert len({values["temperature"] for values in series}) > 20
    assert [values["temperature"] for values in series[:20]] == pytest.approx(
        [two.read()["temperature"] for _ in range(20)], abs=0.02
    )
    for values in series:
        check_values(values)


def replay(tmp_path: Path, text: str, ending: str = "") -> Replay:
    file = tmp_path / "office.csv"
    file.write_text(text, encoding="utf-8")
    return Replay(f"{file}{ending}")


def test_replay_gives_the_files_values_and_leaves_empty_cells_out(tmp_path: Path) -> None:
    sensor = replay(tmp_path, "time,temperature,co2\n2015-02-02T14:19:00Z,23.7,\n2015-02-02T14:20:00Z,23.8,700\n")
    sensor.open()

    assert [sensor.read() for _ in range(3)] == [
        {"temperature": 23.7},
        {"temperature": 23.8, "co2": 700.0},
        {"temperature": 23.7},
    ]


def test_replay_once_ends_with_its_file_and_goes_on_where_it_was_when_opened_again(tmp_path: Path) -> None:
    sensor = replay(tmp_path, "\ufefftemperature,time\n1,a\n2,b\n", ":once")
    sensor.open()

    first = sensor.read()
    sensor.close()
    sensor.open()

    assert [first, sensor.read(), sensor.read()] == [{"temperature": 1.0}, {"temperature": 2.0}, None]


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("", "line 1: no header"),
        ("temperature\n1\n", "line 1: no header"),
        ("time,Temp\n1,2\n", "line 1: quantity 'Temp'"),
        ("time,temperature,temperature\n1,2,3\n", "line 1: two columns"),
        ("time,temperature\n", "no rows"),
        ("time,temperature\n1,2\n1,warm\n", "line 3: temperature is 'warm'"),
        ("time,temperature\n1,nan\n", "line 2: temperature is 'nan'"),
        ("time,temperature\n1,2,3\n", "line 2: 3 cells, but 2 columns"),
    ],
)
def test_replay_names_file_and_line_of_what_is_wrong(tmp_path: Path, text: str, told: str) -> None:
    with pytest.raises(SensorFailed, match=told) as caught:
        replay(tmp_path, text).open()

    assert "office.csv" in str(caught.value)


def test_replay_of_a_missing_file_names_it() -> None:
    with pytest.raises(SensorFailed, match=r"nowhere\.csv"):
        Replay("nowhere.csv").open()


def test_cpu_reads_the_kernels_file_through_gpiozero(tmp_path: Path) -> None:
    file = tmp_path / "temp"
    file.write_text("48312\n", encoding="ascii")
    sensor = Cpu(str(file))
    sensor.open()

    assert sensor.read() == {"cpu_temperature": 48.31}
    sensor.close()


def test_cpu_without_such_a_file_fails_and_says_which(tmp_path: Path) -> None:
    sensor = Cpu(str(tmp_path / "none"))

    with pytest.raises(SensorFailed, match="none"):
        sensor.open()


def test_cpu_takes_the_processors_zone_where_there_are_several(tmp_path: Path) -> None:
    for number, (kind, milli) in enumerate([("acpitz", 20000), ("x86_pkg_temp", 51500), ("cpu-thermal", 1)]):
        zone = tmp_path / f"thermal_zone{number}"
        zone.mkdir()
        (zone / "type").write_text(f"{kind}\n", encoding="ascii")
        (zone / "temp").write_text(f"{milli}\n", encoding="ascii")
    sensor = Cpu("", tmp_path)
    sensor.open()

    assert sensor.read() == {"cpu_temperature": 51.5}
    sensor.close()


def test_cpu_without_a_zone_fails_and_says_where_it_looked(tmp_path: Path) -> None:
    with pytest.raises(SensorFailed, match="thermal_zone0/temp: No such file"):
        Cpu("", tmp_path).open()


def test_all_unknown_drivers_and_bad_arguments_are_told_at_once() -> None:
    with pytest.raises(SettingsError) as caught:
        make_sensors(sensor_specs("a=magic,b=fixed:5,c=simulated,d=replay"))

    assert [fault.partition(" was")[0] for fault in caught.value.faults] == [
        "NODE_SENSORS: a=magic",
        "NODE_SENSORS: b=fixed",
        "NODE_SENSORS: d=replay",
    ]
    assert "one of cpu, fixed, iio, mcp3008, replay, simulated, w1, or a driver" in caught.value.faults[0]


def test_a_users_driver_is_found_by_its_entry_point(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "garden.py").write_text(
        "class Garden:\n"
        "    def __init__(self, argument): self.moisture = float(argument)\n"
        "    def open(self): pass\n"
        "    def read(self): return {'moisture': self.moisture}\n"
        "    def close(self): pass\n"
    )
    info = tmp_path / "garden-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: garden\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[mqtt_sensor_bridge.sensors]\ngarden = garden:Garden\n")
    monkeypatch.syspath_prepend(str(tmp_path))

    sensors = make_sensors((SensorSpec("bed", "garden", "31.5"),))

    assert sensors["bed"].read() == {"moisture": 31.5}


def test_what_is_not_plausible_is_refused_alone_and_told() -> None:
    good, refused = Quality({}, {}, 300).judge({"temperature": 999.0, "humidity": 48.0, "co2": float("nan")}, 0)

    assert good == {"humidity": 48.0}
    assert refused == ["temperature 999 °C is not plausible", "co2 nan ppm is not plausible"]


def test_calibration_is_added() -> None:
    assert Quality({"temperature": -0.4}, {}, 300).judge({"temperature": 21.3, "humidity": 5.0}, 0)[0] == {
        "temperature": 20.9,
        "humidity": 5.0,
    }


def test_a_deadband_reports_what_moved_and_the_heartbeat_the_rest() -> None:
    quality = Quality({}, {"temperature": 0.1, "humidity": 1}, 300)
    steps = [
        ({"temperature": 20.0, "humidity": 50.0}, 0.0),
        ({"temperature": 20.05, "humidity": 50.5}, 5.0),
        ({"temperature": 20.1, "humidity": 50.9}, 10.0),
        ({"temperature": 20.1, "humidity": 51.0}, 15.0),
        ({"temperature": 20.1, "humidity": 51.0}, 300.0),
        ({"temperature": 20.1, "humidity": 51.0}, 311.0),
    ]

    found = [quality.judge(values, at)[0] for values, at in steps]

    assert found == [
        {"temperature": 20.0, "humidity": 50.0},
        {},
        {"temperature": 20.1},
        {"humidity": 51.0},
        {},
        {"temperature": 20.1},
    ]


class Scripted:
    """A sensor that does as its script says: a value, an exception, or a pause in seconds before 1.0."""

    def __init__(self, *script: float | Exception | None, pause_s: float = 0.0) -> None:
        self.script = list(script)
        self.pause_s = pause_s
        self.opened = 0

    def open(self) -> None:
        self.opened += 1

    def read(self) -> dict[str, float] | None:
        time.sleep(self.pause_s)
        step = self.script.pop(0) if len(self.script) > 1 else self.script[0]
        if isinstance(step, Exception):
            raise step
        return None if step is None else {"temperature": step}

    def close(self) -> None:
        pass


def sampled(sensor: Sensor, interval_s: float, events: "SimpleQueue[Any]") -> Sampler:
    sampler = Sampler("main", sensor, interval_s, Quality({}, {}, 300), SystemTime(), events)
    sampler.start(time.monotonic())
    return sampler


def collected(events: "SimpleQueue[Any]", kind: type, number: int) -> list[Any]:
    found: list[Any] = []
    while len(found) < number:
        event = events.get(timeout=30)
        if isinstance(event, kind):
            found.append(event)
    return found


def test_samples_lie_on_a_fixed_grid_without_drift() -> None:
    events: SimpleQueue[Any] = SimpleQueue()
    sampler = sampled(Scripted(1.0), 0.02, events)

    times = [sample.monotonic_ms for sample in collected(events, Sample, 40)]
    sampler.stop()

    offsets = [(at - times[0]) % 20 for at in times]
    near = sum(min(offset, 20 - offset) <= 8 for offset in offsets)
    assert near > 30, "late beats come back to the grid"


def test_a_slow_sensor_skips_beats_and_says_so_once(caplog: pytest.LogCaptureFixture) -> None:
    events: SimpleQueue[Any] = SimpleQueue()
    sampler = sampled(Scripted(1.0, pause_s=0.03), 0.01, events)

    collected(events, Sample, 8)
    sampler.stop()
    sampler.join(5)

    assert caplog.text.count("skips beats") == 1


def test_a_failed_read_is_tried_again_in_the_same_beat() -> None:
    events: SimpleQueue[Any] = SimpleQueue()
    sensor = Scripted(SensorFailed("checksum"), SensorFailed("checksum"), 7.0)
    sampler = sampled(sensor, 0.05, events)

    (sample,) = collected(events, Sample, 1)
    sampler.stop()

    assert sample.values == {"temperature": 7.0}
    assert sensor.opened == 3


def test_a_fault_is_told_once_and_so_is_its_end_whatever_the_driver_raises() -> None:
    events: SimpleQueue[Any] = SimpleQueue()
    script = [*[SensorFailed("unplugged")] * 6, RuntimeError("bus"), 7.0]
    sampler = sampled(Scripted(*script), 0.01, events)

    states = collected(events, SensorState, 3)
    sampler.stop()

    assert [state.fault for state in states] == ["unplugged", "RuntimeError: bus", None]


def test_a_sensor_that_hangs_delays_no_other_and_shows() -> None:
    events: SimpleQueue[Any] = SimpleQueue()
    hanging = Sampler("stuck", Scripted(1.0, pause_s=3.0), 0.01, Quality({}, {}, 300), SystemTime(), events)
    hanging.start(time.monotonic())
    other = sampled(Scripted(1.0), 0.01, events)

    names = {sample.sensor for sample in collected(events, Sample, 20)}
    hanging.stop()
    other.stop()

    assert names == {"main"}
    assert eventually(hanging.hangs_for_s) > 0


def test_values_that_are_none_of_ours_are_refused() -> None:
    class Odd(Scripted):
        def read(self) -> dict[str, float] | None:
            return {"Temp": 1.0}

    events: SimpleQueue[Any] = SimpleQueue()
    sampler = sampled(Odd(1.0), 0.01, events)

    (state,) = collected(events, SensorState, 1)
    sampler.stop()

    assert "quantity 'Temp' is not a name" in state.fault

"""Home Assistant gets to know the node, and shows what is measured now."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from jinja2.sandbox import ImmutableSandboxedEnvironment

from mqtt_client import messages
from mqtt_client.discovery import Discovery
from mqtt_client.home_assistant import announcement, diagnostics, expires_after_s, sensors, topic_of
from mqtt_client.reading import UNITS
from mqtt_client.settings import NodeSettings, load
from tests.node.actors import FakeBridge, RunningNode
from tests.node.home_assistant import TOPIC, faults
from tests.processes import Mosquitto, eventually

CONFIG = "homeassistant/device/kitchen/config"
StartNode = Callable[..., RunningNode]


def settings(**variables: str) -> NodeSettings:
    return load(NodeSettings, {"NODE_ID": "kitchen", "NODE_SENSORS": "main=fixed", **variables})


def announced(quantities: dict[str, list[str]], **variables: str) -> Any:
    given = settings(**variables)
    return announcement(given, sensors(given, quantities) | diagnostics(given))


def shown(component: dict[str, Any], payload: bytes) -> str:
    """Render a component's template as Home Assistant does, in Jinja's sandbox with the payload as value_json."""
    template = ImmutableSandboxedEnvironment().from_string(component["value_template"])
    return template.render(value_json=json.loads(payload))


def test_every_quantity_and_the_nodes_state_satisfy_home_assistants_schema() -> None:
    message = announced({"main": [*UNITS, "soil_moisture"]})

    assert faults(message) == []
    assert TOPIC.fullmatch(topic_of("kitchen"))
    assert len(message["components"]) == len(UNITS) + 1 + len(diagnostics(settings()))


def test_the_schema_test_itself_finds_what_is_wrong() -> None:
    message = announced({"main": ["humidity"]})
    del message["origin"]["name"]
    message["components"]["kitchen_main_humidity"]["unit_of_measurement"] = "%RH"
    message["components"]["kitchen__clock"]["platform"] = "clock"

    assert len(faults(message)) == 3


def test_humidity_has_home_assistants_unit_and_temperature_its_class() -> None:
    components = announced({"main": ["temperature", "humidity"]})["components"]

    assert components["kitchen_main_humidity"]["unit_of_measurement"] == "%"
    assert components["kitchen_main_temperature"] == {
        "platform": "sensor",
        "unique_id": "kitchen_main_temperature",
        "name": "Temperature",
        "state_topic": "sensors/kitchen/reading/main",
        "value_template": "{{ value_json['values']['temperature'] | default('') }}",
        "state_class": "measurement",
        "expire_after": 15,
        "unit_of_measurement": "°C",
        "device_class": "temperature",
        "suggested_display_precision": 1,
    }


def test_a_quantity_without_a_unit_has_neither_unit_nor_class() -> None:
    component = announced({"main": ["soil_moisture"]})["components"]["kitchen_main_soil_moisture"]

    assert component["name"] == "Soil moisture"
    assert not component.keys() & {"unit_of_measurement", "device_class"}


def test_two_sensors_of_one_quantity_are_told_apart() -> None:
    components = announced({"a": ["temperature"], "b": ["temperature"]}, NODE_SENSORS="a=fixed,b=fixed")["components"]

    names = [components[f"kitchen_{sensor}_temperature"]["name"] for sensor in "ab"]
    assert names == ["a Temperature", "b Temperature"]


@pytest.mark.parametrize(
    ("variables", "seconds"),
    [
        ({"SAMPLE_INTERVAL": "60"}, 125),
        ({"SAMPLE_INTERVAL": "0.01"}, 6),
        ({"SAMPLE_INTERVAL": "60", "NODE_DEADBAND": "temperature:0.1"}, 605),
        ({"SAMPLE_INTERVAL": "60", "NODE_DEADBAND": "humidity:1"}, 125),
        ({"OUTBOX_COMMIT_INTERVAL": "120"}, 245),
    ],
)
def test_a_value_expires_when_its_next_one_is_overdue(variables: dict[str, str], seconds: int) -> None:
    assert expires_after_s(settings(**variables), "temperature") == seconds


def test_availability_is_the_nodes_and_has_home_assistants_default_words() -> None:
    message = announced({}, MQTT_TOPIC_PREFIX="farm/north")

    assert message["availability"] == [{"topic": "farm/north/kitchen/availability"}]
    assert (messages.ONLINE, messages.OFFLINE) == (b"online", b"offline")


def test_templates_show_a_reading_and_leave_what_it_lacks_as_it_was() -> None:
    components = announced({"main": ["temperature", "humidity"]})["components"]
    reading = b'{"v":1,"values":{"temperature":21.4}}'

    assert shown(components["kitchen_main_temperature"], reading) == "21.4"
    assert shown(components["kitchen_main_humidity"], reading) == ""


def test_templates_show_the_health_of_a_node_well_or_not() -> None:
    components = diagnostics(settings())
    well = messages.encode(messages.Health("e", 1, clock="synced", outbox_depth=3))
    ill = messages.encode(messages.Health("e", 1, oldest_age_s=4.5, sensor_faults={"main": "unplugged <&>"}))

    assert shown(components["kitchen__problem"], well) == "OFF"
    assert shown(components["kitchen__problem"], ill) == "ON"
    assert [shown(components[f"kitchen__{key}"], well) for key in ("outbox", "oldest", "disk", "clock")] == [
        "3",
        "0",
        "",
        "synced",
    ]
    assert shown(components["kitchen__oldest"], ill) == "4.5"
    attributes = components["kitchen__problem"]["json_attributes_template"]
    rendered = shown({"value_template": attributes}, ill)
    assert json.loads(rendered) == {"sensors": {"main": "unplugged <&>"}, "troubles": []}


def test_every_diagnostic_reads_a_key_that_the_health_has() -> None:
    health = json.loads(messages.encode(messages.Health("e", 1)))

    for component in diagnostics(settings()).values():
        keys = [part.split()[0].strip("}|, ") for part in str(component["value_template"]).split("value_json.")[1:]]
        assert keys
        assert set(keys) <= health.keys()


def test_a_sensor_that_is_silent_since_the_start_keeps_its_place_and_one_that_is_gone_is_taken_off() -> None:
    before = settings(NODE_SENSORS="a=fixed,b=fixed")
    first = Discovery(before, {}, ())
    first.saw("a", ["temperature"], 0.0)
    first.saw("b", ["temperature"], 0.0)
    first.take_message(before, 10.0)

    after = settings(NODE_SENSORS="a=fixed")
    second = Discovery(after, first.known(before), first.announced)
    second.connected(1, 0.0)
    message = json.loads(second.take_message(after, 10.0) or b"")

    assert "unique_id" in message["components"]["kitchen_a_temperature"]
    assert message["components"]["kitchen_b_temperature"] == {"platform": "sensor"}
    assert faults(message) == []


def test_what_another_driver_measured_under_the_name_is_forgotten() -> None:
    before, after = settings(NODE_SENSORS="a=fixed"), settings(NODE_SENSORS="a=simulated")
    first = Discovery(before, {}, ())
    first.saw("a", ["temperature"], 0.0)

    assert Discovery(after, first.known(before), ()).quantities == {"a": []}


def test_news_of_one_start_share_an_announcement() -> None:
    one = Discovery(settings(NODE_SENSORS="a=fixed,b=fixed"), {}, ())
    one.connected(1, 0.0)
    one.saw("a", ["temperature"], 0.2)

    assert one.take_message(settings(NODE_SENSORS="a=fixed,b=fixed"), 1.1) is None
    assert one.take_message(settings(NODE_SENSORS="a=fixed,b=fixed"), 1.3)
    assert one.deadline is None
    assert one.saw("a", ["temperature"], 2.0) is False


def test_turned_off_a_node_announces_nothing_and_takes_back_once_what_it_announced() -> None:
    off = settings(NODE_DISCOVERY="off")
    fresh, known = Discovery(off, {}, ()), Discovery(off, {}, ["sensor/kitchen_main_temperature"])
    fresh.connected(1, 0.0)
    known.connected(1, 0.0)

    assert fresh.take_message(off, 10.0) is None
    assert known.take_message(off, 10.0) == b""
    known.connected(2, 20.0)
    assert known.take_message(off, 30.0) is None


@pytest.fixture
def home_assistant(broker: Mosquitto) -> Any:
    """Somebody who watches what Home Assistant would."""
    watcher = FakeBridge(broker.port, subscribes=False)
    watcher._client.subscribe("homeassistant/device/+/config", 1)
    yield watcher
    watcher.stop()


def configs(watcher: FakeBridge) -> list[bytes]:
    return [payload for topic, payload in watcher.messages if topic == CONFIG]


def test_the_node_announces_itself_again_when_home_assistant_starts(
    start_node: StartNode, home_assistant: FakeBridge
) -> None:
    start_node(NODE_SENSORS="main=fixed", NODE_DEADBAND="temperature:0.1", NODE_HEARTBEAT=60)
    eventually(lambda: configs(home_assistant))

    home_assistant.say("homeassistant/status", "online", retain=False)
    eventually(lambda: len(configs(home_assistant)) == 2)

    message = json.loads(configs(home_assistant)[-1])
    assert faults(message) == []
    assert message["components"]["kitchen_main_temperature"]["expire_after"] == 125
    assert message["components"]["kitchen_main_humidity"]["expire_after"] == 6


def test_the_announcement_is_retained_comes_again_on_a_broker_that_forgot_it_and_can_be_removed(
    start_node: StartNode, broker: Mosquitto
) -> None:
    node = start_node(NODE_SENSORS="main=fixed")
    node.wait_for_log("connected to broker")
    broker.kill()
    broker.restart(empty=True)
    watcher = FakeBridge(broker.port, subscribes=False)
    watcher._client.subscribe("homeassistant/device/+/config", 1)
    eventually(lambda: configs(watcher))
    node.stop()

    done = node.run("discovery", "--remove")
    late = FakeBridge(broker.port, subscribes=False)
    late._client.subscribe([("homeassistant/device/+/config", 1), ("sensors/kitchen/availability", 1)])
    eventually(lambda: late.messages)
    watcher.stop()
    late.stop()

    assert (done.returncode, done.stdout) == (0, f"{CONFIG} is cleared\n")
    assert configs(watcher)[-1] == b""
    assert configs(late) == []


def test_turning_discovery_off_takes_the_node_off_home_assistant(
    start_node: StartNode, home_assistant: FakeBridge
) -> None:
    node = start_node(NODE_SENSORS="main=fixed")
    eventually(lambda: configs(home_assistant))
    node.stop()

    start_node(NODE_SENSORS="main=fixed", NODE_DISCOVERY="off")

    eventually(lambda: configs(home_assistant)[-1] == b"")


def test_a_backlog_never_passes_for_the_present(start_node: StartNode, home_assistant: FakeBridge) -> None:
    start_node(NODE_SENSORS="main=fixed")
    eventually(lambda: configs(home_assistant))

    components = json.loads(configs(home_assistant)[-1])["components"].values()

    assert {one["state_topic"] for one in components} == {"sensors/kitchen/reading/main", "sensors/kitchen/health"}


def test_discovery_prints_what_the_outbox_remembers(start_node: StartNode, home_assistant: FakeBridge) -> None:
    node = start_node(NODE_SENSORS="main=fixed")
    eventually(lambda: configs(home_assistant))
    node.stop()

    done = node.run("discovery")

    assert done.returncode == 0
    assert json.loads(done.stdout) == json.loads(configs(home_assistant)[-1])


def test_removing_without_a_broker_names_it(start_node: StartNode, broker: Mosquitto, tmp_path: Path) -> None:
    node = start_node(NODE_SENSORS="main=fixed")
    broker.kill()

    done = node.run("discovery", "--remove")

    assert done.returncode == 1
    assert f"broker 127.0.0.1:{broker.port} cannot be reached" in done.stderr

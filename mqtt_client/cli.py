"""``mqtt-node``: exit status 0 done, 1 failed, 2 usage or settings."""

import sys
from pathlib import Path

import click

from mqtt_client import logs
from mqtt_client.exits import settings_from, told
from mqtt_client.settings import env_file_variables
from mqtt_client.version import own_version

env_file = click.option(
    "--env-file",
    type=click.Path(path_type=Path, dir_okay=False),
    help="File with settings instead of .env in this folder; the environment wins over it.",
)


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(own_version(), prog_name="mqtt-node")
def main() -> None:
    """Take readings from sensors and bring each of them to the bridge, once."""
    logs.set_up()


@main.command()
@env_file
def run(env_file: Path | None) -> None:
    """Run the node until it is told to stop."""
    from mqtt_client.service import run_from

    run_from(env_file)


@main.command()
@click.option("--connect", is_flag=True, help="Connect to the broker too: name, TLS, account, rights, bridge.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON for programs.")
@env_file
def check(env_file: Path | None, connect: bool, as_json: bool) -> None:
    """Tell what is right or wrong with settings, sensors, outbox and clock."""
    from mqtt_client.check import find, strangers

    with told():
        settings = settings_from(env_file)
        findings = [*strangers(env_file_variables(env_file)), *find(settings)]
        if connect:
            from mqtt_client.connect_check import as_verdict
            from mqtt_client.connect_check import find as find_at_broker

            findings += map(as_verdict, find_at_broker(settings))
        if as_json:
            import json

            click.echo(json.dumps([finding._asdict() for finding in findings], ensure_ascii=False, indent=2))
        else:
            click.echo("\n".join(f"{finding.verdict:5} {finding.text}" for finding in findings))
        faults = sum(finding.verdict == "FAULT" for finding in findings)
        if faults:
            click.echo(f"{faults} fault{'s' if faults > 1 else ''} found", err=True)
            sys.exit(1)


@main.command()
@env_file
def read(env_file: Path | None) -> None:
    """Read each sensor once and print what it measures."""
    from mqtt_client.check import describe, read_once
    from mqtt_client.sensors.registry import make_sensors

    with told():
        settings = settings_from(env_file)
        failed = False
        for name, sensor in make_sensors(settings.node_sensors).items():
            values, wrong = read_once(sensor, settings)
            if values:
                click.echo(f"{name}: {describe(values)}")
            for fault in wrong:
                failed = True
                click.echo(f"{name}: {fault}", err=True)
        if failed:
            sys.exit(1)


@main.command()
@env_file
@click.option("--json", "as_json", is_flag=True, help="For programs: one JSON object.")
def status(env_file: Path | None, as_json: bool) -> None:
    """Tell how many readings wait, what was lost, and when the last receipt came."""
    from mqtt_client.status import lines, read_status

    with told():
        found = read_status(settings_from(env_file))
        if as_json:
            import json

            click.echo(json.dumps(found, ensure_ascii=False, indent=2))
        else:
            click.echo("\n".join(lines(found)))


@main.command("import")
@click.argument("file", type=click.Path(path_type=Path))
@env_file
def import_(file: Path, env_file: Path | None) -> None:
    """Take the unsent readings of the old script's JSON FILE into the outbox, each once for ever."""
    from mqtt_client.clock import SystemTime
    from mqtt_client.legacy import import_file
    from mqtt_client.outbox.opening import open_outbox

    with told():
        settings = settings_from(env_file)
        boot = SystemTime().boot
        outbox = open_outbox(settings.outbox_path, settings.node_id, boot, settings.outbox_max_readings)
        try:
            outcome = import_file(file, outbox, settings.timezone)
        finally:
            outbox.close()
        click.echo(f"imported {outcome.imported}, imported before {outcome.known}, sent before {outcome.sent}")
        for one in outcome.malformed:
            click.echo(f"{file}: entry {one.position}: {one.reason}", err=True)
        if outcome.malformed:
            click.echo(f"{len(outcome.malformed)} malformed entries were not imported", err=True)
            sys.exit(1)


@main.command()
@click.argument("node")
@click.argument("name", type=click.Choice(["read", "identify", "set-interval"]))
@click.argument("value", required=False)
@click.option("--timeout", default=15.0, type=click.FloatRange(0.1, 3600), help="Seconds to wait for the result; 15.")
@env_file
def command(node: str, name: str, value: str | None, timeout: float, env_file: Path | None) -> None:
    """Send a command to NODE and wait for its result.

    read: take a reading of each sensor now. identify: blink the LED. set-interval VALUE: seconds between two
    readings, kept until it is set to null (or to nothing), which means the node's own SAMPLE_INTERVAL.
    """
    from mqtt_client.dispatch import new_command_id, send_command
    from mqtt_client.messages import Command
    from mqtt_client.topics import is_node_name

    if not is_node_name(node):
        raise click.BadParameter("allowed are 1 to 64 of letters, digits, - and _, not 'bridge'", param_hint="NODE")
    try:
        number = None if value in (None, "null") else float(value)
    except ValueError as exc:
        raise click.BadParameter(f"{value!r} was given; allowed is a number or null", param_hint="VALUE") from exc
    with told():
        order = Command(new_command_id(), name, number)  # type: ignore[arg-type]  # click has checked the name
        result = send_command(settings_from(env_file), node, order, timeout)
        if result.status != "ok":
            click.echo(f"{node}: {logs.escape(result.error or 'failed')}", err=True)
            sys.exit(1)
        click.echo(f"{node}: ok")


@main.command()
@click.option("--remove", is_flag=True, help="Take this node off Home Assistant.")
@env_file
def discovery(remove: bool, env_file: Path | None) -> None:
    """Print what this node announces to Home Assistant, or take it back."""
    with told():
        settings = settings_from(env_file)
        if not remove:
            from mqtt_client.discovery import preview

            click.echo(preview(settings))
            return
        from mqtt_client.dispatch import remove_announcement
        from mqtt_client.home_assistant import topic_of

        remove_announcement(settings, settings.node_id)
        click.echo(f"{topic_of(settings.node_id)} is cleared")
        if settings.node_discovery:
            click.echo("a running node announces itself again when it connects, unless NODE_DISCOVERY=off", err=True)

"""``mqtt-bridge``: the commands of the server side. Exit status 0 done, 1 failed, 2 usage or settings."""

import gc
import json
import logging
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import click

from bridge import dead_letters, output_commands
from bridge.command import FAILED, with_settings
from bridge.dead_letters import DeadLetter
from bridge.errors import StoreDamaged
from bridge.priority import give_way
from bridge.provision.commands import broker, nodes
from bridge.settings import BridgeSettings
from bridge.store.database import Store, open_store
from mqtt_client import logs
from mqtt_client.errors import SettingsError
from mqtt_client.settings import env_file_variables
from mqtt_client.unknown_names import unknown_names
from mqtt_client.version import own_version

PREFIXES = ("MQTT_", "SERVER_", "STORE_", "ARCHIVE_", "CLEANUP_", "BACKUP_")
"""Of settings that are the bridge's alone, or both programs'."""
LETTER_ID = click.IntRange(0, 2**63 - 1)
JOBS = ("ingest", "forward", "archive", "alarms", "web")


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(own_version(), prog_name="mqtt-bridge")
def main() -> None:
    """Carry sensor readings from the MQTT broker to your server, to CSV and Excel archives and to plots."""


@main.command()
@click.option("--only", type=click.Choice(JOBS), help="Run this one job in this process.")
@click.option("--lifeline", is_flag=True, hidden=True)
@with_settings
def run(settings: BridgeSettings, only: str | None, lifeline: bool) -> None:
    """Run the bridge until it is told to stop (SIGTERM or Ctrl-C)."""
    from bridge.service import STORE_DAMAGED, make_store_whole, run_service, stop_at_signals

    stop = stop_at_signals()
    for doubt in settings.doubts() if not lifeline else ():
        logging.getLogger("service").warning("%s", doubt)
    if only is None:
        make_store_whole(settings, JOBS)
        sys.exit(run_service(settings, _wanted_jobs(settings), _arguments(), stop))
    if lifeline:
        stop.hold_line()
    try:
        _run_job(settings, only, stop)
    except StoreDamaged as exc:
        if not lifeline:
            raise
        click.echo(f"mqtt-bridge: {logs.escape(str(exc))}", err=True)
        sys.exit(STORE_DAMAGED)


def _wanted_jobs(settings: BridgeSettings) -> list[str]:
    """Return the jobs that have something to do; without rules, alarms has to end those of earlier rules."""
    from bridge.alarms import board, rules

    store = open_store(settings.store_url)
    idle = set() if settings.server_url else {"forward"}
    if settings.alarm_rules:
        rules.read_rules(settings.alarm_rules)
    elif not board.load(store):
        idle.add("alarms")
    store.close()
    return [job for job in JOBS if job not in idle]


def _arguments() -> list[str]:
    env_file = click.get_current_context().obj
    return ["--env-file", str(env_file)] if env_file else []


def _run_job(settings: BridgeSettings, name: str, stop: threading.Event) -> None:
    from bridge.service import lock_of
    from bridge.store import locks

    job = _job(name)
    if name in ("ingest", "forward"):
        # Bursts make many objects and no cycles: looking for those took a tenth of the time.
        gc.freeze()
        gc.set_threshold(50_000)
    store = open_store(settings.store_url)
    try:
        with locks.held(settings, lock_of(name)) as lock:
            job(settings, store.fenced(lock.check), stop)
    finally:
        store.close()


def _job(name: str) -> Callable[[BridgeSettings, Store, threading.Event], None]:
    """Import a job where it runs: ingest never loads pandas, matplotlib or requests."""
    if name == "ingest":
        from bridge.ingest.ingest import run_ingest

        return run_ingest
    if name == "forward":
        from bridge.forward.forwarder import run_forwarder

        return run_forwarder
    if name == "alarms":
        from bridge.alarms.alarms import run_alarms

        return run_alarms
    if name == "web":
        from bridge.web.serve import run_web

        return run_web
    from bridge.schedule import run_schedule

    return run_schedule


@main.command()
@with_settings
def check(settings: BridgeSettings) -> None:
    """Tell every wrong setting, and whether store and folders can be used."""
    store = open_store(settings.store_url)
    click.echo(f"settings    right; time zone {settings.timezone.key}")
    for doubt in settings.doubts():
        click.echo(f"note        {doubt}")
    for told in unknown_names(env_file_variables(click.get_current_context().obj), BridgeSettings, PREFIXES):
        click.echo(f"note        {logs.escape(told)}")
    click.echo(f"store       {settings.store_url.rpartition('@')[2]}, id {store.id}")
    store.close()
    for variable, folder in (
        ("ARCHIVE_DIRECTORY", settings.archive_directory),
        ("BACKUP_DIRECTORY", settings.backup_directory),
    ):
        _check_folder(variable, folder)
        click.echo(f"folder      {folder} can be written")
    click.echo(f"server      {settings.server_url or 'none: archive only'}")
    if settings.alarm_rules:
        from bridge.alarms.rules import read_rules

        click.echo(f"alarms      {len(read_rules(settings.alarm_rules))} rules")
    click.echo(
        f"broker      {settings.mqtt_host}:{settings.broker_port}{' with TLS' if settings.mqtt_tls_ca else ''}"
    )


def _check_folder(variable: str, folder: Path) -> None:
    probe = folder / ".mqtt-bridge-check"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        probe.write_bytes(b"")
        probe.unlink()
    except OSError as exc:
        fault = f"{variable}: {str(folder)!r} cannot be written ({exc.strerror}); allowed is a writable folder"
        raise SettingsError([fault]) from exc


@main.command()
@click.option("--json", "as_json", is_flag=True, help="Print JSON for programs.")
@with_settings
def doctor(settings: BridgeSettings, as_json: bool) -> None:
    """Find what is wrong with disk, store, broker, nodes and server, and tell what to do about it."""
    from bridge.doctor.doctor import report

    sys.exit(FAILED if report(settings, click.get_current_context().obj, click.echo, as_json=as_json) else 0)


@main.command()
@click.option("--json", "as_json", is_flag=True, help="Print JSON for programs.")
@with_settings
def status(settings: BridgeSettings, as_json: bool) -> None:
    """Tell how much waits where, what was lost, how each node is, and why nothing arrives."""
    from bridge.status import read_status
    from bridge.status_table import show

    found = read_status(settings, open_store(settings.store_url, create=False))
    if as_json:
        click.echo(found.as_json())
    else:
        show(found)


@main.command()
@click.argument("reading_id", metavar="ID")
@with_settings
def trace(settings: BridgeSettings, reading_id: str) -> None:
    """Tell one reading's way: taken, received, forwarded (tries, answers), archived where."""
    from bridge.trace import trace as follow

    for line in follow(open_store(settings.store_url, create=False), reading_id):
        click.echo(logs.escape(line))


@main.command("archive")
@with_settings
def archive_now(settings: BridgeSettings) -> None:
    """Archive what is new, now; prints the files that were made."""
    from bridge.archive.archiver import archive
    from bridge.progress import bar

    give_way()
    with bar("archiving") as progress:
        made = archive(settings, open_store(settings.store_url, create=False), progress=progress)
    for one in made:
        click.echo(settings.archive_directory / one.csv_name)
        click.echo(settings.archive_directory / one.xlsx_name)
    if not made:
        click.echo("nothing new to archive")


@main.command("cleanup")
@with_settings
def clean_up_now(settings: BridgeSettings) -> None:
    """Draw the plot, then move the archives to the backup folder."""
    from bridge.archive.cleanup import cleanup

    give_way()
    report = cleanup(settings, open_store(settings.store_url, create=False))
    if report.plot:
        click.echo(f"plot     {report.plot}")
    for file in report.moved:
        click.echo(f"moved    {file}")
    for file in report.deleted:
        click.echo(f"deleted  {file}: older than BACKUP_KEEP_DAYS")
    if report.doubt:
        click.echo(f"kept     all backups: {report.doubt}")
    for file, reason in report.left.items():
        click.echo(f"left     {file}: {reason}")
    click.echo(f"pruned   {report.pruned} readings from the store")
    sys.exit(FAILED if report.left else 0)


main.add_command(broker)
main.add_command(nodes)
for output_command in (output_commands.plot, output_commands.export, output_commands.verify):
    main.add_command(output_command)


@main.group("dead-letters")
def dead_letters_group() -> None:
    """Look at what can never go on by itself, and decide about it."""


@dead_letters_group.command("list")
@click.option("--json", "as_json", is_flag=True, help="Print JSON for programs.")
@with_settings
def list_letters(settings: BridgeSettings, as_json: bool) -> None:
    """List the dead letters, one a line."""
    letters = dead_letters.pending(open_store(settings.store_url, create=False))
    if as_json:
        click.echo(json.dumps([letter.as_json() for letter in letters], ensure_ascii=False, indent=2))
        return
    for letter in letters:
        click.echo(logs.escape(str(letter)))


@dead_letters_group.command("show")
@click.argument("letter_id", metavar="ID", type=LETTER_ID)
@with_settings
def show_letter(settings: BridgeSettings, letter_id: int) -> None:
    """Show one dead letter whole: reason, answer of the server, payload."""
    letter = dead_letters.find(open_store(settings.store_url, create=False), letter_id)
    for key, value in letter.as_json().items():
        if value is not None:
            click.echo(f"{key:11} {logs.escape(str(value))}")


@dead_letters_group.command("retry")
@click.argument("letter_ids", metavar="[ID]...", type=LETTER_ID, nargs=-1)
@click.option("--all", "every", is_flag=True, help="Retry every dead letter.")
@with_settings
def retry_letters(settings: BridgeSettings, letter_ids: tuple[int, ...], every: bool) -> None:
    """Take dead letters in again: judge the payload anew, or send the reading to the server once more."""
    from bridge.dead_letter_decisions import retry

    store = open_store(settings.store_url, create=False)
    refused = 0
    for letter in _letters(store, letter_ids, every):
        outcome = retry(settings, store, letter)
        refused += not outcome.taken
        click.echo(logs.escape(f"{letter.id} {outcome.text}"))
    sys.exit(FAILED if refused else 0)


@dead_letters_group.command("drop")
@click.argument("letter_ids", metavar="[ID]...", type=LETTER_ID, nargs=-1)
@click.option("--all", "every", is_flag=True, help="Drop every dead letter.")
@with_settings
def drop_letters(settings: BridgeSettings, letter_ids: tuple[int, ...], every: bool) -> None:
    """Give dead letters up for ever."""
    store = open_store(settings.store_url, create=False)
    dropped = dead_letters.drop(store, [letter.id for letter in _letters(store, letter_ids, every)])
    click.echo(f"dropped {dropped}")


def _letters(store: Store, letter_ids: tuple[int, ...], every: bool) -> list[DeadLetter]:
    if bool(letter_ids) == every:
        raise click.UsageError("give the IDs of dead letters, or --all")
    return dead_letters.pending(store) if every else [dead_letters.find(store, one) for one in letter_ids]

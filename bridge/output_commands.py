"""``mqtt-bridge plot``, ``export`` and ``verify``: what people take away, and whether the archives are whole."""

import sys
from collections import Counter
from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from pathlib import Path
from typing import TypeVar

import click

from bridge.command import FAILED, with_settings
from bridge.export.moments import ALLOWED, parse_moment
from bridge.export.selection import FIRST_MS, LAST_MS, Selection
from bridge.priority import give_way
from bridge.settings import BridgeSettings
from bridge.store.database import open_store
from mqtt_client import logs

Command = TypeVar("Command", bound=Callable[..., object])

FORMATS = ("csv", "xlsx", "parquet", "json")
STANDARD_OUTPUT = "-"
PICTURE = Path("graphique.png")


def with_selection(command: Command) -> Command:
    """Give a command the options that say which readings are asked for."""
    for option in (
        click.option(
            "--quantity", "quantities", multiple=True, help="Only this quantity; may be given several times."
        ),
        click.option("--node", "nodes", multiple=True, help="Only this node; may be given several times."),
        click.option("--to", "until", metavar="TIME", help="Before this time; a day is included."),
        click.option("--from", "since", metavar="TIME", help=f"From this time on: {ALLOWED}."),
    ):
        command = option(command)
    return command


def _selection(
    settings: BridgeSettings,
    since: str | None,
    until: str | None,
    nodes: Iterable[str],
    quantities: Iterable[str],
) -> Selection:
    now = datetime.now(UTC)
    try:
        from_ms = parse_moment(since, now, settings.timezone) if since else FIRST_MS
        to_ms = parse_moment(until, now, settings.timezone, is_end=True) if until else LAST_MS
    except ValueError as exc:
        raise click.UsageError(str(exc)) from exc
    if from_ms >= to_ms:
        raise click.UsageError(f"--from {since} is not before --to {until}")
    return Selection(from_ms, to_ms, frozenset(_listed(nodes)), tuple(dict.fromkeys(_listed(quantities))))


def _listed(given: Iterable[str]) -> list[str]:
    """Return names that were given one by one, or with commas between them."""
    return [name.strip() for text in given for name in text.split(",") if name.strip()]


def _tell_gaps(gaps: Iterable[object]) -> bool:
    """Tell what could not be read; return whether there is something."""
    told = False
    for gap in gaps:
        click.echo(f"mqtt-bridge: {logs.escape(str(gap))}", err=True)
        told = True
    return told


@click.command("plot")
@with_selection
@click.option("--output", type=click.Path(path_type=Path, dir_okay=False), help="A .png, .svg or .pdf.")
@click.option("--theme", type=click.Choice(["light", "dark"]), default="light", show_default=True)
@with_settings
def plot(
    settings: BridgeSettings,
    since: str | None,
    until: str | None,
    nodes: tuple[str, ...],
    quantities: tuple[str, ...],
    output: Path | None,
    theme: str,
) -> None:
    """Draw a plot; prints its path.

    Without a selection or an output: of what lies in the archive folder, into its graphique_combined.png.
    Else of what is asked for, from the store and all archives together.
    """
    from bridge.plot.plot import plot_archives
    from bridge.plot.selected import plot_selected

    give_way()
    if not (since or until or nodes or quantities or output):
        click.echo(plot_archives(settings, theme=theme))
        return
    output = output or PICTURE
    selection = _selection(settings, since, until, nodes, quantities)
    gaps = plot_selected(settings, open_store(settings.store_url, create=False), selection, output, theme)
    click.echo(output)
    sys.exit(FAILED if _tell_gaps(gaps) else 0)


@click.command("export")
@with_selection
@click.option(
    "--format", "form", type=click.Choice(FORMATS), help="Unless given, as the output's name ends; else csv."
)
@click.option(
    "--output", type=click.Path(path_type=Path), help="A file, for Parquet a folder; standard output unless given."
)
@with_settings
def export(
    settings: BridgeSettings,
    since: str | None,
    until: str | None,
    nodes: tuple[str, ...],
    quantities: tuple[str, ...],
    form: str | None,
    output: Path | None,
) -> None:
    """Write readings from the store and all archives, each once, sorted by time."""
    from bridge.export import export as exports
    from bridge.progress import bar

    to_file = output is not None and str(output) != STANDARD_OUTPUT
    ending = output.suffix.lower().removeprefix(".") if output else ""
    form = form or (ending if ending in FORMATS else "csv")
    if form in ("xlsx", "parquet") and not to_file:
        raise click.UsageError(f"--format {form} needs an --output")
    target = output if output and to_file else exports.STANDARD_OUTPUT
    selection = _selection(settings, since, until, nodes, quantities)
    store = open_store(settings.store_url, create=False)
    give_way()
    with bar("exporting") as progress:
        done = exports.export(settings, store, selection, form, target, progress=progress)
    if to_file:
        for file in done.files:
            click.echo(file)
        click.echo(f"{done.rows} readings", err=True)
    sys.exit(FAILED if _tell_gaps(done.gaps) else 0)


@click.command("verify")
@with_settings
def verify(settings: BridgeSettings) -> None:
    """Compare every archive with its recorded SHA-256 and rows; exit status 1 where something is wrong."""
    from bridge.progress import bar
    from bridge.verify import State
    from bridge.verify import verify as look

    found: Counter[State] = Counter()
    told: list[str] = []
    with bar("verifying") as progress:
        for finding in look(settings, open_store(settings.store_url, create=False), progress):
            found[finding.state] += 1
            if finding.state is not State.GOOD:
                told.append(str(finding))
    for line in told:
        click.echo(logs.escape(line))
    click.echo(", ".join(f"{found[state]} {state.value}" for state in State if found[state]) or "no archives")
    sys.exit(FAILED if any(state.is_fault for state in found) else 0)

"""The status as tables on a terminal."""

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from bridge.status import NodeStatus, Status, format_age, format_values
from bridge.store.database import now_ms
from mqtt_client.logs import escape as escape_control

LONGEST_NAME = len("cpu_temperature")
"""Of the quantities that have a unit; on a narrow terminal no name is cut."""


def show(status: Status) -> None:
    """Print the status; what is wrong comes last, where the eye ends."""
    console = Console(highlight=False)
    console.print(_numbers(status))
    console.print(_nodes(status.nodes))
    for problem in status.problems:
        console.print(f"[bold red]![/] {_shown(problem)}", soft_wrap=True)
    for alarm in status.alarms:
        console.print(f"[bold red]{alarm.severity}[/] {escape(escape_control(alarm.text))}", soft_wrap=True)
    if not status.problems and not status.alarms:
        console.print("[green]all is well[/]")


def _shown(text: str) -> str:
    """Return what others said so that it neither steers the terminal nor is taken for markup."""
    return escape(escape_control(text))


def _numbers(status: Status) -> Table:
    now = now_ms()
    numbers, counters = status.waiting, status.counters
    table = Table(title=f"store {status.store}", title_justify="left")
    table.add_column("")
    table.add_column("readings", justify="right")
    table.add_column("oldest", justify="right")
    for label, count, oldest_ms in (
        ("wait for the server", numbers.to_forward, numbers.oldest_to_forward_ms),
        ("wait for an archive", numbers.to_archive, numbers.oldest_to_archive_ms),
    ):
        table.add_row(label, str(count), format_age(None if oldest_ms is None else (now - oldest_ms) / 1000))
    unknown = f" + {numbers.lost_unknown} × unknown" if numbers.lost_unknown else ""
    for label, count_text in (
        ("dead letters", str(numbers.dead_letters)),
        ("lost", f"{numbers.lost}{unknown}"),
        ("came again and were dropped", str(numbers.repeats)),
        ("sent again after an unknown outcome", str(counters["sent_again_unknown"])),
        ("known to the server already", str(counters["server_duplicates"])),
    ):
        table.add_row(label, count_text, "")
    for name, job in sorted(status.jobs.items()):
        table.add_row(f"job {name}", escape(job.word), format_age((now - job.at_ms) / 1000))
    return table


def _nodes(nodes: list[NodeStatus]) -> Table:
    table = Table(title="nodes", title_justify="left")
    for heading in ("node", "state", "last reading", "ago", "in its outbox", "full in", "lost", "clock"):
        table.add_column(heading, overflow="fold", min_width=LONGEST_NAME if heading == "last reading" else None)
    colours = {"online": "green", "offline": "red", "late": "yellow"}
    for node in nodes:
        colour = colours.get(node.state, "default")
        full_in = None if node.hours_until_full is None else node.hours_until_full * 3600
        table.add_row(
            node.node,
            f"[{colour}]{node.state}[/]",
            escape(format_values(node.last_values)),
            format_age(node.last_age_s),
            "-" if node.outbox_depth is None else str(node.outbox_depth),
            format_age(full_in),
            str(node.lost),
            _shown(node.clock or "-"),
        )
    return table

"""One reading's way: taken, received, forwarded (tries and answers), archived where."""

from collections.abc import Iterator

from sqlalchemy import Connection, Row, select

from bridge.errors import NotFound
from bridge.store import schema
from bridge.store.database import Store
from bridge.store.schema import CLOCKS, ArchiveState, Forward, RangeKind
from mqtt_client.reading import MAX_SEQ, format_time, from_ms

LONGEST_SEQ = len(str(MAX_SEQ))

FORWARD_WORDS = {
    Forward.PENDING: "waits to be forwarded",
    Forward.CLAIMED: "is being forwarded now, or its last try's outcome is unknown",
    Forward.SETTLED: "forwarded",
    Forward.DUPLICATE: "forwarded; the server knew it already after a try of unknown outcome",
    Forward.DEAD: "refused by the server: a dead letter",
    Forward.DROPPED: "refused by the server, dropped by the operator",
}


def trace(store: Store, reading_id: str) -> list[str]:
    """Return the steps of a reading, a line each.

    Raises:
        NotFound: this store has never met it.
    """
    with store.read() as connection:
        for node, epoch, seq in _identities(reading_id):
            lines = _steps(connection, node, epoch, seq)
            if lines:
                return lines
    raise NotFound(f"{reading_id!r} has never come to this store; a reading's id is NODE-EPOCH-SEQ")


def _identities(reading_id: str) -> Iterator[tuple[str, str, int]]:
    """Split an id in every way that is possible, since a node's name may hold hyphens."""
    head, _, seq = reading_id.rpartition("-")
    if seq.isdecimal() and len(seq) <= LONGEST_SEQ and int(seq) <= MAX_SEQ:
        parts = head.split("-")
        for cut in range(len(parts) - 1, 0, -1):
            yield "-".join(parts[:cut]), "-".join(parts[cut:]), int(seq)


def _steps(connection: Connection, node: str, epoch: str, seq: int) -> list[str]:
    sources, nodes = schema.sources, schema.nodes
    source_id = connection.scalar(
        select(sources.c.id).join_from(sources, nodes).where(nodes.c.name == node, sources.c.epoch == epoch)
    )
    if source_id is None:
        return []
    readings = schema.readings
    row = connection.execute(
        select(readings).where(readings.c.source_id == source_id, readings.c.seq == seq)
    ).one_or_none()
    if row is not None:
        return [*_held(connection, row), *_letters(connection, node, epoch, seq, row.id)]
    ranges = schema.ranges.c
    kind = connection.scalar(
        select(ranges.kind).where(ranges.source_id == source_id, ranges.first <= seq, ranges.last >= seq)
    )
    if kind == RangeKind.COMMITTED:
        letters = _letters(connection, node, epoch, seq, None)
        return letters or ["committed; forwarded, archived, and by now pruned from the store (STORE_KEEP_DAYS)"]
    if kind == RangeKind.LOST:
        return ["lost; the reasons told:", *_reasons(connection, source_id, seq)]
    return []


def _held(connection: Connection, row: Row[*tuple[object, ...]]) -> Iterator[str]:
    known = row._mapping
    yield f"taken      {format_time(from_ms(known['time_ms']))}, clock {CLOCKS[known['clock']]}, {known['values']}"
    yield f"received   {format_time(from_ms(known['received_ms']))} and committed"
    attempts = schema.attempts.c
    for at_ms, outcome in connection.execute(
        select(attempts.at_ms, attempts.outcome).where(attempts.reading_id == known["id"]).order_by(attempts.id)
    ):
        yield f"tried      {format_time(from_ms(at_ms))}: {outcome}"
    when = f" {format_time(from_ms(known['forwarded_ms']))}" if known["forwarded_ms"] is not None else ""
    answer = f", answer {known['forward_status']}" if known["forward_status"] is not None else ""
    word = FORWARD_WORDS[Forward(known["forward_state"])]
    yield f"server    {when} {word} (tries {known['forward_tries']}{answer})"
    yield f"archive    {_archive(connection, known['archive_id'])}"


def _archive(connection: Connection, archive_id: int | None) -> str:
    if archive_id is None:
        return "waits for the next archive"
    table = schema.archives
    archive = connection.execute(select(table).where(table.c.id == archive_id)).one()
    state = "" if archive.state == ArchiveState.DONE else " (being written)"
    return f"{archive.csv_name}, {archive.xlsx_name}{state}"


def _letters(connection: Connection, node: str, epoch: str, seq: int, reading_id: int | None) -> list[str]:
    table = schema.dead_letters
    own = (table.c.node == node) & (table.c.epoch == epoch) & (table.c.seq == seq)
    wanted = own if reading_id is None else own | (table.c.reading_id == reading_id)
    words = ("open", "retried", "dropped")
    return [
        f"dead letter {row.id} ({words[row.state]}): {row.reason}"
        for row in connection.execute(select(table.c.id, table.c.state, table.c.reason).where(wanted))
    ]


def _reasons(connection: Connection, source_id: int, seq: int) -> Iterator[str]:
    losses = schema.losses.c
    for at_ms, reason in connection.execute(
        select(losses.at_ms, losses.reason).where(
            losses.source_id == source_id, losses.first <= seq, (losses.last >= seq) | losses.last.is_(None)
        )
    ):
        yield f"{format_time(from_ms(at_ms))}: {reason}"

"""The tables of the store.

What each row remembers is fixed in one transaction with what caused it, so a
power cut leaves either all of a step or nothing of it. The interval sets in
``ranges`` are kept for ever: they alone decide what is a repeat. Numbers of
readings are never selected above a mark, since on PostgreSQL they are not in
the order of commits.
"""

from enum import IntEnum

from sqlalchemy import (
    BigInteger,
    Column,
    Double,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    SmallInteger,
    String,
    Table,
    Text,
    UniqueConstraint,
    text,
)

metadata = MetaData()

# SQLite numbers rows itself only in a column that is exactly INTEGER PRIMARY KEY.
RowId = BigInteger().with_variant(Integer, "sqlite")


class Forward(IntEnum):
    """Where a reading stands on its way to the server; below SETTLED it still has to go."""

    PENDING = 0
    CLAIMED = 1
    """Committed before the POST; found at a start, the outcome of that POST is unknown."""
    SETTLED = 2
    """Answered 2xx."""
    DUPLICATE = 3
    """Answered 409 after a try of unknown outcome: the server had it."""
    DEAD = 4
    """A dead letter; the operator decides."""
    DROPPED = 5
    """Dropped by the operator."""


class RangeKind(IntEnum):
    """Which interval set of a source a range belongs to."""

    COMMITTED = 0
    LOST = 1


class ArchiveState(IntEnum):
    """Steps of an archive; below DONE its rows and names belong to an open intent."""

    MARKING = 0
    """The intent stands; rows are being marked with it."""
    SEALED = 1
    """All its rows are marked; files are being written."""
    DONE = 2
    """Files are in place, their checksums recorded."""


class LetterState(IntEnum):
    """What the operator decided about a dead letter."""

    OPEN = 0
    RETRIED = 1
    DROPPED = 2


CLOCKS = ("synced", "unsynced", "corrected")
"""The column ``clock`` holds an index into this."""

meta = Table(
    "meta",
    metadata,
    Column("key", String(64), primary_key=True),
    Column("value", Text, nullable=False),
)

counters = Table(
    "counters",
    metadata,
    Column("name", String(64), primary_key=True),
    Column("value", BigInteger, nullable=False),
)

jobs = Table(  # what each process last said of itself, for status, health and the page
    "jobs",
    metadata,
    Column("name", String(64), primary_key=True),
    Column("state", Text, nullable=False),  # JSON
    Column("at_ms", BigInteger, nullable=False),
)

leases = Table(  # who does a job, on PostgreSQL; on SQLite lock files say so
    "leases",
    metadata,
    Column("name", String(160), primary_key=True),
    Column("holder", Text, nullable=False),
    Column("token", BigInteger, nullable=False),  # grows with every holder (fencing)
    Column("expires_ms", BigInteger, nullable=False),  # by the database's clock
)

nodes = Table(
    "nodes",
    metadata,
    Column("id", RowId, primary_key=True),
    Column("name", String(64), nullable=False, unique=True),
    Column("availability", String(16)),
    Column("availability_ms", BigInteger),
    Column("info", Text),  # JSON as received
    Column("health", Text),  # JSON as received
    Column("health_ms", BigInteger),
    Column("last_time_ms", BigInteger),  # measured
    Column("last_received_ms", BigInteger),
    Column("last_sensor", String(64)),
    Column("last_values", Text),  # JSON
)

sources = Table(  # one epoch of one node
    "sources",
    metadata,
    Column("id", RowId, primary_key=True),
    Column("node_id", ForeignKey("nodes.id"), nullable=False),
    Column("epoch", String(64), nullable=False),
    Column("start", BigInteger),  # first seq that this store answers for; null: the node has not yet told its floor
    Column("repeats", BigInteger, nullable=False, server_default=text("0")),
    Column("lost_unknown", Integer, nullable=False, server_default=text("0")),  # losses of unknown number
    Column("first_seen_ms", BigInteger, nullable=False),
    UniqueConstraint("node_id", "epoch", name="uq_sources_node_id_epoch"),
)

ranges = Table(
    "ranges",
    metadata,
    Column("source_id", ForeignKey("sources.id"), primary_key=True),
    Column("kind", SmallInteger, primary_key=True),
    Column("first", BigInteger, primary_key=True),
    Column("last", BigInteger, nullable=False),
)

losses = Table(  # each loss as it was told, for people; what counts are the ranges
    "losses",
    metadata,
    Column("id", RowId, primary_key=True),
    Column("source_id", ForeignKey("sources.id"), nullable=False),
    Column("first", BigInteger, nullable=False),
    Column("last", BigInteger),  # null: unknown number
    Column("reason", Text, nullable=False),
    Column("at_ms", BigInteger, nullable=False),
)

archives = Table(
    "archives",
    metadata,
    Column("id", RowId, primary_key=True),
    Column("state", SmallInteger, nullable=False),
    Column("created_ms", BigInteger, nullable=False),
    Column("csv_name", Text, nullable=False, unique=True),
    Column("xlsx_name", Text, nullable=False, unique=True),
    Column("csv_form", String(16), nullable=False),  # ARCHIVE_CSV as it was
    Column("rows", BigInteger),
    Column("first_ms", BigInteger),
    Column("last_ms", BigInteger),
    Column("csv_sha256", String(64)),
    Column("xlsx_sha256", String(64)),
)

readings = Table(
    "readings",
    metadata,
    Column("id", RowId, primary_key=True),
    Column("source_id", ForeignKey("sources.id"), nullable=False),
    Column("node_id", ForeignKey("nodes.id"), nullable=False),
    Column("seq", BigInteger, nullable=False),
    Column("sensor", String(64), nullable=False),
    Column("time_ms", BigInteger, nullable=False),
    Column("clock", SmallInteger, nullable=False),
    Column("values", Text, nullable=False),  # JSON object
    Column("received_ms", BigInteger, nullable=False),
    Column("forward_state", SmallInteger, nullable=False, server_default=text("0")),
    Column("forward_owner", String(64)),  # BRIDGE_ID of who claimed it
    Column("forward_tries", Integer, nullable=False, server_default=text("0")),
    Column("forward_unknown", SmallInteger, nullable=False, server_default=text("0")),  # tries of unknown outcome
    Column("forward_status", SmallInteger),  # last HTTP status
    Column("forwarded_ms", BigInteger),
    Column("archive_id", ForeignKey("archives.id")),
    Index("ux_readings_source_id_seq", "source_id", "seq", unique=True),
    Index("ix_readings_archive_id_time_ms", "archive_id", "time_ms"),
)

Index(
    "ix_readings_to_forward",
    readings.c.node_id,
    readings.c.id,
    sqlite_where=readings.c.forward_state < 2,
    postgresql_where=readings.c.forward_state < 2,
)

alarms = Table(  # what is out of bounds now, or about to be an alarm (raised_ms null: its delay is not over)
    "alarms",
    metadata,
    Column("rule", String(100), primary_key=True),
    Column("node", String(64), primary_key=True),  # empty: of the bridge as a whole
    Column("what", String(200), primary_key=True),  # sensor and quantity, a folder, or empty
    Column("severity", String(16), nullable=False),
    Column("sensor", String(64)),
    Column("quantity", String(32)),
    Column("since_ms", BigInteger, nullable=False),
    Column("raised_ms", BigInteger),
    Column("value", Double),
    Column("text", Text, nullable=False),  # one sentence in UI_LANGUAGE
)

alarm_events = Table(  # the newest of what was raised and cleared
    "alarm_events",
    metadata,
    Column("id", RowId, primary_key=True),
    Column("at_ms", BigInteger, nullable=False),
    Column("event", String(16), nullable=False),  # raised or cleared
    Column("rule", String(100), nullable=False),
    Column("node", String(64), nullable=False),
    Column("what", String(200), nullable=False),
    Column("severity", String(16), nullable=False),
    Column("sensor", String(64)),
    Column("quantity", String(32)),
    Column("value", Double),
    Column("text", Text, nullable=False),
)

attempts = Table(  # tries that did not settle, for trace
    "attempts",
    metadata,
    Column("id", RowId, primary_key=True),
    Column("reading_id", BigInteger, nullable=False, index=True),
    Column("at_ms", BigInteger, nullable=False),
    Column("outcome", Text, nullable=False),
)

dead_letters = Table(
    "dead_letters",
    metadata,
    Column("id", RowId, primary_key=True),
    Column("state", SmallInteger, nullable=False, index=True),
    Column("at_ms", BigInteger, nullable=False),
    Column("reason", Text, nullable=False),
    Column("topic", Text),
    Column("payload", LargeBinary, nullable=False),  # as received; for a refused reading, the reading's JSON
    Column("reading_id", BigInteger, index=True),  # the row in readings that the server refused
    Column("node", String(64)),
    Column("epoch", String(64)),
    Column("seq", BigInteger),
    Column("status", SmallInteger),  # the server's answer
    Column("body", Text),
)

rollup_queue = Table(  # readings that are in no roll-up yet, as the burst that committed them wrote them
    "rollup_queue",
    metadata,
    Column("id", RowId, primary_key=True),
    Column("count", Integer, nullable=False),
    Column("readings", Text, nullable=False),  # JSON: [[node_id, sensor, time_ms, {quantity: value}], …]
)

series = Table(  # one quantity of one sensor
    "series",
    metadata,
    Column("id", RowId, primary_key=True),
    Column("node_id", ForeignKey("nodes.id"), nullable=False),
    Column("sensor", String(64), nullable=False),
    Column("quantity", String(64), nullable=False),
    Column("last_ms", BigInteger),  # when its newest value was measured
    Column("last_value", Double),
    UniqueConstraint("node_id", "sensor", "quantity", name="uq_series_node_id_sensor_quantity"),
)


def _rollups(name: str) -> Table:
    return Table(
        name,
        metadata,
        Column("series_id", ForeignKey("series.id"), primary_key=True),
        Column("start_ms", BigInteger, primary_key=True),
        Column("count", BigInteger, nullable=False),
        Column("minimum", Double, nullable=False),
        Column("maximum", Double, nullable=False),
        Column("total", Double, nullable=False),
        sqlite_with_rowid=False,
    )


rollups_minute = _rollups("rollups_minute")
rollups_hour = _rollups("rollups_hour")

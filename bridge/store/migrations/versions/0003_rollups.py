"""Roll-ups by minute and hour; what the store holds already is queued for them."""

import json

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

QUEUED_AT_ONCE = 1000


def upgrade() -> None:
    row_id = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
    queue = op.create_table(
        "rollup_queue",
        sa.Column("id", row_id, nullable=False),
        sa.Column("count", sa.Integer(), nullable=False),
        sa.Column("readings", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_table(
        "series",
        sa.Column("id", row_id, nullable=False),
        sa.Column("node_id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("sensor", sa.String(length=64), nullable=False),
        sa.Column("quantity", sa.String(length=64), nullable=False),
        sa.ForeignKeyConstraint(["node_id"], ["nodes.id"]),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("node_id", "sensor", "quantity", name="uq_series_node_id_sensor_quantity"),
    )
    for name in ("rollups_minute", "rollups_hour"):
        op.create_table(
            name,
            sa.Column("series_id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
            sa.Column("start_ms", sa.BigInteger(), nullable=False),
            sa.Column("count", sa.BigInteger(), nullable=False),
            sa.Column("minimum", sa.Double(), nullable=False),
            sa.Column("maximum", sa.Double(), nullable=False),
            sa.Column("total", sa.Double(), nullable=False),
            sa.ForeignKeyConstraint(["series_id"], ["series.id"]),
            sa.PrimaryKeyConstraint("series_id", "start_ms"),
            sqlite_with_rowid=False,
        )
    _queue_what_is_held(op.get_bind(), queue)


def _queue_what_is_held(connection: sa.Connection, queue: sa.Table) -> None:
    held = connection.exec_driver_sql('SELECT node_id, sensor, time_ms, "values" FROM readings')
    while rows := held.fetchmany(QUEUED_AT_ONCE):
        text = ",".join(f"[{row[0]},{json.dumps(row[1])},{row[2]},{row[3]}]" for row in rows)
        connection.execute(queue.insert().values(count=len(rows), readings=f"[{text}]"))

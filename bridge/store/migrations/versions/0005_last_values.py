"""The newest value of each series, for the page: the nodes' table has one sensor's only."""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("series", sa.Column("last_ms", sa.BigInteger(), nullable=True))
    op.add_column("series", sa.Column("last_value", sa.Double(), nullable=True))

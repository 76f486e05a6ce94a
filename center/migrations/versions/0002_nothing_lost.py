"""Clones, repairs, observed digests; what a disk lost; corrected times."""

from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

_NOTHING_OBSERVED = "e3b0c44298fc1c149afbf4c8996fb924"
"""The digest of no items. Who has some is asked, as what it says differs."""


def upgrade() -> None:
    """Change the tables.

    Columns are added in place: a copied table of SQLite would lose AUTOINCREMENT, and ids of
    events must never be used twice.
    """
    for name in ("challenge", "repaired_digest", "asked_digest"):
        op.add_column("presence", _kept(name, sa.Text(), "''"))
    op.add_column("presence", _kept("observed_digest", sa.Text(), f"'{_NOTHING_OBSERVED}'"))
    op.add_column("presence", _kept("trouble", sa.Text(), "'{}'"))
    op.add_column("presence", _kept("banned_boots", sa.Text(), "'[]'"))
    op.add_column("presence", _kept("replace", sa.Boolean(), "false"))
    op.add_column("presence", _kept("beat_boot_ms", sa.BigInteger(), "0"))
    op.add_column("watermarks", _kept("high", sa.BigInteger(), "0"))
    op.add_column("watermarks", sa.Column("ends", sa.BigInteger()))
    op.add_column("watermarks", sa.Column("ends_ms", sa.BigInteger()))
    op.add_column("events", _kept("at_ms", sa.BigInteger(), "0"))
    op.add_column("events", _kept("clock", sa.Text(), "''"))
    op.execute("UPDATE events SET at_ms = t_ms")
    op.create_table(
        "desired_history",
        sa.Column("worker", sa.Text(), nullable=False),
        sa.Column("revision", sa.BigInteger(), nullable=False),
        sa.Column("digest", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(
            ["worker"],
            ["desired.worker"],
            name=op.f("fk_desired_history_worker"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("worker", "revision", name=op.f("pk_desired_history")),
    )
    op.execute(
        "INSERT INTO desired_history (worker, revision, digest)"
        " SELECT worker, revision, digest FROM desired"
    )
    op.create_table(
        "clocks",
        sa.Column("worker", sa.Text(), nullable=False),
        sa.Column("machine", sa.Text(), nullable=False),
        sa.Column("booted_ms", sa.BigInteger(), nullable=False),
        sa.Column("doubted_ms", sa.BigInteger(), nullable=True),
        sa.Column("heard_ms", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("worker", "machine", name=op.f("pk_clocks")),
    )


def _kept(name: str, kind: sa.types.TypeEngine[Any], default: str) -> sa.Column[Any]:
    """A column that rows of the earlier version get with a default."""
    return sa.Column(name, kind, nullable=False, server_default=sa.text(default))

"""Webhooks, notifications and their deliveries."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

_ROW_ID = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    """Change the tables."""
    op.create_table(
        "webhooks",
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("url", sa.Text(), nullable=False),
        sa.Column("secret", sa.Text(), nullable=False),
        sa.Column("min_severity", sa.Text(), nullable=False),
        sa.Column("station", sa.Text(), nullable=True),
        sa.Column("created_ms", sa.BigInteger(), nullable=False),
        sa.Column("updated_ms", sa.BigInteger(), nullable=False),
        sa.CheckConstraint(
            "min_severity IN ('warning', 'critical')", name=op.f("ck_webhooks_min_severity")
        ),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_webhooks")),
    )
    op.create_table(
        "notifications",
        sa.Column("id", _ROW_ID, autoincrement=True, nullable=False),
        sa.Column("worker", sa.Text(), nullable=False),
        sa.Column("epoch", sa.BigInteger(), nullable=False),
        sa.Column("lane", sa.Text(), nullable=False),
        sa.Column("seq", sa.BigInteger(), nullable=False),
        sa.Column("station", sa.Text(), nullable=False),
        sa.Column("incident", sa.Text(), nullable=True),
        sa.Column("severity", sa.Text(), nullable=False),
        sa.Column("at_ms", sa.BigInteger(), nullable=False),
        sa.Column("received_ms", sa.BigInteger(), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("look_ms", sa.BigInteger(), nullable=True),
        sa.CheckConstraint(
            "state IN ('waiting', 'late', 'unrouted', 'sent', 'dead')",
            name=op.f("ck_notifications_state"),
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_notifications")),
        sa.UniqueConstraint(
            "worker", "epoch", "lane", "seq", name=op.f("uq_notifications_worker_epoch_lane_seq")
        ),
        sa.UniqueConstraint("worker", "incident", name=op.f("uq_notifications_worker_incident")),
        sqlite_autoincrement=True,
    )
    op.create_index(op.f("ix_notifications_look_ms"), "notifications", ["look_ms"])
    op.create_index(op.f("ix_notifications_state_id"), "notifications", ["state", "id"])
    op.create_table(
        "deliveries",
        sa.Column("notification", _ROW_ID, nullable=False),
        sa.Column("webhook", sa.Text(), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("attempts", sa.Integer(), nullable=False),
        sa.Column("next_ms", sa.BigInteger(), nullable=False),
        sa.Column("lease_ms", sa.BigInteger(), nullable=False),
        sa.Column("since_ms", sa.BigInteger(), nullable=False),
        sa.Column("settled_ms", sa.BigInteger(), nullable=True),
        sa.Column("error", sa.Text(), nullable=False),
        sa.CheckConstraint(
            "state IN ('waiting', 'sent', 'dead')", name=op.f("ck_deliveries_state")
        ),
        sa.ForeignKeyConstraint(
            ["notification"],
            ["notifications.id"],
            name=op.f("fk_deliveries_notification"),
            ondelete="CASCADE",
        ),
        sa.ForeignKeyConstraint(
            ["webhook"], ["webhooks.name"], name=op.f("fk_deliveries_webhook"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("notification", "webhook", name=op.f("pk_deliveries")),
    )
    op.create_index(
        op.f("ix_deliveries_webhook_state_attempts_next_ms"),
        "deliveries",
        ["webhook", "state", "attempts", "next_ms"],
    )


def downgrade() -> None:
    """Change them back."""
    op.drop_table("deliveries")
    op.drop_table("notifications")
    op.drop_table("webhooks")

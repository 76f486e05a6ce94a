"""Models and their files, the workers' tokens, and which model a task names."""

import json

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Change the tables."""
    op.create_table(
        "models",
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("sha256", sa.Text(), nullable=False),
        sa.Column("size_bytes", sa.BigInteger(), nullable=False),
        sa.Column("document", sa.LargeBinary(), nullable=False),
        sa.Column("revision", sa.BigInteger(), nullable=False),
        sa.Column("created_ms", sa.BigInteger(), nullable=False),
        sa.Column("updated_ms", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_models")),
    )
    op.create_index(op.f("ix_models_sha256"), "models", ["sha256"])
    op.create_table(
        "model_parts",
        sa.Column("sha256", sa.Text(), nullable=False),
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column("bytes", sa.LargeBinary(), nullable=False),
        sa.Column("stored_ms", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("sha256", "number", name=op.f("pk_model_parts")),
    )
    op.create_table(
        "worker_tokens",
        sa.Column("sha256", sa.Text(), nullable=False),
        sa.Column("worker", sa.Text(), nullable=False),
        sa.Column("created_ms", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(
            ["worker"],
            ["workers.name"],
            name=op.f("fk_worker_tokens_worker"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("sha256", name=op.f("pk_worker_tokens")),
    )
    op.create_index(op.f("ix_worker_tokens_worker"), "worker_tokens", ["worker"])
    op.add_column(
        "tasks", sa.Column("model", sa.Text(), nullable=False, server_default=sa.text("''"))
    )
    op.create_index(op.f("ix_tasks_model"), "tasks", ["model"])
    _name_the_models()


def _name_the_models() -> None:
    tasks = sa.table(
        "tasks", *(sa.column(name) for name in ("station", "name", "model", "document"))
    )
    named = [
        {"of": row.station, "task": row.name, "named": _named(row.document)}
        for row in op.get_bind().execute(sa.select(tasks.c.station, tasks.c.name, tasks.c.document))
    ]
    if named:
        place = (tasks.c.station == sa.bindparam("of"), tasks.c.name == sa.bindparam("task"))
        statement = sa.update(tasks).where(*place).values(model=sa.bindparam("named"))
        op.get_bind().execute(statement, named)


def _named(document: bytes) -> str:
    return str(json.loads(document)["spec"]["model"]["name"])


def downgrade() -> None:
    """Change them back."""
    op.drop_index(op.f("ix_tasks_model"), "tasks")
    op.drop_column("tasks", "model")
    op.drop_table("worker_tokens")
    op.drop_table("model_parts")
    op.drop_table("models")

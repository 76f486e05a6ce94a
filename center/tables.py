"""The center's tables: the reference book of what is kept.

Here: names, types, constraints, indexes. Not here: connections (db), and what the rows mean to
anybody (the nouns). A change here needs a migration; a test compares the two.

Times are UTC milliseconds. Documents and events are kept as bytes, exactly as made or received.
"""

from sqlalchemy import (
    BigInteger,
    Boolean,
    CheckConstraint,
    Column,
    ForeignKey,
    ForeignKeyConstraint,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    Table,
    Text,
    UniqueConstraint,
    text,
)

metadata = MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "ck": "ck_%(table_name)s_%(constraint_name)s",
        "fk": "fk_%(table_name)s_%(column_0_N_name)s",
        "pk": "pk_%(table_name)s",
    }
)

# SQLite numbers rows by itself only where the type is exactly INTEGER.
RowId = BigInteger().with_variant(Integer(), "sqlite")

meta = Table(
    "meta",
    metadata,
    Column("id", Integer, primary_key=True, comment="always 1: the table has one row"),
    Column(
        "generation",
        BigInteger,
        nullable=False,
        comment="the life of this database: random, below 2^53, renewed when it was restored",
    ),
    Column(
        "revision",
        BigInteger,
        nullable=False,
        comment="the last revision given out; one counter for all resources and documents",
    ),
    CheckConstraint("id = 1", name="one_row"),
    comment="facts about the database itself",
)

tokens = Table(
    "tokens",
    metadata,
    Column("sha256", Text, primary_key=True, comment="of the secret; the secret is never kept"),
    Column("kind", Text, nullable=False, comment="api: bearer; session: cookie; code: one login"),
    Column("role", Text, nullable=False),
    Column("name", Text, nullable=False, comment="who or what it was given to"),
    Column("created_ms", BigInteger, nullable=False),
    Column("expires_ms", BigInteger, comment="none: until it is deleted"),
    CheckConstraint("kind IN ('api', 'session', 'code')", name="kind"),
    CheckConstraint("role IN ('admin')", name="role"),
    Index(None, "kind", "expires_ms"),
    comment="what opens the center",
)

worker_tokens = Table(
    "worker_tokens",
    metadata,
    Column("sha256", Text, primary_key=True, comment="of the secret; the secret is never kept"),
    Column(
        "worker",
        Text,
        ForeignKey("workers.name", ondelete="CASCADE"),
        nullable=False,
        index=True,
    ),
    Column("created_ms", BigInteger, nullable=False),
    comment="with which workers fetch files; they open nothing else",
)

stations = Table(
    "stations",
    metadata,
    Column("name", Text, primary_key=True),
    Column("document", LargeBinary, nullable=False, comment="canonical JSON of the resource"),
    Column("revision", BigInteger, nullable=False, comment="of its last change"),
    Column("created_ms", BigInteger, nullable=False),
    Column("updated_ms", BigInteger, nullable=False),
    comment="sites",
)

workers = Table(
    "workers",
    metadata,
    Column("name", Text, primary_key=True, comment="unique everywhere: the MQTT user name"),
    Column("station", Text, ForeignKey("stations.name"), nullable=False, index=True),
    Column("document", LargeBinary, nullable=False),
    Column("revision", BigInteger, nullable=False),
    Column("created_ms", BigInteger, nullable=False),
    Column("updated_ms", BigInteger, nullable=False),
    comment="registered edge identities; a worker that is not here is turned away",
)

cameras = Table(
    "cameras",
    metadata,
    Column("station", Text, ForeignKey("stations.name"), primary_key=True),
    Column("name", Text, primary_key=True),
    Column("document", LargeBinary, nullable=False, comment="with the streams' passwords"),
    Column("revision", BigInteger, nullable=False),
    Column("created_ms", BigInteger, nullable=False),
    Column("updated_ms", BigInteger, nullable=False),
    comment="cameras of stations",
)

tasks = Table(
    "tasks",
    metadata,
    Column("station", Text, ForeignKey("stations.name"), primary_key=True),
    Column("name", Text, primary_key=True),
    Column("camera", Text, nullable=False, comment="spec.camera, for the reference"),
    Column(
        "model",
        Text,
        nullable=False,
        server_default=text("''"),
        index=True,
        comment="spec.model.name; the center may not have it: then the workers must",
    ),
    Column("document", LargeBinary, nullable=False),
    Column("revision", BigInteger, nullable=False),
    Column("created_ms", BigInteger, nullable=False),
    Column("updated_ms", BigInteger, nullable=False),
    ForeignKeyConstraint(["station", "camera"], ["cameras.station", "cameras.name"]),
    Index(None, "station", "camera"),
    comment="operators' wishes",
)

models = Table(
    "models",
    metadata,
    Column("name", Text, primary_key=True),
    Column("sha256", Text, nullable=False, index=True, comment="of its file"),
    Column("size_bytes", BigInteger, nullable=False, comment="of its file"),
    Column("document", LargeBinary, nullable=False, comment="wire.models.canonical of it"),
    Column("revision", BigInteger, nullable=False),
    Column("created_ms", BigInteger, nullable=False),
    Column("updated_ms", BigInteger, nullable=False),
    comment="neural networks that workers are told of",
)

model_parts = Table(
    "model_parts",
    metadata,
    Column("sha256", Text, primary_key=True, comment="of the whole file"),
    Column("number", Integer, primary_key=True, comment="from 0"),
    Column("bytes", LargeBinary, nullable=False, comment="1 MiB each, the last one may be less"),
    Column("stored_ms", BigInteger, nullable=False),
    comment="models' files; parts that no model refers to are of an upload, or are swept",
)

desired = Table(
    "desired",
    metadata,
    Column("worker", Text, ForeignKey("workers.name", ondelete="CASCADE"), primary_key=True),
    Column("revision", BigInteger, nullable=False, comment="of the document's last change"),
    Column("digest", Text, nullable=False, comment="wire.messages.digest of the live items"),
    Column("size_bytes", BigInteger, nullable=False, comment="sum of the live items' bodies"),
    Column("updated_ms", BigInteger, nullable=False),
    comment="each worker's desired document; exists before the worker was ever heard",
)

desired_items = Table(
    "desired_items",
    metadata,
    Column("worker", Text, ForeignKey("desired.worker", ondelete="CASCADE"), primary_key=True),
    Column("kind", Text, primary_key=True, comment="Camera, Model, Station or Task"),
    Column("id", Text, primary_key=True, comment="the resource's name within the station"),
    Column("revision", BigInteger, nullable=False, comment="of the resource"),
    Column("hash", Text, nullable=False, comment="wire.messages.item_hash of the body"),
    Column("body", LargeBinary, comment="the bytes that are sent; none in a tombstone"),
    Column(
        "changed_revision",
        BigInteger,
        nullable=False,
        comment="the document's revision in which this item was last put or removed",
    ),
    Column("removed", Boolean, nullable=False, comment="a tombstone, so that deltas can be made"),
    CheckConstraint("removed OR body IS NOT NULL", name="body"),
    Index(None, "worker", "removed"),
    comment="the items of the desired documents, live and removed",
)

desired_history = Table(
    "desired_history",
    metadata,
    Column("worker", Text, ForeignKey("desired.worker", ondelete="CASCADE"), primary_key=True),
    Column("revision", BigInteger, primary_key=True),
    Column("digest", Text, nullable=False),
    comment="the newest documents of each worker, from which deltas may start",
)

presence = Table(
    "presence",
    metadata,
    Column("worker", Text, ForeignKey("workers.name", ondelete="CASCADE"), primary_key=True),
    Column("instance", Text, nullable=False, comment="identity of the data folder; '': never"),
    Column("boot", Text, nullable=False, comment="the agent process that holds the fence"),
    Column("past_boots", Text, nullable=False, comment="JSON list: superseded boots, newest last"),
    Column("session", Text, nullable=False, comment="the MQTT connection that counts; '': none"),
    Column("fence", BigInteger, nullable=False, comment="only rises"),
    Column("heard_ms", BigInteger, comment="last sign of life; none: never heard"),
    Column("gone", Text, nullable=False, comment="'' while connected as far as known"),
    Column("software", Text, nullable=False),
    Column("known_generation", BigInteger, nullable=False, comment="the document it has: whose"),
    Column("known_revision", BigInteger, nullable=False, comment="which"),
    Column("known_digest", Text, nullable=False, comment="and its digest"),
    Column("pending_alarm", BigInteger, nullable=False, comment="events waiting for an ack"),
    Column("pending_bulk", BigInteger, nullable=False),
    Column("shed", BigInteger, nullable=False, comment="events given up since the agent started"),
    Column("streams", LargeBinary, nullable=False, comment="JSON list of StreamHealth"),
    Column(
        "denied", Text, nullable=False, comment="why its last hello was refused; '': it was not"
    ),
    Column("beat_boot_ms", BigInteger, nullable=False, comment="of the session's last heartbeat"),
    Column("observed_digest", Text, nullable=False, comment="of the observed items as stored"),
    Column("banned_boots", Text, nullable=False, comment="JSON list: clones, denied until replace"),
    Column(
        "challenge", Text, nullable=False, comment="BOOT NONCE put to an outdated boot; '': none"
    ),
    Column("replace", Boolean, nullable=False, comment="an operator lets the next denied one in"),
    Column(
        "repaired_digest",
        Text,
        nullable=False,
        comment="of the whole document last sent because a heartbeat differed; '': none",
    ),
    Column(
        "asked_digest",
        Text,
        nullable=False,
        comment="the observed digest that the worker was asked about; '': none",
    ),
    Column(
        "trouble",
        Text,
        nullable=False,
        comment="JSON object: what an operator must look at, by sort: a sentence and UTC ms",
    ),
    CheckConstraint("gone IN ('', 'will', 'bye')", name="gone"),
    comment="what was last heard of each worker",
)

observed_items = Table(
    "observed_items",
    metadata,
    Column("worker", Text, ForeignKey("workers.name", ondelete="CASCADE"), primary_key=True),
    Column("kind", Text, primary_key=True),
    Column("id", Text, primary_key=True),
    Column("revision", BigInteger, nullable=False, comment="that the state speaks of"),
    Column("state", Text, nullable=False),
    Column("reason", Text, nullable=False),
    Column("observed_ms", BigInteger, nullable=False),
    CheckConstraint("state IN ('Starting', 'Running', 'Degraded', 'Rejected')", name="state"),
    comment="what became of the items, as the workers say",
)

# Events and the ledger outlive their worker's row: no foreign keys from here on.

watermarks = Table(
    "watermarks",
    metadata,
    Column("worker", Text, primary_key=True),
    Column("epoch", BigInteger, primary_key=True),
    Column("lane", Text, primary_key=True),
    Column("seq", BigInteger, nullable=False, comment="everything up to here is stored or a gap"),
    Column(
        "high", BigInteger, nullable=False, comment="the highest number that the worker told of"
    ),
    Column("ends", BigInteger, comment="the last number that it still has; none: it may go on"),
    Column("ends_ms", BigInteger, comment="since when that is known"),
    Column("updated_ms", BigInteger, nullable=False),
    CheckConstraint("lane IN ('alarm', 'bulk')", name="lane"),
    comment="how far each lane of each epoch has come",
)

events = Table(
    "events",
    metadata,
    Column("id", RowId, primary_key=True, autoincrement=True, comment="the order of storing"),
    Column("worker", Text, nullable=False),
    Column("epoch", BigInteger, nullable=False),
    Column("lane", Text, nullable=False),
    Column("seq", BigInteger, nullable=False),
    Column("station", Text, nullable=False),
    Column("camera", Text, nullable=False),
    Column("task", Text, nullable=False),
    Column("rule", Text, nullable=False),
    Column("severity", Text, nullable=False),
    Column("phase", Text),
    Column("incident", Text),
    Column(
        "t_ms", BigInteger, nullable=False, comment="when it became true, by the station's clock"
    ),
    Column("at_ms", BigInteger, nullable=False, comment="t_ms, corrected where its clock was off"),
    Column("clock", Text, nullable=False, comment="'': sound; corrected; uncertain"),
    Column("received_ms", BigInteger, nullable=False, comment="by the center's clock"),
    Column(
        "backfill", Boolean, nullable=False, comment="it happened before the session it came in"
    ),
    Column("body", LargeBinary, nullable=False, comment="the event's bytes as the edge wrote them"),
    UniqueConstraint("worker", "epoch", "lane", "seq"),
    Index(None, "station", "id"),
    Index(
        "ix_events_ended",
        "worker",
        "incident",
        sqlite_where=text("phase = 'end'"),
        postgresql_where=text("phase = 'end'"),
    ),
    sqlite_autoincrement=True,
    comment="immutable facts, each stored once",
)

clocks = Table(
    "clocks",
    metadata,
    Column("worker", Text, primary_key=True),
    Column("machine", Text, primary_key=True, comment="a boot of the worker's machine"),
    Column("booted_ms", BigInteger, nullable=False, comment="when that was, by the center's clock"),
    Column("doubted_ms", BigInteger, comment="another reading of the same, not yet believed"),
    Column("heard_ms", BigInteger, nullable=False),
    comment="how to read the boot times of events",
)

open_incidents = Table(
    "open_incidents",
    metadata,
    Column("worker", Text, primary_key=True),
    Column("incident", Text, primary_key=True),
    Column("station", Text, nullable=False, index=True),
    Column("severity", Text, nullable=False),
    Column("event", RowId, ForeignKey("events.id"), nullable=False, comment="its start"),
    comment="incidents whose end has not come",
)

gaps = Table(
    "gaps",
    metadata,
    Column("worker", Text, primary_key=True),
    Column("epoch", BigInteger, primary_key=True),
    Column("lane", Text, primary_key=True),
    Column("first", BigInteger, primary_key=True),
    Column("last", BigInteger, nullable=False),
    Column("why", Text, nullable=False, comment="shed, corrupt, refused, lost_with_disk"),
    Column("received_ms", BigInteger, nullable=False),
    CheckConstraint("first <= last", name="order"),
    comment="declared loss: these numbers will never come",
)

dead_letters = Table(
    "dead_letters",
    metadata,
    Column("id", RowId, primary_key=True, autoincrement=True),
    Column("worker", Text, nullable=False),
    Column("topic", Text, nullable=False, comment="the channel that it came on"),
    Column("epoch", BigInteger),
    Column("lane", Text),
    Column("seq", BigInteger),
    Column("reason", Text, nullable=False),
    Column("body", LargeBinary, nullable=False, comment="its beginning, at most 64 KiB"),
    Column("received_ms", BigInteger, nullable=False),
    Index(None, "worker", "id"),
    sqlite_autoincrement=True,
    comment="what could not be stored, the newest of each worker",
)

# --- telling people -----------------------------------------------------------------------------

webhooks = Table(
    "webhooks",
    metadata,
    Column("name", Text, primary_key=True),
    Column("url", Text, nullable=False, comment="http or https; its query may hold a token"),
    Column("secret", Text, nullable=False, comment="what posts are signed with; never shown"),
    Column("min_severity", Text, nullable=False),
    Column("station", Text, comment="alarms of this station only; none: of all"),
    Column("created_ms", BigInteger, nullable=False),
    Column("updated_ms", BigInteger, nullable=False),
    CheckConstraint("min_severity IN ('warning', 'critical')", name="min_severity"),
    comment="who is told of alarms",
)

notifications = Table(
    "notifications",
    metadata,
    Column("id", RowId, primary_key=True, autoincrement=True),
    Column("worker", Text, nullable=False),
    Column("epoch", BigInteger, nullable=False),
    Column("lane", Text, nullable=False),
    Column("seq", BigInteger, nullable=False),
    Column("station", Text, nullable=False),
    Column("incident", Text, comment="none: a moment"),
    Column("severity", Text, nullable=False),
    Column("at_ms", BigInteger, nullable=False, comment="when it became true, corrected"),
    Column("received_ms", BigInteger, nullable=False, comment="by the center's clock"),
    Column(
        "state",
        Text,
        nullable=False,
        comment="waiting: undecided, or a delivery waits; late: only listed; unrouted: no webhook "
        "asked for it; sent; dead: a delivery was given up",
    ),
    Column("look_ms", BigInteger, index=True, comment="decide then; none: it is decided"),
    UniqueConstraint("worker", "epoch", "lane", "seq"),
    UniqueConstraint("worker", "incident"),
    CheckConstraint("state IN ('waiting', 'late', 'unrouted', 'sent', 'dead')", name="state"),
    Index(None, "state", "id"),
    sqlite_autoincrement=True,
    comment="new alarms, each once: the event has the rest",
)

deliveries = Table(
    "deliveries",
    metadata,
    Column(
        "notification", RowId, ForeignKey("notifications.id", ondelete="CASCADE"), primary_key=True
    ),
    Column("webhook", Text, ForeignKey("webhooks.name", ondelete="CASCADE"), primary_key=True),
    Column("state", Text, nullable=False),
    Column("attempts", Integer, nullable=False, comment="begun so far"),
    Column("next_ms", BigInteger, nullable=False, comment="not before then"),
    Column("lease_ms", BigInteger, nullable=False, comment="somebody posts it until then; 0: none"),
    Column("since_ms", BigInteger, nullable=False, comment="when it was decided to tell"),
    Column("settled_ms", BigInteger, comment="when it was sent or given up"),
    Column("error", Text, nullable=False, comment="why the last attempt failed; '': it did not"),
    CheckConstraint("state IN ('waiting', 'sent', 'dead')", name="state"),
    Index(None, "webhook", "state", "attempts", "next_ms"),
    comment="a notification on its way to a webhook",
)

-- Where each partition stands. The only truth: Kafka's committed offsets are advice for lag tools.
CREATE TABLE sluice.positions (
    pipeline      text        NOT NULL,
    topic         text        NOT NULL,
    partition     integer     NOT NULL,
    -- Kafka's id of the topic; a topic deleted and created again has another one.
    topic_id      uuid        NOT NULL,
    next_offset   bigint      NOT NULL,
    -- Raised by each claim; a write under an older epoch changes nothing.
    epoch         bigint      NOT NULL,
    owner         text        NOT NULL,
    backend_pid   integer,
    -- Plugin version that wrote last, and the offset from which on it did: the key of its lineage row.
    digest        text,
    digest_since  bigint,
    claimed_at    timestamptz NOT NULL DEFAULT now(),
    updated_at    timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (pipeline, topic, partition)
) WITH (fillfactor = 50);

-- Which plugin version made which range of offsets; one row per version and range, extended in place.
CREATE TABLE sluice.lineage (
    pipeline      text        NOT NULL,
    topic         text        NOT NULL,
    topic_id      uuid        NOT NULL,
    partition     integer     NOT NULL,
    from_offset   bigint      NOT NULL,
    to_offset     bigint      NOT NULL,
    digest        text        NOT NULL,
    plugin        text        NOT NULL,
    version       text        NOT NULL,
    -- messages = rows_from + filtered + rejected
    messages      bigint      NOT NULL,
    rows_from     bigint      NOT NULL,
    rows          bigint      NOT NULL,
    filtered      bigint      NOT NULL,
    rejected      bigint      NOT NULL,
    first_at      timestamptz NOT NULL DEFAULT now(),
    last_at       timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (pipeline, topic, topic_id, partition, from_offset)
) WITH (fillfactor = 50);

-- Messages that did not become rows, with everything needed to replay them.
CREATE TABLE sluice.dead_letters (
    id            bigint      GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    pipeline      text        NOT NULL,
    topic         text        NOT NULL,
    topic_id      uuid        NOT NULL,
    partition     integer     NOT NULL,
    "offset"      bigint      NOT NULL,
    -- The message's own time; NULL when it carries none.
    "timestamp"   timestamptz,
    key           bytea,
    payload       bytea,
    -- In the order of the message; names need be neither UTF-8 nor unique.
    header_names  bytea[]     NOT NULL,
    header_values bytea[]     NOT NULL,
    stage         text        NOT NULL,
    code          text        NOT NULL,
    reason        text        NOT NULL,
    digest        text        NOT NULL,
    attempts      integer     NOT NULL DEFAULT 1,
    rejected_at   timestamptz NOT NULL DEFAULT now()
);

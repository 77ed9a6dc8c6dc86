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

CREATE INDEX dead_letters_by_time ON sluice.dead_letters (pipeline, rejected_at);

-- Moves the positions of a batch and extends its lineage, or fails: the last statement before COMMIT.
-- One element per partition in each array. Raises SL001 unless every partition stands where the batch
-- began, under the same claim and the same topic, so that a COMMIT sent along becomes a ROLLBACK.
CREATE FUNCTION sluice.advance(
    _pipeline   text,
    _topic      text,
    _topic_id   uuid,
    _digest     text,
    _plugin     text,
    _version    text,
    _partitions integer[],
    _epochs     bigint[],
    _from       bigint[],
    _to         bigint[],
    _messages   bigint[],
    _rows_from  bigint[],
    _rows       bigint[],
    _filtered   bigint[],
    _rejected   bigint[]
) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    moved_count integer;
BEGIN
    WITH batch AS (
        SELECT *
        FROM unnest(_partitions, _epochs, _from, _to, _messages, _rows_from, _rows, _filtered, _rejected)
            AS b (partition, epoch, from_offset, to_offset, messages, rows_from, rows, filtered, rejected)
    ), moved AS (
        UPDATE sluice.positions AS p
        SET next_offset = b.to_offset,
            backend_pid = pg_backend_pid(),
            -- A version's range goes on until another version writes.
            digest_since = CASE WHEN p.digest = _digest THEN coalesce(p.digest_since, b.from_offset)
                                ELSE b.from_offset END,
            digest = _digest,
            updated_at = now()
        FROM batch AS b
        WHERE p.pipeline = _pipeline AND p.topic = _topic AND p.partition = b.partition
            AND p.epoch = b.epoch AND p.next_offset = b.from_offset AND p.topic_id = _topic_id
        RETURNING p.partition, p.digest_since, b.to_offset, b.messages, b.rows_from, b.rows, b.filtered, b.rejected
    ), extended AS (
        INSERT INTO sluice.lineage AS l (
            pipeline, topic, topic_id, partition, from_offset, to_offset, digest, plugin, version,
            messages, rows_from, rows, filtered, rejected
        )
        SELECT _pipeline, _topic, _topic_id, m.partition, m.digest_since, m.to_offset, _digest, _plugin, _version,
            m.messages, m.rows_from, m.rows, m.filtered, m.rejected
        FROM moved AS m
        ON CONFLICT (pipeline, topic, topic_id, partition, from_offset) DO UPDATE
        SET to_offset = excluded.to_offset,
            messages = l.messages + excluded.messages,
            rows_from = l.rows_from + excluded.rows_from,
            rows = l.rows + excluded.rows,
            filtered = l.filtered + excluded.filtered,
            rejected = l.rejected + excluded.rejected,
            last_at = now()
    )
    SELECT count(*) INTO moved_count FROM moved;
    IF moved_count <> cardinality(_partitions) THEN
        RAISE EXCEPTION 'only % of % partitions stand where the batch began', moved_count, cardinality(_partitions)
            USING ERRCODE = 'SL001';
    END IF;
END
$$;

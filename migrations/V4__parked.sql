-- Messages that are tried again later, by any host that runs the pipeline.
CREATE TABLE sluice.parked (
    id            bigint      GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    pipeline      text        NOT NULL,
    topic         text        NOT NULL,
    topic_id      uuid        NOT NULL,
    partition     integer     NOT NULL,
    "offset"      bigint      NOT NULL,
    "timestamp"   timestamptz,
    log_append_time boolean   NOT NULL DEFAULT false,
    key           bytea,
    payload       bytea,
    header_names  bytea[]     NOT NULL,
    header_values bytea[]     NOT NULL,
    -- How it failed last; empty for a message that waits behind an earlier one of its key.
    stage         text        NOT NULL,
    code          text        NOT NULL,
    reason        text        NOT NULL,
    digest        text        NOT NULL,
    -- Times it was tried; 0 for one that waits behind another.
    attempts      integer     NOT NULL,
    delay_ms      bigint      NOT NULL,
    parked_at     timestamptz NOT NULL DEFAULT now(),
    due_at        timestamptz NOT NULL DEFAULT now()
);

CREATE INDEX parked_by_time ON sluice.parked (pipeline, due_at);
-- Keys may be longer than an index takes.
CREATE INDEX parked_by_key ON sluice.parked (pipeline, topic_id, partition, md5(key), "offset") WHERE key IS NOT NULL;

-- Due by the clock of the server, which all hosts share.
CREATE FUNCTION sluice.set_due() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    NEW.due_at := clock_timestamp() + make_interval(secs => NEW.delay_ms / 1000.0);
    RETURN NEW;
END
$$;

CREATE TRIGGER set_due BEFORE INSERT OR UPDATE OF delay_ms ON sluice.parked
    FOR EACH ROW EXECUTE FUNCTION sluice.set_due();

-- Parked messages that passed, one row each, written with the rows made of them: for these offsets it, and not
-- sluice.lineage, says which plugin version made the rows.
CREATE TABLE sluice.retried (
    -- As in sluice.parked, where the message was.
    id            bigint      PRIMARY KEY,
    pipeline      text        NOT NULL,
    topic         text        NOT NULL,
    topic_id      uuid        NOT NULL,
    partition     integer     NOT NULL,
    "offset"      bigint      NOT NULL,
    digest        text        NOT NULL,
    plugin        text        NOT NULL,
    version       text        NOT NULL,
    -- The successful one included.
    attempts      integer     NOT NULL,
    -- Over all tables; 0 when the plugin kept nothing of it.
    rows          integer     NOT NULL,
    retried_at    timestamptz NOT NULL DEFAULT now()
);

ALTER TABLE sluice.lineage
    -- messages = rows_from + filtered + rejected + parked
    ADD COLUMN parked bigint NOT NULL DEFAULT 0;

-- As before, and counts parked messages. See V1 for what it promises.
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
    _rejected   bigint[],
    _parked     bigint[]
) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    moved_count integer;
BEGIN
    WITH batch AS (
        SELECT *
        FROM unnest(_partitions, _epochs, _from, _to, _messages, _rows_from, _rows, _filtered, _rejected, _parked)
            AS b (partition, epoch, from_offset, to_offset, messages, rows_from, rows, filtered, rejected, parked)
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
        RETURNING p.partition, p.digest_since, b.to_offset, b.messages, b.rows_from, b.rows, b.filtered, b.rejected, b.parked
    ), extended AS (
        INSERT INTO sluice.lineage AS l (
            pipeline, topic, topic_id, partition, from_offset, to_offset, digest, plugin, version,
            messages, rows_from, rows, filtered, rejected, parked
        )
        SELECT _pipeline, _topic, _topic_id, m.partition, m.digest_since, m.to_offset, _digest, _plugin, _version,
            m.messages, m.rows_from, m.rows, m.filtered, m.rejected, m.parked
        FROM moved AS m
        ON CONFLICT (pipeline, topic, topic_id, partition, from_offset) DO UPDATE
        SET to_offset = excluded.to_offset,
            messages = l.messages + excluded.messages,
            rows_from = l.rows_from + excluded.rows_from,
            rows = l.rows + excluded.rows,
            filtered = l.filtered + excluded.filtered,
            rejected = l.rejected + excluded.rejected,
            parked = l.parked + excluded.parked,
            last_at = now()
    )
    SELECT count(*) INTO moved_count FROM moved;
    IF moved_count <> cardinality(_partitions) THEN
        RAISE EXCEPTION 'only % of % partitions stand where the batch began', moved_count, cardinality(_partitions)
            USING ERRCODE = 'SL001';
    END IF;
END
$$;

-- For hosts of the version before, while they are replaced one by one.
CREATE OR REPLACE FUNCTION sluice.advance(
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
) RETURNS void LANGUAGE sql AS $$
    SELECT sluice.advance(
        _pipeline, _topic, _topic_id, _digest, _plugin, _version, _partitions, _epochs, _from, _to, _messages,
        _rows_from, _rows, _filtered, _rejected, array_fill(0::bigint, ARRAY[cardinality(_partitions)])
    )
$$;

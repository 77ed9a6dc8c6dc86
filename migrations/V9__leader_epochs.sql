-- Of the message that was read last before a position: a log that was cut since and has grown again has another one there,
-- of another leader epoch. Null where nothing is known, as after a person has set the position.
ALTER TABLE sluice.positions ADD COLUMN last_offset bigint, ADD COLUMN leader_epoch integer;

-- See V1 for what it promises, and V7 for why it has no search_path of its own.
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
    _parked     bigint[],
    _last_offsets  bigint[],
    _leader_epochs integer[]
) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    moved_count integer;
BEGIN
    WITH batch AS (
        SELECT *
        FROM unnest(_partitions, _epochs, _from, _to, _messages, _rows_from, _rows, _filtered, _rejected, _parked,
            _last_offsets, _leader_epochs)
            AS b (partition, epoch, from_offset, to_offset, messages, rows_from, rows, filtered, rejected, parked,
            last_offset, leader_epoch)
    ), moved AS (
        UPDATE sluice.positions AS p
        SET next_offset = b.to_offset,
            backend_pid = pg_catalog.pg_backend_pid(),
            -- A version's range goes on until another version writes.
            digest_since = CASE WHEN p.digest = _digest THEN coalesce(p.digest_since, b.from_offset)
                                ELSE b.from_offset END,
            digest = _digest,
            last_offset = b.last_offset,
            leader_epoch = b.leader_epoch,
            updated_at = pg_catalog.now()
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
            last_at = pg_catalog.now()
    )
    SELECT pg_catalog.count(*) INTO moved_count FROM moved;
    IF moved_count <> pg_catalog.cardinality(_partitions) THEN
        RAISE EXCEPTION 'only % of % partitions stand where the batch began', moved_count, pg_catalog.cardinality(_partitions)
            USING ERRCODE = 'SL001';
    END IF;
END
$$;

-- Hosts of the version before know nothing of leader epochs.
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
    _rejected   bigint[],
    _parked     bigint[]
) RETURNS void LANGUAGE sql SET search_path = pg_catalog, pg_temp AS $$
    SELECT sluice.advance(
        _pipeline, _topic, _topic_id, _digest, _plugin, _version, _partitions, _epochs, _from, _to, _messages,
        _rows_from, _rows, _filtered, _rejected, _parked,
        array_fill(NULL::bigint, ARRAY[cardinality(_partitions)]), array_fill(NULL::integer, ARRAY[cardinality(_partitions)])
    )
$$;

-- Hosts that work on a pipeline, each with what all of them must agree on. One that lives holds the advisory lock of its
-- owner's name; the others are taken out when the next one joins.
CREATE TABLE sluice.hosts (
    pipeline       text        NOT NULL,
    owner          text        NOT NULL,
    host           text        NOT NULL,
    topic          text        NOT NULL,
    consumer_group text        NOT NULL,
    retry_order    text        NOT NULL,
    joined_at      timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (pipeline, owner)
);

-- True while the owner's heartbeat is there.
CREATE FUNCTION sluice.lives(_owner text) RETURNS boolean LANGUAGE sql SET search_path = pg_catalog, pg_temp AS $$
    SELECT EXISTS (
        SELECT FROM pg_locks AS l
        WHERE l.locktype = 'advisory' AND l.granted AND l.objsubid = 2
            AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database())
            -- "slui" in ASCII.
            AND l.classid::bigint = 1936487785 AND l.objid::bigint = hashtext(_owner)::bigint & 4294967295
    )
$$;

-- Joins the hosts of a pipeline, or returns one that lives and does not agree. One at a time, so that of two that begin at
-- the same moment the second sees the first.
CREATE FUNCTION sluice.join_hosts(
    _pipeline text,
    _owner    text,
    _host     text,
    _topic    text,
    _group    text,
    _order    text
) RETURNS SETOF sluice.hosts LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    PERFORM pg_advisory_xact_lock(1936487786, hashtext(_pipeline));
    DELETE FROM sluice.hosts AS h WHERE h.pipeline = _pipeline AND h.owner <> _owner AND NOT sluice.lives(h.owner);
    RETURN QUERY SELECT h.* FROM sluice.hosts AS h
        WHERE h.pipeline = _pipeline AND h.owner <> _owner
            AND (h.topic, h.consumer_group, h.retry_order) <> (_topic, _group, _order)
        ORDER BY h.joined_at LIMIT 1;
    IF NOT FOUND THEN
        INSERT INTO sluice.hosts (pipeline, owner, host, topic, consumer_group, retry_order)
        VALUES (_pipeline, _owner, _host, _topic, _group, _order)
        ON CONFLICT (pipeline, owner) DO UPDATE SET joined_at = now();
    END IF;
END
$$;

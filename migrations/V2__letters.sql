-- What becomes of dead letters: they are replayed, discarded, or relayed to a topic.

ALTER TABLE sluice.dead_letters
    -- `rejected_at` is the first time. This is the last one, when a replay or the end of its retries rejected the
    -- message again; NULL: there was but one. Stage, code, reason and digest are those of the last time.
    ADD COLUMN last_rejected_at timestamptz,
    -- True while the letter waits to be sent to the pipeline's topic of dead letters: set by whoever writes it while
    -- there is such a topic, false once it was sent. A mark on each letter, because hosts commit their letters in
    -- another order than that of the ids: behind a highest id some would be passed over.
    ADD COLUMN relay boolean NOT NULL DEFAULT false,
    ADD COLUMN relayed_at timestamptz,
    -- Why the letter cannot be relayed, code first: it is then marked (relay = false, relayed_at NULL) and the others go on.
    ADD COLUMN relay_fault text,
    -- True when "timestamp" is the time at which the broker appended the message, false when its producer gave it.
    ADD COLUMN log_append_time boolean NOT NULL DEFAULT false;

-- Holds what waits and nothing else: as long as nothing is relayed it stays empty.
CREATE INDEX dead_letters_to_relay ON sluice.dead_letters (pipeline, id) WHERE relay;

-- Letters that somebody has given up, whole, out of the way of those that are still to be dealt with. Nothing reads
-- them but people: old ones may be deleted.
CREATE TABLE sluice.discarded_letters (
    id               bigint      PRIMARY KEY,
    pipeline         text        NOT NULL,
    topic            text        NOT NULL,
    topic_id         uuid        NOT NULL,
    partition        integer     NOT NULL,
    "offset"         bigint      NOT NULL,
    "timestamp"      timestamptz,
    log_append_time  boolean     NOT NULL,
    key              bytea,
    payload          bytea,
    header_names     bytea[]     NOT NULL,
    header_values    bytea[]     NOT NULL,
    stage            text        NOT NULL,
    code             text        NOT NULL,
    reason           text        NOT NULL,
    digest           text        NOT NULL,
    attempts         integer     NOT NULL,
    rejected_at      timestamptz NOT NULL,
    last_rejected_at timestamptz,
    relayed_at       timestamptz,
    discarded_at     timestamptz NOT NULL DEFAULT now(),
    discard_reason   text        NOT NULL
);

-- Letters that passed when they were replayed, one row each, written with the rows made of them: for these
-- offsets it, and not sluice.lineage, says which plugin version made the rows.
CREATE TABLE sluice.replayed_letters (
    -- As in sluice.dead_letters, where the letter was: that it leads there but once is one more proof.
    id            bigint      PRIMARY KEY,
    pipeline      text        NOT NULL,
    topic         text        NOT NULL,
    topic_id      uuid        NOT NULL,
    partition     integer     NOT NULL,
    "offset"      bigint      NOT NULL,
    digest        text        NOT NULL,
    plugin        text        NOT NULL,
    version       text        NOT NULL,
    -- Over all tables; 0 when the plugin kept nothing of it.
    rows          integer     NOT NULL,
    replayed_at   timestamptz NOT NULL DEFAULT now()
);

-- Which host relays the letters of a pipeline: one at a time, which keeps their order. A lease and not a session's
-- lock, which a host that was paused or cut off would hold for ever.
CREATE TABLE sluice.relays (
    pipeline      text        PRIMARY KEY,
    topic         text        NOT NULL,
    owner         text        NOT NULL,
    backend_pid   integer     NOT NULL,
    until         timestamptz NOT NULL,
    -- What keeps it from relaying, code first, and since when; NULL while all goes well.
    fault         text,
    fault_since   timestamptz
) WITH (fillfactor = 50);

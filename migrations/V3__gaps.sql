-- What keeps partitions and pipelines from going on, and what was decided about it.

ALTER TABLE sluice.positions
    -- False from a claim until its owner says that it has ended or let go.
    ADD COLUMN released    boolean NOT NULL DEFAULT true,
    -- How many owners vanished without a word while the position stood at vanished_at. It counts for nothing as
    -- soon as the position has moved, so that nobody who writes a batch has to reset it.
    ADD COLUMN vanished    integer NOT NULL DEFAULT 0,
    ADD COLUMN vanished_at bigint;

-- What does not go on now, and why: written by the host that holds it, checked by it again and again, and removed
-- by it, or by the next owner of the partition, when it goes on.
CREATE TABLE sluice.holds (
    pipeline      text        NOT NULL,
    topic         text        NOT NULL,
    -- -1: the whole pipeline on this host.
    partition     integer     NOT NULL,
    owner         text        NOT NULL,
    host          text        NOT NULL,
    code          text        NOT NULL,
    reason        text        NOT NULL,
    held_since    timestamptz NOT NULL DEFAULT now(),
    -- When its host last found it still there. Long ago: the host is gone.
    checked_at    timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (pipeline, topic, partition, owner)
) WITH (fillfactor = 50);

-- Positions that a person has set, and which messages were passed over or are read again because of it. Nothing
-- reads them but people.
CREATE TABLE sluice.gaps (
    id              bigint      GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    pipeline        text        NOT NULL,
    topic           text        NOT NULL,
    partition       integer     NOT NULL,
    topic_id_before uuid        NOT NULL,
    topic_id_after  uuid        NOT NULL,
    position_before bigint      NOT NULL,
    position_after  bigint      NOT NULL,
    -- Offsets of the topic with topic_id_after that are passed over: from_offset <= offset < to_offset. NULL when none is.
    from_offset     bigint,
    to_offset       bigint,
    -- Why the partition was held; NULL when it was not.
    code            text,
    reason          text        NOT NULL,
    -- Rows of sluice.lineage that lie behind the new position, as they were: their offsets are read again.
    lineage         jsonb,
    resolved_by     text        NOT NULL,
    resolved_at     timestamptz NOT NULL DEFAULT now()
);

CREATE INDEX gaps_by_partition ON sluice.gaps (pipeline, topic, partition);

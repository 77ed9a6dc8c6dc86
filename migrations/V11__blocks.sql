-- Names as operators know them. Hosts of the version before, which go on until they are replaced, find views under the
-- names that they know, with the privileges that were granted on the tables.

ALTER TABLE sluice.holds RENAME TO blocks;
ALTER TABLE sluice.blocks RENAME COLUMN held_since TO blocked_since;
ALTER INDEX sluice.holds_pkey RENAME TO blocks_pkey;
CREATE VIEW sluice.holds AS
    SELECT pipeline, topic, partition, owner, host, code, reason, blocked_since AS held_since, checked_at
    FROM sluice.blocks;

ALTER TABLE sluice.discarded_letters RENAME TO discarded_dead_letters;
ALTER INDEX sluice.discarded_letters_pkey RENAME TO discarded_dead_letters_pkey;
CREATE VIEW sluice.discarded_letters AS SELECT * FROM sluice.discarded_dead_letters;

ALTER TABLE sluice.replayed_letters RENAME TO replayed_dead_letters;
ALTER INDEX sluice.replayed_letters_pkey RENAME TO replayed_dead_letters_pkey;
CREATE VIEW sluice.replayed_letters AS SELECT * FROM sluice.replayed_dead_letters;

DO $$
DECLARE
    granted record;
BEGIN
    FOR granted IN
        SELECT renamed.before, acl.privilege_type,
            CASE acl.grantee WHEN 0 THEN 'PUBLIC' ELSE quote_ident(pg_get_userbyid(acl.grantee)) END AS grantee
        FROM (VALUES ('blocks', 'holds'), ('discarded_dead_letters', 'discarded_letters'),
                     ('replayed_dead_letters', 'replayed_letters')) AS renamed (now, before)
        JOIN pg_class AS c ON c.oid = ('sluice.' || renamed.now)::regclass
        CROSS JOIN aclexplode(c.relacl) AS acl
        WHERE acl.grantee <> c.relowner AND acl.privilege_type IN ('SELECT', 'INSERT', 'UPDATE', 'DELETE')
    LOOP
        EXECUTE format('GRANT %s ON sluice.%I TO %s', granted.privilege_type, granted.before, granted.grantee);
    END LOOP;
END
$$;

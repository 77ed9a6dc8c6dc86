//! Codes of the part `postgres`.

use super::Explanation;

pub(super) const CODES: &[Explanation] = &[
    Explanation {
        code: "SL-P001",
        title: "Postgres is not reachable",
        text: "The connection could not be made, or broke. Sluice keeps the batch it was writing and retries it \
               indefinitely, with exponential backoff; whether a COMMIT that was under way took place is read from \
               sluice.positions. Messages stay in Kafka, lag grows, nothing is lost or written twice.",
        hint: "Start Postgres, or correct `sink.url` (host, port, firewall). Nothing is to be done in Sluice.",
    },
    Explanation {
        code: "SL-P002",
        title: "Postgres refused the login",
        text: "User, password, database or pg_hba.conf do not match. The pipeline is blocked and tried again with exponential backoff of \
               up to a minute.",
        hint: "Correct the role or pg_hba.conf and the pipeline resumes by itself. A password in a file (`${file:/path}` in \
                  `sink.url`, PGPASSFILE, ~/.pgpass) is read again at each attempt; another change of `sink.url` needs a \
                  restart. Try the same address with psql.",
    },
    Explanation {
        code: "SL-P003",
        title: "Postgres is read-only",
        text: "The server is a standby or was made read-only, as it happens for a moment in a failover. Sluice tries \
               again until it finds a server that takes writes.",
        hint: "Name all servers in `sink.url` (host=a,b): the one that takes writes is chosen. With \
                  `target_session_attrs=any` the first that responds is taken, and may be the wrong one.",
    },
    Explanation {
        code: "SL-P004",
        title: "Postgres is shutting down or starting",
        text: "The server ended the session or does not take new ones yet. The batch is kept and tried again.",
        hint: "Wait for the server; its own log says why it restarts.",
    },
    Explanation {
        code: "SL-P005",
        title: "Postgres has no disk, memory or connections left",
        text: "The batch is kept and retried with exponential backoff; no message is dead-lettered for it.",
        hint: "Free disk space, raise max_connections, or lower `[sink] connections_max`: the pipelines of a process have \
                  one connection for each lane, one for each pipeline whose messages are tried again, and no more than that \
                  number in one database, and up to six that they share.",
    },
    Explanation {
        code: "SL-P006",
        title: "Postgres gave up waiting",
        text: "A lock was not granted within lock_timeout (5 s), a deadlock was resolved at our cost, or a time limit of \
               the server ended the statement. The batch is tried again as it is.",
        hint: "Now and then it is harmless. If it stays: look into pg_locks for who has locked the table (a long \
                  transaction, ALTER TABLE, VACUUM FULL).",
    },
    Explanation {
        code: "SL-P007",
        title: "schema mismatch: a table, column, type or index is missing",
        text: "A table, column, type or index that the pipeline needs is not there (any more). The pipeline is blocked \
               with its positions where they are, and resumes by itself when the cause is gone.",
        hint: "Undo the change of the table, or adapt plugin and settings; `sluice validate FILE` lists all differences.",
    },
    Explanation {
        code: "SL-P008",
        title: "privileges are missing in Postgres",
        text: "The role in `sink.url` may not do what the pipeline needs. The pipeline is blocked, and resumes by itself when the \
               privilege is granted.",
        hint: "`sluice validate FILE` lists all that are missing. GRANT USAGE on the schemas; INSERT on the tables, for ignore \
                  also SELECT, for upsert also SELECT, UPDATE and, where rows delete, DELETE; TEMPORARY on the database for \
                  ignore, upsert, row-level security, and columns whose text Postgres casts or whose default stands in; USAGE on \
                  sequences of defaults; and what README.md lists for schema sluice, after each `sluice migrate` of another role.",
    },
    Explanation {
        code: "SL-P009",
        title: "Postgres rejected a row",
        text: "A constraint, a trigger, a policy or a type rejects a value that Sluice could not check beforehand. Whatever the \
               SQLSTATE: if the same statements pass without rows, the rows that Postgres rejects are found by trying \
               them, their messages become dead letters of stage `sink` (or are retried, if `[retry]` names \
               SQLSTATE or constraint), and the others are written. You read this code where every row passes when it is \
               tried, and the whole batch is rejected nevertheless: nothing of it was written then.",
        hint: "The error names the constraint. Let the plugin reject such messages, or relax the constraint.",
    },
    Explanation {
        code: "SL-P010",
        title: "schema mismatch: the plugin's outputs and the tables differ",
        text: "Before anything moves, each output of the plugin is compared with the real columns of its table. All \
               differences are listed in the message. The pipeline is blocked, and resumes by itself when tables and plugin \
               match.",
        hint: "Alter the tables, or correct the plugin's outputs or `[sink]`.",
    },
    Explanation {
        code: "SL-P011",
        title: "the connection string is not valid",
        text: "`sink.url` is neither a URL (postgres://user:password@host:port/database?sslmode=require) nor \
               libpq's key=value form.",
        hint: "Correct `sink.url`. Percent-encode special characters of the password in the URL form.",
    },
    Explanation {
        code: "SL-P012",
        title: "the sluice schema is missing or of another version",
        text: "The tables in which Sluice keeps positions, lineage and dead letters are not there, or not those this \
               version needs. A running pipeline does not make them again, because that would read its topic from the start: it is \
               blocked until they are back.",
        hint: "Run `sluice migrate` with a role that may create the schema; if it was lost, restore it from a backup \
                  that was taken together with the tables.",
    },
    Explanation {
        code: "SL-P013",
        title: "a migration of the sluice schema failed",
        text: "Each migration runs in a transaction, so the schema is as it was before the one that failed. Most often the \
               role may not create a schema in this database.",
        hint: "GRANT CREATE ON DATABASE to the role, or run `sluice migrate` once as the owner of the database \
                  and GRANT the privileges listed under SL-P008.",
    },
    Explanation {
        code: "SL-P014",
        title: "a write took too long",
        text: "The transaction was not finished within its time limit; Postgres' statement_timeout does not cover COPY, so \
               Sluice has a limit of its own. The connection was thrown away and the messages are tried again in smaller \
               batches. A single message whose row alone takes too long, three times, is dead-lettered with 57014.",
        hint: "Look at the server's load, at triggers, and at locks on the tables; make `batch.max_messages` smaller.",
    },
    Explanation {
        code: "SL-P015",
        title: "a claim waits for the previous owner",
        text: "Another host has locked the position of a partition in an open transaction, most often because it was paused or \
               disconnected. Sluice ends that host's session in Postgres if it is idle, and tries again.",
        hint: "If it stays: both hosts must use the same database role, or the role needs pg_signal_backend.",
    },
    Explanation {
        code: "SL-P016",
        title: "fenced: the partition was claimed by another host",
        text: "The partition was claimed by another host since this batch was read. The whole transaction was rolled \
               back, so that nothing is written twice; the new owner reads the same messages.",
        hint: "Nothing is to be done. If it happens often, the group rebalances often: look for slow or restarting hosts.",
    },
    Explanation {
        code: "SL-P017",
        title: "TLS with Postgres failed",
        text: "The server does not speak TLS although it is asked for, its certificate was not accepted, or it did not accept \
               ours. Certificates and keys in files are read again at each attempt, so that renewing them on disk is enough.",
        hint: "Correct sslmode, sslrootcert (a file, or `system`), sslcert or sslkey in `sink.url`, which mean what they \
                  mean to libpq, or the server's certificate.",
    },
    Explanation {
        code: "SL-P018",
        title: "an unexpected response from Postgres",
        text: "Postgres responded with an error that Sluice has no remedy for. Nothing of the batch was written.",
        hint: "The message names the SQLSTATE; Postgres' manual explains it in appendix A.",
    },
    Explanation {
        code: "SL-P019",
        title: "a table was changed while a batch was written",
        text: "Before each COMMIT the definitions of the tables (columns, types, NOT NULL, labels of enums, partitions) are \
               compared with those that the rows were encoded for, after the COPY whose lock keeps ALTER TABLE out. When \
               they differ the transaction is rolled back, the tables are read again, and the same messages are \
               encoded for what the tables are now.",
        hint: "Nothing is to be done. Where the plugin's outputs no longer fit, the pipeline is blocked with SL-P010.",
    },
    Explanation {
        code: "SL-P020",
        title: "Postgres rejects all rows for one cause",
        text: "So many messages in a row were rejected for one cause, with no row accepted in between, that the cause is taken \
               to be in the table and not in the messages: a new constraint, a trigger with a bug, a missing parent row. \
               The last of these batches was not written, and the pipeline is blocked with its positions where they are. It is \
               tried again with pauses of up to a minute, and resumes by itself as soon as rows are accepted.",
        hint: "Mend the table or the trigger, or deploy a plugin that rejects such messages. If the messages really are \
                  at fault, `[dead_letters] max_in_a_row` sets how many may be dead-lettered in a row (0: any number).",
    },
    Explanation {
        code: "SL-P021",
        title: "no partition for a row",
        text: "The table is partitioned and has no partition for the value of at least one row. Partitions are made by \
               jobs that fail, so no message is dead-lettered for it: the pipeline is blocked with its positions where they are, \
               and resumes by itself as soon as the partition is there.",
        hint: "Create the partition (the message names the value), or a DEFAULT partition for values that nobody \
                  expects. `[retry] sqlstates = [\"23514\"]` parks such messages instead of blocking the pipeline.",
    },
    Explanation {
        code: "SL-P022",
        title: "Postgres has too few connections for all pipelines",
        text: "A warning. The pipelines of these files, run by one process, may want more connections to a database than it has \
               free: one for each lane, one for each pipeline's retries, at most `[sink] connections_max` of them, and those that \
               pipelines share. Connections that others have now, and those that are reserved for superusers, are not free. \
               Pipelines that find none are tried again with pauses (SL-P005), and others may be refused as well.",
        hint: "Lower `[sink] connections_max`: lanes then take turns. Or raise max_connections, or the CONNECTION LIMIT of \
                  role or database.",
    },
    Explanation {
        code: "SL-P023",
        title: "a pooler in transaction mode is in between",
        text: "`sink.url` leads to a pooler (PgBouncer, Supavisor or the like) that gives a server's process to another client \
               after each transaction. Sluice needs sessions: what it sets, prepares and locks would be that of others. \
               Nothing is written through it.",
        hint: "Use the database's own address, or a pool in session mode: port 5432 in the place of 6543 at Supabase, the \
                  host without `-pooler` at Neon, `pool_mode = session` in PgBouncer. Pipelines of one process share their \
                  connections anyway; `[sink] connections_max` bounds them.",
    },
    Explanation {
        code: "SL-P024",
        title: "another host works on this pipeline with other settings",
        text: "Hosts that work on one pipeline at the same time must agree on its topic, its consumer group and `[retry] order`: \
               with two groups each would claim all partitions from the other again and again, and the other settings decide \
               what becomes of messages that wait. The pipeline does not begin on this host; it is retried with exponential \
               backoff of up to a minute, and begins when the other host has ended or agrees. Which hosts there are is in \
               sluice.hosts.",
        hint: "Give the files of all hosts the same `topic`, `group` and `order`, or the pipeline of this one another name. \
                  To change them for all hosts, end those that run with the old ones.",
    },
];

//! The one match from what Postgres says to what is done about it.

use super::Remedy;

/// Server not reachable, or the connection broke.
pub const CONNECTION: &str = "SL-P001";
/// Login refused, or no such database.
pub const LOGIN: &str = "SL-P002";
/// A standby, or a primary that was made read-only.
pub const READ_ONLY: &str = "SL-P003";
/// The server is shutting down, starting, or ended our session.
pub const SHUTDOWN: &str = "SL-P004";
/// No disk, memory or connections left.
pub const RESOURCES: &str = "SL-P005";
/// A lock, a deadlock, a time limit.
pub const CONTENTION: &str = "SL-P006";
/// Missing table or column, or a statement that does not fit them.
pub const STATEMENT: &str = "SL-P007";
/// Privileges.
pub const PRIVILEGES: &str = "SL-P008";
/// A row that its table refuses.
pub const ROW: &str = "SL-P009";
/// Outputs and tables differ.
pub const DIFFERENCES: &str = "SL-P010";
/// The connection string.
pub const URL: &str = "SL-P011";
/// Schema `sluice` is missing or older than this program.
pub const SCHEMA: &str = "SL-P012";
/// A migration failed.
pub const MIGRATION: &str = "SL-P013";
/// A write took longer than allowed.
pub const TOO_SLOW: &str = "SL-P014";
/// An old owner keeps a claim waiting.
pub const CLAIM_BLOCKED: &str = "SL-P015";
/// The partition was claimed by another host.
pub const FENCED: &str = "SL-P016";
/// TLS.
pub const TLS: &str = "SL-P017";
/// Anything else the server may say.
pub const UNEXPECTED: &str = "SL-P018";

/// A table is no longer defined as it was when a batch was encoded.
pub const CHANGED: &str = "SL-P019";
/// Postgres rejects all rows for one cause.
pub const ALL_REJECTED: &str = "SL-P020";
/// A partitioned table has no partition for a row.
pub const NO_PARTITION: &str = "SL-P021";
/// Pipelines may want more connections than there are.
pub const FEW_CONNECTIONS: &str = "SL-P022";
/// A pooler that hands server processes on after each transaction.
pub const POOLER: &str = "SL-P023";
/// Another host works on the pipeline with other settings.
pub const DISAGREEMENT: &str = "SL-P024";

/// SQLSTATE with which `sluice.advance` refuses a write under a stale claim.
pub const STALE_CLAIM: &str = "SL001";
/// SQLSTATE with which `sluice.expect_unchanged` ends a write to tables that are no longer defined as they were.
pub const CHANGED_TABLE: &str = "SL002";

/// SQLSTATE of a statement that was cancelled, by a limit of time or by somebody.
pub const CANCELLED: &str = "57014";

/// Code and remedy for an SQLSTATE. `message` decides only where Postgres uses one state for two things.
///
/// Classes after Postgres' appendix A; the outages are those of Npgsql's transient list and ours.
pub fn remedy(sqlstate: &str, message: &str) -> (&'static str, Remedy) {
    use Remedy::{Block, DeadLetter, Retry};
    match sqlstate {
        // A stale claim is told apart by the caller before it gets here; it is never retried as it is.
        STALE_CLAIM => (FENCED, Block),
        // Likewise: the tables are read again and the batch is encoded for what they are now.
        CHANGED_TABLE => (CHANGED, Block),
        "25006" => (READ_ONLY, Retry),
        "42501" => (PRIVILEGES, Block),
        "55P03" | "57014" | "25P02" | "25P03" | "25P04" | "26000" => (CONTENTION, Retry),
        // A prepared statement outlived a change of its table: gone with the connection, as 26000 is.
        "0A000" if message.contains("cached plan") => (CONTENTION, Retry),
        // No session of ours gives a name twice: another one has used this server process.
        "42P05" => (POOLER, Block),
        // What a user's trigger raises, and a row too large for an index or a page.
        "P0001" | "54000" | "54001" => (ROW, DeadLetter),
        _ => match sqlstate.get(..2).unwrap_or_default() {
            "08" => (CONNECTION, Retry),
            "28" | "3D" => (LOGIN, Block),
            "57" => (SHUTDOWN, Retry),
            "53" | "58" => (RESOURCES, Retry),
            "40" | "55" => (CONTENTION, Retry),
            "22" | "23" => (ROW, DeadLetter),
            "42" | "3F" => (STATEMENT, Block),
            _ => (UNEXPECTED, Block),
        },
    }
}

/// The same for a statement that carries rows. Everything that need not be an outage may be the fault of a row, and
/// only an experiment tells: [`Remedy::DeadLetter`] says that it is to be made. Types, triggers, policies and functions of
/// users give whatever state they like for a value: 42601 of a tsvector, XX000 of an extension, 42501 of a policy.
///
/// `raised` says that user code raised the error, as PL/pgSQL's RAISE does: then not even the state of an outage is one.
pub fn remedy_with_rows(sqlstate: &str, message: &str, raised: bool) -> (&'static str, Remedy) {
    let known = remedy(sqlstate, message);
    let of_the_server = matches!(sqlstate.get(..2), Some("28" | "3D" | "57" | "58" | "40"))
        || matches!(sqlstate, "53100" | "53200" | "53300" | "25006" | "55P03" | "XX001" | "XX002")
        || matches!(sqlstate, "25P02" | "25P03" | "25P04" | "26000" | "42P05")
        || known == (CONTENTION, Remedy::Retry) && sqlstate == "0A000"
        // 08P01 is what a value of another length than its type's is called.
        || sqlstate.starts_with("08") && sqlstate != "08P01";
    if of_the_server && !raised { known } else { (ROW, Remedy::DeadLetter) }
}

/// True for what a smaller batch may get past: limits of time, memory and disk for one statement or transaction.
pub fn depends_on_size(sqlstate: &str) -> bool {
    matches!(sqlstate, "57014" | "25P04" | "53200" | "53400") || sqlstate.starts_with("54")
}

/// The same where the server ends the session with it (severity FATAL or PANIC). Then no statement of ours can be to
/// blame for an internal error, and most were none yet: with a full disk a server may fail to write a file of its own
/// while it lets us in, and says only XX000.
pub fn remedy_at_end(sqlstate: &str, message: &str) -> (&'static str, Remedy) {
    if sqlstate.starts_with("XX") {
        return (UNEXPECTED, Remedy::Retry);
    }
    remedy(sqlstate, message)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(states: &[&str], code: &str, expected: Remedy) {
        for state in states {
            assert_eq!(remedy(state, "some text"), (code, expected), "{state}");
        }
    }

    #[test]
    fn outages_are_retried_indefinitely() {
        check(&["08000", "08001", "08003", "08006", "08P01"], CONNECTION, Remedy::Retry);
        check(&["57P01", "57P02", "57P03", "57P05"], SHUTDOWN, Remedy::Retry);
        check(
            &["53000", "53100", "53200", "53300", "53400", "58000", "58030"],
            RESOURCES,
            Remedy::Retry,
        );
        check(
            &["40001", "40P01", "55P03", "55006", "55000", "57014", "25P03"],
            CONTENTION,
            Remedy::Retry,
        );
        check(&["25006"], READ_ONLY, Remedy::Retry);
    }

    #[test]
    fn a_prepared_statement_that_is_there_already_tells_of_a_pooler() {
        check(&["42P05"], POOLER, Remedy::Block);
        assert_eq!(remedy_with_rows("42P05", "", false), (POOLER, Remedy::Block));
        assert_eq!(
            remedy_with_rows("42P05", "", true),
            (ROW, Remedy::DeadLetter),
            "a trigger raises it"
        );
    }

    #[test]
    fn refused_rows_are_dead_lettered() {
        check(&["22001", "22003", "22021", "22P02", "22P05", "22P03"], ROW, Remedy::DeadLetter);
        check(
            &["23502", "23503", "23505", "23514", "23P01", "P0001", "54000"],
            ROW,
            Remedy::DeadLetter,
        );
    }

    #[test]
    fn what_only_a_person_can_mend_stops() {
        check(&["42P01", "42703", "42P10", "42804", "3F000"], STATEMENT, Remedy::Block);
        check(&["42501"], PRIVILEGES, Remedy::Block);
        check(&["28P01", "28000", "3D000"], LOGIN, Remedy::Block);
        check(&["XX000", "0A000", "21000", "F0001", ""], UNEXPECTED, Remedy::Block);
    }

    #[test]
    fn an_internal_error_that_ends_the_session_is_an_outage() {
        assert_eq!(remedy_at_end("XX000", "some text"), (UNEXPECTED, Remedy::Retry));
        assert_eq!(remedy_at_end("28P01", "some text"), (LOGIN, Remedy::Block));
    }

    #[test]
    fn a_statement_with_rows_leaves_it_to_an_experiment() {
        let rows = (ROW, Remedy::DeadLetter);
        for state in
            ["42601", "XX000", "P0004", "MY001", "42501", "53400", "55000", "08P01", "21000"]
        {
            assert_eq!(remedy_with_rows(state, "", false), rows, "{state}");
        }
        for state in ["53100", "40001", "55P03", "57P01", "08006", "25006", "58030", "57014"] {
            assert_eq!(remedy_with_rows(state, "", false), remedy(state, ""), "{state}");
            assert_eq!(remedy_with_rows(state, "", true), rows, "{state} raised by a trigger");
        }
    }

    #[test]
    fn a_changed_table_is_met_with_a_new_connection() {
        let message = "cached plan must not change result type";
        assert_eq!(remedy("0A000", message), (CONTENTION, Remedy::Retry));
    }
}

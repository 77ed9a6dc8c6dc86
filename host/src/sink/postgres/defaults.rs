//! What a session relies on, whatever the defaults of the server, the database and the role are.
//!
//! A session finds nothing outside of `pg_catalog` without its schema: functions and operators of the exact argument
//! types are preferred to polymorphic ones, so that whoever may create objects in a schema of the path could run code
//! as our role. Where names of users mean what the role's path says (the tables of the settings, the triggers and
//! operators that rows meet), that path is asked for: see [`TAKE_ROLE_PATH`] and [`relation`].

/// `statement_timeout` is off: it does not cover COPY, so the writer keeps its own clock. It comes first: until then
/// the role's own is running. The path is the role's again before its schemas are kept, because a pooler may have left
/// the one of an earlier session; they are kept without ours: a role called `sluice` has it in its path, and a table of
/// the settings is none of our own.
pub(super) const SESSION_SETTINGS: &str = "SET statement_timeout = 0; RESET search_path; \
    SELECT pg_catalog.set_config('sluice.role_schemas', ARRAY( \
        SELECT s.name::text FROM pg_catalog.unnest(pg_catalog.current_schemas(false)) WITH ORDINALITY AS s (name, rank) \
        WHERE s.name::text <> 'sluice'::text AND s.name::text <> 'pg_catalog'::text ORDER BY s.rank)::text, false); \
    SET search_path = pg_catalog, pg_temp; \
    SET synchronous_commit = on; SET lock_timeout = '5s'; SET idle_in_transaction_session_timeout = '5s'; \
    SET client_encoding = 'UTF8'; SET timezone = 'UTC'; SET datestyle = 'ISO'; SET intervalstyle = 'postgres'; \
    SET bytea_output = 'hex'; SET extra_float_digits = 1; SET standard_conforming_strings = on; \
    SET default_transaction_isolation = 'read committed'; \
    SELECT pg_catalog.set_config('transaction_timeout', '0', false) \
    WHERE pg_catalog.current_setting('transaction_timeout', true) IS NOT NULL";

/// A setting of ours that tells which session a process of the server was set up for last.
pub(super) const MARK: &str = "sluice.session";
/// One that is never made.
pub(super) const OTHER_PROCESS: &str = "sluice.other_process";

/// For a session that writes rows: what triggers, defaults and the operators of users' types refer to without a schema
/// is found where the role finds it. Temporary tables come last, as they hide nothing there. Statements of our own
/// on such a session name the schema of all that could be overloaded.
pub(super) const TAKE_ROLE_PATH: &str = "SELECT pg_catalog.set_config('search_path', coalesce(( \
        SELECT pg_catalog.string_agg(pg_catalog.quote_ident(s.name), ', ' ORDER BY s.rank) || ', ' \
        FROM pg_catalog.unnest(pg_catalog.current_setting('sluice.role_schemas')::text[]) \
            WITH ORDINALITY AS s (name, rank)), '') || 'pg_temp', false)";

/// An expression for the relation that the role means by `name`, an expression itself: `"readings"` or
/// `"telemetry"."readings"`, quoted for SQL. NULL when there is none.
pub(in crate::sink) fn relation(name: &str) -> String {
    format!(
        "(SELECT found.oid FROM ( \
            SELECT 0 AS rank, pg_catalog.to_regclass({name}) AS oid \
            WHERE pg_catalog.array_length(pg_catalog.parse_ident({name}), 1) > 1 \
            UNION ALL \
            SELECT s.rank, pg_catalog.to_regclass(pg_catalog.quote_ident(s.name) || '.' || {name}) \
            FROM pg_catalog.unnest(pg_catalog.current_setting('sluice.role_schemas')::text[]) \
                WITH ORDINALITY AS s (name, rank) \
            WHERE pg_catalog.array_length(pg_catalog.parse_ident({name}), 1) = 1 \
        ) AS found WHERE found.oid IS NOT NULL ORDER BY found.rank LIMIT 1)::oid"
    )
}

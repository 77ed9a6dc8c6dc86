//! What others create in a schema of the writer's path runs no code as the writer; what users mean by names
//! without a schema they still mean.

use std::sync::Arc;

use super::lab::{Database, Fill, Given, Lane, make_plan, output, to_table, version, wait_for};
use crate::columns::{Column, Kind};
use crate::settings::{Mode, TableSettings};
use crate::sink::postgres::Options;
use crate::sink::table::{Plan, Table};

/// A role that owns nothing and may do what a writer needs.
fn writer(database: &Database, path: &str) -> Options {
    let role = format!("writer_{}", database.name);
    let options = database.create_role(&role);
    database.run(&format!(
        "ALTER ROLE {role} SET search_path = {path}; GRANT USAGE ON SCHEMA sluice TO {role};
         GRANT ALL ON ALL TABLES IN SCHEMA sluice TO {role}; GRANT ALL ON ALL SEQUENCES IN SCHEMA sluice TO {role};
         GRANT ALL ON ALL TABLES IN SCHEMA public TO {role}; GRANT ALL ON DATABASE {} TO {role}",
        database.name
    ));
    options
}

/// Functions and operators that fit the arguments better than those of `pg_catalog`. Each says who called it and does
/// what is expected of it.
fn set_traps(database: &Database) {
    let functions = [
        ("cardinality", "integer[]", "integer", "pg_catalog.cardinality($1)"),
        ("array_fill", "bigint, integer[]", "bigint[]", "pg_catalog.array_fill($1, $2)"),
        ("unnest", "text[]", "SETOF text", "pg_catalog.unnest($1)"),
        ("unnest", "smallint[]", "SETOF smallint", "pg_catalog.unnest($1)"),
        ("format", "text, text, text", "text", "pg_catalog.format($1, $2, $3)"),
        ("coalesce", "bigint, bigint", "bigint", "$1"),
    ];
    // Left type, operator, right type, its function.
    let operators = [
        ("oid", "=", "regclass", "pg_catalog.oideq($1, $2::oid)"),
        ("oid", "=", "regnamespace", "pg_catalog.oideq($1, $2::oid)"),
        ("oid", "=", "integer", "pg_catalog.oideq($1, $2::oid)"),
        ("smallint", "&", "integer", "pg_catalog.int4and($1, $2)"),
        ("bigint", "/", "numeric", "pg_catalog.numeric_div($1, $2)"),
        ("numeric", "*", "integer", "pg_catalog.numeric_mul($1, $2)"),
        ("varchar", "=", "varchar", "pg_catalog.texteq($1, $2)"),
        ("varchar", ">=", "varchar", "pg_catalog.text_ge($1, $2)"),
    ];
    let mut statements =
        "CREATE TABLE public.loot (who text, what text); GRANT INSERT ON public.loot TO PUBLIC;
        CREATE FUNCTION public.stolen(what text) RETURNS void LANGUAGE sql AS
        $$ INSERT INTO public.loot VALUES (current_user, what) $$;"
            .to_owned();
    for (name, arguments, result, body) in functions {
        statements += &format!(
            "CREATE FUNCTION public.\"{name}\"({arguments}) RETURNS {result} LANGUAGE sql VOLATILE AS
             $$ SELECT public.stolen('{name}'); SELECT {body} $$;"
        );
    }
    for (index, (left, operator, right, body)) in operators.into_iter().enumerate() {
        let result = match operator {
            "&" => "integer",
            "/" | "*" => "numeric",
            _ => "boolean",
        };
        statements += &format!(
            "CREATE FUNCTION public.trap_{index}({left}, {right}) RETURNS {result} LANGUAGE sql VOLATILE AS
             $$ SELECT public.stolen('{left} {operator} {right}'); SELECT {body} $$;
             CREATE OPERATOR public.{operator} (LEFTARG = {left}, RIGHTARG = {right}, FUNCTION = public.trap_{index});"
        );
    }
    database.run(&statements);
}

fn loot(database: &Database) -> String {
    database.ask("SELECT DISTINCT who, what FROM public.loot ORDER BY 1, 2")
}

fn rows(offsets: &[i64], keys: &[&str], times: &[&str], deletes: &[u8]) -> Given {
    let mut given = Given::messages(offsets.iter().map(|offset| (0, *offset))).table(vec![
        Column::new(Kind::Text).texts(keys),
        Column::new(Kind::Text).texts(times),
        Column::new(Kind::Int64).ints(offsets),
    ]);
    given.tables[0].deletes = deletes.to_vec();
    given
}

fn plan(database: &Database, mode: Mode, newer_than: Option<&str>) -> Arc<Plan> {
    let outputs = [output("t", &[("k", Kind::Text), ("at", Kind::Text), ("v", Kind::Int64)])];
    let newer_than = newer_than.map(str::to_owned);
    make_plan(database, &outputs, &[("", TableSettings { newer_than, ..to_table("t", mode) })])
}

#[test]
fn a_function_of_another_role_does_not_run_as_the_writer() {
    let database = Database::new();
    database.run("CREATE TABLE t (v bigint); CREATE TABLE owned (secret text); INSERT INTO owned VALUES ('s3cret')");
    let options = writer(&database, "public");
    let attacker = format!("attacker_{}", database.name);
    database.run(&format!(
        "CREATE ROLE {attacker}; GRANT CREATE, USAGE ON SCHEMA public TO {attacker};
         SET ROLE {attacker}; CREATE TABLE public.loot (who text, what text); GRANT ALL ON public.loot TO PUBLIC;
         CREATE FUNCTION public.cardinality(integer[]) RETURNS integer LANGUAGE plpgsql AS $$ BEGIN
         INSERT INTO public.loot SELECT current_user, secret FROM public.owned; RETURN array_length($1, 1); END $$"
    ));
    let outputs = [output("t", &[("v", Kind::Int64)])];
    let plan = make_plan(&database, &outputs, &[("", to_table("t", Mode::Append))]);
    let mut lane = Lane::start_by(&options, &database, &[0], "lane");
    let given = Given::messages([(0, 0)]).table(vec![Column::new(Kind::Int64).ints(&[7])]);
    lane.write(&plan, given, &version("a"));
    assert_eq!(database.ask("SELECT v FROM t"), "7");
    assert_eq!(loot(&database), "");
}

#[test]
fn statements_use_no_better_matches_from_other_schemas() {
    let database = Database::new();
    database.run(
        "CREATE TABLE p (v bigint PRIMARY KEY); INSERT INTO p SELECT generate_series(0, 99);
         CREATE TABLE t (k varchar(9) PRIMARY KEY, at varchar(9), v bigint REFERENCES p CHECK (v <> 3))",
    );
    let options = writer(&database, "public");
    set_traps(&database);
    let mut lane = Lane::start_by(&options, &database, &[0], "lane");
    let upsert = plan(&database, Mode::Upsert, Some("at"));
    let version = version("a");
    lane.write(&upsert, rows(&[0, 1], &["a", "b"], &["1", "1"], &[0, 0]), &version);
    lane.write(&upsert, rows(&[2, 4], &["a", "b"], &["2", "0"], &[1, 0]), &version);
    assert_eq!(database.ask("SELECT k, at, v FROM t"), "b|1|1");
    // A check constraint, then rows that one refers to and rows that are there already.
    database.run("DELETE FROM p WHERE v IN (6, 7)");
    lane.begin(&upsert, rows(&[5, 6, 7], &["c", "d", "e"], &["1", "1", "1"], &[0, 0, 0]), &version);
    lane.expect_done();
    let append = plan(&database, Mode::Append, None);
    lane.begin(&append, rows(&[8, 9, 10], &["b", "c", "f"], &["1", "1", "1"], &[]), &version);
    lane.expect_done();
    let dead_letters = "SELECT \"offset\", code FROM sluice.dead_letters ORDER BY 1";
    assert_eq!(database.ask(dead_letters), "6|23503\n7|23503\n8|23505\n9|23505");
    database.run("INSERT INTO sluice.parked (pipeline, topic, topic_id, partition, \"offset\", header_names, header_values,
        stage, code, reason, digest, attempts, delay_ms) VALUES ('p', 't', gen_random_uuid(), 0, 0, '{}', '{}', '', '', '', '', 1, 1500)");
    assert_eq!(database.ask("SELECT due_at > parked_at + interval '1 s' FROM sluice.parked"), "t");
    assert_eq!(loot(&database), "");
}

#[test]
fn every_function_of_the_schema_pins_its_search_path() {
    let database = Database::new();
    // All that run in every commit, where setting a path costs too much: they name the schema of what they use.
    let loose = "SELECT proname, pronargs FROM pg_proc WHERE pronamespace = 'sluice'::regnamespace
        AND NOT coalesce(proconfig @> ARRAY['search_path=pg_catalog, pg_temp'], false) ORDER BY 1";
    assert_eq!(database.ask(loose), "advance|18\nexpect_unchanged|1");
    // With a path that has traps before pg_catalog's own, they spring none.
    set_traps(&database);
    let call = "INSERT INTO sluice.positions (pipeline, topic, partition, topic_id, next_offset, epoch, owner)
        VALUES ('p', 't', 0, '00000000-0000-0000-0000-000000000000', 0, 1, 'o');
        SELECT sluice.expect_unchanged(true), sluice.advance('p', 't', '00000000-0000-0000-0000-000000000000', 'd', 'pl',
        '1.0.0', '{0}', '{1}', '{0}', '{9}', '{9}', '{9}', '{9}', '{0}', '{0}', '{0}', '{8}', '{3}')";
    database.run(call);
    let position = "SELECT next_offset, last_offset, leader_epoch FROM sluice.positions";
    assert_eq!(database.ask(position), "9|8|3");
    // As a host of a version before calls it: what it leaves behind must not be taken for what it has read.
    database.run(
        &call[call.find("SELECT").unwrap()..]
            .replace("'{0}', '{9}', '{9}'", "'{9}', '{12}', '{3}'")
            .replace(", '{8}', '{3}')", ")"),
    );
    assert_eq!(database.ask(position), "12|NULL|NULL");
    assert_eq!(loot(&database), "");
}

#[test]
fn names_of_users_mean_what_the_role_means_by_them() {
    let database = Database::new();
    database.run(
        "CREATE SCHEMA first; CREATE TABLE first.t (v bigint); CREATE TABLE first.noted (v bigint);
         CREATE TABLE public.t (v bigint, wrong text); CREATE TABLE public.positions (v bigint);
         CREATE FUNCTION first.note() RETURNS trigger LANGUAGE plpgsql AS
         $$ BEGIN INSERT INTO noted VALUES (NEW.v); RETURN NEW; END $$;
         CREATE TRIGGER note AFTER INSERT ON first.t FOR EACH ROW EXECUTE FUNCTION first.note()",
    );
    let options = writer(&database, "missing, first, sluice, pg_temp, public, pg_catalog");
    database.run(&format!(
        "GRANT ALL ON SCHEMA first TO writer_{0}; GRANT ALL ON ALL TABLES IN SCHEMA first TO writer_{0}",
        database.name
    ));
    let session = wait_for(options.connect()).unwrap();
    let name_of = |name: &str| {
        let table = wait_for(Table::read(&session, name)).unwrap();
        table.map_or("none".to_owned(), |table| table.name)
    };
    assert_eq!(name_of("t"), "first.t");
    assert_eq!(name_of("public.t"), "public.t");
    // Not one of ours, and nothing of Postgres.
    assert_eq!(name_of("positions"), "public.positions");
    assert_eq!(name_of("lineage"), "none");
    assert_eq!(name_of("pg_class"), "none");
    let plan = wait_for(crate::sink::table::plan(
        &session,
        &[output("t", &[("v", Kind::Int64)])],
        &super::lab::settings(&[("", to_table("t", Mode::Append))]),
    ));
    let mut lane = Lane::start_by(&options, &database, &[0], "lane");
    let given = Given::messages([(0, 0)]).table(vec![Column::new(Kind::Int64).ints(&[7])]);
    lane.write(&Arc::new(plan.unwrap()), given, &version("a"));
    assert_eq!(database.ask("SELECT v, (SELECT v FROM first.noted) FROM first.t"), "7|7");
}

#[test]
fn a_session_means_the_same_whatever_the_roles_defaults_are() {
    let database = Database::new();
    let options = writer(&database, "public");
    database.run(&format!(
        "ALTER ROLE writer_{0} SET intervalstyle = 'sql_standard'; ALTER ROLE writer_{0} SET extra_float_digits = -3;
         ALTER ROLE writer_{0} SET bytea_output = 'escape'; ALTER ROLE writer_{0} SET standard_conforming_strings = off;
         ALTER ROLE writer_{0} SET timezone = 'Asia/Tokyo'; ALTER ROLE writer_{0} SET datestyle = 'German'",
        database.name
    ));
    let session = wait_for(options.connect()).unwrap();
    let shown = "SELECT interval '-1 day 02:03', 0.1::float8 + 0.2::float8, '\\x01'::bytea,
        timestamptz '2026-01-02 03:04:05Z', current_setting('search_path')";
    assert_eq!(
        super::lab::ask_on(&session, shown),
        "-1 days +02:03:00|0.30000000000000004|\\x01|2026-01-02 03:04:05+00|pg_catalog, pg_temp"
    );
}

//! Outputs against tables: what fits, and all that does not.

use super::lab::{Database, output, settings, to_table, wait_for};
use crate::columns::Kind;
use crate::description::Output;
use crate::settings::{Mode, TableSettings};
use crate::sink::table::{Table, plan};

const TABLES: &str = "
CREATE TYPE mood AS ENUM ('ok', 'bad');
CREATE DOMAIN price AS numeric(10, 2);
CREATE TABLE readings (
    id bigint GENERATED ALWAYS AS IDENTITY,
    device text NOT NULL,
    at timestamptz NOT NULL,
    power real,
    mood mood,
    price price DEFAULT 0,
    double_power real GENERATED ALWAYS AS (power * 2) STORED,
    PRIMARY KEY (device, at)
);
CREATE UNIQUE INDEX part ON readings (mood) WHERE power > 0;
CREATE UNIQUE INDEX expression ON readings (lower(device));
CREATE TABLE \"Odd \"\"name\"\"\" (\"a \"\"b\" int);
CREATE VIEW seen AS SELECT device FROM readings;
";

fn differences(
    database: &Database,
    outputs: &[Output],
    tables: &[(&str, TableSettings)],
) -> String {
    let settings = settings(tables);
    let result = wait_for(async {
        let session = database.options.connect().await.unwrap();
        plan(&session, outputs, &settings).await
    });
    result.map_or_else(|fault| fault.to_string(), |_| "fits".to_owned())
}

#[test]
fn a_table_is_read_as_it_is() {
    let database = Database::without_schema();
    database.run(TABLES);
    let table = wait_for(async {
        let session = database.options.connect().await.unwrap();
        assert_eq!(Table::read(&session, "nothing").await.unwrap(), None);
        assert_eq!(Table::read(&session, "nowhere.readings").await.unwrap(), None);
        let odd = Table::read(&session, "Odd \"name\"").await.unwrap().unwrap();
        assert_eq!(
            (odd.name.as_str(), odd.columns[0].name.as_str()),
            ("public.\"Odd \"\"name\"\"\"", "a \"b")
        );
        Table::read(&session, "public.readings").await.unwrap().unwrap()
    });
    let columns = table.columns.iter().map(|column| {
        let marks = [
            (column.not_null, " not-null"),
            (column.has_default, " default"),
            (column.generated, " generated"),
        ];
        let marks: String = marks.iter().filter(|(set, _)| *set).map(|(_, mark)| *mark).collect();
        format!("{}: {} = {:?}{marks}\n", column.name, column.type_name, column.target)
    });
    insta::assert_snapshot!(format!("{} {:?}\n{}", table.name, table.unique, columns.collect::<String>()), @r#"
    public.readings [["device", "at"]]
    id: bigint = Int8 not-null default generated
    device: text = Text(None) not-null
    at: timestamp with time zone = Timestamp not-null
    power: real = Float4
    mood: public.mood = Enum(["ok", "bad"])
    price: public.price = Numeric(Some(Limits { precision: 10, scale: 2 })) default
    double_power: real = Float4 default generated
    "#);
}

#[test]
fn outputs_that_fit_give_a_plan() {
    let database = Database::without_schema();
    database.run(TABLES);
    let fields = [
        ("device", Kind::Text),
        ("at", Kind::Timestamp),
        ("power?", Kind::Float64),
        ("price?", Kind::Float64),
    ];
    let outputs = [output("readings", &fields)];
    for mode in [Mode::Append, Mode::Upsert, Mode::Ignore] {
        assert_eq!(differences(&database, &outputs, &[("", to_table("readings", mode))]), "fits");
        assert_eq!(
            differences(&database, &outputs, &[("readings", to_table("public.readings", mode))]),
            "fits"
        );
    }
    let newer =
        TableSettings { newer_than: Some("at".to_owned()), ..to_table("readings", Mode::Upsert) };
    assert_eq!(differences(&database, &outputs, &[("", newer)]), "fits");
}

#[test]
fn all_differences_are_said_at_once() {
    let database = Database::without_schema();
    database.run(TABLES);
    let outputs = [
        output(
            "readings",
            &[
                ("id", Kind::Int64),
                ("at?", Kind::Timestamp),
                ("power", Kind::Int64),
                ("mood", Kind::Boolean),
                ("double_power", Kind::Float64),
                ("volts", Kind::Float64),
                ("price", Kind::Text),
                ("price", Kind::Text),
            ],
        ),
        output("lost", &[("a", Kind::Text)]),
        output("seen", &[("device", Kind::Text)]),
        output("gone", &[("device", Kind::Text)]),
    ];
    let keyed = |table, key: &[&str], newer: Option<&str>| TableSettings {
        key: key.iter().map(|name| (*name).to_owned()).collect(),
        newer_than: newer.map(str::to_owned),
        ..to_table(table, Mode::Upsert)
    };
    let tables = [
        ("readings", keyed("readings", &["mood", "at"], Some("updated"))),
        ("seen", to_table("seen", Mode::Append)),
        ("gone", to_table("gone", Mode::Append)),
        ("other", to_table("readings", Mode::Append)),
    ];
    insta::assert_snapshot!(differences(&database, &outputs, &tables), @r#"
    SL-P010: schema mismatch between the plugin's outputs and the tables:
      - table "readings": the plugin has no output "other"
      - output "readings", table "readings": column "id" is generated by Postgres and cannot be given
      - output "readings", table "readings": column "at" is NOT NULL without a default, but the field may have no value
      - output "readings", table "readings": column "power" is real, which takes no int64
      - output "readings", table "readings": column "mood" is public.mood, which takes no boolean
      - output "readings", table "readings": column "double_power" is generated by Postgres and cannot be given
      - output "readings", table "readings": there is no column "volts"
      - output "readings", table "readings": column "price" is given twice
      - output "readings", table "readings": column "price" is given twice
      - output "readings", table "readings": column "device" is NOT NULL and has no default, but no field fills it
      - output "readings", table "readings": no field fills the `newer_than` column "updated"
      - output "readings", table "readings": there is no unique index on exactly mood, at, as ON CONFLICT needs
      - output "readings", table "readings": the field of the key column "at" may have no value
      - output "lost": no table is set for it
      - output "seen", table "seen": it is not a table
      - output "gone", table "gone": there is no such table
    "#);
}

#[test]
fn upsert_needs_a_key() {
    let database = Database::without_schema();
    database.run("CREATE TABLE loose (a int, b int UNIQUE)");
    let outputs = [output("loose", &[("a?", Kind::Int64), ("b?", Kind::Int64)])];
    let by = |key: &[&str]| TableSettings {
        key: key.iter().map(|name| (*name).to_owned()).collect(),
        ..to_table("loose", Mode::Upsert)
    };
    let all = [by(&[]), by(&["a"]), by(&["b"])]
        .map(|table| differences(&database, &outputs, &[("", table)]));
    insta::assert_snapshot!(all.join("\n"), @r#"
    SL-P010: schema mismatch between the plugin's outputs and the tables:
      - output "loose", table "loose": there is no primary key; name the conflict columns in `key`
    SL-P010: schema mismatch between the plugin's outputs and the tables:
      - output "loose", table "loose": there is no unique index on exactly a, as ON CONFLICT needs
      - output "loose", table "loose": the field of the key column "a" may have no value
    SL-P010: schema mismatch between the plugin's outputs and the tables:
      - output "loose", table "loose": the field of the key column "b" may have no value
    "#);
}

#[test]
fn missing_privileges_are_named_before_anything_moves() {
    let database = Database::without_schema();
    let role = format!("reader_{}", database.name);
    let weak = Database {
        options: database.create_role(&role),
        port: database.port,
        name: database.name.clone(),
        password: database.password.clone(),
    };
    database
        .run(&format!("CREATE TABLE t (k int PRIMARY KEY, v int); GRANT SELECT ON t TO {role}"));
    let outputs = [output("t", &[("k", Kind::Int64), ("v?", Kind::Int64)])];
    let missing = |mode| differences(&weak, &outputs, &[("", to_table("t", mode))]);
    insta::assert_snapshot!(
        [Mode::Append, Mode::Ignore, Mode::Upsert].map(missing).join("\n"),
        @"
    SL-P008: privileges are missing: INSERT on public.t
    SL-P008: privileges are missing: INSERT on public.t
    SL-P008: privileges are missing: INSERT on public.t, UPDATE on public.t
    "
    );
    // On the columns that are written is enough, and no less.
    database.run(&format!("GRANT INSERT (k), UPDATE (v) ON t TO {role}"));
    let on_one = "SL-P008: privileges are missing: INSERT (\"v\") on public.t";
    assert_eq!([Mode::Append, Mode::Ignore, Mode::Upsert].map(missing), [on_one; 3]);
    database.run(&format!("GRANT INSERT (v) ON t TO {role}"));
    assert_eq!([Mode::Append, Mode::Ignore, Mode::Upsert].map(missing), ["fits"; 3]);
}

//! Tables for the plugin `every_type`, and what must be in them.

use std::collections::BTreeMap;

use anyhow::Result;

use super::{End, Kind};
use crate::checker::{Disposition, Expected, Keep, Message, Shape, Table};
use crate::postgres::Database;

/// Types, functions, and the view through which the checker reads: one line a row, without the rows that were there
/// before. `transaction_at` is the same for all that one transaction writes, `rejected_at` of its dead letters included.
macro_rules! with_view {
    ($table:literal) => {
        concat!(
            "CREATE TYPE mood AS ENUM ('calm', 'tense');
             CREATE DOMAIN positive AS bigint CONSTRAINT positive_only CHECK (VALUE > 0);
             CREATE DOMAIN word AS text CONSTRAINT one_word CHECK (VALUE !~ '\\s');
             CREATE TABLE owners (id bigint PRIMARY KEY);
             INSERT INTO owners VALUES (1);
             CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$
                 BEGIN
                     RAISE EXCEPTION 'refused by a trigger' USING ERRCODE = coalesce(NEW.state, NEW.late_state);
                 END $$;
             CREATE FUNCTION shown(name text, value text) RETURNS text LANGUAGE sql IMMUTABLE AS $$
                 SELECT name || '=' || CASE WHEN length(value) > 100 THEN 'long' ELSE value END $$;",
            $table,
            "CREATE VIEW written AS SELECT arrival, transaction_at, id, concat_ws(' ', id, shown('said', said),
                 shown('flag', flag::text), shown('small', small::text), shown('medium', medium::text),
                 shown('large', large::text), shown('amount', amount::text), shown('single', single::text),
                 shown('double', double::text), shown('ratio', ratio::text), shown('price', price::text),
                 shown('exact', exact::text), shown('note', note), shown('short', short::text),
                 shown('fixed', fixed::text), shown('uid', uid::text), shown('day', day::text),
                 shown('clock', clock::text), shown('at', at::text), shown('at_day', at_day::text),
                 shown('mood', mood::text), shown('doc', doc::text), shown('raw', raw::text),
                 shown('doc_text', doc_text::text), shown('raw_text', raw_text::text), shown('blob', blob::text),
                 shown('smalls', smalls::text), shown('mediums', mediums::text), shown('larges', larges::text),
                 shown('singles', singles::text), shown('doubles', doubles::text)) AS line
             FROM every_type WHERE id >= 0"
        )
    };
}

/// Rows are copied into this table as they are; it has a constraint of each kind.
pub const STRAIGHT: &str = with_view!(
    "CREATE TABLE every_type (
         id bigint NOT NULL, said text, flag boolean, small smallint, medium integer, large bigint, amount numeric(6,2),
         positive positive, single real, double double precision, ratio numeric(5,3), note text, short varchar(5),
         fixed char(3), price numeric(10,2), exact numeric, uid uuid, day date, clock time, mood mood, doc_text jsonb,
         raw_text json, word word, at timestamptz, at_day date, doc jsonb, raw json, blob bytea, smalls smallint[],
         mediums integer[], larges bigint[], singles real[], doubles double precision[],
         even bigint CONSTRAINT even_only CHECK (even % 2 = 0),
         unique_no bigint CONSTRAINT number_once UNIQUE,
         owner bigint CONSTRAINT owner_known REFERENCES owners,
         late_owner bigint CONSTRAINT owner_known_late REFERENCES owners DEFERRABLE INITIALLY DEFERRED,
         starts bigint, ends bigint,
         divisor bigint, share bigint GENERATED ALWAYS AS (100 / divisor) STORED,
         kept bigint, must bigint GENERATED ALWAYS AS (CASE WHEN kept = 13 THEN NULL ELSE 0 END) STORED NOT NULL,
         state text, late_state text, indexed text,
         searched text, words tsvector GENERATED ALWAYS AS (to_tsvector('simple', searched)) STORED,
         arrival bigint GENERATED ALWAYS AS IDENTITY, transaction_at timestamptz NOT NULL DEFAULT now(),
         CONSTRAINT no_overlap EXCLUDE USING gist (int8range(starts, ends) WITH &&) WHERE (starts IS NOT NULL)
     );
     CREATE INDEX by_indexed ON every_type (indexed) WHERE indexed IS NOT NULL;
     CREATE TRIGGER refuse BEFORE INSERT ON every_type FOR EACH ROW WHEN (NEW.state IS NOT NULL)
         EXECUTE FUNCTION refuse();
     CREATE TRIGGER refuse_late AFTER INSERT ON every_type FOR EACH ROW WHEN (NEW.late_state IS NOT NULL)
         EXECUTE FUNCTION refuse();
     INSERT INTO every_type (id, unique_no, owner, starts, ends) VALUES (-1, 1, 1, 1, 10);"
);

/// Rows get into this table by way of another one, because some of its columns take text by casting it.
pub const CASTING: &str = with_view!(
    "CREATE TABLE every_type (
         id bigint NOT NULL, said text, flag boolean, small smallint, medium integer, large bigint, amount numeric(6,2),
         positive bigint, single real, double double precision, ratio numeric(5,3), note text, short inet,
         fixed macaddr, price money, exact interval, uid text[], day timestamp, clock time, mood mood,
         doc_text int4range, raw_text bit(4), word word, at timestamptz, at_day date, doc jsonb, raw json, blob bytea,
         smalls smallint[], mediums integer[], larges bigint[], singles real[], doubles double precision[],
         even bigint, unique_no bigint, owner bigint, late_owner bigint, starts bigint, ends bigint, divisor bigint,
         kept bigint, state text, late_state text, indexed bigint, searched integer[],
         arrival bigint GENERATED ALWAYS AS IDENTITY, transaction_at timestamptz NOT NULL DEFAULT now()
     ) PARTITION BY LIST (flag);
     CREATE TABLE every_type_flagged PARTITION OF every_type FOR VALUES IN (true, NULL);"
);

/// Messages as they were sent, by partition and offset.
#[derive(Debug, Default)]
pub struct Sent {
    /// Which of several rows with one number stays; none where the table takes them all.
    keep: Option<Keep>,
    messages: BTreeMap<(i32, i64), Noted>,
}

/// What must become of a message; what it was stands in the topic.
#[derive(Debug)]
struct Noted {
    number: i64,
    /// Empty for harmless ones.
    name: String,
    end: End,
}

impl Sent {
    /// Messages for a table that keeps one row of each number.
    pub fn keeping(keep: Keep) -> Self {
        Self { keep: Some(keep), ..Self::default() }
    }

    /// Notes that the message at this place is of `kind` and was numbered `number`.
    pub fn note(&mut self, partition: i32, offset: i64, number: i64, kind: &Kind) {
        let name = if kind.is_harmless() { String::new() } else { kind.name.clone() };
        self.messages.insert((partition, offset), Noted { number, name, end: kind.end });
    }

    /// Says what the codes and reasons of the dead letters should have been where they are not.
    pub fn wrong_dead_letters(&self, database: &Database) -> Result<Vec<String>> {
        let sql = "SELECT partition, \"offset\", stage, code, reason FROM sluice.dead_letters ORDER BY 1, 2";
        let mut wrong = Vec::new();
        for row in database.query(sql, &[])? {
            let Some(noted) = self.messages.get(&(row.get(0), row.get(1))) else { continue };
            let (stage, code, reason): (&str, &str, &str) = (row.get(2), row.get(3), row.get(4));
            let End::DeadLetter(dead_letter) = noted.end else {
                wrong.push(format!("{}: a dead letter {stage} {code}: {reason}", noted.name));
                continue;
            };
            if (dead_letter.stage, dead_letter.code) != (stage, code)
                || !reason.contains(dead_letter.says)
            {
                let expected =
                    format!("{} {}: {}", dead_letter.stage, dead_letter.code, dead_letter.says);
                wrong.push(format!("{}: {stage} {code}: {reason}, not {expected}", noted.name));
            }
        }
        Ok(wrong)
    }
}

impl Shape for Sent {
    fn tables(&self) -> Vec<Table> {
        vec![Table {
            name: "written",
            text: "line",
            arrival: self.keep.is_none().then_some("arrival"),
            marker: "",
            keep: self.keep.unwrap_or(Keep::All),
        }]
    }

    fn disposition(&self, message: &Message) -> Disposition {
        let Some(noted) = self.messages.get(&(message.partition, message.offset)) else {
            return Disposition::DeadLetter("not one of ours".to_owned());
        };
        let row = |columns: &str| Expected {
            table: "written",
            key: noted.number.to_string(),
            text: format!("{} {columns}", noted.number).trim_end().to_owned(),
            rank: 0,
        };
        match noted.end {
            End::Row(columns) => Disposition::Rows(vec![row(columns)]),
            End::Rows(both) => Disposition::Rows(both.map(row).into()),
            End::Nothing => Disposition::Rows(Vec::new()),
            End::DeadLetter(dead_letter) => Disposition::DeadLetter(dead_letter.stage.to_owned()),
        }
    }
}

/// When the transaction began that wrote each message's row or dead letter, by offset, in microseconds: for a topic of one
/// partition, where messages are numbered like their offsets.
pub fn arrivals(database: &Database) -> Result<BTreeMap<i64, i64>> {
    let sql = "SELECT id, (extract(epoch FROM transaction_at) * 1000000)::bigint FROM written
               UNION ALL
               SELECT \"offset\", (extract(epoch FROM rejected_at) * 1000000)::bigint FROM sluice.dead_letters";
    let rows = database.query(sql, &[])?;
    Ok(rows.iter().map(|row| (row.get(0), row.get(1))).collect())
}

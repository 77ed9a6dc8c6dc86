//! Tries one way with one batch, as a lane would meet it: a small batch passes, something happens, the batch comes.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::database::TestDatabase;
use super::way::{ALL_REJECTED, Cause, End, Way, cell};
use crate::columns::{Column, Kind, Values};
use crate::description::Output;
use crate::fault::Fault;
use crate::pipeline::brake::Brake;
use crate::settings::{DeadLetterSettings, Mode, TableSettings};
use crate::sink::Prepared;
use crate::sink::postgres::{Session, Written};
use crate::sink::table::{Plan, plan};
use crate::sink::tests::lab::{
    Given, Lane, PATIENCE, output, settings, to_table, until, version, wait_for,
};

/// Which rows are bad.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rows {
    OneBad,
    All,
}

const ROWS: i64 = 1000;
/// The bad one, when there is one.
const BAD: i64 = 500;
/// Rows of the small batch ahead.
const AHEAD: i64 = 4;
/// The `id` of the first row.
const FIRST_ID: i64 = 1000;
/// How often a batch may come back to the lane.
const ANSWERS_MAX: usize = 5;
/// What is not retried would have been answered this long after Postgres gave the SQLSTATE.
const ANSWER_MAX: Duration = Duration::from_millis(700);

/// Tries `way`; `None` when the server lacks what it needs.
///
/// # Panics
/// When the batch ends otherwise than the way says.
pub fn run(way: &Way, rows: Rows) -> Option<End> {
    let mut scene = Scene::prepare(way, rows)?;
    scene.write_a_few_ahead();
    let other_session = scene.begin();
    let end = scene.write();
    let expected = if rows == Rows::OneBad { way.one } else { way.all };
    assert_eq!(end, expected, "{}", scene.message);
    scene.check_state(end);
    match end {
        End::DeadLetters | End::Written => scene.end(other_session),
        End::Blocked(_) => {
            scene.end(other_session);
            scene.check_nothing_written();
            scene.mend();
        }
        End::Retried => {
            scene.check_nothing_written();
            scene.end(other_session);
            scene.expect_to_pass();
        }
    }
    scene.check_written();
    drop(scene.lane);
    scene.database.give_back();
    Some(end)
}

/// A lane that writes to the tables of a way.
struct Scene<'a> {
    way: &'a Way,
    database: TestDatabase,
    plan: Arc<Plan>,
    lane: Lane,
    /// Rows that are bad now.
    bad: Vec<i64>,
    rows_before: String,
    /// What Sluice said of the batch.
    message: String,
}

impl<'a> Scene<'a> {
    fn prepare(way: &'a Way, rows: Rows) -> Option<Self> {
        let database = TestDatabase::make(way)?;
        let plan = make_plan(way, &database).unwrap();
        let lane = Lane::start_by(&database.writer, &database.lab, &[0], "lane");
        let bad = match rows {
            Rows::OneBad => vec![BAD],
            Rows::All if way.all_are_good => Vec::new(),
            Rows::All => (0..ROWS).collect(),
        };
        let rows_before = database.ask(&count_rows());
        Some(Self { way, database, plan, lane, bad, rows_before, message: String::new() })
    }

    fn ask(&self, query: &str) -> String {
        self.database.ask(query)
    }

    fn write_a_few_ahead(&mut self) {
        let cells: Vec<String> =
            (0..AHEAD).map(|row| cell(&self.way.good, FIRST_ID + row)).collect();
        let given = given(self.way, 0, &cells);
        self.lane.write(&self.plan, given, &version("a"));
    }

    /// The cell of `v` in each row of the batch.
    fn cells(&self) -> Vec<String> {
        let cell = |row| {
            let template = if self.bad.contains(&row) { &self.way.bad } else { &self.way.good };
            cell(template, id(row))
        };
        (0..ROWS).map(cell).collect()
    }

    /// Makes happen what the way says. The session is one that keeps a transaction open.
    fn begin(&self) -> Option<Session> {
        let cause = self.way.cause.as_ref()?;
        if !cause.stays_open {
            self.database.run(&cause.begin);
            return None;
        }
        let statements = self.database.named(&cause.begin);
        Some(wait_for(async {
            let session = self.database.lab.session().await;
            let open = "SET idle_in_transaction_session_timeout = 0; BEGIN";
            session.batch_execute(&format!("{open}; {statements}")).await.unwrap();
            session
        }))
    }

    fn end(&self, other_session: Option<Session>) {
        drop(other_session);
        if let Some(Cause { end, .. }) = &self.way.cause {
            self.database.run(end);
        }
    }

    /// Writes the batch; returns when it is clear what becomes of it.
    fn write(&mut self) -> End {
        if let Some(end) = self.send() {
            return end;
        }
        if let Some(Cause { while_it_waits, .. }) = &self.way.cause
            && !while_it_waits.is_empty()
        {
            let waits = "SELECT count(*) > 0 FROM pg_stat_activity \
                WHERE wait_event_type = 'Lock' AND datname = current_database()";
            until(|| self.ask(waits) == "t");
            self.database.run(while_it_waits);
        }
        let retries = self.way.one == End::Retried;
        let deadline = Instant::now() + PATIENCE;
        while Instant::now() < deadline {
            if let Some(end) = self.go_on(Duration::from_millis(50)) {
                return end;
            }
            if retries && self.was_said() {
                return self.go_on(ANSWER_MAX).unwrap_or(End::Retried);
            }
        }
        panic!("it did not end");
    }

    /// Encodes the batch and begins to write it.
    fn send(&mut self) -> Option<End> {
        let given = given(self.way, self.lane.ranges[0].from, &self.cells());
        let prepared = self.lane.encode(&self.plan, given, &version("a"));
        self.send_prepared(prepared)
    }

    /// Begins to write the batch, unless too many rows in a row were rejected for one cause.
    fn send_prepared(&mut self, prepared: Prepared) -> Option<End> {
        let brake = Brake::new(DeadLetterSettings::default().max_in_a_row);
        let braked = brake.check(prepared.has_rows(), prepared.rejected());
        if let Err(fault) = braked {
            self.check_codes(prepared.rejected().iter().map(|it| it.code.as_str()));
            return Some(self.blocked(&fault));
        }
        self.lane.send(prepared);
        None
    }

    /// Does what a lane does until the batch has ended; `None` when it has not in `time`.
    fn go_on(&mut self, time: Duration) -> Option<End> {
        for _ in 0..ANSWERS_MAX {
            let sent = match self.lane.writer.wait(time)? {
                Written::Done { receipt, reuse } => {
                    let ranges = self.lane.move_on(&receipt, reuse);
                    let rejected = ranges[0].rejected > 0;
                    return Some(if rejected { End::DeadLetters } else { End::Written });
                }
                Written::Refused { rejections, prepared } => {
                    self.message = format!("{} rejections: {:?}", rejections.len(), rejections[0]);
                    let prepared = self.lane.without(&rejections, prepared);
                    self.send_prepared(prepared)
                }
                Written::Changed { plan, reuse } => {
                    (self.plan, self.lane.reuse) = (plan, Some(reuse));
                    self.send()
                }
                Written::Stopped { fault, .. } => Some(self.blocked(&fault)),
                Written::TooLarge { fault, .. } => panic!("too large: {fault}"),
                Written::Fenced { .. } => panic!("fenced"),
            };
            if sent.is_some() {
                return sent;
            }
        }
        panic!("it came back again and again: {}", self.message);
    }

    fn blocked(&mut self, fault: &Fault) -> End {
        self.message = fault.to_string();
        End::Blocked(fault.code)
    }

    /// Makes the rows fit and writes the batch again; where nothing makes them fit, good rows.
    fn mend(&mut self) {
        if !self.way.mend.is_empty() {
            self.database.run(self.way.mend);
        } else if self.bad.len() as i64 == ROWS {
            self.bad.clear();
        }
        self.plan = make_plan(self.way, &self.database).unwrap();
        let braked = self.send();
        assert_eq!(braked, None, "{}", self.message);
        self.expect_to_pass();
    }

    fn expect_to_pass(&mut self) {
        let end = self.go_on(PATIENCE);
        assert!(matches!(end, Some(End::DeadLetters | End::Written)), "{end:?}: {}", self.message);
    }

    fn check_nothing_written(&self) {
        // Where the table is locked, not even we can read it.
        if !self.way.is_slow() {
            assert_eq!(self.ask(&count_rows()), self.rows_before, "rows");
        }
        assert_eq!(self.ask("SELECT count(*) FROM sluice.dead_letters"), "0", "dead letters");
        let position = self.ask("SELECT next_offset FROM sluice.positions");
        assert_eq!(position, AHEAD.to_string(), "position");
    }

    /// Each message has become its row, with the right value, or its dead letter.
    fn check_written(&self) {
        let fit = !self.way.mend.is_empty();
        let rejected: &[i64] = if fit { &[] } else { &self.bad };
        let dead_letters = self.ask("SELECT \"offset\", code FROM sluice.dead_letters ORDER BY 1");
        let dead_letters: Vec<_> =
            dead_letters.lines().filter_map(|it| it.split_once('|')).collect();
        let offsets: Vec<String> =
            dead_letters.iter().map(|(offset, _)| (*offset).to_owned()).collect();
        let expected: Vec<String> = rejected.iter().map(|row| (AHEAD + row).to_string()).collect();
        assert_eq!(offsets, expected, "offsets of dead letters");
        self.check_codes(dead_letters.iter().map(|(_, code)| *code));
        let position = self.ask("SELECT next_offset FROM sluice.positions");
        assert_eq!(position, (AHEAD + ROWS).to_string(), "position");
        self.check_values("t", rejected);
        if self.way.two_tables {
            self.check_values("p", rejected);
        }
    }

    /// Besides a cause there may be rows that violate the constraint of the table.
    fn check_codes<'c>(&self, mut codes: impl Iterator<Item = &'c str>) {
        let besides = |code: &str| self.way.cause.is_some() && code == "23514";
        let other = codes.find(|code| !self.way.is_called(code) && !besides(code));
        assert!(other.is_none(), "not {}, but {other:?}: {}", self.way.state, self.message);
    }

    /// That the server gave the SQLSTATE in question. Where it rejects all rows, the rejections tell.
    fn check_state(&mut self, end: End) {
        let waits = matches!(end, End::Blocked(_) | End::Retried) && end != ALL_REJECTED;
        if waits && !self.way.state.is_empty() {
            assert!(
                self.was_said(),
                "the server said {:?}, not {}",
                self.database.said,
                self.way.state
            );
        }
    }

    fn was_said(&mut self) -> bool {
        self.database.read_log().iter().any(|state| self.way.is_called(state))
    }

    fn check_values(&self, table: &str, rejected: &[i64]) {
        let cells = self.cells();
        let written: Vec<i64> = (0..ROWS).filter(|row| !rejected.contains(row)).collect();
        let query = format!("SELECT id, v::text FROM {table} WHERE id >= {} ORDER BY id", id(0));
        let found = self.ask(&query);
        let expected = written.iter().map(|row| (id(*row), cells[*row as usize].as_str()));
        let expected = self.as_stored(table, &expected.collect::<Vec<_>>());
        assert_eq!(found.lines().count(), written.len(), "rows of {table}");
        let difference = found.lines().zip(expected.lines()).find(|(now, then)| now != then);
        assert_eq!(difference, None, "values in {table}");
    }

    /// How the texts look as values of the column.
    fn as_stored(&self, table: &str, cells: &[(i64, &str)]) -> String {
        if cells.is_empty() {
            return String::new();
        }
        let to = self.ask(&format!(
            "SELECT format_type(atttypid, atttypmod) FROM pg_attribute \
             WHERE attrelid = '{table}'::regclass AND attname = 'v'"
        ));
        let value = match self.way.kind {
            Kind::Timestamp => "('epoch'::timestamptz + v::bigint * interval '1 microsecond')",
            _ => "v",
        };
        let cells = cells.iter().map(|(id, text)| format!("({id}, {})", literal(text)));
        let cells = cells.collect::<Vec<_>>().join(", ");
        self.ask(&format!(
            "SELECT id, {value}::{to}::text FROM (VALUES {cells}) AS r (id, v) ORDER BY id"
        ))
    }
}

fn id(row: i64) -> i64 {
    FIRST_ID + AHEAD + row
}

fn count_rows() -> String {
    format!("SELECT count(*) FROM t WHERE id >= {}", id(0))
}

fn literal(text: &str) -> String {
    if text == "NULL" { text.to_owned() } else { format!("'{}'", text.replace('\'', "''")) }
}

fn outputs(way: &Way) -> Vec<Output> {
    let v = if way.nullable { "v?" } else { "v" };
    let fields = [("id", Kind::Int64), (v, way.kind)];
    let tables: &[&str] = if way.two_tables { &["t", "p"] } else { &["t"] };
    tables.iter().map(|table| output(table, &fields)).collect()
}

fn make_plan(way: &Way, database: &TestDatabase) -> Result<Arc<Plan>, Fault> {
    let outputs = outputs(way);
    let table = |output: &Output| {
        let mut table: TableSettings = to_table(&output.name, way.mode);
        if way.mode != Mode::Append && !way.tables.contains("PRIMARY KEY") {
            table.key = vec!["id".to_owned()];
        }
        table
    };
    let tables: Vec<(&str, TableSettings)> =
        outputs.iter().map(|output| (output.name.as_str(), table(output))).collect();
    let settings = settings(&tables);
    wait_for(async {
        let session = database.writer.connect().await?;
        plan(&session, &outputs, &settings).await.map(Arc::new)
    })
}

fn given(way: &Way, offset: i64, cells: &[String]) -> Given {
    let rows = cells.len() as i64;
    let ids: Vec<String> = (0..rows).map(|row| (FIRST_ID + offset + row).to_string()).collect();
    let mut given = Given::messages((offset..offset + rows).map(|offset| (0, offset)));
    for _ in outputs(way) {
        given = given.table(vec![column(Kind::Int64, &ids), column(way.kind, cells)]);
    }
    given
}

fn column(kind: Kind, cells: &[String]) -> Column {
    let mut column = Column::new(kind);
    for (index, cell) in cells.iter().enumerate() {
        if cell == "NULL" {
            column.push_null();
            continue;
        }
        match &mut column.values {
            Values::Int64(values) | Values::Timestamp(values) => values.push(cell.parse().unwrap()),
            Values::Float64(values) => values.push(cell.parse().unwrap()),
            Values::Text(spans) | Values::Json(spans) => spans.push(cell.as_bytes()),
            other => panic!("{other:?}"),
        }
        column.mark_present(index);
    }
    column
}

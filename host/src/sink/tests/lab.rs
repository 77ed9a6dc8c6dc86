//! What the tests of the sink share: a server, databases, batches, and a lane of one partition.

use std::collections::BTreeMap;
use std::future::Future;
use std::mem::take;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use tokio_postgres::SimpleQueryMessage;
use uuid::Uuid;

use crate::batch::{Batch, Message};
use crate::columns::{Column, Kind};
use crate::demo::postgres::Throwaway;
use crate::description::{FieldSource, Output, OutputField};
use crate::rows::{Checked, Decoded, Outcome, Rejection, RowColumn, TableRows};
use crate::settings::{Mode, SinkSettings, TableSettings};
use crate::sink::claims::{ClaimAnswer, Claims};
use crate::sink::postgres::connection::describe;
use crate::sink::postgres::{Options, Session, Writer, Written};
use crate::sink::table::{Plan, plan};
use crate::sink::{Delivery, Parking, Prepared, Range, Receipt, Version, WaitingKeys};

pub const TOPIC: Uuid = Uuid::from_u128(0x7011);
/// Long enough for a busy machine, short enough to notice a hang.
pub const PATIENCE: Duration = Duration::from_mins(1);

static RUNTIME: LazyLock<tokio::runtime::Runtime> = LazyLock::new(|| {
    tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap()
});

/// Ends with the process.
static SERVER: LazyLock<Throwaway> = LazyLock::new(|| {
    let settings = [("fsync", "off"), ("max_connections", "60"), ("log_statement", "none")];
    Throwaway::start(&settings, &mut |_| {}).unwrap()
});

/// The runtime that [`wait_for`] uses.
pub fn runtime() -> tokio::runtime::Handle {
    RUNTIME.handle().clone()
}

/// Runs a future to its end.
pub fn wait_for<T>(future: impl Future<Output = T>) -> T {
    RUNTIME.block_on(future)
}

/// Asks until the answer is yes.
pub fn until(mut answer: impl FnMut() -> bool) {
    let deadline = std::time::Instant::now() + PATIENCE;
    while !answer() {
        assert!(std::time::Instant::now() < deadline, "it never came true");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// A database of its own with the `sluice` schema.
pub struct Database {
    pub options: Options,
    pub port: u16,
    pub name: String,
    /// Of the superuser; roles of tests have the same.
    pub password: String,
}

impl Database {
    pub fn new() -> Self {
        let database = Self::without_schema();
        wait_for(crate::sink::migrate::migrate(&database.options)).unwrap();
        database
    }

    pub fn without_schema() -> Self {
        static NAMES: AtomicU32 = AtomicU32::new(0);
        let name = format!("lab_{}", NAMES.fetch_add(1, Ordering::Relaxed));
        let main = Self::on(&SERVER, "postgres");
        main.run(&format!("CREATE DATABASE {name}"));
        Self::on(&SERVER, &name)
    }

    /// A database that is there already.
    pub fn called(name: &str) -> Self {
        Self::on(&SERVER, name)
    }

    pub fn on(server: &Throwaway, name: &str) -> Self {
        let options = Options::parse(&server.url_of(name)).unwrap();
        let password = server.password().to_owned();
        Self { options, port: server.port(), name: name.to_owned(), password }
    }

    /// The same database by way of another port.
    pub fn through(&self, port: u16) -> Options {
        self.options_of("postgres", port)
    }

    /// Lets a new role log in; its name must need no quotes.
    pub fn create_role(&self, role: &str) -> Options {
        self.run(&format!("CREATE ROLE {role} LOGIN PASSWORD '{}'", self.password));
        self.options_of(role, self.port)
    }

    /// As `role`, which has our password, by way of `port`.
    pub fn options_of(&self, role: &str, port: u16) -> Options {
        let Self { name, password, .. } = self;
        Options::parse(&format!("postgres://{role}:{password}@127.0.0.1:{port}/{name}")).unwrap()
    }

    pub fn run(&self, statements: &str) {
        self.try_run(statements).unwrap();
    }

    pub fn try_run(&self, statements: &str) -> Result<(), String> {
        wait_for(async {
            let session = self.session().await;
            session.batch_execute(statements).await.map_err(|error| describe(&error))
        })
    }

    /// The answer as text: columns by `|`, rows by line.
    pub fn ask(&self, query: &str) -> String {
        let session = wait_for(self.session());
        ask_on(&session, query)
    }

    /// A session on which names mean what they mean to a user.
    pub async fn session(&self) -> Session {
        let session = self.options.connect().await.unwrap();
        session.take_role_path().await.unwrap();
        session
    }
}

/// The same on a session that stays.
pub fn ask_on(session: &Session, query: &str) -> String {
    let answer = wait_for(session.simple_query(query)).unwrap();
    let rows = answer.iter().filter_map(|message| match message {
        SimpleQueryMessage::Row(row) => {
            let cells = (0..row.len()).map(|index| row.get(index).unwrap_or("NULL"));
            Some(cells.collect::<Vec<_>>().join("|"))
        }
        _ => None,
    });
    rows.collect::<Vec<_>>().join("\n")
}

/// A plugin's output of computed fields.
pub fn output(name: &str, fields: &[(&str, Kind)]) -> Output {
    let fields = fields.iter().map(|(name, kind)| OutputField {
        name: name.trim_end_matches('?').to_owned(),
        kind: *kind,
        nullable: name.ends_with('?'),
        source: FieldSource::Computed,
    });
    Output { name: name.to_owned(), fields: fields.collect() }
}

pub fn to_table(table: &str, mode: Mode) -> TableSettings {
    TableSettings { table: table.to_owned(), mode, key: Vec::new(), newer_than: None }
}

pub fn settings(tables: &[(&str, TableSettings)]) -> SinkSettings {
    let tables: BTreeMap<_, _> =
        tables.iter().map(|(name, table)| ((*name).to_owned(), table.clone())).collect();
    SinkSettings { url: String::new(), url_raw: None, connections_max: 32, tables }
}

pub fn make_plan(
    database: &Database,
    outputs: &[Output],
    tables: &[(&str, TableSettings)],
) -> Arc<Plan> {
    let settings = settings(tables);
    let result = wait_for(async {
        let session = database.options.connect().await.unwrap();
        plan(&session, outputs, &settings).await
    });
    Arc::new(result.unwrap())
}

pub fn version(name: &str) -> Arc<Version> {
    Arc::new(Version {
        digest: name.repeat(64),
        plugin: "plugin".to_owned(),
        version: "1.0.0".to_owned(),
    })
}

/// A batch of messages of some partitions and what a plugin made of them.
pub struct Given {
    pub batch: Batch,
    pub decoded: Decoded,
    pub tables: Vec<TableRows>,
    pub rejections: Vec<Rejection>,
    pub undecoded: Vec<Rejection>,
    pub parking: Parking,
    pub waiting: WaitingKeys,
}

impl Given {
    /// Messages `(partition, offset)`, all decoded, no row yet.
    pub fn messages(positions: impl IntoIterator<Item = (i32, i64)>) -> Self {
        let mut batch = Batch::new("topic");
        for (partition, offset) in positions {
            batch.push(Message {
                partition,
                offset,
                timestamp_us: -1,
                key: None,
                payload: Some(b"{}"),
            });
            batch.close_message();
        }
        let messages = (0..batch.len() as u32).collect();
        let decoded = Decoded { messages, ..Decoded::default() };
        Self {
            batch,
            decoded,
            tables: Vec::new(),
            rejections: Vec::new(),
            undecoded: Vec::new(),
            parking: Parking::default(),
            waiting: WaitingKeys::default(),
        }
    }

    /// One row per message in one more table.
    pub fn table(mut self, columns: Vec<Column>) -> Self {
        let messages = (0..self.batch.len() as u32).collect();
        let columns = columns.into_iter().map(RowColumn::Computed).collect();
        self.tables.push(TableRows { messages, columns, deletes: Vec::new() });
        self
    }

    /// Takes the rows; the batch stays.
    pub fn encode(
        &mut self,
        plan: &Plan,
        ranges: Vec<Range>,
        version: Arc<Version>,
        reuse: Prepared,
    ) -> Prepared {
        let (tables, rejections) = (take(&mut self.tables), take(&mut self.rejections));
        let outcome = Checked::vouch(Outcome { tables, rejections });
        let delivery = Delivery {
            batch: &self.batch,
            decoded: &self.decoded,
            outcome: &outcome,
            undecoded: &self.undecoded,
            ranges,
            version,
            parking: self.parking.clone(),
            waiting: &self.waiting,
        };
        plan.encode(delivery, reuse)
    }

    /// For messages that a table of ours keeps.
    pub fn encode_kept(
        mut self,
        plan: &Plan,
        ranges: Vec<Range>,
        version: Arc<Version>,
    ) -> Prepared {
        self.parking.kept = true;
        self.encode(plan, ranges, version, Prepared::default())
    }
}

/// Fills a column.
pub trait Fill {
    fn ints(self, values: &[i64]) -> Self;
    fn texts(self, values: &[&str]) -> Self;
}

impl Fill for Column {
    fn ints(mut self, values: &[i64]) -> Self {
        match &mut self.values {
            crate::columns::Values::Int64(cells) | crate::columns::Values::Timestamp(cells) => {
                cells.extend(values);
            }
            other => panic!("{other:?}"),
        }
        self
    }

    fn texts(mut self, values: &[&str]) -> Self {
        match &mut self.values {
            crate::columns::Values::Text(cells) | crate::columns::Values::Json(cells) => {
                for value in values {
                    cells.push(value.as_bytes());
                }
            }
            other => panic!("{other:?}"),
        }
        self
    }
}

/// A lane: claims of some partitions and a writer.
pub struct Lane {
    pub writer: Writer,
    pub ranges: Vec<Range>,
    pub reuse: Option<Prepared>,
    writing: Option<(Arc<Plan>, Batch)>,
}

impl Lane {
    pub fn start(database: &Database, partitions: &[i32]) -> Self {
        Self::start_by(&database.options, database, partitions, "lane")
    }

    /// Writes by way of `options`, claims directly.
    pub fn start_by(
        options: &Options,
        database: &Database,
        partitions: &[i32],
        owner: &str,
    ) -> Self {
        let claims = Claims::new(&database.options, "pipeline", "topic", owner);
        let wanted: Vec<(i32, i64)> = partitions.iter().map(|partition| (*partition, 0)).collect();
        let answers = wait_for(claims.claim(TOPIC, &wanted)).unwrap();
        let ranges = answers.into_iter().map(|answer| match answer {
            ClaimAnswer::Claimed { partition, next_offset, epoch, .. } => {
                Range { partition, from: next_offset, to: next_offset, epoch, ..Range::default() }
            }
            other @ ClaimAnswer::OtherTopic { .. } => panic!("{other:?}"),
        });
        let ranges = ranges.collect();
        let writer = Writer::start(
            RUNTIME.handle(),
            options,
            "pipeline",
            "topic",
            TOPIC,
            owner,
            Arc::default(),
        );
        Self { writer, ranges, reuse: None, writing: None }
    }

    /// Begins to write what `given` contains, from where the lane stands to one behind its last message.
    pub fn begin(&mut self, plan: &Arc<Plan>, given: Given, version: &Arc<Version>) {
        let prepared = self.encode(plan, given, version);
        self.send(prepared);
    }

    /// Encodes what `given` contains.
    pub fn encode(
        &mut self,
        plan: &Arc<Plan>,
        mut given: Given,
        version: &Arc<Version>,
    ) -> Prepared {
        let ranges: Vec<Range> = (self.ranges.iter())
            .filter_map(|range| {
                let mine = |index: &usize| given.batch.partitions[*index] == range.partition;
                let last = (0..given.batch.len()).rfind(mine)?;
                Some(Range { to: given.batch.offsets[last] + 1, ..range.clone() })
            })
            .collect();
        let prepared =
            given.encode(plan, ranges, version.clone(), self.reuse.take().unwrap_or_default());
        self.writing = Some((plan.clone(), given.batch));
        prepared
    }

    /// Begins to write what was encoded last.
    pub fn send(&mut self, prepared: Prepared) {
        let (plan, _) = self.writing.as_ref().expect("a batch was encoded");
        self.writer.write(plan.clone(), prepared);
    }

    pub fn finish(&mut self) -> Written {
        self.writer.wait(PATIENCE).expect("an answer in time")
    }

    /// Writes and moves on.
    pub fn write(&mut self, plan: &Arc<Plan>, given: Given, version: &Arc<Version>) -> Vec<Range> {
        self.begin(plan, given, version);
        self.expect_done()
    }

    /// Writes again without rows that are rejected until nothing helps, and says why.
    pub fn expect_stopped(&mut self) -> String {
        match self.finish() {
            Written::Refused { rejections, prepared } => {
                let prepared = self.without(&rejections, prepared);
                self.send(prepared);
                self.expect_stopped()
            }
            Written::Stopped { fault, reuse } => {
                self.reuse = Some(reuse);
                fault.to_string()
            }
            other => panic!("{other:?}"),
        }
    }

    /// Writes again without rows that Postgres rejects, as often as it takes.
    pub fn expect_done(&mut self) -> Vec<Range> {
        match self.finish() {
            Written::Refused { rejections, prepared } => {
                let prepared = self.without(&rejections, prepared);
                self.send(prepared);
                self.expect_done()
            }
            Written::Done { receipt, reuse } => self.move_on(&receipt, reuse),
            other => panic!("{other:?}"),
        }
    }

    /// The batch with dead letters in the place of rows that Postgres rejects.
    pub fn without(&self, rejections: &[Rejection], mut prepared: Prepared) -> Prepared {
        let (_, batch) = self.writing.as_ref().expect("a batch is being written");
        prepared.reject(batch, rejections);
        prepared
    }

    /// Stands behind the batch that was written.
    pub fn move_on(&mut self, receipt: &Receipt, reuse: Prepared) -> Vec<Range> {
        for done in receipt.ranges() {
            let mine = |range: &&mut Range| range.partition == done.partition;
            self.ranges.iter_mut().find(mine).unwrap().from = done.to;
        }
        self.reuse = Some(reuse);
        receipt.ranges().to_vec()
    }
}

//! One way in which Postgres can reject a write: the tables it takes, good rows and bad ones, and what is to become of
//! both.

use crate::columns::Kind;
use crate::settings::Mode;

/// What becomes of a batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// Each bad row costs its message a dead letter, and nothing else.
    DeadLetters,
    /// Nothing is written, and nothing is dead-lettered, until the cause is mended; then the same batch passes.
    Blocked(&'static str),
    /// Nothing is written, and nothing is dead-lettered, while the cause lasts; then the batch passes by itself.
    Retried,
    /// All rows are written.
    Written,
}

/// The code under which a lane blocks the pipeline when Postgres rejects all rows for one cause.
pub const ALL_REJECTED: End = End::Blocked("SL-P020");

/// Something that happens while a pipeline is running, and hits more than one row.
#[derive(Debug, Clone)]
pub struct Cause {
    /// Run by a superuser before the batch is written. `{role}` and `{database}` are those of the writer.
    pub begin: String,
    /// True to leave the transaction of `begin` open until the cause ends.
    pub stays_open: bool,
    /// Run once the writer waits for a lock.
    pub while_it_waits: &'static str,
    /// Ends it.
    pub end: &'static str,
}

/// A way in which Postgres can reject a write.
#[derive(Debug, Clone)]
pub struct Way {
    pub name: String,
    /// What Postgres calls it, or the code that Sluice gives; several by " or " where versions of Postgres differ. Empty
    /// where Postgres would not object.
    pub state: &'static str,
    /// Must succeed on this server, else the way is not tried.
    pub needs: &'static str,
    /// Makes the table `t (id bigint, v ...)` and what belongs to it.
    pub tables: String,
    /// Of the field `v`.
    pub kind: Kind,
    pub nullable: bool,
    /// Texts of `v`, of which `#` becomes the row's `id`, four digits; `@` the odd one of each pair of them; `~` 6,000
    /// characters that cannot be compressed. `NULL` is one.
    pub good: String,
    pub bad: String,
    pub mode: Mode,
    /// True when each message also becomes a row of the table `p (id bigint, v ...)`, written behind `t`.
    pub two_tables: bool,
    pub encoding: &'static str,
    pub cause: Option<Cause>,
    /// Makes bad rows fit.
    pub mend: &'static str,
    /// One bad row among 1,000.
    pub one: End,
    /// 1,000 bad rows, or 1,000 good ones where no row is to blame.
    pub all: End,
    pub all_are_good: bool,
}

/// A table whose only objection is to negative values.
pub const CHECKED: &str = "CREATE TABLE t (id bigint, v bigint CHECK (v >= 0))";
pub const KEYED: &str = "CREATE TABLE t (id bigint PRIMARY KEY, v bigint CHECK (v >= 0))";

impl Way {
    /// Postgres rejects rows with a negative `v`.
    pub fn row(name: impl Into<String>, state: &'static str, tables: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            state,
            needs: "",
            tables: tables.into(),
            kind: Kind::Int64,
            nullable: false,
            good: "#".to_owned(),
            bad: "-#".to_owned(),
            mode: Mode::Append,
            two_tables: false,
            encoding: "UTF8",
            cause: None,
            mend: "",
            one: End::DeadLetters,
            all: ALL_REJECTED,
            all_are_good: false,
        }
    }

    /// Postgres cannot turn the text `bad` into a value of type `to`.
    pub fn text(
        name: &str,
        state: &'static str,
        to: &str,
        good: &'static str,
        bad: &'static str,
    ) -> Self {
        Self::row(name, state, format!("CREATE TABLE t (id bigint, v {to})")).of(
            Kind::Text,
            good,
            bad,
        )
    }

    /// Sluice finds the value before it writes, so that Postgres has nothing to reject.
    pub fn checked(
        name: &str,
        code: &'static str,
        to: &str,
        (kind, good, bad): (Kind, &str, &str),
    ) -> Self {
        let way = Self::row(name, code, format!("CREATE TABLE t (id bigint, v {to})"));
        way.of(kind, good, bad)
    }

    /// Statements that hit all rows of the table [`CHECKED`], and those that undo them. They block the pipeline.
    pub fn cause(
        name: &str,
        state: &'static str,
        code: &'static str,
        (begin, end): (&str, &'static str),
    ) -> Self {
        let cause = Cause { begin: begin.to_owned(), stays_open: false, while_it_waits: "", end };
        Self { cause: Some(cause), ..Self::row(name, state, CHECKED) }.blocks(code).all_are_good()
    }

    /// Another session that leaves a transaction open.
    pub fn lock(name: &str, statements: &str) -> Self {
        let cause =
            Cause { begin: statements.to_owned(), stays_open: true, while_it_waits: "", end: "" };
        let way = Self { cause: Some(cause), ..Self::row(name, "55P03", CHECKED) };
        way.ends(End::Retried, End::Retried).all_are_good()
    }

    pub fn of(self, kind: Kind, good: &str, bad: &str) -> Self {
        let nullable = bad == "NULL";
        Self { kind, nullable, good: good.to_owned(), bad: bad.to_owned(), ..self }
    }

    pub fn on(self, tables: &str) -> Self {
        Self { tables: tables.to_owned(), ..self }
    }

    pub fn by(self, mode: Mode) -> Self {
        Self { mode, ..self }
    }

    pub fn needs(self, needs: &'static str) -> Self {
        Self { needs, ..self }
    }

    pub fn ends(self, one: End, all: End) -> Self {
        Self { one, all, ..self }
    }

    /// Whether some rows are bad or all are.
    pub fn blocks(self, code: &'static str) -> Self {
        self.ends(End::Blocked(code), End::Blocked(code))
    }

    pub fn mended_by(self, mend: &'static str) -> Self {
        Self { mend, ..self }
    }

    pub fn all_are_good(self) -> Self {
        Self { all_are_good: true, ..self }
    }

    /// One of the names that `state` lists.
    pub fn is_called(&self, state: &str) -> bool {
        self.state.split(" or ").any(|name| name == state)
    }

    /// True for ways that take as long as a lock is waited for.
    pub fn is_slow(&self) -> bool {
        self.cause.as_ref().is_some_and(|cause| cause.stays_open)
    }
}

/// The text of `v` in the row `id`.
pub fn cell(template: &str, id: i64) -> String {
    let text = template.replace('#', &id.to_string()).replace('@', &(id | 1).to_string());
    if text.contains('~') { text.replace('~', &noise(id)) } else { text }
}

/// Characters in which no compression finds a pattern.
fn noise(seed: i64) -> String {
    let mut rng = fastrand::Rng::with_seed(seed as u64);
    std::iter::repeat_with(|| rng.alphanumeric()).take(6000).collect()
}

//! Sessions on Postgres: how one is opened and set up, and what its errors mean.

use std::fmt::Write as _;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use postgres_openssl::{MakeTlsConnector, TlsStream};
use tokio_postgres::error::{DbError, Severity, SqlState};
use tokio_postgres::{AsyncMessage, Client, SimpleQueryMessage, Socket};

use super::backends::{Backend, Taken};
use super::defaults::{MARK, OTHER_PROCESS, SESSION_SETTINGS, TAKE_ROLE_PATH};
use super::login::{Credentials, warn_once};
use super::options::Options;
use super::sessions::Permit;
use crate::fault::{DETAIL, Fault, Remedy, sqlstate};

/// Longest time for a TCP connection to one address, and then for a session on it. Not much longer than a
/// server at work needs: an outage that has ended is to be noticed soon.
pub(super) const CONNECT_MAX: Duration = Duration::from_secs(5);
const SESSION_MAX: Duration = Duration::from_secs(10);
/// How often a session whose settings are cancelled is prepared.
const PREPARE_TRIES: u32 = 20;

/// Whether it takes writes, and what serves it.
const WHO: &str = "SELECT pg_catalog.pg_is_in_recovery(), pid, backend_start \
    FROM pg_catalog.pg_stat_get_activity(pg_catalog.pg_backend_pid())";

type Connection = tokio_postgres::Connection<Socket, TlsStream<Socket>>;

impl Options {
    /// Opens a session on a server that takes writes, whoever waits for one.
    pub(super) async fn open(&self) -> Result<Session, Fault> {
        // The library's own limit ends with the TCP connection; an address may take that and say nothing.
        let limit = self.connect_max();
        tokio::time::timeout(limit, self.try_open()).await.unwrap_or_else(|_| {
            let message = format!("connect to {self}: no answer within {limit:?}");
            Err(Fault::retry(sqlstate::CONNECTION, message))
        })
    }

    fn connect_max(&self) -> Duration {
        let each = self.config.get_connect_timeout().copied().unwrap_or(CONNECT_MAX);
        let hosts = u32::try_from(self.config.get_hosts().len()).unwrap_or(u32::MAX);
        each.saturating_mul(hosts).saturating_add(SESSION_MAX)
    }

    /// With password and certificates as they stand now, if Postgres refuses those that we had.
    async fn log_in(&self) -> Result<(Client, Connection), Fault> {
        let known = self.login.current();
        let connect = async |credentials: &Credentials, tls: MakeTlsConnector| {
            let connected = credentials.applied_to(&self.config).connect(tls).await;
            connected.map_err(|error| fault(&format!("connect to {self}"), &error))
        };
        let refused = match connect(&known, self.tls.current()).await {
            Ok(connected) => return Ok(connected),
            Err(refused) => self.with_cause(refused),
        };
        let read_again = match refused.code {
            sqlstate::LOGIN => {
                let read = self.login.read_again(&known);
                read.map(|credentials| (credentials, self.tls.current(), "the password"))
            }
            // A server that rejects our certificate may be gone before it is understood why.
            sqlstate::TLS | sqlstate::CONNECTION => {
                self.tls.read_again().map(|tls| (known, tls, "the certificates"))
            }
            _ => None,
        };
        let Some((credentials, tls, what)) = read_again else { return Err(refused) };
        let connected = connect(&credentials, tls).await.map_err(|it| self.with_cause(it))?;
        tracing::info!("Postgres at {self} takes {what} read again");
        Ok(connected)
    }

    /// With TLS 1.3 our certificate is rejected after the handshake, and the connection may be gone before that is read.
    fn with_cause(&self, mut refused: Fault) -> Fault {
        let broke = refused.message.contains("error communicating with the server");
        if refused.code == sqlstate::CONNECTION && broke && self.tls.has_certificate() {
            refused.message.push_str("; it may have rejected the certificate in sslcert");
        }
        refused
    }

    async fn try_open(&self) -> Result<Session, Fault> {
        warn_once(&self.warnings);
        let (client, connection) = self.log_in().await?;
        let kept = Arc::new(Mutex::new(Kept::default()));
        let until_closed = kept.clone();
        let task = tokio::spawn(async move {
            let until_closed = until_closed;
            // Declared after it, and so dropped before it when the task is ended.
            let mut connection = connection;
            while let Some(message) =
                std::future::poll_fn(|context| connection.poll_message(context)).await
            {
                match message {
                    // That a session was ended is told by whoever needed it.
                    Ok(AsyncMessage::Notice(notice))
                        if notice.severity() == "WARNING"
                            && !notice.code().code().starts_with("57P") =>
                    {
                        tracing::warn!(
                            sqlstate = notice.code().code(),
                            "postgres warns: {}",
                            notice.message()
                        );
                    }
                    Ok(_) => {}
                    Err(error) => {
                        tracing::debug!("connection to postgres ended: {}", describe(&error));
                        // Dropping it is what tells whoever waits for an answer.
                        break;
                    }
                }
            }
            drop(connection);
            // The server may give the process's number away, though the session waits to be dropped.
            until_closed.lock().unwrap_or_else(PoisonError::into_inner).backend = None;
        });
        let mark = format!("{:032x}", fastrand::u128(..));
        let (opened, begin) = (Instant::now(), begin_where(&mark));
        let mut session = Session { client, pid: 0, task, opened, begin, kept };
        let backend = session.prepare_for_work(self, &mark).await?;
        session.pid = backend.pid;
        let taken = backend.take().ok_or_else(|| pooled(self))?;
        session.keep(|kept| kept.backend = Some(taken));
        Ok(session)
    }
}

/// A connection and the task that drives it. Dropping it closes the socket at once; whatever transaction
/// was open is rolled back by the server.
#[derive(Debug)]
pub struct Session {
    client: Client,
    pid: i32,
    task: tokio::task::JoinHandle<()>,
    opened: Instant,
    /// BEGIN, and a check that the process of the server is the one that this session was set up on.
    begin: String,
    kept: Arc<Mutex<Kept>>,
}

/// What a session has until its socket is closed.
#[derive(Debug, Default)]
struct Kept {
    /// A pooler may give the process to our next session then.
    backend: Option<Taken>,
    /// Whoever gets it next is to find a connection free.
    permit: Option<Permit>,
}

impl Session {
    pub(super) fn with(self, permit: Permit) -> Self {
        self.keep(|kept| kept.permit = Some(permit));
        self
    }

    fn keep(&self, change: impl FnOnce(&mut Kept)) {
        change(&mut self.kept.lock().unwrap_or_else(PoisonError::into_inner));
    }

    /// When it was opened.
    pub(super) fn opened(&self) -> Instant {
        self.opened
    }

    /// Closes it, whoever else has it: it counts as closed for them, too.
    pub(super) fn end(&self) {
        self.task.abort();
    }

    /// Process id of the server's side.
    pub fn pid(&self) -> i32 {
        self.pid
    }

    /// Begins a transaction in which prepared statements are those of this session.
    ///
    /// The library names them `s0`, `s1`, ... in every process. If a pooler changes the server's process between two
    /// transactions, a COPY of ours could be another pipeline's there, and nothing would say so. What fails here fails
    /// all that was sent after it.
    ///
    /// # Errors
    /// `SL-P023` when it is another process, or was set up for another session in between.
    pub async fn begin(&self) -> Result<(), Fault> {
        self.client.batch_execute(&self.begin).await.map_err(|error| {
            let text = error.as_db_error().map_or("", DbError::message);
            if text.contains(OTHER_PROCESS) {
                let message = "begin: the process of the server is not the one that the session was set up on, so there is \
                               a pooler in transaction mode in between";
                return Fault::block(sqlstate::POOLER, message);
            }
            fault("begin", &error)
        })
    }

    /// Looks names without a schema up where the role does, for rows of users: their triggers and types rely on it.
    pub async fn take_role_path(&self) -> Result<(), Fault> {
        let taken = self.client.simple_query(TAKE_ROLE_PATH).await;
        taken.map(drop).map_err(|error| fault("set the search path", &error))
    }

    /// `SL-P023` when `options`, by which this session was opened, lead to a pooler in transaction mode: it gives one of
    /// two more sessions the same server process as another has. Whoever opens one finds that out as well, if not as surely.
    pub async fn refuse_pooler(&self, options: &Options) -> Result<(), Fault> {
        let _second = options.open().await?;
        options.open().await.map(drop)
    }

    /// Asks the server to give up what it is doing for us; it would not notice a closed connection before
    /// it has finished. Best effort.
    pub async fn cancel(&self, options: &Options) {
        let token = self.client.cancel_token();
        let cancelled = token.cancel_query(options.tls.current());
        let _ = tokio::time::timeout(CONNECT_MAX, cancelled).await;
    }

    async fn prepare_for_work(&self, options: &Options, mark: &str) -> Result<Backend, Fault> {
        let doing = format!("prepare the session on {options}");
        let query = format!("{SESSION_SETTINGS}; SET {MARK} = '{mark}'; {WHO}");
        let mut answer = self.client.simple_query(&query).await;
        // The role's own time limit may be over before the first statement has taken it away.
        for _ in 1..PREPARE_TRIES {
            let cancelled =
                matches!(&answer, Err(it) if it.code() == Some(&SqlState::QUERY_CANCELED));
            if !cancelled {
                break;
            }
            answer = self.client.simple_query(&query).await;
        }
        let answer = answer.map_err(|error| fault(&doing, &error))?;
        let row = answer.iter().find_map(|message| match message {
            SimpleQueryMessage::Row(row) if row.len() == 3 => {
                let (pid, started) = (row.get(1)?.parse().ok()?, row.get(2)?.to_owned());
                Some((row.get(0)? == "t", Backend { pid, started }))
            }
            _ => None,
        });
        match row {
            Some((false, backend)) => Ok(backend),
            Some((true, _)) => {
                Err(Fault::retry(sqlstate::READ_ONLY, format!("{doing}: the server is a standby")))
            }
            None => Err(Fault::block(sqlstate::UNEXPECTED, format!("{doing}: no answer"))),
        }
    }
}

impl std::ops::Deref for Session {
    type Target = Client;

    fn deref(&self) -> &Client {
        &self.client
    }
}

impl std::ops::DerefMut for Session {
    fn deref_mut(&mut self) -> &mut Client {
        &mut self.client
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Asks for a setting that nobody has unless the mark is ours: the shortest statement that fails.
fn begin_where(mark: &str) -> String {
    format!(
        "BEGIN; SELECT pg_catalog.current_setting(CASE \
         WHEN pg_catalog.current_setting('{MARK}', true) = '{mark}'::text THEN '{MARK}' ELSE '{OTHER_PROCESS}' END)"
    )
}

/// `SL-P023`
fn pooled(options: &Options) -> Fault {
    let message = format!(
        "connect to {options}: two sessions have the same server process, so there is a pooler in transaction mode in between"
    );
    Fault::block(sqlstate::POOLER, message)
}

/// Translates an error that came up while `doing` something.
pub(crate) fn fault(doing: &str, error: &tokio_postgres::Error) -> Fault {
    translated(doing, error, |refusal| sqlstate::remedy(refusal.code().code(), refusal.message()))
}

/// The same for a statement that carries rows, which may be at fault for whatever Postgres says.
pub(in crate::sink) fn fault_with_rows(doing: &str, error: &tokio_postgres::Error) -> Fault {
    translated(doing, error, |refusal| {
        let (state, raised) = (refusal.code().code(), is_raised(refusal));
        sqlstate::remedy_with_rows(state, refusal.message(), raised)
    })
}

/// The same for statements on our own tables: what does not fit there is a missing migration, and no message is ever
/// at fault for it.
pub(crate) fn fault_of_ours(doing: &str, error: &tokio_postgres::Error) -> Fault {
    let mut translated = fault(doing, error);
    translated.is_ours = true;
    let what = match (translated.code, translated.remedy) {
        (sqlstate::STATEMENT, _) => "the sluice schema is missing or of another version",
        (_, Remedy::DeadLetter) if translated.sqlstate == "23505" => {
            "ids of the sluice schema are given out again: after a restore or a switch of servers its sequences stand \
             behind their tables; set them with setval(pg_get_serial_sequence('sluice.dead_letters', 'id'), ...), and \
             likewise for sluice.parked"
        }
        (_, Remedy::DeadLetter) => "a table of the sluice schema does not take what it always took",
        _ => return translated,
    };
    (translated.code, translated.remedy) = (sqlstate::SCHEMA, Remedy::Block);
    translated.message = format!("{doing}: {what}: {}", describe(error));
    translated
}

fn translated(
    doing: &str,
    error: &tokio_postgres::Error,
    in_session: impl FnOnce(&DbError) -> (&'static str, Remedy),
) -> Fault {
    let (code, remedy) = match error.as_db_error() {
        Some(refusal) if ends_the_session(refusal) => {
            sqlstate::remedy_at_end(refusal.code().code(), refusal.message())
        }
        Some(refusal) => in_session(refusal),
        None => without_sqlstate(error),
    };
    let mut fault = Fault::new(code, remedy, format!("{doing}: {}", describe(error)));
    fault.sqlstate = error.code().map_or_else(String::new, |state| state.code().to_owned());
    fault
}

/// True when code of a user raised the error: a procedural language's statement for it, and not the server within a
/// statement of that code. The name of the C file is not translated and has been the same in all versions.
pub(super) fn is_raised(refusal: &DbError) -> bool {
    let languages = ["pl_exec.c", "plpy_elog.c", "plpy_plpymodule.c", "plperl.c", "pltcl.c"];
    refusal.file().is_some_and(|file| languages.contains(&file))
}

fn ends_the_session(refusal: &DbError) -> bool {
    matches!(refusal.parsed_severity(), Some(Severity::Fatal | Severity::Panic))
}

/// The library tells its kinds apart only by their text.
fn without_sqlstate(error: &tokio_postgres::Error) -> (&'static str, Remedy) {
    let text = error.to_string();
    if text.contains("TLS") {
        let broken = sources(error).any(<dyn std::error::Error>::is::<std::io::Error>);
        return if broken {
            (sqlstate::CONNECTION, Remedy::Retry)
        } else {
            (sqlstate::TLS, Remedy::Block)
        };
    }
    // With TLS 1.3 a server refuses our certificate after the handshake.
    if sources(error).any(|cause| is_alert(&cause.to_string())) {
        return (sqlstate::TLS, Remedy::Block);
    }
    if text.contains("authentication") || text.contains("configuration") {
        return (sqlstate::LOGIN, Remedy::Block);
    }
    if ["serializing", "encoding message", "invalid column"].iter().any(|part| text.contains(part))
    {
        return (sqlstate::UNEXPECTED, Remedy::Block);
    }
    // Of the last server: none that was asked takes writes.
    if sources(error).any(|cause| cause.to_string().contains("does not allow writes")) {
        return (sqlstate::READ_ONLY, Remedy::Retry);
    }
    (sqlstate::CONNECTION, Remedy::Retry)
}

/// True for what OpenSSL says of a peer that has ended the connection for a reason of TLS: `ssl/tls alert certificate
/// expired`.
fn is_alert(text: &str) -> bool {
    text.contains("SSL routines") && text.contains(" alert ")
}

/// What the server said, with everything that helps to find the row; the library's own text is "db error".
pub(crate) fn describe(error: &tokio_postgres::Error) -> String {
    let Some(refusal) = error.as_db_error() else {
        let causes = sources(error).map(|source| format!(": {source}"));
        return std::iter::once(error.to_string()).chain(causes).collect();
    };
    let mut text = format!("{} ({})", refusal.message(), refusal.code().code());
    let table = refusal.table().filter(|_| refusal.constraint().is_none());
    for (name, value) in [
        ("hint", refusal.hint()),
        ("at", refusal.where_().and_then(|place| place.lines().next())),
        ("table", table),
        ("column", refusal.column()),
        ("constraint", refusal.constraint()),
    ] {
        if let Some(value) = value {
            let _ = write!(text, "; {name}: {value}");
        }
    }
    // Last, for the log leaves out all that follows.
    if let Some(detail) = refusal.detail() {
        text.extend([DETAIL, detail]);
    }
    text
}

pub(super) fn sources(
    error: &tokio_postgres::Error,
) -> impl Iterator<Item = &(dyn std::error::Error + 'static)> {
    std::iter::successors(std::error::Error::source(error), |error| error.source())
}

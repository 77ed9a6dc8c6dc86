//! Postgres for the commands that only look at the `sluice` schema.

use jiff::Timestamp;
use postgres_types::ToSql;
use tokio_postgres::Row;

use crate::fault::Fault;
use crate::settings::Settings;
use crate::sink::postgres::{Options, Session, fault_of_ours};

/// Connects to the pipeline's database.
pub async fn connect(settings: &Settings) -> Result<Session, Fault> {
    let command = format!("look-{}", std::process::id());
    Options::of(&settings.sink)?.named(&settings.pipeline.name, &command).connect().await
}

/// All rows of `query`, which is `doing` something.
pub async fn query(
    session: &Session,
    doing: &str,
    query: &str,
    parameters: &[&(dyn ToSql + Sync)],
) -> Result<Vec<Row>, Fault> {
    session.query(query, parameters).await.map_err(|error| fault_of_ours(doing, &error))
}

/// A time to the second, in UTC.
pub fn time(time: Timestamp) -> String {
    time.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}

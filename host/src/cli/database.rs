//! Postgres as the commands that only look at it see it.

use jiff::Timestamp;
use postgres_types::ToSql;
use tokio_postgres::Row;

/// A connection.
pub struct Session(tokio_postgres::Client);

/// Connects.
pub async fn connect(url: &str) -> anyhow::Result<Session> {
    let (client, connection) = tokio_postgres::connect(url, tokio_postgres::NoTls).await?;
    tokio::spawn(connection);
    Ok(Session(client))
}

impl Session {
    /// All rows of `query`; `doing` says in an error what it was for.
    pub async fn query(
        &self,
        doing: &'static str,
        query: &str,
        parameters: &[&(dyn ToSql + Sync)],
    ) -> anyhow::Result<Vec<Row>> {
        use anyhow::Context as _;
        self.0.query(query, parameters).await.context(doing)
    }
}

/// A time to the second, in UTC.
pub fn time(time: Timestamp) -> String {
    time.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}

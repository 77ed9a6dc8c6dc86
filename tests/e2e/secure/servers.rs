//! Which of several servers is taken.

use anyhow::Result;
use sluice::sink::postgres::Options;
use sluice_tests::postgres::{Database, block_on, own_server, own_server_with};

/// Port of the server that is taken, or why none is.
fn taken(address: &str) -> String {
    block_on(async {
        let session = match Options::parse(address) {
            Ok(options) => options.connect().await,
            Err(fault) => Err(fault),
        };
        match session {
            Ok(session) => match session.query_one("SELECT inet_server_port()", &[]).await {
                Ok(row) => row.get::<_, i32>(0).to_string(),
                Err(error) => error.to_string(),
            },
            Err(fault) => fault.to_string(),
        }
    })
}

#[test]
fn the_server_that_takes_writes_is_chosen_unless_any_will_do() -> Result<()> {
    let reader = own_server_with(&[("default_transaction_read_only", "on")])?;
    let writer = own_server()?;
    let (one, other) = (reader.port(), writer.port());
    let session = Database::open(reader.url())?;
    session.execute("SET default_transaction_read_only = off")?;
    // One address has one password.
    session.execute(&format!("ALTER ROLE postgres PASSWORD '{}'", writer.password()))?;
    let user = format!("user=postgres dbname=postgres password={}", writer.password());
    let both = format!("host=127.0.0.1,127.0.0.1 port={one},{other} {user}");
    for (word, port) in [
        ("", other),
        ("target_session_attrs=read-write", other),
        ("target_session_attrs=primary", other),
        ("target_session_attrs=any", one),
    ] {
        assert_eq!(taken(&format!("{both} {word}")), port.to_string(), "{word}");
    }
    let alone = format!("host=127.0.0.1 port={one} {user}");
    for word in ["", "target_session_attrs=any"] {
        assert_eq!(taken(&format!("{alone} {word}")), one.to_string(), "{word}");
    }
    let refused = taken(&format!("{alone} target_session_attrs=read-write"));
    assert!(
        refused.starts_with("SL-P003") && refused.contains("does not allow writes"),
        "{refused}"
    );
    let refused = taken(&format!("{both} target_session_attrs=standby"));
    assert!(refused.starts_with("SL-P011") && refused.contains("use read-write"), "{refused}");
    Ok(())
}

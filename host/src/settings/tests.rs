//! Wrong files, and exactly what is said about them; right files, and what they mean.

use insta::assert_snapshot;

use super::*;

mod keys;
mod values;

const RIGHT: &str = r#"
[pipeline]
name = "readings"

[source]
brokers = "localhost:9092"
topic = "hems.readings"

[plugin]
path = "readings.wasm"

[sink]
url = "${DATABASE_URL}"
table = "readings"
"#;

const CANARY: &str = "hunter2";

fn lookup(name: &str) -> Option<String> {
    match name {
        "DATABASE_URL" => Some(format!("postgres://sluice:{CANARY}@db/energy")),
        "LANES" => Some("3".to_owned()),
        "HOSTILE" => Some("x\"\nmode = \"upsert".to_owned()),
        "EMPTY" => Some(String::new()),
        _ => None,
    }
}

fn parse(text: &str) -> Result<Settings, SettingsError> {
    Settings::parse("pipeline.toml", text, &lookup)
}

/// What is said about `text`, which must be wrong and must not give the canary away.
fn errors(text: &str) -> String {
    let error = parse(text).expect_err("the file is wrong");
    let said = error.to_string();
    let dump = format!("{error:?} {}", serde_json::to_string(&error.findings).unwrap());
    assert!(!said.contains(CANARY) && !dump.contains(CANARY), "a secret was told: {said}");
    for finding in &error.findings {
        assert!(crate::explain::find(finding.code).is_some(), "{} is not explained", finding.code);
    }
    said
}

/// [`RIGHT`] with `from` replaced by `to`.
fn with(from: &str, to: &str) -> String {
    assert!(RIGHT.contains(from), "{from}");
    RIGHT.replacen(from, to, 1)
}

#[test]
fn the_shortest_file_has_the_documented_defaults() {
    let settings = parse(RIGHT).unwrap();
    assert_eq!(settings.pipeline.name, "readings");
    assert!(settings.pipeline.lanes >= 1);
    assert_eq!(settings.source.group, "readings");
    assert_eq!(settings.source.start, Start::Earliest);
    assert_eq!(settings.source.queue_bytes, 16 << 20);
    assert_eq!(settings.batch.max_messages, 50_000);
    assert_eq!(settings.batch.max_bytes, 32 << 20);
    assert_eq!(settings.batch.pace, Duration::from_millis(100));
    assert_eq!(settings.sink.connections_max, 32);
    assert_eq!(settings.plugin.settings, serde_json::json!({}));
    assert_eq!(settings.plugin.memory_bytes, 256 << 20);
    assert_eq!(settings.plugin.timeout, Duration::from_secs(10));
    assert_eq!(settings.plugin.isolation, Isolation::Lane);
    assert_eq!(settings.sink.url, format!("postgres://sluice:{CANARY}@db/energy"));
    let table = TableSettings {
        table: "readings".into(),
        mode: Mode::Append,
        key: vec![],
        newer_than: None,
    };
    assert_eq!(settings.sink.tables, BTreeMap::from([(String::new(), table)]));
    assert_eq!(settings.dead_letters, DeadLetterSettings::default());
}

#[test]
fn every_key_is_read() {
    let text = r#"
        pipeline = { name = "orders-1", lanes = "${LANES}" }
        [source]
        brokers = "a:9092, [::1]:9093,SASL_SSL://c"
        topic = "shop.orders"
        group = "billing"
        start = "latest"
        queue_bytes = "8MiB"
        [source.properties]
        "security.protocol" = "SASL_SSL"
        "sasl.password" = "${HOSTILE}"
        "fetch.wait.max.ms" = 50
        "check.crcs" = true
        [batch]
        max_messages = 1_000
        max_bytes = 65536
        pace = "0ms"
        [plugin]
        path = "orders.wasm"
        memory_bytes = "64 MiB"
        timeout = "2s 500ms"
        isolation = "batch"
        settings = { shop = "${HOSTILE}", limits = [1, 2.5, true], since = 2026-01-02T03:04:05Z }
        [sink]
        url = "host=db password=${EMPTY:-x}"
        mode = "ignore"
        connections_max = 9
        [sink.tables]
        orders = { table = "shop.orders", mode = "upsert", key = ["id"], newer_than = "version" }
        lines = "shop.order_lines"
        [dead_letters]
        topic = "shop.orders.dlt"
        max_per_minute = 600
        max_in_a_row = 0
    "#;
    let settings = parse(text).unwrap();
    let dead_letters = DeadLetterSettings {
        topic: Some("shop.orders.dlt".into()),
        max_per_minute: Some(600),
        max_in_a_row: 0,
    };
    assert_eq!(settings.dead_letters, dead_letters);
    assert_eq!((settings.pipeline.lanes, settings.source.start), (3, Start::Latest));
    assert_eq!((settings.source.group.as_str(), settings.source.queue_bytes), ("billing", 8 << 20));
    assert_eq!(settings.source.properties["sasl.password"], "x\"\nmode = \"upsert");
    assert_eq!(settings.source.properties["fetch.wait.max.ms"], "50");
    assert_eq!(settings.source.properties["check.crcs"], "true");
    assert_eq!((settings.batch.max_messages, settings.batch.max_bytes), (1000, 65536));
    assert_eq!(settings.batch.pace, Duration::ZERO);
    assert_eq!(settings.sink.connections_max, 9);
    assert_eq!(settings.plugin.timeout, Duration::from_millis(2500));
    assert_eq!(settings.plugin.isolation, Isolation::Batch);
    assert_eq!(
        settings.plugin.settings,
        serde_json::json!({ "shop": "x\"\nmode = \"upsert", "limits": [1, 2.5, true], "since": "2026-01-02T03:04:05Z" })
    );
    assert_eq!(settings.sink.tables["lines"].mode, Mode::Ignore);
    let orders = &settings.sink.tables["orders"];
    assert_eq!((orders.mode, orders.key.as_slice()), (Mode::Upsert, &["id".to_owned()][..]));
    assert_eq!(orders.newer_than.as_deref(), Some("version"));
}

#[test]
fn a_secret_is_never_told() {
    let secret = |key: &str| {
        with("topic =", &format!("properties = {{ \"{key}\" = \"{CANARY}\" }}\ntopic ="))
    };
    for text in [
        RIGHT.to_owned(),
        secret("sasl.password"),
        secret("ssl.key.password"),
        secret("ssl.key.pem"),
        with("[plugin]", &format!("[plugin]\nsettings = {{ salt = \"{CANARY}\" }}")),
    ] {
        let settings = parse(&text).unwrap();
        assert!(!format!("{settings:?} {settings:#?}").contains(CANARY));
    }
    // `errors` looks for the canary; each file is wrong in or beside the secret.
    for text in [
        secret("ssl_password"),
        secret("ssl.engine.secret"),
        with("url = \"${DATABASE_URL}\"", &format!("url = \"mysql://root:{CANARY}@db\"")),
        with("url = \"${DATABASE_URL}\"", &format!("urll = \"postgres://root:{CANARY}@db\"")),
        with("url = \"${DATABASE_URL}\"", &format!("url = \"${{GONE}}{CANARY}\"")),
        with("url = \"${DATABASE_URL}\"", &format!("url = [\"{CANARY}\"]")),
        with("url = \"${DATABASE_URL}\"", &format!("url = {CANARY}")),
        with("url = \"${DATABASE_URL}\"", &format!("url = \"{CANARY}")),
        with("url = \"${DATABASE_URL}\"", &format!("url = \"\"\"\n{CANARY}\n")),
        with("url = \"${DATABASE_URL}\"", &format!("url = \"\"\"\npostgres\n{CANARY}\"\"\" x")),
        with("url = \"${DATABASE_URL}\"", &format!("url = \"x\" {CANARY}")),
        with("url = \"${DATABASE_URL}\"", &format!("password: {CANARY}")),
        with("table = \"readings\"", &format!("table = \"r\"\nmode = \"postgres://a:{CANARY}@b\"")),
        with("localhost:9092", &format!("SASL://me:{CANARY}@k:9092")),
        with(
            "topic =",
            &format!(
                "properties = {{ \"sasl.password\" = \"{CANARY}\", \"check.crcs\" = \"no\" }}\ntopic ="
            ),
        ),
    ] {
        errors(&text);
    }
}

#[test]
fn two_pipelines_of_one_name_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let paths = ["a.toml", "b.toml", "gone.toml"].map(|name| folder.path().join(name));
    for path in &paths[..2] {
        std::fs::write(path, with("${DATABASE_URL}", "postgres://db")).unwrap();
    }
    let error = Settings::load_all(&paths).unwrap_err().to_string();
    let said = error.replace(&folder.path().display().to_string(), "folder");
    assert_snapshot!(said, @r"
    error SL-C013: the pipeline `readings` is also in folder/a.toml
      --> folder/b.toml
       = two pipelines of one name would share their positions: give each its own `name`

    error SL-C001: cannot read settings: No such file or directory (os error 2)
      --> folder/gone.toml
       = name a settings file that exists and may be read
    ");
    assert_eq!(Settings::load_all(&paths[..1]).unwrap().len(), 1);
}

//! Wrong values, and values that do not go together: one wrong file each.

use insta::assert_snapshot;

use super::{RIGHT, errors, with};

#[test]
fn numbers_out_of_range_name_the_range() {
    assert_snapshot!(errors(&with("[plugin]", "[batch]\nmax_messages = 2_000_000\nmax_bytes = -1\n[plugin]")), @r"
    error SL-C006: `max_messages` is out of range
      --> pipeline.toml:10:16
       |
    10 | max_messages = 2_000_000
       |                ^^^^^^^^^ allowed: 1 to 1000000

    error SL-C006: `max_bytes` is out of range
      --> pipeline.toml:11:13
       |
    11 | max_bytes = -1
       |             ^^ allowed: 1KiB to 1GiB
    ");
}

#[test]
fn no_lane_is_refused() {
    assert_snapshot!(errors(&with("name = \"readings\"", "name = \"readings\"\nlanes = 0")), @r"
    error SL-C006: `lanes` is out of range
     --> pipeline.toml:4:9
      |
    4 | lanes = 0
      |         ^ allowed: 1 to 256
    ");
}

#[test]
fn a_size_with_an_unknown_unit_is_refused() {
    assert_snapshot!(errors(&with("[plugin]", "[batch]\nmax_bytes = \"32 MegaByte\"\n[plugin]")), @r#"
    error SL-C006: `max_bytes` is not a size: `32 MegaByte`
      --> pipeline.toml:10:13
       |
    10 | max_bytes = "32 MegaByte"
       |             ^^^^^^^^^^^^^ write it as `"32MiB"`
    "#);
}

#[test]
fn a_time_needs_its_unit() {
    assert_snapshot!(errors(&with("[plugin]", "[plugin]\ntimeout = 10")), @r#"
    error SL-C005: `timeout` takes a time with its unit, such as `"10s"`, this is an integer
      --> pipeline.toml:10:11
       |
    10 | timeout = 10
       |           ^^
    "#);
}

#[test]
fn a_time_that_is_none_is_refused() {
    assert_snapshot!(errors(&with("[plugin]", "[plugin]\ntimeout = \"soon\"")), @r#"
    error SL-C006: `timeout` is not a time: `soon`
      --> pipeline.toml:10:11
       |
    10 | timeout = "soon"
       |           ^^^^^^ write it as `"10s"` or `"500ms"`
    "#);
}

#[test]
fn a_time_out_of_range_names_the_range() {
    assert_snapshot!(errors(&with("[plugin]", "[plugin]\ntimeout = \"2days\"")), @r#"
    error SL-C006: `timeout` is out of range
      --> pipeline.toml:10:11
       |
    10 | timeout = "2days"
       |           ^^^^^^^ allowed: 10ms to 1h
    "#);
}

#[test]
fn an_unknown_word_is_shown_with_its_near_match() {
    assert_snapshot!(errors(&with("[sink]", "[sink]\nmode = \"upsrt\"")), @r#"
    error SL-C007: `mode` cannot be `upsrt`
      --> pipeline.toml:13:8
       |
    13 | mode = "upsrt"
       |        ^^^^^^^ did you mean `upsert`?
    "#);
}

#[test]
fn an_unknown_word_without_near_match_lists_the_known_ones() {
    assert_snapshot!(errors(&with("topic =", "start = \"yesterday\"\ntopic =")), @r#"
    error SL-C007: `start` cannot be `yesterday`
     --> pipeline.toml:7:9
      |
    7 | start = "yesterday"
      |         ^^^^^^^^^^^ one of `earliest`, `latest`
    "#);
}

#[test]
fn an_unset_variable_is_shown_inside_its_string() {
    assert_snapshot!(errors(&with("${DATABASE_URL}", "postgres://${PGHOST}/energy")), @r"
    error SL-C008: the environment variable `PGHOST` is not set
      --> pipeline.toml:13:19
       |
    13 | url = ***
       |       ^^^ set it, or give a default: `${PGHOST:-...}`
    ");
}

#[test]
fn an_open_variable_is_shown() {
    assert_snapshot!(errors(&with("\"readings.wasm\"", "\"${HOME/readings.wasm\"")), @r#"
    error SL-C008: `${` is not closed
      --> pipeline.toml:10:9
       |
    10 | path = "${HOME/readings.wasm"
       |         ^^^^^^^^^^^^^^^^^^^^ close it with `}`, or write `$${` for the characters themselves
    "#);
}

#[test]
fn an_empty_variable_does_not_count_as_a_value() {
    assert_snapshot!(errors(&with("hems.readings", "${EMPTY}")), @r#"
    error SL-C006: `topic` is empty once its variables are filled in
     --> pipeline.toml:7:9
      |
    7 | topic = "${EMPTY}"
      |         ^^^^^^^^^^ topic = "hems.readings"
    "#);
}

#[test]
fn a_variable_is_a_value_and_never_toml() {
    assert_snapshot!(errors(&with("\"readings\"\n\n[source]", "\"${HOSTILE}\"\n\n[source]")), @r#"
    error SL-C009: `name` cannot be `${HOSTILE}`
     --> pipeline.toml:3:8
      |
    3 | name = "${HOSTILE}"
      |        ^^^^^^^^^^^^ ASCII letters, digits, `-`, `_` and `.`, at most 100
    "#);
}

#[test]
fn a_name_with_wrong_characters_is_refused() {
    assert_snapshot!(errors(&with("hems.readings", "hems/readings")), @r#"
    error SL-C009: `topic` cannot be `hems/readings`
     --> pipeline.toml:7:9
      |
    7 | topic = "hems/readings"
      |         ^^^^^^^^^^^^^^^ ASCII letters, digits, `-`, `_` and `.`, at most 249
    "#);
}

#[test]
fn a_list_of_brokers_is_checked() {
    assert_snapshot!(errors(&with("localhost:9092", "localhost:99999, ")), @r#"
    error SL-C006: `brokers` is not a list of brokers
     --> pipeline.toml:6:11
      |
    6 | brokers = "localhost:99999, "
      |           ^^^^^^^^^^^^^^^^^^^ write it as `"host:9092"` or `"host1:9092,host2:9092"`
    "#);
}

#[test]
fn properties_that_would_break_a_promise_are_refused_with_the_reason() {
    assert_snapshot!(errors(&with("[plugin]", "[source.properties]\n\"enable.auto.commit\" = true\n\"group.id\" = \"other\"\n\"auto.offset.reset\" = \"latest\"\n\"isolation.level\" = \"read_uncommitted\"\n[plugin]")), @r#"
    error SL-C010: `enable.auto.commit` is not yours to set
      --> pipeline.toml:10:1
       |
    10 | "enable.auto.commit" = true
       | ^^^^^^^^^^^^^^^^^^^^ positions live in Postgres; offsets are committed after each write, for information only

    error SL-C010: `group.id` is not yours to set
      --> pipeline.toml:11:1
       |
    11 | "group.id" = "other"
       | ^^^^^^^^^^ write it as `group` in [source]

    error SL-C010: `auto.offset.reset` is not yours to set
      --> pipeline.toml:12:1
       |
    12 | "auto.offset.reset" = "latest"
       | ^^^^^^^^^^^^^^^^^^^ it would skip or repeat messages silently; `start` in [source] says where to begin

    error SL-C010: `isolation.level` is not yours to set
      --> pipeline.toml:13:1
       |
    13 | "isolation.level" = "read_uncommitted"
       | ^^^^^^^^^^^^^^^^^ messages of aborted transactions would become rows
    "#);
}

#[test]
fn properties_are_shown_to_librdkafka() {
    assert_snapshot!(errors(&with("[plugin]", "[source.properties]\n\"fetch.min.byte\" = 1\n\"security.protocol\" = \"TLS\"\n\"sasl.mechanism\" = [\"PLAIN\"]\n[plugin]")), @r#"
    error SL-C011: librdkafka knows no property `fetch.min.byte`
      --> pipeline.toml:10:1
       |
    10 | "fetch.min.byte" = 1
       | ^^^^^^^^^^^^^^^^

    error SL-C011: librdkafka refuses `security.protocol`: Invalid value "TLS" for configuration property "security.protocol"
      --> pipeline.toml:11:1
       |
    11 | "security.protocol" = "TLS"
       | ^^^^^^^^^^^^^^^^^^^

    error SL-C005: `sasl.mechanism` takes a string, a number or a boolean, this is an array
      --> pipeline.toml:12:20
       |
    12 | "sasl.mechanism" = ["PLAIN"]
       |                    ^^^^^^^^^
    "#);
}

#[test]
fn a_key_without_conflict_is_refused() {
    assert_snapshot!(errors(&with("[sink]", "[sink]\nkey = [\"id\"]\nnewer_than = \"version\"")), @r#"
    error SL-C012: `key` has no meaning with mode `append`
      --> pipeline.toml:13:7
       |
    13 | key = ["id"]
       |       ^^^^^^ it belongs to `upsert` and `ignore`

    error SL-C012: `newer_than` has no meaning with mode `append`
      --> pipeline.toml:14:14
       |
    14 | newer_than = "version"
       |              ^^^^^^^^^ it belongs to `upsert`
    "#);
}

#[test]
fn newer_than_belongs_to_upsert() {
    assert_snapshot!(errors(&with("[sink]", "[sink]\nmode = \"ignore\"\nkey = []\nnewer_than = \"version\"")), @r#"
    error SL-C006: `key` is empty
      --> pipeline.toml:14:7
       |
    14 | key = []
       |       ^^

    error SL-C012: `newer_than` has no meaning with mode `ignore`
      --> pipeline.toml:15:14
       |
    15 | newer_than = "version"
       |              ^^^^^^^^^ it belongs to `upsert`
    "#);
}

#[test]
fn one_table_and_several_do_not_go_together() {
    assert_snapshot!(errors(&format!("{RIGHT}{}", "key = [\"id\"]\n[sink.tables]\nlines = \"order_lines\"")), @r#"
    error SL-C012: `table` in [sink] and [sink.tables] do not go together
      --> pipeline.toml:14:9
       |
    14 | table = "readings"
       |         ^^^^^^^^^^ keep one of them

    error SL-C012: `key` in [sink] and [sink.tables] do not go together
      --> pipeline.toml:15:7
       |
    15 | key = ["id"]
       |       ^^^^^^ write it per output: `output = { table = "...", key = ... }`
    "#);
}

#[test]
fn outputs_are_checked_one_by_one() {
    assert_snapshot!(errors(&with("table = \"readings\"", "[sink.tables]\norders = { tabel = \"orders\", mode = \"copy\" }\nlines = 7\nrefunds = \"a.b.c\"")), @r#"
    error SL-C003: unknown key `tabel` in [sink.tables.orders]
      --> pipeline.toml:15:12
       |
    15 | orders = { tabel = "orders", mode = "copy" }
       |            ^^^^^ did you mean `table`?

    error SL-C007: `mode` cannot be `copy`
      --> pipeline.toml:15:37
       |
    15 | orders = { tabel = "orders", mode = "copy" }
       |                                     ^^^^^^ one of `append`, `upsert`, `ignore`

    error SL-C005: `lines` takes a table's name or `{ table = "..." }`, this is an integer
      --> pipeline.toml:16:9
       |
    16 | lines = 7
       |         ^

    error SL-C009: `a.b.c` is not the name of a table
      --> pipeline.toml:17:11
       |
    17 | refunds = "a.b.c"
       |           ^^^^^^^ write `table`, `schema.table`, or as in SQL `schema."Odd.Name"`
    "#);
}

#[test]
fn dead_letters_do_not_go_back_to_where_the_messages_came_from() {
    assert_snapshot!(errors(&with("[sink]", "[dead_letters]\ntopic = \"hems.readings\"\n[sink]")), @r#"
    error SL-C012: `topic` is the topic that the pipeline reads
      --> pipeline.toml:13:9
       |
    13 | topic = "hems.readings"
       |         ^^^^^^^^^^^^^^^ every dead letter would come back as a message: name another one
    "#);
}

#[test]
fn a_limit_of_no_dead_letters_and_a_topic_without_name_are_refused() {
    assert_snapshot!(errors(&format!("{RIGHT}[dead_letters]\nmax_per_minute = 0\ntopic = \"\"\nretry = 1\n")), @r#"
    error SL-C006: `max_per_minute` is out of range
      --> pipeline.toml:16:18
       |
    16 | max_per_minute = 0
       |                  ^ allowed: 1 to 1000000000

    error SL-C006: `topic` is empty
      --> pipeline.toml:17:9
       |
    17 | topic = ""
       |         ^^ leave it out for no relay

    error SL-C003: unknown key `retry` in [dead_letters]
      --> pipeline.toml:18:1
       |
    18 | retry = 1
       | ^^^^^ known here: `topic`, `max_per_minute`, `max_in_a_row`
    "#);
}

#[test]
fn an_address_of_another_database_is_refused() {
    assert_snapshot!(errors(&with("${DATABASE_URL}", "localhost:5432/energy")), @r"
    error SL-C014: `url` is not the address of a Postgres database: not a valid connection string
      --> pipeline.toml:13:7
       |
    13 | url = ***
       |       ^^^ postgres://user:password@host:5432/database
    ");
}

#[test]
fn a_long_line_is_shown_around_the_caret() {
    assert_snapshot!(errors(&with("topic =", &format!("properties = {{ \"client.id\" = \"{}\", \"group.id\" = \"x\" }}\ntopic =", "x".repeat(200)))), @r#"
    error SL-C010: `group.id` is not yours to set
     --> pipeline.toml:7:234
      |
    7 | ...xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx", "group.id" = "x" }
      |                                                                ^^^^^^^^^^ write it as `group` in [source]
    "#);
}

#[test]
fn everything_wrong_with_a_file_comes_in_one_go() {
    assert_snapshot!(errors("[pipeline]\nname = \"a b\"\n\n[source]\nbroker = \"localhost\"\ntopic = \"t\"\nstart = \"first\"\n\n[plugin]\npath = \"\"\nsettings = 5\n\n[sink]\nurl = \"${GONE}\"\ntable = \"t\"\nmode = \"merge\"\n"), @r#"
    error SL-C009: `name` cannot be `a b`
     --> pipeline.toml:2:8
      |
    2 | name = "a b"
      |        ^^^^^ ASCII letters, digits, `-`, `_` and `.`, at most 100

    error SL-C003: unknown key `broker` in [source]
     --> pipeline.toml:5:1
      |
    5 | broker = "localhost"
      | ^^^^^^ did you mean `brokers`?

    error SL-C007: `start` cannot be `first`
     --> pipeline.toml:7:9
      |
    7 | start = "first"
      |         ^^^^^^^ one of `earliest`, `latest`

    error SL-C006: `path` is empty
      --> pipeline.toml:10:8
       |
    10 | path = ""
       |        ^^ path = "target/plugins/readings.wasm"

    error SL-C005: `settings` takes a table, this is an integer
      --> pipeline.toml:11:12
       |
    11 | settings = 5
       |            ^

    error SL-C008: the environment variable `GONE` is not set
      --> pipeline.toml:14:8
       |
    14 | url = "${GONE}"
       |        ^^^^^^^ set it, or give a default: `${GONE:-...}`

    error SL-C007: `mode` cannot be `merge`
      --> pipeline.toml:16:8
       |
    16 | mode = "merge"
       |        ^^^^^^^ one of `append`, `upsert`, `ignore`
    "#);
}

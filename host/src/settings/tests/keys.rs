//! Wrong syntax, sections, keys and types: one wrong file each.

use insta::assert_snapshot;

use super::{errors, with};

#[test]
fn a_misspelt_key_is_shown_with_its_near_match() {
    assert_snapshot!(errors(&with("table = ", "tabel = ")), @r#"
    error SL-C003: unknown key `tabel` in [sink]
      --> pipeline.toml:14:1
       |
    14 | tabel = "readings"
       | ^^^^^ did you mean `table`?
    "#);
}

#[test]
fn a_misspelt_section_is_shown_with_its_near_match() {
    assert_snapshot!(errors(&with("[sink]", "[snik]")), @r"
    error SL-C003: unknown section `snik`
      --> pipeline.toml:12:2
       |
    12 | [snik]
       |  ^^^^ did you mean `sink`?
    ");
}

#[test]
fn an_unknown_key_without_near_match_lists_the_known_ones() {
    assert_snapshot!(errors(&with("[plugin]", "[batch]\nlinger = \"5ms\"\n[plugin]")), @r#"
    error SL-C003: unknown key `linger` in [batch]
      --> pipeline.toml:10:1
       |
    10 | linger = "5ms"
       | ^^^^^^ known here: `max_messages`, `max_bytes`, `pace`
    "#);
}

#[test]
fn missing_sections_are_all_named() {
    assert_snapshot!(errors("[pipeline]\nname = \"x\"\n"), @r"
    error SL-C004: the section [source] is missing
      --> pipeline.toml
       = add [source] with `brokers` and `topic`

    error SL-C004: the section [plugin] is missing
      --> pipeline.toml
       = add [plugin] with `path`

    error SL-C004: the section [sink] is missing
      --> pipeline.toml
       = add [sink] with `url` and `table`
    ");
}

#[test]
fn a_missing_key_points_at_its_section() {
    assert_snapshot!(errors(&with("topic = \"hems.readings\"\n", "")), @r#"
    error SL-C004: [source] lacks `topic`
     --> pipeline.toml:5:1
      |
    5 | [source]
      | ^^^^^^^^ topic = "hems.readings"
    "#);
}

#[test]
fn a_missing_table_says_both_ways_to_name_one() {
    assert_snapshot!(errors(&with("table = \"readings\"\n", "")), @r#"
    error SL-C004: [sink] lacks `table`
      --> pipeline.toml:12:1
       |
    12 | [sink]
       | ^^^^^^ table = "readings", or [sink.tables] for several outputs
    "#);
}

#[test]
fn a_slip_of_syntax_is_shown_where_it_is() {
    assert_snapshot!(errors(&with("name = \"readings\"", "name = \"readings")), @r#"
    error SL-C002: not TOML: invalid basic string, expected `"`
     --> pipeline.toml:3:17
      |
    3 | name = "readings
      |                 ^
    "#);
}

#[test]
fn a_value_without_quotes_is_shown() {
    assert_snapshot!(errors(&with("topic = \"hems.readings\"", "topic = hems.readings")), @r"
    error SL-C002: not TOML: string values must be quoted, expected literal string
     --> pipeline.toml:7:9
      |
    7 | topic = hems.readings
      |         ^^^^^^^^^^^^^
    ");
}

#[test]
fn a_key_given_twice_is_shown() {
    assert_snapshot!(errors(&with("topic =", "topic = \"x\"\ntopic =")), @r#"
    error SL-C002: not TOML: duplicate key
     --> pipeline.toml:8:1
      |
    8 | topic = "hems.readings"
      | ^^^^^
    "#);
}

#[test]
fn a_wrong_type_says_what_is_wanted() {
    assert_snapshot!(errors(&with("name = \"readings\"", "name = 7\nlanes = 1.5")), @r"
    error SL-C005: `name` takes a string, this is an integer
     --> pipeline.toml:3:8
      |
    3 | name = 7
      |        ^

    error SL-C005: `lanes` takes a whole number, this is a float
     --> pipeline.toml:4:9
      |
    4 | lanes = 1.5
      |         ^^^
    ");
}

#[test]
fn a_section_that_is_no_table_is_shown() {
    assert_snapshot!(errors(&format!("source = 5\n{}", with("[source]", "[batch]"))), @r#"
    error SL-C005: `source` takes a table, this is an integer
     --> pipeline.toml:1:10
      |
    1 | source = 5
      |          ^

    error SL-C003: unknown key `brokers` in [batch]
     --> pipeline.toml:7:1
      |
    7 | brokers = "localhost:9092"
      | ^^^^^^^ known here: `max_messages`, `max_bytes`, `pace`

    error SL-C003: unknown key `topic` in [batch]
     --> pipeline.toml:8:1
      |
    8 | topic = "hems.readings"
      | ^^^^^ known here: `max_messages`, `max_bytes`, `pace`
    "#);
}

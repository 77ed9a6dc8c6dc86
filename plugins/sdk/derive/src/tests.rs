//! Mistakes that authors make, and what they read about them.

use proc_macro2::TokenStream;
use syn::{DeriveInput, Result};

use crate::{message, row, settings};

/// What a macro says of `source`: the errors, or `fine`.
fn check(expand: fn(&DeriveInput) -> Result<TokenStream>, source: &str, expected: &str) {
    let input = syn::parse_str(source).expect("the source is Rust");
    let said = match expand(&input) {
        Ok(_) => "fine".to_owned(),
        Err(error) => error.to_string(),
    };
    assert_eq!(said, expected, "{source}");
}

#[test]
fn a_message_is_a_struct_with_named_fields() {
    check(message::expand, "struct M<'a> { id: &'a str, power_w: f64 }", "fine");
    check(message::expand, "struct M;", "fine");
    check(
        message::expand,
        "enum M { A, B }",
        "`Message` cannot be derived for an enum: write a struct with one field per value",
    );
    check(
        message::expand,
        "struct M(i64);",
        "`Message` needs named fields: their names are what is looked up",
    );
    let one = "`Message` allows one lifetime and no other parameter";
    check(message::expand, "struct M<T> { value: T }", one);
    check(message::expand, "struct M<'a, 'b> { a: &'a str, b: &'b str }", one);
}

#[test]
fn fields_of_a_message_come_from_one_known_place() {
    let field = |attribute: &str| format!("struct M {{ #[message({attribute})] value: i64 }}");
    for known in [
        "pointer = \"/a/~0~1\"",
        "pointer = \"\"",
        "payload",
        "key",
        "timestamp",
        "position",
        "headers",
        "topic",
    ] {
        check(message::expand, &field(known), "fine");
    }
    check(
        message::expand,
        &field("pointr = \"/a\""),
        "expected `pointer = \"/...\"`, `payload`, `key`, `timestamp`, `position`, `headers` or `topic`",
    );
    check(message::expand, &field("payload, key"), "a field comes from one place only");
    check(message::expand, &field("pointer = \"a\""), "a JSON Pointer begins with a slash: \"/a\"");
    let tilde = "in a JSON Pointer `~` is written `~0`, and a slash within a name `~1`";
    check(message::expand, &field("pointer = \"/a~\""), tilde);
    check(message::expand, &field("pointer = \"/a~2\""), tilde);
}

#[test]
fn a_row_names_its_output_and_no_column_twice() {
    check(
        row::expand,
        "#[row(output = \"r\", pass(a: &str, b: Option<i64> = \"/x/b\",))] struct R { c: i64 }",
        "fine",
    );
    check(
        row::expand,
        "#[row(output = \"r\", pass(r#type: &str))] struct R { #[row(column = \"kind\")] r#enum: i64 }",
        "fine",
    );
    check(
        row::expand,
        "struct R { a: i64 }",
        "which output are these rows for? `#[row(output = \"...\")]`",
    );
    check(
        row::expand,
        "#[row(output = \"r\", passs(a: i64))] struct R;",
        "expected `output = \"...\"` or `pass(field: Type, ...)`",
    );
    check(
        row::expand,
        "#[row(output = \"r\", pass(a: i64))] struct R { a: i64 }",
        "column `a` is given twice",
    );
    check(
        row::expand,
        "#[row(output = \"r\")] struct R { a: i64, #[row(column = \"a\")] b: i64 }",
        "column `a` is given twice",
    );
    check(row::expand, "#[row(output = \"r\", pass(a))] struct R;", "expected `:`");
    check(
        row::expand,
        "#[row(output = \"r\", pass(a: i64 = \"a\"))] struct R;",
        "a JSON Pointer begins with a slash: \"/a\"",
    );
    check(
        row::expand,
        "#[row(output = \"r\")] struct R { #[row(name = \"x\")] a: i64 }",
        "expected `column = \"...\"`",
    );
}

#[test]
fn settings_are_a_struct_that_owns_its_values() {
    check(
        settings::expand,
        "struct S { #[settings(default = 1.0, minimum = 0.0, maximum = 9.0)] a: f64, #[settings(default)] b: bool }",
        "fine",
    );
    check(
        settings::expand,
        "struct S { #[settings(defualt = 1)] a: i64 }",
        "expected `default`, `default = ...`, `minimum = ...` or `maximum = ...`",
    );
    check(
        settings::expand,
        "struct S<'a> { a: &'a str }",
        "settings own their values and have no parameters",
    );
    check(
        settings::expand,
        "union S { a: i64 }",
        "`Settings` cannot be derived for a union: write a struct with one field per value",
    );
}

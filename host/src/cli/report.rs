//! Errors as the operator reads them, once, and the exit code that goes with each.

use std::io::Write as _;
use std::process::ExitCode;

use serde_json::{Value, json};

use super::Format;
use crate::explain;
use crate::fault::{Fault, Remedy};
use crate::printable::{escaped, escaped_json, escaped_lines};
use crate::settings::SettingsError;

const FAILED: u8 = 1;
const USAGE: u8 = 2;
const NOT_REACHABLE: u8 = 3;

/// Prints an error to standard error; answers the exit code.
pub fn print(error: &anyhow::Error, format: Format) -> ExitCode {
    let shown = match format {
        Format::Text => escaped_lines(&text(error)),
        Format::Json => json_line(&value(error)),
    };
    // Nobody is left to be told when standard error is gone.
    let _ = writeln!(std::io::stderr().lock(), "{shown}");
    ExitCode::from(exit_code(error))
}

/// Prints to standard error what is no error yet.
pub fn warn(fault: &Fault, format: Format) {
    // Nobody is left to be told when standard error is gone.
    let _ = writeln!(std::io::stderr().lock(), "{}", warning(fault, format));
}

fn warning(fault: &Fault, format: Format) -> String {
    let Fault { code, message, .. } = fault;
    let hint = explain::hint(code);
    match format {
        Format::Text => {
            let message = escaped(message);
            format!("warning {code}: {message}\n  hint: {hint}\n\nexplain: sluice explain {code}")
        }
        Format::Json => {
            json_line(&json!({ "warning": { "code": code, "message": message, "hint": hint } }))
        }
    }
}

fn json_line(value: &Value) -> String {
    escaped_json(&value.to_string())
}

/// An error over several lines, ready for the terminal.
pub fn text(error: &anyhow::Error) -> String {
    let (lines, code) = match error.downcast_ref::<SettingsError>() {
        Some(settings) => (settings.to_string(), Some(settings.code())),
        None => (chain(error), code(error)),
    };
    match code {
        Some(code) => format!("{lines}\n\nexplain: sluice explain {code}"),
        None => lines,
    }
}

/// The same for programs.
fn value(error: &anyhow::Error) -> Value {
    if let Some(settings) = error.downcast_ref::<SettingsError>() {
        return json!({ "error": { "code": settings.code(), "findings": settings.findings } });
    }
    let (message, causes) = messages(error);
    json!({ "error": { "code": code(error), "message": message, "causes": causes } })
}

fn chain(error: &anyhow::Error) -> String {
    let code = code(error).map(|code| format!(" {code}")).unwrap_or_default();
    let (first, causes) = messages(error);
    // Servers and plugins must not add lines of their own.
    let mut text = format!("error{code}: {}", escaped(&first));
    for cause in causes.iter().map(|cause| escaped(cause)) {
        // Some libraries repeat their cause in their own text.
        if !text.ends_with(&cause) {
            text.push_str(&format!("\n  caused by: {cause}"));
        }
    }
    text
}

/// What happened, with what was being done before it, and the causes below.
fn messages(error: &anyhow::Error) -> (String, Vec<String>) {
    let mut messages: Vec<String> = error.chain().map(message).collect();
    let fault = error.chain().position(<dyn std::error::Error + 'static>::is::<Fault>).unwrap_or(0);
    let causes = messages.split_off(fault + 1);
    (messages.join(": "), causes)
}

/// Without the code, which stands at the head of it all.
fn message(error: &(dyn std::error::Error + 'static)) -> String {
    error.downcast_ref::<Fault>().map_or_else(|| error.to_string(), |fault| fault.message.clone())
}

fn fault(error: &anyhow::Error) -> Option<&Fault> {
    error.chain().find_map(|cause| cause.downcast_ref())
}

fn code(error: &anyhow::Error) -> Option<&'static str> {
    fault(error).map(|fault| fault.code)
}

/// 2 for wrong usage or settings, 3 for what is not reachable, 1 for all else.
pub fn exit_code(error: &anyhow::Error) -> u8 {
    if error.is::<SettingsError>() {
        return USAGE;
    }
    match fault(error) {
        Some(fault) if fault.code.starts_with("SL-C") => USAGE,
        // An outage: a pipeline waits for its end, a command says so.
        Some(fault) if fault.remedy == Remedy::Retry => NOT_REACHABLE,
        _ => FAILED,
    }
}

#[cfg(test)]
mod tests {
    use anyhow::Context as _;
    use insta::assert_snapshot;

    use super::*;
    use crate::printable::is_unprintable;
    use crate::settings::Settings;

    fn io(text: &str) -> std::io::Error {
        std::io::Error::other(text.to_owned())
    }

    #[test]
    fn a_fault_shows_its_code_its_causes_and_where_to_read_more() {
        let error = anyhow::Error::from(
            Fault::block("SL-P003", "failed to write batch").because(io("disk full")),
        );
        assert_snapshot!(text(&error), @r"
    error SL-P003: failed to write batch
      caused by: disk full

    explain: sluice explain SL-P003
    ");
        assert_eq!(exit_code(&error), 1);
        assert_snapshot!(value(&error), @r#"{"error":{"causes":["disk full"],"code":"SL-P003","message":"failed to write batch"}}"#);
    }

    #[test]
    fn a_fault_below_other_words_keeps_its_code() {
        let outage: anyhow::Result<()> =
            Err(Fault::retry("SL-P001", "connect to db:5432/energy").into());
        let error = outage.context("read positions").unwrap_err();
        assert_snapshot!(text(&error), @r"
    error SL-P001: read positions: connect to db:5432/energy

    explain: sluice explain SL-P001
    ");
        assert_eq!(exit_code(&error), 3);
    }

    #[test]
    fn wrong_settings_are_shown_with_their_places() {
        let settings = Settings::parse("a.toml", "[pipeline", &|_| None).unwrap_err();
        let error = anyhow::Error::from(settings);
        assert_snapshot!(text(&error), @r"
    error SL-C002: not TOML: unclosed table, expected `]`
     --> a.toml:1:10
      |
    1 | [pipeline
      |          ^

    explain: sluice explain SL-C002
    ");
        assert_eq!(exit_code(&error), 2);
        assert_snapshot!(value(&error), @r#"{"error":{"code":"SL-C002","findings":[{"code":"SL-C002","column":10,"file":"a.toml","hint":null,"line":1,"message":"not TOML: unclosed table, expected `]`","source":"[pipeline"}]}}"#);
    }

    #[test]
    fn an_error_without_code_is_shown_as_it_is() {
        let error = anyhow::Error::from(io("no space")).context("write the file");
        assert_snapshot!(text(&error), @r"
    error: write the file
      caused by: no space
    ");
        assert_eq!(exit_code(&error), 1);
    }

    #[test]
    fn text_of_strangers_adds_no_line_and_breaks_no_json() {
        let hostile = "a\nerror SL-X001: forged\r\u{1b}[2J\u{7f}\u{85}\u{202e}\u{e0041}\"";
        let fault = || Fault::block("SL-P003", hostile).because(io(&format!("{hostile} below")));
        let error = anyhow::Error::from(fault());
        let shown = escaped_lines(&text(&error));
        assert_eq!(shown.lines().count(), 4, "{shown}");
        assert!(!shown.replace('\n', "").contains(is_unprintable), "{shown}");
        let shown = json_line(&value(&error));
        assert!(!shown.contains(is_unprintable), "{shown}");
        let read: Value = serde_json::from_str(&shown).unwrap();
        assert_eq!(read["error"]["message"], hostile);
        assert_eq!(read["error"]["causes"][0], format!("{hostile} below"));
        let read: Value = serde_json::from_str(&warning(&fault(), Format::Json)).unwrap();
        assert_eq!(read["warning"]["message"], hostile);
        assert_eq!(warning(&fault(), Format::Text).lines().count(), 4);
    }
}

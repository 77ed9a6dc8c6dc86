//! Settings files: whatever stands in them, reading ends with settings or with findings that point into the file,
//! and a password is in neither.

use crate::explain;
use crate::settings::{Finding, Settings};

const PASSWORD: &str = "hunter2-of-the-fuzzer";
/// What each variable of the environment contains: in no message, for it may be a password too.
const VARIABLE: &str = "value-of-a-variable";

/// A line of a file in which `\x01` stands for one with a password in it.
const SECRETS: [&str; 4] = [
    "url = \"postgres://me:hunter2-of-the-fuzzer@db/plant\"",
    "\"sasl.password\" = 'hunter2-of-the-fuzzer'",
    "urll = \"postgres://me:hunter2-of-the-fuzzer@db/plant\"",
    "[sink] password = \"hunter2-of-the-fuzzer\"",
];

/// The first byte says which line with a password stands where the text has `\x01`.
pub(super) fn check(input: &[u8]) {
    let Some((first, text)) = input.split_first() else { return };
    let text = String::from_utf8_lossy(text);
    // A file of its own would be read.
    let text = text.replace("${file:", "${file-");
    let secret = format!("\n{}\n", SECRETS[usize::from(*first) % SECRETS.len()]);
    let text = text.replace('\x01', &secret);
    let lookup = |_: &str| Some(VARIABLE.to_owned());
    match Settings::parse("fuzzed.toml", &text, &lookup) {
        Ok(settings) => {
            let said = format!("{:?} {:?}", settings.source, settings.sink);
            // In a text of several lines it may stand in the midst of what is no secret.
            let is_in_a_text = text.contains("\"\"\"") || text.contains("'''");
            assert!(is_in_a_text || !said.contains(PASSWORD), "{said}");
            assert!(settings.warnings().iter().all(|it| !it.message.contains(PASSWORD)));
        }
        Err(error) => {
            assert!(!error.findings.is_empty());
            error.findings.iter().for_each(|finding| points_into(finding, &text));
        }
    }
}

fn points_into(finding: &Finding, text: &str) {
    assert!(explain::find(finding.code).is_some(), "{} is not explained", finding.code);
    let json = serde_json::to_string(finding).expect("it becomes JSON");
    let said = format!("{finding} {json}");
    assert!(!said.contains(PASSWORD), "{said}");
    // Of the address of a database messages name parts, but never the password.
    assert!(finding.code == "SL-C014" || !said.contains(VARIABLE), "{said}");
    let Some(place) = &finding.place else { return };
    let line = text.split('\n').nth(place.line - 1).expect("the line is there");
    assert!(place.column <= line.chars().count() + 1, "{finding}");
    assert!(!place.text.chars().any(char::is_control), "{finding:?}");
    assert!(place.caret.start <= place.text.chars().count(), "{finding:?}");
}

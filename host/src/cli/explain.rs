//! `sluice explain`: what an error code means, with a hint what to do.

use clap::Args;
use serde_json::json;

use super::output::wrap;
use super::table::Table;
use super::{Format, output};
use crate::explain::{self, Explanation};
use crate::fault::Fault;

const WIDTH: usize = 80;

/// Which code.
#[derive(Debug, Args)]
pub struct Arguments {
    /// The code, such as SL-C003; all of them are listed without
    pub code: Option<String>,
}

/// Prints the explanation, or the list.
pub fn run(arguments: &Arguments, format: Format) -> anyhow::Result<()> {
    let Some(code) = &arguments.code else {
        let all: Vec<&Explanation> = explain::all().collect();
        let values: Vec<_> = all.iter().map(|explanation| value(explanation)).collect();
        return output::print(format, &values, || list(&all));
    };
    let explanation = explain::find(code.trim()).ok_or_else(|| unknown(code))?;
    output::print(format, &value(explanation), || page(explanation))
}

fn value(explanation: &Explanation) -> serde_json::Value {
    let Explanation { code, title, text, hint } = explanation;
    json!({ "code": code, "title": title, "text": text, "hint": hint })
}

fn page(explanation: &Explanation) -> String {
    let Explanation { code, title, text, hint } = explanation;
    let hint = format!("Hint: {hint}");
    format!("{code}: {title}\n\n{}\n\n{}", wrap(text, WIDTH), wrap(&hint, WIDTH))
}

fn list(all: &[&Explanation]) -> String {
    let mut table = Table::new(&["code", "meaning"]);
    for explanation in all {
        table.row([explanation.code.to_owned(), explanation.title.to_owned()]);
    }
    table.render()
}

fn unknown(code: &str) -> Fault {
    let upper = code.to_ascii_uppercase();
    let distances =
        explain::all().map(|it| (strsim::damerau_levenshtein(&upper, it.code), it.code));
    let hint = match distances.min() {
        Some((0..=2, near)) => format!("did you mean {near}?"),
        _ => "`sluice explain` lists all".to_owned(),
    };
    Fault::exit("SL-C020", format!("there is no code `{code}`; {hint}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_code_has_a_page() {
        insta::assert_snapshot!(page(explain::find("sl-c003").unwrap()), @r"
    SL-C003: a settings file has an unknown key or section

    Keys that mean nothing are refused, because a mistyped key would otherwise leave
    its default in force unnoticed. Nothing was started.

    Hint: Use the near match or one of the known keys that the message names, or
    delete the line.
    ");
    }

    #[test]
    fn an_unknown_code_is_answered_with_the_nearest() {
        assert_eq!(
            unknown("nope").to_string(),
            "SL-C020: there is no code `nope`; `sluice explain` lists all"
        );
        assert_eq!(
            unknown("sl-c03").to_string(),
            "SL-C020: there is no code `sl-c03`; did you mean SL-C003?"
        );
    }
}

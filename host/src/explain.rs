//! Every code an operator may meet: what it means and the way out. `sluice explain CODE` prints it.

mod kafka;
mod plugin;
mod postgres;
mod settings;
mod simulate;

/// What is to be known about a code.
#[derive(Debug, Clone, Copy)]
pub struct Explanation {
    /// `SL-` and a letter for the part (C settings, K Kafka, G plugin, P Postgres,
    /// S simulate and demo), then three digits.
    pub code: &'static str,
    /// One line, lower case.
    pub title: &'static str,
    /// What happened, what was and was not done about it.
    pub text: &'static str,
    /// What the operator can do.
    pub way_out: &'static str,
}

/// All explanations, by code.
pub fn all() -> impl Iterator<Item = &'static Explanation> {
    [settings::CODES, kafka::CODES, plugin::CODES, postgres::CODES, simulate::CODES]
        .into_iter()
        .flatten()
}

/// The explanation of `code`, in any case.
pub fn find(code: &str) -> Option<&'static Explanation> {
    all().find(|explanation| explanation.code.eq_ignore_ascii_case(code))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_unique_and_well_formed() {
        let mut seen = std::collections::HashSet::new();
        for explanation in all() {
            let code = explanation.code;
            assert!(seen.insert(code), "{code} is explained twice");
            assert!(code.len() == 7 && code.starts_with("SL-"), "{code}");
            assert!(!explanation.text.is_empty() && !explanation.way_out.is_empty(), "{code}");
        }
    }
}

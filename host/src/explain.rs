//! Every code an operator may meet: what it means, and a hint what to do. `sluice explain CODE` prints it.

mod dead_letters;
mod host;
mod kafka;
mod plugin;
mod postgres;
mod relay;
mod settings;
mod simulate;

/// What is to be known about a code.
#[derive(Debug, Clone, Copy)]
pub struct Explanation {
    /// `SL-` and a capital for the part (C settings, K Kafka, G plugin, P Postgres,
    /// D dead letters, S simulate and demo, X the host itself), then three digits.
    pub code: &'static str,
    /// One line, lower case.
    pub title: &'static str,
    /// What happened, what was and was not done about it.
    pub text: &'static str,
    /// What the operator can do.
    pub hint: &'static str,
}

/// All explanations, by code.
pub fn all() -> impl Iterator<Item = &'static Explanation> {
    [
        settings::CODES,
        kafka::CODES,
        plugin::CODES,
        postgres::CODES,
        dead_letters::CODES,
        relay::CODES,
        simulate::CODES,
        host::CODES,
    ]
    .into_iter()
    .flatten()
}

/// The explanation of `code`, in any case.
pub fn find(code: &str) -> Option<&'static Explanation> {
    all().find(|explanation| explanation.code.eq_ignore_ascii_case(code))
}

/// What to do about `code`, as a hint for a line of the log; empty where there is no such code.
pub fn hint(code: &str) -> &'static str {
    find(code).map_or("", |explanation| explanation.hint)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::path::Path;

    use super::*;

    #[test]
    fn codes_are_unique_and_well_formed() {
        let mut seen = std::collections::HashSet::new();
        for explanation in all() {
            let code = explanation.code;
            assert!(seen.insert(code), "{code} is explained twice");
            assert!(code.len() == 7 && code.starts_with("SL-"), "{code}");
            assert!(!explanation.text.is_empty() && !explanation.hint.is_empty(), "{code}");
        }
    }

    /// Every quoted code in the sources of the host.
    fn codes_in(folder: &Path, found: &mut BTreeSet<String>) {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            let stem = path.file_stem().unwrap_or_default();
            if stem == "tests" || stem == "explain" && !path.ends_with("cli/explain.rs") {
                continue;
            }
            if path.is_dir() {
                codes_in(&path, found);
                continue;
            }
            let text = std::fs::read_to_string(&path).unwrap();
            let quoted = text.match_indices("\"SL-").filter_map(|(at, _)| text.get(at + 1..at + 9));
            found.extend(quoted.filter_map(|code| code.strip_suffix('"')).map(str::to_owned));
        }
    }

    #[test]
    fn every_code_in_use_is_explained_and_every_explained_code_is_in_use() {
        let mut used = BTreeSet::new();
        codes_in(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src"), &mut used);
        let explained: BTreeSet<String> =
            all().map(|explanation| explanation.code.to_owned()).collect();
        let unexplained: Vec<_> = used.difference(&explained).collect();
        let unused: Vec<_> = explained.difference(&used).collect();
        assert!(
            unexplained.is_empty() && unused.is_empty(),
            "unexplained: {unexplained:?}, unused: {unused:?}"
        );
    }
}

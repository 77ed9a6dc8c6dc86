//! One table of a settings file while it is read. A wrong value is noted and reading goes on, so that
//! all findings come in one go; what nobody asked for is an unknown key in the end.

use std::cell::RefCell;
use std::ops::{Range, RangeInclusive};
use std::time::Duration;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::finding::{Finding, Place};
use super::secret::{self, quote};
use super::units;
use super::variables::{self, Lookup};

/// The file that is read, and what was found wrong with it so far.
pub(super) struct Report<'f> {
    pub(super) file: &'f str,
    pub(super) text: &'f str,
    pub(super) secrets: Vec<Range<usize>>,
    pub(super) lookup: Lookup<'f>,
    /// With the byte at which each stands, for the order in the end.
    findings: RefCell<Vec<(usize, Finding)>>,
}

/// A string of the file, filled in.
#[derive(Debug, Clone)]
pub(super) struct Text<'f> {
    pub(super) value: String,
    /// As it stands in the file, for messages: variables may contain secrets.
    pub(super) raw: &'f str,
    pub(super) at: Range<usize>,
}

/// One table.
pub(super) struct Section<'f> {
    pub(super) report: &'f Report<'f>,
    /// `[sink]`
    pub(super) title: String,
    /// The header; empty when there is none.
    at: Range<usize>,
    table: Option<&'f DeTable<'f>>,
    asked: RefCell<Vec<&'static str>>,
}

impl<'f> Report<'f> {
    pub(super) fn new(
        file: &'f str,
        text: &'f str,
        secrets: Vec<Range<usize>>,
        lookup: Lookup<'f>,
    ) -> Self {
        Self { file, text, secrets, lookup, findings: RefCell::default() }
    }

    /// Notes something wrong at the bytes `at`.
    pub(super) fn note(
        &self,
        code: &'static str,
        at: &Range<usize>,
        message: String,
        hint: Option<String>,
    ) {
        let place = (!at.is_empty()).then(|| Place::find(self.text, at, &self.secrets));
        let finding = Finding { code, message, hint, file: self.file.to_owned(), place };
        self.findings.borrow_mut().push((at.start, finding));
    }

    /// All that was noted, from top to bottom.
    pub(super) fn into_findings(self) -> Vec<Finding> {
        let mut findings = self.findings.into_inner();
        findings.sort_by_key(|(at, finding)| (finding.place.is_some(), *at));
        findings.into_iter().map(|(_, finding)| finding).collect()
    }

    /// Fills a string in; an unset variable is noted where it stands.
    fn fill(&self, raw: &'f str, at: Range<usize>) -> Option<Text<'f>> {
        match variables::fill(raw, self.lookup) {
            Ok(value) => Some(Text { value, raw, at }),
            Err(unfilled) => {
                let reference = &raw[unfilled.at];
                let offset =
                    self.text[at.clone()].find(reference).filter(|_| !reference.is_empty());
                let at = offset.map_or(at.clone(), |offset| {
                    let start = at.start + offset;
                    start..start + reference.len()
                });
                self.note("SL-C008", &at, unfilled.message, Some(unfilled.hint));
                None
            }
        }
    }

    /// `value` as a string.
    pub(super) fn text(&self, key: &str, value: &'f Spanned<DeValue<'f>>) -> Option<Text<'f>> {
        match value.get_ref() {
            DeValue::String(raw) => self.fill(raw, value.span()),
            _ => self.wrong_type(key, value, "a string"),
        }
    }

    pub(super) fn wrong_type<T>(
        &self,
        key: &str,
        value: &Spanned<DeValue<'_>>,
        wanted: &str,
    ) -> Option<T> {
        let found = value.get_ref().type_str();
        let article = if found.starts_with(['a', 'i']) { "an" } else { "a" };
        let message = format!("`{key}` takes {wanted}, this is {article} {found}");
        self.note("SL-C005", &value.span(), message, None);
        None
    }
}

impl<'f> Section<'f> {
    pub(super) fn root(report: &'f Report<'f>, table: &'f DeTable<'f>) -> Self {
        let title = "the file".to_owned();
        Self { report, title, at: 0..0, table: Some(table), asked: RefCell::default() }
    }

    /// The table `key`, empty when it is missing.
    pub(super) fn section(&self, key: &'static str) -> Section<'f> {
        let value = self.value(key);
        let at = value.map_or(0..0, Spanned::span);
        let table = value.and_then(|value| match value.get_ref() {
            DeValue::Table(table) => Some(table),
            _ => self.report.wrong_type(key, value, "a table"),
        });
        Section {
            report: self.report,
            title: self.title_of(key),
            at,
            table,
            asked: RefCell::default(),
        }
    }

    /// A table that is the value of a key chosen by the user.
    pub(super) fn named(&self, key: &str, at: Range<usize>, table: &'f DeTable<'f>) -> Section<'f> {
        let title = self.title_of(key);
        Section { report: self.report, title, at, table: Some(table), asked: RefCell::default() }
    }

    fn title_of(&self, key: &str) -> String {
        match self.title.strip_prefix('[').and_then(|title| title.strip_suffix(']')) {
            Some(title) => format!("[{title}.{key}]"),
            None => format!("[{key}]"),
        }
    }

    /// True when the section stands in the file.
    pub(super) fn is_there(&self) -> bool {
        self.table.is_some()
    }

    /// The value of `key`, as it stands there.
    pub(super) fn value(&self, key: &'static str) -> Option<&'f Spanned<DeValue<'f>>> {
        let mut asked = self.asked.borrow_mut();
        if !asked.contains(&key) {
            asked.push(key);
        }
        self.table?.get(key)
    }

    /// All entries of a table whose keys are the user's own, in the order of the file.
    pub(super) fn entries(&self) -> Vec<(&'f str, Range<usize>, &'f Spanned<DeValue<'f>>)> {
        let mut entries: Vec<_> = self
            .table
            .into_iter()
            .flatten()
            .map(|(key, value)| (&**key.get_ref(), key.span(), value))
            .collect();
        entries.sort_by_key(|(_, at, _)| at.start);
        entries
    }

    /// Notes that a key which must be there is missing; not when a misspelt one stands there, which is
    /// noted for itself.
    pub(super) fn missing(&self, key: &str, hint: &str) {
        if self.has_near(key) {
            return;
        }
        let title = &self.title;
        let message = format!("{title} lacks `{key}`");
        self.report.note("SL-C004", &self.at, message, Some(hint.to_owned()));
    }

    /// True when an unknown key stands there that may be a misspelt `key`.
    pub(super) fn has_near(&self, key: &str) -> bool {
        let asked = self.asked.borrow();
        self.entries()
            .iter()
            .any(|(there, ..)| !asked.contains(there) && near(there, &[key]).is_some())
    }

    pub(super) fn text(&self, key: &'static str) -> Option<Text<'f>> {
        let value = self.value(key)?;
        self.report.text(key, value)
    }

    /// A string that must be there and not be empty; `hint` shows one.
    pub(super) fn required(&self, key: &'static str, hint: &str) -> Option<Text<'f>> {
        if self.table.is_some_and(|table| !table.contains_key(key)) {
            self.asked.borrow_mut().push(key);
            self.missing(key, hint);
            return None;
        }
        let text = self.text(key)?;
        if text.value.trim().is_empty() {
            let from = if text.raw.is_empty() { "" } else { " once its variables are filled in" };
            let message = format!("`{key}` is empty{from}");
            self.report.note("SL-C006", &text.at, message, Some(hint.to_owned()));
            return None;
        }
        Some(text)
    }

    pub(super) fn integer(
        &self,
        key: &'static str,
        range: RangeInclusive<u64>,
        default: u64,
    ) -> u64 {
        let Some(value) = self.value(key) else { return default };
        let number = match value.get_ref() {
            DeValue::Integer(number) => i128::from_str_radix(number.as_str(), number.radix()).ok(),
            // A variable can stand in strings only.
            DeValue::String(raw) if raw.contains("${") => {
                let Some(text) = self.report.text(key, value) else { return default };
                text.value.trim().parse().ok()
            }
            _ => self.report.wrong_type(key, value, "a whole number"),
        };
        let within = number
            .and_then(|number| u64::try_from(number).ok())
            .filter(|number| range.contains(number));
        if within.is_none() && !matches!(value.get_ref(), DeValue::Float(_) | DeValue::Boolean(_)) {
            self.out_of_range(key, value, &format!("{} to {}", range.start(), range.end()));
        }
        within.unwrap_or(default)
    }

    /// A number with or without a fraction.
    pub(super) fn number(
        &self,
        key: &'static str,
        range: RangeInclusive<f64>,
        default: f64,
    ) -> f64 {
        let Some(value) = self.value(key) else { return default };
        let number = match value.get_ref() {
            DeValue::Integer(number) => number.as_str().parse().ok(),
            DeValue::Float(number) => number.as_str().parse().ok(),
            _ => return self.report.wrong_type(key, value, "a number").unwrap_or(default),
        };
        let within = number.filter(|number| range.contains(number));
        if within.is_none() {
            self.out_of_range(key, value, &format!("{} to {}", range.start(), range.end()));
        }
        within.unwrap_or(default)
    }

    /// A size, `"32MiB"` or a number of bytes.
    pub(super) fn bytes(
        &self,
        key: &'static str,
        range: RangeInclusive<u64>,
        default: u64,
    ) -> usize {
        let Some(value) = self.value(key) else { return default as usize };
        let number = match value.get_ref() {
            DeValue::Integer(number) => u64::from_str_radix(number.as_str(), number.radix()).ok(),
            DeValue::String(_) => {
                let Some(text) = self.report.text(key, value) else { return default as usize };
                let number = units::bytes(&text.value);
                if number.is_none() {
                    let message = format!("`{key}` is not a size: {}", quote(text.raw));
                    self.report.note(
                        "SL-C006",
                        &text.at,
                        message,
                        Some("write it as `\"32MiB\"`".to_owned()),
                    );
                    return default as usize;
                }
                number
            }
            _ => {
                return self
                    .report
                    .wrong_type(key, value, "a size such as `\"32MiB\"`")
                    .unwrap_or(default as usize);
            }
        };
        let within = number.filter(|number| range.contains(number));
        if within.is_none() {
            let [least, most] = [*range.start(), *range.end()].map(units::show_bytes);
            self.out_of_range(key, value, &format!("{least} to {most}"));
        }
        within.unwrap_or(default) as usize
    }

    /// A time, `"10s"`.
    pub(super) fn duration(
        &self,
        key: &'static str,
        range: RangeInclusive<Duration>,
        default: Duration,
    ) -> Duration {
        let Some(value) = self.value(key) else { return default };
        let DeValue::String(_) = value.get_ref() else {
            return self
                .report
                .wrong_type(key, value, "a time with its unit, such as `\"10s\"`")
                .unwrap_or(default);
        };
        let Some(text) = self.report.text(key, value) else { return default };
        let Some(duration) = units::duration(&text.value) else {
            let message = format!("`{key}` is not a time: {}", quote(text.raw));
            self.report.note(
                "SL-C006",
                &text.at,
                message,
                Some("write it as `\"10s\"` or `\"500ms\"`".to_owned()),
            );
            return default;
        };
        if !range.contains(&duration) {
            let [least, most] = [*range.start(), *range.end()].map(humantime::format_duration);
            self.out_of_range(key, value, &format!("{least} to {most}"));
        }
        duration
    }

    fn out_of_range(&self, key: &str, value: &Spanned<DeValue<'_>>, range: &str) {
        let message = format!("`{key}` is out of range");
        self.report.note("SL-C006", &value.span(), message, Some(format!("allowed: {range}")));
    }

    /// One of several words.
    pub(super) fn choice<T: Copy>(&self, key: &'static str, words: &[(&str, T)], default: T) -> T {
        let Some(text) = self.text(key) else { return default };
        if let Some((_, choice)) = words.iter().find(|(word, _)| *word == text.value) {
            return *choice;
        }
        let names: Vec<&str> = words.iter().map(|(word, _)| *word).collect();
        let message = format!("`{key}` cannot be {}", quote(text.raw));
        self.report.note(
            "SL-C007",
            &text.at,
            message,
            Some(suggest(&text.value, &names, "one of")),
        );
        default
    }

    /// A list of strings, none of them empty.
    pub(super) fn texts(&self, key: &'static str) -> Vec<String> {
        let Some(value) = self.value(key) else { return Vec::new() };
        let DeValue::Array(items) = value.get_ref() else {
            return self
                .report
                .wrong_type(key, value, "a list of strings, `[\"id\"]`")
                .unwrap_or_default();
        };
        let texts = items
            .iter()
            .filter_map(|item| self.report.text(key, item))
            .map(|text| text.value)
            .collect();
        if items.is_empty() {
            self.report.note("SL-C006", &value.span(), format!("`{key}` is empty"), None);
        }
        texts
    }

    /// Notes every key that nobody asked for.
    pub(super) fn finish(self) {
        let asked = self.asked.borrow();
        for (key, at, value) in self.entries() {
            if asked.contains(&key) {
                continue;
            }
            let what =
                if value.get_ref().is_table() && self.at.is_empty() { "section" } else { "key" };
            let shown = if secret::is_secret_value(key) { "***" } else { key };
            let place =
                if self.at.is_empty() { String::new() } else { format!(" in {}", self.title) };
            let message = format!("unknown {what} `{}`{place}", shown.escape_debug());
            self.report.note("SL-C003", &at, message, Some(suggest(key, &asked, "known here:")));
        }
    }
}

/// The near match among `words`, or all of them after `lead`.
pub(super) fn suggest(word: &str, words: &[&str], lead: &str) -> String {
    match near(word, words) {
        Some(known) => format!("did you mean `{known}`?"),
        None => format!("{lead} `{}`", words.join("`, `")),
    }
}

fn near<'w>(word: &str, words: &[&'w str]) -> Option<&'w str> {
    let word = word.to_lowercase();
    let distances = words.iter().map(|known| (strsim::damerau_levenshtein(&word, known), *known));
    distances
        .filter(|(distance, known)| *distance <= known.len().div_ceil(3))
        .min()
        .map(|(_, known)| known)
}

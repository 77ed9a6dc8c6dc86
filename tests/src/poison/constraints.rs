//! Rows that Postgres alone can refuse: constraints of each kind, expressions, triggers, casts.

use super::{Kind, dead_letter};

/// Characters of a text that fits in no index row.
const INDEXED_MAX: usize = 12_000;

/// Characters of a text with too many words for a `tsvector`.
const SEARCHED_MAX: usize = 1_600_000;

/// Member, SQLSTATE, and what Postgres says: the constraint or the column.
const REFUSED: &[(&str, &str, &str)] = &[
    ("\"even\":7", "23514", "even_only"),
    ("\"positive\":-1", "23514", "positive_only"),
    ("\"word\":\"two words\"", "23514", "one_word"),
    ("\"kept\":13", "23502", "must"),
    ("\"unique_no\":1", "23505", "number_once"),
    ("\"owner\":4711", "23503", "owner_known"),
    ("\"late_owner\":4711", "23503", "owner_known_late"),
    ("\"starts\":5,\"ends\":15", "23P01", "no_overlap"),
    ("\"starts\":200,\"ends\":100", "22000", "range lower bound"),
    ("\"divisor\":0", "22012", "division by zero"),
    ("\"state\":\"22023\"", "22023", "refused by a trigger"),
    ("\"state\":\"23000\"", "23000", "refused by a trigger"),
    ("\"state\":\"23505\"", "23505", "refused by a trigger"),
    ("\"state\":\"P0001\"", "P0001", "refused by a trigger"),
    ("\"late_state\":\"23514\"", "23514", "refused by a trigger"),
    ("\"late_state\":\"22P02\"", "22P02", "refused by a trigger"),
];

/// The same for the table whose columns take text by casting it.
const UNCASTABLE: &[(&str, &str, &str)] = &[
    ("\"short\":\"300.1.1.1\"", "22P02", "inet"),
    ("\"short\":\"\"", "22P02", "inet"),
    ("\"fixed\":\"00:00\"", "22P02", "macaddr"),
    ("\"price\":\"12 EUR\"", "22P02", "money"),
    ("\"price\":\"99999999999999999999\"", "22003", "money"),
    ("\"exact\":\"three days ago or so\"", "22007", "interval"),
    ("\"exact\":\"99999999999999 years\"", "22015", "interval"),
    ("\"uid\":\"{a,b\"", "22P02", "array"),
    ("\"doc_text\":\"[5,1)\"", "22000", "range lower bound"),
    ("\"doc_text\":\"5\"", "22P02", "range"),
    ("\"raw_text\":\"10101\"", "22026", "bit"),
    ("\"raw_text\":\"1021\"", "22P02", "not a valid binary digit"),
    ("\"word\":\"two words\"", "23514", "one_word"),
    ("\"day\":\"yesterday or so\"", "22007", "timestamp"),
    ("\"day\":\"294277-01-01\"", "22008", "timestamp"),
    ("\"indexed\":\"12345678901234567890\"", "22003", "bigint"),
    ("\"searched\":\"{1,x}\"", "22P02", "integer"),
];

/// Those for the table that rows are copied into.
pub(super) fn straight() -> Vec<Kind> {
    let refused = |&(member, code, says): &(&str, &'static str, &'static str)| {
        Kind::with(format!("refused: {member}"), member, dead_letter("sink", code, says))
    };
    let mut kinds: Vec<Kind> = REFUSED.iter().map(refused).collect();
    let indexed = format!("\"indexed\":\"{}\"", noise(INDEXED_MAX));
    let end = dead_letter("sink", "54000", "index row");
    kinds.push(Kind::with("refused: too large for an index", &indexed, end));
    let words: String = (0..SEARCHED_MAX / 8).map(|number| format!("{number:07} ")).collect();
    let end = dead_letter("sink", "54000", "tsvector");
    kinds.push(Kind::with("refused: too many words", &format!("\"searched\":\"{words}\""), end));
    let note = "x".repeat((4 << 20) - 100);
    let end = dead_letter("sink", "23514", "even_only");
    kinds.push(Kind::with("refused: 4 MiB", &format!("\"even\":7,\"note\":\"{note}\""), end));
    kinds
}

/// Those for the table whose columns take text by casting it.
pub(super) fn casting() -> Vec<Kind> {
    let refused = |&(member, code, says): &(&str, &'static str, &'static str)| {
        Kind::with(format!("cast: {member}"), member, dead_letter("sink", code, says))
    };
    UNCASTABLE.iter().map(refused).collect()
}

/// Text that does not get shorter by compressing it; always the same.
fn noise(characters: usize) -> String {
    let mut random = fastrand::Rng::with_seed(7);
    (0..characters).map(|_| random.alphanumeric()).collect()
}

//! How old the libraries may be that the host stands on, and when somebody last read what was found in them. The
//! crates that must not come back stand in `.deny.toml`.

use jiff::civil::{Date, date};
use sluice::versions;

/// When the advisories of OpenSSL, librdkafka, wasmtime and of all crates in `Cargo.lock` were last read, and the
/// versions here and in `.deny.toml` were raised beyond all that concern us.
pub(super) const REVIEWED: Date = date(2026, 12, 1);
/// Wasmtime publishes each month.
pub(super) const REVIEW_DAYS: i32 = 90;

/// The newest of the long-term branch 48. 48.0.6 mends CVE-2026-119134, 48.0.7 and 48.0.8 what followed.
const WASMTIME_MIN: &str = "48.0.8";
/// What rdkafka 0.39 bundles, its newest release. What is open in it (the reply about metrics with a length of -1)
/// cannot happen: `enable.metrics.push` is off.
const LIBRDKAFKA_MIN: &str = "2.12.1";
/// Branches of OpenSSL that somebody mends. Distributions keep the number of their release and mend it under that
/// number, so that only the branch can be required.
const OPENSSL_BRANCHES: [(i64, &str); 2] = [
    (0x300, "3.0: Debian 12, Ubuntu 22.04 and 24.04"),
    (0x305, "3.5: Debian 13, long-term support of OpenSSL itself"),
];

/// Everything that is too old.
pub(super) fn too_old() -> Vec<String> {
    let mut wrong: Vec<String> = [
        ("wasmtime", versions::wasmtime(), WASMTIME_MIN),
        ("librdkafka", &versions::librdkafka(), LIBRDKAFKA_MIN),
    ]
    .into_iter()
    .filter(|(_, linked, least)| numbers(linked) < numbers(least))
    .map(|(name, linked, least)| format!("{name} {linked} is linked, at least {least} is needed"))
    .collect();
    wrong.extend(unsupported(versions::openssl_number()));
    wrong
}

/// What is wrong with the branch of this OpenSSL.
fn unsupported(number: i64) -> Option<String> {
    let branch = number >> 20;
    if OPENSSL_BRANCHES.iter().any(|(known, _)| *known == branch) {
        return None;
    }
    let branches: Vec<&str> = OPENSSL_BRANCHES.iter().map(|(_, name)| *name).collect();
    Some(format!("OpenSSL {number:#x} is of no branch that gets updates ({})", branches.join("; ")))
}

/// Days since the review; what to do when they are too many.
pub(super) fn days_since_review(today: Date) -> Result<i32, String> {
    let days = today.since(REVIEWED).map_or(i32::MAX, |span| span.get_days());
    // A clock that is behind is no reason to read them again.
    if days <= REVIEW_DAYS {
        return Ok(days.max(0));
    }
    Err(format!(
        "advisories were last read on {REVIEWED}, {days} days ago, and {REVIEW_DAYS} are allowed: read those of OpenSSL, \
         librdkafka, wasmtime and the crates in Cargo.lock since then, raise what is too old in \
         tests/src/verify/versions.rs and .deny.toml, and set REVIEWED there"
    ))
}

/// `1.2.3-rc.1+extra` as numbers; what follows the three does not decide here.
pub(super) fn numbers(version: &str) -> Vec<u64> {
    let plain = version.split(['-', '+']).next().unwrap_or_default();
    plain.split('.').map(|part| part.parse().unwrap_or(0)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_linked_is_not_older_than_the_last_review_allows() {
        assert_eq!(too_old(), [""; 0]);
    }

    #[test]
    fn the_last_review_is_not_too_long_ago() {
        let today = jiff::Zoned::now().date();
        assert_eq!(days_since_review(today).map(drop), Ok(()));
    }

    #[test]
    fn a_review_is_good_for_ninety_days() {
        let after = |days: i64| {
            let day = REVIEWED.checked_add(jiff::Span::new().days(days)).unwrap();
            days_since_review(day).ok()
        };
        assert_eq!([-400, 0, 90].map(after), [Some(0), Some(0), Some(90)]);
        assert_eq!([91, 1000].map(after), [None; 2]);
        let late = days_since_review(date(2027, 6, 1)).unwrap_err();
        assert!(late.contains("2026-12-01, 182 days ago"), "{late}");
    }

    #[test]
    fn a_branch_of_openssl_that_nobody_mends_is_refused() {
        for (number, is_supported) in [
            (0x3000_0130, true),
            (0x3000_0020, true),
            (0x3050_0040, true),
            (0x3060_0030, false),
            (0x3010_0000, false),
            (0x1010_117f, false),
            (0x4000_0030, false),
        ] {
            assert_eq!(unsupported(number).is_none(), is_supported, "{number:#x}");
        }
    }
}

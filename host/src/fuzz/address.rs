//! Addresses of databases: what the library does not know is taken out of them, and no message about them
//! contains a password.

use crate::sink::postgres::address::{Address, TlsOptions};
use crate::sink::postgres::environment::Environment;

const PASSWORD: &str = "hunter2-of-the-fuzzer";

/// The first byte says in which form a password stands before the rest, which is an address by itself, too.
pub(super) fn check(input: &[u8]) {
    let Some((first, rest)) = input.split_first() else { return };
    let rest = String::from_utf8_lossy(rest);
    is_taken_apart(&rest);
    let url = match first % 3 {
        0 => format!("postgres://me:{PASSWORD}@{rest}"),
        1 => format!("password={PASSWORD} {rest}"),
        _ => format!("password = '{PASSWORD} ' {rest}"),
    };
    is_taken_apart(&url);
    let said = match Environment::new(|_| None).complete(&url) {
        Ok(complete) => complete.warnings.join("\n"),
        Err(fault) => fault.to_string(),
    };
    assert!(!said.contains(PASSWORD), "{said}");
}

fn is_taken_apart(url: &str) {
    let mut address = Address::parse(url);
    let again = Address::parse(&address.url);
    // A word without a value and a value without a word come together when what was between them is taken out; the
    // library rejects both.
    let has_loose_value = url.split(char::is_whitespace).any(|word| word.starts_with('='));
    // And it rejects a URL that comes after something else.
    let is_late = address.url.starts_with(' ');
    if !has_loose_value && !is_late {
        assert_eq!(again.tls, TlsOptions::default(), "{url:?} keeps options of TLS");
        assert_eq!((again.passfile, &again.url), (None, &address.url), "{url:?}");
    }
    if !url.contains("ssl") {
        assert_eq!(address.tls, TlsOptions::default(), "{url:?} has none");
    }
    let before = address.url.clone();
    address.add_ports(&[]);
    assert_eq!(address.url, before);
    address.add_ports(&[6543]);
    let ported = address.url.clone();
    // Nothing but ports was added, and once.
    assert_eq!(ported.replace(":6543", ""), before.replace(":6543", ""), "{url:?}");
    address.add_ports(&[6543]);
    assert_eq!(address.url, ported, "{url:?}");
}

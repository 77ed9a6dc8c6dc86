//! The parts of a connection string that the Postgres library does not know, or not in full: libpq's options of TLS, its
//! password file, and which of several servers it takes.

use std::fmt;

/// A connection string without them, and they.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Address {
    /// For the library.
    pub url: String,
    pub tls: TlsOptions,
    /// libpq's password file, when the string names one.
    pub passfile: Option<String>,
    /// libpq's `target_session_attrs`, when the string has it.
    pub target: Option<String>,
}

/// As libpq calls them.
#[derive(Default, Clone, PartialEq, Eq)]
pub(crate) struct TlsOptions {
    pub sslmode: Option<String>,
    /// A file, or `system`.
    pub sslrootcert: Option<String>,
    /// A file with our own certificate.
    pub sslcert: Option<String>,
    /// A file with its key.
    pub sslkey: Option<String>,
    /// The key's password.
    pub sslpassword: Option<String>,
}

impl Address {
    pub fn parse(url: &str) -> Self {
        // A file or a variable may begin with a newline. What is a URL is one without it, too.
        let url = url.trim_start();
        let (mut tls, mut passfile, mut target) = (TlsOptions::default(), None, None);
        let mut take = |key: &str, value: &str| {
            let option = match key {
                "passfile" => &mut passfile,
                "target_session_attrs" => &mut target,
                _ => return tls.take(key, value),
            };
            // libpq takes an empty one for none.
            *option = Some(value.to_owned()).filter(|it| !it.is_empty());
            true
        };
        let url = if is_url(url) {
            without_options(url, take)
        } else {
            let pairs = Pairs { text: url, at: 0 };
            let rest = pairs.filter(|(key, value, _)| !take(key, value)).map(|(.., pair)| pair);
            let rest = rest.collect::<Vec<_>>().join(" ");
            // Behind what was taken out stands a URL, whose options nobody has read: with a blank before it the
            // library refuses it.
            if is_url(&rest) { format!(" {rest}") } else { rest }
        };
        Self { url, tls, passfile, target }
    }

    /// Adds `ports` to the servers of a URL when none of them has one: the library would add 5432. One port is for all
    /// servers, several are for one each.
    pub fn add_ports(&mut self, ports: &[u16]) {
        let begin = self.url.find("://").map_or(0, |at| at + 3);
        let end = self.url[begin..].find(['/', '?']).map_or(self.url.len(), |at| begin + at);
        let begin = self.url[begin..end].find('@').map_or(begin, |at| begin + at + 1);
        let hosts: Vec<&str> = self.url[begin..end].split(',').collect();
        let has_port = |host: &str| host.rsplit(']').next().is_some_and(|rest| rest.contains(':'));
        if !is_url(&self.url)
            || begin == end
            || ports.is_empty()
            || hosts.iter().any(|it| has_port(it))
        {
            return;
        }
        let port = |index: usize| ports.get(index).unwrap_or(&ports[0]);
        let hosts = hosts.iter().enumerate().map(|(index, host)| format!("{host}:{}", port(index)));
        let hosts = hosts.collect::<Vec<_>>().join(",");
        self.url.replace_range(begin..end, &hosts);
    }
}

/// A connection string as it may be shown: without passwords.
pub(crate) fn without_passwords(text: &str) -> String {
    let is_secret = |key: &str, _: &str| matches!(key, "password" | "sslpassword");
    if !is_url(text) {
        let shown = Pairs { text, at: 0 }.filter(|(key, value, _)| !is_secret(key, value));
        return shown.map(|(.., pair)| pair).collect::<Vec<_>>().join(" ");
    }
    let url = without_options(text, is_secret);
    let begin = url.find("://").map_or(0, |at| at + 3);
    // The last one: whatever stands before it may be a part of a password that is not encoded.
    let Some(end) = url.rfind('@') else { return url };
    match url[begin..end.max(begin)].find(':') {
        Some(colon) => format!("{}{}", &url[..begin + colon], &url[end..]),
        None => url,
    }
}

fn is_url(text: &str) -> bool {
    text.starts_with("postgres://") || text.starts_with("postgresql://")
}

/// For `postgres://...?key=value&key=value`.
fn without_options(url: &str, mut take: impl FnMut(&str, &str) -> bool) -> String {
    let (front, query) = url.split_once('?').unwrap_or((url, ""));
    let is_other = |pair: &&str| match pair.split_once('=') {
        Some((key, value)) => !take(key, &percent_decoded(value)),
        None => !pair.is_empty(),
    };
    let rest: Vec<&str> = query.split('&').filter(is_other).collect();
    if rest.is_empty() { front.to_owned() } else { format!("{front}?{}", rest.join("&")) }
}

fn percent_decoded(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&byte, tail)) = rest.split_first() {
        let hex =
            tail.get(..2).filter(|_| byte == b'%').and_then(|it| std::str::from_utf8(it).ok());
        let decoded = hex.and_then(|hex| u8::from_str_radix(hex, 16).ok());
        bytes.push(decoded.unwrap_or(byte));
        rest = if decoded.is_some() { &tail[2..] } else { tail };
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

/// The pairs of `key=value key='a value'`, each as (key, value, the whole as it was written). A backslash takes the next
/// character as it is. What is no pair is handed out under no key.
struct Pairs<'a> {
    text: &'a str,
    at: usize,
}

impl<'a> Iterator for Pairs<'a> {
    type Item = (&'a str, String, &'a str);

    fn next(&mut self) -> Option<Self::Item> {
        let text = self.text;
        let skip_blanks = |at: usize| at + (text.len() - at - text[at..].trim_start().len());
        let begin = skip_blanks(self.at);
        if begin == text.len() {
            return None;
        }
        let key_end = text[begin..].find(|it: char| it == '=' || it.is_whitespace());
        let key_end = key_end.map_or(text.len(), |it| begin + it);
        let equals = skip_blanks(key_end);
        if !text[equals..].starts_with('=') {
            self.at = key_end;
            return Some(("", String::new(), &text[begin..key_end]));
        }
        let (value, end) = value_at(text, skip_blanks(equals + 1));
        self.at = end;
        Some((&text[begin..key_end], value, &text[begin..end]))
    }
}

/// The value that begins there, and where it ends.
fn value_at(text: &str, begin: usize) -> (String, usize) {
    let quoted = text[begin..].starts_with('\'');
    let begin = begin + usize::from(quoted);
    let mut value = String::new();
    let mut characters = text[begin..].char_indices();
    while let Some((at, character)) = characters.next() {
        match character {
            '\\' => value.extend(characters.next().map(|(_, escaped)| escaped)),
            '\'' if quoted => return (value, begin + at + 1),
            blank if !quoted && blank.is_whitespace() => return (value, begin + at),
            other => value.push(other),
        }
    }
    (value, text.len())
}

impl TlsOptions {
    /// True when `key` is one of them.
    fn take(&mut self, key: &str, value: &str) -> bool {
        let option = match key {
            "sslmode" => &mut self.sslmode,
            "sslrootcert" => &mut self.sslrootcert,
            "sslcert" => &mut self.sslcert,
            "sslkey" => &mut self.sslkey,
            "sslpassword" => &mut self.sslpassword,
            _ => return false,
        };
        // libpq takes an empty one for none.
        *option = Some(value.to_owned()).filter(|it| !it.is_empty());
        true
    }
}

/// Without the password.
impl fmt::Debug for TlsOptions {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("TlsOptions")
            .field("sslmode", &self.sslmode)
            .field("sslrootcert", &self.sslrootcert)
            .field("sslcert", &self.sslcert)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(url: &str, rest: &str, options: &[(&str, &str)]) {
        let mut tls = TlsOptions::default();
        for (key, value) in options {
            assert!(tls.take(key, value));
        }
        let expected = Address { url: rest.to_owned(), tls, passfile: None, target: None };
        assert_eq!(Address::parse(url), expected, "{url}");
    }

    #[test]
    fn tls_options_are_taken_out_of_a_url() {
        check("postgres://a@b/c", "postgres://a@b/c", &[]);
        check("postgres://a@b/c?", "postgres://a@b/c", &[]);
        check(
            "postgres://a@b/c?sslmode=verify-full",
            "postgres://a@b/c",
            &[("sslmode", "verify-full")],
        );
        check(
            "postgresql://a@b/c?x=1&sslrootcert=%2Fmy%20ca%C3%A4.pem&sslmode=require&y=2",
            "postgresql://a@b/c?x=1&y=2",
            &[("sslrootcert", "/my caä.pem"), ("sslmode", "require")],
        );
        check(
            "postgres://b/c?sslcert=c.pem&sslkey=k%2.pem&sslpassword=%25%26&sslrootcert=",
            "postgres://b/c",
            &[("sslcert", "c.pem"), ("sslkey", "k%2.pem"), ("sslpassword", "%&")],
        );
    }

    #[test]
    fn tls_options_are_taken_out_of_pairs_as_libpq_reads_them() {
        check("host=b sslmode='disable' user=a", "host=b user=a", &[("sslmode", "disable")]);
        check("host=b password='x  y'", "host=b password='x  y'", &[]);
        check(
            r"sslrootcert = 'my ca\'s \\.pem'  password='a sslmode=disable b' sslkey=k\ 1.pem host=b",
            "password='a sslmode=disable b' host=b",
            &[("sslrootcert", r"my ca's \.pem"), ("sslkey", "k 1.pem")],
        );
        check("host=b nonsense sslmode=require", "host=b nonsense", &[("sslmode", "require")]);
    }

    #[test]
    fn blanks_before_a_url_do_not_hide_its_options() {
        let require = [("sslmode", "require")];
        check(" \r\npostgres://a@b/c?sslmode=require", "postgres://a@b/c", &require);
        check("\tsslmode=require host=b", "host=b", &require);
        let behind = "sslmode=require postgres://b/c?sslmode=disable";
        check(behind, " postgres://b/c?sslmode=disable", &require);
        assert!(Address::parse(behind).url.parse::<tokio_postgres::Config>().is_err());
    }

    #[test]
    fn a_password_file_is_taken_out() {
        for (url, rest) in [
            ("postgres://b/c?passfile=%2Fmy%20file&x=1", "postgres://b/c?x=1"),
            ("host=b passfile='/my file' x=1", "host=b x=1"),
        ] {
            let address = Address::parse(url);
            assert_eq!(
                (address.url.as_str(), address.passfile.as_deref()),
                (rest, Some("/my file"))
            );
        }
    }

    #[test]
    fn a_password_is_not_printed() {
        let address = Address::parse("host=b sslpassword=hunter2");
        assert!(!format!("{address:?}").contains("hunter2"), "{address:?}");
    }

    #[test]
    fn a_connection_string_is_shown_without_passwords() {
        for (text, shown) in [
            ("postgres://u@db:1/x", "postgres://u@db:1/x"),
            ("postgres://db:1/x", "postgres://db:1/x"),
            ("postgres://u:canary@db:1/x?sslmode=require", "postgres://u@db:1/x?sslmode=require"),
            ("postgres://u:canary@canary/canary@db:1/x", "postgres://u@db:1/x"),
            ("postgres://u@db/x?password=canary&a=b&sslpassword=canary", "postgres://u@db/x?a=b"),
            ("postgresql://:canary@db/x", "postgresql://@db/x"),
            ("host=db password = 'canary canary' user=u sslpassword=canary", "host=db user=u"),
        ] {
            assert_eq!(without_passwords(text), shown);
        }
    }
}

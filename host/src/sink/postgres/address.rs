//! The parts of a connection string that the Postgres library does not know.

/// A connection string without `sslmode` and `sslrootcert`, and those two.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Address {
    /// For the library.
    pub url: String,
    /// libpq's `sslmode`.
    pub sslmode: Option<String>,
    /// libpq's `sslrootcert`: a file.
    pub root_certificates: Option<String>,
}

impl Address {
    pub fn parse(url: &str) -> Self {
        let mut address = Self::default();
        if url.starts_with("postgres://") || url.starts_with("postgresql://") {
            let (front, query) = url.split_once('?').unwrap_or((url, ""));
            let rest: Vec<&str> = query.split('&').filter(|pair| !address.takes(pair)).collect();
            address.url = if rest.concat().is_empty() {
                front.to_owned()
            } else {
                format!("{front}?{}", rest.join("&"))
            };
        } else {
            let rest: Vec<&str> = url.split(' ').filter(|pair| !address.takes(pair)).collect();
            address.url = rest.join(" ");
        }
        address
    }

    /// True when the server must prove who it is.
    pub fn verifies(&self) -> bool {
        matches!(self.sslmode.as_deref(), Some("verify-ca" | "verify-full"))
    }

    fn takes(&mut self, pair: &str) -> bool {
        match pair.split_once('=') {
            Some(("sslmode", value)) => self.sslmode = Some(value.trim_matches('\'').to_owned()),
            Some(("sslrootcert", value)) => {
                self.root_certificates =
                    Some(value.trim_matches('\'').replace("%2F", "/").replace("%20", " "));
            }
            _ => return false,
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(url: &str, rest: &str, sslmode: Option<&str>, certificates: Option<&str>) {
        let expected = Address {
            url: rest.to_owned(),
            sslmode: sslmode.map(str::to_owned),
            root_certificates: certificates.map(str::to_owned),
        };
        assert_eq!(Address::parse(url), expected);
    }

    #[test]
    fn tls_settings_are_taken_out_of_both_forms() {
        check("postgres://a@b/c", "postgres://a@b/c", None, None);
        check(
            "postgres://a@b/c?sslmode=verify-full",
            "postgres://a@b/c",
            Some("verify-full"),
            None,
        );
        check(
            "postgresql://a@b/c?x=1&sslrootcert=%2Fca.pem&sslmode=require&y=2",
            "postgresql://a@b/c?x=1&y=2",
            Some("require"),
            Some("/ca.pem"),
        );
        check("host=b sslmode='disable' user=a", "host=b user=a", Some("disable"), None);
        check("host=b password='x  y'", "host=b password='x  y'", None, None);
    }
}

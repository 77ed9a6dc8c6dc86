//! What is linked into this program and mended elsewhere: printed by `sluice --version`, so that an operator can compare
//! it with an advisory.

use std::sync::LazyLock;

/// The OpenSSL that was loaded, as it says itself: the system's, which gets its updates without us.
pub fn openssl() -> &'static str {
    openssl::version::version()
}

/// The same as a number, `0x30000130` for 3.0.19.
pub fn openssl_number() -> i64 {
    openssl::version::number()
}

/// The librdkafka that was built with this program, as `2.12.1`.
pub fn librdkafka() -> String {
    rdkafka::util::get_rdkafka_version().1
}

/// The wasmtime that was built with this program, as `48.0.8`.
pub fn wasmtime() -> &'static str {
    wasmtime_environ::VERSION
}

/// This program's version and all of theirs, a line each.
pub fn long() -> &'static str {
    static TEXT: LazyLock<String> = LazyLock::new(|| {
        format!(
            "{}\nwasmtime {}\nlibrdkafka {}\n{}",
            env!("CARGO_PKG_VERSION"),
            wasmtime(),
            librdkafka(),
            openssl()
        )
    });
    &TEXT
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    #[test]
    fn all_that_is_linked_is_printed_with_its_version() {
        let text = crate::cli::CommandLine::command().render_long_version();
        let lines: Vec<&str> = text.lines().collect();
        let is_version = |line: &str, name: &str| {
            let version = line.strip_prefix(name).and_then(|rest| rest.split(' ').next());
            version.is_some_and(|it| it.starts_with(|first: char| first.is_ascii_digit()))
        };
        assert_eq!(lines.len(), 4, "{text}");
        for (line, name) in lines.iter().zip(["sluice ", "wasmtime ", "librdkafka ", "OpenSSL "]) {
            assert!(is_version(line, name), "{text}");
        }
    }
}

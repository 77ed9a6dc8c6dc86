//! The functions of a guest in which something happened, as its author knows them.

use wasmtime::WasmBacktrace;

use super::fault::printable;

/// Frames that an operator is shown.
const FRAMES_MAX: usize = 4;

/// Crates through which every Rust panic and allocation goes; they say nothing about the plugin.
const MACHINERY: [&str; 5] = ["std::", "core::", "alloc::", "dlmalloc::", "__rust"];

/// Names of the innermost functions of the guest's own. Recursion counts once.
pub(super) fn frames_of(error: &wasmtime::Error) -> Vec<String> {
    let Some(backtrace) = error.downcast_ref::<WasmBacktrace>() else {
        return Vec::new();
    };
    // Only its text has the names as the guest's author wrote them.
    let text = backtrace.to_string();
    let names = text.lines().filter_map(|line| line.split_once('!')).map(|(_, name)| name);
    let mut names: Vec<_> = names.map(plain).filter(|name| is_telling(name)).collect();
    names.dedup();
    names.truncate(FRAMES_MAX);
    names.iter().map(|name| printable(name, 200)).collect()
}

/// `a[0123456789abcdef]::b::h0123456789abcdef` as `a::b`: the compiler's hashes differ from build to build.
fn plain(name: &str) -> String {
    let name = match name.trim().rsplit_once("::h") {
        Some((head, hash)) if is_hash(hash) => head,
        _ => name.trim(),
    };
    let mut parts = name.split('[');
    let mut plain = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        match part.split_once(']') {
            Some((hash, rest)) if is_hash(hash) => plain.push_str(rest),
            _ => {
                plain.push('[');
                plain.push_str(part);
            }
        }
    }
    plain
}

fn is_hash(text: &str) -> bool {
    text.len() == 16 && text.bytes().all(|byte| byte.is_ascii_hexdigit())
}

/// Neither machinery nor the bindings' own way in, which the phase names already.
fn is_telling(name: &str) -> bool {
    let head = name.trim_start_matches(['<', '&']);
    let is_glue = name.contains("sluice:plugin/") || name.contains("::_export_");
    !is_glue && !MACHINERY.iter().any(|machinery| head.starts_with(machinery))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_lose_the_compilers_hashes() {
        let check = |name: &str, expected: &str| assert_eq!(plain(name), expected);
        check("orders::total::h0123456789abcdef", "orders::total");
        check("<a[0123456789abcdef]::B<c[fedcba9876543210]::D>>::run", "<a::B<c::D>>::run");
        check("orders::sum::<[i64; 4]>", "orders::sum::<[i64; 4]>");
        check("orders::hash", "orders::hash");
    }

    #[test]
    fn only_functions_of_the_plugin_are_shown() {
        let check = |name: &str, expected: bool| assert_eq!(is_telling(name), expected, "{name}");
        check("orders::total", true);
        check("<orders::Order as serde::Deserialize>::deserialize", true);
        check("<core::option::Option<u8>>::unwrap", false);
        check("std::panicking::panic_with_hook", false);
        check("<dlmalloc::dlmalloc::Dlmalloc<dlmalloc::sys::System>>::malloc", false);
        check("orders::bindings::exports::sluice::plugin::transform::_export_process_cabi", false);
        check("sluice:plugin/transform@0.1.0#process", false);
    }
}

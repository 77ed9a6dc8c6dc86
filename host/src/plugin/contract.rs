//! Which imports a component may have and which export it must have, by name and version.

use wasmtime::Engine;
use wasmtime::component::types::Component as ComponentType;

use super::fault::{PluginFault, printable};

/// What a plugin exports.
const TRANSFORM: &str = "sluice:plugin/transform";

/// The export with our version.
const TRANSFORM_OFFERED: &str = "sluice:plugin/transform@0.1.0";

/// All that a plugin may import: `log`, and two interfaces that contain nothing but types.
const IMPORTS: [&str; 3] = ["sluice:plugin/log", "sluice:plugin/columns", "sluice:plugin/schema"];

/// Names in a message, at most.
const NAMES_MAX: usize = 10;

/// Bytes of a name in a message, at most.
const NAME_BYTES_MAX: usize = 128;

/// Versions `0.1.x` fit each other, as cargo counts.
const COMPATIBLE: &str = "0.1.";

/// Refuses a component of another world, of another version of ours, or with any other import.
pub(super) fn check(component: &ComponentType, engine: &Engine) -> Result<(), PluginFault> {
    let exports: Vec<_> = component.exports(engine).map(|(name, _)| name.to_owned()).collect();
    check_exports(&exports)?;
    check_imports(component.imports(engine).map(|(name, _)| name))
}

/// Names of all imports, for people.
pub(super) fn imports(component: &ComponentType, engine: &Engine) -> Vec<String> {
    component.imports(engine).map(|(name, _)| name.to_owned()).collect()
}

fn check_exports(exports: &[String]) -> Result<(), PluginFault> {
    let Some(found) = exports.iter().find(|name| split(name).0 == TRANSFORM) else {
        return Err(PluginFault::WrongWorld { expected: TRANSFORM_OFFERED, found: shown(exports) });
    };
    if !split(found).1.starts_with(COMPATIBLE) {
        let found = printable(found, NAME_BYTES_MAX);
        return Err(PluginFault::WrongVersion { found, offered: TRANSFORM_OFFERED });
    }
    Ok(())
}

fn check_imports<'a>(imports: impl Iterator<Item = &'a str>) -> Result<(), PluginFault> {
    let offered = |name: &str| {
        let (interface, version) = split(name);
        IMPORTS.contains(&interface) && version.starts_with(COMPATIBLE)
    };
    let forbidden: Vec<_> = imports.filter(|name| !offered(name)).collect();
    if forbidden.is_empty() { Ok(()) } else { Err(PluginFault::ForbiddenImport(shown(&forbidden))) }
}

/// The first names, for people: a component may have any number, and most of a name may be anything.
fn shown(names: &[impl AsRef<str>]) -> Vec<String> {
    let first = names.iter().take(NAMES_MAX);
    let mut shown: Vec<_> = first.map(|name| printable(name.as_ref(), NAME_BYTES_MAX)).collect();
    if names.len() > NAMES_MAX {
        shown.push(format!("and {} more", names.len() - NAMES_MAX));
    }
    shown
}

/// `a:b/c@1.2.3` as `(a:b/c, 1.2.3)`.
fn split(name: &str) -> (&str, &str) {
    name.split_once('@').unwrap_or((name, ""))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_our_own_interfaces_of_our_version_are_offered() {
        let check = |import: &str, expected: bool| {
            assert_eq!(check_imports([import].into_iter()).is_ok(), expected, "{import}");
        };
        check("sluice:plugin/log@0.1.0", true);
        check("sluice:plugin/columns@0.1.7", true);
        check("sluice:plugin/schema@0.1.0", true);
        check("sluice:plugin/log@0.10.0", false);
        check("sluice:plugin/log@0.2.0", false);
        check("sluice:plugin/log", false);
        check("sluice:plugin/logs@0.1.0", false);
        check("sluice:plugin/transform@0.1.0", false);
        check("wasi:io/poll@0.2.6", false);
        check("log", false);
    }

    #[test]
    fn the_export_must_be_ours_and_of_our_version() {
        let check = |exports: &[&str], expected: &str| {
            let exports: Vec<_> = exports.iter().map(|&name| name.to_owned()).collect();
            let found = check_exports(&exports).map_err(|fault| fault.to_string());
            assert_eq!(found.err().unwrap_or_default(), expected);
        };
        check(&["other:thing/run@1.0.0", "sluice:plugin/transform@0.1.3"], "");
        check(&[], "plugin does not export sluice:plugin/transform@0.1.0, nor anything else");
        check(
            &["wasi:cli/run@0.2.6"],
            "plugin does not export sluice:plugin/transform@0.1.0, but wasi:cli/run@0.2.6",
        );
        check(
            &["sluice:plugin/transform@0.2.0"],
            "plugin was built for sluice:plugin/transform@0.2.0, this sluice offers sluice:plugin/transform@0.1.0",
        );
    }

    #[test]
    fn a_refusal_names_few_imports_and_exports_on_one_line() {
        let hostile = format!("url=<{}\n2026-12-01 ERROR forged\u{202e}\u{1b}[2J>", "x".repeat(60));
        let long = format!("{hostile}{}", "y".repeat(5000));
        let names: Vec<_> = (0..1000).map(|index| format!("{index}{long}")).collect();
        let imports = check_imports(names.iter().map(String::as_str)).unwrap_err().to_string();
        let exports = check_exports(&names).unwrap_err().to_string();
        let version = format!("{TRANSFORM}@9{long}");
        let version = check_exports(&[version]).unwrap_err().to_string();
        for text in [imports.as_str(), &exports, &version] {
            assert!(text.len() < 2048, "{} bytes", text.len());
            assert!(!text.contains(crate::printable::is_unprintable), "{text}");
        }
        assert!(imports.ends_with(", and 990 more"), "{imports}");
        assert!(imports.contains(", 9url=<xxx"), "{imports}");
    }
}

//! `sluice plugin build`: cargo with the flags that make a component out of a crate, and nothing else.

use std::ffi::OsString;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use clap::Args;
use serde::Deserialize;

use super::size;
use crate::fault::Fault;
use crate::plugin::load::digest_of;

/// The target without WASI: what it makes imports only what the plugin itself asks for.
const TARGET: &str = "wasm32-unknown-unknown";

/// A package is a plugin when it makes a dynamic library and depends on one of these.
const PLUGIN_DEPENDENCIES: [&str; 2] = ["sluice-plugin", "wit-bindgen"];

/// Arguments of `sluice plugin build`.
#[derive(Debug, Args)]
pub struct BuildArgs {
    /// Folder of the package or workspace
    #[arg(long, value_name = "DIR", default_value = ".")]
    path: PathBuf,
    /// Packages to build; all plugins of the workspace when none is named
    #[arg(value_name = "PACKAGE")]
    packages: Vec<String>,
}

/// Builds, copies to `<target>/plugins`, and prints a line for each.
pub fn run(args: &BuildArgs) -> anyhow::Result<()> {
    let metadata = Metadata::read(&args.path)?;
    let packages = select(&metadata.packages, &args.packages)?;
    ensure_target(&args.path)?;
    let artifacts = cargo_build(&args.path, &packages)?;
    let folder = metadata.target_directory.join("plugins");
    std::fs::create_dir_all(&folder).map_err(|error| write_fault(&folder, error))?;
    let mut stdout = std::io::stdout().lock();
    for artifact in artifacts {
        let component =
            std::fs::read(&artifact.file).map_err(|e| write_fault(&artifact.file, e))?;
        refuse_wasi(&artifact.name, &component)?;
        let file = folder.join(format!("{}.wasm", artifact.name));
        replace(&file, &component).map_err(|error| write_fault(&file, error))?;
        let (size, digest) = (size(component.len()), digest_of(&component));
        let (short, shown) = (&digest[..12], from_here(&file));
        writeln!(stdout, "{:<26} {size:>9}  sha256:{short}  {}", artifact.name, shown.display())?;
    }
    Ok(())
}

/// Builds the plugin `name` of the workspace at `path`; answers where its component is.
pub fn build(path: &Path, name: &str) -> anyhow::Result<PathBuf> {
    run(&BuildArgs { path: path.to_owned(), packages: vec![name.to_owned()] })?;
    Ok(Metadata::read(path)?.target_directory.join("plugins").join(format!("{name}.wasm")))
}

/// The path as somebody in this folder would write it.
fn from_here(file: &Path) -> &Path {
    let here = std::env::current_dir().ok();
    here.and_then(|here| file.strip_prefix(here).ok()).unwrap_or(file)
}

/// What `cargo metadata` prints, as far as it matters here.
#[derive(Debug, Deserialize)]
struct Metadata {
    packages: Vec<Package>,
    target_directory: PathBuf,
}

#[derive(Debug, Deserialize)]
struct Package {
    id: String,
    name: String,
    dependencies: Vec<Dependency>,
    targets: Vec<Target>,
}

#[derive(Debug, Deserialize)]
struct Dependency {
    name: String,
}

#[derive(Debug, Deserialize)]
struct Target {
    name: String,
    kind: Vec<String>,
    crate_types: Vec<String>,
}

impl Metadata {
    fn read(path: &Path) -> Result<Self, Fault> {
        let output = cargo(path)
            .args(["metadata", "--format-version", "1", "--no-deps"])
            .stderr(Stdio::inherit())
            .output()
            .map_err(|error| Fault::block("SL-G020", "failed to start cargo").because(error))?;
        if !output.status.success() {
            let message = format!("no cargo package or workspace in {}", path.display());
            return Err(Fault::block("SL-G020", message));
        }
        serde_json::from_slice(&output.stdout).map_err(|error| {
            Fault::block("SL-G020", "failed to read cargo metadata").because(error)
        })
    }
}

impl Package {
    fn is_plugin(&self) -> bool {
        let depends = |name: &&str| self.dependencies.iter().any(|it| it.name == *name);
        PLUGIN_DEPENDENCIES.iter().any(depends) && self.targets.iter().any(Target::is_component)
    }

    fn examples(&self) -> impl Iterator<Item = &Target> {
        self.targets.iter().filter(|it| it.is_component() && it.is_example())
    }
}

impl Target {
    fn is_component(&self) -> bool {
        self.crate_types.iter().any(|crate_type| crate_type == "cdylib")
    }

    fn is_example(&self) -> bool {
        self.kind.iter().any(|kind| kind == "example")
    }
}

/// All plugins, or those that were named.
fn select<'a>(packages: &'a [Package], names: &[String]) -> Result<Vec<&'a Package>, Fault> {
    let plugins: Vec<_> = packages.iter().filter(|package| package.is_plugin()).collect();
    if names.is_empty() {
        if plugins.is_empty() {
            let message = "no package here is a plugin: none has `crate-type = [\"cdylib\"]` and depends on sluice-plugin";
            return Err(Fault::block("SL-G021", message));
        }
        return Ok(plugins);
    }
    let find = |name: &String| {
        plugins.iter().copied().find(|package| package.name == *name).ok_or_else(|| {
            let known: Vec<_> = plugins.iter().map(|package| package.name.as_str()).collect();
            Fault::block(
                "SL-G021",
                format!("`{name}` is no plugin of this workspace; there are: {}", known.join(", ")),
            )
        })
    };
    names.iter().map(find).collect()
}

/// Installs the standard library for the target when it is missing.
fn ensure_target(path: &Path) -> Result<(), Fault> {
    let rustc = std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
    let print = with_kept_variables(Command::new(rustc))
        .args(["--print", "target-libdir", "--target", TARGET])
        .current_dir(path)
        .output();
    let is_there = |output: &std::process::Output| {
        Path::new(String::from_utf8_lossy(&output.stdout).trim()).is_dir()
    };
    if print.as_ref().is_ok_and(is_there) {
        return Ok(());
    }
    eprintln!("installing the Rust target {TARGET}");
    let mut rustup = with_kept_variables(Command::new("rustup"));
    let added = rustup.args(["target", "add", TARGET]).current_dir(path).status();
    match added {
        Ok(status) if status.success() => Ok(()),
        _ => Err(Fault::block(
            "SL-G022",
            format!("the Rust target {TARGET} is missing, and `rustup target add {TARGET}` failed"),
        )),
    }
}

/// A component that cargo made.
#[derive(Debug, PartialEq, Eq)]
struct Artifact {
    name: String,
    file: PathBuf,
}

fn cargo_build(path: &Path, packages: &[&Package]) -> Result<Vec<Artifact>, Fault> {
    let mut command = cargo(path);
    command
        .args(["build", "--release", "--target", TARGET])
        .args(["--message-format", "json-render-diagnostics", "--lib"])
        .envs(build_environment())
        .stderr(Stdio::inherit());
    for package in packages {
        command.args(["--package", &package.name]);
        for example in package.examples() {
            command.args(["--example", &example.name]);
        }
    }
    let output = command
        .output()
        .map_err(|error| Fault::block("SL-G023", "failed to start cargo").because(error))?;
    if !output.status.success() {
        return Err(Fault::block(
            "SL-G023",
            "cargo could not build the plugins; it says why above",
        ));
    }
    let messages = String::from_utf8_lossy(&output.stdout);
    let mut artifacts: Vec<_> =
        messages.lines().filter_map(|line| artifact_of(line, packages)).collect();
    artifacts.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(artifacts)
}

/// Settings by environment, so that a plugin's own workspace needs no configuration. The encoded
/// flags win over `RUSTFLAGS`, which people set for their own machine's code.
fn build_environment() -> [(&'static str, OsString); 6] {
    let cargo_home = std::env::var_os("CARGO_HOME")
        .map(PathBuf::from)
        .or_else(|| std::env::var_os("HOME").map(|home| PathBuf::from(home).join(".cargo")));
    let mut flags = OsString::from("-Ctarget-feature=+simd128");
    if let Some(cargo_home) = cargo_home {
        // Panic texts name source files: the same on every machine, and so is the digest.
        flags.push("\u{1f}--remap-path-prefix=");
        flags.push(cargo_home);
        flags.push("=cargo");
    }
    [
        // Ships with rustc; makes a component instead of a bare module.
        ("CARGO_TARGET_WASM32_UNKNOWN_UNKNOWN_LINKER", "wasm-component-ld".into()),
        ("CARGO_ENCODED_RUSTFLAGS", flags),
        ("CARGO_PROFILE_RELEASE_LTO", "fat".into()),
        ("CARGO_PROFILE_RELEASE_CODEGEN_UNITS", "1".into()),
        // Names of functions stay: traps are unreadable without them.
        ("CARGO_PROFILE_RELEASE_DEBUG", "false".into()),
        ("CARGO_PROFILE_RELEASE_STRIP", "debuginfo".into()),
    ]
}

/// The component that one of cargo's messages tells of. A library is named like its package, an
/// example like both.
fn artifact_of(message: &str, packages: &[&Package]) -> Option<Artifact> {
    #[derive(Deserialize)]
    struct Message {
        package_id: String,
        target: Target,
        filenames: Vec<PathBuf>,
    }
    let Message { package_id, target, filenames } = serde_json::from_str(message).ok()?;
    let package = &packages.iter().find(|package| package.id == package_id)?.name;
    if !target.is_component() {
        return None;
    }
    let file = filenames.into_iter().find(|file| file.extension() == Some("wasm".as_ref()))?;
    let name = if target.is_example() {
        format!("{package}-{}", target.name.replace('_', "-"))
    } else {
        package.clone()
    };
    Some(Artifact { name, file })
}

fn refuse_wasi(name: &str, component: &[u8]) -> Result<(), Fault> {
    // Cheap first: without the word there is no such import.
    if !component.windows(5).any(|window| window == b"wasi:") {
        return Ok(());
    }
    let imports = crate::plugin::load::imports_of(component)?;
    let wasi: Vec<_> = imports.into_iter().filter(|import| import.starts_with("wasi:")).collect();
    if wasi.is_empty() {
        return Ok(());
    }
    let message = format!("{name} imports {}, which no plugin gets", wasi.join(", "));
    Err(Fault::block("SL-G003", message))
}

/// Writes beside and renames: a host that watches the file never sees half of it.
fn replace(file: &Path, content: &[u8]) -> std::io::Result<()> {
    if std::fs::read(file).is_ok_and(|present| present == content) {
        return Ok(());
    }
    let folder = file.parent().unwrap_or(Path::new("."));
    let mut builder = tempfile::Builder::new();
    let readable = std::os::unix::fs::PermissionsExt::from_mode(0o644);
    let mut temporary = builder.permissions(readable).tempfile_in(folder)?;
    temporary.write_all(content)?;
    temporary.persist(file)?;
    Ok(())
}

fn write_fault(path: &Path, error: std::io::Error) -> Fault {
    Fault::block("SL-G024", format!("failed to write {}", path.display())).because(error)
}

fn cargo(path: &Path) -> Command {
    let cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    let mut command = with_kept_variables(cargo);
    command.current_dir(path);
    command
}

/// Build scripts and macros of plugins run as this user: they need not have the passwords that are meant for Sluice.
fn with_kept_variables(mut command: Command) -> Command {
    command.env_clear();
    let kept = std::env::vars_os().filter(|(name, _)| name.to_str().is_some_and(is_kept));
    command.envs(kept);
    command
}

/// What compilers, linkers and fetching from a registry need, proxies and private repositories included.
fn is_kept(name: &str) -> bool {
    const NAMES: [&str; 26] = [
        "PATH",
        "HOME",
        "USER",
        "LOGNAME",
        "SHELL",
        "TERM",
        "COLORTERM",
        "NO_COLOR",
        "TMPDIR",
        "LANG",
        "TZ",
        "CARGO",
        "RUSTC",
        "RUSTFLAGS",
        "RUSTDOC",
        "CC",
        "CXX",
        "AR",
        "LD",
        "CFLAGS",
        "CXXFLAGS",
        "LDFLAGS",
        "LD_LIBRARY_PATH",
        "SSH_AUTH_SOCK",
        "SSL_CERT_FILE",
        "SSL_CERT_DIR",
    ];
    const BEGINNINGS: [&str; 10] = [
        "CARGO_",
        "RUSTUP_",
        "RUST_",
        "RUSTC_",
        "RUSTDOC",
        "LC_",
        "XDG_",
        "PKG_CONFIG",
        "CLICOLOR",
        "GIT_SSH_",
    ];
    let is_proxy = name.to_ascii_lowercase().ends_with("_proxy");
    is_proxy || NAMES.contains(&name) || BEGINNINGS.iter().any(|it| name.starts_with(it))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn package(name: &str, dependency: &str, crate_type: &str) -> Package {
        serde_json::from_value(serde_json::json!({
            "id": name,
            "name": name,
            "dependencies": [{ "name": dependency }],
            "targets": [{ "name": name, "kind": ["lib"], "crate_types": [crate_type] }],
        }))
        .expect("the shape of cargo's metadata")
    }

    fn packages() -> Vec<Package> {
        vec![
            package("readings", "sluice-plugin", "cdylib"),
            package("hostile", "wit-bindgen", "cdylib"),
            package("sluice-plugin", "wit-bindgen", "lib"),
            package("native", "serde", "cdylib"),
        ]
    }

    #[test]
    fn plugins_are_what_makes_a_dynamic_library_with_the_sdk_or_the_contract() {
        let packages = packages();
        let names = |names: &[&str]| {
            let names: Vec<_> = names.iter().map(|&name| name.to_owned()).collect();
            let selected = select(&packages, &names).map_err(|fault| fault.to_string())?;
            Ok::<_, String>(selected.iter().map(|it| it.name.clone()).collect::<Vec<_>>().join(" "))
        };
        assert_eq!(names(&[]).as_deref(), Ok("readings hostile"));
        assert_eq!(names(&["hostile"]).as_deref(), Ok("hostile"));
        insta::assert_snapshot!(
            names(&["native"]).unwrap_err(),
            @"SL-G021: `native` is no plugin of this workspace; there are: readings, hostile"
        );
        insta::assert_snapshot!(
            select(&packages[2..], &[]).unwrap_err(),
            @r#"SL-G021: no package here is a plugin: none has `crate-type = ["cdylib"]` and depends on sluice-plugin"#
        );
    }

    #[test]
    fn an_artifact_is_named_after_its_package_and_example() {
        let hostile = package("hostile", "wit-bindgen", "cdylib");
        let check = |target: &str, kind: &str, crate_type: &str, expected: Option<&str>| {
            let message = serde_json::json!({
                "reason": "compiler-artifact",
                "package_id": "hostile",
                "target": { "name": target, "kind": [kind], "crate_types": [crate_type] },
                "filenames": [format!("/t/{target}.wasm")],
            });
            let found = artifact_of(&message.to_string(), &[&hostile]).map(|it| it.name);
            assert_eq!(found.as_deref(), expected);
        };
        check("hostile", "cdylib", "cdylib", Some("hostile"));
        check("wrong_world", "example", "cdylib", Some("hostile-wrong-world"));
        check("bench", "example", "bin", None);
        assert_eq!(artifact_of(r#"{"reason":"build-finished","success":true}"#, &[&hostile]), None);
    }

    #[test]
    fn cargo_gets_what_it_needs_and_no_passwords() {
        for name in [
            "PATH",
            "CARGO_HOME",
            "RUSTUP_TOOLCHAIN",
            "RUST_BACKTRACE",
            "https_proxy",
            "NO_PROXY",
            "LC_ALL",
        ] {
            assert!(is_kept(name), "{name}");
        }
        for name in [
            "DATABASE_URL",
            "PGPASSWORD",
            "AWS_SECRET_ACCESS_KEY",
            "SASL_PASSWORD",
            "RUSTY",
            "CARGOES",
            "",
        ] {
            assert!(!is_kept(name), "{name}");
        }
    }

    #[test]
    fn a_file_is_replaced_whole_and_only_when_it_changed() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let file = folder.path().join("readings.wasm");
        let inode = || std::os::unix::fs::MetadataExt::ino(&file.metadata().expect("the file"));
        replace(&file, b"first").expect("write");
        let first = inode();
        replace(&file, b"first").expect("write");
        assert_eq!(inode(), first);
        replace(&file, b"second").expect("write");
        assert_ne!(inode(), first);
        assert_eq!(std::fs::read(&file).expect("read"), b"second");
    }
}

//! From the bytes of a file to a generation: a component that was checked, compiled, configured once
//! and has described itself. Runs beside the lanes, never on them.

use std::fmt::Write as _;
use std::path::Path;
use std::sync::Arc;

use sha2::{Digest, Sha256};
use wasmtime::component::{Component, HasSelf, Linker};

use super::bindings::{Plugin, PluginPre};
use super::cache::Cache;
use super::compile::Compiled;
use super::engine::engine;
use super::fault::{Phase, PluginFault, printable};
use super::guest_log::{LogBudget, Origin};
use super::instance::Live;
use super::limits::Limits;
use super::linked::Link;
use super::state::State;
use super::{compile, contract, describe};
use crate::description::Description;
use crate::files::{self, Stamp, Unread};
use crate::settings::{Isolation, PluginSettings};
use crate::shutdown::Stop;

/// One version of a plugin with its settings; never changes. Instances are made from it.
pub struct Generation {
    /// SHA-256 of the component, 64 hexadecimal digits.
    pub digest: String,
    /// What the plugin says of itself, checked.
    pub description: Description,
    /// What `configure` was and will be called with, as JSON.
    pub settings: String,
    /// What an instance may use.
    pub limits: Arc<Limits>,
    /// How long an instance lives.
    pub isolation: Isolation,
    /// Bytes of the component.
    pub component_bytes: usize,
    /// Names of the component's imports.
    pub imports: Vec<String>,
    /// How much its guests may log.
    pub(super) log: Arc<LogBudget>,
    /// Set when nobody wants any more what takes long.
    pub(super) stop: Stop,
    pub(super) pre: PluginPre<State>,
    /// Called instead of the component.
    pub(super) link: Option<Link>,
}

impl Generation {
    /// The first digits of the digest, enough for people.
    pub fn short_digest(&self) -> &str {
        short(&self.digest)
    }
}

impl std::fmt::Debug for Generation {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { description, .. } = self;
        write!(
            formatter,
            "Generation({} {} {})",
            description.name,
            description.version,
            self.short_digest()
        )
    }
}

/// Loads generations of one pipeline's plugin: the same settings, limits and cache each time.
#[derive(Debug, Clone)]
pub struct Loader {
    pipeline: String,
    settings: String,
    limits: Arc<Limits>,
    isolation: Isolation,
    cache: Option<Cache>,
    link: Option<Link>,
    log: Arc<LogBudget>,
    pub(super) stop: Stop,
}

impl Loader {
    /// A loader with the compile cache in the user's cache folder.
    pub fn new(pipeline: &str, settings: &PluginSettings) -> Self {
        Self {
            pipeline: pipeline.to_owned(),
            settings: settings.settings.to_string(),
            limits: Arc::new(Limits::of(settings)),
            isolation: settings.isolation,
            cache: Cache::of_user(),
            link: None,
            log: Arc::default(),
            stop: Stop::default(),
        }
    }

    /// The same loader with other limits.
    #[must_use]
    pub fn with_limits(mut self, limits: Limits) -> Self {
        self.limits = Arc::new(limits);
        self
    }

    /// The same loader, which gives up when `stop` is set.
    #[must_use]
    pub fn until(mut self, stop: &Stop) -> Self {
        self.stop = stop.clone();
        self
    }

    /// The same loader with another compile cache, or none.
    #[must_use]
    pub fn with_cache(mut self, cache: Option<Cache>) -> Self {
        self.cache = cache;
        self
    }

    /// The same loader, whose instances live as `isolation` says.
    #[must_use]
    pub fn with_isolation(mut self, isolation: Isolation) -> Self {
        self.isolation = isolation;
        self
    }

    /// The same loader, whose generations call code that is linked into this process in place of the
    /// component's; everything else about them is the component's.
    #[must_use]
    pub fn with_link(mut self, link: Link) -> Self {
        self.link = Some(link);
        self
    }

    /// Loads the component in `file`.
    pub fn load_file(&self, file: &Path) -> Result<Arc<Generation>, PluginFault> {
        self.load(&self.read(file)?.0)
    }

    /// Reads `file`, no more of it than a component may have; also returns what tells it from the next one.
    pub(super) fn read(&self, file: &Path) -> Result<(Vec<u8>, Stamp), PluginFault> {
        let max = self.limits.component_bytes_max;
        let read = files::read_regular(file, max as u64).map_err(|unread| match unread {
            Unread::Failed(error) => PluginFault::Read { path: file.display().to_string(), error },
            Unread::NotRegular => PluginFault::NotComponent("it is not a regular file".into()),
            Unread::TooLarge(bytes) => {
                PluginFault::TooBig { bytes: usize::try_from(bytes).unwrap_or(usize::MAX), max }
            }
        });
        read.map(|(bytes, metadata)| (bytes, Stamp::from(&metadata)))
    }

    /// Checks, compiles (or finds in the cache), instantiates, configures and asks for the description.
    /// Takes as long as compiling takes: a tenth of a second for a Rust plugin, ten seconds for Python.
    /// Needs a thread with [`super::limits::THREAD_STACK_BYTES`] of stack.
    pub fn load(&self, bytes: &[u8]) -> Result<Arc<Generation>, PluginFault> {
        self.check_size(bytes.len())?;
        check_header(bytes)?;
        let digest = digest_of(bytes);
        let component = self.compiled(bytes, &digest)?;
        contract::check(&component.component_type(), engine())?;
        let imports = contract::imports(&component.component_type(), engine());
        let pre = link(&component)?;
        let mut live = Live::instantiate(&pre, &self.limits)?;
        let description = self.introduce(&mut live);
        live.flush_log(Origin {
            pipeline: &self.pipeline,
            plugin: description.as_ref().map_or("", |description| &description.name),
            digest: short(&digest),
            offsets: "",
            budget: &self.log,
        });
        Ok(Arc::new(Generation {
            description: description?,
            digest,
            settings: self.settings.clone(),
            limits: Arc::clone(&self.limits),
            isolation: self.isolation,
            component_bytes: bytes.len(),
            imports,
            log: self.log.clone(),
            stop: self.stop.clone(),
            pre,
            link: self.link,
        }))
    }

    fn introduce(&self, live: &mut Live) -> Result<Description, PluginFault> {
        live.copy_at_most(self.limits.describe_bytes_max);
        live.configure(&self.settings)?;
        let description = live.call(Phase::Describe, |guest, store| guest.call_describe(store))?;
        describe::checked(description, &self.limits)
    }

    fn compiled(&self, bytes: &[u8], digest: &str) -> Result<Component, PluginFault> {
        let cached = self.cache.as_ref().and_then(|cache| cache.find(engine(), digest));
        if let Some(component) = cached {
            return Ok(component);
        }
        let Compiled { component, code } = compile::compile(bytes, &self.stop)?;
        if let Some(cache) = &self.cache
            && let Err(error) = cache.store(engine(), digest, &code)
        {
            tracing::debug!(%error, "failed to cache the compiled plugin");
        }
        Ok(component)
    }

    fn check_size(&self, bytes: usize) -> Result<(), PluginFault> {
        let max = self.limits.component_bytes_max;
        if bytes > max { Err(PluginFault::TooBig { bytes, max }) } else { Ok(()) }
    }
}

/// Names of a component's imports, whatever else may be wrong with it.
pub(crate) fn imports_of(bytes: &[u8]) -> Result<Vec<String>, PluginFault> {
    check_header(bytes)?;
    let Compiled { component, .. } = compile::compile(bytes, &Stop::default())?;
    Ok(contract::imports(&component.component_type(), engine()))
}

/// Says what a file is that is not a component, better than a parser could.
pub(crate) fn check_header(bytes: &[u8]) -> Result<(), PluginFault> {
    const MAGIC: &[u8; 4] = b"\0asm";
    let what = match bytes.split_at_checked(8) {
        Some((head, _)) if head.starts_with(MAGIC) => match head[6] {
            1 => return Ok(()),
            _ => {
                "it is a core module; build it with `sluice plugin build`, or wrap it as a component"
            }
        },
        _ if bytes.is_empty() => "the file is empty",
        _ => "it does not start like a WebAssembly file",
    };
    Err(PluginFault::NotComponent(what.into()))
}

/// Resolves imports and checks the types of imports and exports, once for all instances.
fn link(component: &Component) -> Result<PluginPre<State>, PluginFault> {
    let mut linker = Linker::new(engine());
    Plugin::add_to_linker::<_, HasSelf<State>>(&mut linker, |state| state)
        .and_then(|()| linker.instantiate_pre(component))
        .and_then(PluginPre::new)
        .map_err(|error| PluginFault::WrongTypes(on_one_line(&error)))
}

/// SHA-256 in hexadecimal.
pub(crate) fn digest_of(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().fold(String::with_capacity(64), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

fn short(digest: &str) -> &str {
    &digest[..12]
}

/// Bytes of an error of wasmtime, at most: it may quote names of the component.
const ERROR_BYTES_MAX: usize = 2 << 10;

/// An error of wasmtime with its causes.
pub(super) fn on_one_line(error: &wasmtime::Error) -> String {
    let text = format!("{error:#}");
    printable(&text.split_whitespace().collect::<Vec<_>>().join(" "), ERROR_BYTES_MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_of_another_kind_is_named() {
        let check = |bytes: &[u8], expected: &str| {
            let found = check_header(bytes).map_err(|fault| fault.to_string()).err();
            let expected = format!("plugin is not a WebAssembly component: {expected}");
            assert_eq!(found, Some(expected), "{bytes:?}");
        };
        check(b"", "the file is empty");
        check(b"\0as", "it does not start like a WebAssembly file");
        check(b"\x7fELF\x02\x01\x01\0", "it does not start like a WebAssembly file");
        check(
            b"\0asm\x01\0\0\0",
            "it is a core module; build it with `sluice plugin build`, or wrap it as a component",
        );
        assert!(check_header(b"\0asm\x0d\0\x01\0").is_ok());
    }
}

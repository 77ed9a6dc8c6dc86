//! The two versions of the plugin `readings` that the demo runs, in the folder that the pipeline watches.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use sha2::{Digest as _, Sha256};

/// Name of the custom section that makes the second version another one.
const NOTE_NAME: &str = "sluice-demo";
const NOTE: &str = "the same code under another digest";

/// The versions, the first of which is in place.
pub struct Plugins {
    file: PathBuf,
    second: Vec<u8>,
    digests: [String; 2],
}

impl Plugins {
    /// Puts a copy of the component at `built` into `folder`.
    pub fn place(built: &Path, folder: &Path) -> Result<Self> {
        let first = fs::read(built).with_context(|| format!("read {}", built.display()))?;
        let second = with_note(&first);
        let digests = [digest(&first), digest(&second)];
        let plugins = Self { file: folder.join("readings.wasm"), second, digests };
        plugins.replace(&first)?;
        Ok(plugins)
    }

    /// The file that the pipeline watches.
    pub fn file(&self) -> &Path {
        &self.file
    }

    /// SHA-256 of both versions, in hexadecimal.
    pub fn digests(&self) -> &[String; 2] {
        &self.digests
    }

    /// Puts the second version in place of the first.
    pub fn swap(&self) -> Result<()> {
        self.replace(&self.second)
    }

    /// Nobody ever sees half a file: it is written beside the old one, which it then replaces.
    fn replace(&self, component: &[u8]) -> Result<()> {
        let beside = self.file.with_extension("wasm.new");
        fs::write(&beside, component)
            .and_then(|()| fs::rename(&beside, &self.file))
            .with_context(|| format!("write {}", self.file.display()))
    }
}

/// The component with a custom section behind its last one: nothing that runs is changed.
fn with_note(component: &[u8]) -> Vec<u8> {
    let mut section = Vec::new();
    push_length(&mut section, NOTE_NAME.len());
    section.extend_from_slice(NOTE_NAME.as_bytes());
    section.extend_from_slice(NOTE.as_bytes());
    let mut noted = component.to_vec();
    noted.push(0);
    push_length(&mut noted, section.len());
    noted.extend_from_slice(&section);
    noted
}

/// Unsigned LEB128, as everywhere in WebAssembly.
fn push_length(out: &mut Vec<u8>, mut length: usize) {
    while length >= 0x80 {
        out.push(length as u8 | 0x80);
        length >>= 7;
    }
    out.push(length as u8);
}

fn digest(component: &[u8]) -> String {
    format!("{:x}", Sha256::digest(component))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_second_version_is_the_first_with_a_custom_section() {
        let folder = tempfile::tempdir().unwrap();
        let built = folder.path().join("built.wasm");
        fs::write(&built, b"\0asm\x0d\0\x01\0").unwrap();
        let plugins = Plugins::place(&built, folder.path()).unwrap();
        assert_eq!(fs::read(plugins.file()).unwrap(), b"\0asm\x0d\0\x01\0");
        plugins.swap().unwrap();
        let swapped = fs::read(plugins.file()).unwrap();
        let [first, second] = plugins.digests();
        assert_eq!(digest(&swapped), *second);
        assert_ne!(first, second);
        assert_eq!(swapped[8..10], [0, 46]);
        assert_eq!(swapped[10..22], *b"\x0bsluice-demo");
        assert_eq!(swapped.len(), 10 + 46);
    }

    #[test]
    fn lengths_are_leb128() {
        for (length, expected) in
            [(0, &[0][..]), (127, &[0x7f]), (128, &[0x80, 1]), (624_485, &[0xe5, 0x8e, 0x26])]
        {
            let mut out = Vec::new();
            push_length(&mut out, length);
            assert_eq!(out, expected);
        }
    }
}

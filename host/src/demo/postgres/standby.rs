//! A second server that starts on a copy of another one's data and follows it, as `pg_basebackup` would make one;
//! that program is not part of every set of binaries.

use std::io::ErrorKind;

use super::{Context, Folder, Path, Result, Throwaway, chown, fs};

impl Throwaway {
    /// Starts a standby of this server, with its folder beside that of this one. `backup_label` ends the backup that
    /// the caller began with `pg_backup_start`, and returns the label that `pg_backup_stop` gave out: only then is
    /// the copy worth anything. `settings` come behind those of this server; `primary_conninfo` is among them.
    ///
    /// # Errors
    /// When the copy or the start fails.
    pub fn start_standby(
        &self,
        backup_label: impl FnOnce() -> Result<String>,
        settings: &[(&str, &str)],
    ) -> Result<Self> {
        let parent = self.folder.path.parent().context("the server's folder has a parent")?;
        let folder = Folder::new_in(parent)?;
        let mut standby = Self::in_folder(folder, self.binaries.clone())?;
        standby.password.clone_from(&self.password);
        standby.copy(&self.data(), &standby.data())?;
        standby.put("backup_label", &backup_label()?)?;
        standby.put("standby.signal", "")?;
        standby.configure(settings)?;
        standby.listen()?;
        Ok(standby)
    }

    /// Files may come and go in the meantime: replaying the log from the start of the backup makes up for that.
    fn copy(&self, from: &Path, to: &Path) -> Result<()> {
        fs::create_dir(to)?;
        fs::set_permissions(to, fs::metadata(from)?.permissions())?;
        chown(to, self.user, None)?;
        for entry in fs::read_dir(from)? {
            let entry = entry?;
            let (from, to) = (entry.path(), to.join(entry.file_name()));
            if entry.file_type()?.is_dir() {
                self.copy(&from, &to)?;
            } else if entry.file_name() != "postmaster.pid" {
                match fs::copy(&from, &to) {
                    Err(error) if error.kind() == ErrorKind::NotFound => continue,
                    copied => copied.with_context(|| format!("copy {}", from.display()))?,
                };
                chown(&to, self.user, None)?;
            }
        }
        Ok(())
    }

    fn put(&self, name: &str, text: &str) -> Result<()> {
        let path = self.data().join(name);
        fs::write(&path, text)?;
        chown(&path, self.user, None).with_context(|| format!("write {}", path.display()))
    }
}

//! `cascade backup …`: made by the daemon; verified and restored here, where no daemon may run.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, chown};
use std::path::{Path, PathBuf};

use cascade_api::Method;
use cascade_api::backup::{Backup, BackupCreate, FORMAT, MANIFEST, Manifest};
use sha2::{Digest, Sha256};

use crate::args::BackupCommand;
use crate::ctx::Ctx;
use crate::error::CliError;
use crate::output::{self, clean, note};

/// No list of files is larger: a million files of 200 octets each.
const MAX_MANIFEST: u64 = 256 << 20;

pub async fn create(ctx: &Ctx, name: Option<String>) -> Result<(), CliError> {
    let body = BackupCreate {
        name,
        comment: ctx.comment.clone(),
    };
    ctx.change(Method::Post, "/v1/backups", &body, |b: &Backup| {
        format!(
            "Backup {}: {} zones, {} private keys, {} files, {} bytes",
            clean(&b.path),
            b.zones,
            b.key_files,
            b.files,
            b.size_bytes
        )
    })
    .await?;
    Ok(())
}

/// What needs no daemon.
pub fn offline(command: &BackupCommand) -> Result<(), CliError> {
    match command {
        BackupCommand::Create { .. } => Ok(()),
        BackupCommand::Verify { folder } => {
            let manifest = verified(folder)?;
            say(&format!(
                "Backup {} intact: {} zones, {} files, made {} by release {}\n",
                folder.display(),
                manifest.zones,
                manifest.files.len(),
                manifest.created_at.to_human(),
                clean(&manifest.version)
            ))
        }
        BackupCommand::Restore {
            folder,
            state_dir,
            owner,
        } => restore(folder, state_dir, owner.as_deref()),
    }
}

fn say(text: &str) -> Result<(), CliError> {
    output::stdout(text.as_bytes()).map_err(CliError::Stdout)
}

/// The list of files, once every file is there with the size and digest that it says. What is wrong
/// is told file by file; exit code 7.
fn verified(folder: &Path) -> Result<Manifest, CliError> {
    let path = folder.join(MANIFEST);
    let mut text = String::new();
    File::open(&path)
        .and_then(|f| f.take(MAX_MANIFEST).read_to_string(&mut text))
        .map_err(|source| file_error("read", &path, source))?;
    let manifest: Manifest = serde_json::from_str(&text)
        .map_err(|e| file_error("understand", &path, io::Error::other(e.to_string())))?;
    if manifest.format != FORMAT {
        let detail = format!(
            "it has format {}, this release knows {FORMAT}; use the release that made it, {}",
            manifest.format, manifest.version
        );
        return Err(file_error("understand", &path, io::Error::other(detail)));
    }
    let mut damaged = 0u64;
    for file in &manifest.files {
        let fault = if !file.is_inside() {
            Some("its path leads out of the backup".to_owned())
        } else {
            match digest(&folder.join(&file.path)) {
                Ok((size, _)) if size != file.size_bytes => {
                    Some(format!("{size} bytes, {} expected", file.size_bytes))
                }
                Ok((_, hash)) if hash != file.sha256 => Some("its content was changed".to_owned()),
                Ok(_) => None,
                Err(e) => Some(e.to_string()),
            }
        };
        if let Some(fault) = fault {
            damaged += 1;
            note(&format!("{}: {fault}", clean(&file.path)));
        }
    }
    if !manifest.files.iter().any(|f| f.path == "state.redb") {
        damaged += 1;
        note("state.redb: not in the list of files");
    }
    if damaged == 0 {
        return Ok(manifest);
    }
    note(&format!(
        "Error: backup {} is damaged: {damaged} files.\n  Try: another backup; nothing was changed",
        folder.display()
    ));
    Err(CliError::Exit(7))
}

fn digest(path: &Path) -> io::Result<(u64, String)> {
    let mut file = File::open(path)?;
    let mut hash = Sha256::new();
    let size = io::copy(&mut file, &mut HashWriter(&mut hash))?;
    Ok((size, data_encoding::HEXLOWER.encode(&hash.finalize())))
}

struct HashWriter<'a>(&'a mut Sha256);

impl Write for HashWriter<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.update(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Into a directory without state; verified before and after.
fn restore(folder: &Path, state_dir: &Path, owner: Option<&str>) -> Result<(), CliError> {
    let manifest = verified(folder)?;
    for taken in ["state.redb", "audit.log", "keys", "zone-state"] {
        let path = state_dir.join(taken);
        if path.exists() {
            return Err(file_error(
                "restore over",
                &path,
                io::Error::other(
                    "a state is there already; stop cascaded and move the directory away first",
                ),
            ));
        }
    }
    let owner = Owner::find(owner)?;
    owner.make_dir(state_dir, 0o750)?;
    // The state comes last: without it the daemon does not take the rest for a state.
    let (state, others): (Vec<_>, Vec<_>) =
        manifest.files.iter().partition(|f| f.path == "state.redb");
    for file in others.into_iter().chain(state) {
        let to = state_dir.join(&file.path);
        let mut made = state_dir.to_path_buf();
        let parents = Path::new(&file.path).parent().into_iter().flatten();
        for part in parents {
            made.push(part);
            owner.make_dir(&made, 0o700)?;
        }
        owner.copy(&folder.join(&file.path), &to)?;
        let same = digest(&to).is_ok_and(|(_, hash)| hash == file.sha256);
        if !same {
            let detail =
                io::Error::other("what was written is not what was read; is the disk well?");
            return Err(file_error("restore", &to, detail));
        }
    }
    sync_dir(state_dir)?;
    say(&format!(
        "Restored {} zones, {} files, as of {} into {}\nStart with: systemctl start cascaded\n",
        manifest.zones,
        manifest.files.len(),
        manifest.created_at.to_human(),
        state_dir.display()
    ))
}

/// Whose the restored files become.
struct Owner(Option<(u32, u32)>);

impl Owner {
    /// The user named, or as root the user `cascade` of the package; else whoever runs this.
    fn find(name: Option<&str>) -> Result<Owner, CliError> {
        let root = nix::unistd::geteuid().is_root();
        let wanted = match name {
            Some(name) => name,
            None if root => "cascade",
            None => return Ok(Owner(None)),
        };
        match nix::unistd::User::from_name(wanted) {
            Ok(Some(user)) => Ok(Owner(Some((user.uid.as_raw(), user.gid.as_raw())))),
            _ if name.is_none() => Ok(Owner(None)),
            _ => Err(CliError::Usage(format!("there is no user '{wanted}'"))),
        }
    }

    fn give(&self, path: &Path) -> Result<(), CliError> {
        let Some((uid, gid)) = self.0 else {
            return Ok(());
        };
        chown(path, Some(uid), Some(gid))
            .map_err(|source| file_error("change the owner of", path, source))
    }

    fn make_dir(&self, path: &Path, mode: u32) -> Result<(), CliError> {
        match fs::DirBuilder::new().mode(mode).create(path) {
            Ok(()) => self.give(path),
            Err(e) if e.kind() == io::ErrorKind::AlreadyExists => Ok(()),
            Err(source) => Err(file_error("make directory", path, source)),
        }
    }

    fn copy(&self, from: &Path, to: &Path) -> Result<(), CliError> {
        let copied = (|| {
            let mut source = File::open(from)?;
            let mut target = OpenOptions::new()
                .write(true)
                .create_new(true)
                .mode(0o600)
                .open(to)?;
            io::copy(&mut source, &mut target)?;
            target.sync_all()
        })();
        copied.map_err(|source| file_error("write", to, source))?;
        self.give(to)
    }
}

fn sync_dir(path: &Path) -> Result<(), CliError> {
    File::open(path)
        .and_then(|f| f.sync_all())
        .map_err(|source| file_error("sync", path, source))
}

fn file_error(what: &'static str, path: &Path, source: io::Error) -> CliError {
    CliError::File {
        what,
        path: path.display().to_string(),
        source,
    }
}

/// Where the daemon of a package has its state.
pub fn default_state_dir() -> PathBuf {
    PathBuf::from("/var/lib/cascade")
}

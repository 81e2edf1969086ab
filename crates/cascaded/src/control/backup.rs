//! Backups of a running daemon.

use std::path::Path;
use std::sync::Arc;

use cascade_api::backup::{Backup, BackupCreate, FORMAT, Manifest, ManifestFile, is_name};
use cascade_api::{Problem, ProblemType};
use cascade_archive::backup::{CopiedFile, Sources, create};
use cascade_archive::{ArchiveError, Disk, Table};
use cascade_time::Timestamp;

use super::{Answer, bug};
use crate::daemon::Daemon;
use crate::upgrade::RELEASE;

pub async fn make(d: &Arc<Daemon>, request: &BackupCreate) -> Answer<Backup> {
    let now = d.now();
    let name = match &request.name {
        Some(name) if !is_name(name) => {
            return Err(Problem::new(
                ProblemType::InvalidValue,
                format!(
                    "name is '{name}'; it must have 1 to 64 letters, digits, '.', '_' and '-', and \
                     begin with a letter or digit"
                ),
            ));
        }
        Some(name) => name.clone(),
        None => default_name(now),
    };
    // One at a time: two would only take each other's disk.
    let _turn = d.backups.lock().await;
    let d = d.clone();
    tokio::task::spawn_blocking(move || copy(&d, &name, now))
        .await
        .map_err(bug)?
}

fn copy(d: &Daemon, name: &str, now: Timestamp) -> Answer<Backup> {
    let root = d.config.config.state_dir.as_std_path();
    let folder = root.join("backup").join(name);
    if folder.exists() {
        return Err(Problem::new(
            ProblemType::BackupExists,
            format!("backup {} exists already", folder.display()),
        )
        .action("give another --name, or move it away"));
    }
    let keys = d.config.config.keys_dir();
    let from = Sources {
        state: &d.state,
        root,
        keys: keys.as_std_path(),
    };
    let about = About {
        version: RELEASE,
        schema: cascade_archive::state::SCHEMA,
        before: None,
    };
    let (zones, files) = copy_to(from, &folder, &about, now)
        .map_err(|e| Problem::new(ProblemType::StorageFull, e.to_string()))?;
    let is_key = |f: &&CopiedFile| f.path.starts_with("keys/") && f.path.ends_with(".private");
    Ok(Backup {
        path: folder.display().to_string(),
        created_at: now,
        zones,
        key_files: files.iter().filter(is_key).count() as u64,
        files: files.len() as u64,
        size_bytes: files.iter().map(|f| f.size).sum(),
    })
}

/// What a list of files says of the state that was copied.
pub struct About<'a> {
    /// The release that wrote it.
    pub version: &'a str,
    pub schema: u32,
    pub before: Option<&'a str>,
}

/// Makes the copy; the number of zones in it, and its files.
pub fn copy_to(
    from: Sources<'_>,
    folder: &Path,
    about: &About<'_>,
    now: Timestamp,
) -> Result<(u64, Vec<CopiedFile>), ArchiveError> {
    // What a row holds is for its own release to know.
    let rows = from
        .state
        .list::<serde::de::IgnoredAny>(Table::Zones, None, usize::MAX)?;
    let zones = rows.len() as u64;
    let manifest = |files: &[CopiedFile]| text(about, zones, now, files);
    let files = create(&Disk::new(), from, folder, &manifest)?;
    Ok((zones, files))
}

fn text(about: &About<'_>, zones: u64, now: Timestamp, files: &[CopiedFile]) -> String {
    let manifest = Manifest {
        format: FORMAT,
        version: about.version.into(),
        schema: about.schema,
        created_at: now,
        before: about.before.map(str::to_owned),
        zones,
        files: files
            .iter()
            .map(|f| ManifestFile {
                path: f.path.clone(),
                size_bytes: f.size,
                sha256: f.sha256.clone(),
            })
            .collect(),
    };
    serde_json::to_string_pretty(&manifest).unwrap_or_default() + "\n"
}

/// `20261126T014215Z`
fn default_name(now: Timestamp) -> String {
    let text = now.to_human();
    let digits = text.chars().take(19).filter(char::is_ascii_alphanumeric);
    digits.collect::<String>() + "Z"
}

//! Backups of a running daemon.

use std::sync::Arc;

use cascade_api::backup::{Backup, BackupCreate, FORMAT, Manifest, ManifestFile, is_name};
use cascade_api::{Problem, ProblemType};
use cascade_archive::backup::{CopiedFile, Sources, create};
use cascade_archive::{Disk, Table};
use cascade_time::Timestamp;

use super::{Answer, bug};
use crate::daemon::Daemon;
use crate::zone::ZoneRow;

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
    let rows: Vec<(String, ZoneRow)> = d
        .state
        .list(Table::Zones, None, usize::MAX)
        .map_err(|e| Problem::new(ProblemType::StorageFull, e.to_string()))?;
    let zones = rows.len() as u64;
    let manifest = |files: &[CopiedFile]| text(zones, now, files);
    let keys = d.config.config.keys_dir();
    let from = Sources {
        state: &d.state,
        root,
        keys: keys.as_std_path(),
    };
    let files = create(&Disk::new(), from, &folder, &manifest)
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

fn text(zones: u64, now: Timestamp, files: &[CopiedFile]) -> String {
    let manifest = Manifest {
        format: FORMAT,
        version: env!("CARGO_PKG_VERSION").into(),
        schema: cascade_archive::state::SCHEMA,
        created_at: now,
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

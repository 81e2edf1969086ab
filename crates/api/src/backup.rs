//! Backups: made by the daemon, verified and restored without one.

use cascade_time::Timestamp;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// Version of the list of files.
pub const FORMAT: u32 = 1;
/// Name of the list of files in a backup.
pub const MANIFEST: &str = "manifest.json";

/// `POST /v1/backups`
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct BackupCreate {
    /// Letters, digits, `.`, `_` and `-`; the time when absent.
    pub name: Option<String>,
    pub comment: Option<String>,
}

/// A backup as it was made; its list of files has the same members and the files.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Backup {
    /// A folder on the daemon's host.
    pub path: String,
    #[schema(value_type = String, format = DateTime)]
    pub created_at: Timestamp,
    pub zones: u64,
    /// Key files; keys in HSMs are not part of a backup.
    pub key_files: u64,
    pub files: u64,
    pub size_bytes: u64,
}

/// `manifest.json`
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Manifest {
    pub format: u32,
    /// Version of the daemon.
    pub version: String,
    /// Of the state.
    pub schema: u32,
    pub created_at: Timestamp,
    /// Made by the daemon itself, before it took over the state of another release: its own one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub before: Option<String>,
    pub zones: u64,
    pub files: Vec<ManifestFile>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ManifestFile {
    /// Below the backup's folder.
    pub path: String,
    pub size_bytes: u64,
    /// Hexadecimal.
    pub sha256: String,
}

impl ManifestFile {
    /// Plain names with `/` between them: nothing that leads out of the folder.
    pub fn is_inside(&self) -> bool {
        let plain = |part: &str| !part.is_empty() && part != "." && part != "..";
        !self.path.contains('\\') && !self.path.contains('\0') && self.path.split('/').all(plain)
    }
}

/// A name that is safe in a path and in a command.
pub fn is_name(name: &str) -> bool {
    let legal = |b: u8| b.is_ascii_alphanumeric() || b"._-".contains(&b);
    (1..=64).contains(&name.len()) && !name.starts_with(['.', '-']) && name.bytes().all(legal)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_paths_lead_nowhere_else() {
        for good in ["walk", "2026-11-26.1", "a"] {
            assert!(is_name(good), "{good}");
        }
        for bad in ["", ".", "..", "-x", "a/b", "a b", "é", &"x".repeat(65)] {
            assert!(!is_name(bad), "{bad}");
        }
        let file = |path: &str| ManifestFile {
            path: path.into(),
            size_bytes: 0,
            sha256: String::new(),
        };
        assert!(file("zone-state/3F/01/snap-1.cz").is_inside());
        for bad in ["/etc/passwd", "../x", "a/../../x", "a//b", "", "./x"] {
            assert!(!file(bad).is_inside(), "{bad}");
        }
    }
}

//! The first start over the state of another release: it is copied before it is changed; and what
//! to do about a state that is newer than this release.

use std::path::{Path, PathBuf};
use std::time::Duration;

use cascade_api::backup::{MANIFEST, Manifest, is_name};
use cascade_archive::backup::Sources;
use cascade_archive::state::SCHEMA;
use cascade_archive::{ArchiveError, Disk, State, Writer};
use cascade_program::systemd;
use cascade_time::Timestamp;

use crate::control::backup::{About, copy_to};

pub const RELEASE: &str = env!("CARGO_PKG_VERSION");
/// Copies of this kind that are kept; those that operators made are theirs.
const KEPT: usize = 3;
/// The service manager waits for the copy this long.
const COPY_WITHIN: Duration = Duration::from_secs(3600);
/// A list of files is not larger than what `cascade backup verify` reads.
const MAX_MANIFEST: u64 = 256 << 20;

/// Copies what another release wrote into `backup/<release>`, then takes the state over.
pub fn take_over(state: &State, root: &Path, keys: &Path, now: Timestamp) -> Result<(), String> {
    let text = |e: ArchiveError| e.to_string();
    match state.writer().map_err(text)? {
        Some(w) if w.release == RELEASE && w.schema == SCHEMA => return Ok(()),
        Some(w) => before(state, &w, root, keys, now)?,
        None => {}
    }
    state.take_over(RELEASE).map_err(text)
}

fn before(
    state: &State,
    writer: &Writer,
    root: &Path,
    keys: &Path,
    now: Timestamp,
) -> Result<(), String> {
    let folder = free_folder(root, &writer.release);
    systemd::extend(COPY_WITHIN, "copying the state of the former release");
    let about = About {
        version: &writer.release,
        schema: writer.schema,
        before: Some(RELEASE),
    };
    let from = Sources { state, root, keys };
    match copy_to(from, &folder, &about, now) {
        Ok((zones, files)) => {
            tracing::warn!(
                "the state of release {} was copied to {} ({zones} zones, {} files) before release {RELEASE} takes it over",
                writer.release,
                folder.display(),
                files.len()
            );
            forget_oldest(root);
            Ok(())
        }
        // Without a copy there is no way back from a new layout.
        Err(e) if writer.schema < SCHEMA => Err(format!(
            "the state of release {} has an older layout and must be copied before it is changed: {e}\n  \
             Try: make room for another copy of {}, then start again; nothing was changed",
            writer.release,
            root.display()
        )),
        Err(e) => {
            tracing::error!(
                "the state of release {} could not be copied before release {RELEASE} takes it over; its layout stays the same: {e}",
                writer.release
            );
            Ok(())
        }
    }
}

/// `backup/<release>`, or with a number behind it.
fn free_folder(root: &Path, release: &str) -> PathBuf {
    let legal = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
    let plain: String = release
        .chars()
        .map(|c| if legal(c) { c } else { '-' })
        .take(50)
        .collect();
    let name = if is_name(&plain) {
        plain
    } else {
        "former".into()
    };
    let place = root.join("backup");
    let first = place.join(&name);
    let more = (2u32..).map(|n| place.join(format!("{name}-{n}")));
    // Not even a file that is in the way is overwritten.
    let free = |p: &PathBuf| p.symlink_metadata().is_err();
    std::iter::once(first.clone())
        .chain(more)
        .find(free)
        .unwrap_or(first)
}

fn forget_oldest(root: &Path) {
    let mut ours: Vec<(PathBuf, Manifest)> = copies(root)
        .into_iter()
        .filter(|(_, m)| m.before.is_some())
        .collect();
    ours.sort_by_key(|(_, m)| std::cmp::Reverse(m.created_at));
    for (folder, _) in ours.into_iter().skip(KEPT) {
        match Disk::new().remove_tree(&folder) {
            Ok(()) => tracing::info!(
                "{} was the oldest copy of its kind and is gone",
                folder.display()
            ),
            Err(e) => tracing::warn!("old copy of the state stays: {e}"),
        }
    }
}

/// Backups in the state directory, with their lists of files.
fn copies(root: &Path) -> Vec<(PathBuf, Manifest)> {
    use std::io::Read;
    let read = |folder: &Path| -> Option<Manifest> {
        let file = std::fs::File::open(folder.join(MANIFEST)).ok()?;
        let mut text = String::new();
        file.take(MAX_MANIFEST).read_to_string(&mut text).ok()?;
        serde_json::from_str(&text).ok()
    };
    let entries = std::fs::read_dir(root.join("backup"));
    entries
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|e| {
            let folder = e.path();
            read(&folder).map(|m| (folder, m))
        })
        .collect()
}

/// Why a state cannot be opened; for one that a newer release wrote, with the backup that this
/// release can read.
pub fn refusal(e: &ArchiveError, root: &Path) -> String {
    let ArchiveError::Newer { .. } = e else {
        return e.to_string();
    };
    let mut readable: Vec<(PathBuf, Manifest)> = copies(root)
        .into_iter()
        .filter(|(_, m)| m.schema <= SCHEMA)
        .collect();
    readable.sort_by_key(|(_, m)| m.created_at);
    match readable.pop() {
        None => format!(
            "{e}\n  There is no backup in {} that release {RELEASE} can read; nothing was changed",
            root.join("backup").display()
        ),
        Some((folder, m)) => {
            let shown = root.display();
            let inside = folder.strip_prefix(root).unwrap_or(&folder);
            format!(
                "{e}\n  Or go back to the state of release {} of {}; what happened since is lost, nothing was changed so far:\n  \
                 Try: mv {shown} {shown}.newer && cascade backup restore {shown}.newer/{} --state-dir {shown}",
                m.version,
                m.created_at.to_human(),
                inside.display()
            )
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(n: i64) -> Timestamp {
        Timestamp::from_secs(1_800_000_000 + n)
    }

    fn open(root: &Path) -> State {
        State::open(&Disk::new(), root).unwrap().0
    }

    fn names(root: &Path) -> Vec<String> {
        let mut names: Vec<String> = copies(root)
            .iter()
            .map(|(p, _)| p.file_name().unwrap().to_string_lossy().into_owned())
            .collect();
        names.sort();
        names
    }

    #[test]
    fn only_the_state_of_another_release_is_copied() {
        let dir = tempfile::tempdir().unwrap();
        let (root, keys) = (dir.path(), dir.path().join("keys"));
        let state = open(root);
        take_over(&state, root, &keys, at(0)).unwrap();
        take_over(&state, root, &keys, at(1)).unwrap();
        assert!(names(root).is_empty());
        state.take_over("0.0.9").unwrap();
        take_over(&state, root, &keys, at(2)).unwrap();
        assert_eq!(names(root), ["0.0.9"]);
        assert_eq!(state.writer().unwrap().unwrap().release, RELEASE);
        let (_, m) = copies(root).pop().unwrap();
        assert_eq!(
            (m.version.as_str(), m.before.as_deref()),
            ("0.0.9", Some(RELEASE))
        );
        // The copy is what it was before, and knows that it is a copy.
        let copy = open(&root.join("backup/0.0.9"));
        assert_eq!(copy.writer().unwrap().unwrap().release, "0.0.9");
        assert!(copy.is_copy().unwrap() && !state.is_copy().unwrap());
    }

    #[test]
    fn three_are_kept_and_those_of_operators_all() {
        let dir = tempfile::tempdir().unwrap();
        let (root, keys) = (dir.path(), dir.path().join("keys"));
        let state = open(root);
        let theirs = About {
            version: RELEASE,
            schema: SCHEMA,
            before: None,
        };
        let from = Sources {
            state: &state,
            root,
            keys: &keys,
        };
        copy_to(from, &root.join("backup/mine"), &theirs, at(0)).unwrap();
        for n in 0..5 {
            state.take_over("0.0.9+build/7").unwrap();
            take_over(&state, root, &keys, at(10 + n)).unwrap();
        }
        assert_eq!(names(root).len(), 4, "{:?}", names(root));
        let newest = copies(root).into_iter().map(|(_, m)| m.created_at).max();
        assert_eq!(newest, Some(at(14)));
        assert!(names(root).contains(&"mine".to_owned()));
    }

    #[test]
    fn a_newer_state_is_refused_with_the_backup_to_go_back_to() {
        let dir = tempfile::tempdir().unwrap();
        let (root, keys) = (dir.path(), dir.path().join("keys"));
        let e = ArchiveError::Newer {
            path: root.join("state.redb"),
            found: SCHEMA + 1,
            known: SCHEMA,
        };
        let said = refusal(&e, root);
        assert!(said.contains("no backup"), "{said}");
        let state = open(root);
        state.take_over("0.0.9").unwrap();
        take_over(&state, root, &keys, at(0)).unwrap();
        let said = refusal(&e, root);
        let shown = root.display();
        assert!(
            said.contains("release 0.0.9 of")
                && said.contains(&format!(
                    "cascade backup restore {shown}.newer/backup/0.0.9 --state-dir {shown}"
                )),
            "{said}"
        );
    }

    #[test]
    fn without_room_for_a_copy_an_older_layout_stays_as_it_is() {
        let dir = tempfile::tempdir().unwrap();
        let (root, keys) = (dir.path(), dir.path().join("keys"));
        let state = open(root);
        // A file in the place of the folder.
        std::fs::write(root.join("backup"), "x").unwrap();
        let older = Writer {
            schema: SCHEMA - 1,
            release: "0.0.9".into(),
        };
        let e = before(&state, &older, root, &keys, at(0)).unwrap_err();
        assert!(
            e.contains("0.0.9") && e.contains("nothing was changed"),
            "{e}"
        );
        let same = Writer {
            schema: SCHEMA,
            release: "0.0.9".into(),
        };
        before(&state, &same, root, &keys, at(0)).unwrap();
    }
}

//! The zone files: those beside this crate and those made by [`crate::generated`].

use std::fs;
use std::path::{Path, PathBuf};

use crate::generated;

/// A zone file and the zone it claims to be.
#[derive(Clone, Debug)]
pub struct Case {
    /// What it is about, unique within good and within bad.
    pub name: String,
    /// Name of the zone in presentation form without final dot, `.` for the root.
    pub zone: String,
    pub path: PathBuf,
}

/// Files that must load, be signed and be valid. Generated ones are written into `scratch`.
pub fn good(scratch: &Path) -> Vec<Case> {
    let mut cases = stored("good");
    for (name, zone, text) in generated::good() {
        let path = scratch.join(format!("{name}.zone"));
        fs::write(&path, text).expect("the scratch directory is writable");
        cases.push(Case {
            name: name.into(),
            zone,
            path,
        });
    }
    cases.push(Case {
        name: "root-of-2018".into(),
        zone: ".".into(),
        path: here().join("../data/root-2018020102.zone"),
    });
    cases
}

/// Files that must be refused.
pub fn bad(scratch: &Path) -> Vec<Case> {
    let mut cases = stored("bad");
    for (name, zone, text) in generated::bad() {
        let path = scratch.join(format!("{name}.zone"));
        fs::write(&path, text).expect("the scratch directory is writable");
        cases.push(Case {
            name: name.into(),
            zone,
            path,
        });
    }
    cases
}

/// Where this crate stands.
pub fn here() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

/// `<name>@<zone>.zone` in a folder of the corpus, in order of name.
fn stored(folder: &str) -> Vec<Case> {
    let folder = here().join("zones").join(folder);
    let mut cases = Vec::new();
    for entry in fs::read_dir(&folder).expect("the corpus stands beside the crate") {
        let path = entry.expect("the corpus can be listed").path();
        let file = path
            .file_name()
            .unwrap_or_default()
            .to_string_lossy()
            .into_owned();
        let Some(stem) = file.strip_suffix(".zone") else {
            continue;
        };
        let (name, zone) = stem.split_once('@').expect("<name>@<zone>.zone");
        let (name, zone) = (name.to_owned(), zone.replace("%2F", "/"));
        cases.push(Case { name, zone, path });
    }
    cases.sort_by(|a, b| a.name.cmp(&b.name));
    cases
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn the_corpus_is_as_large_as_promised_and_named_well() {
        let scratch = tempfile::tempdir().expect("a temporary directory");
        let (good, bad) = (good(scratch.path()), bad(scratch.path()));
        for cases in [&good, &bad] {
            let names: BTreeSet<_> = cases.iter().map(|case| &case.name).collect();
            assert_eq!(names.len(), cases.len(), "two files of one name");
        }
        println!("corpus: {} good zones, {} bad files", good.len(), bad.len());
        assert!(good.len() >= 100 && bad.len() >= 70);
    }
}

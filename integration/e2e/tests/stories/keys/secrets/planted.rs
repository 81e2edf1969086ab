//! What is planted, and where it must not turn up.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use data_encoding::{BASE64, BASE64URL_NOPAD, HEXLOWER, HEXUPPER};

/// So many octets of a secret are looked for: who shows those has shown too much.
const ENOUGH: usize = 16;

/// Secrets by name, each in the spellings in which it could be shown.
#[derive(Clone, Default)]
pub struct Planted(Vec<(String, Vec<Vec<u8>>)>);

impl Planted {
    pub fn plant(&mut self, name: &str, octets: &[u8]) {
        let part = octets.get(..ENOUGH).unwrap_or(octets);
        self.0.push((name.to_owned(), spellings(part)));
    }

    /// The private halves below `folder`; how many there are.
    pub fn key_files(&mut self, folder: &Path) -> usize {
        let files = files_below(folder);
        let private = |p: &&PathBuf| p.extension().is_some_and(|e| e == "private");
        let mut found = 0;
        for file in files.iter().filter(private) {
            let text = fs::read_to_string(file).unwrap_or_default();
            let key = text.lines().find_map(|l| l.strip_prefix("PrivateKey: "));
            let Some(octets) = key.and_then(|k| BASE64.decode(k.trim().as_bytes()).ok()) else {
                continue;
            };
            self.plant(&format!("the key of {}", file.display()), &octets);
            found += 1;
        }
        found
    }

    fn found_in(&self, octets: &[u8]) -> Option<&str> {
        let found = self
            .0
            .iter()
            .find(|(_, spellings)| spellings.iter().any(|s| holds(octets, s)));
        found.map(|(name, _)| name.as_str())
    }

    #[track_caller]
    pub fn must_not_be_in(&self, what: &str, octets: &[u8]) {
        if let Some(name) = self.found_in(octets) {
            let text = String::from_utf8_lossy(octets);
            let shown: String = text.chars().take(2000).collect();
            panic!("{name} is in {what}:\n{shown}");
        }
    }

    /// Where a secret is kept nobody else can read it, and it is kept nowhere else.
    #[track_caller]
    pub fn must_be_private(&self, site: &Path) {
        let mut kept = 0;
        for file in files_below(site) {
            let inside = file.strip_prefix(site).unwrap().to_string_lossy();
            let ours = inside.starts_with("secret-");
            let octets = fs::read(&file).unwrap_or_default();
            let Some(name) = self.found_in(&octets).filter(|_| !ours) else {
                continue;
            };
            kept += 1;
            let place = ["state/keys/", "state/backup/", "state/state.redb"]
                .iter()
                .any(|p| inside.starts_with(p));
            assert!(place, "{name} is in {inside}");
            let mode = fs::metadata(&file).unwrap().permissions().mode();
            assert_eq!(mode & 0o7777, 0o600, "{inside} has {name}");
        }
        assert!(
            kept > 4,
            "{kept}: the state has keys, TSIG secrets and PINs"
        );
    }
}

/// Any file with a private key that is in use.
pub fn a_private_file(folder: &Path) -> PathBuf {
    let in_use = |p: &PathBuf| {
        p.extension().is_some_and(|e| e == "private")
            && !p.components().any(|c| c.as_os_str() == "trash")
    };
    files_below(folder).into_iter().find(in_use).expect("a key")
}

/// Looks all the time at the modes of files with keys, and at the command lines of all programs.
pub struct Watch {
    over: Arc<AtomicBool>,
    thread: JoinHandle<Vec<String>>,
}

impl Watch {
    pub fn begin(state: &Path, planted: &Planted) -> Watch {
        let over = Arc::new(AtomicBool::new(false));
        let (stop, state, planted) = (Arc::clone(&over), state.to_owned(), planted.clone());
        let thread = std::thread::spawn(move || {
            let mut wrong = Vec::new();
            while !stop.load(Ordering::Relaxed) && wrong.len() < 5 {
                wrong.extend(open_files(&state));
                wrong.extend(command_lines(&planted));
                std::thread::sleep(Duration::from_millis(5));
            }
            wrong
        });
        Watch { over, thread }
    }

    /// What was wrong.
    pub fn end(self) -> Vec<String> {
        self.over.store(true, Ordering::Relaxed);
        self.thread.join().expect("the watch ends")
    }
}

fn open_files(state: &Path) -> Vec<String> {
    let mut wrong = Vec::new();
    for folder in ["keys", "backup"] {
        for file in files_below(&state.join(folder)) {
            // Gone meanwhile is fine.
            let Ok(meta) = fs::symlink_metadata(&file) else {
                continue;
            };
            let mode = meta.permissions().mode() & 0o7777;
            if mode != 0o600 {
                wrong.push(format!("{} has mode {mode:o}", file.display()));
            }
        }
    }
    wrong
}

fn command_lines(planted: &Planted) -> Vec<String> {
    let mut wrong = Vec::new();
    for entry in fs::read_dir("/proc").into_iter().flatten().flatten() {
        let Ok(line) = fs::read(entry.path().join("cmdline")) else {
            continue;
        };
        // The test's own shell sets the daemon's surroundings.
        if line.starts_with(b"/bin/sh\0-c\0umask 0") {
            continue;
        }
        if let Some(name) = planted.found_in(&line) {
            let line = String::from_utf8_lossy(&line).replace('\0', " ");
            wrong.push(format!("{name} is in the command line {line}"));
        }
    }
    wrong
}

fn files_below(folder: &Path) -> Vec<PathBuf> {
    let mut out = Vec::new();
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let path = entry.path();
        match entry.file_type() {
            Ok(t) if t.is_dir() => out.extend(files_below(&path)),
            Ok(t) if t.is_file() => out.push(path),
            _ => {}
        }
    }
    out.sort();
    out
}

/// As octets, in hexadecimal, in base64 wherever it begins in what was encoded, as numbers.
fn spellings(octets: &[u8]) -> Vec<Vec<u8>> {
    let mut out = vec![
        octets.to_vec(),
        HEXLOWER.encode(octets).into_bytes(),
        HEXUPPER.encode(octets).into_bytes(),
    ];
    for before in 0..3 {
        let padded = [&vec![0; before][..], octets].concat();
        // Digits that are made of other octets as well are left out.
        let (from, whole) = ((before * 8).div_ceil(6), padded.len() * 8 / 6);
        for text in [BASE64.encode(&padded), BASE64URL_NOPAD.encode(&padded)] {
            out.push(text.as_bytes()[from..whole].to_vec());
        }
    }
    let numbers: Vec<String> = octets.iter().take(8).map(u8::to_string).collect();
    out.push(numbers.join(", ").into_bytes());
    out.push(numbers.join(",").into_bytes());
    out
}

/// Whether `part` is somewhere in `octets`. Most of a state directory is room without content (64 MiB of
/// zeros are kept for a full disk), and tests are not optimised: only places that begin right are compared.
fn holds(octets: &[u8], part: &[u8]) -> bool {
    const BLOCK: usize = 4096;
    let Some(first) = part.first() else {
        return true;
    };
    let zeros = [0; BLOCK];
    let mut starts = octets.chunks(BLOCK).enumerate().flat_map(|(n, block)| {
        // Equal slices of octets are compared by the C library.
        let empty = *first != 0 && *block == zeros[..block.len()];
        let block = if empty { &[] } else { block };
        let begins = block.iter().enumerate().filter(|(_, o)| *o == first);
        begins.map(move |(i, _)| n * BLOCK + i)
    });
    starts.any(|at| octets[at..].starts_with(part))
}

#[test]
fn spellings_are_found() {
    let mut planted = Planted::default();
    planted.plant("it", b"0123456789abcdef-and-more");
    for before in ["", "x", "xy", "xyz"] {
        let text = format!("{before}0123456789abcdef-and-more");
        for shown in [
            text.clone(),
            BASE64.encode(text.as_bytes()),
            HEXUPPER.encode(text.as_bytes()),
            format!("{:?}", text.as_bytes()),
        ] {
            assert_eq!(planted.found_in(shown.as_bytes()), Some("it"), "{shown}");
        }
    }
    assert_eq!(planted.found_in(b"0123456789abcde"), None);
}

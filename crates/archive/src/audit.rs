//! The audit log: one JSON object a line, each naming the hash of the one before.
//!
//! `hash` is SHA-256 over the line as it stands, without the `hash` member: the text up to it and
//! the closing brace. So a check needs no JSON writer that agrees with ours.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use cascade_time::Timestamp;
use data_encoding::HEXLOWER;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use thiserror::Error;

use crate::disk::{Disk, MODE_STATE};
use crate::error::ArchiveError;

/// What is written; number, hashes and time are the log's.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct AuditEntry {
    /// `uid:1000(alice)`, `token:ops1`, `cascade` for automatic actions.
    pub actor: String,
    /// `unix` or an address.
    pub from: String,
    pub action: String,
    pub subject: String,
    pub request_digest: Option<String>,
    /// `ok`, `refused` or `failed`.
    pub result: String,
    pub problem: Option<String>,
    pub comment: Option<String>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AuditLine {
    pub seq: u64,
    pub at: Timestamp,
    #[serde(flatten)]
    pub entry: AuditEntry,
    pub prev: String,
    pub hash: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum AuditFault {
    #[error("line {line} is not an entry")]
    Malformed { line: u64 },
    #[error("line {line} was changed: its hash does not fit")]
    Changed { line: u64 },
    #[error("before line {line} something was removed, inserted or reordered")]
    Broken { line: u64 },
    #[error("line {line}, the last, is cut: writing was interrupted, or its end was removed")]
    Cut { line: u64 },
}

/// What a check of the whole log says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AuditSummary {
    pub entries: u64,
    /// Hash of the last entry; kept elsewhere, it proves that nothing was cut off at the end.
    pub head: String,
}

pub struct AuditLog {
    disk: Disk,
    path: PathBuf,
    file: File,
    end: u64,
    seq: u64,
    head: String,
    broken: bool,
}

/// Longest line that is written; `comment` and `subject` are cut to fit.
const MAX_TEXT: usize = 4096;
/// How much of the end of the log is read to find its last line.
const TAIL: u64 = 256 * 1024;

impl AuditLog {
    /// Opens or creates the log and goes on after its last whole line. The rest of an interrupted
    /// write is cut off; it was never acknowledged.
    ///
    /// # Errors
    /// `Damaged` when the last whole line is not an entry of ours: [`verify`] says more.
    pub fn open(disk: &Disk, path: &Path) -> Result<Self, ArchiveError> {
        let new = !path.exists();
        let mut file = disk.open_append(path, MODE_STATE)?;
        if new {
            disk.sync_dir_of(path)?;
        }
        let io = |e| ArchiveError::io("read", path, e);
        let length = file.metadata().map_err(io)?.len();
        let from = length.saturating_sub(TAIL);
        file.seek(SeekFrom::Start(from)).map_err(io)?;
        let mut tail = Vec::new();
        file.read_to_end(&mut tail).map_err(io)?;
        let whole = tail.iter().rposition(|b| *b == b'\n').map_or(0, |i| i + 1);
        let end = from + whole as u64;
        if end < length {
            disk.truncate(&file, path, end)?;
        }
        let text = tail.get(..whole.saturating_sub(1)).unwrap_or_default();
        let last = text.rsplit(|b| *b == b'\n').next().unwrap_or_default();
        let (seq, head) = if end == 0 {
            (1, genesis())
        } else {
            let line = parse(last).ok_or_else(|| {
                ArchiveError::damaged(path, crate::error::Damage::Content { at: end })
            })?;
            (line.seq.saturating_add(1), line.hash)
        };
        let disk = disk.clone();
        Ok(AuditLog {
            disk,
            path: path.to_owned(),
            file,
            end,
            seq,
            head,
            broken: false,
        })
    }

    /// Writes and syncs one entry; when this returns it is durable. Returns its number and hash.
    /// After an error the log is as before.
    pub fn append(
        &mut self,
        at: Timestamp,
        entry: &AuditEntry,
    ) -> Result<(u64, String), ArchiveError> {
        let seq = self.seq;
        self.append_all([(at, entry)])?;
        Ok((seq, self.head.clone()))
    }

    /// The same for several entries, which share one sync. After an error the log is as before.
    pub fn append_all<'a>(
        &mut self,
        entries: impl IntoIterator<Item = (Timestamp, &'a AuditEntry)>,
    ) -> Result<(), ArchiveError> {
        if self.broken {
            self.disk.truncate(&self.file, &self.path, self.end)?;
            self.broken = false;
        }
        let (mut seq, mut head) = (self.seq, self.head.clone());
        let mut text = String::new();
        for (at, entry) in entries {
            let line = AuditLine {
                seq,
                at,
                entry: bounded(entry),
                prev: head,
                hash: String::new(),
            };
            let (sealed, hash) = seal(&line).map_err(|e| ArchiveError::Value {
                table: "audit",
                key: seq.to_string(),
                detail: e.to_string(),
            })?;
            text.push_str(&sealed);
            seq = seq.saturating_add(1);
            head = hash;
        }
        if text.is_empty() {
            return Ok(());
        }
        let written = self
            .disk
            .write(&mut self.file, &self.path, text.as_bytes())
            .and_then(|()| self.disk.sync(&self.file, &self.path));
        if let Err(e) = written {
            self.broken = self
                .disk
                .truncate(&self.file, &self.path, self.end)
                .is_err();
            return Err(e);
        }
        self.end += text.len() as u64;
        (self.seq, self.head) = (seq, head);
        Ok(())
    }

    pub fn head(&self) -> &str {
        &self.head
    }
}

/// Checks every line and the chain.
pub fn verify(disk: &Disk, path: &Path) -> Result<Result<AuditSummary, AuditFault>, ArchiveError> {
    Ok(verify_bytes(&disk.read(path)?))
}

/// The same for a log in memory.
pub fn verify_bytes(bytes: &[u8]) -> Result<AuditSummary, AuditFault> {
    let mut head = genesis();
    let mut entries = 0u64;
    let mut rest = bytes;
    while !rest.is_empty() {
        let number = entries + 1;
        let Some(end) = rest.iter().position(|b| *b == b'\n') else {
            return Err(AuditFault::Cut { line: number });
        };
        let (text, later) = rest.split_at(end);
        rest = later.get(1..).unwrap_or_default();
        let line = parse(text).ok_or(AuditFault::Malformed { line: number })?;
        if !hash_fits(text, &line.hash) {
            return Err(AuditFault::Changed { line: number });
        }
        if line.prev != head || line.seq != number {
            return Err(AuditFault::Broken { line: number });
        }
        head = line.hash;
        entries = number;
    }
    Ok(AuditSummary { entries, head })
}

fn genesis() -> String {
    format!("sha256:{}", "0".repeat(64))
}

const MEMBER: &str = ",\"hash\":\"";

/// The line with its hash and line end.
fn seal(line: &AuditLine) -> Result<(String, String), serde_json::Error> {
    let mut text = serde_json::to_string(line)?;
    // The empty hash stands last: {...,"hash":""}
    let cut = text.rfind(MEMBER).unwrap_or(text.len());
    text.truncate(cut);
    let hash = digest(text.as_bytes());
    text.push_str(MEMBER);
    text.push_str(&hash);
    text.push_str("\"}\n");
    Ok((text, hash))
}

fn digest(unsealed: &[u8]) -> String {
    let mut h = Sha256::new();
    h.update(unsealed);
    h.update(b"}");
    format!("sha256:{}", HEXLOWER.encode(&h.finalize()))
}

fn hash_fits(text: &[u8], hash: &str) -> bool {
    let sealed = format!("{MEMBER}{hash}\"}}");
    text.strip_suffix(sealed.as_bytes())
        .is_some_and(|unsealed| digest(unsealed) == hash)
}

fn parse(text: &[u8]) -> Option<AuditLine> {
    serde_json::from_slice(text).ok()
}

fn bounded(e: &AuditEntry) -> AuditEntry {
    let cut = |s: &str| s.chars().take(MAX_TEXT).collect::<String>();
    AuditEntry {
        actor: cut(&e.actor),
        from: cut(&e.from),
        action: cut(&e.action),
        subject: cut(&e.subject),
        request_digest: e.request_digest.as_deref().map(cut),
        result: cut(&e.result),
        problem: e.problem.as_deref().map(cut),
        comment: e.comment.as_deref().map(cut),
    }
}

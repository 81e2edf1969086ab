//! One whole version in one file: snapshots of what is live, candidates that wait.
//!
//! Parts (a type and octets) come from the zone store and go back to it; here they are only framed.
//! A file is complete only with its footer, which says how many parts there are.

use std::io::Write;
use std::path::Path;

use bytes::Bytes;
use rayon::prelude::*;

use crate::disk::{Disk, MODE_ZONE, temporary};
use crate::error::{ArchiveError, Damage};
use crate::frame::{
    FLAG_CONTINUED, FLAG_OPTIONAL, FOOTER, FRAME_HEADER, FileHeader, FileKind, Frame, HEADER_LEN,
    HeaderError, MAJOR, frame_at, is_whole, is_whole_as, push_frame, push_part,
};

/// Hands over the parts of a version in file order, each once: `version.export_parts`.
pub type PartSource<'a> = &'a dyn Fn(&mut dyn FnMut(u8, &[u8]));

/// Slows writing down: called with the number of octets just written.
pub type Pace<'a> = &'a dyn Fn(u64);

/// A version as it was read: every check sum fits and the footer agrees.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WholeVersion {
    pub header: FileHeader,
    /// Type and octets; nearly all of them are pieces of the file as it was read.
    pub parts: Vec<(u8, Bytes)>,
    pub records: u64,
    /// Whatever the writer wanted to be kept with it (the verifier's ledger).
    pub ledger: Vec<u8>,
}

/// Part types that hold signatures and denial records: without them the content is still whole.
const SIGNED_PARTS: [u8; 2] = [0x11, 0x12];

/// Octets buffered before they are written.
const BUFFER: usize = 1 << 20;

/// Writes the file under a temporary name, syncs it, and renames it: there is the old file or the
/// new one, never a third. On an error the temporary file is removed as far as possible.
///
/// `pace` is told of octets written, between two pieces, and may take its time.
pub fn write(
    disk: &Disk,
    path: &Path,
    header: &FileHeader,
    records: u64,
    ledger: &[u8],
    parts: PartSource<'_>,
    pace: Pace<'_>,
) -> Result<(), ArchiveError> {
    let tmp = temporary(path);
    let written = write_to(disk, &tmp, header, records, ledger, parts, pace)
        .and_then(|()| disk.rename(&tmp, path));
    if written.is_err() {
        // Best effort: a left-over is ignored and overwritten by the next attempt.
        let _ = disk.remove(&tmp);
    }
    written
}

fn write_to(
    disk: &Disk,
    tmp: &Path,
    header: &FileHeader,
    records: u64,
    ledger: &[u8],
    parts: PartSource<'_>,
    pace: Pace<'_>,
) -> Result<(), ArchiveError> {
    if ledger.len() > BUFFER {
        return Err(ArchiveError::TooLarge { what: "ledger" });
    }
    let mut file = disk.create(tmp, MODE_ZONE)?;
    let mut buf = header.encode().to_vec();
    let mut seq = 0u64;
    let mut failed = None;
    let mut count = 0u64;
    parts(&mut |kind, bytes| {
        if failed.is_some() {
            return;
        }
        push_part(&mut buf, header.zone, kind, &mut seq, bytes);
        count += 1;
        if buf.len() >= BUFFER {
            failed = disk.write(&mut file, tmp, &buf).err();
            pace(buf.len() as u64);
            buf.clear();
        }
    });
    if let Some(e) = failed {
        return Err(e);
    }
    let mut footer = Vec::with_capacity(32 + ledger.len());
    footer.extend_from_slice(&records.to_le_bytes());
    footer.extend_from_slice(&count.to_le_bytes());
    footer.extend_from_slice(&header.fingerprint);
    footer.extend_from_slice(ledger);
    push_frame(&mut buf, header.zone, FOOTER, 0, seq, &footer);
    disk.write(&mut file, tmp, &buf)?;
    file.flush()
        .map_err(|e| ArchiveError::io("flush", tmp, e))?;
    disk.sync(&file, tmp)
}

/// Reads and checks a file of this kind, zone and version. Check sums are computed in parallel on
/// the current rayon pool.
///
/// # Errors
/// `Damaged` with what can be done about it; nothing of a damaged file is handed out.
pub fn read(
    disk: &Disk,
    path: &Path,
    kind: FileKind,
    zone: cascade_zone::ZoneId,
    version: cascade_zone::VersionId,
) -> Result<WholeVersion, ArchiveError> {
    let bytes = Bytes::from(disk.read(path)?);
    let damaged = |d| ArchiveError::damaged(path, d);
    let header = header_of(path, &bytes)?;
    header.expect(kind, zone, version).map_err(damaged)?;
    let frames = frames(&bytes, &header).map_err(damaged)?;
    let (footer, rest) = frames.split_last().ok_or(damaged(Damage::Torn { at: 0 }))?;
    let (records, count, ledger) =
        parse_footer(footer, &header).ok_or_else(|| damaged(Damage::Footer))?;
    let parts = join(&bytes, rest).map_err(damaged)?;
    // Optional parts of newer releases are counted too.
    if parts.len() as u64 != count {
        return Err(damaged(Damage::Footer));
    }
    Ok(WholeVersion {
        header,
        parts,
        records,
        ledger,
    })
}

pub(crate) fn header_of(path: &Path, bytes: &[u8]) -> Result<FileHeader, ArchiveError> {
    FileHeader::decode(bytes).map_err(|e| match e {
        HeaderError::Damaged => ArchiveError::damaged(path, Damage::Header),
        HeaderError::Newer { major } => ArchiveError::Newer {
            path: path.to_owned(),
            found: major.into(),
            known: MAJOR.into(),
        },
    })
}

/// All frames up to and with the footer, which must end the file.
fn frames<'a>(bytes: &'a [u8], header: &FileHeader) -> Result<Vec<Frame<'a>>, Damage> {
    let mut found = Vec::new();
    let mut at = HEADER_LEN;
    let mut seen_signed = false;
    let end = loop {
        match frame_at(bytes, at, header.zone) {
            Some((f, crc)) if f.seq == found.len() as u64 => {
                at = f.end as usize;
                seen_signed |= SIGNED_PARTS.contains(&f.kind);
                let last = f.kind == FOOTER;
                found.push((f, crc));
                if last {
                    break None;
                }
            }
            _ => break Some(at),
        }
    };
    let bad = found
        .par_iter()
        .find_first(|(f, crc)| !is_whole(bytes, f, *crc));
    if let Some((f, crc)) = bad {
        return Err(classify(bytes, f, *crc, &found));
    }
    if let Some(at) = end {
        let at64 = at as u64;
        // Nothing at all, or a frame cut short: writing stopped. Otherwise a frame header is bad.
        return Err(if is_cut(bytes, at) {
            Damage::Torn { at: at64 }
        } else if seen_signed {
            Damage::Signatures { at: at64 }
        } else {
            Damage::Content { at: at64 }
        });
    }
    if at != bytes.len() {
        return Err(Damage::Footer);
    }
    Ok(found.into_iter().map(|(f, _)| f).collect())
}

/// A frame's type octet may itself be the damaged one: if another type makes the check sum fit, that
/// was its type. A bad frame counts as signatures only when no content follows it.
fn classify(bytes: &[u8], bad: &Frame<'_>, crc: u32, all: &[(Frame<'_>, u32)]) -> Damage {
    let at = bad.start;
    let kind = (0..=u8::MAX)
        .find(|kind| is_whole_as(bytes, bad, *kind, crc))
        .unwrap_or(bad.kind);
    let content_later = all
        .iter()
        .filter(|(f, _)| f.seq > bad.seq && f.kind != FOOTER)
        .any(|(f, _)| !SIGNED_PARTS.contains(&f.kind));
    match kind {
        FOOTER => Damage::Footer,
        k if SIGNED_PARTS.contains(&k) && !content_later => Damage::Signatures { at },
        _ => Damage::Content { at },
    }
}

/// Whether what stands at `at` is the beginning of a frame that the end of the file cuts.
fn is_cut(bytes: &[u8], at: usize) -> bool {
    let rest = bytes.get(at..).unwrap_or_default();
    let Some(head) = rest.first_chunk::<4>() else {
        return true;
    };
    let len = u32::from_le_bytes(*head) as usize;
    rest.len() < FRAME_HEADER + len && len <= crate::frame::PAYLOAD_MAX
}

fn parse_footer(f: &Frame<'_>, header: &FileHeader) -> Option<(u64, u64, Vec<u8>)> {
    let (records, rest) = f.payload.split_first_chunk::<8>()?;
    let (count, rest) = rest.split_first_chunk::<8>()?;
    let (fingerprint, ledger) = rest.split_first_chunk::<16>()?;
    (f.kind == FOOTER && *fingerprint == header.fingerprint).then(|| {
        (
            u64::from_le_bytes(*records),
            u64::from_le_bytes(*count),
            ledger.to_vec(),
        )
    })
}

/// The parts that the frames of `file` hold.
fn join(file: &Bytes, frames: &[Frame<'_>]) -> Result<Vec<(u8, Bytes)>, Damage> {
    let mut out: Vec<(u8, Bytes)> = Vec::with_capacity(frames.len());
    // A part of several frames, until its last one is there.
    let mut open: Option<(u8, Vec<u8>)> = None;
    for f in frames {
        let continued = f.flags & FLAG_CONTINUED != 0;
        match &mut open {
            Some((kind, bytes)) if *kind == f.kind => bytes.extend_from_slice(f.payload),
            Some(_) => return Err(Damage::Content { at: f.start }),
            None if continued => open = Some((f.kind, f.payload.to_vec())),
            None => out.push((f.kind, file.slice_ref(f.payload))),
        }
        if !continued && let Some((kind, bytes)) = open.take() {
            out.push((kind, bytes.into()));
        }
        // Compression and whatever newer minors invent is not optional for content.
        if f.flags & !(FLAG_CONTINUED | FLAG_OPTIONAL) != 0 {
            return Err(Damage::Content { at: f.start });
        }
    }
    if open.is_some() {
        return Err(Damage::Footer);
    }
    Ok(out)
}

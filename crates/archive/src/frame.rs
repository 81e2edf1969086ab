//! File header and frames: the form of every zone file.
//!
//! ```text
//! header 72: magic 8, major 2, minor 2, kind 1, 0, header length 2, zone 16, version 8, serial 4,
//!            created 8, fingerprint 16 (with 4 octets of CRC over 0..67 at 68)
//! frame:     payload length 4, type 1, flags 1, last two octets of the zone id 2, sequence 8,
//!            CRC 4 over octets 0..15 and the payload; then the payload
//! ```
//! All numbers are little-endian. The check is CRC-32 (ISO-HDLC) by `crc32fast`, which uses
//! carry-less multiplication: several GB/s on a core, and it detects the same error classes as
//! CRC-32C at these lengths.

use cascade_time::Timestamp;
use cascade_zone::{Serial, VersionId, ZoneId};

use crate::error::Damage;

pub const MAGIC: &[u8; 8] = b"CASCADE\0";
/// Format that is written; the same and the one before are read.
pub const MAJOR: u16 = 1;
pub const MINOR: u16 = 0;
pub const HEADER_LEN: usize = 72;
pub const FRAME_HEADER: usize = 20;
/// Longest payload of one frame; longer parts continue in the next frame.
pub const PAYLOAD_MAX: usize = 4 << 20;

/// An unknown type may be skipped.
pub const FLAG_OPTIONAL: u8 = 1;
/// The part goes on in the next frame, of the same type.
pub const FLAG_CONTINUED: u8 = 4;

pub const DELTA_BEGIN: u8 = 0x20;
pub const DELTA_CHUNK: u8 = 0x21;
pub const DELTA_END: u8 = 0x22;
pub const FOOTER: u8 = 0x7f;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FileKind {
    Snapshot,
    Journal,
    Candidate,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FileHeader {
    pub kind: FileKind,
    pub zone: ZoneId,
    /// Snapshot, candidate: the version inside. Journal: the version it starts after.
    pub version: VersionId,
    pub serial: Serial,
    pub created: Timestamp,
    /// Full fingerprint of that version; of the content for a candidate without signatures.
    pub fingerprint: [u8; 16],
}

/// Why a header is not one of ours.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HeaderError {
    Damaged,
    Newer { major: u16 },
}

impl FileKind {
    fn code(self) -> u8 {
        match self {
            FileKind::Snapshot => 1,
            FileKind::Journal => 2,
            FileKind::Candidate => 3,
        }
    }
}

impl FileHeader {
    pub fn encode(&self) -> [u8; HEADER_LEN] {
        let mut out = Vec::with_capacity(HEADER_LEN);
        out.extend_from_slice(MAGIC);
        out.extend_from_slice(&MAJOR.to_le_bytes());
        out.extend_from_slice(&MINOR.to_le_bytes());
        out.push(self.kind.code());
        out.push(0);
        out.extend_from_slice(&(HEADER_LEN as u16).to_le_bytes());
        out.extend_from_slice(&self.zone.0);
        out.extend_from_slice(&self.version.0.to_le_bytes());
        out.extend_from_slice(&self.serial.0.to_le_bytes());
        out.extend_from_slice(&self.created.secs().to_le_bytes());
        out.extend_from_slice(&self.fingerprint);
        let crc = crc32fast::hash(&out);
        out.extend_from_slice(&crc.to_le_bytes());
        let mut fixed = [0; HEADER_LEN];
        fixed.copy_from_slice(&out);
        fixed
    }

    /// Reads the header of a file. A newer major is only believed when the check fits.
    pub fn decode(bytes: &[u8]) -> Result<FileHeader, HeaderError> {
        let h: &[u8; HEADER_LEN] = bytes.first_chunk().ok_or(HeaderError::Damaged)?;
        if !h.starts_with(MAGIC) || crc32fast::hash(&h[..68]) != le32(h, 68) {
            return Err(HeaderError::Damaged);
        }
        let major = u16::from_le_bytes([h[8], h[9]]);
        if major > MAJOR {
            return Err(HeaderError::Newer { major });
        }
        let kind = match h[12] {
            1 => FileKind::Snapshot,
            2 => FileKind::Journal,
            3 => FileKind::Candidate,
            _ => return Err(HeaderError::Damaged),
        };
        if major == 0 || usize::from(u16::from_le_bytes([h[14], h[15]])) != HEADER_LEN {
            return Err(HeaderError::Damaged);
        }
        let mut zone = [0; 16];
        zone.copy_from_slice(&h[16..32]);
        let mut fingerprint = [0; 16];
        fingerprint.copy_from_slice(&h[52..68]);
        Ok(FileHeader {
            kind,
            zone: ZoneId(zone),
            version: VersionId(le64(h, 32)),
            serial: Serial(le32(h, 40)),
            created: Timestamp::from_secs(le64(h, 44) as i64),
            fingerprint,
        })
    }

    /// Whether the file is what its name and the state say.
    pub fn expect(&self, kind: FileKind, zone: ZoneId, version: VersionId) -> Result<(), Damage> {
        if self.zone != zone {
            return Err(Damage::OtherZone);
        }
        if self.kind != kind || self.version != version {
            return Err(Damage::WrongVersion);
        }
        Ok(())
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Frame<'a> {
    pub kind: u8,
    pub flags: u8,
    pub seq: u64,
    /// Offset of its first octet and of the octet after it.
    pub start: u64,
    pub end: u64,
    pub payload: &'a [u8],
}

/// Appends one frame. The payload must not exceed [`PAYLOAD_MAX`]; [`push_part`] splits.
pub(crate) fn push_frame(
    out: &mut Vec<u8>,
    zone: ZoneId,
    kind: u8,
    flags: u8,
    seq: u64,
    payload: &[u8],
) {
    let start = out.len();
    out.extend_from_slice(&(payload.len() as u32).to_le_bytes());
    out.extend_from_slice(&[kind, flags, zone.0[14], zone.0[15]]);
    out.extend_from_slice(&seq.to_le_bytes());
    let mut crc = crc32fast::Hasher::new();
    crc.update(&out[start..]);
    crc.update(payload);
    out.extend_from_slice(&crc.finalize().to_le_bytes());
    out.extend_from_slice(payload);
}

/// Appends one part as as many frames as it needs; counts `seq` on.
pub(crate) fn push_part(out: &mut Vec<u8>, zone: ZoneId, kind: u8, seq: &mut u64, bytes: &[u8]) {
    let mut rest = bytes;
    loop {
        let (now, later) = rest.split_at(rest.len().min(PAYLOAD_MAX));
        let flags = if later.is_empty() { 0 } else { FLAG_CONTINUED };
        push_frame(out, zone, kind, flags, *seq, now);
        *seq += 1;
        rest = later;
        if rest.is_empty() {
            return;
        }
    }
}

/// The frame that starts at `at`, if its length fits into the file and its zone and sequence are
/// the expected ones. The check sum is not looked at: see [`Frame::is_whole`].
pub(crate) fn frame_at(bytes: &[u8], at: usize, zone: ZoneId) -> Option<(Frame<'_>, u32)> {
    let h: &[u8; FRAME_HEADER] = bytes.get(at..)?.first_chunk()?;
    let len = le32(h, 0) as usize;
    if len > PAYLOAD_MAX || h[6..8] != zone.0[14..16] {
        return None;
    }
    let start = at + FRAME_HEADER;
    let payload = bytes.get(start..start.checked_add(len)?)?;
    let frame = Frame {
        kind: h[4],
        flags: h[5],
        seq: le64(h, 8),
        start: at as u64,
        end: (start + len) as u64,
        payload,
    };
    Some((frame, le32(h, 16)))
}

/// Whether header and payload have this check sum.
pub(crate) fn is_whole(bytes: &[u8], frame: &Frame<'_>, crc: u32) -> bool {
    is_whole_as(bytes, frame, frame.kind, crc)
}

/// The same, were `kind` the type of the frame.
pub(crate) fn is_whole_as(bytes: &[u8], frame: &Frame<'_>, kind: u8, crc: u32) -> bool {
    let start = usize::try_from(frame.start).unwrap_or(usize::MAX);
    let head = bytes.get(start..).and_then(|b| b.first_chunk::<16>());
    let Some(mut head) = head.copied() else {
        return false;
    };
    head[4] = kind;
    let mut h = crc32fast::Hasher::new();
    h.update(&head);
    h.update(frame.payload);
    h.finalize() == crc
}

/// Whether any whole frame of the zone, with a later number, starts after `from`. An interrupted
/// write leaves none.
pub(crate) fn good_frame_after(bytes: &[u8], from: usize, zone: ZoneId, seq: u64) -> bool {
    let tail = bytes.get(from..).unwrap_or_default();
    (1..tail.len().saturating_sub(FRAME_HEADER - 1)).any(|i| {
        frame_at(bytes, from + i, zone).is_some_and(|(f, crc)| {
            f.seq > seq && f.seq < seq + (1 << 32) && is_whole(bytes, &f, crc)
        })
    })
}

fn le32(b: &[u8], at: usize) -> u32 {
    b.get(at..at + 4)
        .and_then(|s| s.try_into().ok())
        .map_or(0, u32::from_le_bytes)
}

fn le64(b: &[u8], at: usize) -> u64 {
    b.get(at..at + 8)
        .and_then(|s| s.try_into().ok())
        .map_or(0, u64::from_le_bytes)
}

//! The octets that an RRSIG signs (RFC 4034 §3.1.8.1, §6).

use cascade_zone::{Rtype, canon, key};

/// Offsets in the preimage of what depends on the key.
const ALGORITHM: usize = 2;
const KEY_TAG: usize = 16;

/// One RRset while its preimage is written.
pub(crate) struct Preimage<'a> {
    out: &'a mut Vec<u8>,
    owner: &'a [u8],
    rtype: Rtype,
    ttl: u32,
}

impl<'a> Preimage<'a> {
    /// Begins with the RRSIG RDATA up to the signer's name; algorithm and key tag are left 0, see
    /// [`set_key`]. `owner` and `signer` are in lower case.
    pub fn start(
        out: &'a mut Vec<u8>,
        owner: &'a [u8],
        rtype: Rtype,
        ttl: u32,
        (inception, expiration): (u32, u32),
        signer: &[u8],
    ) -> Preimage<'a> {
        out.clear();
        out.extend_from_slice(&rtype.0.to_be_bytes());
        out.extend_from_slice(&[0, key::rrsig_labels(owner)]);
        for field in [ttl, expiration, inception] {
            out.extend_from_slice(&field.to_be_bytes());
        }
        out.extend_from_slice(&[0, 0]);
        out.extend_from_slice(signer);
        Preimage {
            out,
            owner,
            rtype,
            ttl,
        }
    }

    /// Adds a record whose RDATA `write` appends; it must be in canonical form.
    pub fn record(&mut self, write: impl FnOnce(&mut Vec<u8>)) {
        self.out.extend_from_slice(self.owner);
        self.out.extend_from_slice(&self.rtype.0.to_be_bytes());
        self.out.extend_from_slice(&[0, 1]);
        self.out.extend_from_slice(&self.ttl.to_be_bytes());
        let at = self.out.len();
        self.out.extend_from_slice(&[0, 0]);
        write(self.out);
        // RDATA has at most 65,535 octets wherever it came from.
        let len = (self.out.len() - at - 2) as u16;
        self.out[at..at + 2].copy_from_slice(&len.to_be_bytes());
    }

    /// Adds a record as stored.
    pub fn rdata(&mut self, rdata: &[u8], lower: bool) {
        let rtype = self.rtype;
        self.record(|out| match lower {
            true => canon::push_canonical(rtype, rdata, out),
            false => out.extend_from_slice(rdata),
        });
    }
}

/// Makes a preimage that of one key.
pub(crate) fn set_key(preimage: &mut [u8], algorithm: u8, tag: u16) {
    if let Some(a) = preimage.get_mut(ALGORITHM) {
        *a = algorithm;
    }
    if let Some(t) = preimage.get_mut(KEY_TAG..KEY_TAG + 2) {
        t.copy_from_slice(&tag.to_be_bytes());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn layout() {
        let mut out = vec![9; 3];
        let owner = b"\x01*\x01a\x00";
        let mut p = Preimage::start(&mut out, owner, Rtype::MX, 5, (6, 7), b"\x01a\x00");
        p.rdata(b"\x00\x01\x01B\x00", true);
        set_key(&mut out, 13, 0x1234);
        let mut want = vec![
            0, 15, 13, 1, 0, 0, 0, 5, 0, 0, 0, 7, 0, 0, 0, 6, 0x12, 0x34, 1, b'a', 0,
        ];
        want.extend_from_slice(owner);
        want.extend_from_slice(&[0, 15, 0, 1, 0, 0, 0, 5, 0, 5, 0, 1, 1, b'b', 0]);
        assert_eq!(out, want);
    }
}

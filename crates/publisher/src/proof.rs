//! Which denial records an answer needs (RFC 4035 §3.1.3, RFC 5155 §7.2).
//!
//! Records are collected while the answer section is made and written once each afterwards.

use cascade_zone::denial::{Denial, Row};
use cascade_zone::key;
use cascade_zone::version::{Owner, ZoneVersion};
use sha1::{Digest, Sha1};

use crate::answer::Scratch;
use crate::lookup::Stop;

pub(crate) struct Proofs<'v> {
    version: &'v ZoneVersion,
    wanted: bool,
    /// Owners whose NSEC goes into the answer.
    pub nsec: Vec<Owner<'v>>,
    pub nsec3: Vec<Row<'v>>,
}

const NO_NSEC: Stop = Stop::Broken("no NSEC covers the name");
const COLLISION: Stop = Stop::Broken("NSEC3 hash of the name equals that of an existing one");

impl<'v> Proofs<'v> {
    pub fn new(version: &'v ZoneVersion, wanted: bool) -> Self {
        Proofs {
            version,
            wanted,
            nsec: Vec::new(),
            nsec3: Vec::new(),
        }
    }

    /// The owner exists without the type. Also: an insecure cut (RFC 5155 §7.2.4, §7.2.7).
    pub fn no_data(&mut self, owner: &Owner<'v>, s: &mut Scratch) -> Result<(), Stop> {
        if !self.wanted {
            return Ok(());
        }
        match self.version.denial() {
            Denial::None => Ok(()),
            Denial::Nsec { .. } => {
                self.add_nsec(owner.clone());
                Ok(())
            }
            Denial::Nsec3 { .. } => self.match_or_opt_out(s),
        }
    }

    /// The name in the scratch exists without data (RFC 5155 §7.2.3 for NSEC3).
    pub fn empty_non_terminal(&mut self, s: &mut Scratch) -> Result<(), Stop> {
        if !self.wanted {
            return Ok(());
        }
        match self.version.denial() {
            Denial::None => Ok(()),
            Denial::Nsec { .. } => self.cover_nsec(&s.key),
            Denial::Nsec3 { .. } => self.match_or_opt_out(s),
        }
    }

    /// Neither the name nor a wildcard for it exists.
    pub fn name_error(&mut self, encloser: usize, s: &mut Scratch) -> Result<(), Stop> {
        if !self.wanted {
            return Ok(());
        }
        match self.version.denial() {
            Denial::None => Ok(()),
            Denial::Nsec { .. } => {
                self.cover_nsec(&s.key)?;
                self.cover_nsec(&s.other_key)
            }
            Denial::Nsec3 { .. } => {
                let proven = self.closest_provable(encloser, s)?;
                s.other_key.clear();
                s.other_key.extend_from_slice(&s.key[..proven]);
                s.other_key.extend_from_slice(b"*\0");
                let hash = self.hash(&s.other_key, &mut s.wire);
                match self.cover(&hash) {
                    // Under opt-out the provable encloser can lie above the real one, and a
                    // wildcard may exist there; the opt-out span already makes this insecure.
                    Err(COLLISION) if proven < encloser => Ok(()),
                    other => other,
                }
            }
        }
    }

    /// A wildcard answered for a name that does not exist (RFC 5155 §7.2.6).
    pub fn wildcard_answer(&mut self, encloser: usize, s: &mut Scratch) -> Result<(), Stop> {
        if !self.wanted {
            return Ok(());
        }
        match self.version.denial() {
            Denial::None => Ok(()),
            Denial::Nsec { .. } => self.cover_nsec(&s.key),
            Denial::Nsec3 { .. } => self.cover_next_closer(encloser, s),
        }
    }

    /// The wildcard that would answer lacks the type (RFC 5155 §7.2.5).
    pub fn wildcard_no_data(
        &mut self,
        wild: &Owner<'v>,
        encloser: usize,
        s: &mut Scratch,
    ) -> Result<(), Stop> {
        if !self.wanted {
            return Ok(());
        }
        match self.version.denial() {
            Denial::None => Ok(()),
            Denial::Nsec { .. } => {
                self.add_nsec(wild.clone());
                self.cover_nsec(&s.key)
            }
            Denial::Nsec3 { .. } => {
                self.closest_provable(encloser, s)?;
                let hash = self.hash(wild.key(), &mut s.wire);
                if self.matching(&hash) {
                    Ok(())
                } else {
                    Err(Stop::Broken("wildcard without NSEC3"))
                }
            }
        }
    }

    // ---- NSEC

    fn cover_nsec(&mut self, key: &[u8]) -> Result<(), Stop> {
        let owner = self.version.pred_bearing(key).ok_or(NO_NSEC)?;
        self.add_nsec(owner);
        Ok(())
    }

    fn add_nsec(&mut self, owner: Owner<'v>) {
        if self.nsec.iter().all(|o| o.key() != owner.key()) {
            self.nsec.push(owner);
        }
    }

    // ---- NSEC3

    /// The record of the name in the scratch; where opt-out left it out, the closest provable
    /// encloser instead.
    fn match_or_opt_out(&mut self, s: &mut Scratch) -> Result<(), Stop> {
        let hash = self.hash(&s.key, &mut s.wire);
        if self.matching(&hash) {
            return Ok(());
        }
        let parent = key::parent(&s.key)
            .ok_or(Stop::Broken("apex without NSEC3"))?
            .len();
        self.closest_provable(parent, s).map(|_| ())
    }

    /// RFC 5155 §7.2.1: matching the closest encloser, at or above `from`, that has a record;
    /// covering the next closer name. Gives the length of that encloser's key.
    fn closest_provable(&mut self, from: usize, s: &mut Scratch) -> Result<usize, Stop> {
        let mut len = from;
        loop {
            let hash = self.hash(&s.key[..len], &mut s.wire);
            if self.matching(&hash) {
                break;
            }
            len = key::parent(&s.key[..len])
                .ok_or(Stop::Broken("apex without NSEC3"))?
                .len();
        }
        self.cover_next_closer(len, s)?;
        Ok(len)
    }

    fn cover_next_closer(&mut self, encloser: usize, s: &mut Scratch) -> Result<(), Stop> {
        let more = s.key[encloser..]
            .iter()
            .position(|&b| b == 0)
            .map_or(0, |i| i + 1);
        let hash = self.hash(&s.key[..encloser + more], &mut s.wire);
        self.cover(&hash)
    }

    fn matching(&mut self, hash: &[u8; 20]) -> bool {
        let row = self
            .version
            .chain()
            .and_then(|c| c.matching(self.version, hash));
        row.map(|r| self.add_nsec3(r)).is_some()
    }

    fn cover(&mut self, hash: &[u8; 20]) -> Result<(), Stop> {
        let row = self
            .version
            .chain()
            .and_then(|c| c.covering(self.version, hash))
            .ok_or(COLLISION)?;
        self.add_nsec3(row);
        Ok(())
    }

    fn add_nsec3(&mut self, row: Row<'v>) {
        if self.nsec3.iter().all(|r| r.hash() != row.hash()) {
            self.nsec3.push(row);
        }
    }

    /// RFC 5155 §5, over the name in lower case.
    fn hash(&self, key: &[u8], wire: &mut Vec<u8>) -> [u8; 20] {
        let Denial::Nsec3 { params, .. } = self.version.denial() else {
            return [0; 20];
        };
        wire.clear();
        key::push_wire(key, None, self.version.apex_lower(), wire);
        wire.extend_from_slice(&params.salt);
        let mut hash: [u8; 20] = Sha1::digest(&wire[..]).into();
        for _ in 0..params.iterations {
            hash = Sha1::new()
                .chain_update(hash)
                .chain_update(&params.salt)
                .finalize()
                .into();
        }
        hash
    }
}

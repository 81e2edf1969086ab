//! The NSEC3 chain: hashes of owners and empty non-terminals, sorted, linked, signed
//! (RFC 5155 §7.1).

use cascade_zone::block::{
    BLOCK_ROWS, Bitmaps, BlockBuilder, BlockRef, ChainContext, Hash, Nsec3Params, push_base32hex,
};
use cascade_zone::denial::{bitmap_types, push_bitmap};
use cascade_zone::leaf::Flags;
use cascade_zone::version::ZoneVersion;
use cascade_zone::{Name, Rtype, key};
use rayon::prelude::*;
use sha1::{Digest, Sha1};

use crate::piece::{ALL, Entry, Group, Keys, Piece};
use crate::refresh::Spread;
use crate::rrsig::Preimage;
use crate::sign::SignError;

/// The NSEC3 hash of a name in lower case and wire form (RFC 5155 §5).
pub fn nsec3_hash(name: &[u8], salt: &[u8], iterations: u16) -> Hash {
    let mut hash: Hash = Sha1::new()
        .chain_update(name)
        .chain_update(salt)
        .finalize()
        .into();
    for _ in 0..iterations {
        hash = Sha1::new()
            .chain_update(hash)
            .chain_update(salt)
            .finalize()
            .into();
    }
    hash
}

/// A row of the chain: hash, and which bitmap.
pub(crate) type Row = (Hash, u32);

/// All rows in hash order, and the bitmaps they name.
pub(crate) struct Rows {
    pub rows: Vec<Row>,
    pub bitmaps: Bitmaps,
}

/// True if the owner has an NSEC3 record: nothing occluded, and with opt-out no insecure cut.
pub(crate) fn bears(flags: Flags, params: &Nsec3Params) -> bool {
    let opted_out = params.opt_out && flags.is_cut() && !flags.is_secure();
    !flags.is_occluded() && !opted_out
}

/// What one unit gives.
#[derive(Default)]
struct UnitRows {
    rows: Vec<Row>,
    bitmaps: Bitmaps,
    /// Keys of its first and last bearing owners.
    first: Vec<u8>,
    last: Vec<u8>,
    any: bool,
}

/// Hashes all bearing owners and empty non-terminals. Runs on the current pool.
pub(crate) fn collect(version: &ZoneVersion, params: &Nsec3Params) -> Rows {
    let units: Vec<UnitRows> = (0..version.unit_count())
        .into_par_iter()
        .map(|i| unit_rows(version, i, params))
        .collect();
    let total = units.iter().map(|u| u.rows.len()).sum();
    let mut all = Rows {
        rows: Vec::with_capacity(total),
        bitmaps: Bitmaps::default(),
    };
    let mut last: Vec<u8> = Vec::new();
    let mut wire = Vec::new();
    for unit in units.iter().filter(|u| u.any) {
        for ent in ents_between(&last, &unit.first) {
            all.rows.push(hash_key(version, ent, params, &mut wire));
        }
        let ids: Vec<u32> = unit.bitmaps.iter().map(|b| all.bitmaps.intern(b)).collect();
        let renumber = |&(hash, id): &Row| (hash, ids.get(id as usize).copied().unwrap_or(0));
        all.rows.extend(unit.rows.iter().map(renumber));
        last.clone_from(&unit.last);
    }
    all
}

fn unit_rows(version: &ZoneVersion, i: usize, params: &Nsec3Params) -> UnitRows {
    let unit = version.unit(i);
    let mut out = UnitRows {
        rows: Vec::with_capacity(unit.owner_count() + 8),
        ..Default::default()
    };
    let (mut wire, mut types, mut bitmap) = (Vec::new(), Vec::new(), Vec::new());
    for owner in unit.owners().filter(|o| bears(o.flags(), params)) {
        let k = owner.key();
        if out.any {
            let UnitRows { rows, last, .. } = &mut out;
            rows.extend(ents_between(last, k).map(|ent| hash_key(version, ent, params, &mut wire)));
        } else {
            // What lies between the previous unit's last and this one is seen when joining.
            out.first.extend_from_slice(k);
            out.any = true;
        }
        bitmap_types(owner.flags(), owner.types(), false, &mut types);
        bitmap.clear();
        push_bitmap(&types, &mut bitmap);
        let id = out.bitmaps.intern(&bitmap);
        let (hash, _) = hash_key(version, k, params, &mut wire);
        out.rows.push((hash, id));
        out.last.clear();
        out.last.extend_from_slice(k);
    }
    out
}

/// Hash of the name of `key`, with the empty bitmap.
fn hash_key(version: &ZoneVersion, key: &[u8], params: &Nsec3Params, wire: &mut Vec<u8>) -> Row {
    wire.clear();
    key::push_wire(key, None, version.apex_lower(), wire);
    (nsec3_hash(wire, &params.salt, params.iterations), 0)
}

/// The empty non-terminals between consecutive bearing owners `p` < `q`: ancestors of `q` below
/// the apex that are neither `p` nor above it. (An ancestor that is an owner bears, because
/// nothing below a cut or DNAME does; so it is `p` or above it.)
fn ents_between<'a>(p: &'a [u8], q: &'a [u8]) -> impl Iterator<Item = &'a [u8]> {
    key::ancestors_from_apex(q).filter(move |a| a.len() < q.len() && !p.starts_with(a))
}

impl Rows {
    /// Sorts by hash (RFC 5155 §7.1 step 5). Runs on the current pool.
    ///
    /// # Errors
    /// Two names with one hash: the zone cannot be denied with these parameters.
    pub fn sort(&mut self, version: &ZoneVersion, params: &Nsec3Params) -> Result<(), SignError> {
        self.rows.par_sort_unstable();
        match self.rows.par_windows(2).find_any(|w| w[0].0 == w[1].0) {
            Some(w) => {
                let (a, b) = names_of(version, params, &w[0].0);
                Err(SignError::HashCollision { a, b })
            }
            None => Ok(()),
        }
    }
}

/// The names behind a hash. A walk over the zone, for an error that nobody will ever see.
fn names_of(version: &ZoneVersion, params: &Nsec3Params, hash: &Hash) -> (Name, Name) {
    let (mut found, mut wire, mut last) = (Vec::new(), Vec::new(), Vec::new());
    for owner in version
        .units()
        .flat_map(|u| u.owners())
        .filter(|o| bears(o.flags(), params))
    {
        for k in ents_between(&last, owner.key()).chain([owner.key()]) {
            if hash_key(version, k, params, &mut wire).0 == *hash {
                found.push(key::to_name(k, None, version.apex()));
            }
        }
        last = owner.key().to_vec();
    }
    let mut name = || found.pop().unwrap_or_else(|| version.apex().clone());
    (name(), name())
}

/// One NSEC3 record.
pub(crate) struct Nsec3<'a> {
    pub hash: &'a Hash,
    pub next: &'a Hash,
    pub bitmap: &'a [u8],
    pub params: &'a Nsec3Params,
    pub ttl: u32,
}

/// Puts what is signed of an NSEC3 record into the piece's scratch.
pub(crate) fn write_preimage(
    piece: &mut Piece,
    record: &Nsec3<'_>,
    times: (u32, u32),
    apex: &[u8],
) {
    let Piece { owner, scratch, .. } = piece;
    owner.clear();
    owner.push(32);
    push_base32hex(record.hash, owner);
    owner.extend_from_slice(apex);
    let params = record.params;
    let mut preimage = Preimage::start(scratch, owner, Rtype::NSEC3, record.ttl, times, apex);
    preimage.record(|out| {
        out.extend_from_slice(&[params.algorithm, params.opt_out as u8]);
        out.extend_from_slice(&params.iterations.to_be_bytes());
        out.push(params.salt.len() as u8);
        out.extend_from_slice(&params.salt);
        out.push(20);
        out.extend_from_slice(record.next);
        out.extend_from_slice(record.bitmap);
    });
}

/// What all blocks of a job share.
pub(crate) struct ChainPlan<'a> {
    pub version: &'a ZoneVersion,
    pub keys: &'a Keys,
    pub spread: &'a Spread,
    pub params: &'a Nsec3Params,
    pub ttl: u32,
    pub rows: &'a Rows,
    /// Rows per block; the last block may have fewer.
    pub per_block: usize,
}

impl<'a> ChainPlan<'a> {
    /// Blocks of about 128 rows, all of nearly equal size.
    pub fn block_count(rows: usize) -> (usize, usize) {
        let blocks = ((rows + BLOCK_ROWS / 2) / BLOCK_ROWS).max(1);
        let per_block = rows.div_ceil(blocks).max(1);
        (rows.div_ceil(per_block), per_block)
    }

    fn block(&self, i: usize) -> &'a [Row] {
        let rows = &self.rows.rows;
        let start = (i * self.per_block).min(rows.len());
        &rows[start..rows.len().min(start + self.per_block)]
    }

    /// First hash of the block after block `i`; the first of all after the last.
    fn next(&self, i: usize) -> Hash {
        let rows = &self.rows.rows;
        rows.get((i + 1) * self.per_block)
            .or(rows.first())
            .map_or([0; 20], |r| r.0)
    }

    pub fn prepare(&self, i: usize, piece: &mut Piece) -> Result<(), SignError> {
        let rows = self.block(i);
        let Some(first) = rows.first() else {
            return Ok(());
        };
        piece.expiration = self.spread.block(&first.0);
        let times = (self.spread.inception(), piece.expiration);
        let apex = self.version.apex_lower();
        for (n, (hash, bitmap)) in rows.iter().enumerate() {
            let next = rows.get(n + 1).map_or_else(|| self.next(i), |r| r.0);
            write_preimage(
                piece,
                &Nsec3 {
                    hash,
                    next: &next,
                    bitmap: self.rows.bitmaps.get(*bitmap),
                    params: self.params,
                    ttl: self.ttl,
                },
                times,
                apex,
            );
            piece.add(
                self.keys,
                Entry {
                    ordinal: n as u16,
                    set: 0,
                    group: Group::Zone,
                    slots: ALL,
                },
            )?;
        }
        piece.denial = rows.len() as u64;
        Ok(())
    }

    pub fn finish(&self, i: usize, piece: &Piece) -> Result<(BlockRef, u64), SignError> {
        let mut builder = BlockBuilder::new();
        for (hash, bitmap) in self.block(i) {
            builder.row(*hash, *bitmap);
        }
        let inception = self.spread.inception();
        piece.for_each_signature(self.keys, |entry, slot, signature| {
            builder.sig(entry.ordinal, slot, inception, piece.expiration, signature);
        })?;
        let context = ChainContext {
            zone: self.version.zone(),
            apex: self.version.apex(),
            params: self.params,
            bitmaps: &self.rows.bitmaps,
            keys: self.version.key_table(),
        };
        let block = builder.build(
            &self.next(i),
            self.ttl,
            &context,
            self.version.made_at().to_wire(),
        );
        Ok((block, piece.zone_signatures(self.keys)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hashes_of_rfc5155() {
        // RFC 5155 App. A: salt aabbccdd, 12 iterations.
        for (name, hash) in [
            ("example", "0p9mhaveqvm6t7vbl5lop2u3t2rp3tom"),
            ("a.example", "35mthgpgcu1qg68fab165klnsnk3dpvl"),
            ("ai.example", "gjeqe526plbf1g8mklp59enfd789njgi"),
            ("*.w.example", "r53bq7cc2uvmubfu5ocmm6pers9tk9en"),
            ("x.y.w.example", "2vptu5timamqttgl4luu9kg21e0aor3s"),
        ] {
            let name = Name::parse(name).unwrap();
            let mut text = Vec::new();
            push_base32hex(
                &nsec3_hash(name.as_wire(), &[0xaa, 0xbb, 0xcc, 0xdd], 12),
                &mut text,
            );
            assert_eq!(text, hash.as_bytes());
        }
    }

    #[test]
    fn equal_hashes_are_named_and_refused() {
        let apex = Name::parse("example").unwrap();
        let mut batch = cascade_zone::RecordBatch::new();
        batch.owner(b"", None);
        batch.push(Rtype::SOA, 60, &[0; 22], 0).unwrap();
        batch.owner(b"a\0b\0", None);
        batch.push(Rtype::A, 60, &[192, 0, 2, 1], 0).unwrap();
        let (zone, id) = (cascade_zone::ZoneId([1; 16]), cascade_zone::VersionId(1));
        let builder = cascade_zone::Builder::new(zone, id, &apex, Default::default());
        let version = builder.batches(vec![batch]).build().unwrap();
        let params = Nsec3Params {
            algorithm: 1,
            iterations: 0,
            salt: vec![],
            opt_out: false,
        };
        let mut rows = collect(&version, &params);
        assert_eq!(rows.rows.len(), 3);
        assert_eq!(rows.sort(&version, &params), Ok(()));
        let ent = nsec3_hash(b"\x01a\x07example\x00", &[], 0);
        rows.rows.push((ent, 7));
        match rows.sort(&version, &params) {
            Err(SignError::HashCollision { a, .. }) => assert_eq!(a.to_string(), "a.example."),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn ents_between_owners() {
        let ents = |p: &'static [u8], q: &'static [u8]| ents_between(p, q).collect::<Vec<_>>();
        assert_eq!(ents(b"", b"a\0"), Vec::<&[u8]>::new());
        assert_eq!(ents(b"", b"a\0b\0c\0"), [&b"a\0"[..], b"a\0b\0"]);
        assert_eq!(ents(b"a\0b\0c\0", b"a\0b\0d\0"), Vec::<&[u8]>::new());
        assert_eq!(ents(b"a\0x\0", b"ab\0x\0"), [&b"ab\0"[..]]);
        assert_eq!(ents(b"a\0", b"a\0b\0c\0"), [&b"a\0b\0"[..]]);
    }

    #[test]
    fn blocks_are_of_even_size() {
        for rows in [1usize, 2, 127, 128, 129, 191, 192, 193, 1000, 4097] {
            let (blocks, per) = ChainPlan::block_count(rows);
            assert!(blocks * per >= rows && (blocks - 1) * per < rows);
            assert!(per <= 192, "{rows} rows in blocks of {per}");
        }
    }
}

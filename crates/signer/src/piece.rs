//! A piece of work: the preimages of one leaf or block, and the signatures over them.
//!
//! Software keys sign on the pool's threads. Batches for tokens are submitted from the job's own
//! thread, window by window, so that no pool thread ever waits.

use std::ops::Range;
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::sync::{Arc, atomic::AtomicU64, atomic::Ordering::Relaxed};
use std::time::Duration;

use cascade_crypto::{
    Batch, Input, MAX_BATCH, Mode, SignFailure, Signatures, SigningKey, Ticket, verify,
};
use cascade_time::Timestamp;
use cascade_zone::Rtype;
use rayon::prelude::*;

use crate::job::{Job, Stage};
use crate::rrsig::set_key;
use crate::sign::SignError;

/// Pieces whose batches are at tokens at the same time: some thousand signatures, a few MiB.
const WINDOW: usize = 64;
/// A batch with a wrong signature is signed this often in all.
const ATTEMPTS: u32 = 3;
/// How often a waiting job looks whether it was cancelled.
const LOOK: Duration = Duration::from_millis(50);

/// A key of the job and its slot in the version.
pub(crate) struct SlotKey {
    pub slot: u8,
    pub tag: u16,
    pub key: Arc<dyn SigningKey>,
    pub made: AtomicU64,
    pub retries: AtomicU64,
    pub waited: AtomicU64,
}

/// Which keys sign a set.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Group {
    /// The zone's data.
    Zone = 0,
    Dnskey = 1,
    /// CDS and CDNSKEY.
    Cds = 2,
}

impl Group {
    pub fn of(rtype: Rtype, at_apex: bool) -> Group {
        match rtype {
            Rtype::DNSKEY if at_apex => Group::Dnskey,
            Rtype::CDS | Rtype::CDNSKEY if at_apex => Group::Cds,
            _ => Group::Zone,
        }
    }
}

/// The groups of keys, each in slot order.
pub(crate) type Keys = [Vec<SlotKey>; 3];

/// What was signed: set `set` of the owner with this ordinal (leaf), or row `ordinal` (block).
#[derive(Clone, Copy, Debug)]
pub(crate) struct Entry {
    pub ordinal: u16,
    pub set: u16,
    pub group: Group,
    /// Bit k: the key in slot k signs; keys of other groups do not, whatever this says.
    pub slots: u16,
}

/// All keys of the group sign.
pub(crate) const ALL: u16 = u16::MAX;

/// A signature taken over from the version before.
#[derive(Clone, Copy, Debug)]
struct Kept {
    ordinal: u16,
    set: u16,
    slot: u8,
    times: (u32, u32),
    at: usize,
    len: usize,
}

/// A signature of a finished piece, made or kept.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Made<'a> {
    pub ordinal: u16,
    pub set: u16,
    pub slot: u8,
    pub times: (u32, u32),
    pub signature: &'a [u8],
}

/// Batches and signatures of one key; memory is kept from piece to piece.
#[derive(Default)]
struct Lane {
    batches: Vec<Batch>,
    used: usize,
    sigs: Vec<Signatures>,
    /// For tokens whose signatures nobody has verified: the preimages, by which that is done here.
    checks: Vec<Batch>,
}

/// How a leaf lies to one of the version before from which most of it is taken over.
#[derive(Default)]
pub(crate) struct Beside {
    /// That unit.
    pub was: usize,
    /// Owners whose signatures stay: there, and the first of them here.
    pub kept: Vec<(Range<u16>, u16)>,
    /// Numbers of all other owners: there, and here.
    pub gone: Vec<u16>,
    pub come: Vec<u16>,
}

#[derive(Default)]
pub(crate) struct Piece {
    pub entries: Vec<Entry>,
    /// Leaf: key of the owner that the last NSEC names.
    pub next: Vec<u8>,
    /// Denial records made.
    pub denial: u64,
    /// Leaf: some owner of it has an NSEC.
    pub bearing: bool,
    /// Expiration of the piece's signatures.
    pub expiration: u32,
    pub scratch: Vec<u8>,
    pub owner: Vec<u8>,
    pub bearer: Vec<u8>,
    pub bitmap: Vec<u8>,
    pub types: Vec<Rtype>,
    /// Denial RDATA as it shall be, and as it was.
    pub denial_rdata: Vec<u8>,
    pub before: Vec<u8>,
    kept: Vec<Kept>,
    kept_octets: Vec<u8>,
    /// Leaf: what it has of the one before.
    pub beside: Option<Beside>,
    lanes: [Vec<Lane>; 3],
}

impl Piece {
    pub fn reset(&mut self, keys: &Keys) {
        self.entries.clear();
        self.next.clear();
        self.denial = 0;
        self.bearing = false;
        self.kept.clear();
        self.kept_octets.clear();
        self.beside = None;
        for (lanes, keys) in self.lanes.iter_mut().zip(keys) {
            lanes.resize_with(keys.len(), Lane::default);
            lanes.iter_mut().for_each(|l| l.used = 0);
        }
    }

    /// Adds the preimage in `scratch` for every key of the entry's group.
    pub fn add(&mut self, keys: &Keys, entry: Entry) -> Result<(), SignError> {
        let group = entry.group as usize;
        for (lane, key) in self.lanes[group].iter_mut().zip(&keys[group]) {
            if entry.slots >> key.slot & 1 == 0 {
                continue;
            }
            set_key(&mut self.scratch, key.key.algorithm().number(), key.tag);
            lane.push(key, &self.scratch)?;
        }
        self.entries.push(entry);
        Ok(())
    }

    /// Takes a signature over as it is.
    pub fn keep(&mut self, ordinal: u16, set: u16, slot: u8, times: (u32, u32), signature: &[u8]) {
        self.kept.push(Kept {
            ordinal,
            set,
            slot,
            times,
            at: self.kept_octets.len(),
            len: signature.len(),
        });
        self.kept_octets.extend_from_slice(signature);
    }

    /// Signatures taken over.
    pub fn kept(&self) -> usize {
        self.kept.len()
    }

    /// Signs what is for keys in this process.
    fn sign_inline(&mut self, keys: &Keys) -> Result<(), SignError> {
        for (lanes, keys) in self.lanes.iter_mut().zip(keys) {
            for (lane, key) in lanes.iter_mut().zip(keys) {
                lane.sigs
                    .resize_with(lane.used.max(lane.sigs.len()), Signatures::new);
                let Mode::Inline(signer) = key.key.mode() else {
                    continue;
                };
                for (batch, out) in lane.batches[..lane.used].iter().zip(&mut lane.sigs) {
                    signer.sign_batch(batch, out).map_err(|e| key.failed(e))?;
                    key.made.fetch_add(batch.len() as u64, Relaxed);
                }
            }
        }
        Ok(())
    }

    /// Calls `f` with every entry's slot and signature: entries in order, keys in slot order.
    pub fn for_each_signature<'p>(
        &'p self,
        keys: &Keys,
        mut f: impl FnMut(&Entry, u8, &'p [u8]),
    ) -> Result<(), SignError> {
        let mut at = self.lanes.each_ref().map(|lanes| vec![0usize; lanes.len()]);
        for entry in &self.entries {
            let group = entry.group as usize;
            for (n, key) in keys[group].iter().enumerate() {
                if entry.slots >> key.slot & 1 == 0 {
                    continue;
                }
                let i = at[group][n];
                at[group][n] += 1;
                let signature = self.lanes[group][n]
                    .sigs
                    .get(i / MAX_BATCH)
                    .and_then(|s| s.get(i % MAX_BATCH));
                // A signer that reports success without all signatures is broken.
                let missing = || key.failed(SignFailure::Library(key.key.algorithm()));
                f(entry, key.slot, signature.ok_or_else(missing)?);
            }
        }
        Ok(())
    }

    /// All signatures of the piece, made and kept, by owner, set and slot. `times`: of those that
    /// were made.
    pub fn all_signatures(
        &self,
        keys: &Keys,
        times: impl Fn(Group) -> (u32, u32),
    ) -> Result<Vec<Made<'_>>, SignError> {
        let kept = |k: &Kept| Made {
            ordinal: k.ordinal,
            set: k.set,
            slot: k.slot,
            times: k.times,
            signature: self.kept_octets.get(k.at..k.at + k.len).unwrap_or(&[]),
        };
        let mut all: Vec<Made<'_>> = self.kept.iter().map(kept).collect();
        self.for_each_signature(keys, |entry, slot, signature| {
            all.push(Made {
                ordinal: entry.ordinal,
                set: entry.set,
                slot,
                times: times(entry.group),
                signature,
            });
        })?;
        all.sort_by_key(|m| (m.ordinal, m.set, m.slot));
        Ok(all)
    }

    /// Signatures made: by zone-signing keys, and by all.
    pub fn counts(&self, keys: &Keys) -> (u64, u64) {
        let masks = keys.each_ref().map(|k| slots_of(k));
        let mut made = [0u64; 3];
        for e in &self.entries {
            let group = e.group as usize;
            made[group] += (e.slots & masks[group]).count_ones() as u64;
        }
        (made[0], made.iter().sum())
    }

    /// Signatures by zone-signing keys.
    pub fn zone_signatures(&self, keys: &Keys) -> u64 {
        self.counts(keys).0
    }
}

/// The slots of a group of keys.
pub(crate) fn slots_of(keys: &[SlotKey]) -> u16 {
    keys.iter().fold(0, |mask, k| mask | 1 << k.slot)
}

impl SlotKey {
    pub fn failed(&self, failure: SignFailure) -> SignError {
        SignError::Key {
            id: self.key.id(),
            tag: self.tag,
            failure,
        }
    }

    fn is_queued(&self) -> bool {
        matches!(self.key.mode(), Mode::Queued(_))
    }

    /// Its signatures come from elsewhere, unseen.
    fn is_unverified(&self) -> bool {
        self.is_queued() && !self.key.is_verified()
    }
}

impl Lane {
    fn push(&mut self, key: &SlotKey, preimage: &[u8]) -> Result<(), SignError> {
        if self.used == 0 || self.batches[self.used - 1].is_full() {
            self.open(key.key.input());
        }
        let last = self.used - 1;
        let mut pushed = self.batches[last].push(preimage);
        if key.is_unverified() {
            pushed &= self.checks[last].push(preimage);
        }
        if pushed {
            Ok(())
        } else {
            Err(SignError::TooLarge)
        }
    }

    fn open(&mut self, input: Input) {
        if self.batches.len() == self.used {
            self.batches.push(Batch::new(input));
            self.checks.push(Batch::new(Input::Preimage));
        }
        self.batches[self.used].reset(input);
        self.checks[self.used].reset(Input::Preimage);
        self.used += 1;
    }
}

type Prepare<'a> = &'a (dyn Fn(usize, &mut Piece) -> Result<(), SignError> + Sync);
type Finish<'a, R> = &'a (dyn Fn(usize, &Piece) -> Result<R, SignError> + Sync);

/// Prepares, signs and finishes pieces 0..n in parallel; results in order.
pub(crate) fn run<R: Send>(
    n: usize,
    keys: &Keys,
    job: &Job<'_>,
    now: Timestamp,
    prepare: Prepare<'_>,
    finish: Finish<'_, R>,
) -> Result<Vec<R>, SignError> {
    let start = |i: usize, piece: &mut Piece| {
        if job.progress.is_cancelled() {
            return Err(SignError::Cancelled);
        }
        piece.reset(keys);
        prepare(i, piece)?;
        piece.sign_inline(keys)
    };
    let end = |i: usize, piece: &Piece| {
        let result = finish(i, piece)?;
        job.progress.unit_done(piece.entries.len());
        Ok(result)
    };
    if !keys.iter().flatten().any(SlotKey::is_queued) {
        return job.pool.install(|| {
            (0..n)
                .into_par_iter()
                .map_init(Piece::default, |piece, i| {
                    start(i, piece)?;
                    end(i, piece)
                })
                .collect()
        });
    }
    let mut results = Vec::with_capacity(n);
    for first in (0..n).step_by(WINDOW) {
        let window = first..n.min(first + WINDOW);
        let mut pieces: Vec<Piece> = job.pool.install(|| {
            let make = |i| {
                let mut piece = Piece::default();
                start(i, &mut piece).map(|()| piece)
            };
            window
                .clone()
                .into_par_iter()
                .map(make)
                .collect::<Result<_, _>>()
        })?;
        sign_queued(&mut pieces, keys, job, now)?;
        let done: Vec<R> = job.pool.install(|| {
            window
                .into_par_iter()
                .zip(&pieces)
                .map(|(i, p)| end(i, p))
                .collect::<Result<_, _>>()
        })?;
        results.extend(done);
    }
    Ok(results)
}

/// Where a batch stands: piece, group, key, batch number.
type Place = (usize, usize, usize, usize);

/// Has all batches for tokens signed, verifies the signatures that nobody has verified yet, repeats
/// batches with a wrong one.
fn sign_queued(
    pieces: &mut [Piece],
    keys: &Keys,
    job: &Job<'_>,
    now: Timestamp,
) -> Result<(), SignError> {
    let mut todo: Vec<Place> = Vec::new();
    for (p, piece) in pieces.iter().enumerate() {
        for (g, lanes) in piece.lanes.iter().enumerate() {
            for (l, lane) in lanes
                .iter()
                .enumerate()
                .filter(|(l, _)| keys[g][*l].is_queued())
            {
                todo.extend((0..lane.used).map(|b| (p, g, l, b)));
            }
        }
    }
    job.progress.enter(Stage::TokenWait);
    for attempt in 1.. {
        submit_and_wait(&todo, pieces, keys, job, now)?;
        // Verification costs more than signing did here, so it goes to the pool.
        let pieces = &*pieces;
        let wrong: Vec<Place> = job.pool.install(|| {
            todo.par_iter()
                .copied()
                .filter(|at| !is_right(*at, pieces, keys))
                .collect()
        });
        let Some(&(_, g, l, _)) = wrong.first() else {
            break;
        };
        if attempt == ATTEMPTS {
            return Err(keys[g][l].failed(SignFailure::WrongSignature));
        }
        for (_, g, l, _) in &wrong {
            keys[*g][*l].retries.fetch_add(1, Relaxed);
        }
        todo = wrong;
    }
    job.progress.enter(Stage::Signing);
    Ok(())
}

fn is_right((p, g, l, b): Place, pieces: &[Piece], keys: &Keys) -> bool {
    let lane = &pieces[p].lanes[g][l];
    let key = &keys[g][l];
    let dnskey = key.key.dnskey();
    let (Some(batch), Some(checks), Some(sigs)) =
        (lane.batches.get(b), lane.checks.get(b), lane.sigs.get(b))
    else {
        return false;
    };
    if !key.is_unverified() {
        return sigs.len() == batch.len();
    }
    checks
        .items()
        .enumerate()
        .all(|(i, m)| sigs.get(i).is_some_and(|s| verify(dnskey, m, s)))
}

fn submit_and_wait(
    todo: &[Place],
    pieces: &mut [Piece],
    keys: &Keys,
    job: &Job<'_>,
    now: Timestamp,
) -> Result<(), SignError> {
    let (send, receive) = channel();
    let started = job.clock.monotonic();
    let mut tickets: Vec<(Place, Ticket)> = Vec::with_capacity(todo.len());
    for &(p, g, l, b) in todo {
        let key = &keys[g][l];
        let Mode::Queued(signer) = key.key.mode() else {
            continue;
        };
        let batch = std::mem::replace(
            &mut pieces[p].lanes[g][l].batches[b],
            Batch::new(key.key.input()),
        );
        let send = send.clone();
        // A receiver that is gone means that the job has ended.
        let done = Box::new(move |batch, result| drop(send.send(((p, g, l, b), batch, result))));
        let ticket = signer.submit(batch, job.class, now + job.token_wait, done);
        tickets.push(((p, g, l, b), ticket));
    }
    drop(send);
    let mut waiting = tickets.len();
    let mut failure = None;
    while waiting > 0 && failure.is_none() {
        match receive.recv_timeout(LOOK) {
            Ok(((p, g, l, b), batch, result)) => {
                waiting -= 1;
                let (lane, key) = (&mut pieces[p].lanes[g][l], &keys[g][l]);
                key.made.fetch_add(batch.len() as u64, Relaxed);
                key.waited
                    .store((job.clock.monotonic() - started).as_nanos() as u64, Relaxed);
                lane.batches[b] = batch;
                match result {
                    Ok(sigs) => lane.sigs[b] = sigs,
                    Err(e) => failure = Some(key.failed(e)),
                }
            }
            Err(RecvTimeoutError::Timeout) if job.progress.is_cancelled() => {
                failure = Some(SignError::Cancelled);
            }
            Err(RecvTimeoutError::Timeout) => {}
            // A signer dropped its completion: it is gone.
            Err(RecvTimeoutError::Disconnected) => {
                let key = tickets.first().map(|((_, g, l, _), _)| &keys[*g][*l]);
                failure = key.map(|k| k.failed(SignFailure::Unreachable));
                break;
            }
        }
    }
    let Some(failure) = failure else {
        return Ok(());
    };
    for ((_, g, l, _), ticket) in tickets {
        if let Mode::Queued(signer) = keys[g][l].key.mode() {
            signer.cancel(ticket);
        }
    }
    Err(failure)
}

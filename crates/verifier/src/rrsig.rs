//! RRSIGs: fields, times, preimage, and verification in batches.

use sha2::{Digest, Sha256};

use crate::context::Context;
use crate::engine::EngineCounts;
use crate::finding::{Check, Finding, Sink};
use crate::group::{Group, Rec};
use crate::keys::{Keys, MAX_KEYS};
use crate::memo::{Memo, entry};
use crate::p256;
use crate::rdata::t;
use crate::wire::{self, hex};

/// Signatures and octets collected before they are verified, grouped by key: enough for tables to
/// pay, few enough to stay small beside the zone.
const BATCH: usize = 4096;
const BATCH_OCTETS: usize = 2 << 20;
/// What batches up to this many verify is noted: the sample answers of a small zone, or around a
/// small change, show the same signatures again.
const NOTED: usize = 64;

/// RRSIG RDATA (RFC 4034 §3.1).
pub(crate) struct Rrsig<'a> {
    pub(crate) algorithm: u8,
    pub(crate) labels: u8,
    pub(crate) original_ttl: u32,
    pub(crate) expiration: u32,
    pub(crate) inception: u32,
    pub(crate) tag: u16,
    pub(crate) signer: &'a [u8],
    pub(crate) signature: &'a [u8],
    /// Everything before the signature.
    pub(crate) head: &'a [u8],
}

impl<'a> Rrsig<'a> {
    pub(crate) fn parse(rdata: &'a [u8]) -> Option<Rrsig<'a>> {
        let signer_len = wire::name_len(rdata.get(18..)?)?;
        Some(Rrsig {
            algorithm: rdata[2],
            labels: rdata[3],
            original_ttl: wire::u32_at(rdata, 4),
            expiration: wire::u32_at(rdata, 8),
            inception: wire::u32_at(rdata, 12),
            tag: wire::u16_at(rdata, 16),
            signer: &rdata[18..18 + signer_len],
            signature: &rdata[18 + signer_len..],
            head: &rdata[..18 + signer_len],
        })
    }
}

struct Job {
    key: u8,
    rtype: u16,
    owner: (u32, u8),
    message: (u32, u32),
    signature: (u32, u32),
}

/// Signatures to verify, and what verification found.
pub(crate) struct Batch {
    jobs: Vec<Job>,
    octets: Vec<u8>,
    pub(crate) checked: [u64; MAX_KEYS],
    pub(crate) engine: EngineCounts,
}

impl Default for Batch {
    fn default() -> Self {
        Batch {
            jobs: Vec::new(),
            octets: Vec::new(),
            checked: [0; MAX_KEYS],
            engine: EngineCounts::default(),
        }
    }
}

impl Batch {
    /// Verifies all that was collected; V03 for what does not.
    pub(crate) fn flush(&mut self, keys: &Keys, sink: &mut Sink) {
        self.jobs.sort_by_key(|j| j.key);
        let octets = &self.octets;
        for jobs in self.jobs.chunk_by(|a, b| a.key == b.key) {
            let place = jobs[0].key as usize;
            let key = &keys.list[place];
            self.checked[place] += jobs.len() as u64;
            let ring =
                |job: &Job| key.verifies(part(octets, job.message), part(octets, job.signature));
            let mut told = |job: &Job| {
                let owner = part(octets, (job.owner.0, job.owner.1 as u32));
                sink.push(|| bad_signature(owner, job.rtype, key.tag, &key.sha256));
            };
            match by_tables(keys, place, octets, jobs, &ring, &mut self.engine) {
                Some(bad) => bad.into_iter().for_each(|i| told(&jobs[i])),
                None if jobs.len() <= NOTED => {
                    for job in jobs {
                        let (message, sig) =
                            (part(octets, job.message), part(octets, job.signature));
                        match key.verifies(message, sig) {
                            true => Memo::process().note(entry(&key.sha256, message, sig)),
                            false => told(job),
                        }
                    }
                }
                None => jobs.iter().filter(|job| !ring(job)).for_each(told),
            }
        }
        self.jobs.clear();
        self.octets.clear();
    }
}

fn part(octets: &[u8], (at, len): (u32, u32)) -> &[u8] {
    &octets[at as usize..(at + len) as usize]
}

/// Places of the jobs that do not verify; `None` when ring must say.
fn by_tables(
    keys: &Keys,
    place: usize,
    octets: &[u8],
    jobs: &[Job],
    ring: &dyn Fn(&Job) -> bool,
    counts: &mut EngineCounts,
) -> Option<Vec<usize>> {
    let (engine, table) = keys.table(place, jobs.len() as u64)?;
    let digested: Vec<p256::Job<'_>> = jobs
        .iter()
        .map(|job| p256::Job {
            digest: Sha256::digest(part(octets, job.message)).into(),
            signature: part(octets, job.signature),
        })
        .collect();
    let mut bad = Vec::new();
    engine
        .judge(table, &digested, |i| ring(&jobs[i]), &mut bad, counts)
        .then_some(bad)
}

impl Batch {
    /// Verifies what is left and gives the buffers back: results of many units wait for the joiner.
    pub(crate) fn finish(&mut self, keys: &Keys, sink: &mut Sink) {
        self.flush(keys, sink);
        (self.jobs, self.octets) = (Vec::new(), Vec::new());
    }
}

/// Appends the signed octets (RFC 4034 §3.1.8.1).
pub(crate) fn push_message(out: &mut Vec<u8>, sig: &Rrsig<'_>, group: &Group, set: &[Rec]) {
    out.extend_from_slice(sig.head);
    let mut owner = group.name.as_slice();
    let mut prefix: &[u8] = &[];
    if (sig.labels as usize) < wire::label_count(owner) - wire::is_wildcard(owner) as usize {
        owner = wire::suffix(owner, sig.labels as usize);
        prefix = b"\x01*";
    }
    let mut last: Option<&[u8]> = None;
    for rec in set {
        let rdata = group.rdata(rec);
        // RFC 4034 §6.3: duplicates count once.
        if last == Some(rdata) {
            continue;
        }
        last = Some(rdata);
        out.extend_from_slice(prefix);
        out.extend_from_slice(owner);
        out.extend_from_slice(&rec.rtype.to_be_bytes());
        out.extend_from_slice(&[0, 1]);
        out.extend_from_slice(&sig.original_ttl.to_be_bytes());
        out.extend_from_slice(&(rdata.len() as u16).to_be_bytes());
        out.extend_from_slice(rdata);
    }
}

fn bad_signature(owner: &[u8], rtype: u16, tag: u16, sha256: &[u8]) -> Finding {
    let key = hex(&sha256[..4]);
    Finding::at(
        Check::V03,
        owner,
        rtype,
        format!("signature by key {tag} does not verify (key bytes sha256 {key}…)"),
    )
}

/// How to treat the signatures of an RRset.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Trust {
    /// Verify, together with others, when the batch is full.
    Batched,
    /// Verify now: the caller needs to know who signed.
    Now,
    /// Verified before, octet for octet, over the same RRset and with the same key.
    Carried,
}

/// Checks one RRSIG over `set`; gives the place of the key that made it, as far as is known.
pub(crate) fn check_rrsig(
    ctx: &Context<'_>,
    group: &Group,
    set: &[Rec],
    rec: &Rec,
    trust: Trust,
    batch: &mut Batch,
    sink: &mut Sink,
) -> Option<usize> {
    let owner = group.name.as_slice();
    let rtype = set[0].rtype;
    // V01 has told of RDATA that does not decode.
    let sig = Rrsig::parse(group.rdata(rec))?;
    let labels_fit = check_fields(ctx, owner, &set[0], rec, &sig, sink);
    // Carried ones are judged by the histogram of the ledger; those that all others hang on, each time.
    let key_set = matches!(rtype, t::DNSKEY | t::CDS | t::CDNSKEY);
    if trust != Trust::Carried || key_set {
        check_times(ctx, owner, rtype, &sig, sink);
    }
    let candidates = ctx.keys.candidates(sig.tag, sig.algorithm);
    let stray =
        (0..ctx.keys.list.len()).find(|&i| candidates >> i & 1 == 1 && !ctx.keys.list[i].may_sign);
    if let Some(i) = stray.filter(|_| candidates.count_ones() == 1) {
        let tag = ctx.keys.list[i].tag;
        sink.push(|| {
            Finding::at(
                Check::V07,
                owner,
                rtype,
                format!("RRSIG by key {tag}, which has left the DNSKEY RRset"),
            )
        });
    }
    if trust == Trust::Carried && candidates.count_ones() == 1 {
        return Some(candidates.trailing_zeros() as usize);
    }
    if !labels_fit {
        return None;
    }
    let start = batch.octets.len();
    push_message(&mut batch.octets, &sig, group, set);
    if candidates.count_ones() == 1 && trust == Trust::Batched {
        let key = candidates.trailing_zeros() as usize;
        let message = (start as u32, (batch.octets.len() - start) as u32);
        let signature = (batch.octets.len() as u32, sig.signature.len() as u32);
        batch.octets.extend_from_slice(sig.signature);
        let at = batch.octets.len() as u32;
        batch.octets.extend_from_slice(owner);
        batch.jobs.push(Job {
            key: key as u8,
            rtype,
            owner: (at, owner.len() as u8),
            message,
            signature,
        });
        if batch.jobs.len() >= BATCH || batch.octets.len() > BATCH_OCTETS {
            batch.flush(&ctx.keys, sink);
        }
        return Some(key);
    }
    let message = &batch.octets[start..];
    let found = ctx.keys.find(candidates, message, sig.signature);
    if let Some(key) = found {
        batch.checked[key] += 1;
    } else if candidates != 0 {
        let key = &ctx.keys.list[candidates.trailing_zeros() as usize];
        sink.push(|| bad_signature(owner, rtype, key.tag, &key.sha256));
    } else {
        let other = ctx
            .keys
            .find(ctx.keys.of_algorithm(sig.algorithm), message, sig.signature);
        sink.push(|| match other {
            Some(key) => Finding::at(
                Check::V04,
                owner,
                rtype,
                "key tag of an RRSIG is not that of the key that made it",
            )
            .expected(ctx.keys.list[key].tag, sig.tag),
            None => Finding::at(
                Check::V07,
                owner,
                rtype,
                format!(
                    "RRSIG by key {} of algorithm {}, which is not in the DNSKEY RRset",
                    sig.tag, sig.algorithm
                ),
            ),
        });
    }
    batch.octets.truncate(start);
    found
}

/// V04. False when no preimage can be made.
fn check_fields(
    ctx: &Context<'_>,
    owner: &[u8],
    set: &Rec,
    rec: &Rec,
    sig: &Rrsig<'_>,
    sink: &mut Sink,
) -> bool {
    let mut wrong = |what: &str, expected: String, found: String| {
        let what = format!("{what} of an RRSIG by key {}", sig.tag);
        sink.push(|| Finding::at(Check::V04, owner, set.rtype, what).expected(expected, found));
    };
    // RFC 4034 §3.1.3: without the root and a leading asterisk label.
    let labels = wire::label_count(owner) - wire::is_wildcard(owner) as usize;
    if sig.labels as usize != labels {
        wrong("labels field", labels.to_string(), sig.labels.to_string());
    }
    if sig.original_ttl != set.ttl {
        wrong(
            "original TTL",
            set.ttl.to_string(),
            sig.original_ttl.to_string(),
        );
    }
    if rec.ttl != set.ttl {
        wrong("TTL", set.ttl.to_string(), rec.ttl.to_string());
    }
    // The group holds the canonical form, so another spelling of the apex is told by the scan of
    // the records as served (see `signer_spelling`).
    if sig.signer != ctx.apex_name {
        wrong(
            "signer's name",
            wire::show(&ctx.apex_name),
            wire::show(sig.signer),
        );
    }
    sig.labels as usize <= labels
}

/// V04: the signer's name stands in lower case in what is served (RFC 4034 §3.1.7, §6.2), so that
/// validators that forget to lower it agree with those that do not.
pub(crate) fn signer_spelling(owner: &[u8], rtype: u16, rdata: &[u8], sink: &mut Sink) {
    if rtype == t::RRSIG
        && rdata
            .get(18..)
            .and_then(wire::name_len)
            .is_some_and(|n| rdata[18..18 + n].iter().any(u8::is_ascii_uppercase))
    {
        sink.push(|| {
            Finding::at(
                Check::V04,
                owner,
                wire::u16_at(rdata, 0),
                "signer's name of an RRSIG is not in lower case",
            )
        });
    }
}

/// V05; all by serial arithmetic (RFC 4034 §3.1.5, RFC 1982).
fn check_times(ctx: &Context<'_>, owner: &[u8], rtype: u16, sig: &Rrsig<'_>, sink: &mut Sink) {
    let now = ctx.now_wire;
    let mut wrong = |what: String| sink.push(|| Finding::at(Check::V05, owner, rtype, what));
    let left = sig.expiration.wrapping_sub(now) as i32;
    let age = now.wrapping_sub(sig.inception) as i32;
    let span = sig.expiration.wrapping_sub(sig.inception);
    let key_set = matches!(rtype, t::DNSKEY | t::CDS | t::CDNSKEY);
    let of_keys = ctx.params.min_remaining_key_set.filter(|_| key_set);
    let needed = of_keys.map_or(ctx.min_remaining, |n| n.min(ctx.min_remaining));
    if left < 0 {
        wrong(format!(
            "signature by key {} has expired, or expires 2^31 seconds away",
            sig.tag
        ));
    } else if (left as u32) < needed {
        wrong(format!(
            "signature by key {} expires in {left} s; at least {needed} s are needed",
            sig.tag
        ));
    }
    // Five minutes for validators whose clock is behind.
    if age < 300 {
        wrong(format!(
            "signature by key {} begins less than 5 min ago, or in the future",
            sig.tag
        ));
    }
    if span == 0 || span >= 1 << 31 {
        wrong(format!(
            "signature by key {} expires before it begins",
            sig.tag
        ));
        return;
    }
    let limit = if key_set {
        ctx.params.max_span_key_set
    } else {
        ctx.params.max_span
    };
    if let Some(limit) = limit.filter(|&l| span > l) {
        wrong(format!(
            "signature by key {} is valid for {span} s; the policy allows {limit} s",
            sig.tag
        ));
    }
}

//! What a change costs: records edited, signed on the grounds of the version before, and judged by
//! the difference; on a zone of any size.

use std::path::Path;
use std::time::Instant;

use cascade_crypto::Class;
use cascade_loader::Outcome as LoadOutcome;
use cascade_signer::{
    ApexKey, DenialPlan, Job, Progress, Resigned, Scope, Signed, sign, sign_from,
};
use cascade_time::Clock;
use cascade_verifier::{
    Ledger, Outcome, Params, Predecessor, StoreDelta, fingerprint_seed, verify_changed, verify_full,
};
use cascade_zone::{Edit, Name, Rtype, VersionId, ZoneVersion};

use crate::floor::Floor;
use crate::stages::{Watch, keys, load_stage, plan, timed};
use crate::table::{Limit, Row};

/// As policies have it.
const KEY_SET_REMAIN: u32 = 7 * 86_400;
/// Single changes that are measured; the median counts.
const SINGLE: u32 = 41;
const MANY: usize = 10_000;

/// A zone on its way.
struct Zone {
    base: ZoneVersion,
    signed: ZoneVersion,
    ledger: Ledger,
    keys: [ApexKey; 2],
    denial: DenialPlan,
    pool: rayon::ThreadPool,
    clock: Watch,
    n: u32,
}

/// What one version took.
#[derive(Clone, Copy, Debug, Default)]
struct Took {
    update: f64,
    sign: f64,
    verify: f64,
    signatures: u64,
    /// Leaves and blocks that are new objects.
    anew: usize,
    units: usize,
}

/// Measures and gives the rows of the table.
///
/// # Errors
/// Names what went wrong.
pub fn run(path: &Path, apex: &str, denial: DenialPlan, floor: &Floor) -> Result<Vec<Row>, String> {
    let mut zone = Zone::new(path, apex, denial)?;
    let owners = zone.owners();
    let at = |i: usize, of: usize| owners[(i * owners.len() / of).min(owners.len() - 1)].clone();

    let mut single = Vec::new();
    for i in 0..SINGLE as usize {
        let name = at(i, SINGLE as usize);
        single.push(zone.change(vec![delegation(&name, i as u8)])?);
    }
    let mut added = Vec::new();
    for i in 0..SINGLE as usize {
        let name = [
            &at(i, SINGLE as usize)[..name_end(&at(i, SINGLE as usize))],
            b"-new\0",
        ]
        .concat();
        added.push(zone.change(vec![delegation(&name, 1), ds(&name)])?);
    }
    let edits = (0..MANY).map(|i| delegation(&at(i, MANY), 99)).collect();
    let many_insecure = zone.change(edits)?;
    let edits = (0..MANY).map(|i| ds(&at(i, MANY))).collect();
    let many = zone.change(edits)?;
    let nothing = zone.nothing()?;
    Ok(rows(single, added, many_insecure, many, nothing, floor))
}

/// Length of the first label of a key.
fn name_end(key: &[u8]) -> usize {
    key.iter().position(|b| *b == 0).unwrap_or(key.len())
}

/// The name servers of a delegation.
fn delegation(key: &[u8], n: u8) -> Edit {
    let server = [
        &[5u8, b'n', b's', b'0' + n % 10, b'-', b'x'][..],
        b"\x04host\x04test\0",
    ]
    .concat();
    Edit {
        key: key.to_vec(),
        case: None,
        rtype: Rtype::NS,
        set: Some((86_400, vec![server])),
    }
}

fn ds(key: &[u8]) -> Edit {
    Edit {
        key: key.to_vec(),
        case: None,
        rtype: Rtype::DS,
        set: Some((86_400, vec![[&[1, 1, 13, 2][..], &[7; 32]].concat()])),
    }
}

impl Zone {
    fn new(path: &Path, apex: &str, denial: DenialPlan) -> Result<Zone, String> {
        let apex = Name::parse(apex).map_err(|e| e.to_string())?;
        let clock = Watch(Instant::now());
        let base = match load_stage(path, &apex, &clock) {
            LoadOutcome::Loaded { version, .. } => *version,
            other => return Err(format!("load: {:?}", other.report().diagnostics)),
        };
        let pool = rayon::ThreadPoolBuilder::new().build();
        let pool = pool.map_err(|e| e.to_string())?;
        let keys = keys()?;
        let now = clock.now();
        let plan = plan(&base, &keys, denial.clone(), 2, now)?;
        let progress = Progress::new();
        let job = job(&pool, &clock, &progress);
        let signed = sign(&base, &plan, &job, now)
            .map_err(|e| format!("sign: {e}"))?
            .version;
        let verdict = pool.install(|| verify_full(signed.clone(), &params(&base), now));
        let ledger = ledger(&verdict)?;
        Ok(Zone {
            base,
            signed,
            ledger,
            keys,
            denial,
            pool,
            clock,
            n: 2,
        })
    }

    /// Some thousand delegations, evenly spread.
    fn owners(&self) -> Vec<Vec<u8>> {
        let units = self.base.unit_count();
        let cuts = (1..units).filter_map(|i| {
            let mut cuts = self.base.unit(i).owners().filter(|o| o.flags().is_cut());
            cuts.next().map(|o| o.key().to_vec())
        });
        let first: Vec<Vec<u8>> = cuts.collect();
        if first.len() >= MANY {
            return first;
        }
        let all = (1..units).flat_map(|i| self.base.unit(i).owners());
        all.filter(|o| o.flags().is_cut())
            .map(|o| o.key().to_vec())
            .collect()
    }

    fn sign(&mut self, base: &ZoneVersion, scope: &Scope) -> Result<(Resigned, f64), String> {
        let now = self.clock.now();
        self.n += 1;
        let plan = plan(base, &self.keys, self.denial.clone(), self.n, now)?;
        let progress = Progress::new();
        let job = job(&self.pool, &self.clock, &progress);
        let (done, secs) = timed(|| sign_from(&self.signed, base, &plan, scope, &job, now));
        Ok((done.map_err(|e| format!("sign: {e}"))?, secs))
    }

    fn change(&mut self, edits: Vec<Edit>) -> Result<Took, String> {
        let now = self.clock.now();
        let id = VersionId(u64::from(self.n) + 1_000_000);
        let (update, update_secs) = timed(|| self.base.update(id, now, edits));
        let base = update.map_err(|e| e.to_string())?.version;
        let (done, sign_secs) = self.sign(&base, &Scope::content(KEY_SET_REMAIN))?;
        let Resigned::Signed(signed, None) = done else {
            return Err("sign: not from the version before".into());
        };
        let Signed {
            version, report, ..
        } = *signed;
        let delta = StoreDelta {
            old: &self.signed,
            new: &version,
        };
        let unsigned_delta = StoreDelta {
            old: &self.base,
            new: &base,
        };
        let predecessor = Predecessor {
            version: &self.signed,
            ledger: &self.ledger,
            delta: &delta,
            unsigned_delta: Some(&unsigned_delta),
        };
        let (verdict, verify) = timed(|| {
            self.pool
                .install(|| verify_changed(version.clone(), &predecessor, &params(&base), now))
        });
        let ledger = ledger(&verdict)?;
        let took = Took {
            update: update_secs,
            sign: sign_secs,
            verify,
            signatures: report.keys.iter().map(|k| k.signatures).sum(),
            anew: anew(&self.signed, &version),
            units: version.unit_count() + version.block_count(),
        };
        (self.base, self.signed, self.ledger) = (base, version, ledger);
        Ok(took)
    }

    /// A look that finds nothing to do. What has become due meanwhile does not count.
    fn nothing(&mut self) -> Result<f64, String> {
        let base = self.base.clone();
        let (done, secs) = self.sign(&base, &Scope::content(KEY_SET_REMAIN))?;
        match done {
            Resigned::Nothing(_) => Ok(secs),
            Resigned::Signed(..) => Err("sign: a version where there is nothing to do".into()),
        }
    }
}

fn job<'a>(pool: &'a rayon::ThreadPool, clock: &'a Watch, progress: &'a Progress) -> Job<'a> {
    Job {
        pool,
        clock,
        progress,
        class: Class::Interactive,
        token_wait: std::time::Duration::from_secs(1),
    }
}

fn params(base: &ZoneVersion) -> Params<'_> {
    Params {
        approved: Some(base),
        fingerprint_seed: fingerprint_seed(base.zone()),
        ..Params::file()
    }
}

fn ledger(outcome: &Outcome<ZoneVersion>) -> Result<Ledger, String> {
    match outcome {
        Outcome::Verified(v) => v.ledger().cloned().ok_or_else(|| "no ledger".into()),
        Outcome::Refused(r) => Err(format!("verify: {}", r.report().text())),
    }
}

/// Leaves and blocks of `b` that `a` does not have.
fn anew(a: &ZoneVersion, b: &ZoneVersion) -> usize {
    use cascade_zone::tree::Item;
    let address = |i: &cascade_zone::Unit<'_>| std::ptr::from_ref(i.first_key()).cast::<u8>();
    let mut old: Vec<_> = a.units().map(|u| (address(&u), u)).collect();
    old.sort_by_key(|(at, _)| *at);
    let same = |u: &cascade_zone::Unit<'_>| {
        let at = old.partition_point(|(x, _)| *x < address(u));
        old[at..]
            .iter()
            .take_while(|(x, _)| *x == address(u))
            .any(|(_, w)| w.same_as(u))
    };
    let units = b.units().filter(|u| !same(u)).count();
    let blocks = match (a.chain(), b.chain()) {
        (Some(x), Some(y)) => {
            let old: std::collections::HashSet<_> =
                x.tree().iter().map(|b| b.block.bytes().as_ptr()).collect();
            let is_new = |b: &&cascade_zone::BlockRef| {
                !old.contains(&b.block.bytes().as_ptr()) && !b.first_key().is_empty()
            };
            y.tree().iter().filter(is_new).count()
        }
        _ => 0,
    };
    units + blocks
}

fn median(mut list: Vec<Took>, of: impl Fn(&Took) -> f64) -> f64 {
    list.sort_by(|a, b| of(a).total_cmp(&of(b)));
    list.get(list.len() / 2).map_or(0.0, of)
}

fn rows(
    single: Vec<Took>,
    added: Vec<Took>,
    many_insecure: Took,
    many: Took,
    nothing: f64,
    floor: &Floor,
) -> Vec<Row> {
    let row = |what, measured, unit, limit, note: String| Row {
        what,
        measured,
        unit,
        limit,
        note,
    };
    // One signature on one thread: a change of a few is not spread.
    let one = floor.sign_secs * floor.threads as f64;
    let beside = |t: &Took| (t.sign - t.signatures as f64 * one).max(0.0) * 1e3;
    let most = |list: &[Took]| list.iter().map(|t| t.anew).max().unwrap_or(0);
    let note = |list: &[Took]| {
        format!(
            "{} signatures; at most {} of {} leaves and blocks new",
            median(list.to_vec(), |t| t.signatures as f64),
            most(list),
            list.last().map_or(0, |t| t.units)
        )
    };
    let mut rows = Vec::new();
    for (what, list) in [("one NS changed", &single), ("one added, DS", &added)] {
        rows.push(row(
            what,
            median(list.clone(), |t| t.sign * 1e3),
            "ms",
            Limit::None,
            note(list),
        ));
        rows.push(row(
            "  beside crypto",
            median(list.clone(), beside),
            "ms",
            Limit::AtMost(1.0),
            format!("median of {}", list.len()),
        ));
        rows.push(row(
            "  edit, verify",
            median(list.clone(), |t| (t.update + t.verify) * 1e3),
            "ms",
            Limit::None,
            "content updated; gate by difference".into(),
        ));
    }
    for (what, t) in [
        ("10,000 NS changed", many_insecure),
        ("10,000 DS changed", many),
    ] {
        rows.push(row(
            what,
            t.sign,
            "s",
            Limit::None,
            format!(
                "{} signatures, pure {:.3} s; {} of {} leaves and blocks new",
                t.signatures,
                t.signatures as f64 * floor.sign_secs,
                t.anew,
                t.units
            ),
        ));
        rows.push(row(
            "  edit, verify",
            t.update + t.verify,
            "s",
            Limit::None,
            format!("{:.3} s of it the edit", t.update),
        ));
    }
    rows.push(row(
        "nothing to do",
        nothing * 1e3,
        "ms",
        Limit::AtMost(1.0),
        "looked for changes, due signatures, other keys".into(),
    ));
    rows
}

//! What a change costs: records edited, signed on the grounds of the version before, and judged by
//! the difference; on a zone of any size.

use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use cascade_crypto::Class;
use cascade_loader::Outcome as LoadOutcome;
use cascade_publisher::Candidate;
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

/// How many changes are measured.
#[derive(Clone, Copy, Debug)]
pub struct Plan {
    /// Changes of one record, one after the other; the median counts.
    pub single: usize,
    /// Changes in one version.
    pub many: usize,
}

/// A zone on its way.
struct Zone {
    base: ZoneVersion,
    signed: ZoneVersion,
    ledger: Ledger,
    keys: [ApexKey; 2],
    denial: DenialPlan,
    clock: Watch,
    n: u32,
}

/// What one version took.
#[derive(Clone, Copy, Debug, Default)]
struct Took {
    update: f64,
    sign: f64,
    /// With the sample answers of the publisher.
    verify: f64,
    /// The same without them.
    unsampled: f64,
    signatures: u64,
    /// Leaves and blocks that are new objects.
    anew: usize,
    units: usize,
}

/// Measures and gives the rows of the table.
///
/// # Errors
/// Names what went wrong.
pub fn run(
    path: &Path,
    apex: &str,
    denial: DenialPlan,
    measured: Plan,
    floor: &Floor,
) -> Result<Vec<Row>, String> {
    let pool = rayon::ThreadPoolBuilder::new().build();
    let pool = pool.map_err(|e| e.to_string())?;
    let mut zone = Zone::new(path, apex, denial, &pool)?;
    let owners = zone.owners(measured.many.max(measured.single));
    let at = |i: usize, of: usize| owners[(i * owners.len() / of).min(owners.len() - 1)].clone();
    let changed = |i: usize| vec![delegation(&at(i, measured.single), i as u8)];
    let new = |i: usize| {
        let beside = at(i, measured.single);
        let name = [&beside[..name_end(&beside)], b"-new\0"].concat();
        vec![delegation(&name, 1), ds(&name)]
    };
    let (single, added) = alone(|own| {
        let mut all = |edits: &dyn Fn(usize) -> Vec<Edit>| {
            let done = (0..measured.single).map(|i| zone.change(own, edits(i)));
            done.collect::<Result<Vec<Took>, String>>()
        };
        Ok((all(&changed)?, all(&new)?))
    })?;
    let mut rows = single_rows(single, added, floor);
    if measured.many > 0 {
        let each = (0..measured.many).map(|i| at(i, measured.many));
        let edits = each.clone().map(|key| delegation(&key, 99)).collect();
        let insecure = zone.change(&pool, edits)?;
        let secure = zone.change(&pool, each.map(|key| ds(&key)).collect())?;
        rows.extend(many_rows(insecure, secure, floor));
    }
    rows.push(nothing_row(zone.nothing(&pool)?));
    Ok(rows)
}

/// On one thread from beginning to end, as the daemon does small work.
fn alone<T: Send>(
    work: impl FnOnce(&rayon::ThreadPool) -> Result<T, String> + Send,
) -> Result<T, String> {
    let there = || {
        let own = rayon::ThreadPoolBuilder::new().num_threads(1);
        let own = own.use_current_thread().build();
        work(&own.map_err(|e| e.to_string())?)
    };
    let done = std::thread::scope(|s| s.spawn(there).join());
    done.map_err(|_| "a change panicked".to_string())?
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
    fn new(
        path: &Path,
        apex: &str,
        denial: DenialPlan,
        pool: &rayon::ThreadPool,
    ) -> Result<Zone, String> {
        let apex = Name::parse(apex).map_err(|e| e.to_string())?;
        let clock = Watch(Instant::now());
        let base = match load_stage(path, &apex, &clock) {
            LoadOutcome::Loaded { version, .. } => *version,
            other => return Err(format!("load: {:?}", other.report().diagnostics)),
        };
        let keys = keys()?;
        let now = clock.now();
        let plan = plan(&base, &keys, denial.clone(), 2, now)?;
        let progress = Progress::new();
        let job = job(pool, &clock, &progress);
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
            clock,
            n: 2,
        })
    }

    /// Some thousand delegations, evenly spread.
    fn owners(&self, wanted: usize) -> Vec<Vec<u8>> {
        let units = self.base.unit_count();
        let cuts = (1..units).filter_map(|i| {
            let mut cuts = self.base.unit(i).owners().filter(|o| o.flags().is_cut());
            cuts.next().map(|o| o.key().to_vec())
        });
        let first: Vec<Vec<u8>> = cuts.collect();
        if first.len() >= wanted {
            return first;
        }
        let all = (1..units).flat_map(|i| self.base.unit(i).owners());
        all.filter(|o| o.flags().is_cut())
            .map(|o| o.key().to_vec())
            .collect()
    }

    fn sign(
        &mut self,
        pool: &rayon::ThreadPool,
        base: &ZoneVersion,
        scope: &Scope,
    ) -> Result<(Resigned, f64), String> {
        let now = self.clock.now();
        self.n += 1;
        let plan = plan(base, &self.keys, self.denial.clone(), self.n, now)?;
        let progress = Progress::new();
        let job = job(pool, &self.clock, &progress);
        let (done, secs) = timed(|| sign_from(&self.signed, base, &plan, scope, &job, now));
        Ok((done.map_err(|e| format!("sign: {e}"))?, secs))
    }

    fn change(&mut self, pool: &rayon::ThreadPool, edits: Vec<Edit>) -> Result<Took, String> {
        let now = self.clock.now();
        let id = VersionId(u64::from(self.n) + 1_000_000);
        let (update, update_secs) = timed(|| pool.install(|| self.base.update(id, now, edits)));
        let base = update.map_err(|e| e.to_string())?.version;
        let (done, sign_secs) = self.sign(pool, &base, &Scope::content(KEY_SET_REMAIN))?;
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
        let gate = |params: &Params<'_>| {
            timed(|| pool.install(|| verify_changed(version.clone(), &predecessor, params, now)))
        };
        let shared = Arc::new(version.clone());
        let samples = Candidate::new(&shared, now).ok_or("the candidate cannot be served")?;
        let (sampled, verify) = gate(&Params {
            answers: Some(&samples),
            sample_seed: 7,
            ..params(&base)
        });
        ledger(&sampled)?;
        let (verdict, unsampled) = gate(&params(&base));
        let ledger = ledger(&verdict)?;
        let took = Took {
            update: update_secs,
            sign: sign_secs,
            verify,
            unsampled,
            signatures: report.keys.iter().map(|k| k.signatures).sum(),
            anew: anew(&self.signed, &version),
            units: version.unit_count() + version.block_count(),
        };
        (self.base, self.signed, self.ledger) = (base, version, ledger);
        Ok(took)
    }

    /// A look that finds nothing to do. What has become due meanwhile does not count.
    fn nothing(&mut self, pool: &rayon::ThreadPool) -> Result<f64, String> {
        let base = self.base.clone();
        let (done, secs) = self.sign(pool, &base, &Scope::content(KEY_SET_REMAIN))?;
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

fn row(what: &'static str, measured: f64, unit: &'static str, limit: Limit, note: String) -> Row {
    Row {
        what,
        measured,
        unit,
        limit,
        note,
    }
}

fn single_rows(single: Vec<Took>, added: Vec<Took>, floor: &Floor) -> Vec<Row> {
    // One signature on one thread: a change of a few is not spread.
    let one = floor.sign_secs * floor.threads as f64;
    let beside = |t: &Took| (t.sign - t.signatures as f64 * one).max(0.0) * 1e3;
    let most = |list: &[Took]| list.iter().map(|t| t.anew).max().unwrap_or(0);
    let signed = |list: &[Took]| {
        format!(
            "{} signatures; at most {} of {} leaves and blocks new",
            median(list.to_vec(), |t| t.signatures as f64),
            most(list),
            list.last().map_or(0, |t| t.units)
        )
    };
    let mut rows = Vec::new();
    for (what, list) in [("one NS changed", &single), ("one added, DS", &added)] {
        let ms = |of: fn(&Took) -> f64| median(list.clone(), |t| of(t) * 1e3);
        rows.push(row(what, ms(|t| t.sign), "ms", Limit::None, signed(list)));
        rows.push(row(
            "  beside crypto",
            median(list.clone(), beside),
            "ms",
            Limit::AtMost(1.0),
            format!("median of {}", list.len()),
        ));
        let edit = "content updated".into();
        rows.push(row("  edit", ms(|t| t.update), "ms", Limit::None, edit));
        rows.push(row(
            "  verify",
            ms(|t| t.verify),
            "ms",
            Limit::None,
            "gate by difference, with sample answers".into(),
        ));
        rows.push(row(
            "  without samples",
            ms(|t| t.unsampled),
            "ms",
            Limit::None,
            "the same without them".into(),
        ));
    }
    rows
}

fn many_rows(insecure: Took, secure: Took, floor: &Floor) -> Vec<Row> {
    let mut rows = Vec::new();
    for (what, t) in [("many NS changed", insecure), ("many DS changed", secure)] {
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
        let edit = "content updated".into();
        rows.push(row("  edit", t.update, "s", Limit::None, edit));
        rows.push(row(
            "  verify",
            t.verify,
            "s",
            Limit::None,
            format!("{:.3} s without sample answers", t.unsampled),
        ));
        let all = t.update + t.sign + t.verify;
        rows.push(row("  in all", all, "s", Limit::AtMost(0.6), String::new()));
    }
    rows
}

fn nothing_row(secs: f64) -> Row {
    let note = "looked for changes, due signatures, other keys".into();
    row("nothing to do", secs * 1e3, "ms", Limit::AtMost(1.0), note)
}

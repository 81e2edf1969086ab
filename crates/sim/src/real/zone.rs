//! The source and signing, with what the daemon gives them.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use cascade_crypto::{Class, DigestType, Dnskey, SigningKey, push_ds_rdata};
use cascade_keys::{ApexSet, Cds, KeyNum};
use cascade_loader::{LoadRequest, Outcome as LoadOutcome, ParseOptions, load_bytes};
use cascade_pipeline::action::StartSign;
use cascade_pipeline::event::{Actor, Command, Loaded, Request, RequestId, SignResult};
use cascade_pipeline::state::{Fp, JobId, Origin, Reason, Report, SignMode};
use cascade_pipeline::{Event, Fault};
use cascade_signer::serial::SerialInput;
use cascade_signer::{
    ApexSet as SignerSet, ClockGuard, Job, KeepRefresh, KeyPace, Left, Occasion, Progress,
    Resigned, Scope, SerialPolicy, SignError, Signed, SigningPlan, Times, key_tick, next_serial,
    next_upkeep, sign, sign_from, unsign,
};
use cascade_time::{SimClock, Timestamp};
use cascade_zone::{Fingerprint, Rtype, VersionId, ZoneVersion};

use super::Held;
use super::keys::{Liar, pair};
use super::records::{self, Classes, NEVER, Records, Tags};
use crate::check::Rule;
use crate::pipe::{Made, ZONE};
use crate::servers::Part;
use crate::world::World;
use crate::{DAY, HOUR};

/// Of all signatures, as the policies' default has it.
pub(super) const INCEPTION_OFFSET: u64 = DAY;
/// Between two looks for signatures that are due.
const REFRESH: u64 = 12 * HOUR;
/// Signatures refreshed in one version at most, as the daemon's default has it.
const BATCH: u64 = 250_000;
const TOKEN_WAIT: Duration = Duration::from_secs(30);
/// CDS and CDNSKEY that ask for the DS to be removed (RFC 8078 §4).
const DELETE_CDS: [u8; 5] = [0, 0, 0, 0, 0];
const DELETE_CDNSKEY: [u8; 5] = [0, 0, 3, 0, 0];

/// One thread: the zone is a few leaves.
static POOL: LazyLock<Option<rayon::ThreadPool>> = LazyLock::new(|| {
    let builder = rayon::ThreadPoolBuilder::new().num_threads(1);
    builder.build().ok()
});

pub(super) fn pool() -> Option<&'static rayon::ThreadPool> {
    POOL.as_ref()
}

/// All of it in presentation form.
fn text(apex: &str, content: u32, serial: u32, ttl: u32, expire: u32) -> String {
    let negative = ttl.min(3600);
    let host = content % 200 + 1;
    let mut out = format!(
        "$ORIGIN {apex}\n$TTL {ttl}\n\
         @ SOA ns1 hostmaster {serial} 7200 3600 {expire} {negative}\n\
         @ NS ns1\n@ NS ns2\n@ MX 10 mail\n@ TXT \"content {content}\"\n\
         ns1 A 192.0.2.1\nns1 AAAA 2001:db8::1\nns2 A 192.0.2.2\n\
         mail A 192.0.2.{host}\nwww A 192.0.2.4\n*.wild TXT \"any\"\n\
         deep.in.ent A 192.0.2.5\n\
         open NS ns.open\nns.open A 192.0.2.53\n\
         safe NS ns.elsewhere.invalid.\n\
         safe DS 4711 13 2 {}\n",
        "5a".repeat(32)
    );
    if content % 2 == 1 {
        out.push_str("odd TXT \"there in every other content\"\n");
    }
    out
}

/// The number of the content, as it stands in the zone.
pub(super) fn content_of(version: &ZoneVersion) -> Option<u32> {
    let apex = version.apex_owner();
    let set = apex.set(Rtype::TXT)?;
    let rdata = set.rdatas().next()?;
    let text = std::str::from_utf8(rdata.get(1..)?).ok()?;
    text.strip_prefix("content ")?.parse().ok()
}

pub(super) fn secs(d: Duration) -> u32 {
    u32::try_from(d.as_secs()).unwrap_or(u32::MAX)
}

pub(super) fn small(n: u64) -> u32 {
    u32::try_from(n).unwrap_or(u32::MAX)
}

pub(super) fn signing_keys(apex: &ApexSet) -> Vec<KeyNum> {
    let lists = [&apex.dnskey_signers, &apex.cds_signers, &apex.zone_signers];
    let all: BTreeSet<KeyNum> = lists.into_iter().flatten().copied().collect();
    all.into_iter().collect()
}

fn fault(e: &SignError) -> Fault {
    match e {
        SignError::Plan(_) => Fault::Keys,
        SignError::Clock(_) => Fault::Clock,
        SignError::Key { .. } => Fault::Token,
        SignError::HashCollision { .. } | SignError::TooLarge | SignError::Times(_) => {
            Fault::Content
        }
        SignError::Build(_) | SignError::Cancelled => Fault::Bug,
    }
}

fn fp(f: Fingerprint) -> Fp {
    let octets = f.to_bytes();
    let half = |at: usize| {
        octets[at..at + 8]
            .iter()
            .fold(0, |n, b| n << 8 | u64::from(*b))
    };
    Fp(half(0), half(8))
}

/// What a signing came to.
enum End {
    Version(Box<Signed>),
    Nothing,
}

impl World {
    /// The source is read.
    pub(crate) fn load_real(&mut self, job: JobId, version: VersionId) -> Option<Event> {
        let content = self.contents.last().copied().unwrap_or(0);
        let (ttl, expire) = (self.config.data_ttl, self.config.soa_expire);
        let wall = self.wall();
        let pipe = self.pipe.as_mut()?;
        let live = pipe.zone.live.as_ref().map(|l| l.of);
        let real = pipe.real.as_mut()?;
        let current = live.and_then(|v| real.unsigned(v));
        let apex = real.apex.to_string();
        let said = text(&apex, content, 0, ttl, expire);
        if real.source.1 != said {
            real.source = (real.source.0 + 1, said);
        }
        let text = text(&apex, content, real.source.0, ttl, expire);
        let request = LoadRequest {
            path: std::path::Path::new("source"),
            apex: &real.apex,
            zone: ZONE,
            version,
            current: current.as_deref(),
            identity: None,
            options: &ParseOptions {
                strip: true,
                ..ParseOptions::default()
            },
            max_records: 0,
            force: false,
            trigger: "reload",
        };
        let progress = cascade_loader::Progress::default();
        let clock = SimClock::new(wall);
        let load = || load_bytes(&request, text.into_bytes(), &clock, &progress);
        match pool()?.install(load) {
            LoadOutcome::Unchanged { .. } => Some(Event::LoadUnchanged {
                job,
                expires_at: None,
            }),
            LoadOutcome::Loaded {
                version: v, report, ..
            } => {
                let loaded = Loaded {
                    content_fp: fp(v.full_fingerprint()),
                    source_serial: v.serial(),
                    origin: Origin::Source,
                    records: report.records,
                    octets: report.octets,
                    expires_at: None,
                    report: Report::default(),
                };
                real.unsigned.insert(version, Arc::new(*v));
                Some(Event::LoadDone { job, loaded })
            }
            LoadOutcome::Failed { report } => {
                let text = format!("the source is not read: {:?}", report.diagnostics.kept);
                self.fail(Rule::W6, text.clone());
                Some(Event::LoadFailed { job, error: text })
            }
        }
    }

    /// Signs as the daemon does.
    pub(crate) fn sign_real(&mut self, s: &StartSign) -> Option<Event> {
        let job = s.job;
        let failed = |fault, error: String| Some(Event::SignFailed { job, fault, error });
        let known = self.pipe.as_ref()?.sets.get(&s.keys.apex).cloned();
        let Some((apex, _)) = known else {
            return failed(Fault::Keys, "the keys are not at hand".into());
        };
        if !self.can_sign(&signing_keys(&apex)) {
            return failed(Fault::Token, "the token does not answer".into());
        }
        // Some of what a token gets wrong comes as far as the gate.
        let lies = self.lies();
        let wall = self.wall();
        let (signed, due) = match self.signed(s, &apex, lies) {
            Ok((End::Version(signed), due)) => (signed, due),
            Ok((End::Nothing, next_due)) => {
                return Some(Event::SignNothing { job, next_due });
            }
            Err((fault, error)) => {
                if !matches!(fault, Fault::Clock | Fault::Token) {
                    self.fail(Rule::W7, format!("nothing is signed: {error}"));
                }
                return failed(fault, error);
            }
        };
        let version = Arc::new(signed.version);
        let classes = match self.classes_in(&version) {
            Ok(classes) => Arc::new(classes),
            Err(why) => {
                self.fail(Rule::W7, why.clone());
                return failed(Fault::Bug, why);
            }
        };
        self.compare_with_order(&apex, &classes, s.based_on);
        let min_exp = match version.is_signed() {
            true => version.earliest_expiration().unwrap_or(wall),
            false => NEVER,
        };
        let mut reviewed = version.content_fingerprint();
        let signing = self.pipe.as_ref()?.zone.settings.signing;
        reviewed.add(Fingerprint(
            u128::from(s.keys.apex) << 64 | u128::from(signing),
        ));
        let result = SignResult {
            serial: version.serial(),
            min_exp,
            next_due: due,
            reviewed_fp: fp(reviewed),
            unmet: false,
            report: Report::default(),
        };
        let ends = [&classes.dnskey, &classes.cds];
        let ends = ends.into_iter().flatten().map(|s| s.expires).min();
        let lifetime = self.policy.apex_signatures.lifetime;
        let part = |s: &records::Set| Part {
            signers: s.signers.clone(),
            expires: s.expires,
        };
        let made = Made {
            apex,
            data: classes.data.iter().map(part).collect(),
            content: content_of(&version).unwrap_or(0),
            apex_expires: ends.unwrap_or(wall + lifetime),
            data_ttl: Some(version.sums().max_ttl),
            serial: Some(version.serial().0),
        };
        let pipe = self.pipe.as_mut()?;
        pipe.renews = false;
        pipe.made.insert(s.version, made);
        let real = pipe.real.as_mut()?;
        real.counts.versions += 1;
        real.counts.signatures += signed.report.signatures;
        let held = Held {
            version,
            verified: None,
            classes,
            planted: lies,
        };
        real.signed.insert(s.version, held);
        Some(Event::SignDone {
            job,
            signed: result,
        })
    }

    fn signed(
        &mut self,
        s: &StartSign,
        apex: &ApexSet,
        lies: bool,
    ) -> Result<(End, Timestamp), (Fault, String)> {
        let wall = self.wall();
        let gone = || (Fault::Bug, "no pipeline".to_string());
        let set = self.signer_set(apex, lies, wall);
        let since = self.zone.signers_change_since();
        let over = small(self.config.resign);
        let (scope, remain) = self.scope(s, since, over);
        let times = self.times();
        let pipe = self.pipe.as_mut().ok_or_else(gone)?;
        let live = pipe.zone.live.as_ref().map(|l| l.version);
        let real = pipe.real.as_mut().ok_or_else(gone)?;
        let base = real.unsigned(s.unsigned);
        let base = base.ok_or((Fault::Storage, "the content is not at hand".to_string()))?;
        real.sources
            .insert(s.version, (base.soa_ttl(), base.soa().to_vec()));
        // Only what has passed the gate is built on; a repair builds on nothing.
        let prev = s
            .based_on
            .filter(|_| !s.full && s.mode != SignMode::Heal)
            .filter(|_| !s.reasons.contains(&Reason::Sweep))
            .and_then(|v| real.signed.get(&v))
            .filter(|h| h.verified.is_some())
            .map(|h| h.version.clone());
        let newest = live.and_then(|v| real.signed.get(&v));
        let offset = Duration::from_secs(INCEPTION_OFFSET);
        let newest = newest.map(|h| h.version.made_at() - offset);
        let serial = next_serial(
            &SerialInput {
                policy: SerialPolicy::Counter,
                keep_refresh: KeepRefresh::Bump,
                occasion: match s.upkeep {
                    true => Occasion::Upkeep,
                    false => Occasion::Content,
                },
                prev: s.above,
                first: live.is_none(),
                unsigned: base.serial(),
                requested: s.serial,
                history: &[],
            },
            wall,
        )
        .map_err(|e| (Fault::Content, e.to_string()))?;
        let clock = SimClock::new(wall);
        let progress = Progress::new();
        let job = Job {
            pool: pool().ok_or_else(gone)?,
            clock: &clock,
            progress: &progress,
            class: Class::Normal,
            token_wait: TOKEN_WAIT,
        };
        let failed = |e: SignError| (fault(&e), e.to_string());
        if apex.unsigned {
            let by_themselves = [Reason::Refresh, Reason::Keys, Reason::Policy];
            let live = live.and_then(|v| real.signed.get(&v));
            let same = live
                .is_some_and(|h| !h.version.is_signed() && h.version.unsigned_id() == base.id());
            if s.upkeep && same && s.reasons.iter().all(|r| by_themselves.contains(r)) {
                let due = wall + Duration::from_secs(365 * DAY);
                return Ok((End::Nothing, due));
            }
            let reasons = Vec::new();
            let done = unsign(&base, s.version, serial.serial, wall, reasons, &job, wall);
            let due = wall + Duration::from_secs(365 * DAY);
            return Ok((End::Version(Box::new(done.map_err(failed)?)), due));
        }
        let plan = SigningPlan {
            version: s.version,
            serial: serial.serial,
            apex: set,
            denial: self.config.denial.plan(),
            zonemd: None,
            times,
            clock: ClockGuard {
                built_at: Timestamp::from_secs(1_735_689_600),
                newest_inception: newest,
            },
            requested_at: wall,
            reasons: Vec::new(),
        };
        let next = |v: &ZoneVersion, left: &Left| {
            let due = next_upkeep(v, &times, remain, wall).map_err(|e| failed(e.into()))?;
            let due = due.unwrap_or(wall);
            Ok(match left.keys {
                0 => due,
                _ => due.min(wall + Duration::from_secs(key_tick(over).into())),
            })
        };
        let Some(prev) = prev else {
            let done = sign(&base, &plan, &job, wall).map_err(failed)?;
            let due = next(&done.version, &done.left)?;
            return Ok((End::Version(Box::new(done)), due));
        };
        match sign_from(&prev, &base, &plan, &scope, &job, wall).map_err(failed)? {
            Resigned::Signed(done, _) => {
                let due = next(&done.version, &done.left)?;
                Ok((End::Version(done), due))
            }
            Resigned::Nothing(left) => {
                let due = next(&prev, &left)?;
                Ok((End::Nothing, due))
            }
        }
    }

    fn times(&self) -> Times {
        Times {
            lifetime: small(self.config.data_lifetime),
            remain: small(self.config.data_remain),
            refresh: small(REFRESH),
            inception_offset: small(INCEPTION_OFFSET),
            jitter: 0,
        }
    }

    /// What a job does beside following the content.
    fn scope(&self, s: &StartSign, since: Option<Timestamp>, over: u32) -> (Scope, u32) {
        let remain = secs(self.policy.apex_signatures.remain);
        let pace = match since {
            Some(since) if over > 0 => KeyPace::Spread { since, over },
            _ => KeyPace::AtOnce,
        };
        if !s.upkeep {
            let keys = match s.reasons.contains(&Reason::Keys) {
                true => pace,
                false => KeyPace::Later,
            };
            let scope = Scope {
                keys,
                even_if_equal: true,
                ..Scope::content(remain)
            };
            return (scope, remain);
        }
        let by_themselves = [Reason::Refresh, Reason::Keys, Reason::Policy];
        let scope = Scope {
            refresh: BATCH,
            even_if_equal: s.reasons.iter().any(|r| !by_themselves.contains(r)),
            keys: pace,
            ..Scope::everything(remain)
        };
        (scope, remain)
    }

    /// The apex set as the signer takes it; of one that lies, the first key that signs data does.
    fn signer_set(&self, apex: &ApexSet, lies: bool, now: Timestamp) -> SignerSet {
        let dnskey = |n: &KeyNum| Dnskey::from_rdata(&self.keys.get(n)?.dnskey_rdata()).ok();
        let rdata = |n: &KeyNum| Some(self.keys.get(n)?.dnskey_rdata());
        let sorted = |mut set: Vec<Vec<u8>>| {
            set.sort();
            set.dedup();
            set
        };
        let mut cds = Vec::new();
        let mut cdnskey = Vec::new();
        match &apex.cds {
            Cds::None => {}
            Cds::Delete => {
                cds.push(DELETE_CDS.to_vec());
                cdnskey.push(DELETE_CDNSKEY.to_vec());
            }
            Cds::Keys(nums) => {
                let owner = self.pipe.as_ref().and_then(|p| p.real.as_ref());
                for (n, real) in nums.iter().filter_map(|n| Some((dnskey(n)?, owner?))) {
                    let types = apex.digests.iter();
                    for digest in types.filter_map(|d| DigestType::from_number(*d)) {
                        let mut out = Vec::new();
                        push_ds_rdata(&real.apex, &n, digest, &mut out);
                        cds.push(out);
                    }
                }
                let keys = nums.iter().filter(|_| apex.cdnskey);
                cdnskey.extend(keys.filter_map(rdata));
            }
        }
        let mut lies = lies;
        let mut signers = |nums: &[KeyNum], data: bool| -> Vec<Arc<dyn SigningKey>> {
            let private = |n: &KeyNum| {
                let k = self.keys.get(n)?;
                let pair = pair(*n, k.role, k.algorithm)?;
                Some(match data && std::mem::take(&mut lies) {
                    true => Arc::new(Liar(pair)) as Arc<dyn SigningKey>,
                    false => pair as Arc<dyn SigningKey>,
                })
            };
            nums.iter().filter_map(private).collect()
        };
        let wire = now.to_wire();
        SignerSet {
            ttl: apex.ttl,
            dnskey: sorted(apex.dnskey.iter().filter_map(rdata).collect()),
            cds: sorted(cds),
            cdnskey: sorted(cdnskey),
            dnskey_signers: signers(&apex.dnskey_signers, false),
            cds_signers: signers(&apex.cds_signers, false),
            zone_signers: signers(&apex.zone_signers, true),
            inception: wire.wrapping_sub(small(INCEPTION_OFFSET)),
            expiration: wire.wrapping_add(secs(self.policy.apex_signatures.lifetime)),
        }
    }

    pub(super) fn classes_in(&self, version: &ZoneVersion) -> Result<Classes, String> {
        self.read_classes(&Records::of(version))
    }

    /// Who signs what, by records.
    fn read_classes(&self, records: &Records) -> Result<Classes, String> {
        let keys = self.keys.values();
        let tags: Tags = keys.map(|k| ((k.algorithm, k.tag()), k.num)).collect();
        let keys = self.keys.values();
        let rdatas: BTreeMap<_, _> = keys.map(|k| (k.dnskey_rdata(), k.num)).collect();
        records::classes(records, &tags, &rdatas, self.wall())
    }

    /// The zone has what the key manager asked for: its keys, their signers, and over data none but
    /// the wanted ones and those of the version before.
    fn compare_with_order(&mut self, apex: &ApexSet, c: &Classes, base: Option<VersionId>) {
        let sorted = |list: &[KeyNum]| {
            let mut list = list.to_vec();
            list.sort_unstable();
            list.dedup();
            list
        };
        let by = |s: &Option<records::Set>| s.as_ref().map(|s| s.signers.clone());
        let some = |list: &[KeyNum]| Some(sorted(list)).filter(|l| !l.is_empty());
        let (dnskey, cds) = match apex.unsigned {
            true => (None, None),
            false => (some(&apex.dnskey_signers), some(&apex.cds_signers)),
        };
        let cds = cds.filter(|_| apex.cds != Cds::None);
        let named = match &apex.cds {
            Cds::Keys(keys) if !apex.unsigned => sorted(keys),
            _ => Vec::new(),
        };
        let keys = match apex.unsigned {
            true => Vec::new(),
            false => sorted(&apex.dnskey),
        };
        let held = |p: &crate::pipe::Pipe| p.real.as_ref()?.signed.get(&base?).cloned();
        let before = self.pipe.as_ref().and_then(held);
        let mut may: Vec<KeyNum> = apex.zone_signers.clone();
        let sets = before.iter().flat_map(|h| &h.classes.data);
        may.extend(sets.flat_map(|s| &s.signers));
        let strange = c.data.iter().flat_map(|s| &s.signers);
        let strange = strange.copied().find(|n| !may.contains(n));
        let bare = !apex.unsigned && c.data.iter().any(|s| s.signers.is_empty());
        if (&c.keys, by(&c.dnskey), by(&c.cds), &c.named) != (&keys, dnskey, cds, &named)
            || strange.is_some()
            || bare
        {
            let text = format!("asked for was {apex:?}, and the version has {c:?}");
            self.fail(Rule::W7, text);
        }
    }

    /// The policy's settings as the pipeline has them: how the zone is signed is other than before.
    pub(crate) fn change_settings(&mut self) {
        let denial = self.config.denial;
        let Some(pipe) = &self.pipe else { return };
        let mut settings = pipe.zone.settings.clone();
        settings.revision += 1;
        settings.signing = denial as u64;
        let settings = Box::new(settings);
        self.request(Command::ChangePolicy { settings });
    }

    /// The content before is published again.
    pub(crate) fn roll_back_real(&mut self) {
        let Some(pipe) = &self.pipe else { return };
        let live = pipe.zone.live.as_ref().map(|l| l.of);
        let mut kept = pipe.zone.retained.iter();
        let Some(to) = kept.find(|r| Some(r.of) != live).map(|r| r.version) else {
            return;
        };
        self.request(Command::Rollback { to, pin: false });
    }

    fn request(&mut self, command: Command) {
        let by = Actor {
            name: "operator".into(),
            ..Actor::default()
        };
        let id = RequestId(self.versions.len() as u64);
        self.pipe_event(Event::Request(Request { id, by, command }));
    }
}

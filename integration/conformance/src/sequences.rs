//! Zones on their way: long chains of random changes, each signed on the grounds of the version
//! before, compared with signing everything, and judged by the gate in both its modes.
//!
//! A seed makes the same chain for ever, apart from the moment at which it ends: that is now, so that
//! programs which know no other time can judge the last version.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use cascade_crypto::dnskey::Role;
use cascade_crypto::{Class, DigestType, KeySpec, SigningKey, SoftwareKey};
use cascade_e2e::judge::{Judge, Verdict};
use cascade_signer::{
    ApexKey, ApexOptions, Building, Changed, ClockGuard, DenialPlan, Job, KeyPace, Pace, Progress,
    Resigned, Scope, Signed, SigningPlan, Times, change_denial, make_apex_set, sign, sign_from,
};
use cascade_time::{Clock, Timestamp};
use cascade_verifier::{
    DenialPolicy, Ledger, Outcome, OwnKey, Params, Predecessor, StoreDelta, fingerprint_seed,
    verify_changed, verify_full,
};
use cascade_zone::{
    Builder, Edit, KeyId, Name, RecordBatch, Rtype, Serial, VersionId, ZoneVersion,
};

use crate::make::{WallClock, ZONE};
use crate::text::{self, Record};

const APEX: &str = "Example.test";
const STEPS: u64 = 14;
/// Signatures over the key sets have at least this much left, and so has everything else.
const REMAIN: u32 = 7 * 86_400;

/// What was done.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    pub sequences: u64,
    pub steps: u64,
    /// Steps that were signed on the grounds of the version before, from the start, or not at all.
    pub incremental: u64,
    pub full: u64,
    pub nothing: u64,
    /// Batches of another denial of existence beside the one in service, and versions that switched.
    pub beside: u64,
    pub switched: u64,
    pub kept: u64,
    pub made: u64,
    /// Verdicts of the gate, and of programs of others.
    pub verdicts: u64,
    pub judged: u64,
}

impl Tally {
    pub fn add(&mut self, o: &Tally) {
        self.sequences += o.sequences;
        self.steps += o.steps;
        self.incremental += o.incremental;
        self.full += o.full;
        self.nothing += o.nothing;
        self.beside += o.beside;
        self.switched += o.switched;
        self.kept += o.kept;
        self.made += o.made;
        self.verdicts += o.verdicts;
        self.judged += o.judged;
    }
}

/// Runs the chain of one seed. `scratch`: have the last version judged by all programs there are,
/// with files in this folder.
///
/// # Errors
/// Says which step of which seed went wrong, and how.
pub fn run(seed: u64, pool: &rayon::ThreadPool, scratch: Option<&Path>) -> Result<Tally, String> {
    let mut random = Random(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ 0x5eed);
    let steps: Vec<Kind> = (0..4 + random.below(STEPS))
        .map(|_| Kind::choose(&mut random))
        .collect();
    let hours: i64 = steps.iter().map(Kind::hours).sum();
    let end = WallClock::new().now();
    let start = Timestamp::from_secs(end.secs() - hours * 3600);
    let named = |step: usize, e: String| format!("seed {seed}, step {step}: {e}");
    let mut zone = Zone::new(seed, &mut random, pool, start).map_err(|e| named(0, e))?;
    for (n, kind) in steps.iter().enumerate() {
        zone.change(kind, &mut random)
            .map_err(|e| named(n + 1, e))?;
        zone.sign()
            .map_err(|e| named(n + 1, format!("{kind:?}: {e}")))?;
        zone.build(1 + random.below(3) as usize)
            .map_err(|e| named(n + 1, format!("{kind:?}, then beside: {e}")))?;
    }
    if let Some(scratch) = scratch {
        zone.judge(scratch).map_err(|e| named(steps.len(), e))?;
    }
    zone.tally.sequences = 1;
    Ok(zone.tally)
}

/// SplitMix64.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound
    }

    fn one<T: Copy>(&mut self, list: &[T]) -> T {
        list[self.below(list.len() as u64) as usize]
    }
}

/// What a step does.
#[derive(Clone, Copy, Debug)]
enum Kind {
    Edit(u64),
    Prune,
    Reload(u64),
    Fresh(u64),
    Minimum,
    Denial,
    /// Another denial is begun beside.
    Beside(u64),
    Keys,
    Wait(i64),
}

impl Kind {
    fn choose(random: &mut Random) -> Kind {
        match random.below(20) {
            0..=9 => Kind::Edit(1 + random.below(4)),
            10 => Kind::Edit(30),
            11 | 12 => Kind::Prune,
            13 | 14 => Kind::Reload(1 + random.below(8)),
            15 => Kind::Fresh(random.below(4)),
            16 if random.below(2) == 0 => match random.below(3) {
                0 => Kind::Denial,
                _ => Kind::Beside(random.below(3)),
            },
            16 => Kind::Minimum,
            17 => Kind::Keys,
            _ => Kind::Wait(1 + random.below(150) as i64),
        }
    }

    fn hours(&self) -> i64 {
        match self {
            Kind::Wait(hours) => *hours,
            _ => 0,
        }
    }
}

/// Order key -> type -> TTL, RDATA.
type Content = BTreeMap<Vec<u8>, BTreeMap<Rtype, (u32, BTreeSet<Vec<u8>>)>>;

struct Zone<'a> {
    apex: Name,
    content: Content,
    base: ZoneVersion,
    /// The signed version before, its ledger, and the content that it was made from.
    before: Option<(ZoneVersion, Ledger, ZoneVersion)>,
    ring: Vec<ApexKey>,
    keys: Vec<ApexKey>,
    denial: DenialPlan,
    /// Another one, and how far it is.
    beside: Option<(DenialPlan, Option<Building>)>,
    scope: Scope,
    now: Timestamp,
    id: u64,
    serial: u32,
    pool: &'a rayon::ThreadPool,
    tally: Tally,
}

impl<'a> Zone<'a> {
    fn new(
        seed: u64,
        random: &mut Random,
        pool: &'a rayon::ThreadPool,
        now: Timestamp,
    ) -> Result<Zone<'a>, String> {
        let apex = Name::parse(APEX).map_err(|e| e.to_string())?;
        let mut content = Content::new();
        let set = |ttl, rdata: Vec<u8>| (ttl, BTreeSet::from([rdata]));
        let ns = target(&apex, b"\x02ns");
        content.insert(
            Vec::new(),
            BTreeMap::from([
                (Rtype::SOA, set(3600, soa(&apex, 300))),
                (Rtype::NS, set(3600, ns)),
            ]),
        );
        content.insert(
            b"ns\0".to_vec(),
            BTreeMap::from([(Rtype::A, set(3600, vec![192, 0, 2, 1]))]),
        );
        // Some zones are large enough for many leaves and blocks.
        let (filler, octets) = match seed % 12 {
            0 => (500, 4),
            1 => (80, 700),
            _ => (0, 0),
        };
        for i in 0..filler {
            let parent = PARENTS[i % PARENTS.len()];
            let sets = BTreeMap::from([(Rtype(65281), set(60, vec![i as u8; octets]))]);
            content.insert(
                [parent, format!("\0{:02}\0", i / PARENTS.len()).as_bytes()].concat(),
                sets,
            );
        }
        let algorithm = random.one(&["ECDSAP256SHA256", "ED25519"]);
        let ring = ring(algorithm)?;
        let denial = denial(seed % 3);
        let mut zone = Zone {
            base: build(&apex, &content, 1, None, now)?,
            apex,
            content,
            before: None,
            keys: ring[..2].to_vec(),
            ring,
            denial,
            beside: None,
            scope: Scope::content(REMAIN),
            now,
            id: 1,
            serial: 100,
            pool,
            tally: Tally::default(),
        };
        let edits = (0..random.below(40))
            .flat_map(|_| zone.op(random))
            .collect();
        zone.update(edits)?;
        zone.sign()?;
        Ok(zone)
    }

    fn change(&mut self, kind: &Kind, random: &mut Random) -> Result<(), String> {
        self.scope.refresh = 0;
        match kind {
            Kind::Edit(n) => {
                let edits = (0..*n).flat_map(|_| self.op(random)).collect();
                self.update(edits)?;
            }
            Kind::Prune => {
                let key = any_key(random);
                let under: Vec<Vec<u8>> = self
                    .content
                    .keys()
                    .filter(|k| k.starts_with(&key) && !key.is_empty())
                    .cloned()
                    .collect();
                let edits = under.iter().flat_map(|k| self.clear(k)).collect();
                self.update(edits)?;
            }
            Kind::Reload(n) | Kind::Fresh(n) => {
                for _ in 0..*n {
                    drop(self.op(random));
                }
                self.id += 1;
                let before = matches!(kind, Kind::Reload(_)).then_some(&self.base);
                self.base = build(&self.apex, &self.content, self.id, before, self.now)?;
            }
            Kind::Minimum => {
                let rdata = soa(&self.apex, random.one(&[300, 900, 3600]));
                let edits = vec![self.put(&[], Rtype::SOA, Some((3600, BTreeSet::from([rdata]))))];
                self.update(edits)?;
            }
            Kind::Denial => self.denial = denial(random.below(3)),
            Kind::Beside(n) => self.beside = Some((denial(*n), None)),
            Kind::Keys => {
                self.keys = match random.below(5) {
                    0 => self.ring[..2].to_vec(),
                    1 => self.ring[..3].to_vec(),
                    2 => {
                        let mut rolling = self.ring[..3].to_vec();
                        rolling[1].signer = None;
                        rolling
                    }
                    3 => vec![self.ring[0].clone(), self.ring[2].clone()],
                    _ => vec![self.ring[3].clone()],
                };
                self.scope.keys = match random.below(3) {
                    0 => KeyPace::Later,
                    1 => KeyPace::Spread {
                        since: self.now,
                        over: 100_000,
                    },
                    _ => KeyPace::AtOnce,
                };
            }
            Kind::Wait(hours) => {
                self.now = Timestamp::from_secs(self.now.secs() + hours * 3600);
                self.scope.refresh = u64::MAX;
            }
        }
        Ok(())
    }

    fn update(&mut self, edits: Vec<Edit>) -> Result<(), String> {
        self.id += 1;
        let update = self.base.update(VersionId(self.id), self.now, edits);
        self.base = update.map_err(|e| e.to_string())?.version;
        Ok(())
    }

    fn put(&mut self, key: &[u8], rtype: Rtype, set: Option<(u32, BTreeSet<Vec<u8>>)>) -> Edit {
        let owner = self.content.entry(key.to_vec()).or_default();
        match &set {
            Some(set) => drop(owner.insert(rtype, set.clone())),
            None => drop(owner.remove(&rtype)),
        }
        self.content.retain(|_, sets| !sets.is_empty());
        Edit {
            key: key.to_vec(),
            case: None,
            rtype,
            set: set.map(|(ttl, set)| (ttl, set.into_iter().collect())),
        }
    }

    /// Removes an owner.
    fn clear(&mut self, key: &[u8]) -> Vec<Edit> {
        let types: Vec<Rtype> = self
            .content
            .get(key)
            .map_or(Vec::new(), |s| s.keys().copied().collect());
        types.into_iter().map(|t| self.put(key, t, None)).collect()
    }

    /// A random change of one owner that leaves it lawful: no DS without NS, no NS beside DNAME,
    /// nothing of both at a wildcard.
    fn op(&mut self, random: &mut Random) -> Vec<Edit> {
        let key = any_key(random);
        let here = self.content.get(&key).cloned().unwrap_or_default();
        let ttl = random.one(&[60, 300, 3600]);
        let wild = cascade_zone::key::is_wildcard(&key);
        let at_apex = key.is_empty();
        let one = |rdata: Vec<u8>| Some((ttl, BTreeSet::from([rdata])));
        let host = target(
            &self.apex,
            random.one(&[&b"\x01a"[..], b"\x01b\x01c", b"\x04far!"]),
        );
        match random.below(13) {
            0..=2 => vec![self.put(&key, Rtype::A, one(vec![192, 0, 2, random.below(3) as u8]))],
            3 => {
                let long = [&[255u8][..], &[b'x'; 255]]
                    .concat()
                    .repeat(random.below(8) as usize + 1);
                vec![self.put(&key, Rtype::TXT, one(long))]
            }
            4 => vec![self.put(&key, Rtype::MX, one([&[0, 1][..], &host].concat()))],
            5 | 6 if !wild && !here.contains_key(&Rtype::DNAME) && !at_apex => {
                vec![self.put(&key, Rtype::NS, one(host))]
            }
            7 | 8 if here.contains_key(&Rtype::NS) && !at_apex => {
                let ds = [&[0, 1, 13, 2][..], &[random.below(3) as u8 + 1; 32]].concat();
                vec![self.put(&key, Rtype::DS, one(ds))]
            }
            9 if !wild && (at_apex || !here.contains_key(&Rtype::NS)) && random.below(3) == 0 => {
                vec![self.put(&key, Rtype::DNAME, one(target(&self.apex, b"\x05other")))]
            }
            10 if at_apex => {
                let gone = random.one(&[Rtype::A, Rtype::TXT, Rtype::MX, Rtype::DNAME]);
                vec![self.put(&key, gone, None)]
            }
            10 | 11 if !at_apex => self.clear(&key),
            _ => match here.keys().copied().nth(random.below(4) as usize) {
                Some(t) if !at_apex && t == Rtype::NS => {
                    vec![self.put(&key, t, None), self.put(&key, Rtype::DS, None)]
                }
                Some(t) if !at_apex => vec![self.put(&key, t, None)],
                _ => Vec::new(),
            },
        }
    }

    /// Signs both ways, compares, has the gate judge, and goes on from the incremental one.
    fn sign(&mut self) -> Result<(), String> {
        self.tally.steps += 1;
        let plan = self.plan()?;
        let (clock, progress) = (WallClock::new(), Progress::new());
        let job = Job {
            pool: self.pool,
            clock: &clock,
            progress: &progress,
            class: Class::Normal,
            token_wait: Duration::from_secs(30),
        };
        let full = sign(&self.base, &plan, &job, self.now).map_err(|e| e.to_string())?;
        let Some((prev, ..)) = &self.before else {
            return self.take(full);
        };
        let made = sign_from(prev, &self.base, &plan, &self.scope, &job, self.now);
        match made.map_err(|e| e.to_string())? {
            Resigned::Nothing(left) => {
                self.tally.nothing += 1;
                let same = masked(prev) == masked(&full.version)
                    && (left.keys > 0 || coverage(prev) == coverage(&full.version));
                match same {
                    true => Ok(()),
                    false => Err("nothing was signed, but there are differences".into()),
                }
            }
            Resigned::Signed(signed, why) => {
                match why {
                    Some(_) => self.tally.full += 1,
                    None => self.tally.incremental += 1,
                }
                self.compare(&signed, &full)?;
                self.take(*signed)
            }
        }
    }

    fn compare(&mut self, signed: &Signed, full: &Signed) -> Result<(), String> {
        self.tally.kept += signed.report.kept;
        self.tally.made += signed.report.signatures;
        let faults = signed.version.audit();
        if !faults.is_empty() {
            return Err(format!("audit: {faults:?}"));
        }
        if masked(&signed.version) != masked(&full.version) {
            return Err("other records than signing everything gives".into());
        }
        if signed.left.keys == 0 && coverage(&signed.version) != coverage(&full.version) {
            return Err("other signatures than signing everything gives".into());
        }
        Ok(())
    }

    /// A batch of the denial that is built beside; the last one makes the version that switches,
    /// which is compared and judged like any other.
    fn build(&mut self, batch: usize) -> Result<(), String> {
        let (Some((to, earlier)), Some((prev, ..))) = (self.beside.take(), &self.before) else {
            return Ok(());
        };
        if to == self.denial {
            return Ok(());
        }
        self.tally.beside += 1;
        let plan = SigningPlan {
            denial: to.clone(),
            ..self.plan()?
        };
        let (clock, progress) = (WallClock::new(), Progress::new());
        let job = Job {
            pool: self.pool,
            clock: &clock,
            progress: &progress,
            class: Class::Normal,
            token_wait: Duration::from_secs(30),
        };
        let pace = Pace {
            batch,
            until: Duration::ZERO,
            keep: &|_| {},
        };
        let (base, scope) = (&self.base, &self.scope);
        let done = change_denial(prev, earlier, base, &plan, scope, &pace, &job, self.now);
        match done.map_err(|e| e.to_string())? {
            Changed::Building(so_far) => self.beside = Some((to, Some(*so_far))),
            Changed::Switched(Resigned::Nothing(_)) => {
                return Err("nothing differs, but the denial does".into());
            }
            Changed::Switched(Resigned::Signed(signed, _)) => {
                let full = sign(&self.base, &plan, &job, self.now).map_err(|e| e.to_string())?;
                self.denial = to;
                self.compare(&signed, &full)?;
                self.take(*signed)?;
                self.tally.switched += 1;
            }
        }
        Ok(())
    }

    fn plan(&self) -> Result<SigningPlan, String> {
        let options = ApexOptions {
            ttl: 3600,
            cds: vec![DigestType::Sha256],
            cdnskey: true,
            lifetime: 14 * 86_400,
            inception_offset: 86_400,
        };
        let apex = make_apex_set(&self.apex, &self.keys, &options, self.now);
        Ok(SigningPlan {
            version: VersionId(self.id + 1),
            serial: Serial(self.serial + 1),
            apex: apex.map_err(|e| e.to_string())?,
            denial: self.denial.clone(),
            zonemd: None,
            times: Times::default(),
            clock: ClockGuard {
                built_at: self.now,
                newest_inception: None,
            },
            requested_at: self.now,
            reasons: Vec::new(),
        })
    }

    /// The gate in full, and by the difference from the version before: the same verdict and the
    /// same ledger.
    fn take(&mut self, signed: Signed) -> Result<(), String> {
        let version = signed.version;
        let params = self.params();
        let full = verify_full(version.clone(), &params, self.now);
        let ledger = accepted(&full, "in full")?;
        if let Some((prev, ledger_before, base_before)) = &self.before {
            let delta = StoreDelta {
                old: prev,
                new: &version,
            };
            let unsigned_delta = StoreDelta {
                old: base_before,
                new: &self.base,
            };
            let predecessor = Predecessor {
                version: prev,
                ledger: ledger_before,
                delta: &delta,
                unsigned_delta: Some(&unsigned_delta),
            };
            let changed = verify_changed(version.clone(), &predecessor, &params, self.now);
            if accepted(&changed, "by its difference")? != ledger {
                return Err("the gate's two modes give two ledgers".into());
            }
            self.tally.verdicts += 1;
        }
        self.tally.verdicts += 1;
        self.id += 1;
        self.serial += 1;
        self.before = Some((version, ledger, self.base.clone()));
        Ok(())
    }

    fn params(&self) -> Params<'_> {
        let own = |key: &ApexKey| OwnKey {
            dnskey: key.dnskey.rdata().to_vec(),
            published: true,
            may_sign_unpublished: false,
            wanted_at_parent: false,
            proven: true,
        };
        Params {
            fingerprint_seed: fingerprint_seed(ZONE),
            own_keys: Some(self.keys.iter().map(own).collect()),
            live_serial: self.before.as_ref().map(|(v, ..)| v.serial()),
            min_remaining: REMAIN,
            denial: Some(match &self.denial {
                DenialPlan::Nsec => DenialPolicy::Nsec,
                DenialPlan::Nsec3 {
                    iterations,
                    salt,
                    opt_out,
                } => DenialPolicy::Nsec3 {
                    iterations: *iterations,
                    salt: salt.clone(),
                    opt_out: *opt_out,
                },
            }),
            approved: Some(&self.base),
            ..Params::file()
        }
    }

    fn judge(&mut self, scratch: &Path) -> Result<(), String> {
        let Some((version, ..)) = &self.before else {
            return Ok(());
        };
        let records = crate::make::records(version);
        let file = scratch.join(format!("sequence-{:?}", std::thread::current().id()));
        std::fs::write(&file, text::zone(&records)).map_err(|e| e.to_string())?;
        let single = self.keys.len() == 1;
        let zone = self.apex.to_string();
        // Knot refuses zones that are lawful for reasons that have nothing to do with signing.
        for judge in [Judge::Ldns, Judge::Bind] {
            match judge.judge(&zone, &file, single) {
                Verdict::Valid => self.tally.judged += 1,
                Verdict::NotInstalled => {}
                Verdict::Invalid(said) => {
                    return Err(format!("{} says: {said}", judge.program()));
                }
            }
        }
        Ok(())
    }
}

fn denial(n: u64) -> DenialPlan {
    match n {
        0 => DenialPlan::Nsec,
        n => DenialPlan::Nsec3 {
            iterations: 0,
            salt: Vec::new(),
            opt_out: n == 2,
        },
    }
}

const PARENTS: [&[u8]; 5] = [b"a", b"b", b"c", b"d", b"longer-than-a-fence"];

/// A name of few labels, of few octets: cuts, DNAMEs, empty non-terminals and wildcards meet.
fn any_key(random: &mut Random) -> Vec<u8> {
    let mut key = Vec::new();
    for _ in 0..random.below(4) {
        let label: &[u8] = match random.below(10) {
            0..=5 => random.one(&PARENTS),
            6 => b"*",
            7 => random.one(&[&b"00"[..], b"03", b"07", b"11x", b"42"]),
            _ => random.one(&[&b"aa"[..], b"b-", b"0", b"longer-than-a-fence-2"]),
        };
        key.extend_from_slice(label);
        key.push(0);
    }
    key
}

fn target(apex: &Name, labels: &[u8]) -> Vec<u8> {
    [labels, apex.as_wire()].concat()
}

fn soa(apex: &Name, minimum: u32) -> Vec<u8> {
    let mut rdata = [target(apex, b"\x02ns"), target(apex, b"\x04host")].concat();
    for n in [1, 7200, 3600, 1_209_600, minimum] {
        rdata.extend_from_slice(&u32::to_be_bytes(n));
    }
    rdata
}

/// A KSK, two ZSKs, and a CSK.
fn ring(algorithm: &str) -> Result<Vec<ApexKey>, String> {
    let spec: KeySpec = algorithm.parse().map_err(|_| "unknown algorithm")?;
    let roles = [Role::Ksk, Role::Zsk, Role::Zsk, Role::Csk];
    let mut ring: Vec<ApexKey> = Vec::new();
    while let Some(role) = roles.get(ring.len()) {
        let id = KeyId([ring.len() as u8 + 1; 16]);
        let key = SoftwareKey::generate(id, role.flags(), spec).map_err(|e| e.to_string())?;
        let dnskey = key.dnskey().clone();
        // Nobody may publish two of one tag; among so many chains some would.
        let tag = dnskey.key_tag();
        if ring.iter().any(|k| k.dnskey.key_tag() == tag) {
            continue;
        }
        ring.push(ApexKey {
            dnskey,
            role: *role,
            signer: Some(Arc::new(key)),
            wanted_at_parent: role.signs_dnskey(),
        });
    }
    Ok(ring)
}

fn build(
    apex: &Name,
    content: &Content,
    id: u64,
    before: Option<&ZoneVersion>,
    now: Timestamp,
) -> Result<ZoneVersion, String> {
    let mut batch = RecordBatch::new();
    for (key, sets) in content {
        batch.owner(key, None);
        for (rtype, (ttl, set)) in sets {
            for rdata in set {
                batch
                    .push(*rtype, *ttl, rdata, 0)
                    .map_err(|e| e.to_string())?;
            }
        }
    }
    let mut builder = Builder::new(ZONE, VersionId(id), apex, now).batches(vec![batch]);
    if let Some(before) = before {
        builder = builder.predecessor(before);
    }
    builder.build().map_err(|e| e.to_string())
}

fn accepted(outcome: &Outcome<ZoneVersion>, mode: &str) -> Result<Ledger, String> {
    match outcome {
        Outcome::Verified(v) => v.ledger().cloned().ok_or_else(|| "no ledger".into()),
        Outcome::Refused(r) => Err(format!("the gate refuses it {mode}: {}", r.report().text())),
    }
}

/// All but RRSIGs, the serial left out.
fn masked(version: &ZoneVersion) -> Vec<Record> {
    let mut records = crate::make::records(version);
    records.retain(|r| r.rtype != text::rtype::RRSIG);
    for soa in records.iter_mut().filter(|r| r.rtype == text::rtype::SOA) {
        let serial = soa.rdata.len().saturating_sub(20);
        soa.rdata.drain(serial..serial + 4);
    }
    records
}

/// Owner, and what an RRSIG says without times and signature.
fn coverage(version: &ZoneVersion) -> BTreeSet<(Vec<u8>, Vec<u8>)> {
    let records = crate::make::records(version);
    let rrsigs = records
        .into_iter()
        .filter(|r| r.rtype == text::rtype::RRSIG);
    rrsigs
        .map(|r| {
            let head = [r.rdata.get(..8), r.rdata.get(16..18)];
            (
                r.owner,
                head.into_iter().flatten().flatten().copied().collect(),
            )
        })
        .collect()
}

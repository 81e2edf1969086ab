//! Random changes, step by step, each signed incrementally and compared with signing everything.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use cascade_crypto::dnskey::Role;
use cascade_crypto::{Class, ZonemdHash};
use cascade_signer::*;
use cascade_time::{SimClock, Timestamp};
use cascade_zone::{
    Builder, Edit, Name, RecordBatch, Rtype, Serial, SoaFields, VersionId, ZoneVersion,
};
use proptest::prelude::*;

use super::verify::{digested, sets, verified};
use super::*;

/// Content: order key -> type -> TTL, RDATA.
pub type Content = BTreeMap<Vec<u8>, BTreeMap<Rtype, (u32, BTreeSet<Vec<u8>>)>>;

/// One RRset, new or gone.
#[derive(Clone, Debug)]
pub struct Op {
    pub key: Vec<u8>,
    pub rtype: Rtype,
    pub set: Option<(u32, BTreeSet<Vec<u8>>)>,
}

#[derive(Clone, Debug)]
pub enum Step {
    /// Applied to the store.
    Edit(Vec<Op>),
    /// Everything under a name goes.
    Prune(Vec<u8>),
    /// Built anew with the version before at hand.
    Reload(Vec<Op>),
    /// Built anew from nothing.
    Fresh(Vec<Op>),
    /// SOA: refresh, and MINIMUM.
    Soa(u32, u32),
    /// Hours pass; upkeep.
    Wait(u32),
    /// Another kind or other parameters of denial.
    Denial(DenialPlan),
    /// Other keys, and at which pace.
    Keys(usize, KeyPace),
    /// Another digest of the zone, or none.
    Zonemd(Option<ZonemdHash>),
}

fn any_key() -> impl Strategy<Value = Vec<u8>> {
    let label = prop_oneof![
        6 => prop::sample::select(vec![&b"a"[..], b"b", b"c", b"d", b"*", b"longer-than-a-fence"]),
        2 => prop::sample::select(vec![&b"00"[..], b"02", b"03x", b"07", b"11", b"11x"]),
        1 => prop::sample::select(vec![&b"aa"[..], b"ab", b"\xff", b"\x01\x01", b"longer-than-a-fence-2"]),
    ];
    prop::collection::vec(label, 0..4).prop_map(|labels| {
        labels
            .iter()
            .flat_map(|l| l.iter().copied().chain([0]))
            .collect()
    })
}

fn any_op() -> impl Strategy<Value = Op> {
    let host = prop::sample::select(vec![b"\x02n1\0".to_vec(), b"\x02N2\x03foo\0".to_vec()]);
    let set = prop_oneof![
        4 => (Just(Rtype::A), prop::collection::btree_set(prop::collection::vec(0u8..3, 4..5), 1..3)),
        4 => (Just(Rtype::NS), prop::collection::btree_set(host.clone(), 1..3)),
        1 => (Just(Rtype::DNAME), prop::collection::btree_set(host, 1..2)),
        3 => (Just(Rtype::DS), prop::collection::btree_set(prop::collection::vec(1u8..3, 36..37), 1..2)),
        // Large, so that a few of them fill a leaf.
        3 => (Just(Rtype::TXT), prop::collection::btree_set(
            prop::sample::select(vec![b"\x01t".to_vec(), [&[255][..], &[b'x'; 255]].concat().repeat(8)]), 1..3)),
        1 => (Just(Rtype(65280)), prop::collection::btree_set(prop::collection::vec(any::<u8>(), 1..4), 1..2)),
    ];
    (
        any_key(),
        set,
        prop::sample::select(vec![60u32, 300, 3600]),
        prop::bool::weighted(0.4),
    )
        .prop_map(|(key, (rtype, set), ttl, gone)| Op {
            key,
            rtype,
            set: (!gone).then_some((ttl, set)),
        })
}

fn any_pace() -> impl Strategy<Value = KeyPace> {
    let spread = (0u32..200_000).prop_map(|over| KeyPace::Spread { since: now(), over });
    prop_oneof![Just(KeyPace::AtOnce), Just(KeyPace::Later), spread]
}

const KEY_CHOICES: usize = 6;

/// Ways to have keys, each a step that a roll may take.
fn key_choice(choice: usize) -> Vec<ApexKey> {
    let (ksk, zsk, csk) = (("15", Role::Ksk), ("15", Role::Zsk), ("13", Role::Csk));
    let other = || apex_key(other_zsk(), Role::Zsk);
    match choice {
        0 => keys(&[ksk, zsk]),
        1 => keys(&[ksk, zsk, csk]),
        2 => keys(&[csk]),
        3 => [keys(&[ksk, zsk]), vec![other()]].concat(),
        4 => {
            let mut published = keys(&[ksk, zsk]);
            published[1].signer = None;
            [published, vec![other()]].concat()
        }
        _ => [keys(&[ksk]), vec![other()]].concat(),
    }
}

pub fn any_sequence(steps: usize) -> impl Strategy<Value = Vec<Step>> {
    let ops = |n| prop::collection::vec(any_op(), 1..n);
    let step = prop_oneof![
        10 => ops(5).prop_map(Step::Edit),
        2 => ops(40).prop_map(Step::Edit),
        2 => any_key().prop_map(Step::Prune),
        2 => ops(10).prop_map(Step::Reload),
        1 => ops(5).prop_map(Step::Fresh),
        1 => (0u32..3, prop_oneof![4 => Just(300u32), 1 => Just(900)]).prop_map(|(r, m)| Step::Soa(r, m)),
        2 => (1u32..200).prop_map(Step::Wait),
        1 => prop_oneof![Just(DenialPlan::Nsec), any::<bool>().prop_map(nsec3)].prop_map(Step::Denial),
        1 => prop::sample::select(vec![None, Some(ZonemdHash::Sha384), Some(ZonemdHash::Sha512)]).prop_map(Step::Zonemd),
        1 => (0..KEY_CHOICES, any_pace()).prop_map(|(k, p)| Step::Keys(k, p)),
    ];
    (ops(60), prop::collection::vec(step, 1..steps)).prop_map(|(first, steps)| {
        let mut all = vec![Step::Edit(first)];
        all.extend(steps);
        all
    })
}

/// A zone on its way.
pub struct Sequence {
    pub content: Content,
    pub base: ZoneVersion,
    pub prev: ZoneVersion,
    pub keys: Vec<ApexKey>,
    pub denial: DenialPlan,
    pub zonemd: Option<ZonemdHash>,
    pub now: Timestamp,
    pub scope: Scope,
    /// All signatures are by the keys at hand.
    pub settled: bool,
    serial: u32,
    cache: BTreeSet<Vec<u8>>,
    pool: rayon::ThreadPool,
}

pub const KEY_SET_REMAIN: u32 = 7 * 86_400;

fn apex() -> Name {
    name("eXample.")
}

impl Sequence {
    /// `filler`: names below those that steps change, and octets of data at each, so that there are
    /// several leaves and blocks.
    pub fn new(denial: DenialPlan, specs: &[(&str, Role)], filler: (usize, usize)) -> Sequence {
        let mut content = Content::new();
        let soa = rdata(Rtype::SOA, &["ns", "h", "1", "2", "3", "4", "300"], &apex());
        let ns = rdata(Rtype::NS, &["ns"], &apex());
        content.insert(
            Vec::new(),
            BTreeMap::from([
                (Rtype::SOA, (3600, BTreeSet::from([soa]))),
                (Rtype::NS, (3600, BTreeSet::from([ns]))),
            ]),
        );
        for i in 0..filler.0 {
            let set = BTreeSet::from([vec![i as u8; filler.1]]);
            let sets = BTreeMap::from([(Rtype(65281), (60, set))]);
            let parent = ["a", "b", "c", "d", "longer-than-a-fence"][i % 5];
            content.insert(format!("{parent}\0{:02}\0", i / 5).into_bytes(), sets);
        }
        let base = build_content(&content, 1, None);
        let keys = keys(specs);
        let signed = run(&base, &plan(&base, &keys, denial.clone())).version;
        let pool = rayon::ThreadPoolBuilder::new().num_threads(2).build();
        Sequence {
            content,
            base,
            prev: signed,
            keys,
            denial,
            zonemd: None,
            now: now(),
            scope: Scope::content(KEY_SET_REMAIN),
            settled: true,
            serial: 4711,
            cache: BTreeSet::new(),
            pool: pool.unwrap(),
        }
    }

    fn next_id(&self) -> VersionId {
        VersionId(self.prev.id().0.max(self.base.id().0) + 1)
    }

    fn apply(&mut self, ops: &[Op]) -> Vec<Edit> {
        for op in ops {
            let owner = self.content.entry(op.key.clone()).or_default();
            match &op.set {
                Some(set) => drop(owner.insert(op.rtype, set.clone())),
                None => drop(owner.remove(&op.rtype)),
            }
        }
        self.content.retain(|_, sets| !sets.is_empty());
        let edit = |op: &Op| Edit {
            key: op.key.clone(),
            case: None,
            rtype: op.rtype,
            set: op
                .set
                .clone()
                .map(|(ttl, set)| (ttl, set.into_iter().collect())),
        };
        ops.iter().map(edit).collect()
    }

    pub fn step(&mut self, step: &Step) -> Resigned {
        let (id, at) = (self.next_id(), self.now);
        self.scope.refresh = 0;
        match step {
            Step::Edit(ops) => {
                let edits = self.apply(ops);
                self.base = self.base.update(id, at, edits).unwrap().version;
            }
            Step::Prune(key) => {
                let all = self.content.range(key.clone()..);
                let under = all.take_while(|(k, _)| k.starts_with(key) && !key.is_empty());
                let gone = |(k, sets): (&Vec<u8>, &BTreeMap<Rtype, _>)| {
                    let op = |t: &Rtype| Op {
                        key: k.clone(),
                        rtype: *t,
                        set: None,
                    };
                    sets.keys().map(op).collect::<Vec<_>>()
                };
                let ops: Vec<Op> = under.flat_map(gone).collect();
                let edits = self.apply(&ops);
                self.base = self.base.update(id, at, edits).unwrap().version;
            }
            Step::Reload(ops) => {
                self.apply(ops);
                self.base = build_content(&self.content, id.0, Some(&self.base));
            }
            Step::Fresh(ops) => {
                self.apply(ops);
                self.base = build_content(&self.content, id.0, None);
            }
            Step::Soa(refresh, minimum) => {
                let text = [refresh.to_string(), minimum.to_string()];
                let words = ["ns", "h", "1", &text[0], "3", "4", &text[1]];
                let soa = rdata(Rtype::SOA, &words, &apex());
                let op = Op {
                    key: Vec::new(),
                    rtype: Rtype::SOA,
                    set: Some((3600, BTreeSet::from([soa]))),
                };
                let edits = self.apply(&[op]);
                self.base = self.base.update(id, at, edits).unwrap().version;
            }
            Step::Wait(hours) => {
                self.now = Timestamp::from_secs(at.secs() + *hours as i64 * 3600);
                self.scope.refresh = u64::MAX;
            }
            Step::Denial(denial) => self.denial = denial.clone(),
            Step::Zonemd(hash) => self.zonemd = *hash,
            Step::Keys(choice, pace) => {
                self.keys = key_choice(*choice);
                self.scope.keys = *pace;
                self.settled = false;
            }
        }
        self.sign()
    }

    pub fn plan(&self) -> SigningPlan {
        SigningPlan {
            version: VersionId(self.next_id().0 + 1),
            serial: Serial(self.serial + 1),
            zonemd: self.zonemd,
            ..plan_at(&self.base, &self.keys, self.denial.clone(), self.now)
        }
    }

    /// Signs incrementally and in full, compares, and goes on from the incremental one.
    pub fn sign(&mut self) -> Resigned {
        let plan = self.plan();
        let (clock, progress) = (SimClock::new(self.now), Progress::new());
        let job = Job {
            pool: &self.pool,
            clock: &clock,
            progress: &progress,
            class: Class::Normal,
            token_wait: Duration::from_secs(10),
        };
        let full = sign(&self.base, &plan, &job, self.now).unwrap();
        let made = sign_from(&self.prev, &self.base, &plan, &self.scope, &job, self.now).unwrap();
        match &made {
            Resigned::Nothing(left) => self.check_nothing(left, &full.version),
            Resigned::Signed(signed, why) => {
                self.check(signed, &full);
                if why.is_none() && self.settled {
                    self.check_minimal(signed);
                }
                self.settled |= signed.left.keys == 0;
                self.serial += 1;
                self.prev = signed.version.clone();
            }
        }
        made
    }

    /// Goes on with the denial `to` beside that of the version before, one batch, and leaves what was
    /// made in `building`. `true`: the version that switches was made, and is the new `prev`.
    pub fn change(
        &mut self,
        to: &DenialPlan,
        batch: usize,
        building: &mut Option<Building>,
    ) -> bool {
        let plan = SigningPlan {
            denial: to.clone(),
            ..self.plan()
        };
        let (clock, progress) = (SimClock::new(self.now), Progress::new());
        let job = Job {
            pool: &self.pool,
            clock: &clock,
            progress: &progress,
            class: Class::Normal,
            token_wait: Duration::from_secs(10),
        };
        let kept = std::cell::RefCell::new(building.take());
        let earlier = kept.borrow().clone();
        let pace = Pace {
            batch,
            until: Duration::ZERO,
            keep: &|b| drop(kept.borrow_mut().replace(b.clone())),
        };
        let scope = Scope::content(KEY_SET_REMAIN);
        let (prev, base) = (&self.prev, &self.base);
        let done = change_denial(prev, earlier, base, &plan, &scope, &pace, &job, self.now);
        *building = kept.into_inner();
        match done.unwrap() {
            Changed::Building(b) => {
                assert!(!b.is_complete() && b.progress().0 < b.progress().1);
                false
            }
            Changed::Switched(Resigned::Signed(signed, None)) => {
                let full = sign(&self.base, &plan, &job, self.now).unwrap();
                // Of the denial all is there, and of the RRsets all that did not change.
                let made: u64 = signed.report.keys.iter().map(|k| k.signatures).sum();
                assert!(made <= 12, "{made} signatures in the version that switches");
                self.check_switch(&signed, &full);
                self.serial += 1;
                self.prev = signed.version.clone();
                self.denial = to.clone();
                *building = None;
                true
            }
            other => panic!("{other:?}"),
        }
    }

    fn check_switch(&mut self, signed: &Signed, full: &Signed) {
        let version = &signed.version;
        let faults = version.audit();
        assert!(faults.is_empty(), "{faults:?}");
        let plain = |v: &ZoneVersion| {
            let mut out = records(v);
            out.retain(|r| r.rtype != Rtype::RRSIG && r.rtype != Rtype::ZONEMD);
            out
        };
        assert_eq!(plain(version), plain(&full.version));
        self.check_keys(version, &full.version);
        verified(version, &records(version), &mut self.cache);
        digested(version, self.zonemd);
    }

    /// Nothing is allowed only if nothing differs but the SOA.
    fn check_nothing(&self, left: &Left, full: &ZoneVersion) {
        assert!(!self.scope.even_if_equal);
        assert_eq!(masked(&self.prev), masked(full));
        if left.keys == 0 {
            self.check_keys(&self.prev, full);
        }
    }

    fn check_keys(&self, version: &ZoneVersion, full: &ZoneVersion) {
        assert_eq!(coverage(version), coverage(full));
    }

    fn check(&mut self, signed: &Signed, full: &Signed) {
        let version = &signed.version;
        let faults = version.audit();
        assert!(faults.is_empty(), "{faults:?}");
        assert_eq!(
            version.content_fingerprint(),
            self.base.content_fingerprint()
        );
        let all = records(version);
        let plain = |list: &[Rec]| -> Vec<Rec> {
            let mut out = list.to_vec();
            // A digest goes over signatures, which are others.
            out.retain(|r| r.rtype != Rtype::RRSIG && r.rtype != Rtype::ZONEMD);
            out
        };
        assert_eq!(plain(&all), plain(&records(&full.version)));
        if signed.left.keys == 0 {
            self.check_keys(version, &full.version);
        }
        verified(version, &all, &mut self.cache);
        digested(version, self.zonemd);
        let now = self.now.secs();
        for sig in all.iter().filter(|r| r.rtype == Rtype::RRSIG) {
            let time = |i: usize| u32::from_be_bytes(sig.rdata[i..i + 4].try_into().unwrap());
            assert!(i64::from(time(12)) <= now && i64::from(time(8)) > now);
        }
        let total = version.sums().signatures;
        let was = self.prev.sums().signatures;
        let report = &signed.report;
        let by_keys: u64 = report.keys.iter().map(|k| k.signatures).sum();
        assert_eq!(report.kept + by_keys, total);
        assert_eq!(report.kept + report.dropped, was);
    }

    /// Content alone: what was signed anew covers other records than before.
    fn check_minimal(&self, signed: &Signed) {
        let (old, new) = (records(&self.prev), records(&signed.version));
        let kept: BTreeSet<&Rec> = old.iter().collect();
        let (old_sets, new_sets) = (sets(&old), sets(&new));
        let covered = |r: &Rec| {
            let covered = Rtype(u16::from_be_bytes([r.rdata[0], r.rdata[1]]));
            (Name::from_wire(&r.owner).unwrap(), covered)
        };
        let rrsigs = old.iter().filter(|r| r.rtype == Rtype::RRSIG);
        let signed_before: BTreeSet<_> = rrsigs.map(covered).collect();
        let mut same = 0;
        for sig in new.iter().filter(|r| r.rtype == Rtype::RRSIG) {
            if kept.contains(sig) {
                same += 1;
                continue;
            }
            let of = covered(sig);
            // What is due at the apex goes along with its SOA: the apex may be due for a week.
            let differs = old_sets.get(&of) != new_sets.get(&of)
                || !signed_before.contains(&of)
                || (of.0 == apex() && self.now.secs() >= now().secs() + 6 * 86_400);
            assert!(
                differs || self.scope.refresh > 0,
                "{} {} was signed without need",
                of.0,
                of.1
            );
        }
        assert!(signed.report.kept <= same);
    }
}

/// (owner, covered, algorithm, labels, TTL, tag) of every RRSIG.
fn coverage(version: &ZoneVersion) -> BTreeSet<(String, Vec<u8>)> {
    let all = records(version);
    let of = |r: &Rec| {
        let d = &r.rdata;
        (r.owner_text(), [&d[..8], &d[16..18]].concat())
    };
    all.iter()
        .filter(|r| r.rtype == Rtype::RRSIG)
        .map(of)
        .collect()
}

/// Records without RRSIG, the SOA without its serial.
fn masked(version: &ZoneVersion) -> Vec<Rec> {
    let mut all = records(version);
    all.retain(|r| r.rtype != Rtype::RRSIG && r.rtype != Rtype::ZONEMD);
    for r in all.iter_mut().filter(|r| r.rtype == Rtype::SOA) {
        r.rdata = SoaFields::with_serial(&r.rdata, Serial(0));
    }
    all
}

pub fn build_content(content: &Content, id: u64, before: Option<&ZoneVersion>) -> ZoneVersion {
    let mut batch = RecordBatch::new();
    for (key, sets) in content {
        batch.owner(key, None);
        for (rtype, (ttl, set)) in sets {
            for r in set {
                batch.push(*rtype, *ttl, r, 0).unwrap();
            }
        }
    }
    let mut builder = Builder::new(ZONE, VersionId(id), &apex(), now()).batches(vec![batch]);
    if let Some(v) = before {
        builder = builder.predecessor(v);
    }
    builder.build().unwrap()
}

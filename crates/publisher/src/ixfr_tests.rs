//! Increments: what a client has, and what it is sent, give exactly what is served.

use std::collections::BTreeSet;
use std::sync::Arc;

use cascade_wire::{Acl, Algorithm, TsigKey, TsigKeys};
use cascade_zone::version::{SoaFields, ZoneVersion};
use cascade_zone::{Edit, Rtype, Serial, VersionId, key};
use proptest::prelude::*;

use crate::answer::Outcome;
use crate::axfr_tests::{Rec, big, expected, receive, start};
use crate::context::Transport;
use crate::directory::{Role, ZoneSettings};
use crate::steps::{Step, StepLimits, Steps};
use crate::testing::*;
use crate::tests::{Ask, World, ask, world};

const ALL: StepLimits = StepLimits {
    steps: 5,
    percent: 100,
};

/// A zone that is published in version after version.
struct Line {
    w: World,
    base: Arc<ZoneVersion>,
    scheme: Option<Scheme>,
    limits: StepLimits,
    versions: Vec<Arc<ZoneVersion>>,
}

impl Line {
    fn new(base: Arc<ZoneVersion>, scheme: Option<Scheme>, limits: StepLimits) -> Self {
        let mut w = world(&base);
        w.role = Role::Publication;
        let settings = ZoneSettings {
            provide_xfr_to: Acl::any(),
            ..ZoneSettings::default()
        };
        w.directory
            .by_id(base.zone())
            .unwrap()
            .set_settings(settings);
        let mut line = Line {
            w,
            base: base.clone(),
            scheme,
            limits,
            versions: vec![],
        };
        line.publish(base);
        line
    }

    fn publish(&mut self, base: Arc<ZoneVersion>) {
        let id = VersionId(100 + self.versions.len() as u64);
        let v = match self.scheme {
            Some(scheme) => signed_as(&base, scheme, now(), id),
            None => base.clone(),
        };
        let entry = self.w.directory.by_id(v.zone()).unwrap();
        if let Some(old) = self.versions.last() {
            entry.set_steps(entry.steps().then(old, &v, self.limits));
        }
        self.w.directory.store(v.zone(), 2, v.clone()).unwrap();
        self.base = base;
        self.versions.push(v);
    }

    /// One more version; owners are relative to the apex, `None` removes.
    fn edit(&mut self, edits: &[(&str, Rtype, Option<&str>)]) {
        let apex = self.base.apex().clone();
        let serial = Serial(self.base.serial().0.wrapping_add(1));
        let soa = SoaFields::with_serial(self.base.soa(), serial);
        let mut list = vec![Edit {
            key: vec![],
            case: None,
            rtype: Rtype::SOA,
            set: Some((self.base.soa_ttl(), vec![soa])),
        }];
        for (owner, rtype, data) in edits {
            let owner = wire(&format!("{owner}.example"));
            list.push(Edit {
                key: key::key_of(&apex, &owner).unwrap(),
                case: key::case_of(&apex, &owner),
                rtype: *rtype,
                set: data.map(|d| {
                    let (ttl, d) = d.split_once(' ').unwrap();
                    let set = d.split('|').map(|d| rdata(*rtype, d)).collect();
                    (ttl.parse().unwrap(), set)
                }),
            });
        }
        let id = VersionId(self.base.id().0 + 1);
        let next = self.base.update(id, now(), list).unwrap().version;
        self.publish(Arc::new(next));
    }

    fn ask(&self, i: usize) -> Ask {
        let mut a = ask("example", Rtype::IXFR).tcp();
        a.serial = Some(self.versions[i].serial().0);
        a
    }

    /// What a client at version `i` makes of the answer; whether it was an increment.
    fn follow(&self, i: usize) -> bool {
        let (records, _) = receive(start(&self.w, &self.ask(i)), None);
        let last = self.versions.last().unwrap();
        apply(&self.versions[i], last, &records)
    }
}

/// Replays an answer the strict way: what is removed must be there, what is added must not.
fn apply(old: &ZoneVersion, new: &ZoneVersion, got: &[Rec]) -> bool {
    let is_soa = |r: &Rec| r.1 == Rtype::SOA;
    let serial = |r: &Rec| SoaFields::parse(&r.3).unwrap().serial;
    assert!(is_soa(&got[0]) && got[0] == got[got.len() - 1]);
    assert_eq!(serial(&got[0]), new.serial());
    if !is_soa(&got[1]) {
        assert_eq!(got, expected(new));
        return false;
    }
    let lower = |r: &Rec| (r.0.to_ascii_lowercase(), r.1, r.2, r.3.clone());
    let all = |v: &ZoneVersion| -> BTreeSet<Rec> {
        let mut list = expected(v);
        list.pop();
        list.iter().map(lower).collect()
    };
    let mut have = all(old);
    let mut adding = true;
    for r in &got[1..got.len() - 1] {
        if is_soa(r) {
            adding = !adding;
        }
        let r = lower(r);
        if adding {
            assert!(have.insert(r.clone()), "was there: {r:?}");
        } else {
            assert!(have.remove(&r), "was not there: {r:?}");
        }
    }
    assert!(adding);
    assert_eq!(have, all(new));
    true
}

#[test]
fn one_change_is_a_small_increment() {
    for scheme in [
        None,
        Some(Scheme::Nsec),
        Some(Scheme::Nsec3),
        Some(Scheme::OptOut),
    ] {
        let mut line = Line::new(big(200), scheme, ALL);
        line.edit(&[("new.t", Rtype::A, Some("60 192.0.2.7"))]);
        line.edit(&[
            ("host-7.t", Rtype::NS, None),
            ("ns1.host-7.t", Rtype::A, Some("60 192.0.2.1|192.0.2.2")),
        ]);
        assert!(line.follow(0) && line.follow(1));
        let (records, _) = receive(start(&line.w, &line.ask(1)), None);
        assert!(records.len() < 30, "{}", records.len());
        // Its own serial, and one that was never served.
        assert_eq!(line.w.get(&line.ask(2)).shape(), ["an example. SOA"]);
        let mut a = line.ask(0);
        a.serial = Some(1);
        let (records, _) = receive(start(&line.w, &a), None);
        assert!(!apply(&line.versions[0], &line.versions[2], &records));
    }
}

#[test]
fn a_change_of_ttl_or_of_letters_removes_and_adds() {
    let mut line = Line::new(big(50), None, ALL);
    line.edit(&[("host-1.t", Rtype::NS, Some("61 ns1.host-1.t.example."))]);
    line.edit(&[("host-1.t", Rtype::NS, Some("61 NS1.host-1.t.example."))]);
    let (records, _) = receive(start(&line.w, &line.ask(0)), None);
    assert_eq!(records.len(), 10);
    assert!(line.follow(0) && line.follow(1));
}

#[test]
fn old_steps_are_joined_and_what_cancels_is_not_sent() {
    let limits = StepLimits { steps: 3, ..ALL };
    let mut line = Line::new(big(200), Some(Scheme::Nsec), limits);
    for i in 0..8 {
        let (name, other) = (format!("host-{i}.t"), "host-100.t");
        let back = (i % 2 == 1).then_some("60 ns.other.test.");
        line.edit(&[(&name, Rtype::NS, None), (other, Rtype::NS, back)]);
        let entry = line.w.directory.by_id(line.base.zone()).unwrap();
        assert!(entry.steps().len() <= 3);
        // The oldest client and the newest ones still get an increment.
        assert!(line.follow(0) && line.follow(line.versions.len() - 2));
    }
    let ways: Vec<bool> = (0..8).map(|i| line.follow(i)).collect();
    assert_eq!(ways.iter().filter(|w| **w).count(), 3, "{ways:?}");
    let (records, _) = receive(start(&line.w, &line.ask(0)), None);
    assert!(records.iter().filter(|r| r.1 == Rtype::SOA).count() <= 2 + 2 * 3);
}

#[test]
fn what_is_too_large_is_sent_whole() {
    let mut line = Line::new(
        big(100),
        None,
        StepLimits {
            steps: 5,
            percent: 20,
        },
    );
    for i in 0..30 {
        let (name, glue) = (format!("host-{i}.t"), format!("ns1.host-{i}.t"));
        line.edit(&[(&name, Rtype::NS, None), (&glue, Rtype::A, None)]);
    }
    let records = line.versions.last().unwrap().sums().records;
    let entry = line.w.directory.by_id(line.base.zone()).unwrap();
    let kept = entry.steps();
    assert!(!kept.is_empty() && !line.follow(0) && line.follow(29));
    // One step beyond the limit, and limits that keep nothing.
    let (first, last) = (&line.versions[0], line.versions.last().unwrap());
    let some = StepLimits {
        steps: 5,
        percent: 10,
    };
    assert!(Step::between(first, last, some).is_none() && records > 100);
    assert!(Step::between(first, last, ALL).is_some());
    for limits in [
        StepLimits { steps: 0, ..ALL },
        StepLimits { percent: 0, ..ALL },
    ] {
        assert!(kept.then(&line.versions[29], last, limits).is_empty());
    }
    // Backwards, and with a gap.
    assert!(kept.then(last, first, ALL).is_empty());
    let gap = kept.then(&line.versions[5], &line.versions[6], ALL);
    assert_eq!(gap.len(), 1);
    entry.set_steps(gap);
    assert!(!line.follow(29) && !line.follow(5));
    entry.set_steps(Steps::default());
    assert!(!line.follow(29));
}

/// More than half of the zone has changed: the chain is there, and the zone is sent whole.
#[test]
fn half_a_zone_is_sent_whole() {
    let mut line = Line::new(unsigned("example", MAZE), None, ALL);
    for _ in 0..2 {
        let long = "x".repeat(200);
        line.edit(&[(
            "a",
            Rtype::TXT,
            Some(&format!("60 {long}1|{long}2|{long}3|{long}4")),
        )]);
        line.edit(&[("a", Rtype::TXT, None)]);
    }
    let entry = line.w.directory.by_id(line.base.zone()).unwrap();
    assert!(!entry.steps().is_empty() && !line.follow(0));
}

#[test]
fn over_udp_what_fits() {
    let mut line = Line::new(big(200), None, ALL);
    line.edit(&[("new.t", Rtype::A, Some("60 192.0.2.7"))]);
    let mut a = line.ask(0);
    a.transport = Transport::Udp;
    let got = line.w.get(&a);
    assert!(got.aa() && !got.tc());
    assert_eq!(
        got.shape(),
        [
            "an example. SOA",
            "an example. SOA",
            "an example. SOA",
            "an new.t.example. A",
            "an example. SOA"
        ]
    );
    let many: Vec<String> = (0..100).map(|i| format!("m{i}.t")).collect();
    let edits: Vec<_> = many
        .iter()
        .map(|m| (m.as_str(), Rtype::A, Some("60 192.0.2.7")))
        .collect();
    line.edit(&edits);
    assert_eq!(line.w.get(&a).shape(), ["an example. SOA"]);
    a.serial = Some(1);
    assert_eq!(line.w.get(&a).shape(), ["an example. SOA"]);
    // Signed answers of 512 octets.
    let key = || TsigKey::new(&name("k"), Algorithm::HmacSha512, b"secret");
    line.w.settings.keys = Arc::new(TsigKeys::new([key()]));
    (a.serial, a.key, a.edns) = (
        Some(line.versions[1].serial().0),
        Some(Arc::new(key())),
        None,
    );
    assert_eq!(line.w.get(&a).shape().len(), 2, "SOA and TSIG");
}

#[test]
fn large_increments_come_in_signed_messages() {
    let mut line = Line::new(big(900), Some(Scheme::Nsec3), ALL);
    for round in 0..2 {
        let names: Vec<String> = (0..150)
            .map(|i| format!("host-{}.t", i * 2 + round))
            .collect();
        let edits: Vec<_> = names
            .iter()
            .map(|m| (m.as_str(), Rtype::DS, Some("60 9")))
            .collect();
        line.edit(&edits);
    }
    let key = || TsigKey::new(&name("key.example"), Algorithm::HmacSha256, b"secret");
    line.w.settings.keys = Arc::new(TsigKeys::new([key()]));
    let mut a = line.ask(0);
    a.key = Some(Arc::new(key()));
    let (_, client) = a.message();
    let (records, sizes) = receive(start(&line.w, &a), client);
    assert!(
        sizes.len() > 2 && sizes.iter().all(|s| *s <= 16_382),
        "{sizes:?}"
    );
    assert!(apply(&line.versions[0], &line.versions[2], &records));
    assert!(start(&line.w, &a).request().is_incremental());
}

/// A transfer that was granted keeps to its version and its steps whatever is published meanwhile.
#[test]
fn a_running_increment_is_not_disturbed() {
    let mut line = Line::new(big(200), None, ALL);
    line.edit(&[("new.t", Rtype::A, Some("60 192.0.2.7"))]);
    let Outcome::Transfer(request) = line.w.run(&line.ask(0), &mut Vec::new()) else {
        panic!("no transfer");
    };
    line.edit(&[("new.t", Rtype::A, None)]);
    let (records, _) = receive(crate::axfr::Transfer::new(*request), None);
    assert!(apply(&line.versions[0], &line.versions[1], &records));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]
    #[test]
    fn any_client_arrives(
        rounds in prop::collection::vec(prop::collection::vec((0usize..40, 0u8..5, 1u32..4), 0..6), 1..9),
        scheme in prop::sample::select(vec![None, Some(Scheme::Nsec), Some(Scheme::OptOut)]),
        steps in 1usize..5,
        percent in prop::sample::select(vec![10u32, 50, 100]),
    ) {
        let mut line = Line::new(big(40), scheme, StepLimits { steps, percent });
        for round in &rounds {
            let owners: Vec<String> = round.iter().map(|(i, _, _)| format!("host-{i}.t")).collect();
            let data: Vec<String> = round.iter().map(|(i, _, ttl)| format!("{ttl} ns{ttl}.host-{i}.t.example.")).collect();
            let edits: Vec<_> = round.iter().enumerate().map(|(n, (_, what, _))| match what {
                0 => (owners[n].as_str(), Rtype::NS, None),
                1 => (owners[n].as_str(), Rtype::DNAME, Some(data[n].as_str())),
                2 => (owners[n].as_str(), Rtype::DNAME, None),
                _ => (owners[n].as_str(), Rtype::NS, Some(data[n].as_str())),
            }).collect();
            line.edit(&edits);
            let newest = line.versions.len() - 1;
            for i in 0..newest {
                line.follow(i);
            }
        }
    }
}

//! Generated zones and generated mutations: good ones pass, bad ones never.

// Helpers of tests: a panic is a failed test.
#![allow(clippy::unwrap_used)]

mod common;
use cascade_verifier::{Params, Verdict, verify_records};
use common::random::*;
use common::*;
use proptest::prelude::*;

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    #[test]
    fn random_good_zones_pass_and_mutated_ones_do_not(
        spots in spots(14),
        chain in chain(),
        two in any::<bool>(),
        mutations in prop::collection::vec((any::<usize>(), mutation()), 12),
    ) {
        let signer = Signer::new(chain, two);
        let content = zone_of(&spots, 7);
        let approved = list(&content);
        let good = signer.sign(&content);
        let mut params = Params::file();
        params.approved = Some(&approved);
        let outcome = verify(&good, &params);
        prop_assert_eq!(outcome.report().verdict, Verdict::Passed, "{}", outcome.report().text());
        for (at, how) in mutations {
            let mut zone = good.clone();
            if !mutate(&mut zone, at, &how) {
                continue;
            }
            // A list that cannot even be held is refused too.
            if let Ok(outcome) = verify_records(&n("example"), zone.iter().map(rr), &params, now()) {
                prop_assert_eq!(outcome.report().verdict, Verdict::Refused, "{:?} of {:?}", how, good[at % good.len()]);
            }
        }
    }

    #[test]
    fn octets_of_any_kind_do_no_harm(
        records in prop::collection::vec(
            (prop::collection::vec(any::<u8>(), 0..12), any::<u16>(), prop::collection::vec(any::<u8>(), 0..60)),
            0..12,
        ),
        types in prop::collection::vec(prop::sample::select(vec![NS, SOA, DNAME, DS, RRSIG, NSEC, DNSKEY, NSEC3, NSEC3PARAM, CDS, CDNSKEY, ZONEMD]), 12),
    ) {
        let mut zone = Signer::new(Chain::nsec3(), false).sign(&zone_of(&[], 7));
        for ((owner, rtype, rdata), special) in records.into_iter().zip(types) {
            zone.push(R { owner: n("example"), rtype: special, ttl: 900, rdata: rdata.clone() });
            zone.push(R { owner: [&[1, b'x'][..], &n("example")].concat(), rtype: special, ttl: 900, rdata: rdata.clone() });
            zone.push(R { owner, rtype, ttl: 900, rdata });
        }
        let held: Vec<R> = zone.into_iter().filter(|r| cascade_zone::Name::from_wire(&r.owner).is_ok()).collect();
        let outcome = verify_records(&n("example"), held.iter().map(rr), &Params::file(), now()).unwrap();
        let _ = outcome.report().text();
    }
}

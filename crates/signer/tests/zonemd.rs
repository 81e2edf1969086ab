//! The digest of a zone: made last, signed, and made again with whatever changes.
#![allow(clippy::unwrap_used)]

mod kit;

use cascade_crypto::ZonemdHash;
use cascade_crypto::dnskey::Role;
use cascade_signer::*;
use cascade_zone::Rtype;
use kit::changes::*;
use kit::verify::digested;
use kit::*;

fn all_denials() -> [DenialPlan; 3] {
    [DenialPlan::Nsec, nsec3(false), nsec3(true)]
}

fn edit(key: &[u8], octet: u8) -> Step {
    Step::Edit(vec![Op {
        key: key.to_vec(),
        rtype: Rtype::A,
        set: Some((60, [vec![octet; 4]].into())),
    }])
}

#[test]
fn every_change_has_a_digest_and_nothing_has_none() {
    for denial in all_denials() {
        let specs = [("15", Role::Ksk), ("15", Role::Zsk)];
        let mut zone = Sequence::new(denial, &specs, (300, 400));
        // `step` compares with a reference each time.
        let done = zone.step(&Step::Zonemd(Some(ZonemdHash::Sha384)));
        assert!(matches!(done, Resigned::Signed(_, None)), "{done:?}");
        zone.step(&edit(b"c\x0007x\0", 1));
        let Resigned::Signed(signed, None) = zone.step(&edit(b"c\x0007x\0", 2)) else {
            panic!("everything was signed for one record");
        };
        // The record, the SOA, the digest: NSEC stays.
        assert_eq!(signed.report.signatures, 3);
        assert_eq!(
            signed.report.kept + signed.report.signatures,
            signed.version.sums().signatures
        );
        let done = zone.step(&Step::Wait(1));
        assert!(matches!(done, Resigned::Nothing(_)), "{done:?}");
        let done = zone.step(&Step::Zonemd(Some(ZonemdHash::Sha512)));
        assert!(matches!(done, Resigned::Signed(_, None)), "{done:?}");
        zone.step(&Step::Wait(24 * 9));
        let done = zone.step(&Step::Zonemd(None));
        assert!(matches!(done, Resigned::Signed(_, None)), "{done:?}");
    }
}

/// Its bit is in the bitmap at the apex, and its signature by the ZSK alone.
#[test]
fn the_set_is_signed_like_data() {
    let base = zone(
        "example.",
        "@ SOA ns h 1 2 3 4 300\n@ NS ns\nns A 192.0.2.1\n",
    );
    let two = keys(&[("15", Role::Ksk), ("15", Role::Zsk)]);
    let plan = SigningPlan {
        zonemd: Some(ZonemdHash::Sha384),
        ..plan(&base, &two, DenialPlan::Nsec)
    };
    let signed = run(&base, &plan);
    digested(&signed.version, Some(ZonemdHash::Sha384));
    assert!(nsec_lines(&signed.version)[0].ends_with("NS SOA RRSIG NSEC DNSKEY ZONEMD"));
    let zsk = two[1].dnskey.key_tag();
    let of_digest: Vec<String> = rrsig_lines(&signed.version)
        .into_iter()
        .filter(|l| l.contains("ZONEMD"))
        .collect();
    assert_eq!(of_digest, [format!("example. ZONEMD {zsk}")]);
    assert!(signed.version.audit().is_empty());
}

/// A name of the zone that is the hash of another one: its records and the NSEC3 are one owner.
#[test]
fn a_name_may_be_a_hash() {
    let text = "@ SOA ns h 1 2 3 4 300\n@ NS ns\nns A 192.0.2.1\n";
    let two = keys(&[("15", Role::Ksk), ("15", Role::Zsk)]);
    let first = run(
        &zone("example.", text),
        &plan(&zone("example.", text), &two, nsec3(false)),
    );
    let hashes: Vec<String> = nsec3_lines(&first.version)
        .iter()
        .map(|l| l.split(' ').next().unwrap().to_string())
        .collect();
    // The RRSIGs of both sort among each other.
    let more: String = hashes
        .iter()
        .map(|h| format!("{h} A 192.0.2.2\n{h} TXT \"x\"\nx.{h} A 192.0.2.3\n"))
        .collect();
    let base = zone("example.", &format!("{text}{more}"));
    for hash in [ZonemdHash::Sha384, ZonemdHash::Sha512] {
        let plan = SigningPlan {
            zonemd: Some(hash),
            ..plan(&base, &two, nsec3(false))
        };
        let signed = run(&base, &plan);
        digested(&signed.version, Some(hash));
    }
}

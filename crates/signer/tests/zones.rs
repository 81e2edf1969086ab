//! Zones whose signed form is known: the RFCs' appendices, the seed example, odd corners.
#![allow(clippy::unwrap_used)]

mod kit;

use cascade_crypto::dnskey::Role;
use cascade_signer::*;
use cascade_zone::{Rtype, Serial};
use kit::*;

const RFC4035: &str = "
@ SOA ns1 bugs.x.w 1081539377 3600 300 3600000 3600
@ NS ns1
@ NS ns2
@ MX 1 xx
a NS ns1.a
a NS ns2.a
a DS 57855 5 1 B6DCD485719ADCA18E5F3D48A2331627FDD3636B
ns1.a A 192.0.2.5
ns2.a A 192.0.2.6
ai A 192.0.2.9
ai HINFO \"KLH-10\" \"ITS\"
ai AAAA 2001:db8::f00:baa9
b NS ns1.b
b NS ns2.b
ns1.b A 192.0.2.7
ns2.b A 192.0.2.8
ns1 A 192.0.2.1
ns2 A 192.0.2.2
*.w MX 1 ai
x.w MX 1 xx
x.y.w MX 1 xx
xx A 192.0.2.10
xx HINFO \"KLH-10\" \"TOPS-20\"
xx AAAA 2001:db8::f00:baaa
";

fn two(spec: &str) -> Vec<ApexKey> {
    keys(&[(spec, Role::Ksk), (spec, Role::Zsk)])
}

#[test]
fn rfc4035_appendix_a() {
    let base = zone("example.", RFC4035);
    let keys = two("13");
    let signed = run(&base, &plan(&base, &keys, DenialPlan::Nsec));
    assert_eq!(
        nsec_lines(&signed.version),
        [
            "example. a.example. NS SOA MX RRSIG NSEC DNSKEY",
            "a.example. ai.example. NS DS RRSIG NSEC",
            "ai.example. b.example. A HINFO AAAA RRSIG NSEC",
            "b.example. ns1.example. NS RRSIG NSEC",
            "ns1.example. ns2.example. A RRSIG NSEC",
            "ns2.example. *.w.example. A RRSIG NSEC",
            "*.w.example. x.w.example. MX RRSIG NSEC",
            "x.w.example. x.y.w.example. MX RRSIG NSEC",
            "x.y.w.example. xx.example. MX RRSIG NSEC",
            "xx.example. example. A HINFO AAAA RRSIG NSEC",
        ]
    );
    let (ksk, zsk) = (keys[0].dnskey.key_tag(), keys[1].dnskey.key_tag());
    let mut want: Vec<String> = [
        "example. SOA",
        "example. NS",
        "example. MX",
        "example. NSEC",
        "a.example. DS",
        "a.example. NSEC",
        "ai.example. A",
        "ai.example. HINFO",
        "ai.example. AAAA",
        "ai.example. NSEC",
        "b.example. NSEC",
        "ns1.example. A",
        "ns1.example. NSEC",
        "ns2.example. A",
        "ns2.example. NSEC",
        "*.w.example. MX",
        "*.w.example. NSEC",
        "x.w.example. MX",
        "x.w.example. NSEC",
        "x.y.w.example. MX",
        "x.y.w.example. NSEC",
        "xx.example. A",
        "xx.example. HINFO",
        "xx.example. AAAA",
        "xx.example. NSEC",
    ]
    .iter()
    .map(|t| format!("{t} {zsk}"))
    .collect();
    want.push(format!("example. DNSKEY {ksk}"));
    want.sort();
    assert_eq!(rrsig_lines(&signed.version), want);
    assert_eq!(signed.report.denial_records, 10);
    assert_eq!(signed.report.signatures, 25);
    assert_eq!(signed.version.serial(), Serial(4711));
}

const RFC5155: &str = "
@ SOA ns1 bugs.x.w 1 3600 300 3600000 3600
@ NS ns1
@ NS ns2
@ MX 1 xx
2t7b4g4vsa5smi47k61mv5bv1a22bojr A 192.0.2.127
a NS ns1.a
a NS ns2.a
a DS 58470 5 1 3079F1593EBAD6DC121E202A8B766A6A4837206C
ns1.a A 192.0.2.5
ns2.a A 192.0.2.6
ai A 192.0.2.9
ai HINFO \"KLH-10\" \"ITS\"
ai AAAA 2001:db8::f00:baa9
c NS ns1.c
c NS ns2.c
ns1.c A 192.0.2.7
ns2.c A 192.0.2.8
ns1 A 192.0.2.1
ns2 A 192.0.2.2
*.w MX 1 ai
x.w MX 1 xx
x.y.w MX 1 xx
xx A 192.0.2.10
xx HINFO \"KLH-10\" \"TOPS-20\"
xx AAAA 2001:db8::f00:baaa
";

#[test]
fn rfc5155_appendix_a() {
    let base = zone("example.", RFC5155);
    let denial = DenialPlan::Nsec3 {
        iterations: 12,
        salt: vec![0xaa, 0xbb, 0xcc, 0xdd],
        opt_out: true,
    };
    let signed = run(&base, &plan(&base, &two("13"), denial));
    let want = [
        "0p9mhaveqvm6t7vbl5lop2u3t2rp3tom 2t7b4g4vsa5smi47k61mv5bv1a22bojr NS SOA MX RRSIG DNSKEY NSEC3PARAM",
        "2t7b4g4vsa5smi47k61mv5bv1a22bojr 2vptu5timamqttgl4luu9kg21e0aor3s A RRSIG",
        "2vptu5timamqttgl4luu9kg21e0aor3s 35mthgpgcu1qg68fab165klnsnk3dpvl MX RRSIG",
        "35mthgpgcu1qg68fab165klnsnk3dpvl b4um86eghhds6nea196smvmlo4ors995 NS DS RRSIG",
        "b4um86eghhds6nea196smvmlo4ors995 gjeqe526plbf1g8mklp59enfd789njgi MX RRSIG",
        "gjeqe526plbf1g8mklp59enfd789njgi ji6neoaepv8b5o6k4ev33abha8ht9fgc A HINFO AAAA RRSIG",
        "ji6neoaepv8b5o6k4ev33abha8ht9fgc k8udemvp1j2f7eg6jebps17vp3n8i58h",
        "k8udemvp1j2f7eg6jebps17vp3n8i58h kohar7mbb8dc2ce8a9qvl8hon4k53uhi",
        "kohar7mbb8dc2ce8a9qvl8hon4k53uhi q04jkcevqvmu85r014c7dkba38o0ji5r A RRSIG",
        "q04jkcevqvmu85r014c7dkba38o0ji5r r53bq7cc2uvmubfu5ocmm6pers9tk9en A RRSIG",
        "r53bq7cc2uvmubfu5ocmm6pers9tk9en t644ebqk9bibcna874givr6joj62mlhv MX RRSIG",
        "t644ebqk9bibcna874givr6joj62mlhv 0p9mhaveqvm6t7vbl5lop2u3t2rp3tom A HINFO AAAA RRSIG",
    ]
    .map(|l| l.replacen(' ', " 1 12 aabbccdd ", 1));
    assert_eq!(nsec3_lines(&signed.version), want);
    let param: Vec<_> = records(&signed.version)
        .into_iter()
        .filter(|r| r.rtype == Rtype::NSEC3PARAM)
        .collect();
    assert_eq!(param.len(), 1);
    assert_eq!(
        param[0].rdata,
        [1, 0, 0, 12, 4, 0xaa, 0xbb, 0xcc, 0xdd],
        "flags 0, RFC 5155 §4.1.2"
    );
    assert_eq!(param[0].ttl, 3600);
}

#[test]
fn seed_example() {
    let text = "
        @ SOA ns.example.net. username.example.net. 1 86400 7200 2419200 300
        @ NS example.net.
        @ A 127.0.0.1";
    let one_owner = zone("example.net", text);
    let report = run(&one_owner, &plan(&one_owner, &two("13"), DenialPlan::Nsec)).report;
    assert_eq!(
        (report.records, report.denial_records, report.signatures),
        (3, 1, 4)
    );
    // As on the page: the address is that of the name server.
    let base = zone("example.net", &text.replace("@ A", "ns A"));
    let signed = run(&base, &plan(&base, &two("13"), DenialPlan::Nsec));
    let report = &signed.report;
    assert_eq!(
        (report.records, report.denial_records, report.signatures),
        (3, 2, 5)
    );
    assert!((1..=2).contains(&report.threads));
    assert_eq!(report.keys.len(), 2);
    assert_eq!(report.keys.iter().map(|k| k.signatures).sum::<u64>(), 6);
}

#[test]
fn opt_out_leaves_out_what_is_only_above_insecure_cuts() {
    let base = zone(
        "example.",
        "@ SOA ns h 1 2 3 4 300
         @ NS ns.elsewhere.
         i.ent1 NS ns.elsewhere.
         i.ent2 NS ns.elsewhere.
         s.ent2 NS ns.elsewhere.
         s.ent2 DS 1 13 2 00
         j.x.ent3 NS ns.elsewhere.
         t.ent3 TXT \"t\"",
    );
    let hashes = |opt_out| {
        let signed = run(&base, &plan(&base, &two("15"), nsec3(opt_out)));
        signed.report.denial_records
    };
    // apex, s.ent2, ent2, t.ent3, ent3 — not ent1, i.*, x.ent3.
    assert_eq!(hashes(true), 5);
    assert_eq!(hashes(false), 10);
    let signed = run(&base, &plan(&base, &two("15"), nsec3(true)));
    let lines = nsec3_lines(&signed.version);
    assert!(
        lines.iter().all(|l| l.split(' ').nth(1) == Some("1")),
        "opt-out bit in all: {lines:?}"
    );
}

#[test]
fn dname_and_occlusion() {
    let base = zone(
        "example.",
        "@ SOA ns h 1 2 3 4 300
         @ NS ns.elsewhere.
         d DNAME target.example.
         d TXT \"beside\"
         x.d TXT \"occluded\"
         c NS ns.c
         c TXT \"not authoritative\"
         ns.c A 192.0.2.1
         y.c NS ns.c
         y.c DS 1 13 2 00
         *.c TXT \"occluded wildcard\"
         z NS ns.elsewhere.
         z DS 1 13 2 00",
    );
    let keys = two("15");
    let zsk = keys[1].dnskey.key_tag();
    let signed = run(&base, &plan(&base, &keys, DenialPlan::Nsec));
    let mine: Vec<String> = rrsig_lines(&signed.version)
        .into_iter()
        .filter(|l| !l.starts_with("example."))
        .collect();
    let want = [
        "c.example. NSEC",
        "d.example. DNAME",
        "d.example. NSEC",
        "d.example. TXT",
        "z.example. DS",
        "z.example. NSEC",
    ]
    .map(|l| format!("{l} {zsk}"));
    assert_eq!(mine, want);
    assert_eq!(
        nsec_lines(&signed.version)[1..],
        [
            "c.example. d.example. NS RRSIG NSEC",
            "d.example. z.example. TXT RRSIG DNAME NSEC"
                .replace("TXT RRSIG DNAME", "TXT DNAME RRSIG")
                .as_str(),
            "z.example. example. NS DS RRSIG NSEC",
        ]
    );
}

#[test]
fn wildcard_labels_are_not_counted() {
    let base = zone(
        "example.",
        "@ SOA ns h 1 2 3 4 300
         @ NS ns.elsewhere.
         *.W TXT \"w\"
         a.*.W TXT \"below\"
         *x.W TXT \"no wildcard\"",
    );
    let signed = run(&base, &plan(&base, &two("15"), nsec3(false)));
    let labels: Vec<(String, u8)> = records(&signed.version)
        .iter()
        .filter(|r| r.rtype == Rtype::RRSIG && r.rdata[..2] == Rtype::TXT.0.to_be_bytes())
        .map(|r| (r.owner_text(), r.rdata[3]))
        .collect();
    let want = [
        ("*.W.example.", 2),
        ("a.*.W.example.", 4),
        ("*x.W.example.", 3),
    ];
    assert_eq!(labels, want.map(|(n, l)| (n.to_string(), l)));
}

#[test]
fn root_zone_and_empty_zone() {
    for apex in [".", "example."] {
        let base = zone(
            apex,
            "@ SOA ns.elsewhere. h.elsewhere. 1 2 3 4 300\n@ NS ns.elsewhere.",
        );
        for denial in [DenialPlan::Nsec, nsec3(false), nsec3(true)] {
            let signed = run(&base, &plan(&base, &two("15"), denial));
            assert_eq!(signed.report.denial_records, 1);
        }
    }
    let base = zone(
        ".",
        "@ SOA ns.elsewhere. h.elsewhere. 1 2 3 4 300\n@ NS ns.elsewhere.\ncom. NS a.com.",
    );
    let signed = run(&base, &plan(&base, &two("15"), DenialPlan::Nsec));
    assert_eq!(nsec_lines(&signed.version)[1], "com. . NS RRSIG NSEC");
}

#[test]
fn key_sets_in_the_content_are_replaced() {
    let base = zone("example.", "@ SOA ns h 1 2 3 4 300\n@ NS ns.elsewhere.");
    let mut list: Vec<_> = records(&base)
        .into_iter()
        .map(|r| {
            (
                cascade_zone::Name::from_wire(&r.owner).unwrap(),
                r.rtype,
                r.ttl,
                r.rdata,
            )
        })
        .collect();
    for t in [
        Rtype::DNSKEY,
        Rtype::CDS,
        Rtype::CDNSKEY,
        Rtype::NSEC3PARAM,
        Rtype::ZONEMD,
    ] {
        list.push((base.apex().clone(), t, 60, vec![1, 0, 3, 13, 5, 6, 7, 8]));
    }
    let base = build(base.apex(), &list);
    let signed = run(&base, &plan(&base, &two("15"), DenialPlan::Nsec));
    let types: Vec<Rtype> = records(&signed.version).iter().map(|r| r.rtype).collect();
    assert!(!types.contains(&Rtype::CDS) && !types.contains(&Rtype::NSEC3PARAM));
    assert!(!types.contains(&Rtype::ZONEMD));
    assert_eq!(types.iter().filter(|t| **t == Rtype::DNSKEY).count(), 2);
}

#[test]
fn without_dnssec_there_is_only_content() {
    let text = "@ SOA ns h 1 2 3 4 300\n@ NS ns\nns A 192.0.2.1\nsub NS ns.sub\nns.sub A 192.0.2.2\n\
                @ CDS 0 0 0 00\n";
    let base = zone("example.", text);
    let pool = rayon::ThreadPoolBuilder::new()
        .num_threads(1)
        .build()
        .unwrap();
    let (clock, progress) = (cascade_time::SimClock::new(now()), Progress::new());
    let job = Job {
        pool: &pool,
        clock: &clock,
        progress: &progress,
        class: cascade_crypto::Class::Normal,
        token_wait: std::time::Duration::from_secs(10),
    };
    let (id, serial) = (cascade_zone::VersionId(9), cascade_zone::Serial(4711));
    let done = unsign(&base, id, serial, now(), vec![], &job, now()).unwrap();
    let v = &done.version;
    assert!(v.audit().is_empty(), "{:?}", v.audit());
    assert!(!v.is_signed() && v.serial() == serial && v.id() == id);
    assert_eq!(v.unsigned_id(), base.id());
    assert_eq!(v.content_fingerprint(), base.content_fingerprint());
    // No CDS that came with the content either: the parent would take it for ours.
    let types: Vec<String> = records(v).iter().map(|r| r.rtype.to_string()).collect();
    assert_eq!(types, ["SOA", "NS", "A", "NS", "A"]);
    // And signed again from there: nothing of it can be kept.
    let keys = two("15");
    let plan = plan(&base, &keys, DenialPlan::Nsec);
    let again = sign_from(v, &base, &plan, &Scope::everything(0), &job, now()).unwrap();
    let Resigned::Signed(signed, Some(WhyFull::NotSigned)) = again else {
        panic!("{again:?}")
    };
    assert!(signed.version.is_signed());
    let refused = unsign(&signed.version, id, serial, now(), vec![], &job, now());
    assert!(refused.is_err());
}

#[test]
fn cds_and_cdnskey_by_the_ksk() {
    let base = zone("example.", "@ SOA ns h 1 2 3 4 300\n@ NS ns.elsewhere.");
    let mut keys = two("15");
    keys.iter_mut().for_each(|k| k.wanted_at_parent = true);
    let ksk = keys[0].dnskey.key_tag();
    let signed = run(&base, &plan(&base, &keys, DenialPlan::Nsec));
    let lines = rrsig_lines(&signed.version);
    for t in ["DNSKEY", "CDS", "CDNSKEY"] {
        let of: Vec<&String> = lines
            .iter()
            .filter(|l| l.starts_with(&format!("example. {t} ")))
            .collect();
        assert_eq!(of, [&format!("example. {t} {ksk}")]);
    }
    // A ZSK is never told to the parent.
    let cds = records(&signed.version)
        .into_iter()
        .filter(|r| r.rtype == Rtype::CDS)
        .count();
    assert_eq!(cds, 1);
    assert_eq!(signed.report.signatures, 3, "SOA, NS, NSEC");
}

#[test]
fn times_of_every_signature() {
    let base = zone("example.", RFC4035);
    let plan = plan(&base, &two("15"), nsec3(false));
    let signed = run(&base, &plan);
    let t = now().to_wire();
    for r in records(&signed.version)
        .iter()
        .filter(|r| r.rtype == Rtype::RRSIG)
    {
        let f = |i: usize| u32::from_be_bytes(r.rdata[i..i + 4].try_into().unwrap());
        assert_eq!(f(12), t - 86_400);
        let left = f(8) - t;
        // R + I + T = 7 d + 12 h + 1 h .. L = 14 d.
        assert!(left > 7 * 86_400 + 12 * 3600 + 3600 && left <= 14 * 86_400);
    }
    let min = signed.report.min_exp.unwrap();
    assert_eq!(Some(min), signed.version.earliest_expiration());
    assert!(signed.report.next_due.unwrap() > now());
}

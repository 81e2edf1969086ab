//! ZONEMD of the input: the zones of RFC 8976 Appendix A, and what must be refused.
#![allow(clippy::unwrap_used)] // a test may panic

use std::path::Path;

use cascade_loader::{
    LoadReport, LoadRequest, Outcome, ParseOptions, Progress, ZonemdCheck, load_bytes,
};
use cascade_time::{SimClock, Timestamp};
use cascade_zone::{Name, VersionId, ZoneId};

/// RFC 8976 A.1.
const SIMPLE: &str = "\
example. 86400 IN SOA ns1 admin 2018031900 1800 900 604800 86400
 86400 IN NS ns1
 86400 IN NS ns2
 86400 IN ZONEMD 2018031900 1 1 ( c68090d90a7aed716bc459f9340e3d7c1370d4d24b7e2fc3
   a1ddc0b9a87153b9a9713b3c9ae5cc27777f98b8e730044c )
ns1 3600 IN A 203.0.113.63
ns2 3600 IN AAAA 2001:db8::63
";

/// RFC 8976 A.2, but for a record outside of the zone, which a zone file here must not have.
const COMPLEX: &str = r#"
example. 86400 IN SOA ns1 admin 2018031900 1800 900 604800 86400
 86400 IN NS ns1
 86400 IN NS ns2
 86400 IN ZONEMD 2018031900 1 1 ( a3b69bad980a3504e1cffcb0fd6397f93848071c93151f55
   2ae2f6b1711d4bd2d8b39808226d7b9db71e34b72077f8fe )
ns1 3600 IN A 203.0.113.63
NS2 3600 IN AAAA 2001:db8::63
occluded.sub 7200 IN TXT "I'm occluded but must be digested"
sub 7200 IN NS ns1
duplicate 300 IN TXT "I must be digested just once"
duplicate 300 IN TXT "I must be digested just once"
UPPERCASE 3600 IN TXT "canonicalize uppercase owner names"
* 777 IN PTR dont-forget-about-wildcards
mail 3600 IN MX 20 MAIL1
mail 3600 IN MX 10 Mail2.Example.
sortme 3600 IN AAAA 2001:db8::5:61
sortme 3600 IN AAAA 2001:db8::3:62
sortme 3600 IN AAAA 2001:db8::4:63
sortme 3600 IN AAAA 2001:db8::1:65
sortme 3600 IN AAAA 2001:db8::2:64
non-apex 900 IN ZONEMD 2018031900 1 1 ( 616c6c6f776564206275742069676e6f7265642e20616c6c
   6f776564206275742069676e6f7265642e20616c6c6f7765 )
"#;

/// RFC 8976 A.3.
const SEVERAL: &str = r#"
example. 86400 IN SOA ns1 admin 2018031900 1800 900 604800 86400
example. 86400 IN NS ns1.example.
example. 86400 IN NS ns2.example.
example. 86400 IN ZONEMD 2018031900 1 1 ( 62e6cf51b02e54b9b5f967d547ce43136792901f9f88e637
   493daaf401c92c279dd10f0edb1c56f8080211f8480ee306 )
example. 86400 IN ZONEMD 2018031900 1 2 ( 08cfa1115c7b948c4163a901270395ea226a930cd2cbcf2f
   a9a5e6eb85f37c8a4e114d884e66f176eab121cb02db7d652e0cc4827e7a3204f166b47e5613fd27 )
example. 86400 IN ZONEMD 2018031900 1 240 e2d523f654b9422a96c5a8f44607bbee
example. 86400 IN ZONEMD 2018031900 241 1 e1846540e33a9e4189792d18d5d131f605fc283e
ns1.example. 3600 IN A 203.0.113.63
ns2.example. 86400 IN TXT "This example has multiple digests"
NS2.EXAMPLE. 3600 IN AAAA 2001:db8::63
"#;

fn load(text: &str, zonemd: ZonemdCheck) -> Outcome {
    let apex = Name::parse("example.").unwrap();
    let options = ParseOptions {
        strip: true,
        // Lowered for the zone that is made, not for the digest.
        max_ttl: Some(600),
        zonemd,
        ..ParseOptions::default()
    };
    let request = LoadRequest {
        path: Path::new("zone"),
        apex: &apex,
        zone: ZoneId([1; 16]),
        version: VersionId(1),
        current: None,
        identity: None,
        options: &options,
        max_records: 0,
        force: false,
        trigger: "test",
    };
    let clock = SimClock::new(Timestamp::from_secs(1_700_000_000));
    load_bytes(
        &request,
        text.as_bytes().to_vec(),
        &clock,
        &Progress::default(),
    )
}

fn accepted(text: &str, zonemd: ZonemdCheck) -> LoadReport {
    match load(text, zonemd) {
        Outcome::Loaded { report, .. } => report,
        other => panic!("{:#?}", other.report().diagnostics),
    }
}

/// The text of Z129.
fn refused(text: &str, zonemd: ZonemdCheck) -> String {
    let Outcome::Failed { report } = load(text, zonemd) else {
        panic!("accepted:\n{text}");
    };
    let found = report.diagnostics.kept.iter();
    let mut of_digest = found.filter(|d| d.code.to_string() == "Z129");
    of_digest.next().unwrap().message.clone()
}

#[test]
fn the_zones_of_the_rfc_are_right() {
    for (text, kind) in [
        (SIMPLE, "verified (SHA-384; integrity only)"),
        (COMPLEX, "verified (SHA-384; integrity only)"),
        (SEVERAL, "verified (SHA-384; integrity only)"),
    ] {
        for check in [ZonemdCheck::IfPresent, ZonemdCheck::Required] {
            assert_eq!(accepted(text, check).zonemd, kind);
        }
        assert_eq!(accepted(text, ZonemdCheck::Off).zonemd, "skipped");
    }
    // Of several one that is right is enough, whichever it is.
    let second = SEVERAL.replacen("62e6cf51", "72e6cf51", 1);
    assert_eq!(
        accepted(&second, ZonemdCheck::Required).zonemd,
        "verified (SHA-512; integrity only)"
    );
}

#[test]
fn another_zone_is_refused_and_told() {
    for (what, text) in [
        ("address", SIMPLE.replace("203.0.113.63", "203.0.113.64")),
        ("TTL", SIMPLE.replace("ns1 3600", "ns1 3601")),
        ("added", format!("{SIMPLE}x A 192.0.2.1\n")),
        (
            "removed",
            COMPLEX.replace("sortme 3600 IN AAAA 2001:db8::4:63\n", ""),
        ),
        ("glue", COMPLEX.replace("I'm occluded", "I am occluded")),
        ("below the apex", COMPLEX.replace("616c6c6f", "616c6c6e")),
        ("digest", SIMPLE.replace("c68090d9", "c68090d8")),
        (
            "both",
            SEVERAL
                .replace("62e6cf51", "72e6cf51")
                .replace("08cfa111", "18cfa111"),
        ),
    ] {
        for check in [ZonemdCheck::IfPresent, ZonemdCheck::Required] {
            let why = refused(&text, check);
            assert!(
                why.contains("is not that of the ZONEMD record"),
                "{what}: {why}"
            );
        }
        accepted(&text, ZonemdCheck::Off);
    }
    let stale = SIMPLE.replace("admin 2018031900", "admin 2018031901");
    assert_eq!(
        refused(&stale, ZonemdCheck::IfPresent),
        "the ZONEMD record is for serial 2018031900, and the SOA has 2018031901"
    );
    let twice = SIMPLE.replacen(
        "ns1 3600",
        "example. 86400 ZONEMD 2018031900 1 1 000102030405060708090a0b\nns1 3600",
        1,
    );
    let why = refused(&twice, ZonemdCheck::IfPresent);
    assert!(
        why.contains("two ZONEMD records have scheme 1 and hash 1"),
        "{why}"
    );
}

#[test]
fn absent_and_unknown_digests() {
    let none: String = SEVERAL
        .lines()
        .filter(|l| !l.contains("ZONEMD") && !l.starts_with("   "))
        .map(|l| format!("{l}\n"))
        .collect();
    assert_eq!(accepted(&none, ZonemdCheck::IfPresent).zonemd, "absent");
    assert!(refused(&none, ZonemdCheck::Required).contains("no ZONEMD record"));
    let unknown =
        format!("{none}example. 86400 ZONEMD 2018031900 1 240 e2d523f654b9422a96c5a8f4\n");
    assert_eq!(accepted(&unknown, ZonemdCheck::IfPresent).zonemd, "skipped");
    assert!(refused(&unknown, ZonemdCheck::Required).contains("scheme 1 and hash 1 or 2"));
}

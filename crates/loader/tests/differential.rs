//! The same zone through other programs: `ldns-read-zone`, `named-compilezone`, `kzonecheck`.
//! Each is left out, with a printed note, where it is not installed.
#![allow(clippy::unwrap_used)] // a test may panic

mod common;

use std::io::Write;
use std::process::Command;

use common::{apex, parse, records, show};

/// Records that all three programs know, in spellings that differ from their canonical form.
const ZONE: &str = r#"$TTL 1h
@ SOA ns admin ( 1 2h 1h ; times
   2w 5m )
 NS ns
 NS NS2.Other.
ns A 192.0.2.1
 AAAA 2001:DB8:0::1
$ORIGIN sub.example.
@ 5m IN MX 10 mail
mail IN 7 A 192.0.2.2
*.w TXT "quoted ; \" \\ text" bare\032word "\000\255"
_sip._tcp SRV 1 2 5060 mail
$ORIGIN example.
d NS ns.d
 DS 12345 13 2 ( 00112233445566778899AABBCCDDEEFF
   00112233445566778899aabbccddeeff )
ns.d A 192.0.2.3
c CNAME ns
dn DNAME other.
caa CAA 0 issue "ca.example; x=y"
tlsa TLSA 3 1 1 00112233445566778899AABBCCDDEEFF00112233445566778899AABBCCDDEEFF
loc LOC 52 22 23 N 4 53 32 E -2m 0m 10000m 10m
nap NAPTR 100 50 "s" "z3950+I2L" "" _z.example.
fp SSHFP 4 2 00112233445566778899AABBCCDDEEFF00112233445566778899AABBCCDDEEFF
u TYPE65280 \# 3 0A0B0c
ga A \# 4 C0000204
svc HTTPS 1 . alpn=h2,h3 port=8443 ipv4hint=192.0.2.9
r RP admin txt
h HINFO PC "Some OS"
ptr PTR host
esc\.dot A 192.0.2.5
k KEY 512 3 13 AQID
uri URI 10 1 "https://example/"
n NSAP 0x47000580005a0000000001e133ffffff00016100
e EUI48 00-00-5e-00-53-2a
sm SMIMEA 3 1 1 00112233445566778899AABBCCDDEEFF00112233445566778899AABBCCDDEEFF
op OPENPGPKEY AQID
c1 CERT PKIX 1 8 AQID
ap APL 1:192.168.32.0/21 !1:192.168.38.0/28
"#;

const GENERATED: &str =
    "$GENERATE 1-20/3 g${0,3} A 192.0.2.$\n$GENERATE 0-3 ${0,7,n}.x PTR h${10,0,x}\n";

/// Records as (lower-case owner and TTL, type, wire form), read by our parser.
fn set(text: &str) -> Vec<(String, u32, String, Vec<u8>)> {
    let parsed = parse(text);
    assert_eq!(
        parsed.diagnostics.errors,
        0,
        "{}",
        cascade_loader::render::render_all(&parsed.diagnostics)
    );
    let mut all: Vec<_> = records(&parsed)
        .iter()
        .map(|r| {
            let mut data = Vec::new();
            cascade_zone::canon::push_canonical(r.rtype, &r.rdata, &mut data);
            (format!("{:?}", r.key), r.ttl, r.rtype.to_string(), data)
        })
        .collect();
    all.sort();
    all.dedup();
    all
}

/// Runs a program on the zone and gives its standard output, or `None` if it is not there.
fn run(program: &str, zone: &str, args: &[&str]) -> Option<String> {
    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(zone.as_bytes()).unwrap();
    let path = file.path().to_str().unwrap().to_string();
    let args: Vec<String> = args.iter().map(|a| a.replace("FILE", &path)).collect();
    match Command::new(program).args(&args).output() {
        Err(e) => {
            println!("left out: {program}: {e}");
            None
        }
        Ok(out) => {
            let err = String::from_utf8_lossy(&out.stderr).into_owned();
            let text = String::from_utf8_lossy(&out.stdout).into_owned();
            assert!(out.status.success(), "{program}: {err}{text}");
            Some(text)
        }
    }
}

#[test]
fn named_compilezone_reads_the_same() {
    let zone = format!("{ZONE}{GENERATED}");
    let args = [
        "-q", "-i", "none", "-k", "ignore", "-n", "ignore", "-o", "-", "example", "FILE",
    ];
    if let Some(theirs) = run("named-compilezone", &zone, &args) {
        assert_eq!(set(&theirs), set(&zone));
    }
}

#[test]
fn ldns_reads_the_same() {
    // It has no $GENERATE, does not read `\#` for known types, and wants an $ORIGIN.
    let plain = ZONE
        .replace("A \\# 4 C0000204", "A 192.0.2.4")
        .replace("IN 7 A", "7 IN A")
        .replace("5m IN", "300 IN");
    let zone = format!("$ORIGIN example.\n{plain}");
    if let Some(theirs) = run("ldns-read-zone", &zone, &["FILE"]) {
        assert_eq!(set(&theirs), set(&zone));
    }
}

#[test]
fn others_read_what_we_print() {
    let zone = format!("{ZONE}{GENERATED}");
    let ours: String = records(&parse(&zone))
        .iter()
        .map(|r| show(r, &apex()) + "\n")
        .collect();
    assert_eq!(set(&ours), set(&zone));
    let args = [
        "-q", "-i", "none", "-k", "ignore", "-n", "ignore", "-o", "-", "example", "FILE",
    ];
    if let Some(theirs) = run("named-compilezone", &ours, &args) {
        assert_eq!(set(&theirs), set(&ours));
    }
    if let Some(theirs) = run("ldns-read-zone", &ours, &["FILE"]) {
        assert_eq!(set(&theirs), set(&ours));
    }
    // It does not know NSAP.
    let known: String = ours
        .lines()
        .filter(|l| !l.contains(" NSAP "))
        .map(|l| format!("{l}\n"))
        .collect();
    run("kzonecheck", &known, &["-o", "example", "FILE"]);
}

#[test]
fn the_root_zone_when_present() {
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../../integration/data/root-2018013000.zone");
    let Ok(text) = std::fs::read(&path) else {
        println!("left out: no {}", path.display());
        return;
    };
    let root = cascade_zone::Name::root();
    let options = cascade_loader::ParseOptions {
        chunk: Some(10_000),
        ..Default::default()
    };
    let parsed =
        cascade_loader::parse_bytes::<cascade_loader::RecordList>(text, "root", &root, &options);
    // The file has names in UTF-8, which are noted.
    assert_eq!(
        (parsed.diagnostics.errors, parsed.diagnostics.warnings),
        (0, 0)
    );
    let printed: String = records(&parsed)
        .iter()
        .map(|r| show(r, &root) + "\n")
        .collect();
    let again = cascade_loader::parse_bytes::<cascade_loader::RecordList>(
        printed.into_bytes(),
        "root",
        &root,
        &Default::default(),
    );
    let plain = |p| {
        records(p)
            .into_iter()
            .map(|mut r| {
                r.loc = 0;
                r
            })
            .collect::<Vec<_>>()
    };
    assert!(plain(&parsed) == plain(&again));
    assert!(parsed.records > 10_000);
}

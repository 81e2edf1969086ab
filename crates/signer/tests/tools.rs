//! Signed zones before foreign judges: ldns-verify-zone, dnssec-verify and kzonecheck, each where
//! it is installed.
#![allow(clippy::unwrap_used)]

mod kit;

use std::path::Path;
use std::process::Command;

use cascade_crypto::ZonemdHash;
use cascade_crypto::dnskey::Role;
use cascade_signer::*;
use cascade_time::Timestamp;
use cascade_zone::{Rtype, ZoneVersion};
use kit::*;

const ZONE_TEXT: &str = "
@ SOA ns1 Host.master 20 3600 300 3600000 900
@ NS ns1
@ NS NS2.Elsewhere.test.
@ 300 MX 10 Mail
@ TXT \"v=spf1\" \"-all\"
ns1 A 192.0.2.1
ns1 AAAA 2001:db8::1
Mail A 192.0.2.25
*.wild TXT \"star\"
*.wild MX 5 MAIL
deep.er.ent TXT \"two empty non-terminals above\"
insecure NS ns.insecure
ns.insecure A 192.0.2.53
insecure2 NS ns1
secure NS ns.secure
secure DS 4711 13 2 B4C8C1FE2E7477127B27115656AD6256F424625BF5C1E2770CE6D6E37DF61D17
ns.secure A 192.0.2.54
only.insecure.below NS ns1
here CNAME ns1
old DNAME new.test.
xn--bcher-kva A 192.0.2.99
a\\046b TXT \"escaped dot\"
\\000zero A 192.0.2.77
";

/// dnssec-verify has no option for the time, so these zones are signed at the real one.
#[allow(clippy::disallowed_methods)]
fn real_now() -> Timestamp {
    let since = std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .unwrap();
    Timestamp::from_secs(since.as_secs() as i64)
}

/// Runs a judge that is installed; how many have spoken.
fn judge(program: &str, args: &[&str], file: &Path, what: &str) -> u32 {
    let Ok(out) = Command::new(program).args(args).arg(file).output() else {
        return 0;
    };
    let said = [&out.stdout[..], &out.stderr[..]].concat();
    let said = String::from_utf8_lossy(&said);
    assert!(out.status.success(), "{program}, {what}:\n{said}");
    1
}

fn judges(version: &ZoneVersion, at: Timestamp, opt_out: bool, csk: bool, what: &str) {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("example.test");
    std::fs::write(&file, to_text(version)).unwrap();
    let time = at.secs().to_string();
    let time_dns = at.to_dns();
    // Without -z it expects a key without the SEP flag.
    let bind: &[&str] = if csk { &["-z"] } else { &[] };
    let bind = [bind, &["-q", "-o", "example.test"]].concat();
    let mut spoken = judge("dnssec-verify", &bind, &file, what);
    spoken += judge(
        "kzonecheck",
        &["-d", "on", "-t", &time, "-o", "example.test"],
        &file,
        what,
    );
    // It takes opted-out delegations for errors (its manual says so).
    if !opt_out {
        spoken += judge(
            "ldns-verify-zone",
            &["-V", "1", "-t", &time_dns],
            &file,
            what,
        );
    }
    println!("{what}: {spoken} judges");
}

#[test]
fn foreign_judges_accept() {
    let at = real_now();
    let base = zone("example.test.", ZONE_TEXT);
    for spec in [
        "ECDSAP256SHA256",
        "ED25519",
        "RSASHA256:2048",
        "RSASHA512:2048",
        "ECDSAP384SHA384",
    ] {
        let two = keys(&[(spec, Role::Ksk), (spec, Role::Zsk)]);
        let csk = keys(&[(spec, Role::Csk)]);
        let salted = DenialPlan::Nsec3 {
            iterations: 3,
            salt: vec![0xab, 0xcd],
            opt_out: false,
        };
        for (denial, keys) in [
            (DenialPlan::Nsec, &two),
            (DenialPlan::Nsec, &csk),
            (nsec3(false), &two),
            (salted, &two),
            (nsec3(true), &two),
        ] {
            let what = format!("{spec} {denial:?} {} keys", keys.len());
            let mut keys = keys.clone();
            keys[0].wanted_at_parent = true;
            let plan = plan_at(&base, &keys, denial.clone(), at);
            let signed = run_with(&base, &plan, 2, at, &Progress::new()).unwrap();
            let opt_out = matches!(denial, DenialPlan::Nsec3 { opt_out: true, .. });
            judges(&signed.version, at, opt_out, keys.len() == 1, &what);
        }
    }
    // Two algorithms at once (RFC 6840 §5.11).
    let two = keys(&[
        ("13", Role::Ksk),
        ("13", Role::Zsk),
        ("8", Role::Ksk),
        ("8", Role::Zsk),
    ]);
    let plan = plan_at(&base, &two, nsec3(false), at);
    let signed = run_with(&base, &plan, 2, at, &Progress::new()).unwrap();
    judges(&signed.version, at, false, false, "two algorithms");
}

/// A zone with its digest (RFC 8976), which ldns-verify-zone demands to be right and signed.
#[test]
fn foreign_judges_accept_the_digest() {
    let at = real_now();
    let base = zone("example.test.", ZONE_TEXT);
    let two = keys(&[("13", Role::Ksk), ("13", Role::Zsk)]);
    for hash in [ZonemdHash::Sha384, ZonemdHash::Sha512] {
        for denial in [DenialPlan::Nsec, nsec3(false), nsec3(true)] {
            let opt_out = denial == nsec3(true);
            let what = format!("{hash:?} {denial:?}");
            let plan = SigningPlan {
                zonemd: Some(hash),
                ..plan_at(&base, &two, denial, at)
            };
            let signed = run_with(&base, &plan, 2, at, &Progress::new()).unwrap();
            kit::verify::digested(&signed.version, Some(hash));
            judges(&signed.version, at, opt_out, false, &what);
            if opt_out {
                continue;
            }
            let dir = tempfile::tempdir().unwrap();
            let file = dir.path().join("example.test");
            let args = ["-V", "1", "-ZZ", "-t", &at.to_dns()];
            std::fs::write(&file, to_text(&signed.version)).unwrap();
            let spoken = judge("ldns-verify-zone", &args, &file, &what);
            println!("{what}: {spoken} judge of digests");
            // One octet of unsigned glue: nobody but the digest tells.
            let glue = "ns.insecure.example.test. 3600 IN A \\# 4 c00002";
            let text = to_text(&signed.version);
            assert!(text.contains(glue), "{text}");
            std::fs::write(
                &file,
                text.replace(&format!("{glue}35"), &format!("{glue}36")),
            )
            .unwrap();
            if let Ok(out) = Command::new("ldns-verify-zone")
                .args(args)
                .arg(&file)
                .output()
            {
                assert!(!out.status.success(), "{what}: accepted another zone");
            }
        }
    }
}

#[test]
fn foreign_judges_are_no_fools() {
    // The same zone without one NSEC must be refused, or the test above shows nothing.
    let at = real_now();
    let base = zone("example.test.", ZONE_TEXT);
    let plan = plan_at(&base, &keys(&[("13", Role::Csk)]), DenialPlan::Nsec, at);
    let signed = run_with(&base, &plan, 2, at, &Progress::new()).unwrap();
    let nsec = format!(" IN {} ", Rtype::NSEC);
    let text: Vec<String> = to_text(&signed.version)
        .lines()
        .map(str::to_owned)
        .collect();
    let at_ns1 = |l: &&String| l.starts_with("ns1.") && l.contains(&nsec);
    assert_eq!(text.iter().filter(at_ns1).count(), 1);
    let broken: Vec<&str> = text
        .iter()
        .filter(|l| !at_ns1(l))
        .map(|l| l.as_str())
        .collect();
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("example.test");
    std::fs::write(&file, broken.join("\n") + "\n").unwrap();
    for (program, args) in [
        ("dnssec-verify", &["-q", "-o", "example.test"][..]),
        ("ldns-verify-zone", &["-V", "1"]),
    ] {
        if let Ok(out) = Command::new(program).args(args).arg(&file).output() {
            assert!(!out.status.success(), "{program} accepted a broken chain");
        }
    }
}

//! Agreement with ldns-verify-zone, dnssec-verify and kzonecheck, where they are installed.

// Helpers of tests: a panic is a failed test.
#![allow(clippy::unwrap_used)]

mod common;
use std::io::Write;
use std::process::{Command, Stdio};

use cascade_time::Timestamp;
use cascade_verifier::{Params, Verdict, verify_records};
use common::*;

/// Not every verifier can be told a time other than the present.
fn present() -> Timestamp {
    #[allow(clippy::disallowed_methods)]
    let unix = std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .unwrap();
    Timestamp::from_secs(unix.as_secs() as i64)
}

/// Runs a verifier; `None` when it is not installed.
fn judge(program: &str, args: &[&str]) -> Option<(bool, String)> {
    let out = Command::new(program)
        .args(args)
        .stdin(Stdio::null())
        .output()
        .ok()?;
    let text = [out.stdout, out.stderr].concat();
    Some((
        out.status.success(),
        String::from_utf8_lossy(&text).into_owned(),
    ))
}

/// What the other verifiers say of the zone must be what the gate says.
#[track_caller]
fn agree(zone: &[R], passes: bool) {
    let outcome = verify_records(
        &n("example"),
        zone.iter().map(rr),
        &Params::file(),
        present(),
    )
    .unwrap();
    let report = outcome.report();
    assert_eq!(
        report.verdict == Verdict::Passed,
        passes,
        "{}",
        report.text()
    );
    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(to_file(zone).as_bytes()).unwrap();
    let path = file.path().to_str().unwrap();
    let runs: [(&str, &[&str]); 3] = [
        ("ldns-verify-zone", &[path]),
        ("dnssec-verify", &["-o", "example", path]),
        ("kzonecheck", &["-o", "example", "-d", "on", path]),
    ];
    for (program, args) in runs {
        if let Some((verdict, text)) = judge(program, args) {
            assert_eq!(
                verdict,
                passes,
                "{program} disagrees:\n{text}\n{}",
                report.text()
            );
        }
    }
}

fn signer(chain: Chain, two: bool) -> Signer {
    let mut s = Signer::new(chain, two);
    if !two {
        // ldns-verify-zone may be built without Ed25519, and then takes any such signature.
        s.keys = vec![Key::p256(257), Key::p256(256)];
    }
    (s.inception, s.expiration) = (present().to_wire() - DAY, present().to_wire() + 14 * DAY);
    s
}

/// Data below a DNAME is left out: kzonecheck calls it an error of the content.
fn content() -> Vec<R> {
    let mut c = unsigned();
    c.retain(|r| r.owner != n("under.dname.example"));
    c
}

#[test]
fn good_and_bad_zones() {
    for (chain, two) in [
        (Chain::Nsec, false),
        (Chain::Nsec, true),
        (Chain::nsec3(), false),
        (Chain::nsec3(), true),
        (Chain::opt_out(), false),
    ] {
        let s = signer(chain, two);
        let good = s.sign(&content());
        agree(&good, true);
        // What all agree on: a bad signature, a missing one, a broken chain.
        let mut z = good.clone();
        for sig in z
            .iter_mut()
            .filter(|r| r.rtype == RRSIG && covered(r) == A && r.owner == n("www.example"))
        {
            *sig.rdata.last_mut().unwrap() ^= 1;
        }
        agree(&z, false);
        let mut z = good.clone();
        z.retain(|r| !(r.rtype == RRSIG && covered(r) == A && r.owner == n("www.example")));
        agree(&z, false);
        let mut z = good.clone();
        let denial = if s.chain == Chain::Nsec { NSEC } else { NSEC3 };
        let owner = if denial == NSEC {
            n("www.example")
        } else {
            s.hashed_owner(&n("www.example"))
        };
        z.retain(|r| {
            !(same(&r.owner, &owner)
                && (r.rtype == denial || r.rtype == RRSIG && covered(r) == denial))
        });
        agree(&z, false);
    }
}

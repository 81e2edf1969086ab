//! Loads from files and octets: outcome, version, report, diagnostics.
#![allow(clippy::unwrap_used)] // a test may panic

use std::fs;
use std::path::Path;

use cascade_loader::{
    Level, LoadRequest, LoadResult, Outcome, ParseOptions, Progress, SourceIdentity, load_bytes,
    load_file, load_signed_file, render,
};
use cascade_time::{SimClock, Timestamp};
use proptest::prelude::*;

use cascade_zone::{Name, Rtype, VersionId, ZoneId, ZoneVersion};

const HEAD: &str = "$TTL 3600\n@ SOA ns admin 1 7200 3600 1209600 300\n@ NS ns\nns A 192.0.2.1\n";

fn clock() -> SimClock {
    SimClock::new(Timestamp::from_secs(1_700_000_000))
}

fn options() -> ParseOptions {
    ParseOptions {
        strip: true,
        ..ParseOptions::default()
    }
}

fn request<'a>(path: &'a Path, apex: &'a Name, options: &'a ParseOptions) -> LoadRequest<'a> {
    LoadRequest {
        path,
        apex,
        zone: ZoneId([1; 16]),
        version: VersionId(1),
        current: None,
        identity: None,
        options,
        max_records: 0,
        force: false,
        trigger: "test",
    }
}

fn load_text(text: &str, options: &ParseOptions) -> Outcome {
    let apex = Name::parse("example.").unwrap();
    let request = request(Path::new("zone"), &apex, options);
    load_bytes(
        &request,
        text.as_bytes().to_vec(),
        &clock(),
        &Progress::default(),
    )
}

fn loaded(outcome: Outcome) -> (ZoneVersion, SourceIdentity) {
    match outcome {
        Outcome::Loaded {
            version, identity, ..
        } => (*version, identity.expect("a file has one")),
        other => panic!("{}", render::render_all(&other.report().diagnostics)),
    }
}

/// Codes with severity and line, in order.
fn found(text: &str) -> Vec<String> {
    let outcome = load_text(text, &options());
    let d = &outcome.report().diagnostics;
    d.kept
        .iter()
        .map(|d| {
            let line = d.place.as_ref().map_or(0, |p| p.line);
            format!("{} {} {line}", d.code, d.severity)
        })
        .collect()
}

#[test]
fn three_records_of_the_first_zone_anybody_loads() {
    let text = "example.\t3600\tIN\tSOA\tns.example. user.example. 1 86400 7200 2419200 300\n\
                example.\tNS\tns\nns\tA\t192.0.2.1\n";
    let outcome = load_text(text, &options());
    assert!(
        matches!(&outcome, Outcome::Loaded { report, .. } if report.records == 3 && report.serial_new == Some(1))
    );
    assert!(
        outcome.report().summary().starts_with(&format!(
            "Loaded {} B and 3 records from the filesystem in 0 seconds",
            text.len()
        )),
        "{}",
        outcome.report().summary()
    );
    let (version, _) = loaded(outcome);
    assert_eq!(version.soa_ttl(), 3600);
    assert!(version.owner(b"ns\0").unwrap().set(Rtype::A).is_some());
}

#[test]
fn a_good_zone_has_no_findings() {
    assert_eq!(found(HEAD), [""; 0]);
}

#[test]
fn checks_of_meaning() {
    for (text, expect) in [
        (
            "a CNAME b\nb A 192.0.2.1\na A 192.0.2.1\n",
            vec!["Z106 error 7"],
        ),
        (
            "a CNAME ns\na CNAME b\nb A 192.0.2.1\n",
            vec!["Z107 error 6"],
        ),
        ("@ CNAME ns\n", vec!["Z106 error 5", "Z108 error 5"]),
        ("a DNAME b.\na DNAME c.\n", vec!["Z109 error 6"]),
        ("a DNAME b.\na CNAME c.\n", vec!["Z109 error 6"]),
        ("a DNAME b.\nx.a TXT t\n", vec!["Z110 warning 6"]),
        ("a NS ns\nx.a TXT t\ny.a A 192.0.2.1\n", vec!["Z111 note 6"]),
        ("a NS ns\na TXT t\na A 192.0.2.1\n", vec!["Z112 warning 6"]),
        (
            "a DS 1 13 2 0000000000000000000000000000000000000000000000000000000000000000\n",
            vec!["Z113 warning 5"],
        ),
        (
            "@ DS 1 13 2 0000000000000000000000000000000000000000000000000000000000000000\n",
            vec!["Z113 error 5"],
        ),
        ("a NS b.a\n", vec!["Z114 warning 5"]),
        ("a NS b.a\nb.a AAAA ::1\nc NS b.a\n", vec![]),
        ("a MX 1 nowhere\n", vec!["Z115 warning 5"]),
        ("a MX 1 b\nb CNAME ns\n", vec!["Z115 warning 5"]),
        ("a SRV 1 1 1 .\nb MX 0 .\n", vec![]),
        ("*.w A 192.0.2.1\na SRV 1 1 1 x.w\n", vec![]),
        ("a 1 A 192.0.2.1\na 2 A 192.0.2.2\n", vec!["Z116 warning 6"]),
        ("a A 192.0.2.1\na A 192.0.2.1\n", vec!["Z119 note 6"]),
        ("a MX 1 NS\na MX 1 ns\n", vec!["Z119 note 6"]),
        ("* NS ns\n", vec!["Z124 error 5"]),
        ("* DNAME a.\n", vec!["Z124 warning 5"]),
        ("a NS ns\na DS 1 13 2 00\n", vec!["Z126 error 6"]),
        ("a NS ns\na DS 1 13 9 00\n", vec!["Z126 warning 6"]),
        (
            "a NS ns\na DS 1 13 1 0000000000000000000000000000000000000000\n",
            vec!["Z126 warning 6"],
        ),
        ("a HTTPS 1 . mandatory=port\n", vec!["Z128 error 5"]),
        ("a HTTPS 1 . no-default-alpn\n", vec!["Z128 error 5"]),
        ("a HTTPS 1 .\na HTTPS 0 b.\n", vec!["Z128 warning 6"]),
        ("a CSYNC 1 1 A\na CSYNC 2 1 A\n", vec!["Z132 warning 5"]),
        ("@ NS x\n", vec!["Z133 warning 5"]),
        ("a DNSKEY 257 3 13 AQID\n", vec!["Z139 note 5"]),
        (
            "a TLSA 4 0 0 00\na CAA 1 issue x\na SSHFP 9 1 00\n",
            vec!["Z140 note 5", "Z140 note 6", "Z140 note 7"],
        ),
        ("a SOA . . 1 7200 3600 1209600 300\n", vec!["Z103 error 5"]),
        (
            "@ SOA ns admin 2 7200 3600 1209600 300\n",
            vec!["Z102 error 5"],
        ),
        (
            "@ RRSIG A 13 1 1 1 1 1 @ AQID\n@ DNSKEY 257 3 13 AQID\n",
            vec!["Z125 note 0"],
        ),
    ] {
        assert_eq!(found(&format!("{HEAD}{text}")), expect, "{text}");
    }
    assert_eq!(found("a 1 A 192.0.2.1\n"), ["Z101 error 0"]);
    assert_eq!(
        found("@ 1 SOA . . 1 7200 3600 1209600 300\n"),
        ["Z104 error 1"]
    );
    assert_eq!(
        found(&HEAD.replace("7200 3600 1209600 300", "60 60 60 86401")),
        ["Z122 warning 2", "Z123 note 2"]
    );
    // With entries that could not be read, nothing is said about what is absent.
    assert_eq!(found("@ 1 SOA . . x\n"), ["Z005 error 1"]);
}

#[test]
fn levels_by_configuration() {
    let text = format!("{HEAD}a 1 A 192.0.2.1\na 2 A 192.0.2.2\na_b A 192.0.2.1\n");
    let mut o = options();
    o.checks.set("ttl-mismatch", Level::Error).unwrap();
    assert!(
        matches!(load_text(&text, &o), Outcome::Failed { report } if report.diagnostics.errors == 1)
    );
    o.checks.set("Z116", Level::Off).unwrap();
    o.checks.set("host-name", Level::Note).unwrap();
    assert!(
        matches!(load_text(&text, &o), Outcome::Loaded { report, .. } if report.diagnostics.by_code.len() == 1 && report.diagnostics.notes == 1)
    );
}

#[test]
fn record_limit() {
    let apex = Name::parse("example.").unwrap();
    let o = options();
    let request = LoadRequest {
        max_records: 2,
        ..request(Path::new("zone"), &apex, &o)
    };
    let outcome = load_bytes(
        &request,
        HEAD.as_bytes().to_vec(),
        &clock(),
        &Progress::default(),
    );
    assert!(
        matches!(&outcome, Outcome::Failed { report } if report.diagnostics.by_code.contains_key("Z138"))
    );
}

#[test]
fn an_rrset_that_no_message_holds() {
    let set = |n: usize| -> String {
        let lines = (0..n).map(|i| format!("many A 10.{}.{}.1\n", i / 256, i % 256));
        format!("{HEAD}{}", lines.collect::<String>())
    };
    // 16 octets each; RFC 1035 §4.2.2 gives a message 65,535.
    loaded(load_text(&set(4000), &options()));
    assert!(
        matches!(load_text(&set(4100), &options()), Outcome::Failed { report } if report.diagnostics.by_code.keys().eq(["Z130"]))
    );
}

#[test]
fn unchanged_and_changed_files() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("example");
    let apex = Name::parse("example.").unwrap();
    let o = options();
    let many: String = (0..2000)
        .map(|i| format!("h{i:05} A 192.0.2.1\n"))
        .collect();
    let text = format!("{HEAD}{many}");
    fs::write(&path, &text).unwrap();
    let base = request(&path, &apex, &o);
    let go = |r: &LoadRequest<'_>| load_file(r, &clock(), &Progress::default());
    let (first, identity) = loaded(go(&base));
    let next = LoadRequest {
        version: VersionId(2),
        current: Some(&first),
        identity: Some(&identity),
        ..base
    };
    let why = |o: &Outcome| match o {
        Outcome::Unchanged { report, .. } => report.reason.clone().unwrap(),
        other => panic!("{:?}", other.report().result),
    };
    assert_eq!(why(&go(&next)), "the file has not been touched");
    assert_eq!(
        why(&go(&LoadRequest {
            force: true,
            ..next.clone()
        })),
        "the octets of the file are the same"
    );
    fs::write(&path, format!("; comment\n{text}")).unwrap();
    assert_eq!(why(&go(&next)), "the records are the same");
    // One owner changed, the serial not.
    fs::write(
        &path,
        text.replace("h01000 A 192.0.2.1", "h01000 A 192.0.2.2"),
    )
    .unwrap();
    let outcome = go(&next);
    let report = outcome.report().clone();
    assert_eq!(
        (report.result, report.diagnostics.by_code.get("Z120")),
        (LoadResult::Loaded, Some(&1))
    );
    let delta = report.delta.unwrap();
    assert_eq!(
        (
            delta.records_added,
            delta.records_removed,
            delta.owners_changed
        ),
        (1, 1, 1)
    );
    assert_eq!(delta.leaves - delta.leaves_reused, 1, "{delta:?}");
    // Serials: forward is silent, backward is a warning for files.
    let serial = |n: &str| text.replace("admin 1 ", &format!("admin {n} "));
    fs::write(&path, serial("2")).unwrap();
    assert_eq!(go(&next).report().diagnostics.total(), 0);
    fs::write(&path, serial("4294967295")).unwrap();
    assert_eq!(go(&next).report().diagnostics.by_code.get("Z121"), Some(&1));
}

/// Lines of a zone whose names point at each other in all ways that a check looks at.
fn any_line() -> impl Strategy<Value = String> {
    let name = || {
        prop::sample::select(vec![
            "a", "b", "c.a", "d.c.a", "*.b", "e.b", "f.e.b", "g", "ns.g",
        ])
    };
    prop_oneof![
        (name(), name()).prop_map(|(o, t)| format!("{o} NS {t}")),
        (name(), name()).prop_map(|(o, t)| format!("{o} MX 1 {t}")),
        name().prop_map(|o| format!("{o} A 192.0.2.9")),
        (name(), name()).prop_map(|(o, t)| format!("{o} CNAME {t}")),
        (name(), name()).prop_map(|(o, t)| format!("{o} DNAME {t}")),
        name().prop_map(|o| format!("{o} TXT text")),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    /// What is found in a zone does not depend on which version was there before.
    #[test]
    fn a_change_is_checked_as_the_whole_is(
        lines in prop::collection::vec(any_line(), 0..10),
        more in prop::collection::vec((any_line(), 0usize..10, any::<bool>()), 1..4),
    ) {
        let o = options();
        let apex = Name::parse("example.").unwrap();
        let base = request(Path::new("zone"), &apex, &o);
        let text = |serial: u32, lines: &[String]| {
            let head = HEAD.replace("admin 1 ", &format!("admin {serial} "));
            format!("{head}{}\n", lines.join("\n")).into_bytes()
        };
        let go = |r: &LoadRequest<'_>, text| load_bytes(r, text, &clock(), &Progress::default());
        let first = go(&base, text(1, &lines));
        prop_assume!(matches!(first, Outcome::Loaded { .. }));
        let (version, identity) = loaded(first);
        let mut changed = lines.clone();
        for (line, at, gone) in more {
            match gone && at < changed.len() {
                true => drop(changed.remove(at)),
                false => changed.push(line),
            }
        }
        let beside = LoadRequest {
            version: VersionId(2),
            current: Some(&version),
            identity: Some(&identity),
            ..base.clone()
        };
        let found = |o: &Outcome| o.report().diagnostics.by_code.clone();
        let beside = go(&beside, text(2, &changed));
        let alone = go(&base, text(2, &changed));
        prop_assert_eq!(found(&beside), found(&alone));
        prop_assert_eq!(&beside.report().diagnostics.kept, &alone.report().diagnostics.kept);
        if let (Outcome::Loaded { version: a, .. }, Outcome::Loaded { version: b, .. }) = (beside, alone) {
            prop_assert_eq!(a.full_fingerprint(), b.full_fingerprint());
        }
    }
}

#[test]
fn unreadable_files_name_the_component() {
    let apex = Name::parse("example.").unwrap();
    let o = options();
    let outcome = load_file(
        &request(Path::new("/nonexistent/dir/zone"), &apex, &o),
        &clock(),
        &Progress::default(),
    );
    let Outcome::Failed { report } = outcome else {
        panic!()
    };
    assert_eq!(
        report.reason.unwrap(),
        "cannot read \"/nonexistent/dir/zone\": \"/nonexistent\": No such file or directory (os error 2)"
    );
    assert_eq!(report.diagnostics.errors, 1);
}

#[test]
fn includes() {
    let dir = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| fs::write(dir.path().join(name), text).unwrap();
    fs::create_dir(dir.path().join("sub")).unwrap();
    // Origin, owner and TTL are after the include what they were before.
    write(
        "zone",
        &format!(
            "{HEAD}a A 192.0.2.1\n$INCLUDE sub/one sub\n A 192.0.2.2\nb A 192.0.2.3\n$INCLUDE sub/two\n"
        ),
    );
    write(
        "sub/one",
        "$TTL 5\n A 192.0.2.9\nx A 192.0.2.4\n$INCLUDE two\n$ORIGIN else.example.\ny A 192.0.2.5\n",
    );
    write("sub/two", "z A 192.0.2.6\n");
    let apex = Name::parse("example.").unwrap();
    let o = options();
    let path = dir.path().join("zone");
    let outcome = load_file(&request(&path, &apex, &o), &clock(), &Progress::default());
    let d = &outcome.report().diagnostics;
    assert_eq!(d.by_code.get("Z013"), Some(&1), "{}", render::render_all(d));
    let note = d
        .kept
        .iter()
        .find(|d| d.code.to_string() == "Z013")
        .unwrap();
    assert_eq!(note.place.as_ref().unwrap().line, 7);
    let (version, identity) = loaded(outcome);
    assert_eq!(identity.files.len(), 4);
    let ttl = |key: &[u8]| {
        version
            .owner(key)
            .unwrap()
            .set(Rtype::A)
            .map(|s| (s.count, s.ttl))
    };
    assert_eq!(ttl(b"a\0"), Some((3, 5)));
    assert_eq!(ttl(b"sub\0x\0"), Some((1, 5)));
    assert_eq!(ttl(b"sub\0z\0"), Some((1, 5)));
    assert_eq!(ttl(b"else\0y\0"), Some((1, 5)));
    assert_eq!(
        (ttl(b"b\0"), ttl(b"z\0")),
        (Some((1, 3600)), Some((1, 3600)))
    );

    // Errors in an included file say by which lines it came in; cycles are found.
    write("sub/two", "z A bad\n$INCLUDE ../zone\n");
    let Outcome::Failed { report } =
        load_file(&request(&path, &apex, &o), &clock(), &Progress::default())
    else {
        panic!()
    };
    let d = &report.diagnostics.kept;
    let first = d.iter().find(|d| d.code.to_string() == "Z009").unwrap();
    let lines: Vec<u32> = first.included_from.iter().map(|l| l.line).collect();
    assert_eq!((first.place.as_ref().unwrap().line, lines), (1, vec![4, 6]));
    assert!(d.iter().any(|d| d.message.contains("includes itself")));
}

#[test]
fn progress_is_readable() {
    let progress = Progress::default();
    let apex = Name::parse("example.").unwrap();
    let o = options();
    load_bytes(
        &request(Path::new("zone"), &apex, &o),
        HEAD.as_bytes().to_vec(),
        &clock(),
        &progress,
    );
    let read = |a: &std::sync::atomic::AtomicU64| a.load(std::sync::atomic::Ordering::Relaxed);
    assert_eq!(
        (read(&progress.records), read(&progress.octets)),
        (3, HEAD.len() as u64)
    );
    assert_eq!(read(&progress.octets_total), HEAD.len() as u64);
}

#[test]
fn findings_do_not_depend_on_chunks() {
    let mut text = HEAD.to_string();
    for i in 0..300 {
        text.push_str(&format!("d{i} NS ns.d{i}\nd{i} NS gone\nh{i} 5 A 192.0.2.1\nh{i} 6 A 192.0.2.2\nh{i} 7 A 192.0.2.1\n"));
    }
    let with = |chunk| {
        let outcome = load_text(
            &text,
            &ParseOptions {
                chunk: Some(chunk),
                ..options()
            },
        );
        let report = outcome.report().clone();
        (report.diagnostics, loaded(outcome).0.content_fingerprint())
    };
    let whole = with(usize::MAX);
    assert_eq!((whole.0.warnings, whole.0.notes), (900, 300));
    assert!(whole.0.kept.iter().all(|d| d.place.is_some()));
    for chunk in [1, 50, 3000] {
        assert!(with(chunk) == whole, "{chunk}");
    }
}

#[test]
fn conflict_as_people_see_it() {
    let text = format!(
        "{HEAD}www   3600 IN A 192.0.2.7\nweb A 192.0.2.8\nwww   3600 IN CNAME web.example.\n"
    );
    let outcome = load_text(&text, &options());
    insta::assert_snapshot!(render::render_all(&outcome.report().diagnostics));
}

#[test]
fn what_is_signed_comes_beside_the_version_as_it_stands() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("zone");
    let sig = "A 13 2 3600 20270101000000 20260101000000 7 example. AAAA";
    let text = format!(
        "{HEAD}@ DNSKEY 256 3 13 AAAA\nwww A 192.0.2.2\nwww RRSIG {sig}\nwww NSEC @ A RRSIG NSEC\n\
         www CDS 1 13 2 00\n"
    );
    fs::write(&path, text).unwrap();
    let apex = Name::parse("example.").unwrap();
    let options = ParseOptions {
        max_ttl: Some(60),
        ..options()
    };
    let mut dnssec = Vec::new();
    let outcome = load_signed_file(
        &request(&path, &apex, &options),
        &clock(),
        &Progress::default(),
        &mut dnssec,
    );
    let (version, _) = loaded(outcome);
    let found: Vec<(&[u8], Rtype, u32)> = dnssec
        .iter()
        .map(|r| (r.key.as_slice(), r.rtype, r.ttl))
        .collect();
    let www = b"www\0".as_slice();
    assert_eq!(
        found,
        [
            (b"".as_slice(), Rtype::DNSKEY, 3600),
            (www, Rtype::RRSIG, 3600),
            (www, Rtype::NSEC, 3600)
        ]
    );
    // A CDS that is not at the apex is content like all other.
    assert_eq!(version.sums().records, 5);
    assert!(!version.is_signed());
}

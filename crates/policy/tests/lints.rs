//! Each lint at both sides of its limit.

use std::collections::BTreeSet;
use std::time::Duration;

use cascade_policy::*;
use cascade_time::Timestamp;

fn read(body: &str) -> PolicyFile {
    let text = format!("version = \"v1\"\n{body}");
    match parse_policy("p", "p.toml", text.as_bytes()) {
        Ok(file) => file,
        Err(found) => panic!("{}", found[0].snippet(&text, false)),
    }
}

/// Level and code of each finding, as `error P07`.
fn codes_with(body: &str, context: &LintContext<'_>) -> Vec<String> {
    let mut codes: Vec<String> = read(body)
        .lint(context)
        .iter()
        .map(|d| format!("{} {}", d.level, d.code))
        .collect();
    codes.sort();
    codes
}

fn codes(body: &str) -> Vec<String> {
    codes_with(body, &LintContext::default())
}

#[track_caller]
fn sides(good: &str, bad: &str, code: &str) {
    assert!(
        !codes(good).contains(&code.to_string()),
        "good side: {:?}",
        codes(good)
    );
    assert!(
        codes(bad).contains(&code.to_string()),
        "bad side: {:?}",
        codes(bad)
    );
}

#[test]
fn p03_tsig_keys() {
    let known: BTreeSet<String> = ["Here.".to_string()].into();
    let context = LintContext {
        tsig_keys: Some(&known),
        ..Default::default()
    };
    let body = |k: &str| {
        format!(
            "[server.outbound]\nprovide-xfr-to = [\"any^{k}\"]\nsend-notify-to = [\"192.0.2.1^{k}\"]\n\
             secondaries = [\"192.0.2.1^{k}\"]\ncanary = {{ addr = \"192.0.2.1\", tsig-key-name = \"{k}\" }}\n\
             [key-manager]\npublication-nameservers = [\"192.0.2.1^{k}\"]\n\
             [key-manager.ds]\npush = {{ server = \"192.0.2.1\", tsig-key = \"{k}\" }}\n\
             parent-nameservers = [\"192.0.2.1^{k}\"]\n[server]\nquery-allow = [\"any^{k}\"]\n"
        )
    };
    assert!(codes_with(&body("here"), &context).is_empty());
    assert_eq!(codes_with(&body("gone"), &context), vec!["error P03"; 8]);
    assert!(
        codes(&body("gone")).is_empty(),
        "unknown keys are not judged without a list"
    );
}

#[test]
fn p04_p05_hsms() {
    let hsm = |algorithms: Option<Vec<u8>>| {
        vec![HsmFacts {
            id: "vault".into(),
            algorithms,
            can_destroy: None,
            signatures_per_second: None,
        }]
    };
    let body = "[key-manager.generation]\nhsm-server-id = \"vault\"\n";
    let check = |body: &str, hsms: Vec<HsmFacts>| {
        codes_with(
            body,
            &LintContext {
                hsms: Some(&hsms),
                ..Default::default()
            },
        )
    };
    assert_eq!(check(body, vec![]), ["warning P04"]);
    assert!(check(body, hsm(None)).is_empty());
    assert!(check(body, hsm(Some(vec![8, 13]))).is_empty());
    assert_eq!(check(body, hsm(Some(vec![8]))), ["error P05"]);
    let apart = format!("{body}zsk-hsm-server-id = \"other\"\n");
    assert_eq!(check(&apart, hsm(None)), ["warning P04"]);
    let software = format!("{body}zsk-hsm-server-id = \"none\"\nksk-hsm-server-id = \"none\"\n");
    assert!(check(&software, vec![]).is_empty());
    let csk = format!("{apart}use-csk = true\n");
    assert!(
        check(&csk, hsm(None)).is_empty(),
        "a CSK lives with the KSKs"
    );
}

#[test]
fn p06_to_p09_p18_p28_times() {
    let s = "[signer]\nsignature-";
    sides(
        &format!("{s}refresh-interval = \"60s\""),
        &format!("{s}refresh-interval = \"59s\""),
        "error P06",
    );
    sides(
        &format!("{s}lifetime = 1073741824"),
        &format!("{s}lifetime = 1073741825"),
        "error P06",
    );
    // R 1w + I 12h + 1h.
    sides(
        &format!("{s}lifetime = \"7d13h1s\""),
        &format!("{s}lifetime = \"7d13h\""),
        "error P07",
    );
    for set in ["dnskey", "cds"] {
        let k = format!("[key-manager.records.{set}]\nsignature-");
        sides(
            &format!("{k}lifetime = \"7d1h1s\""),
            &format!("{k}lifetime = \"7d1h\""),
            "error P07",
        );
        sides(
            &format!("{k}remain-time = \"3d\""),
            &format!("{k}remain-time = \"71h\""),
            "warning P09",
        );
        sides(
            &format!("{k}lifetime = \"60d\""),
            &format!("{k}lifetime = \"1441h\""),
            "warning P28",
        );
    }
    sides(
        &format!("{s}refresh-interval = \"42h\""),
        &format!("{s}refresh-interval = \"42h1s\""),
        "warning P08",
    );
    sides(
        &format!("{s}remain-time = \"3d\""),
        &format!("{s}remain-time = \"71h\""),
        "warning P09",
    );
    let o = format!("{s}inception-offset = ");
    sides(
        &format!("{o}\"5m\""),
        &format!("{o}\"299s\""),
        "warning P18",
    );
    sides(&format!("{o}\"6d\""), &format!("{o}\"1w\""), "warning P18");
    let long = "\nsignature-lifetime = \"60d\"";
    sides(
        &format!("{o}\"1w\"{long}"),
        &format!("{o}\"7d1s\"{long}"),
        "error P18",
    );
    sides(
        &format!("{s}lifetime = \"60d\""),
        &format!("{s}lifetime = \"60d1s\""),
        "warning P28",
    );
}

#[test]
fn p11_reviews() {
    for stage in ["loader", "signer"] {
        let r = format!("[{stage}.review]\n");
        let script = format!("{r}mode = \"script\"\n");
        sides(
            &format!("{script}hook = \"/bin/true\""),
            &script,
            "error P11",
        );
        sides(
            &format!("{script}hooks = [\"/bin/true\"]"),
            &script,
            "error P11",
        );
        sides(&r, &format!("{r}hook = \"/bin/true\""), "error P11");
        sides(&r, &format!("{r}hooks = [\"/bin/true\"]"), "error P11");
        sides(
            &format!("{r}on-reject = \"discard\""),
            &format!("{r}on-reject = \"halt\""),
            "error P11",
        );
        sides(
            &format!("{r}mode = \"manual\"\non-reject = \"halt\""),
            &format!("{script}hook = \"a\"\nhooks = [\"b\"]"),
            "error P11",
        );
        let context = LintContext {
            loader_review_server: Some(false),
            signer_review_server: Some(false),
            hooks_timeout: Some(Duration::from_secs(600)),
            ..Default::default()
        };
        let body = format!("{script}hook = \"/bin/true\"\ntimeout = ");
        assert_eq!(codes_with(&format!("{body}600"), &context), ["error P11"]);
        let context = LintContext {
            loader_review_server: Some(true),
            signer_review_server: None,
            ..context
        };
        assert!(codes_with(&format!("{body}600"), &context).is_empty());
        assert_eq!(codes_with(&format!("{body}601"), &context), ["warning P11"]);
    }
}

#[test]
fn p12_shell_syntax() {
    let hook = |h: &str, shell: bool| {
        format!("[loader.review]\nmode = \"script\"\nhook-shell = {shell}\nhook = '''{h}'''\n")
    };
    for plain in [
        "/bin/check -x",
        "check 'a | b; $c'",
        "check \"a;b\" c\\;d",
        "a=~b",
        "check a#b",
    ] {
        assert!(codes(&hook(plain, false)).is_empty(), "{plain}");
    }
    for shell in [
        "a | b",
        "a && b",
        "a; b",
        "a > f",
        "a < f",
        "a $ZONE",
        "a \"$ZONE\"",
        "a `b`",
        "(a)",
        "a *.x",
        "~/check",
        "a 'b",
        "a\nb",
        "a &",
    ] {
        assert_eq!(codes(&hook(shell, false)), ["error P12"], "{shell}");
        assert!(codes(&hook(shell, true)).is_empty(), "{shell}");
    }
    let words = "[loader.review]\nmode = \"script\"\nhook = [\"a\", \"$x | y\"]\n";
    assert!(codes(words).is_empty(), "words are taken as they are");
    sides(
        "[key-manager.ds]\nhook = \"/bin/a b\"",
        "[key-manager.ds]\nhook = \"/bin/a | b\"",
        "error P12",
    );
    sides(
        "[server.outbound]\nfile-hook = \"/bin/a\"",
        "[server.outbound]\nfile-hook = \"/bin/a > b\"",
        "error P12",
    );
}

#[test]
fn p13_programs() {
    let runs = |program: &str| program == "/bin/true";
    let context = LintContext {
        runs: Some(&runs),
        ..Default::default()
    };
    let body = |h: &str| format!("[signer.review]\nmode = \"script\"\nhook = \"{h}\"\n");
    assert!(codes_with(&body("/bin/true x"), &context).is_empty());
    assert_eq!(codes_with(&body("/bin/gone x"), &context), ["warning P13"]);
}

#[test]
fn p15_p16_p17_p27_rolls() {
    // K 1h + T 24h + Q 24h + I 12h + 2 m 2h = 63h.
    for (kind, csk) in [("zsk", "false"), ("csk", "true")] {
        let body = |v: &str| {
            format!(
                "[key-manager.{kind}]\nvalidity = \"{v}\"\n[key-manager.generation]\nuse-csk = {csk}\n"
            )
        };
        sides(&body("63h1s"), &body("63h"), "error P15");
        let unused = if csk == "true" { "zsk" } else { "csk" };
        let other = body("63h").replace(
            &format!("[key-manager.{kind}]"),
            &format!("[key-manager.{unused}]"),
        );
        assert!(
            !codes(&other).contains(&"error P15".to_string()),
            "{unused} is not in use"
        );
    }
    let low_ttl = "[key-manager.zsk]\nvalidity = \"63h\"\n[signer]\nmax-ttl = \"1h\"\n";
    assert!(!codes(low_ttl).contains(&"error P15".to_string()));

    let ksk = |v: &str| format!("[key-manager.ksk]\nvalidity = \"{v}\"\n");
    sides(&ksk("90d"), &ksk("89d"), "warning P16");
    sides(
        &format!("{}auto-start = false", ksk("89d")),
        &ksk("89d"),
        "warning P16",
    );
    sides(
        &format!("{}[key-manager.ds]\nhook = \"/bin/a\"", ksk("89d")),
        &format!("{}[key-manager.ds]\nnotify = true", ksk("89d")),
        "warning P16",
    );
    let follows = LintContext {
        parent_follows_cds: true,
        ..Default::default()
    };
    assert!(codes_with(&ksk("89d"), &follows).is_empty());

    let q = |q: &str| format!("[signer]\nkey-roll-time = \"{q}\"\n");
    sides(&q("15d"), &q("361h"), "warning P17");

    sides(&ksk("365d"), &ksk("forever"), "note P27");
    sides(
        &format!("{}auto-start = false", ksk("forever")),
        &ksk("forever"),
        "note P27",
    );
}

#[test]
fn p19_p20_algorithms() {
    let a = |a: &str| format!("[key-manager.generation]\nalgorithm = \"{a}\"\n");
    for (bits, expected) in [
        ("1016", vec!["error P19"]),
        ("1024", vec!["warning P19"]),
        ("2040", vec!["warning P19"]),
        ("2044", vec!["error P19"]),
        ("2048", vec![]),
        ("4096", vec![]),
        ("4104", vec!["error P19"]),
    ] {
        assert_eq!(codes(&a(&format!("RSASHA256:{bits}"))), expected, "{bits}");
    }
    assert_eq!(codes(&a("rsasha512")), ["warning P20"]);
    for good in [
        "ecdsap256sha256",
        "ECDSAP384SHA384",
        "Ed25519",
        "ed448",
        "RSASHA256",
    ] {
        assert!(codes(&a(good)).is_empty(), "{good}");
    }
}

#[test]
fn p21_denial() {
    let d = |text: &str| format!("[signer.denial]\n{text}\n");
    for key in ["opt-out = true", "iterations = 1", "salt = \"ab\""] {
        assert_eq!(codes(&d(key)), ["error P21"], "{key}");
    }
    let n = |text: &str| d(&format!("type = \"nsec3\"\n{text}"));
    assert!(codes(&n("opt-out = true\niterations = 0\nsalt = \"\"")).is_empty());
    assert_eq!(codes(&n("iterations = 1")), ["warning P21"]);
    assert_eq!(codes(&n("iterations = 50")), ["warning P21"]);
    assert_eq!(codes(&n("iterations = 51")), ["error P21"]);
    assert_eq!(codes(&n("salt = \"ab\"")), ["warning P21"]);
}

#[test]
fn p23_keep_and_hold() {
    let s = "[signer]\nserial-policy = \"keep\"\nserial-keep-refresh = ";
    sides(
        &format!("{s}\"bump\""),
        &format!("{s}\"hold\""),
        "warning P23",
    );
    assert!(codes("[signer]\nserial-keep-refresh = \"hold\"").is_empty());
}

#[test]
fn p25_open_transfers() {
    let open = LintContext {
        published_beyond_loopback: true,
        ..Default::default()
    };
    let body = |acl: &str| format!("[server.outbound]\nprovide-xfr-to = [{acl}]\n");
    assert_eq!(codes_with(&body("\"any\""), &open), ["warning P25"]);
    assert_eq!(codes_with(&body("\"0.0.0.0/0\""), &open), ["warning P25"]);
    assert_eq!(
        codes_with(&body("\"!192.0.2.1\", \"any\""), &open),
        ["warning P25"]
    );
    assert!(codes_with(&body("\"any^k\""), &open).is_empty());
    assert!(codes_with(&body("\"192.0.2.0/24\", \"!any\", \"any\""), &open).is_empty());
    assert!(codes(&body("\"any\"")).is_empty());
}

#[test]
fn p26_removal() {
    let k = |delay: &str| format!("[key-manager]\nauto-remove-delay = \"{delay}\"\n");
    sides(&k("25h"), &k("24h"), "warning P26");
    sides(
        &format!("{}auto-remove = false", k("24h")),
        &k("24h"),
        "warning P26",
    );
    let hsm = |can_destroy| {
        vec![HsmFacts {
            id: "v".into(),
            algorithms: None,
            can_destroy,
            signatures_per_second: None,
        }]
    };
    let body = "[key-manager.generation]\nhsm-server-id = \"v\"\n";
    let check = |hsms: Vec<HsmFacts>| {
        codes_with(
            body,
            &LintContext {
                hsms: Some(&hsms),
                ..Default::default()
            },
        )
    };
    assert!(check(hsm(Some(true))).is_empty());
    assert!(check(hsm(None)).is_empty());
    assert_eq!(check(hsm(Some(false))), ["warning P26"]);
}

#[test]
fn p30_silent_parent() {
    let ds = "[key-manager.ds]\ncds = ";
    sides(
        &format!("{ds}\"always\""),
        &format!("{ds}\"never\""),
        "warning P30",
    );
    sides(
        &format!("{ds}\"never\"\npush = {{ server = \"192.0.2.1\", tsig-key = \"k\" }}"),
        &format!("{ds}\"never\""),
        "warning P30",
    );
    sides(
        &format!("{ds}\"when-needed\"\nnotify = true"),
        &format!("{ds}\"never\"\nhook = \"/bin/a\"\nnotify = true"),
        "warning P30",
    );
}

#[test]
fn p31_watched_without_transfer() {
    let body = |acl: &str| {
        format!(
            "[server.outbound]\nprovide-xfr-to = [{acl}]\nsecondaries = [\"192.0.2.1\", \"127.0.0.1\"]\n\
             canary = {{ addr = \"192.0.2.1\" }}\n"
        )
    };
    assert!(codes(&body("\"192.0.2.0/24\", \"loopback\"")).is_empty());
    assert!(codes(&body("\"192.0.2.0/24^k\", \"127.0.0.0/8\"")).is_empty());
    assert_eq!(
        codes(&body("\"192.0.2.2\", \"loopback\"")),
        ["warning P31", "warning P31"]
    );
    assert_eq!(
        codes(&body("\"!192.0.2.1\", \"any\"")),
        ["warning P31", "warning P31"],
        "the first match decides"
    );
}

fn zone() -> ZoneFacts {
    ZoneFacts {
        name: "example".into(),
        longest_ttl: Duration::from_secs(86_400),
        expire: Duration::from_secs(7 * 86_400),
        names: 100,
        unsigned_delegations: 50,
        source_is_file: false,
        serial: None,
        signatures: 1000,
    }
}

/// 2026-11-25 12:00 UTC.
fn now() -> Timestamp {
    Timestamp::parse_dns("20261125120000").expect("is a time")
}

fn zone_codes(body: &str, zone: &ZoneFacts, hsms: &[HsmFacts]) -> Vec<String> {
    let found = read(body).lint_zone(zone, hsms, now());
    found
        .iter()
        .map(|d| format!("{} {}", d.level, d.code))
        .collect()
}

#[test]
fn p10_p14_zone_times() {
    let day = Duration::from_secs(86_400);
    assert!(zone_codes("", &zone(), &[]).is_empty());
    let z = ZoneFacts {
        expire: 7 * day + Duration::from_secs(1),
        ..zone()
    };
    assert_eq!(zone_codes("", &z, &[]), ["note P10"]);
    // T + 7d + 12h >= 14d.
    let z = ZoneFacts {
        longest_ttl: 6 * day + day / 2,
        ..zone()
    };
    assert_eq!(zone_codes("", &z, &[]), ["warning P14"]);
    assert!(zone_codes("[signer]\nmax-ttl = \"1d\"", &z, &[]).is_empty());
    let z = ZoneFacts {
        longest_ttl: 6 * day + day / 2 - Duration::from_secs(1),
        ..zone()
    };
    assert!(zone_codes("", &z, &[]).is_empty());
}

#[test]
fn p22_opt_out() {
    let body = "[signer.denial]\ntype = \"nsec3\"\nopt-out = true\n";
    assert!(zone_codes(body, &zone(), &[]).is_empty());
    let z = ZoneFacts {
        unsigned_delegations: 49,
        ..zone()
    };
    assert_eq!(zone_codes(body, &z, &[]), ["warning P22"]);
    assert!(zone_codes("", &z, &[]).is_empty());
}

#[test]
fn p23_p24_serials() {
    let keep = "[signer]\nserial-policy = \"keep\"\n";
    assert!(zone_codes(keep, &zone(), &[]).is_empty());
    let z = ZoneFacts {
        source_is_file: true,
        ..zone()
    };
    assert_eq!(zone_codes(keep, &z, &[]), ["warning P23"]);

    let at = |serial| ZoneFacts {
        serial: Some(serial),
        ..zone()
    };
    assert!(zone_codes("", &at(2_026_112_599), &[]).is_empty());
    assert_eq!(zone_codes("", &at(2_026_112_600), &[]), ["warning P24"]);
    let found = read("").lint_zone(&at(2_026_122_400), &[], now());
    assert!(
        found[0].detail.contains("until 2026-12-24"),
        "{}",
        found[0].detail
    );
    let unix = "[signer]\nserial-policy = \"unix-time\"\n";
    let s = now().to_wire();
    assert!(zone_codes(unix, &at(s), &[]).is_empty());
    assert_eq!(zone_codes(unix, &at(s + 1), &[]), ["warning P24"]);
    assert!(
        zone_codes(
            "[signer]\nserial-policy = \"counter\"\n",
            &at(u32::MAX),
            &[]
        )
        .is_empty()
    );
}

#[test]
fn p29_rate() {
    let body = "[key-manager.generation]\nhsm-server-id = \"v\"\n";
    let hsm = |rate| {
        vec![HsmFacts {
            id: "v".into(),
            algorithms: None,
            can_destroy: None,
            signatures_per_second: Some(rate),
        }]
    };
    // The period is 14d - 7d - 12h - 1d = 475200 s.
    let z = ZoneFacts {
        signatures: 4_752_000,
        ..zone()
    };
    assert!(zone_codes(body, &z, &hsm(10.0)).is_empty());
    assert_eq!(zone_codes(body, &z, &hsm(9.9)), ["warning P29"]);
    assert!(zone_codes("", &z, &hsm(1.0)).is_empty(), "software keys");
}

#[test]
fn texts() {
    let file = read(
        "[signer]\nsignature-lifetime = \"7d\"\nkey-roll-time = \"20d\"\n\
         [signer.denial]\nsalt = \"ab\"\n[loader.review]\nmode = \"script\"\nhook = \"a | b\"\n\
         [key-manager.generation]\nhsm-server-id = \"vault\"\nalgorithm = \"RSASHA512:1024\"\n",
    );
    let context = LintContext {
        hsms: Some(&[]),
        ..Default::default()
    };
    let lines: Vec<String> = file
        .lint(&context)
        .iter()
        .map(Diagnostic::one_line)
        .collect();
    insta::assert_snapshot!(lines.join("\n"));
}

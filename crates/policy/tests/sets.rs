//! The older dialect, sets of policies, effects of changes, storage.

use cascade_policy::*;

fn read(body: &str) -> PolicyFile {
    let text = format!("version = \"v1\"\n{body}");
    match parse_policy("p", "p.toml", text.as_bytes()) {
        Ok(file) => file,
        Err(found) => panic!("{}", found[0].snippet(&text, false)),
    }
}

fn errors(body: &str) -> Vec<String> {
    let text = format!("version = \"v1\"\n{body}");
    match parse_policy("p", "p.toml", text.as_bytes()) {
        Ok(_) => Vec::new(),
        Err(found) => found.iter().map(Diagnostic::one_line).collect(),
    }
}

#[test]
fn older_reviews() {
    for stage in ["loader", "signer"] {
        let of = |text: &str| {
            let file = read(&format!("[{stage}.review]\n{text}"));
            let found = file.lint(&LintContext::default());
            assert!(found.is_empty(), "{found:?}");
            let p = file.policy;
            (
                if stage == "loader" {
                    p.loader.review
                } else {
                    p.signer.review
                },
                file.warnings,
            )
        };
        let (r, warnings) = of("required = true\ncmd-hook = \"check | grep $x\"");
        assert_eq!(r.mode, ReviewMode::Script);
        let command = Command {
            program: "/bin/sh".into(),
            args: vec!["-c".into(), "check | grep $x".into()],
        };
        assert_eq!(r.commands(), [command]);
        assert!(warnings.is_empty());
        assert_eq!(of("required = true").0.mode, ReviewMode::Manual);
        let (r, warnings) = of("required = false");
        assert_eq!((r.mode, r.hook, warnings.len()), (ReviewMode::Off, None, 0));
        let (r, warnings) = of("required = false\ncmd-hook = \"x\"");
        assert_eq!((r.mode, r.hook), (ReviewMode::Off, None));
        assert_eq!(
            warnings[0].one_line(),
            format!(
                "p.toml:4:1: warning P11: {stage}.review.cmd-hook: this command is never run: \
                 required is not true; write mode = \"script\" and hook, or remove the line"
            )
        );
    }
}

#[test]
fn older_and_new_together() {
    for body in [
        "[loader.review]\nrequired = true\nmode = \"manual\"\n",
        "[loader.review]\nrequired = true\ncmd-hook = \"x\"\nhook = \"y\"\n",
        "[loader.review]\ncmd-hook = \"x\"\nhooks = [\"y\"]\n",
        "[server.outbound]\naccept-xfr-requests-from = []\nprovide-xfr-to = []\n",
    ] {
        let found = errors(body);
        assert_eq!(found.len(), 1, "{found:?}");
        assert!(found[0].contains("older spelling beside"), "{found:?}");
    }
    assert_eq!(
        errors("[loader.review]\nrequired = \"yes\"\n"),
        [
            "p.toml:3:12: error P01: loader.review.required: a string where true or false is expected; \
          today's key is mode = \"off\", \"manual\" or \"script\""
        ]
    );
}

#[test]
fn older_transfer_list() {
    let p = read("[server.outbound]\naccept-xfr-requests-from = [\"192.0.2.1^k\"]\n").policy;
    let text: Vec<String> = p
        .server
        .outbound
        .provide_xfr_to
        .iter()
        .map(AclEntry::text)
        .collect();
    assert_eq!(text, ["192.0.2.1^k"]);
}

#[test]
fn access_lists() {
    let file = read(
        "[server.outbound]\nprovide-xfr-to = [\"!192.0.2.9\", \"192.0.2.1/24\", \"loopback\", \
         \"tls:ns1.example^k\", \"[2001:db8::1]:53\", { addr = \"any\", tsig-key-name = \"k\" }]\n",
    );
    let list = &file.policy.server.outbound.provide_xfr_to;
    let text: Vec<String> = list.iter().map(AclEntry::text).collect();
    let expected = [
        "!192.0.2.9",
        "192.0.2.0/24",
        "loopback",
        "tls:ns1.example^k",
        "2001:db8::1",
        "any^k",
    ];
    assert_eq!(text, expected);
    assert_eq!(list[3].net, Net::Tls("ns1.example".into()));
    assert_eq!(
        file.warnings.len(),
        2,
        "host bits, port: {:?}",
        file.warnings
    );
    let ip = |s: &str| s.parse().expect("is an address");
    assert!(!admits(&list[..2], ip("192.0.2.9")));
    assert!(admits(&list[..2], ip("192.0.2.8")));
    assert!(
        admits(&list[..2], ip("::ffff:192.0.2.8")),
        "mapped addresses compare as IPv4"
    );
    assert!(!admits(&list[..2], ip("192.0.3.8")));
    let zero = read("[server.outbound]\nprovide-xfr-to = [\"0.0.0.0/0\"]\n").policy;
    assert!(admits(
        &zero.server.outbound.provide_xfr_to,
        ip("203.0.113.1")
    ));
    assert!(!admits(
        &zero.server.outbound.provide_xfr_to,
        ip("2001:db8::1")
    ));
}

fn file(path: &str, text: &str) -> DirEntry {
    DirEntry {
        path: path.into(),
        content: Content::File(text.into()),
    }
}

#[test]
fn a_directory() {
    let v1 = "version = \"v1\"\n";
    let entries = [
        file("/p/b.toml", v1),
        file(
            "/p/a.toml",
            &format!("{v1}[signer]\nkey-roll-time = \"20d\"\n"),
        ),
        file("/p/.hidden.toml", "nonsense"),
        file("/p/notes.txt", "nonsense"),
        file("/p/b.toml~", "nonsense"),
        DirEntry {
            path: "/p/old".into(),
            content: Content::Directory,
        },
    ];
    let loaded = PolicySet::load(&entries, &LintContext::default()).expect("is accepted");
    let names: Vec<&str> = loaded.set.iter().map(|(name, _)| name).collect();
    assert_eq!(names, ["a", "b"]);
    let lines: Vec<String> = loaded
        .findings
        .iter()
        .map(|d| format!("{} {} {}", d.file, d.level, d.code))
        .collect();
    assert_eq!(
        lines,
        [
            "/p/.hidden.toml warning P02",
            "/p/a.toml warning P17",
            "/p/b.toml~ warning P02",
            "/p/notes.txt warning P02"
        ]
    );
}

#[test]
fn one_error_refuses_all() {
    let v1 = "version = \"v1\"\n";
    let entries = [
        file("good.toml", v1),
        file(
            "bad.toml",
            "version = \"v1\"\nsinger = 1\n[signer]\nmode = 1\n",
        ),
        file("-x.toml", v1),
        file(
            "lint.toml",
            &format!("{v1}[signer]\nsignature-lifetime = \"1d\"\n"),
        ),
        DirEntry {
            path: "dir.toml".into(),
            content: Content::Directory,
        },
        DirEntry {
            path: "no.toml".into(),
            content: Content::Unreadable("permission denied".into()),
        },
    ];
    let found = PolicySet::load(&entries, &LintContext::default()).expect_err("is refused");
    let lines: Vec<String> = found.iter().map(Diagnostic::one_line).collect();
    insta::assert_snapshot!(lines.join("\n"));
    assert_eq!(found[1].policy.as_deref(), Some("bad"));
}

#[test]
fn names() {
    let long = "a".repeat(63);
    for good in ["a", "nethsm", "A.b_c-9", "0", long.as_str()] {
        assert!(is_name(good), "{good}");
    }
    let long = "a".repeat(64);
    for bad in ["", ".a", "-a", "_a", "a b", "a/b", "ä", long.as_str()] {
        assert!(!is_name(bad), "{bad}");
    }
}

#[test]
fn what_changed() {
    let load = |entries: &[DirEntry]| {
        PolicySet::load(entries, &LintContext::default())
            .expect("is accepted")
            .set
    };
    let v1 = "version = \"v1\"\n";
    let old = load(&[file("a.toml", v1), file("b.toml", v1), file("c.toml", v1)]);
    let new = load(&[
        file(
            "b.toml",
            &format!("# words\n{v1}[signer]\nzonemd = \"off\"\n"),
        ),
        file("c.toml", &format!("{v1}[signer]\nzonemd = \"sha384\"\n")),
        file("d.toml", v1),
    ]);
    let lines: Vec<String> = old
        .diff(&new)
        .iter()
        .map(|(n, c)| format!("{n} {c}"))
        .collect();
    assert_eq!(lines, ["a removed", "b unchanged", "c updated", "d added"]);
}

#[test]
fn stored_and_read_again() {
    let entries = [file(
        "a.toml",
        "version = \"v1\"\n[signer]\nzonemd = \"sha384\"\n",
    )];
    let set = PolicySet::load(&entries, &LintContext::default())
        .expect("is accepted")
        .set;
    let json = serde_json::to_string(&set).expect("serialises");
    let again: PolicySet = serde_json::from_str(&json).expect("deserialises");
    let (a, b) = (set.get("a").expect("a"), again.get("a").expect("a"));
    assert_eq!((&a.policy, &a.text, &a.name), (&b.policy, &b.text, &b.name));
    let broken = json.replace("sha384", "sha1");
    let error = serde_json::from_str::<PolicySet>(&broken).expect_err("is refused");
    assert!(
        error
            .to_string()
            .contains("a.toml:3:10: error P01: signer.zonemd"),
        "{error}"
    );
}

#[test]
fn effects_of_changes() {
    let change = |old: &str, new: &str| {
        let found = effects(&read(old).policy, &read(new).policy);
        found
            .iter()
            .map(|c| (c.key.clone(), c.effect, c.confirm))
            .collect::<Vec<_>>()
    };
    assert!(change("", "[signer]\nzonemd = \"off\"\n").is_empty());
    let g = "[key-manager.generation]\n";
    for (old, new, key, effect, confirm) in [
        (
            "",
            "[loader]\nwatch = true\n",
            "loader.watch",
            Effect::None,
            false,
        ),
        (
            "",
            "[server.outbound]\nmax-diffs = 6\n",
            "server.outbound.max-diffs",
            Effect::None,
            false,
        ),
        (
            "",
            "[signer]\nsignature-lifetime = \"3w\"\n",
            "signer.signature-lifetime",
            Effect::Refresh,
            false,
        ),
        (
            "",
            "[key-manager.records]\nttl = 60\n",
            "key-manager.records.ttl",
            Effect::Refresh,
            false,
        ),
        (
            "",
            "[signer]\nzonemd = \"sha384\"\n",
            "signer.zonemd",
            Effect::Resign,
            false,
        ),
        (
            "",
            "[signer]\nmax-ttl = 60\n",
            "signer.max-ttl",
            Effect::Resign,
            false,
        ),
        (
            "",
            "[signer.denial]\ntype = \"nsec3\"\n",
            "signer.denial.type",
            Effect::Resign,
            true,
        ),
        (
            "",
            "[signer]\nserial-policy = \"counter\"\n",
            "signer.serial-policy",
            Effect::None,
            false,
        ),
        (
            "",
            "[key-manager.zsk]\nvalidity = \"60d\"\n",
            "key-manager.zsk.validity",
            Effect::None,
            false,
        ),
        (
            "",
            "[key-manager.generation]\nalgorithm = \"ED25519\"\n",
            "key-manager.generation.algorithm",
            Effect::Parent,
            true,
        ),
        (
            "",
            "[key-manager.generation]\nhsm-server-id = \"v\"\n",
            "key-manager.generation.hsm-server-id",
            Effect::Parent,
            true,
        ),
        (
            "",
            "[key-manager.generation]\nzsk-hsm-server-id = \"v\"\n",
            "key-manager.generation.zsk-hsm-server-id",
            Effect::Roll,
            true,
        ),
        (
            "",
            "[key-manager.generation]\nzsk-hsm-server-id = \"none\"\n",
            "key-manager.generation.zsk-hsm-server-id",
            Effect::None,
            false,
        ),
        (
            "",
            "[key-manager.ds]\ncds = \"always\"\n",
            "key-manager.ds.cds",
            Effect::Parent,
            false,
        ),
        (
            "",
            "[key-manager.ds]\ncds = \"delete\"\n",
            "key-manager.ds.cds",
            Effect::Parent,
            true,
        ),
        (
            "",
            "[key-manager]\nauto-remove = false\n",
            "key-manager.auto-remove",
            Effect::None,
            false,
        ),
        (
            "[key-manager]\nauto-remove = false\n",
            "",
            "key-manager.auto-remove",
            Effect::Destroy,
            false,
        ),
        (
            "",
            "[key-manager]\nauto-remove-delay = \"6d\"\n",
            "key-manager.auto-remove-delay",
            Effect::Destroy,
            false,
        ),
        (
            "",
            "[key-manager]\nauto-remove-delay = \"8d\"\n",
            "key-manager.auto-remove-delay",
            Effect::None,
            false,
        ),
    ] {
        assert_eq!(
            change(old, new),
            [(key.to_string(), effect, confirm)],
            "{old}{new}"
        );
    }
    // The same homes, said in another way.
    let a = format!("{g}hsm-server-id = \"v\"\n");
    let b = format!("{g}ksk-hsm-server-id = \"v\"\nzsk-hsm-server-id = \"v\"\n");
    assert!(
        change(&a, &b)
            .iter()
            .all(|(_, effect, confirm)| *effect == Effect::None && !confirm)
    );
}

#[test]
fn configuration_changes() {
    let read = |body: &str| {
        let text = format!("version = \"v1\"\n{body}");
        parse_config("c", text.as_bytes())
            .expect("is accepted")
            .config
    };
    let new = read("[daemon]\nlog-level = \"debug\"\nworker-threads = 3\n[server]\nnsid = \"x\"\n");
    let found: Vec<(String, bool)> = config_changes(&read(""), &new)
        .into_iter()
        .map(|c| (c.key, c.reload))
        .collect();
    let expected = [
        ("daemon.log-level", true),
        ("daemon.worker-threads", false),
        ("server.nsid", true),
    ];
    assert_eq!(found, expected.map(|(k, r)| (k.to_string(), r)));
}

#[test]
fn guard_limits() {
    let limit = read("[loader.guard]\nowners-removed = { warn = \"0.5%\", hold = \"5%\", reject = \"50%\", floor = 10 }")
        .policy
        .loader
        .guard
        .owners_removed;
    for (part, whole, act) in [
        (10, 10, GuardAct::Off),   // the floor is not exceeded
        (11, 2200, GuardAct::Off), // 0.5 % exactly
        (11, 2199, GuardAct::Warn),
        (50, 1000, GuardAct::Warn), // 5 % exactly
        (51, 1000, GuardAct::Hold),
        (501, 1000, GuardAct::Reject),
        (11, 0, GuardAct::Reject),
    ] {
        assert_eq!(limit.judge(part, whole), act, "{part} of {whole}");
    }
    let off = read("[loader.guard]\nsize = \"off\"\n")
        .policy
        .loader
        .guard
        .size;
    assert_eq!(off.judge(u64::MAX, 1), GuardAct::Off);
}

#[test]
fn check_levels() {
    let checks = read(
        "[loader.checks]\nttl-mismatch = \"error\"\nZ123 = \"off\"\napex-ns = \"error\"\nsingleton = \"error\"\n",
    )
    .policy
    .loader
    .checks;
    let set: Vec<(u16, CheckLevel)> = checks.iter().collect();
    assert_eq!(
        set,
        [(116, CheckLevel::Error), (123, CheckLevel::Off)],
        "defaults are not settings"
    );
    assert!(
        errors("[loader.checks]\nttl-mismatch = \"off\"\nZ116 = \"warn\"\n")[0]
            .contains("set twice")
    );
}

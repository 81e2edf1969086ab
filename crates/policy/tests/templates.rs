//! The templates say what the code does.

use std::process::Command;

use cascade_policy::*;

/// Enables every `#key = value` line.
fn enabled(text: &str) -> String {
    let lines: Vec<&str> = text
        .lines()
        .map(|l| match l.strip_prefix('#') {
            Some(rest) if !rest.is_empty() && !rest.starts_with(' ') => rest,
            _ => l,
        })
        .collect();
    lines.join("\n")
}

fn policy(text: &str) -> PolicyFile {
    match parse_policy("nethsm", "nethsm.toml", text.as_bytes()) {
        Ok(file) => file,
        Err(found) => panic!("{}", found[0].snippet(text, false)),
    }
}

fn config(text: &str) -> ConfigFile {
    match parse_config("config.toml", text.as_bytes()) {
        Ok(file) => file,
        Err(found) => panic!("{}", found[0].snippet(text, false)),
    }
}

#[test]
fn checked_in_files_are_the_generated_ones() {
    let hint = "regenerate: cargo run -p cascade-policy --example templates policy|config";
    assert!(
        include_str!("../../../etc/policy.toml") == template_policy(),
        "{hint}"
    );
    assert!(
        include_str!("../../../etc/config.toml") == template_config(),
        "{hint}"
    );
}

#[test]
fn lines_fit_and_comments_have_two_forms() {
    for text in [template_policy(), template_config()] {
        for line in text.lines() {
            assert!(line.chars().count() <= 80, "{line}");
            if let Some(rest) = line.strip_prefix('#') {
                let settable = rest.split(" = ").next().is_some_and(|key| {
                    rest.contains(" = ") && key.bytes().all(|b| b.is_ascii_lowercase() || b == b'-')
                });
                assert!(rest.starts_with(' ') || settable, "{line}");
            }
        }
    }
}

#[test]
fn policy_template_is_the_default() {
    let read = policy(&template_policy());
    assert_eq!(read.policy, Policy::default());
    assert_eq!(read.policy, policy("version = \"v1\"").policy);
    assert!(read.warnings.is_empty());
    let found = read.lint(&LintContext {
        published_beyond_loopback: true,
        ..Default::default()
    });
    assert!(found.is_empty(), "{found:?}");
}

#[test]
fn config_template_is_the_default() {
    let read = config(&template_config());
    assert_eq!(read.config, Config::default());
    assert_eq!(read.config, config("version = \"v1\"").config);
    assert!(read.warnings.is_empty(), "{:?}", read.warnings);
}

/// Every key with a default keeps it, and every other one takes its example.
#[test]
fn every_line_enabled() {
    let text = enabled(&template_policy());
    let read = policy(&text);
    let with: Vec<Setting> = effective_policy(&read.policy);
    for s in effective_policy(&Policy::default()) {
        // A level for transfers and files alike is the one check without a default.
        if s.key() != "loader.checks" {
            assert!(with.contains(&s), "{s:?}");
        }
    }
    for key in reference_policy() {
        let (section, name) = key.key.rsplit_once('.').unwrap_or(("", &key.key));
        assert!(
            with.iter().any(|s| s.section == section && s.name == name),
            "{}",
            key.key
        );
    }
    // The examples of hooks are set beside mode "off", which is all that is wrong with them.
    let found = read.lint(&LintContext::default());
    let other: Vec<_> = found
        .iter()
        .filter(|d| d.is_error() && d.code != "P11")
        .collect();
    assert!(other.is_empty(), "{other:?}");

    let text = enabled(&template_config());
    let read = config(&text);
    let with: Vec<Setting> = effective_config(&read.config);
    for s in effective_config(&Config::default()) {
        assert!(with.contains(&s), "{s:?}");
    }
    // The example of a process id's file stands beside daemonize = false.
    let warned: Vec<_> = read.warnings.iter().map(|d| d.key.as_deref()).collect();
    assert_eq!(warned, [Some("daemon.pid-file")]);
}

/// `sed 's|^#key = .\+|key = …|'` works for the line an operator is told to edit.
#[test]
fn hsm_line() {
    let text = template_policy();
    let lines: Vec<&str> = text
        .lines()
        .filter(|l| l.starts_with("#hsm-server-id = "))
        .collect();
    assert_eq!(lines, ["#hsm-server-id = \"kmip2pkcs11\""]);
    assert_eq!(text.matches("#hsm-server-id = ").count(), 1);
    let before = text.split("#hsm-server-id").next().unwrap_or_default();
    let section = before.lines().rfind(|l| l.starts_with('['));
    assert_eq!(section, Some("[key-manager.generation]"));

    let script = r#"s|^#hsm-server-id = .\+|hsm-server-id = "kmip2pkcs11"|"#;
    let file = concat!(env!("CARGO_MANIFEST_DIR"), "/../../etc/policy.toml");
    let out = Command::new("sed")
        .args(["-e", script, file])
        .output()
        .expect("sed runs");
    let text = String::from_utf8(out.stdout).expect("is UTF-8");
    let read = policy(&text);
    assert_eq!(
        read.policy.key_manager.generation.ksk_home(),
        Some("kmip2pkcs11")
    );
    assert_eq!(
        read.policy.key_manager.generation.zsk_home(),
        Some("kmip2pkcs11")
    );
    let context = LintContext {
        hsms: Some(&[]),
        ..Default::default()
    };
    let found: Vec<String> = read
        .lint(&context)
        .iter()
        .map(Diagnostic::one_line)
        .collect();
    assert_eq!(found.len(), 1, "{found:?}");
    assert!(
        found[0].contains("warning P04: key-manager.generation.hsm-server-id"),
        "{found:?}"
    );
}

#[test]
fn every_key_is_documented() {
    for key in reference_policy().into_iter().chain(reference_config()) {
        assert!(!key.doc.is_empty(), "{}", key.key);
        assert!(!key.type_text.is_empty(), "{}", key.key);
        if key.default.is_some() {
            assert!(key.key == "version" || !key.why.is_empty(), "{}", key.key);
        } else {
            assert!(!key.example.is_empty(), "{}", key.key);
        }
    }
}

#[test]
fn manual_text() {
    let keys: Vec<KeyDoc> = reference_policy()
        .into_iter()
        .filter(|k| k.key.starts_with("signer.review.ho") || k.key == "signer.signature-lifetime")
        .collect();
    insta::assert_snapshot!(manual(&keys));
}

#[test]
fn effective_values() {
    let read = policy(
        "version = \"v1\"\n[signer]\nzonemd = \"sha384\"\nmax-ttl = 86400\nkey-roll-time = \"36h\"\n\
         [key-manager.ksk]\nvalidity = \"forever\"\n[loader.guard.size]\nhold = \"2.5%\"\n",
    );
    let text = print_effective(&read.effective(), true);
    insta::assert_snapshot!(text);
    assert_eq!(policy(&text).policy, read.policy);
}

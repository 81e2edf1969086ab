//! The bridge's configuration: template, older form, and what is refused where.

use cascade_policy::*;

fn read(text: &str) -> BridgeFile {
    match parse_bridge("config.toml", text.as_bytes()) {
        Ok(file) => file,
        Err(found) => panic!("{}", found[0].snippet(text, false)),
    }
}

fn refused(text: &str) -> String {
    let found = parse_bridge("config.toml", text.as_bytes()).expect_err("refused");
    found.iter().map(|d| d.one_line() + "\n").collect()
}

const LIB: &str = "lib_path = \"/usr/lib/softhsm/libsofthsm2.so\"\n";

#[test]
fn the_checked_in_file_is_the_generated_one() {
    assert!(
        include_str!("../../../etc/kmip2pkcs11/config.toml") == template_bridge(),
        "regenerate: cargo run -p cascade-policy --example templates bridge > etc/kmip2pkcs11/config.toml"
    );
}

#[test]
fn the_template_is_the_default_but_for_the_journal() {
    let file = read(&template_bridge());
    assert!(file.warnings.is_empty(), "{:?}", file.warnings);
    assert_eq!(file.config.log_target, BridgeLogTarget::Journal);
    let expected = BridgeConfig {
        log_target: BridgeLogTarget::Journal,
        ..BridgeConfig::default()
    };
    assert_eq!(file.config, expected);
    for line in template_bridge().lines() {
        assert!(line.chars().count() <= 80, "{line}");
    }
    // Every key that is set by example only takes its example.
    let enabled: String = template_bridge()
        .lines()
        .map(|l| match l.strip_prefix('#') {
            Some(rest) if !rest.is_empty() && !rest.starts_with(' ') => format!("{rest}\n"),
            _ => format!("{l}\n"),
        })
        .collect();
    assert!(read(&enabled).config.metrics_addr.is_some());
}

/// `sed -e 's|^lib_path = .\+|lib_path = "…"|'` changes one line, at top level.
#[test]
fn the_line_of_the_sed() {
    let text = template_bridge();
    let lines: Vec<_> = text
        .lines()
        .filter(|l| l.starts_with("lib_path = ") && l.len() > "lib_path = ".len())
        .collect();
    assert_eq!(lines, ["lib_path = \"/path/to/your/pkcs11.so\""]);
    assert!(!text.lines().any(|l| l.starts_with('[')), "tables");

    let found = read(&text).placeholder().expect("the placeholder");
    let line = text.lines().position(|l| l == lines[0]).expect("line") + 1;
    let said = found.one_line();
    assert!(
        said.starts_with(&format!(
            "config.toml:{line}:12: error C02: lib_path: still the placeholder"
        )),
        "{said}"
    );
    assert!(
        said.contains(r#"sed -i -e 's|^lib_path = .\+|lib_path = "/usr/lib/softhsm/libsofthsm2.so"|' config.toml"#),
        "{said}"
    );
    assert!(read(LIB).placeholder().is_none());
}

#[test]
fn addresses() {
    let listen = |line: &str| {
        let all = read(&format!("{LIB}{line}")).config.listen();
        all.iter().map(|a| a.to_string()).collect::<Vec<_>>()
    };
    assert_eq!(listen(""), ["127.0.0.1:5696"]);
    assert_eq!(listen("addr = \"::1\"\nport = 7000"), ["[::1]:7000"]);
    assert_eq!(
        listen("addr = [\"localhost\", \"127.0.0.2:1\", \"127.0.0.1\"]"),
        ["127.0.0.1:5696", "[::1]:5696", "127.0.0.2:1"]
    );
    for bad in ["\"hsm.example\"", "[]", "5", "\"127.0.0.1:99999\""] {
        assert!(
            refused(&format!("{LIB}addr = {bad}")).contains("config.toml:2:8: error C01: addr")
        );
    }
}

#[test]
fn rules_across_keys_name_key_and_action() {
    for (text, words) in [
        (
            "cert_path = \"/c.pem\"",
            "config.toml:2:13: error C02: key_path: a certificate without its key",
        ),
        ("key_path = \"/k.pem\"", "cert_path: a key without"),
        (
            "addr = \"0.0.0.0\"",
            "config.toml:2:8: error C02: client_ca_path: needed, because 0.0.0.0:5696",
        ),
        ("log_target = \"file\"", "log_file: needed"),
        ("metrics_addr = \"192.0.2.1:80\"", "not a loopback address"),
        (
            "max_sesions = 3",
            "config.toml:2:1: error C01: max_sesions = 3: unknown key; did you mean 'max_sessions'?",
        ),
        (
            "module_env = { \"a=b\" = \"c\" }",
            "not an environment variable",
        ),
        ("call_timeout = \"2h\"", "outside the range"),
        ("port = 70000", "outside the range"),
    ] {
        let said = refused(&format!("{LIB}{text}\n"));
        assert!(said.contains(words), "{text}: {said}");
    }
    assert!(refused("port = 1\n").contains("lib_path: this key is required"));
    read(&format!(
        "{LIB}addr = \"0.0.0.0\"\nallow_password_only = true\n"
    ));
    let env = read(&format!("{LIB}module_env = {{ B = \"1\", A = \"2\" }}"))
        .config
        .module_env;
    assert_eq!(env.0, [("B".into(), "1".into()), ("A".into(), "2".into())]);
}

#[test]
fn the_older_form_means_the_same() {
    let old = "version = \"v1\"\n[pkcs11]\nlib-path = \"/usr/lib/softhsm/libsofthsm2.so\"\n\
               [server]\naddr = \"127.0.0.1:5697\"\n[server.identity]\ncert-path = \"/c\"\n\
               key-path = \"/k\"\n[daemon]\nlog-level = \"debug\"\n\
               log-target = { type = \"file\", path = \"/var/log/x\" }\n";
    let new = "cert_path = \"/c\"\nkey_path = \"/k\"\naddr = \"127.0.0.1:5697\"\n\
               log_level = \"debug\"\nlog_target = \"file\"\nlog_file = \"/var/log/x\"\n";
    assert_eq!(read(old).config, read(&format!("{LIB}{new}")).config);

    let mixed = refused(&format!("{LIB}[server]\naddr = \"127.0.0.1\"\n"));
    assert!(mixed.contains("flat keys and tables are mixed"), "{mixed}");
    let unknown = refused(&format!("{old}wrong = 1\n"));
    assert!(
        unknown.contains("config.toml:12:1: error C01: daemon.wrong: unknown key"),
        "{unknown}"
    );
}

//! What an operator reads when a file is wrong: one snapshot for each shape of error.

use cascade_policy::{Diagnostic, parse_config, parse_policy};

fn show(found: &[Diagnostic], text: &str) -> String {
    let lines: Vec<String> = found.iter().map(Diagnostic::one_line).collect();
    let snippets: Vec<String> = found.iter().map(|d| d.snippet(text, false)).collect();
    format!("{}\n\n{}", lines.join("\n"), snippets.join("\n\n"))
}

fn policy_errors(text: &str) -> String {
    let found = parse_policy("nethsm", "nethsm.toml", text.as_bytes()).expect_err("is refused");
    show(&found, text)
}

fn config_errors(text: &str) -> String {
    let found = parse_config("config.toml", text.as_bytes()).expect_err("is refused");
    show(&found, text)
}

#[test]
fn policy_all_errors_at_once() {
    insta::assert_snapshot!(policy_errors(
        r#"version = "v1"
[signer]
signture-lifetime = "2w"
signature-lifetime = 2.5
signature_remain_time = "1w"
serial-policy = "datecounter"
key-roll-time = "1d12"
refresh-batch = -1
max-ttl = "0s"
algorithm = "ED25519"

[signer.verify]
mode = "off"
sweep = "1m"

[loader]
max-size = "10MB"
watch = "sometimes"

[loader.guard]
max-removed = "30%"
owners-removed = { warn = "30%", hold = "10%" }
ds-removed = { hold = "lots" }
size = { floor = 3 }

[loader.checks]
apex-nss = "warn"
out-of-zone = "warn"
ttl-mismatch = "loud"
Z999 = "off"

[key-manager.generation]
algorithm = "RSASHA257"
use-csk = "yes"
tag-range = "9-1"
hsm-server-id = "none"

[server.outbound]
provide-xfr-to = ["192.0.2.0/33", "ten", { addr = "any", key = "x" }, "any^"]
send-notify-to = ["192.0.2.1:0", "ns1.example"]
canary = { hold = "2m" }
"#
    ));
}

#[test]
fn policy_syntax_and_duplicates() {
    insta::assert_snapshot!(policy_errors(
        "[signer]\nserial-policy = \nzonemd = \"off\"\nzonemd = \"off\"\n[signer]\nmode = \"sig\n"
    ));
}

#[test]
fn policy_without_version() {
    insta::assert_snapshot!(policy_errors("[signer]\nzonemd = \"off\"\n"));
}

#[test]
fn policy_of_another_version() {
    insta::assert_snapshot!(policy_errors("version = \"v2\"\nsigner = 3\n"));
}

#[test]
fn policy_name() {
    let found = parse_policy("-x", "-x.toml", b"version = \"v1\"").expect_err("is refused");
    insta::assert_snapshot!(show(&found, "version = \"v1\""));
}

#[test]
fn not_utf8_and_too_long() {
    let found = parse_policy("x", "x.toml", b"version = \"v1\"\n# \xff").expect_err("is refused");
    assert_eq!(
        found[0].one_line(),
        "x.toml:2:3: error P01: not UTF-8 from here on"
    );
    let long = vec![b'\n'; (1 << 20) + 1];
    let found = parse_policy("x", "x.toml", &long).expect_err("is refused");
    assert_eq!(
        found[0].one_line(),
        "x.toml: error P01: the file has 1048577 octets; at most 1048576 are read"
    );
    let mut fits = b"version = \"v1\"\n".to_vec();
    fits.resize(1 << 20, b'\n');
    assert!(parse_policy("x", "x.toml", &fits).is_ok());
}

#[test]
fn spans_are_bounded() {
    let read = |span: &str| {
        let text = format!("version = \"v1\"\n[signer]\nkey-roll-time = {span}\n");
        parse_policy("x", "x.toml", text.as_bytes()).map(|f| f.lint(&Default::default()))
    };
    assert!(read("\"36500d\"").is_ok());
    for long in [
        "\"36501d\"",
        "9223372036854775807",
        "9223372036854775808",
        "\"99999999999w\"",
    ] {
        assert!(read(long).is_err(), "{long}");
    }
}

#[test]
fn findings_are_bounded() {
    let mut text = String::from("version = \"v1\"\n");
    for i in 0..1000 {
        text.push_str(&format!("unknown{i} = {i}\n"));
    }
    let found = parse_policy("x", "x.toml", text.as_bytes()).expect_err("is refused");
    assert_eq!(found.len(), 201);
    assert_eq!(
        found[200].one_line(),
        "x.toml: error P01: 800 more findings are not shown"
    );
}

#[test]
fn config_types() {
    insta::assert_snapshot!(config_errors(
        r#"version = "v1"
policy-dir = "policies"
[daemon]
log-level = "verbose"
log-target = { type = "file" }
identity = "a:b:c"
[remote-control]
socket-mode = "0999"
servers = ["localhost:http", "example:4539", "127.0.0.1", "127.0.0.1:0"]
two-person = ["rollback", "lunch"]
roles = [{ roles = ["operator"] }, { subject = "CN=x", roles = ["king"] }]
max-body = "5GiB"
[hooks]
timout = "1m"
[server]
servers = [{ type = "sctp", addr = "127.0.0.1:53" }, { adr = "x" }]
"#
    ));
}

#[test]
fn config_rules_across_keys() {
    insta::assert_snapshot!(config_errors(
        r#"version = "v1"
policy-dir = "/var/lib/cascade/policies"
[daemon]
daemonize = true
[remote-control]
servers = ["192.0.2.1:4539"]
[remote-control.tls]
key-path = "/etc/k"
client-auth = "required"
[server]
servers = []
[server.tls]
servers = ["192.0.2.1:853"]
[loader]
notify-listeners = ["127.0.0.1:5300"]
[loader.review]
servers = ["tcp://127.0.0.1:5300", "192.0.2.1:5301"]
allow = ["any"]
[alerts]
url = "gopher://x"
"#
    ));
}

#[test]
fn default_addresses_yield() {
    let text = "version = \"v1\"\n[server]\nservers = [\"127.0.0.1:4540\", \"[::1]:4542\"]\n";
    let read = parse_config("config.toml", text.as_bytes()).expect("is accepted");
    let listeners: Vec<String> = read
        .config
        .loader
        .notify_listeners
        .iter()
        .map(|a| a.addr.to_string())
        .collect();
    assert_eq!(listeners, ["[::1]:4540"]);
    let review: Vec<String> = read
        .config
        .signer
        .review
        .servers
        .iter()
        .map(|a| a.addr.to_string())
        .collect();
    assert_eq!(review, ["127.0.0.1:4542"]);
    insta::assert_snapshot!(show(&read.warnings, text));

    let text = "version = \"v1\"\n[server]\nservers = [\"0.0.0.0:4542\"]\n";
    let read = parse_config("config.toml", text.as_bytes()).expect("is accepted");
    let review: Vec<String> = read
        .config
        .signer
        .review
        .servers
        .iter()
        .map(|a| a.addr.to_string())
        .collect();
    assert_eq!(
        review,
        ["[::1]:4542"],
        "the unspecified address covers its family"
    );
    let text = "version = \"v1\"\n[server]\nservers = [\"0.0.0.0:53\", \"127.0.0.1:53\"]\n";
    assert!(parse_config("config.toml", text.as_bytes()).is_err());
    let text =
        "version = \"v1\"\n[server]\nservers = [\"udp://192.0.2.1:53\", \"tcp://192.0.2.1:53\"]\n";
    assert!(parse_config("config.toml", text.as_bytes()).is_ok());
}

//! Configuration that is wrong: every error with its place and what to do.

use cascade_e2e::Site;

/// The daemon's words when started with this configuration; it must not start.
#[track_caller]
fn refused(config: &str, words: &[&str]) {
    let mut site = Site::new();
    site.write("config.toml", config);
    let failure = site.try_start().expect_err("the daemon started");
    let code = failure.status.and_then(|status| status.code());
    assert_eq!(code, Some(1), "{}", failure.said);
    check(&failure.said, words);
    // The same without starting.
    let path = site.path("config.toml");
    let said = site
        .cascaded(&["--config", path.to_str().unwrap(), "--check-config"])
        .expect(1);
    check(&format!("{}{}", said.stdout, said.stderr), words);
    // Nothing was begun.
    assert!(!site.path("control.sock").exists());
}

#[track_caller]
fn check(said: &str, words: &[&str]) {
    for word in words {
        assert!(said.contains(word), "no `{word}` in\n{said}");
    }
    assert!(!said.contains("panicked"), "{said}");
}

fn config() -> String {
    Site::new().config()
}

#[test]
fn the_ordinary_configuration_is_accepted() {
    let site = Site::new();
    let path = site.path("config.toml");
    let said = site.cascaded(&["--config", path.to_str().unwrap(), "--check-config"]);
    assert_eq!(said.code, Some(0), "{said}");
    assert!(!site.path("control.sock").exists());
}

#[test]
fn a_missing_file() {
    let site = Site::new();
    let said = site
        .cascaded(&["--config", "/no/such/config.toml"])
        .expect(1);
    check(
        &said.stderr_or_stdout(),
        &["/no/such/config.toml", "cascade template config"],
    );
}

#[test]
fn not_toml() {
    refused("version = \"v1\nx", &["config.toml:1:"]);
    refused("\u{0}\u{1}\u{2}", &["config.toml:1:"]);
    refused("", &["config.toml", "version"]);
    refused("version = \"v2\"\n", &["config.toml:1:", "v2", "v1"]);
}

#[test]
fn an_unknown_key_has_its_place_and_the_nearest_known_one() {
    let text = format!("{}\n[deamon]\nlog-level = \"info\"\n", config());
    refused(&text, &["config.toml:", "deamon", "daemon"]);
    let text = format!("{}\n[daemon]\nlog-levle = \"info\"\n", config());
    refused(&text, &["log-levle", "log-level"]);
}

#[test]
fn all_errors_at_once() {
    let text = format!(
        "{}\n[daemon]\nlog-level = \"loud\"\nworker-threads = -1\nnosuchkey = 1\n\
         [key-manager]\ncheck-timeout = \"5 parsecs\"\n",
        config()
    );
    refused(&text, &["loud", "worker-threads", "nosuchkey", "5 parsecs"]);
}

#[test]
fn values_of_the_wrong_type_and_range() {
    for (line, word) in [
        ("[server]\nservers = []", "servers"),
        ("[server]\nservers = [\"127.0.0.1\"]", "127.0.0.1"),
        (
            "[server]\nservers = [\"ns1.example.net:53\"]",
            "ns1.example.net:53",
        ),
        ("[server]\nservers = [\"127.0.0.1:99999\"]", "99999"),
        ("[server]\nservers = 4543", "servers"),
        (
            "[remote-control]\nsocket = \"relative.sock\"",
            "relative.sock",
        ),
        (
            "[remote-control]\nadmin-groups = [\"no-such-group-here\"]",
            "no-such-group-here",
        ),
        ("[remote-control]\nservers = [\"192.0.2.1:4539\"]", "tls"),
        ("[daemon]\ndaemonize = true", "daemonize"),
        (
            "[daemon]\nidentity = \"no-such-user-here\"",
            "no-such-user-here",
        ),
    ] {
        let place = Site::new();
        let place = place.folder().display().to_string();
        let text = format!(
            "version = \"v1\"\npolicy-dir = \"{place}/policies\"\nstate-dir = \"{place}/state\"\n{line}\n"
        );
        refused(&text, &["config.toml:", word]);
    }
}

#[test]
fn one_address_in_two_lists() {
    let text = config();
    let address = text
        .lines()
        .find_map(|l| l.strip_prefix("notify-listeners = "))
        .unwrap();
    let text = text.replace(
        "[server]\nservers",
        &format!("[server]\nservers = {address} #"),
    );
    refused(&text, &[address.trim_matches(['[', ']', '"'])]);
}

#[test]
fn an_address_that_somebody_else_holds() {
    let mut site = Site::new();
    let _holder = std::net::TcpListener::bind(("127.0.0.1", site.publication_port())).unwrap();
    let failure = site.try_start().expect_err("the daemon started");
    check(
        &failure.said,
        &[&format!("127.0.0.1:{}", site.publication_port()), "in use"],
    );
}

#[test]
fn wrong_options() {
    let site = Site::new();
    for args in [
        ["--no-such-option"].as_slice(),
        &["--config"],
        &["--log-level", "loud"],
    ] {
        site.cascaded(args).expect(2);
    }
    let version = site.cascaded(&["--version"]).expect(0);
    assert!(version.stdout.starts_with("cascaded "), "{version}");
}

#[test]
fn a_state_that_others_may_write() {
    use std::os::unix::fs::PermissionsExt;
    let mut site = Site::new();
    let state = site.path("state");
    std::fs::create_dir(&state).unwrap();
    std::fs::set_permissions(&state, std::fs::Permissions::from_mode(0o777)).unwrap();
    let failure = site.try_start().expect_err("the daemon started");
    check(&failure.said, &[state.to_str().unwrap()]);
}

#[test]
fn a_reload_with_errors_keeps_everything() {
    let site = Site::started();
    let good = site.config();
    site.write(
        "config.toml",
        &format!("{good}\n[daemon]\nlog-level = \"loud\"\n"),
    );
    site.signal(nix::sys::signal::Signal::SIGHUP);
    cascade_e2e::until("the error in the log", || {
        site.log().contains("loud").then_some(())
    });
    site.ok(&["status"]);
}

/// Where start-up errors go depends on the log target.
trait Either {
    fn stderr_or_stdout(&self) -> String;
}

impl Either for cascade_e2e::Said {
    fn stderr_or_stdout(&self) -> String {
        format!("{}{}", self.stdout, self.stderr)
    }
}

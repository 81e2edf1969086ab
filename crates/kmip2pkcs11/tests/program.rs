//! The program itself: what it says when something is wrong, `--check-config`, the background,
//! managed mode.
#![allow(
    clippy::disallowed_methods,
    reason = "a test waits for another process"
)]

mod support;

use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::process::{Output, Stdio};
use std::time::Duration;

use cascade_kmip::Credential;
use cascade_kmip::client::ask;
use cascade_program::fds;
use support::{LABEL, PIN, Peer, Place, program, until};

fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

fn stdout(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// Starts with this configuration and must fail with status 1; what it said.
fn refused(dir: &tempfile::TempDir, config: &str) -> String {
    let path = dir.path().join("config.toml");
    std::fs::write(&path, config).expect("write");
    let output = program().arg("-c").arg(&path).output().expect("runs");
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    stderr(&output)
}

#[test]
fn what_is_wrong_is_said_with_place_and_action() {
    let dir = tempfile::tempdir().expect("directory");
    let said = refused(&dir, &cascade_policy::template_bridge());
    for words in [
        "config.toml:",
        "lib_path",
        "placeholder",
        r"sed -i -e 's|^lib_path = .\+|lib_path = ",
    ] {
        assert!(said.contains(words), "{words}: {said}");
    }
    let said = refused(&dir, "lib_path = \"/no/such/module.so\"\n");
    assert!(
        said.contains(
            "config.toml:1:12: error C02: lib_path: /no/such/module.so: there is no such file"
        ),
        "{said}"
    );

    let script = dir.path().join("module.so");
    std::fs::write(&script, "#!/bin/sh\n").expect("write");
    let said = refused(&dir, &format!("lib_path = \"{}\"\n", script.display()));
    assert!(said.contains("no ELF file"), "{said}");

    let said = refused(&dir, "lib_path = 1\nprot = 2\n");
    assert!(
        said.contains(":1:12: error C01: lib_path = 1") && said.contains(":2:1: error"),
        "{said}"
    );

    let missing = program()
        .args(["-c", "/no/such/config"])
        .output()
        .expect("runs");
    assert_eq!(missing.status.code(), Some(1));
    assert!(stderr(&missing).contains("/no/such/config: no such configuration file"));

    let version = program().arg("-V").output().expect("runs");
    assert_eq!(
        stdout(&version),
        format!("kmip2pkcs11 {}\n", env!("CARGO_PKG_VERSION"))
    );
}

#[test]
fn an_address_in_use_is_named() {
    let Some(place) = Place::new() else { return };
    let running = place.start();
    let second = place.output(&["--stderr"]);
    assert_eq!(second.status.code(), Some(1));
    let said = stderr(&second);
    assert!(
        said.contains(&format!("cannot listen on {}", place.addr())),
        "{said}"
    );
    assert_eq!(running.stop(), Some(0));
}

#[test]
fn check_config_looks_at_the_module_and_can_make_a_key() {
    let Some(place) = Place::new() else { return };
    let output = place.output(&["--check-config"]);
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    let said = stdout(&output);
    assert!(
        said.contains("config.toml: correct") && said.contains("token 'LocalHSM'"),
        "{said}"
    );

    let pin = place.dir.path().join("pin");
    std::fs::write(&pin, format!("{PIN}\n")).expect("write");
    let pin = pin.to_str().expect("path").to_owned();
    let login = [
        "--check-config",
        "--pin-file",
        &pin,
        "--slot",
        "0",
        "--write",
    ];
    let output = place.output(&login);
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    let said = stdout(&output);
    for algorithm in ["RSASHA256", "ECDSAP256SHA256", "ECDSAP384SHA384", "ED25519"] {
        let line = format!("{algorithm}: a key was made, signed and destroyed");
        assert!(said.contains(&line), "{said}");
    }
    std::fs::write(&pin, "000000\n").expect("write");
    let output = place.output(&login);
    assert_eq!(output.status.code(), Some(1));
    assert!(stderr(&output).contains("login refused"), "{output:?}");
}

#[test]
fn the_fingerprint_is_kept() {
    let Some(place) = Place::new() else { return };
    let print = || stdout(&place.output(&["--fingerprint"]));
    let first = print();
    assert_eq!(first.trim_end().split(':').count(), 32, "{first}");
    assert_eq!(print(), first);
    let running = place.start();
    assert!(running.log().contains(first.trim_end()));
    assert_eq!(running.stop(), Some(0));
}

#[test]
fn a_module_that_does_not_start_is_tried_again() {
    let Some(place) = Place::new() else { return };
    std::fs::rename(place.softhsm_conf(), place.dir.path().join("away")).expect("rename");
    let running = place.start();
    assert!(
        running.says("the module refused to start"),
        "{}",
        running.log()
    );
    assert!(
        running.log().contains("--check-config"),
        "{}",
        running.log()
    );
    let error = place.client().ask(ask::query()).expect_err("no module");
    assert!(error.to_string().contains("HSM unavailable"), "{error}");
    std::fs::rename(place.dir.path().join("away"), place.softhsm_conf()).expect("rename");
    assert!(
        until(|| place.client().ask(ask::query()).is_ok()),
        "{}",
        running.log()
    );
    assert_eq!(running.stop(), Some(0));
}

#[test]
fn the_background_serves_when_the_foreground_returns() {
    let Some(place) = Place::new() else { return };
    let (log, pid_file) = (place.dir.path().join("log"), place.dir.path().join("pid"));
    let text = |p: &std::path::Path| p.to_str().expect("path").to_owned();
    let output = place.output(&[
        "--detach",
        "--logfile",
        &text(&log),
        "--pid-file",
        &text(&pid_file),
    ]);
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    place.client().good(ask::query());
    let pid: i32 = std::fs::read_to_string(&pid_file)
        .expect("process id")
        .trim_end()
        .parse()
        .expect("number");
    let pid = nix::unistd::Pid::from_raw(pid);
    nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGTERM).expect("runs");
    assert!(until(|| place
        .try_connect(Credential::new(LABEL, PIN))
        .is_err()));

    // A failure comes back to whoever started it.
    place.write_config("metrics_addr = \"127.0.0.1:1\"\ntls_file = 1\n");
    let output = place.output(&["--detach", "--logfile", &text(&log)]);
    assert_eq!(output.status.code(), Some(1));
    place.write_config("cert_path = \"/no\"\nkey_path = \"/no\"\n");
    let output = place.output(&["--detach", "--logfile", &text(&log)]);
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    let output = place.output(&["--detach"]);
    assert!(stderr(&output).contains("no standard error"), "{output:?}");
}

fn managed(place: &Place, stdin: OwnedFd) -> std::process::Child {
    program()
        .arg("--managed")
        .arg(&place.module)
        .env("SOFTHSM2_CONF", place.softhsm_conf())
        .stdin(Stdio::from(stdin))
        .stderr(Stdio::null())
        .spawn()
        .expect("starts")
}

fn unix(stream: UnixStream) -> Peer<UnixStream> {
    stream
        .set_read_timeout(Some(Duration::from_secs(30)))
        .expect("timeout");
    Peer::new(stream, Credential::new(LABEL, PIN))
}

#[test]
fn managed_over_a_socket_pair_it_ends_with_its_parent_s_side() {
    let Some(place) = Place::new() else { return };
    let (ours, theirs) = UnixStream::pair().expect("pair");
    let mut child = managed(&place, theirs.into());
    let mut peer = unix(ours);
    assert!(until_ready(&mut peer));
    drop(peer);
    assert_eq!(child.wait().expect("ends").code(), Some(0));
}

#[test]
fn managed_it_takes_the_connections_that_its_parent_passes() {
    let Some(place) = Place::new() else { return };
    let (here, there) = fds::passage().expect("socket pair");
    let mut child = managed(&place, there);
    let pass = || {
        let (ours, theirs) = UnixStream::pair().expect("pair");
        fds::send(&here, theirs.as_fd()).expect("taken");
        ours
    };
    let connect = || unix(pass());
    let (mut one, mut two) = (connect(), connect());
    assert!(until_ready(&mut one));
    two.good(ask::query());
    let mut wrong = Peer::new(pass(), Credential::new(LABEL, "000000"));
    assert!(wrong.ask(ask::query()).is_err());
    one.good(ask::query());
    // A connection that ends ends no other; the parent's end of the passage ends all.
    drop(two);
    one.good(ask::query());
    drop(here);
    assert_eq!(child.wait().expect("ends").code(), Some(0));

    let no_socket = program()
        .arg("--managed")
        .arg(&place.module)
        .stdin(Stdio::null())
        .output()
        .expect("runs");
    assert!(
        stderr(&no_socket).contains("Unix socket pair"),
        "{no_socket:?}"
    );
}

/// The module may still be loading when the first request comes.
fn until_ready(peer: &mut Peer<UnixStream>) -> bool {
    (0..200).any(|_| {
        let ready = peer.ask(ask::query()).is_ok();
        if !ready {
            std::thread::sleep(Duration::from_millis(20));
        }
        ready
    })
}

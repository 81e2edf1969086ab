//! A bridge that the daemon starts itself, and everything that can end it.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use cascade_e2e::bridge::{LABEL, PIN};
use cascade_e2e::{Bridge, Said, Site, within};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::common::{SEED, change, seed_with_serial};
use crate::validity::judge;

fn secret(site: &Site, name: &str, text: &str) -> String {
    let path = site.write(name, text);
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
    path.to_str().unwrap().to_string()
}

fn add(site: &Site, token: &Bridge, module: &Path, pin_file: &str, id: &str) -> Said {
    site.cascade(&[
        "hsm",
        "add",
        "--pkcs11-module",
        module.to_str().unwrap(),
        "--module-env",
        &token.module_env(),
        "--token",
        LABEL,
        "--pin-file",
        pin_file,
        id,
    ])
}

fn pid(site: &Site) -> Option<i32> {
    let shown = site.json(&["hsm", "show", "kmip2pkcs11"]);
    shown["managed"]["pid"].as_i64().map(|p| p as i32)
}

fn runs(pid: i32) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.contains("kmip2pkcs11") && !stat.contains(") Z ")
}

fn until_gone(pid: i32) {
    let gone = within(cascade_e2e::PATIENCE, || (!runs(pid)).then_some(()));
    assert!(gone.is_some(), "process {pid} is still there");
}

#[test]
fn the_daemon_starts_the_bridge_and_starts_it_again() {
    let Some(token) = Bridge::softhsm_token() else {
        return;
    };
    let mut site = Site::started();
    let pin = secret(&site, "pin", &format!("{PIN}\n"));
    site.policy(
        "nethsm",
        "[key-manager.generation]\nhsm-server-id = \"kmip2pkcs11\"\n",
    );
    site.cascade(&["policy", "reload"]).expect(0);
    let added = add(&site, &token, token.module(), &pin, "kmip2pkcs11").expect(0);
    assert!(
        added.stdout.starts_with("Added KMIP server 'kmip2pkcs11 ")
            && added.stdout.contains(&format!("token with label {LABEL} ")),
        "{added}"
    );
    let file = site.write("zones/example.net", SEED);
    let source = file.to_str().unwrap();
    site.ok(&[
        "zone",
        "add",
        "--source",
        source,
        "--policy",
        "nethsm",
        "example.net",
    ]);
    site.await_published("example.net", 1);
    judge(&site, "example.net");
    let shown = site.ok(&["hsm", "show", "kmip2pkcs11"]);
    assert!(
        shown.contains("managed: running since ") && shown.contains("tls: none"),
        "{shown}"
    );
    let first = pid(&site).expect("a process");
    assert!(
        shown.contains(&format!(", pid {first}, started 1 times")),
        "{shown}"
    );
    // The PIN is in nothing that others can read.
    let command = std::fs::read_to_string(format!("/proc/{first}/cmdline")).unwrap();
    assert!(
        command.contains("--managed") && !command.contains(PIN),
        "{command:?}"
    );
    let environment = std::fs::read(format!("/proc/{first}/environ")).unwrap();
    assert!(!String::from_utf8_lossy(&environment).contains(PIN));
    assert!(!site.log().contains(PIN) && !shown.contains(PIN));
    for entry in std::fs::read_dir(site.path("state")).unwrap().flatten() {
        let octets = std::fs::read(entry.path()).unwrap_or_default();
        let secret = octets.windows(PIN.len()).any(|w| w == PIN.as_bytes());
        let mode = entry.metadata().unwrap().permissions().mode();
        assert!(!secret || mode & 0o077 == 0, "{:?}", entry.file_name());
    }

    // It crashes: what is published stays served, the next one takes over.
    kill(Pid::from_raw(first), Signal::SIGKILL).unwrap();
    change(&site, "example.net", &seed_with_serial(2));
    site.await_published("example.net", 2);
    judge(&site, "example.net");
    let second = pid(&site).expect("a process");
    assert_ne!(first, second);
    let shown = site.ok(&["hsm", "show", "kmip2pkcs11"]);
    assert!(
        shown.contains("started 2 times, the last one ended by signal 9"),
        "{shown}"
    );
    assert!(site.log().contains("ended by signal 9"));

    // The daemon restarts, and later dies: no bridge is left without its daemon.
    site.stop();
    until_gone(second);
    site.start();
    change(&site, "example.net", &seed_with_serial(3));
    site.await_published("example.net", 3);
    let third = pid(&site).expect("a process");
    site.kill();
    until_gone(third);
    site.start();
    change(&site, "example.net", &seed_with_serial(4));
    site.await_published("example.net", 4);
    judge(&site, "example.net");

    // Another PIN is checked before it counts; what runs goes on.
    let wrong = secret(&site, "wrong", "000000\n");
    let refused = site.cascade(&["hsm", "edit", "kmip2pkcs11", "--pin-file", &wrong]);
    assert_eq!(refused.code, Some(1), "{refused}");
    assert!(refused.stderr.contains("login refused"), "{refused}");
    site.ok(&["hsm", "edit", "kmip2pkcs11", "--pin-file", &pin]);
    change(&site, "example.net", &seed_with_serial(5));
    site.await_published("example.net", 5);
    // With the HSM ends its bridge.
    let last = pid(&site).expect("a process");
    site.ok(&["zone", "remove", "example.net", "--yes"]);
    site.write("policies/nethsm.toml", "version = \"v1\"\n");
    site.cascade(&["policy", "reload", "--yes"]).expect(0);
    site.ok(&["hsm", "remove", "kmip2pkcs11", "--yes"]);
    until_gone(last);
}

#[test]
fn what_keeps_a_managed_bridge_from_working_is_told() {
    let Some(token) = Bridge::softhsm_token() else {
        return;
    };
    let site = Site::started();
    let pin = secret(&site, "pin", &format!("{PIN}\n"));
    let wrong = secret(&site, "wrong", "000000\n");
    let text = site.write("no-module.so", "no ELF");
    let refused = |said: Said, words: &[&str]| {
        assert_eq!(said.code, Some(1), "{said}");
        for word in words {
            assert!(said.stderr.contains(word), "{word} in {said}");
        }
        assert!(!said.stderr.contains(PIN) && !said.stderr.contains("000000"));
    };
    let module = token.module();
    refused(
        add(&site, &token, &text, &pin, "a"),
        &["ended with exit status 1", "no-module.so", "--module-env"],
    );
    refused(
        add(&site, &token, Path::new("/no/such/module.so"), &pin, "a"),
        &["/no/such/module.so"],
    );
    refused(
        add(&site, &token, module, &wrong, "a"),
        &["login refused", "--pin-file"],
    );
    let readable = site.write("readable", PIN);
    std::fs::set_permissions(&readable, std::fs::Permissions::from_mode(0o644)).unwrap();
    let said = add(&site, &token, module, readable.to_str().unwrap(), "a");
    assert!(
        said.code == Some(2) && said.stderr.contains("chmod 600"),
        "{said}"
    );
    let both = ["hsm", "add", "--pkcs11-module", "/m.so", "a", "127.0.0.1"];
    assert_eq!(site.cascade(&both).code, Some(2));
    let linker = [
        "hsm",
        "add",
        "--pkcs11-module",
        "/m.so",
        "--token",
        "0",
        "--module-env",
        "LD_PRELOAD=/x.so",
        "a",
    ];
    refused(site.cascade(&linker), &["LD_PRELOAD"]);
    // Nothing is left of what was refused.
    assert!(!site.ok(&["hsm", "list", "-q"]).contains('a'));
    let daemon = site.pid().unwrap();
    let left = within(cascade_e2e::PATIENCE, || {
        let tasks = std::fs::read_dir(format!("/proc/{daemon}/task")).ok()?;
        let children = |task: std::fs::DirEntry| {
            let text = std::fs::read_to_string(task.path().join("children")).ok()?;
            Some(text.split_whitespace().any(|p| p.parse().is_ok_and(runs)))
        };
        (!tasks.flatten().filter_map(children).any(|some| some)).then_some(())
    });
    assert!(left.is_some(), "a bridge of a refused HSM still runs");
}

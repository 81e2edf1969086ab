//! The suite on SoftHSM 2.
#![allow(
    clippy::disallowed_methods,
    reason = "tests wait for real libraries with the real clock"
)]

mod suite;

use std::path::Path;
use std::process::Command;

use suite::*;

/// A configuration and one token, label and PIN as given.
fn softhsm(folder: &Path, tokens: &[(&str, &str)]) -> Vec<(&'static str, String)> {
    let conf = folder.join("softhsm2.conf");
    std::fs::create_dir(folder.join("tokens")).expect("own folder");
    let text = format!(
        "directories.tokendir = {}/tokens\nobjectstore.backend = file\nlog.level = ERROR\n",
        folder.display()
    );
    std::fs::write(&conf, text).expect("own folder");
    for (label, pin) in tokens {
        let made = Command::new("softhsm2-util")
            .args(["--init-token", "--free", "--so-pin", "1234"])
            .args(["--label", label, "--pin", pin])
            .env("SOFTHSM2_CONF", &conf)
            .output()
            .expect("softhsm2-util is installed");
        assert!(made.status.success(), "{made:?}");
    }
    vec![("SOFTHSM2_CONF", conf.display().to_string())]
}

fn one(folder: &Path) -> Vec<(&'static str, String)> {
    softhsm(folder, &[("test", "1234")])
}

#[test]
fn keys_sign() {
    isolated("keys_sign", one, |_| {
        let bench = Bench::load(&softhsm_module());
        make_and_sign(&bench.open("test", "1234"));
    });
}

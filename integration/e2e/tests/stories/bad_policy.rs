//! Policies that are wrong: nothing is applied by halves.

use cascade_e2e::Site;

use crate::common::{SEED, add, site_with_policy};

/// What a reload says about a policy of these lines; the policy in force stays.
#[track_caller]
fn refused(lines: &str, words: &[&str]) {
    let site = site_with_policy("");
    let before = site.ok(&["policy", "show", "p"]);
    site.policy("p", lines);
    site.policy("good", "");
    let mut all = vec!["p.toml:"];
    all.extend(words);
    site.cascade(&["policy", "reload"])
        .expect(1)
        .complains(&all);
    assert_eq!(site.ok(&["policy", "show", "p"]), before);
    // All or nothing: the good one beside it is not taken either.
    assert_eq!(state_of(&site, "good"), "new on disk");
}

/// What `policy list` says of a policy, in its last column.
fn state_of(site: &Site, policy: &str) -> String {
    let list = site.ok(&["policy", "list"]);
    let line = list
        .lines()
        .find(|line| line.split(' ').next() == Some(policy));
    let line = line.unwrap_or_else(|| panic!("no {policy} in\n{list}"));
    line.rsplit("  ")
        .next()
        .unwrap_or_default()
        .trim()
        .to_owned()
}

#[test]
fn unknown_keys_and_sections() {
    refused(
        "[signer]\nserial-polcy = \"keep\"\n",
        &["p.toml:3:1", "serial-polcy", "serial-policy"],
    );
    refused(
        "[singer]\nserial-policy = \"keep\"\n",
        &["singer", "signer"],
    );
    refused(
        "[signer]\nserial-policy = \"keep\"\nserial-policy = \"keep\"\n",
        &["p.toml:4:"],
    );
}

#[test]
fn wrong_values() {
    for (lines, word) in [
        ("[signer]\nserial-policy = \"random\"\n", "random"),
        ("[signer]\nsignature-lifetime = \"a while\"\n", "a while"),
        (
            "[signer]\nsignature-lifetime = \"1h\"\nsignature-remain-time = \"1w\"\n",
            "signature-lifetime",
        ),
        ("[signer.denial]\ntype = \"nsec5\"\n", "nsec5"),
        ("[signer.denial]\nopt-out = true\n", "opt-out"),
        (
            "[signer.denial]\ntype = \"nsec3\"\niterations = 1000\n",
            "iterations",
        ),
        ("[signer.verify]\nmode = \"off\"\n", "off"),
        ("[loader.review]\nmode = \"script\"\n", "hook"),
        ("[loader.review]\nhook = \"/bin/true\"\n", "hook"),
        (
            "[loader.review]\nmode = \"script\"\nhook = \"/bin/true; /bin/false\"\n",
            "hook-shell",
        ),
        (
            "[key-manager.generation]\nalgorithm = \"RSASHA256:64\"\n",
            "64",
        ),
        ("[key-manager.generation]\nalgorithm = \"ROT13\"\n", "ROT13"),
        (
            "[server.outbound]\nsend-notify-to = [\"192.0.2.1^nokey\"]\n",
            "nokey",
        ),
        (
            "[server.outbound]\nprovide-xfr-to = [\"192.0.2.1/40\"]\n",
            "192.0.2.1/40",
        ),
    ] {
        refused(lines, &[word]);
    }
}

#[test]
fn all_errors_of_all_files_at_once() {
    let site = Site::started();
    site.policy("a", "[signer]\nserial-policy = \"random\"\nnosuch = 1\n");
    site.policy("b", "[loader]\nnosuch = 1\n");
    site.cascade(&["policy", "reload"])
        .expect(1)
        .complains(&["a.toml:", "random", "nosuch", "b.toml:"]);
    assert_eq!(state_of(&site, "a"), "new on disk");
    assert_eq!(state_of(&site, "b"), "new on disk");
}

#[test]
fn files_that_are_no_policies() {
    let site = Site::started();
    site.policy("good", "");
    site.write("policies/notes.txt", "not a policy");
    site.write("policies/.hidden.toml", "not a policy");
    let said = site.cascade(&["policy", "reload"]).expect(0);
    assert_eq!(said.stdout, "Policies reloaded:\n- good added\n");
    site.write("policies/no version.toml", "");
    let said = site.cascade(&["policy", "reload"]);
    assert_ne!(said.code, Some(2), "{said}");
    assert!(said.stderr.contains("no version"), "{said}");
}

#[test]
fn a_policy_in_use_does_not_vanish() {
    let site = site_with_policy("");
    add(&site, "example.net", SEED);
    site.await_published("example.net", 1);
    std::fs::remove_file(site.path("policies/p.toml")).unwrap();
    let said = site
        .cascade(&["policy", "reload"])
        .expect(0)
        .complains(&["p"]);
    assert!(!said.stdout.contains("- p added"), "{said}");
    assert_eq!(site.status("example.net")["policy"], "p");
    assert_eq!(site.ask(&["example.net", "SOA"]).status, "NOERROR");
    // No new zone may take it.
    let file = site.write("zones/other", &SEED.replace("example.net", "example.org"));
    site.cascade(&[
        "zone",
        "add",
        "example.org",
        "--source",
        file.to_str().unwrap(),
        "--policy",
        "p",
    ])
    .expect(3)
    .complains(&["p.toml", "gone"]);
}

#[test]
fn an_hsm_that_is_not_there_yet_is_a_warning() {
    let site = Site::started();
    site.policy(
        "p",
        "[key-manager.generation]\nhsm-server-id = \"kmip2pkcs11\"\n",
    );
    let said = site
        .cascade(&["policy", "reload"])
        .expect(0)
        .complains(&["kmip2pkcs11"]);
    assert_eq!(said.stdout, "Policies reloaded:\n- p added\n");
}

#[test]
fn files_take_effect_by_reload_only() {
    let mut site = site_with_policy("");
    site.policy("p", "[signer]\nserial-policy = \"keep\"\n");
    site.policy("q", "");
    site.kill();
    site.start();
    assert_eq!(state_of(&site, "p"), "changed on disk");
    assert_eq!(state_of(&site, "q"), "new on disk");
    let file = site.write("zones/example.net", SEED);
    let source = file.to_str().unwrap();
    site.cascade(&[
        "zone",
        "add",
        "example.net",
        "--source",
        source,
        "--policy",
        "q",
    ])
    .expect(3)
    .complains(&["cascade policy reload"]);
    let said = site.ok(&["policy", "reload"]);
    assert_eq!(said, "Policies reloaded:\n- p updated\n- q added\n");
}

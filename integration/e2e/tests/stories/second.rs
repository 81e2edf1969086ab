//! The rule of two persons: what one asks for is done when somebody else agrees, and not before.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use cascade_e2e::{Said, Site, dig, until};
use nix::sys::signal::Signal;

use crate::common::{SEED, add, change, seed_with_serial};

const ZONE: &str = "example.net";

fn site(verbs: &str, at: Option<i64>) -> Site {
    let mut site = Site::new();
    at.into_iter().for_each(|at| site.begin_at(at));
    site.start();
    site.policy("p", "");
    site.ok(&["policy", "reload"]);
    need_two(&site, verbs);
    site
}

/// From now on these need somebody else, who is `bob`; `eve` may not agree to anything.
pub fn need_two(site: &Site, verbs: &str) {
    for (name, role) in [("bob", "approver"), ("eve", "operator")] {
        let token = site.ok(&["token", "add", name, "--role", role]);
        let file = site.write(&format!("{name}.token"), &token);
        fs::set_permissions(file, fs::Permissions::from_mode(0o600)).unwrap();
    }
    let more = format!("admin-groups = []\ntwo-person = {verbs}\n");
    let config = site.config().replace("admin-groups = []\n", &more);
    site.write("config.toml", &config);
    site.signal(Signal::SIGHUP);
    until("the configuration is read again", || {
        site.log().contains("two-person").then_some(())
    });
}

/// A command by somebody else.
pub fn by(site: &Site, name: &str, args: &[&str]) -> Said {
    let server = format!("127.0.0.1:{}", site.http_port());
    let file = site.path(&format!("{name}.token"));
    let who = ["--server", &server, "--token-file", file.to_str().unwrap()];
    site.cascade(&[&who[..], args].concat())
}

/// The only request that waits.
#[track_caller]
pub fn waiting(site: &Site) -> String {
    let list = site.ok(&["request", "list", "-q"]);
    assert_eq!(list.lines().count(), 1, "{list}");
    list.trim().to_owned()
}

#[test]
fn a_rollback_and_a_removal_need_somebody_else() {
    let mut site = site("[\"rollback\", \"remove-zone\"]", None);
    add(&site, ZONE, SEED);
    site.await_published(ZONE, 1);
    let first = site.served_serial(ZONE);
    change(&site, ZONE, &seed_with_serial(2));
    site.await_published(ZONE, 2);
    let second = site.served_serial(ZONE);

    // What would happen may be looked at by one; without consent there is nothing to agree to.
    site.ok(&["zone", "rollback", ZONE, "--dry-run"]);
    site.cascade(&["zone", "rollback", ZONE]).expect(1);
    assert_eq!(site.ok(&["request", "list", "-q"]), "");
    let asked = site.cascade(&[
        "zone",
        "rollback",
        ZONE,
        "--yes",
        "--comment",
        "bad address",
    ]);
    assert_eq!(asked.code, Some(6), "{asked}");
    let id = waiting(&site);
    for words in [
        "Nothing is done yet",
        &format!("cascade request approve {id}"),
        &first.to_string(),
    ] {
        assert!(asked.stderr.contains(words), "no {words:?}: {asked}");
    }
    let list = site.ok(&["request", "list"]);
    assert!(
        list.contains("rollback example.net, asked for by uid:0(root)"),
        "{list}"
    );
    assert!(
        list.contains("bad address") && list.contains("replaces what zone"),
        "{list}"
    );

    // Not oneself, and not everybody.
    let own = site.cascade(&["request", "approve", &id]).expect(1);
    assert!(own.stderr.contains("somebody else must agree"), "{own}");
    by(&site, "eve", &["request", "approve", &id]).expect(4);
    assert_eq!(site.served_serial(ZONE), second);

    // It is kept over a power cut.
    site.kill();
    site.start();
    assert_eq!(waiting(&site), id);
    by(&site, "bob", &["request", "approve", &id]).expect(0);
    site.await_status(ZONE, "rolled back", |s| {
        s["pin"].is_object() && s["published"]["serial"].as_u64() > Some(u64::from(second))
    });
    assert_eq!(site.ok(&["request", "list", "-q"]), "");
    by(&site, "bob", &["request", "approve", &id]).expect(3);
    let log = fs::read_to_string(site.path("state/audit.log")).unwrap_or_default();
    let history = site.ok(&["zone", "history", ZONE]);
    assert!(
        history.contains("uid:0(root) with token:bob")
            || log.contains("uid:0(root) with token:bob"),
        "{history}\n{log}"
    );

    // Refused, the zone stays; agreed to, it goes.
    let remove = ["zone", "remove", ZONE, "--yes"];
    site.cascade(&remove).expect(6);
    by(&site, "bob", &["request", "reject", &waiting(&site)]).expect(0);
    assert_eq!(site.ok(&["zone", "list", "-q"]), "example.net\n");
    site.cascade(&remove).expect(6);
    by(&site, "bob", &["request", "approve", &waiting(&site)]).expect(0);
    assert_eq!(site.ok(&["zone", "list", "-q"]), "");
}

/// What the second person agrees to is what the first one saw, and it does not wait for ever.
#[test]
fn a_request_is_for_what_was_seen_and_for_its_time() {
    // 2030-01-01.
    let site = site("[\"policy-apply\", \"override\"]", Some(1_893_456_000));
    add(&site, ZONE, SEED);
    site.await_published(ZONE, 1);
    let shown = |site: &Site| site.json(&["policy", "show", "p"])["active_text"].clone();
    let before = shown(&site);
    site.policy("p", "[signer]\nsignature-lifetime = \"3w\"\n");
    site.cascade(&["policy", "reload", "--yes"]).expect(6);
    let list = site.ok(&["request", "list"]);
    assert!(list.contains("policy 'p' is updated"), "{list}");
    assert_eq!(shown(&site), before);
    // An hour later nobody can agree any more.
    let old = waiting(&site);
    site.advance(std::time::Duration::from_secs(3601));
    by(&site, "bob", &["request", "approve", &old]).expect(3);
    site.cascade(&["policy", "reload", "--yes"]).expect(6);
    by(&site, "bob", &["request", "approve", &waiting(&site)]).expect(0);
    assert_ne!(shown(&site), before);
}

/// What a review rejected is published by the word of two, and of no one alone.
#[test]
fn a_rejection_is_overridden_by_two() {
    let site = site("[\"override\"]", None);
    site.policy(
        "p",
        "[signer.review]\nmode = \"manual\"\non-reject = \"halt\"\n",
    );
    site.ok(&["policy", "reload", "--yes"]);
    add(&site, ZONE, SEED);
    site.await_state(ZONE, "signed-review");
    let serial = dig(site.signed_review_port(), &[ZONE, "SOA"]).serial();
    let serial = serial.unwrap().to_string();
    site.ok(&["zone", "reject", "--signed", ZONE, &serial]);
    site.await_state(ZONE, "halted");
    let order = ["zone", "override", "--signed", ZONE, "--yes"];
    site.cascade(&order).expect(6);
    let list = site.ok(&["request", "list"]);
    assert!(list.contains("override example.net"), "{list}");
    assert_eq!(site.status(ZONE)["state"], "halted");
    // Who asked has no second voice, and who refuses ends it.
    let id = waiting(&site);
    site.cascade(&["request", "approve", &id]).expect(1);
    by(&site, "eve", &["request", "approve", &id]).expect(4);
    by(&site, "bob", &["request", "reject", &id]).expect(0);
    assert_eq!(site.status(ZONE)["state"], "halted");
    site.cascade(&order).expect(6);
    by(&site, "bob", &["request", "approve", &waiting(&site)]).expect(0);
    site.await_published(ZONE, 1);
}

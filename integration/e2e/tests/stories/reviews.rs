//! Reviews by people: held, approved, rejected, overridden, abandoned.

use cascade_e2e::dig;

use crate::common::{SEED, add, change, seed_with_serial, site_with_policy};

const ZONE: &str = "example.net";

#[test]
fn an_unsigned_zone_is_held_until_approved() {
    let site = site_with_policy("[loader.review]\nmode = \"manual\"\n");
    add(&site, ZONE, SEED);
    site.await_state(ZONE, "unsigned-review");

    let text = site.ok(&["zone", "status", ZONE]);
    for line in [
        "• Waiting for approval to sign version 1",
        "! Zone will be held until manually approved",
        "cascade zone approve --unsigned example.net 1",
        "cascade zone reject --unsigned example.net 1",
    ] {
        assert!(text.contains(line), "no `{line}` in\n{text}");
    }
    // The candidate can be looked at; nobody else sees it, and nothing is signed.
    let review = dig(site.unsigned_review_port(), &[ZONE, "SOA"]);
    assert_eq!(review.serial(), Some(1), "{}", review.text);
    assert!(
        dig(site.unsigned_review_port(), &[ZONE, "DNSKEY"])
            .answer
            .is_empty()
    );
    assert_eq!(site.ask(&[ZONE, "SOA"]).status, "SERVFAIL");
    assert_eq!(
        dig(site.signed_review_port(), &[ZONE, "SOA"]).status,
        "SERVFAIL"
    );

    site.cascade(&["zone", "approve", "--unsigned", ZONE, "2"])
        .expect(1)
        .complains(&["1"]);
    site.cascade(&["zone", "approve", "--signed", ZONE, "1"])
        .expect(1);
    assert_eq!(
        site.ok(&["zone", "approve", "--unsigned", ZONE, "1"]),
        "Approved unsigned zone 'example.net' with serial number 1\n"
    );
    site.await_published(ZONE, 1);
    site.cascade(&["zone", "approve", "--unsigned", ZONE, "1"])
        .expect(1);
}

#[test]
fn a_signed_zone_is_held_until_approved() {
    let site = site_with_policy("[signer.review]\nmode = \"manual\"\n");
    add(&site, ZONE, SEED);
    site.await_state(ZONE, "signed-review");

    let review = dig(site.signed_review_port(), &[ZONE, "SOA", "+dnssec"]);
    let serial = review
        .serial()
        .expect("the candidate on the review server")
        .to_string();
    assert_eq!(review.rdata("RRSIG").len(), 1, "{}", review.text);
    assert_eq!(site.ask(&[ZONE, "SOA"]).status, "SERVFAIL");
    let text = site.ok(&["zone", "status", ZONE]);
    for line in [
        format!("• Waiting for approval to publish version {serial}"),
        "! Zone will be held until manually approved".into(),
        format!("cascade zone approve --signed example.net {serial}"),
        format!(
            "Signed zone available on 127.0.0.1:{}",
            site.signed_review_port()
        ),
    ] {
        assert!(text.contains(&line), "no `{line}` in\n{text}");
    }
    assert_eq!(
        site.ok(&["zone", "approve", "--signed", ZONE, &serial]),
        format!("Approved signed zone 'example.net' with serial number {serial}\n")
    );
    site.await_published(ZONE, 1);
    assert_eq!(site.served_serial(ZONE).to_string(), serial);
}

#[test]
fn rejection_discards_and_the_last_good_version_stays() {
    let site = site_with_policy("[loader.review]\nmode = \"manual\"\n");
    add(&site, ZONE, SEED);
    site.await_state(ZONE, "unsigned-review");
    site.ok(&["zone", "approve", "--unsigned", ZONE, "1"]);
    site.await_published(ZONE, 1);
    let serial = site.served_serial(ZONE);

    change(&site, ZONE, &seed_with_serial(2));
    site.await_state(ZONE, "unsigned-review");
    assert_eq!(site.served_serial(ZONE), serial);
    assert_eq!(
        site.ok(&[
            "zone",
            "reject",
            "--unsigned",
            ZONE,
            "2",
            "--comment",
            "ticket 812"
        ]),
        "Rejected unsigned zone 'example.net' with serial number 2\n"
    );
    site.await_state(ZONE, "published");
    assert_eq!(site.served_serial(ZONE), serial);
    assert!(site.ask(&["v2.example.net", "A"]).answer.is_empty());
    let history = site.ok(&["zone", "history", ZONE]);
    assert!(history.contains("ticket 812"), "{history}");

    // The next version is judged on its own.
    change(&site, ZONE, &seed_with_serial(3));
    site.await_state(ZONE, "unsigned-review");
    site.ok(&["zone", "approve", "--unsigned", ZONE, "3"]);
    site.await_published(ZONE, 3);
    assert!(site.served_serial(ZONE) > serial);
    assert_eq!(site.ask(&["v3.example.net", "A"]).rdata("A"), ["192.0.2.2"]);
}

#[test]
fn a_halted_zone_is_overridden() {
    for (section, option) in [("loader", "--unsigned"), ("signer", "--signed")] {
        let site = site_with_policy(&format!(
            "[{section}.review]\nmode = \"manual\"\non-reject = \"halt\"\n"
        ));
        add(&site, ZONE, SEED);
        let state = if section == "loader" {
            "unsigned-review"
        } else {
            "signed-review"
        };
        site.await_state(ZONE, state);
        let serial = if section == "loader" {
            "1".to_owned()
        } else {
            dig(site.signed_review_port(), &[ZONE, "SOA"])
                .serial()
                .unwrap()
                .to_string()
        };
        site.ok(&["zone", "reject", option, ZONE, &serial]);
        site.await_state(ZONE, "halted");
        let text = site.ok(&["zone", "status", ZONE]);
        assert!(
            text.contains("x ") && text.contains("Try: cascade zone "),
            "{text}"
        );

        // A person decides against a decision: that is asked, or said with --yes.
        site.cascade(&["zone", "override", option, ZONE])
            .expect(1)
            .complains(&["--yes"]);
        assert_eq!(
            site.ok(&["zone", "override", option, ZONE, "--yes"]),
            format!(
                "Overridden {} review for 'example.net'\n",
                option.trim_start_matches('-')
            )
        );
        site.await_published(ZONE, 1);
    }
}

#[test]
fn a_halted_zone_is_reset() {
    let site = site_with_policy("[signer.review]\nmode = \"manual\"\non-reject = \"halt\"\n");
    add(&site, ZONE, SEED);
    site.await_state(ZONE, "signed-review");
    let serial = dig(site.signed_review_port(), &[ZONE, "SOA"])
        .serial()
        .unwrap();
    site.ok(&["zone", "reject", "--signed", ZONE, &serial.to_string()]);
    site.await_state(ZONE, "halted");

    // New content waits while a person is needed.
    site.write("zones/example.net", &seed_with_serial(2));
    let said = site.cascade(&["zone", "reload", ZONE]);
    assert!(
        said.code == Some(0) || said.stderr.contains("halted"),
        "{said}"
    );
    assert_eq!(
        site.ok(&["zone", "reset", ZONE]),
        "Reset the pipeline for zone 'example.net'\n"
    );
    let status = site.await_status(ZONE, "in review with the new content", |status| {
        status["state"] == "signed-review" && status["unsigned"]["serial"] == 2
    });
    assert_eq!(status["halted"], serde_json::Value::Null);
    let next = dig(site.signed_review_port(), &[ZONE, "SOA"])
        .serial()
        .unwrap();
    assert!(
        next > serial,
        "a serial that a server of ours has shown is used up"
    );
    site.cascade(&["zone", "override", "--signed", ZONE, "--yes"])
        .expect(1);
}

#[test]
fn decisions_where_nothing_is_to_decide() {
    let site = site_with_policy("");
    add(&site, ZONE, SEED);
    site.await_published(ZONE, 1);
    let serial = site.served_serial(ZONE).to_string();
    for args in [
        ["zone", "approve", "--signed", ZONE, serial.as_str()].as_slice(),
        &["zone", "reject", "--unsigned", ZONE, "1"],
        &["zone", "override", "--signed", ZONE, "--yes"],
        &["zone", "reset", ZONE],
    ] {
        site.cascade(args).expect(1).complains(&["example.net"]);
    }
    site.cascade(&["zone", "approve", ZONE, "1"]).expect(2);
    site.cascade(&["zone", "approve", "--signed", "--unsigned", ZONE, "1"])
        .expect(2);
    assert_eq!(site.status(ZONE)["state"], "published");
}

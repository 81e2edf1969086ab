//! Answers of the publication server, as `dig` sees them.

use cascade_e2e::{Site, dig};

use crate::common::{add, site_with_policy};

const ZONE: &str = "example.net";
const TEXT: &str = "\
$TTL 3600
@ IN SOA ns1 hostmaster 7 7200 3600 1209600 900
@ NS ns1
@ MX 10 mail
ns1 A 192.0.2.1
mail A 192.0.2.2
mail AAAA 2001:db8::2
www CNAME mail
*.wild TXT \"any\"
a.b.ent A 192.0.2.3
old DNAME new
x.new A 192.0.2.4
child NS ns1.child
ns1.child A 192.0.2.5
secure NS ns1.secure
ns1.secure A 192.0.2.6
secure DS 12345 13 2 0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef
big TXT ( \"0123456789012345678901234567890123456789012345678901234567890123456789\"
          \"0123456789012345678901234567890123456789012345678901234567890123456789\" )
";

fn site(denial: &str) -> Site {
    let site = site_with_policy(denial);
    add(&site, ZONE, TEXT);
    site.await_published(ZONE, 7);
    site
}

const DENIALS: [&str; 3] = [
    "",
    "[signer.denial]\ntype = \"nsec3\"\n",
    "[signer.denial]\ntype = \"nsec3\"\nopt-out = true\n",
];

fn count(lines: &[String], rtype: &str) -> usize {
    lines
        .iter()
        .filter(|line| line.split(' ').nth(3) == Some(rtype))
        .count()
}

#[test]
fn positive_answers() {
    let site = site("");
    let answer = site.ask(&["mail.example.net", "A", "+dnssec", "+norec"]);
    assert_eq!(
        (answer.status.as_str(), answer.flags.join(" ").as_str()),
        ("NOERROR", "qr aa")
    );
    assert_eq!(answer.rdata("A"), ["192.0.2.2"]);
    assert_eq!(answer.rdata("RRSIG").len(), 1);
    let plain = site.ask(&["mail.example.net", "A", "+norec"]);
    assert_eq!(plain.rdata("RRSIG").len(), 0);
    let case = site.ask(&["MAIL.example.NET", "AAAA"]);
    assert_eq!(case.rdata("AAAA"), ["2001:db8::2"]);
    let alias = site.ask(&["www.example.net", "A", "+dnssec"]);
    assert_eq!(alias.rdata("CNAME"), ["mail.example.net."]);
    assert_eq!(alias.rdata("A"), ["192.0.2.2"]);
    assert_eq!(alias.rdata("RRSIG").len(), 2);
    let dname = site.ask(&["x.old.example.net", "A", "+dnssec"]);
    assert_eq!(dname.rdata("DNAME"), ["new.example.net."]);
    assert_eq!(dname.rdata("CNAME"), ["x.new.example.net."]);
    assert_eq!(dname.rdata("A"), ["192.0.2.4"]);
}

#[test]
fn negative_answers_with_their_proofs() {
    for denial in DENIALS {
        let site = site(denial);
        let kind = if denial.is_empty() { "NSEC" } else { "NSEC3" };
        let absent = site.ask(&["nobody.example.net", "A", "+dnssec", "+norec"]);
        assert_eq!(absent.status, "NXDOMAIN", "{}", absent.text);
        assert_eq!(count(&absent.authority, "SOA"), 1);
        assert!(count(&absent.authority, kind) >= 1, "{}", absent.text);
        assert!(absent.has_flag("aa"));
        let no_data = site.ask(&["mail.example.net", "TXT", "+dnssec", "+norec"]);
        assert_eq!(no_data.status, "NOERROR");
        assert!(
            no_data.answer.is_empty() && count(&no_data.authority, kind) == 1,
            "{}",
            no_data.text
        );
        let ent = site.ask(&["b.ent.example.net", "A", "+dnssec", "+norec"]);
        assert_eq!(
            ent.status, "NOERROR",
            "an empty non-terminal exists: {}",
            ent.text
        );
        assert!(ent.answer.is_empty());
        let plain = site.ask(&["nobody.example.net", "A", "+norec"]);
        assert_eq!(count(&plain.authority, kind), 0, "{}", plain.text);
    }
}

#[test]
fn wildcards_with_their_proofs() {
    for denial in DENIALS {
        let site = site(denial);
        let kind = if denial.is_empty() { "NSEC" } else { "NSEC3" };
        let answer = site.ask(&["x.y.wild.example.net", "TXT", "+dnssec", "+norec"]);
        assert_eq!(answer.rdata("TXT"), ["\"any\""]);
        assert!(
            answer.answer[0].starts_with("x.y.wild.example.net. "),
            "{}",
            answer.text
        );
        assert!(
            answer.rdata("RRSIG")[0].starts_with("TXT 13 3 "),
            "{}",
            answer.text
        );
        assert_eq!(count(&answer.authority, kind), 1, "{}", answer.text);
        let no_data = site.ask(&["x.wild.example.net", "A", "+dnssec", "+norec"]);
        assert_eq!(no_data.status, "NOERROR");
        assert!(no_data.answer.is_empty());
    }
}

#[test]
fn referrals() {
    for denial in DENIALS {
        let site = site(denial);
        let referral = site.ask(&["www.child.example.net", "A", "+dnssec", "+norec"]);
        assert_eq!(referral.status, "NOERROR");
        assert!(
            !referral.has_flag("aa") && referral.answer.is_empty(),
            "{}",
            referral.text
        );
        assert_eq!(count(&referral.authority, "NS"), 1);
        assert_eq!(count(&referral.authority, "DS"), 0);
        assert!(count(&referral.authority, "NSEC") + count(&referral.authority, "NSEC3") >= 1);
        assert_eq!(count(&referral.additional, "A"), 1, "{}", referral.text);
        let secure = site.ask(&["www.secure.example.net", "A", "+dnssec", "+norec"]);
        assert_eq!(count(&secure.authority, "DS"), 1, "{}", secure.text);
        let ds = site.ask(&["secure.example.net", "DS", "+dnssec", "+norec"]);
        assert!(ds.has_flag("aa"));
        assert_eq!(ds.rdata("DS").len(), 1);
    }
}

#[test]
fn other_zones_and_other_classes_are_refused() {
    let site = site("");
    assert_eq!(site.ask(&["example.org", "SOA"]).status, "REFUSED");
    assert_eq!(site.ask(&["net", "SOA"]).status, "REFUSED");
    let chaos = site.ask(&["example.net", "SOA", "-c", "CH"]);
    assert!(
        ["REFUSED", "NOTAUTH", "NOTIMP"].contains(&chaos.status.as_str()),
        "{}",
        chaos.text
    );
    let version = site.ask(&["example.net", "SOA", "+edns=1", "+noednsneg"]);
    assert_eq!(version.status, "BADVERS", "{}", version.text);
}

#[test]
fn answers_fit_the_transport() {
    let site = site("");
    let small = site.ask(&[
        "example.net",
        "DNSKEY",
        "+dnssec",
        "+bufsize=512",
        "+ignore",
    ]);
    let tcp = site.ask(&["example.net", "DNSKEY", "+dnssec", "+tcp"]);
    assert_eq!(tcp.rdata("DNSKEY").len(), 2);
    assert!(
        small.has_flag("tc") || small.rdata("DNSKEY").len() == 2,
        "{}",
        small.text
    );
    let retried = site.ask(&["big.example.net", "TXT", "+dnssec", "+bufsize=512"]);
    assert_eq!(retried.rdata("TXT").len(), 1);
}

#[test]
fn transfers_by_those_who_may() {
    let site = site("");
    let path = site.path("copy");
    let records = cascade_e2e::transfer(site.publication_port(), ZONE, &path).unwrap();
    assert!(records > 40, "{records}");
    let closed = site_with_policy("[server.outbound]\nprovide-xfr-to = []\n");
    add(&closed, ZONE, TEXT);
    closed.await_published(ZONE, 7);
    assert!(cascade_e2e::transfer(closed.publication_port(), ZONE, &path).is_err());
    let udp = dig(site.publication_port(), &[ZONE, "AXFR", "+notcp"]);
    assert!(udp.answer.len() < 10, "{}", udp.text);
}

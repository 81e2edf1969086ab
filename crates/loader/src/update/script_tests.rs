//! Commands as people write them.

use cascade_zone::{Name, Rtype};

use super::script::{Script, parse};
use super::{Change, Prerequisite, Target};
use crate::xfr::testkit::apex;

fn at(owner: &str, rtype: Rtype) -> Target {
    let name = Name::parse(owner).unwrap();
    Target {
        key: cascade_zone::key::key_of(&apex(), name.as_wire()).unwrap(),
        case: cascade_zone::key::case_of(&apex(), name.as_wire()),
        rtype,
    }
}

fn read(text: &str) -> Script {
    parse(text, &apex()).unwrap()
}

fn refused(text: &str) -> String {
    let errors = parse(text, &apex()).unwrap_err();
    let lines: Vec<String> = errors
        .iter()
        .map(|e| format!("{}:{}: {}", e.line, e.column, e.message))
        .collect();
    lines.join("\n")
}

#[test]
fn every_command() {
    let text = "; a comment\n\
        zone example.net.\nclass IN\nttl 1h\n\
        prereq nxdomain new.example.net\n\
        prereq yxdomain example.net.\n\
        prereq nxrrset www.example.net. TXT\n\
        prereq yxrrset www.example.net IN A\n\
        yxrrset www.example.net. A 192.0.2.1\n\
        prereq yxrrset www.example.net. A 192.0.2.2\n\
        update add new.example.net. 300 IN A 192.0.2.9 ; why\n\
        add Mixed.example.net TXT \"a b\" c\n\
        update delete old.example.net.\n\
        update delete old.example.net. 0 IN MX\n\
        del old.example.net. AAAA 2001:db8::1\n\
        send\n";
    let script = read(text);
    assert_eq!(script.requests.len(), 1);
    let r = &script.requests[0];
    assert_eq!(r.line, 5);
    let (a, one, two) = (Rtype::A, vec![192, 0, 2, 1], vec![192, 0, 2, 2]);
    assert_eq!(
        r.request.prerequisites,
        [
            Prerequisite::NameNotInUse(at("new.example.net", Rtype::ANY)),
            Prerequisite::NameInUse(at("example.net", Rtype::ANY)),
            Prerequisite::SetAbsent(at("www.example.net", Rtype::TXT)),
            Prerequisite::SetExists(at("www.example.net", a)),
            Prerequisite::SetIs(at("www.example.net", a), vec![one, two]),
        ]
    );
    let aaaa: std::net::Ipv6Addr = "2001:db8::1".parse().unwrap();
    assert_eq!(
        r.request.changes,
        [
            Change::Add {
                at: at("new.example.net", a),
                ttl: 300,
                rdata: vec![192, 0, 2, 9]
            },
            Change::Add {
                at: at("Mixed.example.net", Rtype::TXT),
                ttl: 3600,
                rdata: b"\x03a b\x01c".to_vec()
            },
            Change::DeleteName(at("old.example.net", Rtype::ANY)),
            Change::DeleteSet(at("old.example.net", Rtype::MX)),
            Change::DeleteRecord {
                at: at("old.example.net", Rtype::AAAA),
                rdata: aaaa.octets().to_vec()
            },
        ]
    );
}

#[test]
fn a_send_an_empty_line_and_the_end_close_a_request() {
    let add = |n: &str| format!("add {n}.example.net. 60 A 192.0.2.1\n");
    let text = [
        add("a"),
        "\n".into(),
        add("b"),
        "; no end\n".into(),
        add("c"),
    ]
    .concat()
        + "send\nsend\n\n"
        + &add("d");
    let script = read(&text);
    let lines: Vec<(usize, usize)> = script
        .requests
        .iter()
        .map(|r| (r.line, r.request.changes.len()))
        .collect();
    assert_eq!(lines, [(1, 1), (3, 2), (9, 1)]);
    assert_eq!(read("quit\nnonsense\n"), Script::default());
    assert_eq!(read(""), Script::default());
    // Without a last line feed, with several lines in parentheses.
    let text = "update add example.net. 60 TXT ( \"a\"\n \"b\" )";
    assert_eq!(read(text).requests[0].request.changes.len(), 1);
}

#[test]
fn errors_have_their_place() {
    let text = "server 127.0.0.1\n\
        update add www 60 A 192.0.2.1\n\
        update add www.example.net. A 192.0.2.1\n  prereq nxrset x.example.net. A\n\
        update add www.example.net. 60 A 192.0.2\n\
        update add www.example.net. 60 RRSIGG x\n\
        update delete www.example.net. A 192.0.2.1 x\n\
        zone example.org\nfoo\nupdate\nshow\nupdate add www.example.net. 60 A\n";
    let said = refused(text);
    let lines: Vec<&str> = said.lines().collect();
    let wanted = [
        ("1:1: ", "says how to reach a server"),
        (
            "2:12: ",
            "www. is outside of the zone example.net.; names are absolute",
        ),
        ("3:29: ", "the record has no TTL"),
        ("4:10: ", "'nxrset' is no prerequisite"),
        ("5:34: ", "IPv4"),
        ("6:32: ", "'RRSIGG' is no type of records"),
        ("7:44: ", "after the end of the A data"),
        ("8:6: ", "the command is for example.net."),
        ("9:1: ", "'foo' is no command"),
        ("10:7: ", "here must follow add or delete"),
        ("11:1: ", "nothing that changes the zone"),
        ("12:33: ", "here must follow the data of the A record"),
    ];
    assert_eq!(lines.len(), wanted.len(), "{said}");
    for (line, (place, words)) in lines.iter().zip(wanted) {
        assert!(
            line.starts_with(place) && line.contains(words),
            "{place}{words}: {line}"
        );
    }
}

#[test]
fn many_errors_are_cut_and_one_refuses_all() {
    let text = "update add a.example.net. 60 A 192.0.2.1\n".to_string() + &"foo\n".repeat(100);
    assert_eq!(parse(&text, &apex()).unwrap_err().len(), 20);
}

proptest::proptest! {
    #[test]
    fn any_text_gives_an_answer(text in ".{0,200}", words in proptest::collection::vec(
        proptest::sample::select(vec!["update", "add", "prereq", "yxrrset", "a.example.net.", "60",
            "A", "TXT", "(", ")", "\"", "\\", "\n", " ", ";", "IN", "SOA", "send", "\\#", "0"]), 0..40)) {
        let _ = parse(&text, &apex());
        let _ = parse(&words.join(" "), &apex());
    }
}

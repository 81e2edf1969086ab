//! What the short way takes, what it leaves, and that it changes nothing.

use super::*;
use crate::code::Checks;
use crate::parse::{Carry, Env, Parsed, parse_as};
use crate::scan::{Item, ScanOptions, scan};
use crate::sink::RecordList;
use crate::source::{FileStat, IncludeMode, SourceFile};
use cascade_zone::Name;
use proptest::prelude::*;

fn rdata(text: &str) -> Option<Vec<u8>> {
    let mut room = Room::default();
    let line = format!("a 5 IN {text}\n");
    let read = read(line.as_bytes(), 0, b"", b"\x01o\0", &mut room)?;
    assert_eq!(read.next, line.len());
    assert_eq!(read.ttl, Some(5));
    Some(read.rdata.to_vec())
}

/// Without this the property below would hold for a reader that takes nothing.
#[test]
fn usual_lines_are_taken() {
    for (text, octets) in [
        ("A 192.0.2.1", &b"\xc0\0\x02\x01"[..]),
        ("A\t0.0.0.255\t\r", b"\0\0\0\xff"),
        ("AAAA ::", &[0; 16]),
        (
            "AAAA 2001:db8::1",
            b"\x20\x01\x0d\xb8\0\0\0\0\0\0\0\0\0\0\0\x01",
        ),
        (
            "AAAA 1:2:3:4:5:6:7:8",
            b"\0\x01\0\x02\0\x03\0\x04\0\x05\0\x06\0\x07\0\x08",
        ),
        (
            "AAAA 1:2:3:4:5:6:7::",
            b"\0\x01\0\x02\0\x03\0\x04\0\x05\0\x06\0\x07\0\0",
        ),
        ("NS Ns.x.", b"\x02Ns\x01x\0"),
        ("CNAME b", b"\x01b\x01o\0"),
        ("cname b", b"\x01b\x01o\0"),
        ("PTR b.c", b"\x01b\x01c\x01o\0"),
        ("MX 10 b", b"\0\x0a\x01b\x01o\0"),
        ("SRV 1 2 65535 b.", b"\0\x01\0\x02\xff\xff\x01b\0"),
        ("DS 258 13 2 aB01", b"\x01\x02\x0d\x02\xab\x01"),
        ("A 192.0.2.1;\0(\"", b"\xc0\0\x02\x01"),
        ("DS 258 13 2 ab ; c", b"\x01\x02\x0d\x02\xab"),
        ("TXT a; c", b"\x01a"),
        ("DS 258 13 2 ab 01 ", b"\x01\x02\x0d\x02\xab\x01"),
        ("TXT \"a;(\" b \"\"", b"\x03a;(\x01b\0"),
        ("TXT \"\u{fc}\"", b"\x02\xc3\xbc"),
    ] {
        assert_eq!(rdata(text).as_deref(), Some(octets), "{text}");
    }
}

#[test]
fn everything_else_is_left() {
    for text in [
        "A 192.0.2.01",
        "A 192.0.2.256",
        "A 192.0.2",
        "A 192.0.2.1.",
        "A 192.0.2.1 x",
        "A (192.0.2.1)",
        "AAAA 1:2:3:4:5:6:7",
        "AAAA 1:2:3:4:5:6:7:8::",
        "AAAA 1::2:3:4:5:6:7:8",
        "AAAA 1::2::3",
        "AAAA 12345::",
        "AAAA :1::",
        "AAAA 1:2:3:4:5:6:7:",
        "AAAA ::1.2.3.4",
        "NS .",
        "NS ..",
        "NS @",
        "NS a..b.",
        "NS a\\.b",
        "NS \u{fc}.",
        "MX 65536 a",
        "MX a",
        "DS 1 2 3",
        "DS 1 2 3 a bc d",
        "DS 1 256 3 ab",
        "DS 1 RSASHA256 3 ab",
        "TXT",
        "TXT \"a",
        "TXT \"a\"b",
        "TXT \"a\\\"\"",
        "TXT \\#",
        "SOA a b 1 2 3 4 5",
        "TYPE1 192.0.2.1",
        "IN A 192.0.2.1",
        "6 A 192.0.2.1",
    ] {
        assert_eq!(rdata(text), None, "{text}");
    }
    assert_eq!(rdata(&format!("TXT {}", "x".repeat(256))), None);
    assert_eq!(rdata(&format!("TXT {}", "\"x\" ".repeat(300))), None);
    assert_eq!(rdata(&format!("NS {}.", "x".repeat(64))), None);
    assert_eq!(rdata(&format!("NS {}", "x.".repeat(128))), None);
    assert!(rdata(&format!("NS {}", "x.".repeat(127))).is_some());
    assert!(rdata(&format!("NS {}", ["x"; 126].join("."))).is_some());
    assert_eq!(rdata(&format!("NS {}", ["x"; 127].join("."))), None);
}

#[test]
fn a_line_needs_an_end_and_may_lean_on_the_owner_before() {
    let read = |text: &str, last: &str| {
        let mut room = Room::default();
        let line = read(text.as_bytes(), 0, last.as_bytes(), b"\x01o\0", &mut room)?;
        Some(line.owner.map(|o| (o.wire.to_vec(), o.upper)))
    };
    assert_eq!(read("a A 192.0.2.1", ""), None);
    assert_eq!(read("a A 192.0.2.1\n", "a"), Some(None));
    assert_eq!(read(" A 192.0.2.1\n", "a"), Some(None));
    let b = Some(Some((b"\x02aB\x01o\0".to_vec(), true)));
    assert_eq!(read("aB A 192.0.2.1\n", "a"), b);
}

fn parse(text: &[u8], chunk: usize, max_ttl: Option<u32>, plain: bool) -> Vec<String> {
    let Ok(apex) = Name::parse("Example.") else {
        return Vec::new();
    };
    let file = SourceFile {
        name: "f".into(),
        bytes: text.to_vec(),
        parent: None,
        stat: FileStat::default(),
    };
    let options = ScanOptions {
        chunk,
        include: IncludeMode::Off,
        max_size: 0,
    };
    let plan = scan(file, apex.as_wire(), &options);
    let env = Env {
        apex: &apex,
        checks: &Checks::default(),
        max_ttl,
        strip: true,
        files: &plan.files,
    };
    let carries = [
        Carry::default(),
        Carry {
            owner: Some(b"\x01c\x07eXample\0".to_vec()),
            ttl: Some(7),
        },
        Carry {
            owner: Some(Vec::new()),
            ttl: None,
        },
    ];
    let chunks = plan.items.iter().filter_map(|i| match i {
        Item::Chunk(c) => Some(c),
        Item::Broken { .. } => None,
    });
    let mut all = Vec::new();
    for chunk in chunks {
        for carry in &carries {
            let p: Parsed<RecordList> = parse_as(&env, chunk, carry, RecordList::default(), plain);
            all.push(format!("{p:?}"));
        }
    }
    all
}

fn any_line() -> impl Strategy<Value = String> {
    let owner = prop::sample::select(
        &[
            "a",
            "a",
            "a",
            "b.c",
            "WWW",
            "@",
            "a.example.",
            "x.EXAMPLE.",
            "example.",
            "other.",
            "",
            "",
            "*",
            "a\\.b",
            "a..b",
            "\u{fc}",
            "1",
            "\"q\"",
            "$x",
            "$TTL",
            "$ORIGIN",
            "(",
            "a.",
            "xexample.",
            "IN",
            "A",
            "a$",
            "a(",
            "\0",
        ][..],
    );
    let before = prop::sample::select(
        &[
            " ",
            " ",
            " ",
            "\t",
            " 5 ",
            " IN ",
            " 5 IN ",
            " IN 5 ",
            " in 1h ",
            " 3000000000 ",
            " 2147483647 ",
            " 2147483648 ",
            " 5 5 ",
            " IN IN ",
            " CH ",
            " CLASS1 ",
            " 5x ",
            " ( ",
            "\t 05 \tIN\t",
        ][..],
    );
    let rtype = prop::sample::select(
        &[
            "A", "A", "AAAA", "AAAA", "NS", "NS", "DS", "DS", "MX", "TXT", "TXT", "CNAME", "PTR",
            "SRV", "SOA", "a", "Ns", "TYPE1", "RRSIG", "HINFO", "X", "",
        ][..],
    );
    let field = prop_oneof![
        6 => prop::sample::select(&[
            "192.0.2.1", "0.0.0.0", "255.255.255.255", "1.2.3", "01.2.3.4", "1.2.3.256", "1::",
            "::", "::1", "2001:db8::A:1", "1:2:3:4:5:6:7:8", "1:2:3:4:5:6:7::", "::1.2.3.4",
            "1:2:3:4:5:6:7:8:9", "1::2::3", "fffff::", ":", "ns", "Ns.Example.", "a.b", ".",
            "@", "..", "a\\032b", "\\#", "0", "1", "13", "255", "256", "65535", "65536",
            "00001", "4294967296", "ab", "ABCDEF01", "abc", "xy", "\"\"", "\"a b;(\"", "\"\t\"",
            "\"\u{fc}\"", "\"a\\\"\"", "\"a", "a\"b\"", "4 c0000201", "(", ")", "; c",
        ][..]).prop_map(str::to_string),
        1 => "[0-9a-f:.]{1,20}",
        1 => "[a-zA-Z0-9_.@$\\\\\"-]{1,12}",
        1 => (60usize..70, 1usize..6).prop_map(|(n, m)| vec!["x".repeat(n); m].join(".")),
        1 => (250usize..260).prop_map(|n| "f".repeat(n)),
    ];
    let gap = prop::sample::select(&[" ", " ", " ", "\t", "  ", ""][..]);
    let fields = prop::collection::vec((gap, field), 0..5).prop_map(|f| {
        f.into_iter()
            .map(|(g, f)| g.to_string() + &f)
            .collect::<String>()
    });
    let end = prop::sample::select(
        &[
            "\n", "\n", "\n", "\n", "\r\n", " \n", " ; c\n", ";(\n", ";", "\r", "\0\n", "",
        ][..],
    );
    let free =
        (owner, before, rtype, fields, end).prop_map(|(o, b, t, f, e)| format!("{o}{b}{t}{f}{e}"));
    // Enough lines that are usual, so that state flows between both ways.
    let usual = prop::sample::select(
        &[
            "a 5 IN A 192.0.2.1\n",
            "a A 192.0.2.2\n",
            " NS ns1\n",
            "b.Example. IN NS Ns2.x.\n",
            "b.Example.\t6\tDS 1 13 2 abcd\n",
            "A 5 TXT \"x\" y\n",
            "$TTL 9\n",
            "$ORIGIN c\n",
            "$ORIGIN C\n",
            "$ORIGIN \\001\n",
            "$ORIGIN example.\n",
            "$GENERATE 1-2 a A 192.0.2.$\n",
            "\n",
            "c.example. MX 1 a\n",
            "@ 5 SOA a b 1 2 3 4 5\n",
            "other. 5 A 192.0.2.3\n",
            "\u{fc} 5 A 192.0.2.4\n",
        ][..],
    );
    prop_oneof![3 => free, 2 => usual.prop_map(str::to_string)]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, ..ProptestConfig::default() })]
    /// The short way changes nothing: records, places, diagnostics, and what flows on.
    #[test]
    fn both_ways_agree(lines in prop::collection::vec(any_line(), 1..12), chunk in prop::sample::select(&[1usize, 60, usize::MAX][..]), lower in any::<bool>()) {
        let text = lines.concat();
        let max_ttl = lower.then_some(5);
        prop_assert_eq!(
            parse(text.as_bytes(), chunk, max_ttl, true),
            parse(text.as_bytes(), chunk, max_ttl, false)
        );
    }
}

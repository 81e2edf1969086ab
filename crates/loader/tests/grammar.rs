//! The grammar of zone files, row by row (RFC 1035 §5.1, RFC 2308 §4, RFC 3597 §5).
#![allow(clippy::unwrap_used)] // a test may panic

mod common;

use cascade_loader::{ParseOptions, RecordList, parse_bytes};
use common::{codes, good, parse, parse_with, records};
use proptest::prelude::*;

#[test]
fn relative_owners_without_origin_and_ttl_only_on_the_soa() {
    let text = "example.\t3600\tIN\tSOA\tns.example. user.example. 1 86400 7200 2419200 300\n\
                example.\tNS\tns\nns\tA\t192.0.2.1\n";
    assert_eq!(
        good(text),
        [
            "example. 3600 IN SOA ns.example. user.example. 1 86400 7200 2419200 300",
            "example. 3600 IN NS ns.example.",
            "ns.example. 3600 IN A 192.0.2.1",
        ]
    );
}

#[test]
fn owners() {
    assert_eq!(
        good(
            "@ 1 A 192.0.2.1\n 1 A 192.0.2.2\nWww 1 A 192.0.2.3\n\t1 A 192.0.2.4\nx.Example. 1 A 192.0.2.5\n"
        ),
        [
            "example. 1 IN A 192.0.2.1",
            "example. 1 IN A 192.0.2.2",
            "Www.example. 1 IN A 192.0.2.3",
            "Www.example. 1 IN A 192.0.2.4",
            "x.example. 1 IN A 192.0.2.5",
        ]
    );
    assert_eq!(codes(" 1 A 192.0.2.1\n"), ["Z016"]);
    assert_eq!(codes("a..b 1 A 192.0.2.1\n 1 A 192.0.2.1\n"), ["Z004"]);
    assert_eq!(codes("other. 1 A 192.0.2.1\n 1 A 192.0.2.1\n"), ["Z105"]);
    assert_eq!(codes("xexample. 1 A 192.0.2.1\n"), ["Z105"]);
    assert_eq!(codes("\"a\" 1 A 192.0.2.1\n"), ["Z004"]);
    assert_eq!(codes("(a) 1 A 192.0.2.1\n"), ["Z006"]);
    assert_eq!(
        good("\\$a\\064 1 A 192.0.2.1"),
        ["\\$a\\@.example. 1 IN A 192.0.2.1"]
    );
}

#[test]
fn ttl_and_class_in_either_order() {
    for text in [
        "a 5 IN A 192.0.2.1",
        "a IN 5 A 192.0.2.1",
        "a 5 A 192.0.2.1",
        "a\t5 in\ta 192.0.2.1 ; c",
    ] {
        assert_eq!(good(text), ["a.example. 5 IN A 192.0.2.1"]);
    }
    assert_eq!(
        good("a 1h30m CLASS1 TYPE1 192.0.2.1"),
        ["a.example. 5400 IN A 192.0.2.1"]
    );
    assert_eq!(codes("a 5 CH A 192.0.2.1"), ["Z015"]);
    assert_eq!(codes("a 5 CLASS3 A 192.0.2.1"), ["Z015"]);
    assert_eq!(codes("a 5 5 A 192.0.2.1"), ["Z005"]);
    assert_eq!(codes("a 5x A 192.0.2.1"), ["Z005"]);
    assert_eq!(codes("a 5 IN IN A 192.0.2.1"), ["Z015"]);
    assert_eq!(codes("a 5 IN"), ["Z007"]);
    assert_eq!(codes("a 5 IN OPT \\# 0"), ["Z135"]);
}

#[test]
fn ttl_range() {
    assert_eq!(
        good("a 2147483647 A 192.0.2.1"),
        ["a.example. 2147483647 IN A 192.0.2.1"]
    );
    assert_eq!(
        good("a 2147483648 A 192.0.2.1"),
        ["a.example. 0 IN A 192.0.2.1"]
    );
    assert_eq!(codes("a 2147483648 A 192.0.2.1"), ["Z117"]);
    assert_eq!(codes("$TTL 9999999999\na A 192.0.2.1"), ["Z117"]);
}

#[test]
fn omitted_ttls() {
    // $TTL goes before the last stated TTL (RFC 2308 §4).
    assert_eq!(
        good("$TTL 7\na 5 A 192.0.2.1\nb A 192.0.2.1\n$TTL 8\nc A 192.0.2.1"),
        [
            "a.example. 5 IN A 192.0.2.1",
            "b.example. 7 IN A 192.0.2.1",
            "c.example. 8 IN A 192.0.2.1"
        ]
    );
    let text = "@ SOA . . 1 1 1 1 300\na A 192.0.2.1\n";
    assert_eq!(
        good(text),
        [
            "example. 300 IN SOA . . 1 1 1 1 300",
            "a.example. 300 IN A 192.0.2.1"
        ]
    );
    assert_eq!(codes(text), ["Z012"]);
    assert_eq!(codes("a A 192.0.2.1"), ["Z007"]);
}

#[test]
fn max_ttl_lowers() {
    let options = ParseOptions {
        max_ttl: Some(60),
        ..ParseOptions::default()
    };
    let parsed = parse_with(b"a 61 A 192.0.2.1\nb 60 A 192.0.2.1\n", &options);
    assert_eq!(
        records(&parsed).iter().map(|r| r.ttl).collect::<Vec<_>>(),
        [60, 60]
    );
    assert_eq!(parsed.diagnostics.by_code["Z118"], 1);
}

#[test]
fn parentheses_quotes_comments_line_ends() {
    let soa = "example. 1 IN SOA a.example. b.example. 1 2 3 4 5";
    assert_eq!(
        good("@ 1 SOA a b ( 1 ; serial )\r\n 2\r\n 3 \"\n".replace('"', "") + " 4 5 )\r\n"),
        [soa]
    );
    assert_eq!(good("@ 1 SOA a b (1\n(2 3)\n4)5"), [soa]);
    assert_eq!(
        good("a ( 1\nIN ) A 192.0.2.1\nb 1 A 192.0.2.2"),
        ["a.example. 1 IN A 192.0.2.1", "b.example. 1 IN A 192.0.2.2"]
    );
    assert_eq!(
        good("a 1 TXT \"a;b\" c\\;d;e\n"),
        ["a.example. 1 IN TXT \"a;b\" \"c;d\""]
    );
    assert_eq!(
        good("a 1 TXT (\"a\nb\")"),
        ["a.example. 1 IN TXT \"a\\010b\""]
    );
    assert_eq!(
        good("\n\n ; c\n\t\n\r\na 1 A 192.0.2.1"),
        ["a.example. 1 IN A 192.0.2.1"]
    );
    assert_eq!(codes("a 1 TXT \"a\nb 1 A 192.0.2.1\n"), ["Z006"]);
    assert_eq!(codes("a 1 TXT (a\nb 1 A 192.0.2.1\n"), ["Z006"]);
    assert_eq!(codes("a 1 TXT a)\n"), ["Z006"]);
    assert_eq!(codes("a 1 A 192.0.2.1\rb\n"), ["Z001"]);
    assert_eq!(codes(b"a 1 TXT a\0b\n"), ["Z001"]);
    assert_eq!(
        good(b"a 1 TXT \"a\0b\"\n"),
        ["a.example. 1 IN TXT \"a\\000b\""]
    );
    let mark = parse(b"\xef\xbb\xbfa 1 A 192.0.2.1\n");
    assert_eq!((mark.diagnostics.notes, mark.records), (1, 1));
}

#[test]
fn eight_bit_names_are_noted() {
    let parsed = parse("bücher 1 NS bücher");
    assert_eq!(
        (
            parsed.diagnostics.by_code["Z136"],
            parsed.diagnostics.errors
        ),
        (2, 0)
    );
}

#[test]
fn generic_form() {
    assert_eq!(
        good("a 1 A \\# 4 C0 0002 01"),
        ["a.example. 1 IN A 192.0.2.1"]
    );
    assert_eq!(
        good("a 1 TYPE65280 \\# 0"),
        ["a.example. 1 IN TYPE65280 \\# 0"]
    );
    assert_eq!(
        good("a 1 TYPE65280 \\# ( 3 0a\n0B0c )"),
        ["a.example. 1 IN TYPE65280 \\# 3 0A0B0C"]
    );
    assert_eq!(codes("a 1 TYPE65280 \\# 3 0A0B"), ["Z017"]);
    assert_eq!(codes("a 1 A \\# 3 0A0B0C"), ["Z009"]);
    assert_eq!(codes("a 1 TYPE65280 abc"), ["Z009"]);
    // A quoted or later \# is text.
    assert_eq!(
        good("a 1 TXT \"\\#\" \\#"),
        ["a.example. 1 IN TXT \"#\" \"#\""]
    );
}

#[test]
fn directives() {
    assert_eq!(
        good("$ORIGIN sub\na 1 A 192.0.2.1\n$origin a.b.example.\n@ 1 NS c\n$ORIGIN d\n@ 1 NS @\n"),
        [
            "a.sub.example. 1 IN A 192.0.2.1",
            "a.b.example. 1 IN NS c.a.b.example.",
            "d.a.b.example. 1 IN NS d.a.b.example.",
        ]
    );
    // The same owner text under another origin is another name.
    assert_eq!(
        good("a 1 A 192.0.2.1\n$ORIGIN b\na 1 A 192.0.2.1\n"),
        [
            "a.example. 1 IN A 192.0.2.1",
            "a.b.example. 1 IN A 192.0.2.1"
        ]
    );
    for (text, code) in [
        ("$ORIGNI a\n", "Z003"),
        ("$\n", "Z003"),
        ("$TTL\n", "Z007"),
        ("$TTL x\n", "Z005"),
        ("$ORIGIN a b\n", "Z008"),
        ("$ORIGIN a..b\n", "Z004"),
        ("$INCLUDE other\n", "Z011"),
        ("$GENERATE 1 a A 192.0.2.1\n", "Z005"),
        ("$GENERATE 2-1 a A 192.0.2.1\n", "Z005"),
        ("$GENERATE 1-2 a\n", "Z007"),
        ("$GENERATE 0-4294967295 a 1 A 192.0.2.1\n", "Z014"),
        ("$GENERATE 255-256 a 1 A 192.0.2.$\n", "Z009"),
    ] {
        assert_eq!(codes(text), [code], "{text}");
    }
}

#[test]
fn generate() {
    assert_eq!(
        good("$TTL 1\n$GENERATE 1-3/2 h${0,2} A 192.0.2.$\n$generate 0-1 $ 5 IN CNAME h$.x\n"),
        [
            "h01.example. 1 IN A 192.0.2.1",
            "h03.example. 1 IN A 192.0.2.3",
            "0.example. 5 IN CNAME h0.x.example.",
            "1.example. 5 IN CNAME h1.x.example.",
        ]
    );
    assert_eq!(
        good("$GENERATE 7-7 t$ 1 TXT \"\\$ $$ $\""),
        ["t7.example. 1 IN TXT \"$ $ 7\""]
    );
    // 500,001 and 500,000 are too many together, in whatever pieces.
    let text = b"a 1 A 192.0.2.1\n$GENERATE 0-499999 a 1 A 192.0.2.1\na 1 A 192.0.2.2\n$GENERATE 0-500000 a 1 A 192.0.2.1\n";
    for chunk in [1, 1000] {
        let parsed = parse_with(
            text,
            &ParseOptions {
                chunk: Some(chunk),
                ..Default::default()
            },
        );
        assert_eq!(
            (parsed.diagnostics.by_code["Z014"], parsed.records),
            (1, 500_002)
        );
    }
}

#[test]
fn stripping() {
    let text = "$TTL 1\n@ DNSKEY 257 3 13 AA==\n@ CDS 1 13 2 AA\nd CDS 1 13 2 AA\nd DNSKEY 257 3 13 AA==\n\
                @ NSEC3PARAM 1 0 0 -\n@ RRSIG A 13 1 1 1 1 1 @ AA==\nn NSEC a A\nn 1 A 192.0.2.1\n";
    let parsed = parse_with(
        text.as_bytes(),
        &ParseOptions {
            strip: true,
            ..Default::default()
        },
    );
    let kept: Vec<String> = records(&parsed)
        .iter()
        .map(|r| r.rtype.to_string())
        .collect();
    assert_eq!(kept, ["CDS", "DNSKEY", "A"]);
    assert_eq!(parsed.stripped.values().sum::<u64>(), 5);
    assert_eq!(parsed.records, 8);
    assert_eq!(records(&parse(text)).len(), 8);
}

#[test]
fn all_errors_in_one_run() {
    let text = "$TTL 1\na A 192.0.2\nb AAAA ::1\nc TXT (\"x\" ; \" (\n y) \"\nd MX 10\ne AA 1\nf A 192.0.2.1 x\n\
                g NS a.b\n";
    let parsed = parse(text);
    let codes: Vec<_> = parsed
        .diagnostics
        .kept
        .iter()
        .map(|d| d.code.to_string())
        .collect();
    assert_eq!(codes, ["Z009", "Z006", "Z007", "Z002", "Z008"]);
    let lines: Vec<_> = parsed
        .diagnostics
        .kept
        .iter()
        .map(|d| d.place.as_ref().unwrap().line)
        .collect();
    assert_eq!(lines, [2, 5, 6, 7, 8]);
    assert_eq!(records(&parsed).len(), 2);
}

/// Pieces that break splitters: quotes, parentheses, comments, directives, blanks, broken lines.
fn piece() -> impl Strategy<Value = &'static str> {
    prop::sample::select(vec![
        "a 5 A 192.0.2.1\n",
        "b A 192.0.2.2\n",
        " A 192.0.2.3\n",
        "c.d\t6 IN NS x\n",
        "a TXT \"q;(\" r\n",
        "a TXT (\"q\n(\" ; )\n r)\n",
        "@ SOA a b (1\n2 ; (\"\n3 4 5)\n",
        "; \" ( comment\n",
        "\n",
        "\t \r\n",
        "$ORIGIN o\n",
        "$ORIGIN example.\n",
        "$TTL 9\n",
        "$TTL bad\n",
        "$GENERATE 1-2 g$ A 192.0.2.$\n",
        "$INCLUDE nothing\n",
        "bad.. A 192.0.2.1\n",
        "e A 192.0.2\n",
        "f TXT \"open\n",
        "g TXT close)\n",
        "h 3000000000 A 192.0.2.9\n",
        "\\; 1 A 192.0.2.1\n",
        "i TXT \\\"\n",
        "ü A 192.0.2.1\n",
        "J.Example.\t86400\tIN\tNS\tns1.x.\n",
        "J.Example. DS 1 13 2 abcd\n",
        " aaaa ::1\n",
        "k TXT q \"r (;\"\n",
        "$ORIGIN O\n",
    ])
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1000))]
    /// Any chunk size gives the same records at the same lines, and the same diagnostics.
    #[test]
    fn split_invariance(pieces in prop::collection::vec(piece(), 0..40), chunk in 1usize..200, tail in any::<bool>()) {
        let mut text = pieces.concat();
        if tail {
            text.push_str("z TXT (");
        }
        let whole = parse_with(text.as_bytes(), &ParseOptions { chunk: Some(usize::MAX), ..Default::default() });
        let split = parse_with(text.as_bytes(), &ParseOptions { chunk: Some(chunk), ..Default::default() });
        let strip = |p: &cascade_loader::ParsedFile<RecordList>| {
            records(p).into_iter().map(|mut r| { r.loc = 0; r }).collect::<Vec<_>>()
        };
        prop_assert_eq!(strip(&whole), strip(&split));
        prop_assert_eq!(&whole.diagnostics, &split.diagnostics);
        prop_assert_eq!(whole.records, split.records);
    }

    #[test]
    fn octets_never_panic(bytes: Vec<u8>, chunk in 1usize..50) {
        let options = ParseOptions { chunk: Some(chunk), ..Default::default() };
        let _ = parse_bytes::<RecordList>(bytes, "f", &common::apex(), &options);
    }

    #[test]
    fn near_text_never_panics(text in "([a-c@$ \t\n;()\"\\\\#0-9.]|A|TXT|SOA|\\$TTL|\\$ORIGIN|\\$GENERATE|LOC|SVCB|APL|HIP|=|,|-|:|/){0,60}") {
        let _ = parse(text);
    }
}

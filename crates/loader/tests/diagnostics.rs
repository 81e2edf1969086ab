//! Diagnostics as people and programs see them.
#![allow(clippy::unwrap_used)] // a test may panic

mod common;

use cascade_loader::render;
use common::{codes, parse};

fn text(zone: impl AsRef<[u8]>) -> String {
    render::render_all(&parse(zone).diagnostics)
}

#[test]
fn several_errors_of_several_kinds() {
    insta::assert_snapshot!(text(
        "$TTL 1h\nwww IN A 192.0.2.256\n\tTXTT \"x\"\n$ORIGNI sub\nmail (\n  IN MX ten mx ; (\n)\n"
    ));
}

#[test]
fn columns_with_tabs_line_ends_and_wide_characters() {
    insta::assert_snapshot!(text(
        "$TTL 1\r\n\ta\tA\t192.0.2.1\r\nb\tA\t\t\"x\r\nc TXT \"äöü\" é )\r\n"
    ));
}

#[test]
fn one_of_each_syntax_code() {
    let long = "x".repeat(256);
    for (zone, code) in [
        ("a 1 TXT a\rb\n", "Z001"),
        ("a 1 BOGUS x\n", "Z002"),
        ("$BOGUS\n", "Z003"),
        ("a..b 1 A 192.0.2.1\n", "Z004"),
        ("a 1 MX x y\n", "Z005"),
        ("a 1 A (192.0.2.1\n", "Z006"),
        ("a 1 MX 1\n", "Z007"),
        ("a 1 A 192.0.2.1 x\n", "Z008"),
        ("a 1 A x\n", "Z009"),
        (&format!("a 1 TXT {long}\n"), "Z010"),
        ("$INCLUDE x\n", "Z011"),
        ("@ SOA . . 1 1 1 1 1\n", "Z012"),
        ("$GENERATE 0-1000000 a 1 A 192.0.2.1\n", "Z014"),
        ("a 1 CH A 192.0.2.1\n", "Z015"),
        (" 1 A 192.0.2.1\n", "Z016"),
        ("a 1 A \\# 1 0101\n", "Z017"),
        ("\u{feff}a 1 A 192.0.2.1\n", "Z018"),
        ("b. 1 A 192.0.2.1\n", "Z105"),
        ("a 4294967296 A 192.0.2.1\n", "Z117"),
        (
            "a 1 HTTPS \\# 13 0001 00 0003 0002 0035 0002 0000\n",
            "Z128",
        ),
        ("a 1 ANY \\# 0\n", "Z135"),
        ("ä 1 A 192.0.2.1\n", "Z136"),
    ] {
        assert_eq!(codes(zone), [code], "{zone}");
        insta::assert_snapshot!(format!("syntax-{code}"), text(zone));
    }
}

#[test]
fn json() {
    let parsed = parse("$TTL 1\nwww A 192.0.2.256\n");
    insta::assert_json_snapshot!(parsed.diagnostics.kept);
}

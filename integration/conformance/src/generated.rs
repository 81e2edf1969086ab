//! Zones too large or too dull to be stored.

use std::fmt::Write;

const HEAD: &str = "\
$TTL 3600
@ IN SOA ns1 hostmaster 2026112501 7200 3600 1209600 900
@ NS ns1
ns1 A 192.0.2.1
";

/// (name, zone, text)
type Made = (&'static str, String, Vec<u8>);

/// Zones that must load.
pub fn good() -> Vec<Made> {
    vec![
        large("huge-rrset", |text| {
            // In canonical form just below 64 KiB: above, validators run out of buffer and call the
            // RRset bogus.
            for n in 0..1900 {
                line(
                    text,
                    format_args!("many A 10.0.{}.{}", n / 250, n % 250 + 1),
                );
            }
        }),
        // 65,535 octets is what RDLENGTH can say; a message needs room for its header, the owner
        // name, the fixed part of the record and, for a signed answer, the rest by TCP as well.
        large("rdata-of-64-kib", |text| {
            line(text, format_args!("big TXT {}", strings(65_000 / 256)));
        }),
        large("rrset-of-64-kib", |text| {
            for n in 0..60 {
                line(text, format_args!("wide TXT \"{n}\" {}", strings(3)));
            }
        }),
        large("many-owners", |text| {
            for n in 0..5000u32 {
                // Scrambled, so that the file is not in order.
                let n = n.wrapping_mul(2_654_435_761) % 1_000_003;
                line(
                    text,
                    format_args!("h{n} A 10.1.{}.{}", n >> 8 & 255, n & 255),
                );
            }
        }),
        large("many-delegations", |text| {
            for n in 0..2000 {
                line(
                    text,
                    format_args!("d{n} NS ns1.d{n}\nd{n} NS ns.example.net."),
                );
                line(text, format_args!("ns1.d{n} A 10.2.{}.{}", n >> 8, n & 255));
                if n % 8 == 0 {
                    line(text, format_args!("d{n} DS {n} 13 2 {n:064x}"));
                }
            }
        }),
        large("deep-tree", |text| {
            let mut name = String::from("leaf");
            for n in 0..60 {
                name = format!("{name}.n{n}");
                if n % 3 == 0 {
                    line(text, format_args!("{name} A 192.0.2.9"));
                }
            }
        }),
        large("many-types-of-one-owner", |text| {
            for number in (256..65_000)
                .step_by(97)
                .filter(|n| !REFUSED_OR_SHAPED.contains(n))
            {
                line(text, format_args!("all TYPE{number} \\# 3 010203"));
            }
        }),
        large("comments-of-a-megabyte", |text| {
            for n in 0..20_000 {
                line(
                    text,
                    format_args!("; line {n} of a very long licence, all of it text"),
                );
            }
            line(text, format_args!("after A 192.0.2.7"));
        }),
        (
            "zone-name-of-222-octets",
            // With 33 octets for the label of a hash below it, exactly 255.
            [63, 63, 63, 27].map(|n| "z".repeat(n)).join("."),
            "$TTL 60\n@ IN SOA ns.example.net. hostmaster.example.net. 1 7200 3600 1209600 900\n\
             @ NS ns.example.net.\n"
                .into(),
        ),
    ]
}

/// Types from 256 on whose data has a shape, or that are no data.
const REFUSED_OR_SHAPED: &[u32] = &[
    256, 257, 258, 259, 260, 261, 262, 263, 264, 265, 266, 32_768, 32_769,
];

/// Files that must be refused.
pub fn bad() -> Vec<Made> {
    vec![
        large("rdata-too-large", |text| {
            line(text, format_args!("big TXT {}", strings(256)));
        }),
        large("errors-by-the-hundred", |text| {
            for n in 0..250 {
                line(text, format_args!("x{n} AAA 192.0.2.1"));
            }
        }),
        large("rrset-too-large", |text| {
            for n in 0..100_001 {
                line(
                    text,
                    format_args!("m A {}.{}.{}.1", 10 + (n >> 16), n >> 8 & 255, n & 255),
                );
            }
        }),
        (
            "garbage-of-a-megabyte",
            "example.test".into(),
            garbage(1 << 20),
        ),
        (
            "one-line-of-a-megabyte",
            "example.test".into(),
            [HEAD.as_bytes(), b"www A ", &[b'1'; 1 << 20]].concat(),
        ),
    ]
}

fn large(name: &'static str, fill: impl Fn(&mut String)) -> Made {
    let mut text = HEAD.to_owned();
    fill(&mut text);
    (name, "example.test".into(), text.into_bytes())
}

fn line(text: &mut String, args: std::fmt::Arguments<'_>) {
    let _ = writeln!(text, "{args}");
}

/// That many strings of 255 octets.
fn strings(count: usize) -> String {
    vec![format!("\"{}\"", "x".repeat(255)); count].join(" ")
}

/// Octets without meaning, the same every time.
fn garbage(len: usize) -> Vec<u8> {
    let mut state = 0x2545_f491_4f6c_dd1d_u64;
    let next = move || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()[3]
    };
    std::iter::repeat_with(next).take(len).collect()
}

//! What the keys of a zone cost to keep.

use cascade_keys::{Class, KeyNum, MemberReport, Seen, SweepReport, Verdict, What, ZoneKeys};
use cascade_sim::{Config, DAY, World, default_policy, quiet_policy};
use cascade_time::Timestamp;

/// Octets of the state as the daemon writes it, after so many days, and of its largest parts.
fn size(policy: cascade_keys::KeyPolicy, days: u64) -> (usize, String) {
    let config = Config {
        lines: false,
        ..Config::default()
    };
    let mut w = World::new(policy, config);
    w.run(days * DAY);
    assert_eq!(w.broken, None);
    let mut zone = w.zone.clone();
    for k in &mut zone.keys {
        // As long as those of algorithm 13 (RFC 6605 §4).
        k.public_key.resize(64, 7);
    }
    let whole = serde_json::to_value(&zone).expect("plain data");
    let octets = |v: &serde_json::Value| v.to_string().len() + FRACTION * times(v);
    let parts = whole.as_object().into_iter().flatten();
    let mut parts: Vec<(usize, &String)> = parts.map(|(k, v)| (octets(v), k)).collect();
    parts.sort_unstable();
    let parts = parts.iter().rev().take(4);
    let told: Vec<String> = parts.map(|(n, k)| format!("{k} {n}")).collect();
    (octets(&whole), told.join(", "))
}

/// Octets that a time takes more outside of the simulator, whose seconds are whole.
const FRACTION: usize = 3;

fn times(value: &serde_json::Value) -> usize {
    match value {
        serde_json::Value::Number(n) => usize::from(n.as_i64() >= Some(1_000_000_000)),
        serde_json::Value::Array(list) => list.iter().map(times).sum(),
        serde_json::Value::Object(map) => map.values().map(times).sum(),
        _ => 0,
    }
}

/// 2 KiB for a zone at rest: very many of them are kept. Old keys and TTLs are forgotten after a
/// while, so that the state of a zone that rolls every month does not grow for ever.
#[test]
fn the_state_of_a_zone_is_bounded() {
    let quiet = size(quiet_policy(), 100);
    let (one, five) = (size(default_policy(), 400), size(default_policy(), 5 * 365));
    println!("at rest {quiet:?}, after a year of rolls {one:?}, after five {five:?}");
    assert!(quiet.0 <= 2 * 1024, "{quiet:?}");
    assert!(
        one.0 <= 10 * 1024 && five.0 <= 10 * 1024,
        "{one:?} {five:?}"
    );
}

/// Rows of the form that releases before had: a zone at rest, and one that has rolled for a year.
#[test]
fn rows_of_the_first_form_are_read_and_take_less_from_then_on() {
    let rows: Vec<&str> = include_str!("rows/keys-form-1.jsonl").lines().collect();
    let read = |text: &str| serde_json::from_str::<ZoneKeys>(text).expect("a row of keys");
    let time = |text| Timestamp::parse_rfc3339(text).expect("a time");
    let zone = read(rows[0]);
    assert_eq!(zone.schema, ZoneKeys::SCHEMA);
    assert_eq!((zone.keys.len(), zone.log.entries.len()), (2, 8));
    assert_eq!(zone.keys[0].public_key[..3], [0xb1, 0xd9, 0x6e]);
    let times = &zone.keys[0].times;
    assert_eq!(times.seen_at, Some(time("2027-01-15T08:10:00Z")));
    assert_eq!(times.retired_at, None);
    assert_eq!(zone.parent.wanted, [KeyNum(1)]);
    assert_eq!(zone.published.as_ref().map(|p| p.data_serial), Some(3));
    let look = zone.look(What::Ds).expect("a look");
    assert_eq!((look.members.len(), look.ds[0].ttl), (2, 86_400));
    assert_eq!(look.members[1].address, "192.0.2.1");
    assert_eq!(zone.settled_at, Some(time("2027-01-16T09:10:01Z")));
    for row in rows {
        let zone = read(row);
        let text = serde_json::to_string(&zone).expect("plain data");
        assert_eq!(read(&text), zone);
        assert!(
            text.len() * 2 < row.len(),
            "{} of {}",
            text.len(),
            row.len()
        );
    }
    let newer = rows_with_schema(3);
    let error = serde_json::from_str::<ZoneKeys>(&newer).expect_err("a later form");
    assert!(error.to_string().contains("form 3"), "{error}");
}

fn rows_with_schema(schema: u16) -> String {
    let row = include_str!("rows/keys-form-1.jsonl").lines().next();
    let row = row.expect("a row");
    row.replacen("\"schema\":1", &format!("\"schema\":{schema}"), 1)
}

/// What looks leave out because it is as before comes back, whatever comes before it.
#[test]
fn looks_come_back_as_they_were() {
    let at = |secs: i64| Timestamp::from_nanos(secs * 1_000_000_000 + secs % 3);
    let mut rng = cascade_sim::Rng::stream(1, "looks");
    let mut draw = |n: u64| rng.draw() % n;
    let verdicts = [Verdict::Match, Verdict::Mismatch, Verdict::NoAnswer];
    for _ in 0..500 {
        let mut zone = ZoneKeys::new(b"\x07example\x00");
        for what in What::ALL {
            let (started, ended) = (at(1_800_000_000), at(1_800_000_007));
            let mut member = |_| MemberReport {
                server: format!("ns{}.example", draw(2)),
                address: format!("192.0.2.{}", draw(3)),
                nsid: (draw(3) == 0).then(|| "a".to_string()),
                verdict: verdicts[draw(3) as usize],
                found: ["", "serial 1", "serial 2"][draw(3) as usize].to_string(),
                ttl: [None, Some(0), Some(60)][draw(3) as usize],
                first_asked: [started, at(1_790_000_001), at(5)][draw(3) as usize],
                last_answer: [None, Some(ended), Some(at(1_790_000_002))][draw(3) as usize],
                flipped_at: (draw(4) == 0).then_some(ended),
            };
            let members = (0..4).map(&mut member).collect();
            let passed = [None, Some(0), Some(9)][draw(3) as usize];
            zone.looks.push(SweepReport {
                what,
                started,
                ended,
                members,
                passed,
                covered: passed,
                seen: vec![(Class::Zsk, Seen::RrsigNew, passed.is_some())],
                ds: Vec::new(),
                delegation: None,
            });
        }
        let text = serde_json::to_string(&zone).expect("plain data");
        let back: ZoneKeys = serde_json::from_str(&text).expect(&text);
        assert_eq!(back, zone, "{text}");
    }
}

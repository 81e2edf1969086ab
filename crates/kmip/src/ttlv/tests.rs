use super::*;
use crate::tags;

fn limits() -> Limits {
    Limits::new(1 << 16)
}

/// KMIP 1.4 §9.1.2: the specification's own examples, all with tag 0x420020.
#[test]
fn examples_of_the_specification() {
    let tag = Tag(0x420020);
    let mut w = Writer::new();
    w.integer(tag, 8);
    w.long(tag, 123_456_789_000_000_000);
    w.big_unsigned(
        tag,
        &[
            0x03, 0xFD, 0x35, 0xEB, 0x6B, 0xC2, 0xDF, 0x46, 0x18, 0x08, 0, 0,
        ],
    );
    w.enumeration(tag, crate::enums::Operation::Other(255));
    w.boolean(tag, true);
    w.text(tag, "Hello World");
    w.octets(tag, &[1, 2, 3]);
    w.date_time(tag, 0x47DA_67F8);
    w.structure(tag, |w| {
        w.enumeration(Tag(0x420004), crate::enums::Operation::Other(254));
        w.integer(Tag(0x420005), 255);
    });
    let expected = concat!(
        "4200200200000004",
        "0000000800000000",
        "4200200300000008",
        "01B69B4BA5749200",
        "4200200400000010",
        "0000000003FD35EB6BC2DF4618080000",
        "4200200500000004",
        "000000FF00000000",
        "4200200600000008",
        "0000000000000001",
        "420020070000000B",
        "48656C6C6F20576F726C640000000000",
        "4200200800000003",
        "0102030000000000",
        "4200200900000008",
        "0000000047DA67F8",
        "4200200100000020",
        "4200040500000004000000FE00000000",
        "4200050200000004000000FF00000000",
    );
    let found: String = w.finish().iter().map(|o| format!("{o:02X}")).collect();
    assert_eq!(found, expected);
}

fn message(fill: impl FnOnce(&mut Writer)) -> Vec<u8> {
    let mut w = Writer::new();
    w.structure(tags::REQUEST_MESSAGE, fill);
    w.finish()
}

#[test]
fn what_is_written_is_read() {
    let octets = message(|w| {
        w.integer(tags::BATCH_COUNT, -5);
        w.text(tags::USERNAME, "zoë");
        w.octets(tags::DATA, &[9; 13]);
        w.boolean(tags::BATCH_ORDER_OPTION, false);
        w.date_time(tags::TIME_STAMP, -1);
        w.structure(tags::CREDENTIAL, |_| {});
    });
    let mut f = check(&octets, limits())
        .expect("good")
        .fields()
        .expect("structure");
    assert_eq!(f.req(tags::BATCH_COUNT).and_then(|i| i.integer()), Ok(-5));
    assert_eq!(f.opt_text(tags::USERNAME), Ok(Some("zoë")));
    assert_eq!(f.opt_text(tags::PASSWORD), Ok(None));
    assert_eq!(f.opt_octets(tags::DATA), Ok(Some(vec![9; 13])));
    assert_eq!(f.opt_boolean(tags::BATCH_ORDER_OPTION), Ok(Some(false)));
    assert_eq!(f.opt_date_time(tags::TIME_STAMP), Ok(Some(-1)));
    assert!(f.clone().finish().is_err());
    assert!(f.clone().lenient().finish().is_ok());
    assert!(f.req_fields(tags::CREDENTIAL).is_ok());
    assert!(f.finish().is_ok());
}

#[test]
fn each_fault_is_named() {
    let fault = |octets: &[u8]| check(octets, limits()).expect_err("bad").fault;
    let good = message(|w| w.text(tags::USERNAME, "abc"));
    assert_eq!(fault(&good[..good.len() - 1]), Fault::Truncated);
    assert_eq!(fault(&[]), Fault::Truncated);
    let changed = |at: usize, octet: u8| {
        let mut m = good.clone();
        m[at] = octet;
        m
    };
    assert!(matches!(fault(&changed(8, 0x41)), Fault::BadTag(_)));
    assert!(matches!(fault(&changed(11, 0)), Fault::BadType(0, _)));
    assert!(matches!(fault(&changed(11, 11)), Fault::BadType(11, _)));
    assert!(matches!(
        fault(&changed(11, 2)),
        Fault::BadLength { len: 3, .. }
    ));
    assert!(matches!(fault(&changed(15, 200)), Fault::Truncated));
    assert!(matches!(fault(&changed(12, 0xFF)), Fault::Truncated));
    assert!(matches!(fault(&changed(16, 0xFF)), Fault::BadText(_)));
    assert!(matches!(fault(&changed(23, 1)), Fault::BadPadding(_)));
    let mut trailing = good.clone();
    trailing.extend_from_slice(&good);
    assert_eq!(fault(&trailing), Fault::Trailing);
    let boolean = message(|w| {
        w.raw(
            tags::BATCH_ORDER_OPTION,
            Kind::Boolean,
            &[0, 0, 0, 0, 0, 0, 0, 2],
        )
    });
    assert!(matches!(fault(&boolean), Fault::BadBoolean(_)));
    let small = Limits::new(good.len() - 1);
    assert!(matches!(
        check(&good, small).expect_err("large").fault,
        Fault::TooLarge(..)
    ));
}

#[test]
fn depth_and_number_are_bounded() {
    fn nest(w: &mut Writer, depth: usize) {
        if depth > 0 {
            w.structure(tags::CREDENTIAL, |w| nest(w, depth - 1));
        }
    }
    let deep = |depth| message(|w| nest(w, depth));
    assert!(check(&deep(15), limits()).is_ok());
    assert_eq!(
        check(&deep(16), limits()).expect_err("deep").fault,
        Fault::TooDeep(16)
    );
    assert!(check(&deep(5000), limits()).is_err());
    let wide = message(|w| (0..100).for_each(|_| w.integer(tags::BATCH_COUNT, 0)));
    let few = Limits {
        max_items: 100,
        ..limits()
    };
    assert_eq!(
        check(&wide, few).expect_err("wide").fault,
        Fault::TooMany(100)
    );
    let enough = Limits {
        max_items: 101,
        ..limits()
    };
    assert!(check(&wide, enough).is_ok());
}

#[test]
fn frames() {
    let one = message(|w| w.integer(tags::BATCH_COUNT, 1));
    let two = message(|w| w.text(tags::USERNAME, "two"));
    let stream: Vec<u8> = one.iter().chain(&two).copied().collect();
    for step in [1, 3, 7, 8, 24, stream.len()] {
        let mut framer = Framer::new(tags::REQUEST_MESSAGE, 1000);
        let mut found = Vec::new();
        for part in stream.chunks(step) {
            framer.push(part);
            while let Some(m) = framer.next_message().expect("KMIP") {
                found.push(m.to_vec());
            }
        }
        assert_eq!(found, [one.clone(), two.clone()]);
        assert_eq!(framer.pending(), 0);
    }
    let mut framer = Framer::new(tags::REQUEST_MESSAGE, 20);
    framer.push(&one[..8]);
    assert_eq!(framer.next_message(), Err(FrameError::TooLarge(24, 20)));
    let mut framer = Framer::new(tags::REQUEST_MESSAGE, 20);
    framer.push(b"GET / HTTP/1.1\r\n");
    assert!(matches!(
        framer.next_message(),
        Err(FrameError::NotKmip(..))
    ));
}

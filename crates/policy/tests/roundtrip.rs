//! Whatever a policy or configuration says, its printed effective values say the same.

use cascade_policy::*;
use proptest::prelude::*;

/// Values for a key by its type, as an operator might write them; some are not allowed.
fn values(key: &KeyDoc) -> BoxedStrategy<String> {
    let t = key.type_text.as_str();
    let span = prop_oneof![
        (0u64..10_000_000).prop_map(|n| n.to_string()),
        (
            1u64..500,
            prop::sample::select(vec!["s", "m", "h", "d", "w"])
        )
            .prop_map(|(n, u)| format!("\"{n}{u}\"")),
        (1u64..50, 1u64..24).prop_map(|(d, h)| format!("\"{d}d{h}h\"")),
    ];
    let name = "[a-z][a-z0-9.-]{0,12}";
    let key_part = prop_oneof![Just(String::new()), name.prop_map(|k| format!("^{k}"))];
    let ip = prop_oneof![
        any::<u32>().prop_map(|n| std::net::Ipv4Addr::from(n).to_string()),
        any::<u128>().prop_map(|n| std::net::Ipv6Addr::from(n).to_string()),
    ];
    let quoted = "[ -~äß\\t]{0,20}".prop_map(|s| {
        format!(
            "\"{}\"",
            s.replace('\\', "\\\\")
                .replace('"', "\\\"")
                .replace('\t', "\\t")
        )
    });
    let path = "/[a-z/{}]{0,20}".prop_map(|s| format!("\"{s}\""));
    if t.starts_with("duration") {
        let word = t.split('"').nth(1).map(|w| format!("\"{w}\""));
        return prop_oneof![span, Just(word.unwrap_or("5".into()))].boxed();
    }
    if t.starts_with('"') {
        let words: Vec<String> = t
            .split('"')
            .skip(1)
            .step_by(2)
            .map(|w| format!("\"{w}\""))
            .collect();
        return prop::sample::select(words).boxed();
    }
    match t {
        "true or false" => any::<bool>().prop_map(|b| b.to_string()).boxed(),
        "integer" => prop_oneof![0u64..20, 0u64..5000]
            .prop_map(|n| n.to_string())
            .boxed(),
        "size in octets" => prop_oneof![
            (0u64..1 << 40).prop_map(|n| n.to_string()),
            (1u64..2000).prop_map(|n| format!("\"{n}KiB\"")),
            (1u64..9).prop_map(|n| format!("\"{n}GiB\"")),
        ]
        .boxed(),
        "string" => quoted.boxed(),
        "list of: string" => prop::collection::vec(quoted, 0..3)
            .prop_map(|v| format!("[{}]", v.join(", ")))
            .boxed(),
        "absolute path" => path.boxed(),
        "mode in octal" => (0u32..0o1000).prop_map(|m| format!("\"{m:o}\"")).boxed(),
        "user[:group]" => "[a-z]{1,5}(:[a-z]{1,5})?"
            .prop_map(|s| format!("\"{s}\""))
            .boxed(),
        "hexadecimal digits, or \"\"" => "([0-9a-fA-F]{2}){0,6}"
            .prop_map(|s| format!("\"{s}\""))
            .boxed(),
        "two key tags with a hyphen between" => (any::<u16>(), any::<u16>())
            .prop_map(|(a, b)| format!("\"{a}-{b}\""))
            .boxed(),
        "command, as a string or a list of words" => prop_oneof![
            quoted.clone(),
            prop::collection::vec(quoted, 1..3).prop_map(|v| format!("[{}]", v.join(", "))),
        ]
        .boxed(),
        t if t.starts_with("table of warn, hold") => {
            ((0u32..3000), (0u32..3000), prop::option::of(0u64..70_000))
                .prop_map(|(a, b, floor)| {
                    let (a, b) = (a.min(b), a.max(b));
                    let floor = floor.map(|f| format!(", floor = {f}")).unwrap_or_default();
                    format!(
                        "{{ warn = \"{}.{:02}%\", hold = \"{}%\"{floor} }}",
                        a / 100,
                        a % 100,
                        b / 100 + 1
                    )
                })
                .boxed()
        }
        t if t.starts_with("list of: address, prefix") => {
            let entry = (any::<bool>(), ip, prop::option::of(0u8..33), key_part).prop_map(
                |(not, ip, len, key)| {
                    let not = if not { "!" } else { "" };
                    let len = len.map(|l| format!("/{l}")).unwrap_or_default();
                    format!("\"{not}{ip}{len}{key}\"")
                },
            );
            prop::collection::vec(entry, 0..4)
                .prop_map(|v| format!("[{}]", v.join(", ")))
                .boxed()
        }
        t if t.starts_with("list of: address, with port and TSIG") => {
            let entry =
                (any::<u32>(), prop::option::of(1u16..), key_part).prop_map(|(ip, port, key)| {
                    let ip = std::net::Ipv4Addr::from(ip);
                    let port = port.map(|p| format!(":{p}")).unwrap_or_default();
                    format!("\"{ip}{port}{key}\"")
                });
            prop::collection::vec(entry, 0..4)
                .prop_map(|v| format!("[{}]", v.join(", ")))
                .boxed()
        }
        "list of: address with port" => {
            let entry = (
                prop::sample::select(vec!["", "udp://", "tcp://"]),
                any::<u32>(),
                1u16..,
            )
                .prop_map(|(t, ip, port)| {
                    format!("\"{t}127.{}:{port}\"", {
                        let [_, b, c, d] = ip.to_be_bytes();
                        format!("{b}.{c}.{d}")
                    })
                });
            prop::collection::vec(entry, 1..4)
                .prop_map(|v| format!("[{}]", v.join(", ")))
                .boxed()
        }
        t if t.starts_with("RSASHA256") => prop::sample::select(vec![
            "\"rsasha256\"",
            "\"RSASHA512:3072\"",
            "\"ecdsap384sha384\"",
            "\"ED25519\"",
            "\"ED448\"",
        ])
        .prop_map(str::to_string)
        .boxed(),
        t if t.starts_with("table of check") => prop::sample::select(vec![
            "{ ttl-mismatch = \"off\", Z123 = \"warn\" }",
            "{ singleton = \"error\", serial-backward = \"note\" }",
            "{ Z102 = \"error\", apex-ns = \"warn\" }",
        ])
        .prop_map(str::to_string)
        .boxed(),
        _ => {
            let text = key.default.unwrap_or(key.example).to_string();
            Just(text).boxed()
        }
    }
}

/// A file that sets some of the keys.
fn file(keys: Vec<KeyDoc>) -> impl Strategy<Value = String> {
    let lines: Vec<BoxedStrategy<Option<String>>> = keys
        .into_iter()
        .filter(|k| k.key != "version")
        .map(|k| {
            let value = values(&k);
            prop::option::weighted(0.15, value.prop_map(move |v| format!("{} = {v}", k.key)))
                .boxed()
        })
        .collect();
    lines.prop_map(|lines| {
        let lines: Vec<String> = lines.into_iter().flatten().collect();
        format!("version = \"v1\"\n{}\n", lines.join("\n"))
    })
}

/// Takes lines with errors out until the file is accepted.
fn accepted<T>(text: &str, parse: impl Fn(&str) -> Result<T, Vec<Diagnostic>>) -> Option<T> {
    let mut lines: Vec<&str> = text.lines().collect();
    for _ in 0..20 {
        match parse(&lines.join("\n")) {
            Ok(file) => return Some(file),
            Err(found) => {
                let bad: Vec<usize> = found
                    .iter()
                    .filter(|d| d.is_error())
                    .filter_map(|d| Some(d.line? as usize - 1))
                    .collect();
                let mut at = 0;
                lines.retain(|_| {
                    at += 1;
                    !bad.contains(&(at - 1))
                });
            }
        }
    }
    None
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn policies(text in file(reference_policy())) {
        let read = accepted(&text, |t| parse_policy("p", "p.toml", t.as_bytes()));
        let read = read.expect("the rest is accepted");
        for (settings, marks) in
            [(effective_policy(&read.policy), false), (read.effective(), true)]
        {
            let printed = print_effective(&settings, marks);
            let again = parse_policy("p", "p.toml", printed.as_bytes());
            let again = again.map_err(|e| TestCaseError::fail(e[0].snippet(&printed, false)))?;
            prop_assert_eq!(&again.policy, &read.policy);
        }
        // Lints never panic, whatever the values.
        let context = LintContext { published_beyond_loopback: true, hsms: Some(&[]), ..Default::default() };
        let _ = read.lint(&context);
        prop_assert!(effects(&read.policy, &read.policy).is_empty());
        let _ = effects(&Policy::default(), &read.policy);
    }

    #[test]
    fn configurations(text in file(reference_config())) {
        let read = accepted(&text, |t| parse_config("c", t.as_bytes()));
        let read = read.expect("the rest is accepted");
        let printed = print_effective(&effective_config(&read.config), false);
        // A printed file sets every address, so that none yields any more.
        let again = parse_config("c", printed.as_bytes());
        let again = again.map_err(|e| TestCaseError::fail(e[0].snippet(&printed, false)))?;
        prop_assert_eq!(&again.config, &read.config);
    }

    #[test]
    fn no_text_breaks_the_reader(text in "[\\[\\]{}a-z=\"'.#\\-0-9\\n ,äx\\\\]{0,200}") {
        for found in [
            parse_policy("p", "p.toml", text.as_bytes()).err(),
            parse_config("c", text.as_bytes()).err(),
        ]
        .into_iter()
        .flatten()
        {
            for d in found {
                let _ = d.one_line();
                let _ = d.snippet(&text, false);
            }
        }
    }

    #[test]
    fn damaged_templates(cut in 0usize..20_000, with in "[\\[\\]{}=\"'.\\n]{0,3}") {
        let mut text = template_policy();
        let cut = cut.min(text.len());
        if text.is_char_boundary(cut) {
            text.insert_str(cut, &with);
            if let Err(found) = parse_policy("p", "p.toml", text.as_bytes()) {
                prop_assert!(found.iter().any(Diagnostic::is_error));
                let _ = found[0].snippet(&text, true);
            }
        }
    }
}

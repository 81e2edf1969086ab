//! The text of key file pairs as BIND and ldns write them.
//!
//! `.key` holds the DNSKEY record in presentation form, `.private` the private numbers as
//! `Field: base64` lines after `Private-key-format: v1.2` or `v1.3`.

use std::fmt::Write as _;
use std::path::Path;

use cascade_time::Timestamp;
use cascade_zone::Name;
use data_encoding::BASE64;
use zeroize::Zeroizing;

use crate::algorithm::Algorithm;
use crate::dnskey::{Dnskey, Role};
use crate::error::KeyError;
use crate::software::{PrivateParts, Secret};

/// Reads a `.key` file: the owner name and the DNSKEY. Comments, blank lines, TTL, class and
/// parentheses over several lines are allowed.
pub(crate) fn parse_public(path: &Path, text: &str) -> Result<(Name, Dnskey), KeyError> {
    let err = |line, what| KeyError::Syntax {
        path: path.to_owned(),
        line,
        what,
    };
    let mut words: Vec<&str> = Vec::new();
    let (mut line_no, mut depth) = (0, 0i32);
    for (i, line) in text.lines().enumerate() {
        let line = line.split(';').next().unwrap_or_default();
        if line.trim().is_empty() {
            continue;
        }
        if !words.is_empty() && depth == 0 {
            return Err(err(i + 1, "a second record; a key file holds one DNSKEY"));
        }
        if words.is_empty() {
            line_no = i + 1;
        }
        for word in line
            .split_inclusive(['(', ')'])
            .flat_map(|w| w.split_whitespace())
        {
            depth += word.matches('(').count() as i32 - word.matches(')').count() as i32;
            let word = word.trim_matches(['(', ')']);
            if !word.is_empty() {
                words.push(word);
            }
        }
    }
    let at = |what| err(line_no, what);
    let mut words = words.into_iter();
    let owner = words.next().ok_or(KeyError::Missing {
        path: path.to_owned(),
        field: "DNSKEY",
    })?;
    let owner = Name::parse(owner).map_err(|_| at("the owner is no domain name"))?;
    let mut next = |what| words.next().ok_or(at(what));
    let mut word = next("the record ends before its type")?;
    while !word.eq_ignore_ascii_case("DNSKEY") {
        let is_ttl = word.bytes().all(|b| b.is_ascii_digit());
        if !is_ttl && !word.eq_ignore_ascii_case("IN") {
            return Err(at("expected TTL, IN or DNSKEY"));
        }
        word = next("the record ends before its type")?;
    }
    let flags: u16 = next("flags are missing")?
        .parse()
        .map_err(|_| at("flags are no number"))?;
    let protocol = next("the protocol is missing")?;
    let number = next("the algorithm is missing")?;
    let algorithm: u8 = match number.parse::<u8>() {
        Ok(n) => n,
        Err(_) => number
            .parse::<Algorithm>()
            .map_err(|_| at("unknown algorithm"))?
            .number(),
    };
    let key = BASE64
        .decode(words.collect::<String>().as_bytes())
        .map_err(|_| at("the public key is no base64"))?;
    let protocol: u8 = protocol
        .parse()
        .map_err(|_| at("the protocol is no number"))?;
    let mut rdata = flags.to_be_bytes().to_vec();
    rdata.extend_from_slice(&[protocol, algorithm]);
    rdata.extend_from_slice(&key);
    let dnskey = Dnskey::from_rdata(&rdata).map_err(|_| at("the DNSKEY is not well formed"))?;
    Ok((owner, dnskey))
}

/// A parsed `.private` file.
pub(crate) struct PrivateFile {
    pub algorithm: u8,
    pub parts: PrivateParts,
}

const RSA_FIELDS: [&str; 8] = [
    "Modulus",
    "PublicExponent",
    "PrivateExponent",
    "Prime1",
    "Prime2",
    "Exponent1",
    "Exponent2",
    "Coefficient",
];

/// Reads a `.private` file of format v1.2 or v1.3; unknown fields, times among them, are skipped.
pub(crate) fn parse_private(path: &Path, text: &str) -> Result<PrivateFile, KeyError> {
    let err = |line, what| KeyError::Syntax {
        path: path.to_owned(),
        line,
        what,
    };
    let missing = |field| KeyError::Missing {
        path: path.to_owned(),
        field,
    };
    let mut algorithm = None;
    let mut format = false;
    let mut rsa: [Option<Secret>; 8] = [const { None }; 8];
    let mut raw: Option<Secret> = None;
    for (i, line) in text.lines().enumerate() {
        let line = line.trim();
        if line.is_empty() || line.starts_with([';', '#']) {
            continue;
        }
        let (field, value) = line
            .split_once(':')
            .ok_or(err(i + 1, "expected 'field: value'"))?;
        let (field, value) = (field.trim(), value.trim());
        let decode = || match BASE64.decode(value.as_bytes()) {
            Ok(v) => Ok(Some(Zeroizing::new(v))),
            Err(_) => Err(err(i + 1, "the value is no base64")),
        };
        if field.eq_ignore_ascii_case("Private-key-format") {
            if !matches!(value, "v1.2" | "v1.3") {
                return Err(err(i + 1, "unknown format; v1.2 and v1.3 can be read"));
            }
            format = true;
        } else if field.eq_ignore_ascii_case("Algorithm") {
            let number = value.split([' ', '(']).next().unwrap_or_default();
            algorithm = Some(
                number
                    .parse::<u8>()
                    .map_err(|_| err(i + 1, "the algorithm is no number"))?,
            );
        } else if field.eq_ignore_ascii_case("PrivateKey") {
            raw = decode()?;
        } else if field.eq_ignore_ascii_case("Engine") || field.eq_ignore_ascii_case("Label") {
            return Err(err(
                i + 1,
                "the private key is on a token; import it from there",
            ));
        } else if let Some(n) = RSA_FIELDS
            .iter()
            .position(|f| f.eq_ignore_ascii_case(field))
        {
            rsa[n] = decode()?;
        }
    }
    if !format {
        return Err(missing("Private-key-format"));
    }
    let algorithm = algorithm.ok_or_else(|| missing("Algorithm"))?;
    let known = Algorithm::from_number(algorithm).ok_or(KeyError::Unsupported(algorithm))?;
    let parts = if known.is_rsa() {
        let mut numbers: [Secret; 8] = Default::default();
        for ((number, found), field) in numbers.iter_mut().zip(rsa).zip(RSA_FIELDS) {
            *number = found.ok_or_else(|| missing(field))?;
        }
        PrivateParts::Rsa(numbers)
    } else {
        PrivateParts::Raw(raw.ok_or_else(|| missing("PrivateKey"))?)
    };
    Ok(PrivateFile { algorithm, parts })
}

/// The text of a `.key` file: one comment line and the record.
pub(crate) fn public_text(zone: &Name, key: &Dnskey, role: Option<Role>, now: Timestamp) -> String {
    let mut text = String::new();
    let role = role.map_or("key", Role::word);
    let _ = writeln!(
        text,
        "; zone {zone} {role}, key tag {}, created {}",
        key.key_tag(),
        now.to_dns()
    );
    let _ = writeln!(
        text,
        "{zone} IN DNSKEY {} 3 {} {}",
        key.flags(),
        key.algorithm_number(),
        BASE64.encode(key.public_key())
    );
    text
}

/// The text of a `.private` file, format v1.3.
pub(crate) fn private_text(
    algorithm: Algorithm,
    parts: &PrivateParts,
    now: Timestamp,
) -> Zeroizing<String> {
    let mut fields: Vec<(&str, &Secret)> = Vec::with_capacity(8);
    match parts {
        PrivateParts::Rsa(numbers) => fields.extend(RSA_FIELDS.into_iter().zip(numbers)),
        PrivateParts::Raw(secret) => fields.push(("PrivateKey", secret)),
    }
    // Room for all of it at once, so that no grown-out copy stays behind in freed memory.
    let room: usize = fields
        .iter()
        .map(|(f, v)| f.len() + 4 + BASE64.encode_len(v.len()))
        .sum();
    let mut text = Zeroizing::new(String::with_capacity(room + 256));
    text.push_str("Private-key-format: v1.3\nAlgorithm: ");
    text.push_str(&algorithm.number().to_string());
    let _ = writeln!(text, " ({algorithm})");
    for (field, value) in fields {
        text.push_str(field);
        text.push_str(": ");
        BASE64.encode_append(value, &mut text);
        text.push('\n');
    }
    for field in ["Created", "Publish", "Activate"] {
        let _ = writeln!(text, "{field}: {}", now.to_dns());
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    const PUBLIC: &str = "example.net. 3600 IN DNSKEY 257 3 15 (\n  l02Woi0iS8Aa25FQkUd9RMzZHJpB ; x\n oRQwAQEX1SxZJA4= )\n";

    #[test]
    fn public_forms() {
        let p = Path::new("x.key");
        let (owner, key) = parse_public(p, PUBLIC).unwrap();
        assert_eq!(
            (owner.to_string().as_str(), key.key_tag()),
            ("example.net.", 3613)
        );
        let named = PUBLIC.replace("3 15", "3 ED25519").replace("3600 IN", "");
        assert_eq!(parse_public(p, &named).unwrap().1, key);
        for bad in [
            "",
            "; only\n",
            "example.net.",
            "example.net. IN A 1.2.3.4",
            "a..b IN DNSKEY 257 3 15 AA==",
            "example.net. IN DNSKEY 257 3 15 AA==",
            "example.net. IN DNSKEY 257 3 15 ***",
            "example.net. IN DNSKEY 70000 3 15 AA==",
            "example.net. IN DNSKEY 257 3",
            "example.net. IN DNSKEY 257 2 15 l02Woi0iS8Aa25FQkUd9RMzZHJpBoRQwAQEX1SxZJA4=",
        ] {
            assert!(parse_public(p, bad).is_err(), "{bad}");
        }
        assert!(parse_public(p, &format!("{PUBLIC}{PUBLIC}")).is_err());
    }

    #[test]
    fn private_errors_do_not_show_values() {
        let p = Path::new("x.private");
        let secret = "ODIyNjAzODQ2MjgwODAxMjI2NDUxOTAyMDQxNDIyNjI";
        for bad in [
            format!("Algorithm: 15\nPrivateKey: {secret}=\n"),
            format!("Private-key-format: v2\nAlgorithm: 15\nPrivateKey: {secret}=\n"),
            format!("Private-key-format: v1.2\nAlgorithm: 15\nPrivateKey: {secret}\n"),
            format!("Private-key-format: v1.2\nAlgorithm: 5\nPrivateKey: {secret}=\n"),
            format!("Private-key-format: v1.2\nPrivateKey: {secret}=\n"),
            format!("Private-key-format: v1.2\nAlgorithm: 8\nModulus: {secret}=\n"),
            format!("Private-key-format: v1.2\n{secret}\n"),
        ] {
            match parse_private(p, &bad) {
                Ok(_) => panic!("accepted: {bad}"),
                Err(e) => assert!(!format!("{e} {e:?}").contains(&secret[..8]), "{e:?}"),
            }
        }
    }
}

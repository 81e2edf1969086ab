//! Names in paths and queries: presentation form, lower case, no final dot,
//! percent-encoded; `@` is the root zone.

use std::fmt::Write;

/// Percent-encodes everything but the unreserved characters (RFC 3986 §2.3).
pub fn encode(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for b in text.bytes() {
        if b.is_ascii_alphanumeric() || b"-._~".contains(&b) {
            out.push(char::from(b));
        } else {
            // Writing to a String cannot fail.
            let _ = write!(out, "%{b:02X}");
        }
    }
    out
}

/// Undoes [`encode`]; `None` for a bad escape or octets that are not UTF-8.
pub fn decode(text: &str) -> Option<String> {
    let mut out = Vec::with_capacity(text.len());
    let mut bytes = text.bytes();
    while let Some(b) = bytes.next() {
        if b != b'%' {
            out.push(b);
            continue;
        }
        let (hi, lo) = (char::from(bytes.next()?), char::from(bytes.next()?));
        out.push((hi.to_digit(16)? * 16 + lo.to_digit(16)?) as u8);
    }
    String::from_utf8(out).ok()
}

/// The path segment of a zone name or `id:<id>`, encoded.
pub fn zone_segment(zone: &str) -> String {
    match zone_name(zone).as_str() {
        "." => "@".to_string(),
        // A name that is one label `@` would be taken for the root.
        "@" => encode("\\064"),
        // Ids are upper case and have no dots.
        name => encode(name),
    }
}

/// The zone name as people see it: lower case, no final dot, `.` for the root. `id:…` stays.
pub fn zone_name(zone: &str) -> String {
    if zone.starts_with("id:") || zone == "." {
        return zone.to_string();
    }
    let lower = zone.to_ascii_lowercase();
    match lower.strip_suffix('.') {
        // The dot is escaped if an odd number of backslashes precedes it.
        Some(rest) if rest.bytes().rev().take_while(|b| *b == b'\\').count() % 2 == 0 => {
            rest.to_string()
        }
        _ => lower,
    }
}

/// The name that a decoded path segment stands for.
pub fn zone_of_segment(segment: &str) -> String {
    if segment == "@" {
        ".".to_string()
    } else {
        zone_name(segment)
    }
}

/// `?a=b&c=d` of the members that are set; empty when none is.
#[derive(Debug, Clone, Default)]
pub struct Query(String);

impl Query {
    pub fn new() -> Self {
        Query::default()
    }

    pub fn set(mut self, name: &str, value: Option<impl AsRef<str>>) -> Self {
        if let Some(value) = value {
            self.0.push(if self.0.is_empty() { '?' } else { '&' });
            self.0.push_str(name);
            self.0.push('=');
            self.0.push_str(&encode(value.as_ref()));
        }
        self
    }

    /// Only `true` is written: `false` is every flag's default.
    pub fn flag(self, name: &str, value: bool) -> Self {
        self.set(name, value.then_some("true"))
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn names_of_every_kind() {
        for (zone, segment) in [
            ("example.net", "example.net"),
            ("Example.NET.", "example.net"),
            (".", "@"),
            ("0/25.2.0.192.in-addr.arpa", "0%2F25.2.0.192.in-addr.arpa"),
            ("a%b.example", "a%25b.example"),
            ("what?.example", "what%3F.example"),
            ("a\\046b.example", "a%5C046b.example"),
            ("a\\.", "a%5C."),
            ("a\\\\.", "a%5C%5C"),
            ("@", "%5C064"),
            ("id:01JD8Z3V", "id%3A01JD8Z3V"),
        ] {
            assert_eq!(zone_segment(zone), segment, "{zone}");
        }
        assert_eq!(zone_of_segment("@"), ".");
        assert_eq!(zone_of_segment("Example.net."), "example.net");
    }

    #[test]
    fn queries() {
        let q = Query::new()
            .set("policy", Some("a b"))
            .set("state", None::<&str>)
            .flag("halted", true);
        assert_eq!(q.as_str(), "?policy=a%20b&halted=true");
        assert_eq!(Query::new().flag("x", false).as_str(), "");
    }

    #[test]
    fn bad_escapes() {
        for text in ["%", "%4", "%zz", "%ff"] {
            assert_eq!(decode(text), None, "{text}");
        }
    }

    proptest! {
        #[test]
        fn encoded_then_decoded(text in "\\PC*") {
            let e = encode(&text);
            prop_assert!(e.bytes().all(|b| b.is_ascii_graphic() && b != b'/' && b != b'?' && b != b'#'));
            prop_assert_eq!(decode(&e), Some(text));
        }
    }
}

//! References to keys in an HSM: `kmip://<hsm>/keys/<id>?algorithm=13&flags=257`.

use std::fmt;
use std::fmt::Write as _;

use cascade_crypto::Dnskey;

/// Longest identifier of an object that is taken from a server.
const ID_MAX: usize = 256;
const PUBLIC: &str = "_pub";
const PRIVATE: &str = "_priv";

/// Where a key pair is, as its server names it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reference {
    pub hsm: String,
    pub public: String,
    pub private: String,
    pub algorithm: u8,
    pub flags: u16,
}

impl Reference {
    /// `None` if an identifier is longer than any server's should be.
    pub fn new(hsm: &str, public: &str, private: &str, dnskey: &Dnskey) -> Option<Reference> {
        let good = [public, private]
            .iter()
            .all(|id| (1..=ID_MAX).contains(&id.len()));
        good.then(|| Reference {
            hsm: hsm.to_string(),
            public: public.to_string(),
            private: private.to_string(),
            algorithm: dnskey.algorithm_number(),
            flags: dnskey.flags(),
        })
    }

    /// Strict: whatever [`fmt::Display`] writes, and nothing else.
    pub fn parse(text: &str) -> Option<Reference> {
        let rest = text.strip_prefix("kmip://")?;
        let (hsm, rest) = rest.split_once("/keys/")?;
        let (public, query) = rest.split_once('?')?;
        let public = decode(public)?;
        let mut parts = query.split('&');
        let algorithm = parts.next()?.strip_prefix("algorithm=")?.parse().ok()?;
        let flags = parts.next()?.strip_prefix("flags=")?.parse().ok()?;
        let private = match parts.next() {
            Some(part) => decode(part.strip_prefix("private=")?)?,
            None => format!("{}{PRIVATE}", public.strip_suffix(PUBLIC)?),
        };
        let found = Reference {
            hsm: hsm.to_string(),
            public,
            private,
            algorithm,
            flags,
        };
        (parts.next().is_none() && found.to_string() == text).then_some(found)
    }

    /// True if the reference was made for this key.
    pub fn fits(&self, dnskey: &Dnskey) -> bool {
        self.algorithm == dnskey.algorithm_number()
    }
}

impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Reference {
            hsm,
            public,
            private,
            algorithm,
            flags,
        } = self;
        let id = encode(public);
        write!(
            f,
            "kmip://{hsm}/keys/{id}?algorithm={algorithm}&flags={flags}"
        )?;
        // The bridge's private halves are named like the public ones; other servers number theirs.
        let derived = public
            .strip_suffix(PUBLIC)
            .is_some_and(|id| private.strip_suffix(PRIVATE) == Some(id));
        match derived {
            true => Ok(()),
            false => write!(f, "&private={}", encode(private)),
        }
    }
}

fn encode(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for octet in text.bytes() {
        match octet {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'.' | b'_' | b'~' | b'-' => {
                out.push(char::from(octet));
            }
            _ => _ = write!(out, "%{octet:02X}"),
        }
    }
    out
}

fn decode(text: &str) -> Option<String> {
    if text.len() > 3 * ID_MAX {
        return None;
    }
    let mut out = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&first, after)) = rest.split_first() {
        rest = after;
        if first != b'%' {
            out.push(first);
            continue;
        }
        let (hex, after) = rest.split_at_checked(2)?;
        rest = after;
        let hex = std::str::from_utf8(hex).ok()?;
        out.push(u8::from_str_radix(hex, 16).ok()?);
    }
    String::from_utf8(out).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn written_and_read() {
        let id = "3FCCAF83FF24BDE4E0D3EE036ACAD36DEC76BD8A";
        let text = format!("kmip://kmip2pkcs11/keys/{id}_pub?algorithm=13&flags=257");
        let r = Reference::parse(&text).unwrap();
        assert_eq!(r.to_string(), text);
        assert_eq!(r.private, format!("{id}_priv"));
        assert_eq!((r.hsm.as_str(), r.flags), ("kmip2pkcs11", 257));
        // A server that counts its objects, or names them in its own way.
        for (public, private) in [("7", "8"), ("a b/ö", "a b/ö-2"), ("x_pub", "y_priv")] {
            let r = Reference {
                public: public.into(),
                private: private.into(),
                ..r.clone()
            };
            assert_eq!(Reference::parse(&r.to_string()), Some(r));
        }
    }

    #[test]
    fn strict() {
        for bad in [
            "",
            "file:///x.key",
            "kmip://h/keys/7?algorithm=13&flags=257",
            "kmip://h/keys/A_pub?algorithm=13",
            "kmip://h/keys/A_pub?flags=257&algorithm=13",
            "kmip://h/keys/A_pub?algorithm=013&flags=257",
            "kmip://h/keys/A_pub?algorithm=13&flags=257&private=A_priv",
            "kmip://h/keys/A%5fpub?algorithm=13&flags=257",
            "kmip://h/keys/A_pub?algorithm=13&flags=257&x=1",
            "kmip://h/keys/%?algorithm=13&flags=257",
        ] {
            assert_eq!(Reference::parse(bad), None, "{bad}");
        }
    }
}

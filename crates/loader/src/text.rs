//! Small presentation forms: names, numbers, TTLs, times, strings, encodings.

use cascade_time::Timestamp;
use cascade_zone::name::{MAX_LABEL, unescape};

use crate::code::Code;
use crate::lex::{Lexed, Token, problem};

/// Appends the wire form of a name; relative names are completed by `origin` (wire).
/// True if the name has octets above 127.
#[inline]
pub fn push_name(token: &Token<'_>, origin: &[u8], out: &mut Vec<u8>) -> Lexed<bool> {
    let text = token.text;
    if token.quoted {
        return Err(problem(
            Code::BAD_NAME,
            token.span(),
            "a name cannot stand in quotes",
        ));
    }
    match text {
        b"@" => {
            out.extend_from_slice(origin);
            return Ok(false);
        }
        b"." => {
            out.push(0);
            return Ok(false);
        }
        _ => {}
    }
    let mut buf = [0u8; 256];
    let mut n = 1;
    let mut label = 0;
    let mut high = 0u8;
    let mut i = 0;
    while let Some(&b) = text.get(i) {
        i += 1;
        let octet = match b {
            b'.' => {
                let len = n - label - 1;
                if len == 0 || len > MAX_LABEL {
                    return Err(bad_label(token, len));
                }
                buf[label] = len as u8;
                label = n;
                if n >= 255 {
                    return Err(long_name(token));
                }
                n += 1;
                continue;
            }
            b'\\' => {
                let Some((octet, used)) = unescape(&text[i - 1..]) else {
                    return Err(bad_escape(Code::BAD_NAME, token, i - 1));
                };
                if i == 1 && octet == b'[' && used == 2 {
                    return Err(problem(
                        Code::BAD_NAME,
                        token.span(),
                        "bit-string labels are no longer allowed (RFC 6891 §5)",
                    ));
                }
                i += used - 1;
                octet
            }
            b => b,
        };
        high |= octet;
        if n >= 255 {
            return Err(long_name(token));
        }
        buf[n] = octet;
        n += 1;
    }
    let len = n - label - 1;
    if len == 0 {
        // The text ended with a dot: the octet kept for a length is the root label. (`label` is 0
        // only for an empty text, which the lexer never gives bare.)
        if label == 0 {
            return Err(problem(Code::BAD_NAME, token.span(), "name is empty"));
        }
        out.extend_from_slice(&buf[..n]);
        return Ok(high >= 128);
    }
    if len > MAX_LABEL {
        return Err(bad_label(token, len));
    }
    buf[label] = len as u8;
    if n + origin.len() > 255 {
        return Err(long_name(token)
            .help("the name is relative: the origin is appended; a final dot ends it"));
    }
    out.extend_from_slice(&buf[..n]);
    out.extend_from_slice(origin);
    Ok(high >= 128)
}

#[cold]
fn bad_label(token: &Token<'_>, len: usize) -> Box<crate::lex::Problem> {
    let text = match len {
        0 => "empty label inside a name".to_string(),
        _ => format!("label of {len} octets; at most 63 are allowed"),
    };
    problem(Code::BAD_NAME, token.span(), text)
}

#[cold]
fn long_name(token: &Token<'_>) -> Box<crate::lex::Problem> {
    problem(Code::BAD_NAME, token.span(), "name of more than 255 octets")
}

#[cold]
fn bad_escape(code: Code, token: &Token<'_>, at: usize) -> Box<crate::lex::Problem> {
    let start = token.start + token.quoted as usize + at;
    problem(code, start..token.end.min(start + 4), "bad escape")
        .help("write \\DDD with three digits up to 255, or \\ and the character itself")
}

/// Appends the octets of a text, escapes decoded.
pub fn push_text(token: &Token<'_>, out: &mut Vec<u8>) -> Lexed<()> {
    if !token.escaped {
        out.extend_from_slice(token.text);
        return Ok(());
    }
    let mut i = 0;
    while let Some(&b) = token.text.get(i) {
        if b == b'\\' {
            let Some((octet, used)) = unescape(&token.text[i..]) else {
                return Err(bad_escape(Code::BAD_CHARACTER, token, i));
            };
            out.push(octet);
            i += used;
        } else {
            out.push(b);
            i += 1;
        }
    }
    Ok(())
}

/// Appends a `<character-string>`.
pub fn push_string(token: &Token<'_>, out: &mut Vec<u8>) -> Lexed<()> {
    let at = out.len();
    out.push(0);
    push_text(token, out)?;
    let len = out.len() - at - 1;
    let Ok(len) = u8::try_from(len) else {
        return Err(problem(
            Code::STRING_TOO_LONG,
            token.span(),
            format!("string of {len} octets; at most 255 are allowed"),
        )
        .help("split it into several quoted strings; readers of TXT join them"));
    };
    out[at] = len;
    Ok(())
}

/// A decimal number up to `max`.
pub fn number(token: &Token<'_>, max: u64) -> Lexed<u64> {
    let mut v = 0u64;
    if token.text.is_empty() || token.text.len() > 20 {
        return Err(not_a_number(token, max));
    }
    for &b in token.text {
        let d = b.wrapping_sub(b'0');
        match v.checked_mul(10).and_then(|v| v.checked_add(d as u64)) {
            Some(w) if d < 10 => v = w,
            _ => return Err(not_a_number(token, max)),
        }
    }
    if v > max {
        return Err(not_a_number(token, max));
    }
    Ok(v)
}

#[cold]
fn not_a_number(token: &Token<'_>, max: u64) -> Box<crate::lex::Problem> {
    let text = format!(
        "expected a number from 0 to {max}, found {:?}",
        token.show()
    );
    problem(Code::BAD_NUMBER, token.span(), text)
}

/// Seconds, or units `w d h m s` as in `1h30m`. `None`: no TTL at all. Saturates at `u64::MAX`.
#[inline]
pub fn ttl(text: &[u8]) -> Option<u64> {
    if !text.first()?.is_ascii_digit() {
        return None;
    }
    let (mut sum, mut v, mut digits, mut units) = (0u64, 0u64, false, false);
    for &b in text {
        if b.is_ascii_digit() {
            v = v.saturating_mul(10).saturating_add((b - b'0') as u64);
            digits = true;
            continue;
        }
        let unit = match b.to_ascii_lowercase() {
            b's' => 1,
            b'm' => 60,
            b'h' => 3600,
            b'd' => 86_400,
            b'w' => 604_800,
            _ => return None,
        };
        if !digits {
            return None;
        }
        sum = sum.saturating_add(v.saturating_mul(unit));
        (v, digits, units) = (0, false, true);
    }
    // `1h30` has a number without unit at the end.
    match (digits, units) {
        (true, true) => None,
        _ => Some(sum.saturating_add(v)),
    }
}

/// Seconds of 32 bits, or a time `YYYYMMDDHHmmSS` (RFC 4034 §3.2).
pub fn time(token: &Token<'_>) -> Lexed<u32> {
    if token.text.len() == 14 {
        let at = std::str::from_utf8(token.text)
            .ok()
            .and_then(Timestamp::parse_dns);
        return at.map(Timestamp::to_wire).ok_or_else(|| {
            problem(
                Code::BAD_NUMBER,
                token.span(),
                "not a time of the form YYYYMMDDHHmmSS",
            )
        });
    }
    number(token, u32::MAX as u64).map(|v| v as u32)
}

/// Appends octets given in hex.
pub fn push_hex(token: &Token<'_>, text: &[u8], out: &mut Vec<u8>) -> Lexed<()> {
    let nibble = |b: u8| (b as char).to_digit(16).map(|d| d as u8);
    if !text.len().is_multiple_of(2) {
        return Err(problem(
            Code::BAD_RDATA,
            token.span(),
            "odd number of hex digits",
        ));
    }
    for pair in text.chunks_exact(2) {
        match (nibble(pair[0]), nibble(pair[1])) {
            (Some(a), Some(b)) => out.push(a << 4 | b),
            _ => return Err(problem(Code::BAD_RDATA, token.span(), "not a hex digit")),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn token(text: &[u8]) -> Token<'_> {
        Token {
            text,
            start: 0,
            end: text.len(),
            quoted: false,
            escaped: text.contains(&b'\\'),
            adjacent: false,
        }
    }

    fn name(text: &str) -> Result<Vec<u8>, Code> {
        let mut out = Vec::new();
        push_name(&token(text.as_bytes()), b"\x01o\x00", &mut out).map_err(|p| p.code)?;
        Ok(out)
    }

    #[test]
    fn names() {
        assert_eq!(name("a.b.").unwrap(), b"\x01a\x01b\x00");
        assert_eq!(name("a").unwrap(), b"\x01a\x01o\x00");
        assert_eq!(name("@").unwrap(), b"\x01o\x00");
        assert_eq!(name("\\@").unwrap(), b"\x01@\x01o\x00");
        assert_eq!(name(".").unwrap(), b"\x00");
        assert_eq!(name("a\\.b\\000.").unwrap(), b"\x04a.b\x00\x00");
        for bad in ["..", ".a", "a..b", "a\\25", "a\\256.", "\\[b1].", ""] {
            assert_eq!(name(bad), Err(Code::BAD_NAME), "{bad}");
        }
        assert!(name(&"a".repeat(63)).is_ok());
        assert_eq!(name(&"a".repeat(64)), Err(Code::BAD_NAME));
        assert!(name(&"a.".repeat(127)).is_ok());
        assert_eq!(name(&"a.".repeat(128)), Err(Code::BAD_NAME));
        // 126 labels and the origin's 3 octets: 255.
        assert!(name(&["a"; 126].join(".")).is_ok());
        assert_eq!(name(&["a"; 127].join(".")), Err(Code::BAD_NAME));
    }

    #[test]
    fn ttls() {
        for (text, v) in [
            ("0", 0),
            ("1h30m", 5400),
            ("1W2D3h4M5s", 788_645),
            ("2147483648", 1 << 31),
        ] {
            assert_eq!(ttl(text.as_bytes()), Some(v), "{text}");
        }
        for bad in ["", "h", "1x", "1h30", "1hh", "-1", "IN"] {
            assert_eq!(ttl(bad.as_bytes()), None, "{bad}");
        }
        assert_eq!(ttl(&[b'9'; 400]), Some(u64::MAX));
    }

    #[test]
    fn strings() {
        let s = |t: &[u8]| {
            let mut out = Vec::new();
            push_string(&token(t), &mut out)
                .map(|()| out)
                .map_err(|p| p.code)
        };
        assert_eq!(s(b"a\\065\\\"").unwrap(), b"\x03aA\"");
        assert!(s(&[b'x'; 255]).is_ok());
        assert_eq!(s(&[b'x'; 256]), Err(Code::STRING_TOO_LONG));
        // 256 characters of text, 64 octets.
        assert_eq!(s(&b"\\000".repeat(64)).unwrap().len(), 65);
    }

    #[test]
    fn times() {
        assert_eq!(time(&token(b"20260101000000")).unwrap(), 1_767_225_600);
        assert_eq!(time(&token(b"4294967295")).unwrap(), u32::MAX);
        assert!(time(&token(b"20261301000000")).is_err());
    }
}

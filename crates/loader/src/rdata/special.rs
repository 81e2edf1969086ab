//! Fields whose presentation is a small language of its own.

use std::net::{Ipv4Addr, Ipv6Addr};

use cascade_zone::rdata::{Field, SVC_KEYS};

use super::{RdataParser, parse_str, rtype_of};
use crate::code::Code;
use crate::lex::{Lexed, Token, problem};
use crate::text;

impl RdataParser<'_, '_> {
    pub(super) fn special(&mut self, field: Field) -> Lexed<()> {
        match field {
            Field::Types => {
                let types = self.types()?;
                push_bitmap(types, self.out);
                Ok(())
            }
            Field::NxtTypes => {
                let types = self.types()?;
                let mut bits = [0u8; 16];
                for t in types {
                    let Some(octet) = bits.get_mut(t as usize / 8) else {
                        let at = self.lex.pos;
                        return Err(problem(
                            Code::BAD_RDATA,
                            at..at,
                            "NXT can list only types below 128",
                        ));
                    };
                    *octet |= 0x80 >> (t % 8);
                }
                let n = bits.iter().rposition(|&b| b != 0).map_or(1, |i| i + 1);
                self.out.extend_from_slice(&bits[..n]);
                Ok(())
            }
            Field::Locator => self.locator(),
            Field::Eui(n) => self.eui(n as usize),
            Field::Nsap => {
                let t = self.need("an address in hex")?;
                let digits = match t.text {
                    [b'0', b'x' | b'X', rest @ ..] => rest,
                    _ => return Err(self.bad(&t, "0x and hex digits")),
                };
                let digits: Vec<u8> = digits.iter().copied().filter(|&b| b != b'.').collect();
                text::push_hex(&t, &digits, self.out)
            }
            Field::Atma => {
                let t = self.need("an ATM address")?;
                if let [b'+', digits @ ..] = t.text {
                    self.out.push(1);
                    self.out.extend(digits.iter().filter(|&&b| b != b'.'));
                    return Ok(());
                }
                self.out.push(0);
                let digits: Vec<u8> = t.text.iter().copied().filter(|&b| b != b'.').collect();
                text::push_hex(&t, &digits, self.out)
            }
            Field::Loc => self.loc(),
            Field::Services => self.services(),
            Field::A6 => self.a6(),
            Field::Apl => self.apl(),
            Field::Gateway => {
                let t = self.need("a gateway type")?;
                let kind = text::number(&t, 3)? as u8;
                let algorithm = self.u8()?;
                self.out.extend_from_slice(&[kind, algorithm]);
                self.address(kind)
            }
            Field::Relay => {
                let t = self.need("the discovery bit")?;
                let discovery = text::number(&t, 1)? as u8;
                let t = self.need("a relay type")?;
                let kind = text::number(&t, 3)? as u8;
                self.out.push(discovery << 7 | kind);
                self.address(kind)
            }
            Field::Hip => self.hip(),
            Field::SvcParams => self.svc_params(),
            // All other fields are handled by the caller.
            _ => Ok(()),
        }
    }

    fn types(&mut self) -> Lexed<Vec<u16>> {
        let mut types = Vec::new();
        while let Some(t) = self.lex.next()? {
            types.push(rtype_of(t.text).ok_or_else(|| self.bad(&t, "a type"))?.0);
        }
        types.sort_unstable();
        types.dedup();
        Ok(types)
    }

    fn locator(&mut self) -> Lexed<()> {
        let t = self.need("four groups of hex")?;
        let mut n = 0;
        for group in t.text.split(|&b| b == b':') {
            let text = std::str::from_utf8(group)
                .ok()
                .filter(|g| (1..=4).contains(&g.len()));
            let v = text.and_then(|g| {
                u16::from_str_radix(g, 16)
                    .ok()
                    .filter(|_| !g.starts_with('+'))
            });
            let v = v.ok_or_else(|| self.bad(&t, "four groups of hex with colons"))?;
            self.out.extend_from_slice(&v.to_be_bytes());
            n += 1;
        }
        if n != 4 {
            return Err(self.bad(&t, "four groups of hex with colons"));
        }
        Ok(())
    }

    fn eui(&mut self, octets: usize) -> Lexed<()> {
        let t = self.need("an EUI")?;
        let pairs: Vec<&[u8]> = t.text.split(|&b| b == b'-').collect();
        if pairs.len() != octets || pairs.iter().any(|p| p.len() != 2) {
            return Err(self.bad(&t, &format!("{octets} hex pairs with dashes")));
        }
        pairs
            .iter()
            .try_for_each(|p| text::push_hex(&t, p, self.out))
    }

    fn services(&mut self) -> Lexed<()> {
        let t = self.need("a protocol")?;
        let protocol = match t.text.to_ascii_uppercase().as_slice() {
            b"TCP" => 6,
            b"UDP" => 17,
            _ => text::number(&t, 255)? as u8,
        };
        self.out.push(protocol);
        let mut bits = Vec::new();
        while let Some(t) = self.lex.next()? {
            let port = SERVICES.iter().find(|(n, _)| t.is(n)).map(|(_, p)| *p);
            let port = match port {
                Some(p) => p as usize,
                None => text::number(&t, 65535)? as usize,
            };
            if bits.len() <= port / 8 {
                bits.resize(port / 8 + 1, 0u8);
            }
            bits[port / 8] |= 0x80 >> (port % 8);
        }
        self.out.extend_from_slice(&bits);
        Ok(())
    }

    fn a6(&mut self) -> Lexed<()> {
        let t = self.need("a prefix length")?;
        let prefix = text::number(&t, 128)? as usize;
        self.out.push(prefix as u8);
        if prefix == 128 {
            // RFC 2874 §3.1.2: with a prefix of 128 bits there is no address suffix to write.
            return self.name();
        }
        let t = self.need("an address suffix")?;
        let a: Ipv6Addr = parse_str(&t).ok_or_else(|| self.bad(&t, "an IPv6 address"))?;
        let n = (128 - prefix).div_ceil(8);
        let mut suffix = a.octets();
        if n > 0 {
            // RFC 2874 §3.1: the bits of the prefix are zero.
            suffix[16 - n] &= 0xff >> (prefix % 8);
        }
        self.out.extend_from_slice(&suffix[16 - n..]);
        if prefix > 0 { self.name() } else { Ok(()) }
    }

    fn apl(&mut self) -> Lexed<()> {
        while let Some(t) = self.lex.next()? {
            let item = || -> Option<Vec<u8>> {
                let text = std::str::from_utf8(t.text).ok()?;
                let (not, text) = text.strip_prefix('!').map_or((0, text), |r| (0x80, r));
                let (family, rest) = text.split_once(':')?;
                let (address, prefix) = rest.split_once('/')?;
                let prefix: u8 = prefix.parse().ok()?;
                let (family, octets) = match family {
                    "1" if prefix <= 32 => (1, address.parse::<Ipv4Addr>().ok()?.octets().to_vec()),
                    "2" if prefix <= 128 => {
                        (2, address.parse::<Ipv6Addr>().ok()?.octets().to_vec())
                    }
                    _ => return None,
                };
                // RFC 3123 §4: trailing zero octets are left out.
                let n = octets.iter().rposition(|&b| b != 0).map_or(0, |i| i + 1);
                let mut out = vec![0, family, prefix, not | n as u8];
                out.extend_from_slice(&octets[..n]);
                Some(out)
            };
            let item = item().ok_or_else(|| self.bad(&t, "[!]family:address/prefix"))?;
            self.out.extend_from_slice(&item);
        }
        Ok(())
    }

    fn address(&mut self, kind: u8) -> Lexed<()> {
        match kind {
            1 => self.ipv4(),
            2 => self.ipv6(),
            3 => self.name(),
            _ => {
                let t = self.need("a dot for no gateway")?;
                if t.text == b"." {
                    Ok(())
                } else {
                    Err(self.bad(&t, "a dot for no gateway"))
                }
            }
        }
    }

    fn hip(&mut self) -> Lexed<()> {
        let algorithm = self.u8()?;
        let at = self.out.len();
        self.out.extend_from_slice(&[0, algorithm, 0, 0]);
        let t = self.need("a host identity tag")?;
        text::push_hex(&t, t.text, self.out)?;
        let hit = self.out.len() - at - 4;
        self.out[at] = u8::try_from(hit).map_err(|_| self.bad(&t, "at most 255 octets"))?;
        let t = self.need("a public key")?;
        let key = data_encoding::BASE64
            .decode(t.text)
            .map_err(|_| self.bad(&t, "base64 with padding, without blanks"))?;
        let n = u16::try_from(key.len()).map_err(|_| self.bad(&t, "at most 65535 octets"))?;
        self.out[at + 2..at + 4].copy_from_slice(&n.to_be_bytes());
        self.out.extend_from_slice(&key);
        Ok(())
    }

    /// RFC 1876 §3.
    fn loc(&mut self) -> Lexed<()> {
        let latitude = self.angle(90, b'N', b'S')?;
        let longitude = self.angle(180, b'E', b'W')?;
        let t = self.need("an altitude")?;
        let altitude = centimetres(t.text)
            .map(|cm| cm + 10_000_000)
            .and_then(|cm| u32::try_from(cm).ok())
            .ok_or_else(|| self.bad(&t, "an altitude in metres"))?;
        // RFC 1876 §3: 1 m, 10,000 m and 10 m unless stated.
        let mut sizes = [0x12, 0x16, 0x13];
        for size in &mut sizes {
            let Some(t) = self.lex.next()? else { break };
            *size = centimetres(t.text)
                .and_then(mantissa)
                .ok_or_else(|| self.bad(&t, "a size in metres up to 90000000"))?;
        }
        self.out.push(0);
        self.out.extend_from_slice(&sizes);
        for word in [latitude, longitude, altitude] {
            self.out.extend_from_slice(&word.to_be_bytes());
        }
        Ok(())
    }

    /// Degrees, optional minutes and seconds, direction; thousandths of a second around 2^31.
    fn angle(&mut self, most: u32, plus: u8, minus: u8) -> Lexed<u32> {
        let t = self.need("degrees")?;
        let mut ms = text::number(&t, most as u64)? as u32 * 3_600_000;
        for unit in [60_000, 1000, 0] {
            let t = self.need("a direction")?;
            let side = |c: u8| t.text.len() == 1 && t.text[0].eq_ignore_ascii_case(&c);
            if ms > most * 3_600_000 {
                return Err(self.bad(&t, "an angle within the globe"));
            }
            if side(plus) {
                return Ok((1 << 31) + ms);
            } else if side(minus) {
                return Ok((1 << 31) - ms);
            }
            ms += match unit {
                60_000 => text::number(&t, 59)? as u32 * 60_000,
                1000 => thousandths(t.text)
                    .filter(|&v| v < 60_000)
                    .ok_or_else(|| self.bad(&t, "seconds below 60"))?
                    as u32,
                _ => return Err(self.bad(&t, "a direction")),
            };
        }
        // The loop returns in its third round at the latest.
        Ok(0)
    }

    fn svc_params(&mut self) -> Lexed<()> {
        let mut params: Vec<(u16, Vec<u8>)> = Vec::new();
        let mut next = self.lex.next()?;
        while let Some(t) = next {
            next = self.lex.next()?;
            let eq = t.text.iter().position(|&b| b == b'=').filter(|_| !t.quoted);
            let key_text = &t.text[..eq.unwrap_or(t.text.len())];
            let key = svc_key(key_text).ok_or_else(|| self.bad(&t, "a service parameter key"))?;
            let mut value = Token {
                start: t.start + key_text.len() + 1,
                ..t
            };
            value.text = eq.map_or(&[], |i| &t.text[i + 1..]);
            if let Some(q) = next.filter(|q| eq == Some(t.text.len() - 1) && q.quoted && q.adjacent)
            {
                value = q;
                next = self.lex.next()?;
            }
            let value = self.svc_value(key, &value)?;
            if params.iter().any(|(k, _)| *k == key) {
                return Err(problem(
                    Code::BAD_RDATA,
                    t.span(),
                    "service parameter key given twice",
                ));
            }
            params.push((key, value));
        }
        // RFC 9460 §2.2: ascending in wire form, whatever the order of the text.
        params.sort_unstable_by_key(|(k, _)| *k);
        for (key, value) in params {
            let n = u16::try_from(value.len()).unwrap_or(u16::MAX);
            self.out.extend_from_slice(&key.to_be_bytes());
            self.out.extend_from_slice(&n.to_be_bytes());
            self.out.extend_from_slice(&value);
        }
        Ok(())
    }

    fn svc_value(&self, key: u16, t: &Token<'_>) -> Lexed<Vec<u8>> {
        let mut decoded = Vec::new();
        text::push_text(t, &mut decoded)?;
        let items = || {
            decoded
                .split(|&b| b == b',')
                .map(|i| std::str::from_utf8(i).unwrap_or(""))
        };
        let bad = |what: &str| self.bad(t, what);
        let mut out = Vec::new();
        match key {
            0 => {
                let mut keys = Vec::new();
                for item in items() {
                    keys.push(svc_key(item.as_bytes()).ok_or_else(|| bad("a list of keys"))?);
                }
                keys.sort_unstable();
                keys.iter()
                    .for_each(|k| out.extend_from_slice(&k.to_be_bytes()));
            }
            1 => {
                // RFC 9460 appendix A.1: a backslash before a comma or backslash keeps it.
                let mut item = vec![0u8];
                let mut octets = decoded.iter();
                loop {
                    let next = octets.next();
                    match next {
                        Some(b',') | None => {
                            item[0] = u8::try_from(item.len() - 1)
                                .ok()
                                .filter(|&n| n > 0)
                                .ok_or_else(|| bad("protocol ids of 1 to 255 octets"))?;
                            out.append(&mut item);
                            item.push(0);
                        }
                        Some(b'\\') => item.extend(octets.next()),
                        Some(&b) => item.push(b),
                    }
                    if next.is_none() {
                        break;
                    }
                }
            }
            3 => out.extend_from_slice(&(text::number(t, 65535)? as u16).to_be_bytes()),
            4 => {
                for item in items() {
                    let a: Ipv4Addr = item.parse().map_err(|_| bad("IPv4 addresses"))?;
                    out.extend_from_slice(&a.octets());
                }
            }
            5 => {
                out = data_encoding::BASE64
                    .decode(&decoded)
                    .map_err(|_| bad("base64 with padding"))?;
            }
            6 => {
                for item in items() {
                    let a: Ipv6Addr = item.parse().map_err(|_| bad("IPv6 addresses"))?;
                    out.extend_from_slice(&a.octets());
                }
            }
            9 => {
                for item in items() {
                    let v: u16 = item.parse().map_err(|_| bad("numbers of groups"))?;
                    out.extend_from_slice(&v.to_be_bytes());
                }
            }
            _ => out = decoded,
        }
        if out.len() > 65535 {
            return Err(bad("at most 65535 octets"));
        }
        Ok(out)
    }
}

fn svc_key(text: &[u8]) -> Option<u16> {
    if let Some((k, _)) = SVC_KEYS.iter().find(|(_, n)| n.as_bytes() == text) {
        return Some(*k);
    }
    let digits = std::str::from_utf8(text).ok()?.strip_prefix("key")?;
    let plain =
        digits.bytes().all(|b| b.is_ascii_digit()) && (digits == "0" || !digits.starts_with('0'));
    digits.parse().ok().filter(|&k: &u16| plain && k != 65535)
}

/// Window blocks of sorted types (RFC 4034 §4.1.2).
fn push_bitmap(types: Vec<u16>, out: &mut Vec<u8>) {
    for window in types.chunk_by(|a, b| a >> 8 == b >> 8) {
        let mut bits = [0u8; 32];
        window
            .iter()
            .for_each(|t| bits[(t & 255) as usize / 8] |= 0x80 >> (t % 8));
        let n = bits.iter().rposition(|&b| b != 0).map_or(0, |i| i + 1);
        out.extend_from_slice(&[(window[0] >> 8) as u8, n as u8]);
        out.extend_from_slice(&bits[..n]);
    }
}

/// A decimal number with up to three places, in thousandths.
fn thousandths(text: &[u8]) -> Option<u64> {
    decimal(text, 3)
}

/// Metres with up to two places and an optional `m`, maybe negative, in centimetres.
fn centimetres(text: &[u8]) -> Option<i64> {
    let text = text
        .strip_suffix(b"m")
        .or(text.strip_suffix(b"M"))
        .unwrap_or(text);
    let (negative, text) = text.strip_prefix(b"-").map_or((false, text), |r| (true, r));
    let v = decimal(text, 2)? as i64;
    Some(if negative { -v } else { v })
}

fn decimal(text: &[u8], places: usize) -> Option<u64> {
    let mut parts = text.splitn(2, |&b| b == b'.');
    let (whole, fraction) = (parts.next()?, parts.next().unwrap_or(b""));
    let digits = |t: &[u8]| t.iter().all(u8::is_ascii_digit);
    if whole.is_empty()
        || whole.len() > 9
        || fraction.len() > places
        || !digits(whole)
        || !digits(fraction)
    {
        return None;
    }
    let number = |t: &[u8]| t.iter().fold(0u64, |v, b| v * 10 + (b - b'0') as u64);
    let scale = |n: usize| 10u64.pow(n as u32);
    Some(number(whole) * scale(places) + number(fraction) * scale(places - fraction.len()))
}

/// Size of RFC 1876 §2: one digit and a power of ten, in centimetres; rounded down.
fn mantissa(cm: i64) -> Option<u8> {
    let mut m = u64::try_from(cm).ok()?;
    let mut e = 0;
    while m > 9 {
        m /= 10;
        e += 1;
    }
    (e <= 9).then_some((m as u8) << 4 | e)
}

/// Services that old zone files name in WKS; others by number.
const SERVICES: &[(&str, u16)] = &[
    ("ftp-data", 20),
    ("ftp", 21),
    ("ssh", 22),
    ("telnet", 23),
    ("smtp", 25),
    ("time", 37),
    ("domain", 53),
    ("tftp", 69),
    ("finger", 79),
    ("http", 80),
    ("pop3", 110),
    ("nntp", 119),
    ("ntp", 123),
    ("imap", 143),
    ("snmp", 161),
    ("https", 443),
];

#[cfg(test)]
mod tests {
    use cascade_zone::Rtype;

    use super::*;

    #[test]
    fn alpn_lists() {
        let wire = |v: &str| {
            let text = v.as_bytes();
            let t = Token {
                text,
                start: 0,
                end: text.len(),
                quoted: false,
                escaped: true,
                adjacent: false,
            };
            let mut lex = crate::lex::Lexer::new(b"", 0);
            let p = RdataParser {
                lex: &mut lex,
                origin: b"\0",
                out: &mut Vec::new(),
                rtype: Rtype::SVCB,
                high: false,
            };
            p.svc_value(1, &t).map_err(|p| p.code)
        };
        assert_eq!(wire("h2,h3").unwrap(), b"\x02h2\x02h3");
        // RFC 9460 appendix D.2, last figure.
        assert_eq!(
            wire("f\\\\\\092oo\\092,bar,h2").unwrap(),
            b"\x08f\\oo,bar\x02h2"
        );
        for bad in ["", ",", "h2,", ",h2", "h2,,h3"] {
            assert!(wire(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn sizes_of_loc() {
        assert_eq!(centimetres(b"1m").and_then(mantissa), Some(0x12));
        assert_eq!(centimetres(b"10000.00m").and_then(mantissa), Some(0x16));
        assert_eq!(centimetres(b"-100000"), Some(-10_000_000));
        assert_eq!(centimetres(b"1.234"), None);
        assert_eq!(mantissa(0), Some(0));
    }
}

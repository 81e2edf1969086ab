//! The printer: RDATA in presentation form that a zone file parser reads back to the same octets.

use std::fmt::{self, Write};
use std::net::{Ipv4Addr, Ipv6Addr};

use cascade_time::Timestamp;

use super::check::Cursor;
use super::{Field, Problem, SVC_KEYS, check_wire, fields};
use crate::name::write_name;
use crate::rtype::Rtype;

/// Writes `rdata` in presentation form, in one line, names absolute.
///
/// RFC 3597 §5 form (`\# length hex`) for opaque types, malformed RDATA, and the few wire forms
/// that the presentation of their type cannot express.
pub fn print(rtype: Rtype, rdata: &[u8], out: &mut impl Write) -> fmt::Result {
    match fields(rtype) {
        Some(fields) if check_wire(rtype, rdata).is_ok() && expressible(rtype, rdata) => {
            let mut p = Printer {
                c: Cursor { data: rdata, at: 0 },
                out,
                first: true,
            };
            for &field in fields {
                p.field(field)?;
            }
            Ok(())
        }
        _ => print_generic(rdata, out),
    }
}

/// Writes `\# length hex` (RFC 3597 §5).
pub fn print_generic(rdata: &[u8], out: &mut impl Write) -> fmt::Result {
    write!(out, "\\# {}", rdata.len())?;
    if !rdata.is_empty() {
        out.write_char(' ')?;
        push_hex(rdata, out)?;
    }
    Ok(())
}

/// Upper-case hex.
pub fn push_hex(data: &[u8], out: &mut impl Write) -> fmt::Result {
    data.iter().try_for_each(|b| write!(out, "{b:02X}"))
}

/// Base64 with padding (RFC 4648 §4).
pub fn push_base64(data: &[u8], out: &mut impl Write) -> fmt::Result {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    for chunk in data.chunks(3) {
        let at = |i: usize| *chunk.get(i).unwrap_or(&0) as u32;
        let v = at(0) << 16 | at(1) << 8 | at(2);
        for i in 0..4 {
            let digit = DIGITS[(v >> (18 - 6 * i) & 63) as usize];
            out.write_char(if i <= chunk.len() { digit as char } else { '=' })?;
        }
    }
    Ok(())
}

/// Base32 with extended hex alphabet, no padding, upper case (RFC 4648 §7, RFC 5155 §3.3).
pub fn push_base32hex(data: &[u8], out: &mut impl Write) -> fmt::Result {
    const DIGITS: &[u8; 32] = b"0123456789ABCDEFGHIJKLMNOPQRSTUV";
    let (mut v, mut bits) = (0u32, 0);
    for &b in data {
        v = v << 8 | b as u32;
        bits += 8;
        while bits >= 5 {
            bits -= 5;
            out.write_char(DIGITS[(v >> bits & 31) as usize] as char)?;
        }
    }
    if bits > 0 {
        out.write_char(DIGITS[(v << (5 - bits) & 31) as usize] as char)?;
    }
    Ok(())
}

/// False for correct RDATA that its presentation form would change.
fn expressible(rtype: Rtype, rdata: &[u8]) -> bool {
    let last_is_zero = rdata.last() == Some(&0);
    match rtype {
        Rtype::NXT => !last_is_zero,
        Rtype::WKS => rdata.len() == 5 || !last_is_zero,
        Rtype::LOC => rdata[0] == 0 && rdata[1..4].iter().all(|s| s >> 4 != 0 || *s == 0),
        Rtype::ATMA => rdata[0] <= 1,
        Rtype::IPSECKEY => rdata[1] <= 3,
        Rtype::AMTRELAY => rdata[1] & 0x7f <= 3,
        Rtype::A6 => {
            let prefix = rdata[0] as usize;
            prefix.is_multiple_of(8) || rdata[1] >> (8 - prefix % 8) == 0
        }
        Rtype::APL => {
            let mut at = 0;
            while at < rdata.len() {
                let n = (rdata[at + 3] & 0x7f) as usize;
                // RFC 3123 §4: trailing zero octets are left out; other families have no text.
                if rdata[at] != 0
                    || !matches!(rdata[at + 1], 1 | 2)
                    || (n > 0 && rdata[at + 3 + n] == 0)
                {
                    return false;
                }
                at += 4 + n;
            }
            true
        }
        _ => true,
    }
}

struct Printer<'a, W> {
    c: Cursor<'a>,
    out: &'a mut W,
    first: bool,
}

/// RDATA was checked before, so a short read is our own fault; it ends the text.
fn own<T>(r: Result<T, Problem>) -> Result<T, fmt::Error> {
    r.map_err(|_| fmt::Error)
}

impl<W: Write> Printer<'_, W> {
    fn gap(&mut self) -> fmt::Result {
        if !self.first {
            self.out.write_char(' ')?;
        }
        self.first = false;
        Ok(())
    }

    fn put(&mut self, v: impl fmt::Display) -> fmt::Result {
        self.gap()?;
        write!(self.out, "{v}")
    }

    fn field(&mut self, field: Field) -> fmt::Result {
        match field {
            Field::U8 | Field::Algorithm => {
                let v = own(self.c.u8())?;
                self.put(v)
            }
            Field::Scheme => match own(self.c.u8())? {
                1 => self.put("NOTIFY"),
                v => self.put(v),
            },
            Field::U16 | Field::CertType => {
                let v = own(self.c.u16())?;
                self.put(v)
            }
            Field::U32 | Field::Period => {
                let v = own(self.c.u32())?;
                self.put(v)
            }
            Field::U64 => {
                let v = own(self.c.take(8))?;
                let v = v.iter().fold(0u64, |v, &b| v << 8 | b as u64);
                self.put(v)
            }
            Field::Time => {
                let v = own(self.c.u32())?;
                self.put(Timestamp::from_secs(v as i64).to_dns())
            }
            Field::Type => {
                let v = own(self.c.u16())?;
                self.put(Rtype(v))
            }
            Field::Ipv4 => {
                let v = own(self.c.u32())?;
                self.put(Ipv4Addr::from(v))
            }
            Field::Ipv6 => {
                let v = own(self.c.take(16))?;
                self.put(ipv6(v))
            }
            Field::Name => self.name(),
            Field::Names => {
                while !self.c.is_empty() {
                    self.name()?;
                }
                Ok(())
            }
            Field::Str => self.string(),
            Field::OptStr | Field::Strs => {
                while !self.c.is_empty() {
                    self.string()?;
                }
                Ok(())
            }
            Field::Tag => {
                let tag = own(self.c.string())?;
                self.gap()?;
                tag.iter().try_for_each(|&b| self.out.write_char(b as char))
            }
            Field::Text => {
                let text = self.c.rest();
                self.gap()?;
                quoted(text, self.out)
            }
            Field::Hex(_) => {
                let data = self.c.rest();
                self.gap()?;
                push_hex(data, self.out)
            }
            Field::Base64 | Field::OptBase64 => match self.c.rest() {
                [] => Ok(()),
                data => {
                    self.gap()?;
                    push_base64(data, self.out)
                }
            },
            Field::Salt => match own(self.c.string())? {
                [] => self.put("-"),
                salt => {
                    self.gap()?;
                    push_hex(salt, self.out)
                }
            },
            Field::Hash => {
                let hash = own(self.c.string())?;
                self.gap()?;
                push_base32hex(hash, self.out)
            }
            Field::Types => {
                while !self.c.is_empty() {
                    let window = own(self.c.u8())? as u16;
                    let bits = own(self.c.string())?;
                    self.bits(window << 8, bits)?;
                }
                Ok(())
            }
            Field::NxtTypes => {
                let bits = self.c.rest();
                self.bits(0, bits)
            }
            Field::Locator => {
                let v = own(self.c.take(8))?;
                self.gap()?;
                for (i, pair) in v.chunks(2).enumerate() {
                    let sep = if i > 0 { ":" } else { "" };
                    write!(
                        self.out,
                        "{sep}{:x}",
                        u16::from_be_bytes([pair[0], pair[1]])
                    )?;
                }
                Ok(())
            }
            Field::Eui(n) => {
                let v = own(self.c.take(n as usize))?;
                self.gap()?;
                for (i, b) in v.iter().enumerate() {
                    let sep = if i > 0 { "-" } else { "" };
                    write!(self.out, "{sep}{b:02x}")?;
                }
                Ok(())
            }
            Field::Nsap => {
                let v = self.c.rest();
                self.put("0x")?;
                push_hex(v, self.out)
            }
            Field::Atma => {
                let format = own(self.c.u8())?;
                let v = self.c.rest();
                self.gap()?;
                if format == 0 {
                    return push_hex(v, self.out);
                }
                self.out.write_char('+')?;
                v.iter().try_for_each(|&b| self.out.write_char(b as char))
            }
            Field::Loc => self.loc(),
            Field::Services => {
                let protocol = own(self.c.u8())?;
                self.put(protocol)?;
                let bits = self.c.rest();
                for port in set_bits(bits) {
                    self.put(port)?;
                }
                Ok(())
            }
            Field::A6 => {
                let prefix = own(self.c.u8())?;
                self.put(prefix)?;
                let n = (128 - prefix as usize).div_ceil(8);
                let suffix = own(self.c.take(n))?;
                let mut address = [0u8; 16];
                address[16 - n..].copy_from_slice(suffix);
                // RFC 2874 §3.1.2: no suffix beside a prefix of 128 bits.
                if n > 0 {
                    self.put(Ipv6Addr::from(address))?;
                }
                if prefix > 0 {
                    self.name()?;
                }
                Ok(())
            }
            Field::Apl => self.apl(),
            Field::Gateway => {
                let kind = own(self.c.u8())?;
                let algorithm = own(self.c.u8())?;
                self.put(kind)?;
                self.put(algorithm)?;
                self.address(kind)
            }
            Field::Relay => {
                let v = own(self.c.u8())?;
                self.put(v >> 7)?;
                self.put(v & 0x7f)?;
                self.address(v & 0x7f)
            }
            Field::Hip => {
                let hit = own(self.c.u8())? as usize;
                let algorithm = own(self.c.u8())?;
                let key = own(self.c.u16())? as usize;
                self.put(algorithm)?;
                let (hit, key) = (own(self.c.take(hit))?, own(self.c.take(key))?);
                self.gap()?;
                push_hex(hit, self.out)?;
                self.gap()?;
                push_base64(key, self.out)
            }
            Field::SvcParams => {
                while !self.c.is_empty() {
                    let key = own(self.c.u16())?;
                    let n = own(self.c.u16())? as usize;
                    let value = own(self.c.take(n))?;
                    self.gap()?;
                    svc_param(key, value, self.out)?;
                }
                Ok(())
            }
        }
    }

    fn name(&mut self) -> fmt::Result {
        let name = own(self.c.name())?;
        self.gap()?;
        write_name(name, self.out)
    }

    fn string(&mut self) -> fmt::Result {
        let text = own(self.c.string())?;
        self.gap()?;
        quoted(text, self.out)
    }

    fn bits(&mut self, base: u16, bits: &[u8]) -> fmt::Result {
        set_bits(bits).try_for_each(|n| self.put(Rtype(base | n)))
    }

    fn address(&mut self, kind: u8) -> fmt::Result {
        match kind {
            1 => self.field(Field::Ipv4),
            2 => self.field(Field::Ipv6),
            3 => self.name(),
            _ => self.put("."),
        }
    }

    fn apl(&mut self) -> fmt::Result {
        while !self.c.is_empty() {
            let family = own(self.c.u16())?;
            let prefix = own(self.c.u8())?;
            let n = own(self.c.u8())?;
            let data = own(self.c.take((n & 0x7f) as usize))?;
            let not = if n & 0x80 != 0 { "!" } else { "" };
            let mut address = [0u8; 16];
            address[..data.len()].copy_from_slice(data);
            match family {
                1 => {
                    let a = Ipv4Addr::new(address[0], address[1], address[2], address[3]);
                    self.put(format_args!("{not}1:{a}/{prefix}"))?
                }
                _ => self.put(format_args!("{not}2:{}/{prefix}", ipv6(&address)))?,
            }
        }
        Ok(())
    }

    fn loc(&mut self) -> fmt::Result {
        let b = own(self.c.take(16))?;
        let word = |i: usize| u32::from_be_bytes([b[i], b[i + 1], b[i + 2], b[i + 3]]);
        for (at, plus, minus) in [(4, 'N', 'S'), (8, 'E', 'W')] {
            let v = word(at);
            let side = if v >= 1 << 31 { plus } else { minus };
            let ms = v.abs_diff(1 << 31);
            let (degrees, minutes) = (ms / 3_600_000, ms / 60_000 % 60);
            let (seconds, milli) = (ms / 1000 % 60, ms % 1000);
            self.put(format_args!(
                "{degrees} {minutes} {seconds}.{milli:03} {side}"
            ))?;
        }
        // RFC 1876 §2: centimetres above a base 100 km below the reference.
        let cm = word(12) as i64 - 10_000_000;
        let sign = if cm < 0 { "-" } else { "" };
        self.put(format_args!(
            "{sign}{}.{:02}m",
            cm.abs() / 100,
            cm.abs() % 100
        ))?;
        for s in &b[1..4] {
            let cm = (s >> 4) as u64 * 10u64.pow((s & 15) as u32);
            self.put(format_args!("{}.{:02}m", cm / 100, cm % 100))?;
        }
        Ok(())
    }
}

fn ipv6(octets: &[u8]) -> Ipv6Addr {
    let mut a = [0u8; 16];
    a.iter_mut().zip(octets).for_each(|(a, b)| *a = *b);
    Ipv6Addr::from(a)
}

/// Bit numbers, most significant bit of the first octet being 0.
fn set_bits(bits: &[u8]) -> impl Iterator<Item = u16> {
    bits.iter().enumerate().flat_map(|(i, &b)| {
        (0..8)
            .filter(move |k| b >> (7 - k) & 1 == 1)
            .map(move |k| (i * 8) as u16 + k)
    })
}

/// A `<character-string>` in quotes (RFC 1035 §5.1).
fn quoted(text: &[u8], out: &mut impl Write) -> fmt::Result {
    out.write_char('"')?;
    for &b in text {
        match b {
            b'"' | b'\\' => write!(out, "\\{}", b as char)?,
            0x20..=0x7e => out.write_char(b as char)?,
            _ => write!(out, "\\{b:03}")?,
        }
    }
    out.write_char('"')
}

/// RFC 9460 §2.1: `key=value`, known keys by name, lists with commas.
fn svc_param(key: u16, value: &[u8], out: &mut impl Write) -> fmt::Result {
    let name = |k: u16| {
        SVC_KEYS
            .iter()
            .find(|(n, _)| *n == k)
            .map(|(_, name)| *name)
    };
    let list = |out: &mut dyn Write, width: usize, item: &dyn Fn(&[u8]) -> String| {
        value.chunks(width).enumerate().try_for_each(|(i, c)| {
            let sep = if i > 0 { "," } else { "" };
            write!(out, "{sep}{}", item(c))
        })
    };
    match name(key) {
        Some(name) => out.write_str(name)?,
        None => write!(out, "key{key}")?,
    }
    if value.is_empty() {
        return Ok(());
    }
    out.write_char('=')?;
    let number = |c: &[u8]| c.iter().fold(0u16, |v, &b| v << 8 | b as u16);
    match key {
        0 => list(out, 2, &|c| {
            let k = number(c);
            name(k).map_or_else(|| format!("key{k}"), str::to_string)
        }),
        1 => {
            // RFC 9460 appendix A.1: commas and backslashes inside an item are escaped once for
            // the list, and the result once more as a character-string.
            let mut text = Vec::new();
            let mut rest = value;
            while let Some((&n, tail)) = rest.split_first() {
                if !text.is_empty() {
                    text.push(b',');
                }
                let (item, tail) = tail.split_at((n as usize).min(tail.len()));
                for &b in item {
                    if matches!(b, b',' | b'\\') {
                        text.push(b'\\');
                    }
                    text.push(b);
                }
                rest = tail;
            }
            quoted(&text, out)
        }
        3 => write!(out, "{}", number(value)),
        4 => list(out, 4, &|c| {
            Ipv4Addr::new(c[0], c[1], c[2], c[3]).to_string()
        }),
        5 => push_base64(value, out),
        6 => list(out, 16, &|c| ipv6(c).to_string()),
        9 => list(out, 2, &|c| number(c).to_string()),
        _ => quoted(value, out),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(t: Rtype, rdata: &[u8]) -> String {
        let mut out = String::new();
        print(t, rdata, &mut out).unwrap();
        out
    }

    #[test]
    fn encodings() {
        // RFC 4648 §10.
        let b64 = |d: &[u8]| {
            let mut s = String::new();
            push_base64(d, &mut s).unwrap();
            s
        };
        assert_eq!(
            [b64(b"f"), b64(b"fo"), b64(b"foobar")],
            ["Zg==", "Zm8=", "Zm9vYmFy"]
        );
        let mut s = String::new();
        push_base32hex(b"foobar", &mut s).unwrap();
        assert_eq!(s, "CPNMUOJ1E8");
    }

    #[test]
    fn unknown_and_malformed_in_generic_form() {
        assert_eq!(text(Rtype(65280), b"\x01\xff"), "\\# 2 01FF");
        assert_eq!(text(Rtype::A, b"\x01"), "\\# 1 01");
        assert_eq!(text(Rtype::NULL, b""), "\\# 0");
    }

    #[test]
    fn examples_of_rfcs() {
        // RFC 9460 appendix D.2.
        assert_eq!(
            text(Rtype::SVCB, b"\x00\x10\x03foo\x00\x00\x03\x00\x02\x00\x35"),
            "16 foo. port=53"
        );
        assert_eq!(
            text(Rtype::TXT, b"\x03a\"b\x01\x80"),
            "\"a\\\"b\" \"\\128\""
        );
        assert_eq!(text(Rtype::NSEC, b"\x01a\x00\x00\x01\x62"), "a. A NS SOA");
        assert_eq!(
            text(Rtype::APL, b"\x00\x01\x15\x83\xc0\xa8\x20"),
            "!1:192.168.32.0/21"
        );
    }
}

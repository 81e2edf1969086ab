//! RDATA in presentation form to wire form, driven by the type table of the zone crate.

mod special;

use std::net::{Ipv4Addr, Ipv6Addr};

use cascade_zone::Rtype;
use cascade_zone::rdata::{self, Field, Problem as WireProblem, RdataError};

use crate::code::Code;
use crate::lex::{Lexed, Lexer, Problem, Token, problem};
use crate::text;

/// Parses the rest of an entry as RDATA of `rtype`, appending wire form to `out`.
/// True if some name has octets above 127.
///
/// # Errors
/// The first problem, with its octets in the file; `out` then holds no meaning.
pub fn parse(rtype: Rtype, lex: &mut Lexer<'_>, origin: &[u8], out: &mut Vec<u8>) -> Lexed<bool> {
    let mut p = RdataParser {
        lex,
        origin,
        out,
        rtype,
        high: false,
    };
    // The types that make up nearly all of the world's zone data, in their usual spelling.
    match rtype {
        Rtype::NS | Rtype::CNAME if p.usual() => p.field(Field::Name)?,
        Rtype::A if p.usual() => p.field(Field::Ipv4)?,
        _ => {
            if !p.generic()? {
                p.table()?;
            }
            return Ok(p.high);
        }
    }
    match p.lex.next()? {
        None => Ok(p.high),
        Some(t) => Err(trailing(&t, rtype)),
    }
}

pub(crate) struct RdataParser<'p, 'a> {
    pub lex: &'p mut Lexer<'a>,
    pub origin: &'p [u8],
    pub out: &'p mut Vec<u8>,
    pub rtype: Rtype,
    pub high: bool,
}

fn trailing(t: &Token<'_>, rtype: Rtype) -> Box<Problem> {
    problem(
        Code::TRAILING_DATA,
        t.span(),
        format!("{:?} after the end of the {rtype} data", t.show()),
    )
}

/// A problem of checked wire form, shown at the whole of the data.
fn wire(e: RdataError, span: std::ops::Range<usize>, rtype: Rtype) -> Box<Problem> {
    let code = match e.problem {
        WireProblem::KeyOrder => Code::SERVICE,
        WireProblem::Meta => Code::META_TYPE,
        _ => Code::BAD_RDATA,
    };
    problem(code, span, format!("bad {rtype} data: {e}"))
}

impl<'a> RdataParser<'_, 'a> {
    /// The data starts in this line and not with a backslash, so it is no `\#`.
    #[inline]
    fn usual(&self) -> bool {
        let mut rest = self.lex.src.get(self.lex.pos..).unwrap_or(&[]).iter();
        rest.find(|&&b| b != b' ' && b != b'\t')
            .is_some_and(u8::is_ascii_alphanumeric)
    }

    /// `\# length hex` for any type (RFC 3597 §5). False: something else follows, nothing is used.
    fn generic(&mut self) -> Lexed<bool> {
        let mut ahead = self.lex.clone();
        let Some(first) = ahead.next()? else {
            return Ok(false);
        };
        if first.text != b"\\#" || first.quoted {
            return Ok(false);
        }
        *self.lex = ahead;
        let length = self.need("the length of the data")?;
        let n = text::number(&length, 65535)? as usize;
        let mut end = length.end;
        while let Some(t) = self.lex.next()? {
            text::push_hex(&t, t.text, self.out)?;
            end = t.end;
        }
        if self.out.len() != n {
            return Err(problem(
                Code::GENERIC_LENGTH,
                first.start..end,
                format!("length {n} is stated, {} octets follow", self.out.len()),
            ));
        }
        rdata::check_wire(self.rtype, self.out)
            .map_err(|e| wire(e, first.start..end, self.rtype))?;
        Ok(true)
    }

    fn table(&mut self) -> Lexed<()> {
        let start = self.lex.pos;
        let Some(fields) = rdata::fields(self.rtype) else {
            let span = match self.lex.next()? {
                Some(t) => t.span(),
                None => start..start,
            };
            return Err(problem(
                Code::BAD_RDATA,
                span,
                format!(
                    "data of {} can only be written as \\# length hex",
                    self.rtype
                ),
            ));
        };
        for &field in fields {
            self.field(field)?;
        }
        if let Some(t) = self.lex.next()? {
            return Err(trailing(&t, self.rtype));
        }
        let end = self.lex.pos;
        if self.out.len() > 65535 {
            return Err(problem(
                Code::TOO_LARGE,
                start..end,
                "data of more than 65535 octets",
            ));
        }
        // The parser builds correct fields; what remains are rules across them.
        match simple(self.rtype) {
            true => Ok(()),
            false => {
                rdata::check_wire(self.rtype, self.out).map_err(|e| wire(e, start..end, self.rtype))
            }
        }
    }

    /// The next field, which must exist.
    pub fn need(&mut self, what: &str) -> Lexed<Token<'a>> {
        match self.lex.next()? {
            Some(t) => Ok(t),
            None => {
                let at = self.lex.pos;
                Err(problem(
                    Code::MISSING_FIELD,
                    at..at,
                    format!("{} data ends before {what}", self.rtype),
                ))
            }
        }
    }

    pub fn bad(&self, t: &Token<'_>, what: &str) -> Box<Problem> {
        problem(
            Code::BAD_RDATA,
            t.span(),
            format!("expected {what}, found {:?}", t.show()),
        )
    }

    fn number(&mut self, what: &str, max: u64) -> Lexed<u64> {
        let t = self.need(what)?;
        text::number(&t, max)
    }

    pub fn u8(&mut self) -> Lexed<u8> {
        Ok(self.number("a number", 255)? as u8)
    }

    pub fn u16(&mut self) -> Lexed<u16> {
        Ok(self.number("a number", 65535)? as u16)
    }

    pub fn name(&mut self) -> Lexed<()> {
        let t = self.need("a name")?;
        self.high |= text::push_name(&t, self.origin, self.out)?;
        Ok(())
    }

    fn field(&mut self, field: Field) -> Lexed<()> {
        match field {
            Field::U8 => {
                let v = self.u8()?;
                self.out.push(v);
            }
            Field::U16 => {
                let v = self.u16()?;
                self.out.extend_from_slice(&v.to_be_bytes());
            }
            Field::U32 => {
                let v = self.number("a number", u32::MAX as u64)? as u32;
                self.out.extend_from_slice(&v.to_be_bytes());
            }
            Field::U64 => {
                let v = self.number("a number", u64::MAX)?;
                self.out.extend_from_slice(&v.to_be_bytes());
            }
            Field::Period => {
                let t = self.need("a time span")?;
                let v = text::ttl(t.text)
                    .and_then(|v| u32::try_from(v).ok())
                    .ok_or_else(|| {
                        let text = format!(
                            "expected seconds or a span such as 1h30m, found {:?}",
                            t.show()
                        );
                        problem(Code::BAD_NUMBER, t.span(), text)
                    })?;
                self.out.extend_from_slice(&v.to_be_bytes());
            }
            Field::Time => {
                let t = self.need("a time")?;
                self.out.extend_from_slice(&text::time(&t)?.to_be_bytes());
            }
            Field::Ipv4 => self.ipv4()?,
            Field::Ipv6 => self.ipv6()?,
            Field::Name => self.name()?,
            Field::Names => {
                while let Some(t) = self.lex.next()? {
                    self.high |= text::push_name(&t, self.origin, self.out)?;
                }
            }
            Field::Str | Field::Tag => {
                let t = self.need("a string")?;
                text::push_string(&t, self.out)?;
            }
            Field::OptStr => {
                if let Some(t) = self.lex.next()? {
                    text::push_string(&t, self.out)?;
                }
            }
            Field::Strs => {
                let mut t = Some(self.need("a string")?);
                while let Some(token) = t {
                    text::push_string(&token, self.out)?;
                    t = self.lex.next()?;
                }
            }
            Field::Text => {
                let t = self.need("a text")?;
                text::push_text(&t, self.out)?;
            }
            Field::Hex(min) => {
                let (digits, whole) = self.joined("hex digits")?;
                let at = self.out.len();
                text::push_hex(&whole, &digits, self.out)?;
                if self.out.len() - at < min as usize {
                    return Err(self.bad(&whole, &format!("at least {min} octets in hex")));
                }
            }
            Field::Base64 => self.base64(false)?,
            Field::OptBase64 => self.base64(true)?,
            Field::Salt => {
                let t = self.need("a salt")?;
                let at = self.out.len();
                self.out.push(0);
                if t.text != b"-" {
                    text::push_hex(&t, t.text, self.out)?;
                }
                self.set_length(at, &t)?;
            }
            Field::Hash => {
                let t = self.need("a hash")?;
                let upper = t.text.to_ascii_uppercase();
                let octets = data_encoding::BASE32HEX_NOPAD
                    .decode(&upper)
                    .map_err(|_| self.bad(&t, "a hash in base32hex without padding"))?;
                let at = self.out.len();
                self.out.push(0);
                self.out.extend_from_slice(&octets);
                self.set_length(at, &t)?;
            }
            Field::Type => {
                let t = self.need("a type")?;
                let v = rtype_of(t.text).ok_or_else(|| self.bad(&t, "a type"))?;
                self.out.extend_from_slice(&v.0.to_be_bytes());
            }
            Field::Algorithm => {
                let t = self.need("an algorithm")?;
                let named = rdata::ALGORITHMS
                    .iter()
                    .find(|(_, n)| t.is(n))
                    .map(|(v, _)| *v);
                let v = match named {
                    Some(v) => v,
                    None if t.text.first().is_some_and(u8::is_ascii_digit) => {
                        text::number(&t, 255)? as u8
                    }
                    None => return Err(self.bad(&t, "an algorithm number or mnemonic")),
                };
                self.out.push(v);
            }
            Field::CertType => {
                let t = self.need("a certificate type")?;
                let named = rdata::CERT_TYPES
                    .iter()
                    .find(|(_, n)| t.is(n))
                    .map(|(v, _)| *v);
                let v = match named {
                    Some(v) => v,
                    None => text::number(&t, 65535)? as u16,
                };
                self.out.extend_from_slice(&v.to_be_bytes());
            }
            Field::Scheme => {
                let t = self.need("a scheme")?;
                let v = if t.is("NOTIFY") {
                    1
                } else {
                    text::number(&t, 255)? as u8
                };
                self.out.push(v);
            }
            other => self.special(other)?,
        }
        Ok(())
    }

    pub fn ipv4(&mut self) -> Lexed<()> {
        let t = self.need("an IPv4 address")?;
        let a: Ipv4Addr = parse_str(&t).ok_or_else(|| self.bad(&t, "an IPv4 address"))?;
        self.out.extend_from_slice(&a.octets());
        Ok(())
    }

    pub fn ipv6(&mut self) -> Lexed<()> {
        let t = self.need("an IPv6 address")?;
        let a: Ipv6Addr = parse_str(&t).ok_or_else(|| self.bad(&t, "an IPv6 address"))?;
        self.out.extend_from_slice(&a.octets());
        Ok(())
    }

    /// The rest of the entry without blanks, and a token that spans it.
    fn joined(&mut self, what: &str) -> Lexed<(Vec<u8>, Token<'a>)> {
        let mut whole = self.need(what)?;
        let mut text = whole.text.to_vec();
        while let Some(t) = self.lex.next()? {
            text.extend_from_slice(t.text);
            whole.end = t.end;
        }
        Ok((text, whole))
    }

    fn base64(&mut self, may_be_empty: bool) -> Lexed<()> {
        if may_be_empty {
            let mut ahead = self.lex.clone();
            match ahead.next()? {
                None => return Ok(()),
                Some(t) if t.text == b"-" => {
                    *self.lex = ahead;
                    return Ok(());
                }
                Some(_) => {}
            }
        }
        let (text, whole) = self.joined("base64")?;
        let octets = data_encoding::BASE64
            .decode(&text)
            .map_err(|_| self.bad(&whole, "base64 with padding"))?;
        if octets.is_empty() && !may_be_empty {
            return Err(self.bad(&whole, "base64 of at least one octet"));
        }
        self.out.extend_from_slice(&octets);
        Ok(())
    }

    /// Fills the length octet at `at`.
    pub fn set_length(&mut self, at: usize, t: &Token<'_>) -> Lexed<()> {
        let n = self.out.len() - at - 1;
        self.out[at] = u8::try_from(n).map_err(|_| self.bad(t, "at most 255 octets"))?;
        Ok(())
    }
}

/// Types whose fields are free of each other, so that parsed fields need no second look.
fn simple(rtype: Rtype) -> bool {
    matches!(
        rtype,
        Rtype::AAAA | Rtype::DS | Rtype::SOA | Rtype::MX | Rtype::TXT | Rtype::PTR | Rtype::SRV
    )
}

pub(crate) fn parse_str<T: std::str::FromStr>(t: &Token<'_>) -> Option<T> {
    if t.quoted {
        return None;
    }
    std::str::from_utf8(t.text).ok()?.parse().ok()
}

/// A type mnemonic or `TYPE123`.
#[inline]
pub fn rtype_of(text: &[u8]) -> Option<Rtype> {
    Some(match text {
        b"A" => Rtype::A,
        b"NS" => Rtype::NS,
        b"DS" => Rtype::DS,
        b"AAAA" => Rtype::AAAA,
        b"TXT" => Rtype::TXT,
        b"MX" => Rtype::MX,
        b"CNAME" => Rtype::CNAME,
        b"RRSIG" => Rtype::RRSIG,
        b"NSEC" => Rtype::NSEC,
        b"NSEC3" => Rtype::NSEC3,
        _ => return std::str::from_utf8(text).ok()?.parse().ok(),
    })
}

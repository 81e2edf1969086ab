//! `$ORIGIN`, `$TTL`, `$INCLUDE` and `$GENERATE`.

use std::ops::Range;

use crate::code::Code;
use crate::lex::{Lexed, Lexer, Token, problem};
use crate::text;

/// Most records that all `$GENERATE` lines of one file may make.
pub const MAX_GENERATED: u64 = 1_000_000;

#[derive(Debug, Clone)]
pub enum Directive<'a> {
    /// Wire form.
    Origin(Vec<u8>),
    /// Seconds as written, maybe out of range, and where.
    Ttl(u64, Range<usize>),
    Include {
        path: Vec<u8>,
        span: Range<usize>,
        origin: Option<Vec<u8>>,
    },
    Generate(Generate<'a>),
}

/// A `$GENERATE` line: the numbers and the record text with its dollars.
#[derive(Debug, Clone)]
pub struct Generate<'a> {
    pub start: u64,
    pub stop: u64,
    pub step: u64,
    pub span: Range<usize>,
    pub template: &'a [u8],
}

/// Reads the directive at `lex`, which stands at its `$`; afterwards `lex` is at the end of the
/// entry.
pub fn read<'a>(lex: &mut Lexer<'a>, origin: &[u8]) -> Lexed<Directive<'a>> {
    let at = lex.pos;
    let Some(word) = lex.next()? else {
        return Err(problem(
            Code::UNKNOWN_DIRECTIVE,
            at..at + 1,
            "directive without a name",
        ));
    };
    let directive = match word.text.to_ascii_uppercase().as_slice() {
        b"$ORIGIN" => {
            let t = need(lex, "a name", "$ORIGIN")?;
            let mut name = Vec::new();
            text::push_name(&t, origin, &mut name)?;
            Directive::Origin(name)
        }
        b"$TTL" => {
            let t = need(lex, "a TTL", "$TTL")?;
            let v = text::ttl(t.text).filter(|_| !t.quoted).ok_or_else(|| {
                let text = format!(
                    "expected seconds or a span such as 1h30m, found {:?}",
                    t.show()
                );
                problem(Code::BAD_NUMBER, t.span(), text)
            })?;
            Directive::Ttl(v, t.span())
        }
        b"$INCLUDE" => {
            let t = need(lex, "a file", "$INCLUDE")?;
            let mut path = Vec::new();
            text::push_text(&t, &mut path)?;
            let origin = match lex.next()? {
                None => None,
                Some(o) => {
                    let mut name = Vec::new();
                    text::push_name(&o, origin, &mut name)?;
                    Some(name)
                }
            };
            Directive::Include {
                path,
                span: t.span(),
                origin,
            }
        }
        b"$GENERATE" => return generate(lex),
        _ => return Err(unknown(&word)),
    };
    match lex.next()? {
        None => Ok(directive),
        Some(t) => Err(problem(
            Code::TRAILING_DATA,
            t.span(),
            format!("{:?} after the end of the directive", t.show()),
        )),
    }
}

fn need<'a>(lex: &mut Lexer<'a>, what: &str, directive: &str) -> Lexed<Token<'a>> {
    match lex.next()? {
        Some(t) => Ok(t),
        None => {
            let at = lex.pos;
            Err(problem(
                Code::MISSING_FIELD,
                at..at,
                format!("{directive} needs {what}"),
            ))
        }
    }
}

#[cold]
fn unknown(word: &Token<'_>) -> Box<crate::lex::Problem> {
    let text = word.show();
    let near = ["$ORIGIN", "$TTL", "$INCLUDE", "$GENERATE"]
        .into_iter()
        .min_by_key(|d| strsim::damerau_levenshtein(d, &text.to_ascii_uppercase()))
        .unwrap_or_default();
    problem(
        Code::UNKNOWN_DIRECTIVE,
        word.span(),
        format!("unknown directive {text:?}"),
    )
    .help(format!(
        "did you mean {near}? An owner that starts with a dollar is written \\$"
    ))
}

fn generate<'a>(lex: &mut Lexer<'a>) -> Lexed<Directive<'a>> {
    let t = need(lex, "a range", "$GENERATE")?;
    let range = || -> Option<(u64, u64, u64)> {
        let text = std::str::from_utf8(t.text).ok()?;
        let (range, step) = text.split_once('/').unwrap_or((text, "1"));
        let (a, b) = range.split_once('-')?;
        let number = |s: &str| -> Option<u64> {
            let digits = !s.is_empty() && s.bytes().all(|b| b.is_ascii_digit());
            s.parse::<u32>().ok().filter(|_| digits).map(u64::from)
        };
        Some((number(a)?, number(b)?, number(step)?)).filter(|(a, b, s)| a <= b && *s > 0)
    };
    let (start, stop, step) = range().ok_or_else(|| {
        let text = format!(
            "expected a range such as 1-254 or 0-100/2, found {:?}",
            t.show()
        );
        problem(Code::BAD_NUMBER, t.span(), text)
    })?;
    let span = t.span();
    let lhs = need(lex, "an owner", "$GENERATE")?;
    let mut end = lhs.end;
    let mut fields = 0;
    while let Some(t) = lex.next()? {
        end = t.end;
        fields += 1;
    }
    if lex.multi {
        return Err(problem(
            Code::UNBALANCED,
            span,
            "$GENERATE is one line, without parentheses",
        ));
    }
    if fields < 2 {
        return Err(problem(
            Code::MISSING_FIELD,
            end..end,
            "$GENERATE needs an owner, a type and data",
        ));
    }
    let template = &lex.src[lhs.start..end];
    Ok(Directive::Generate(Generate {
        start,
        stop,
        step,
        span,
        template,
    }))
}

impl Generate<'_> {
    /// Number of records it makes.
    pub fn count(&self) -> u64 {
        (self.stop - self.start) / self.step + 1
    }

    /// The record text for one value.
    ///
    /// # Errors
    /// A modifier `${offset,width,base}` that cannot be read, or a negative result.
    pub fn expand(&self, value: u64, out: &mut Vec<u8>) -> Result<(), String> {
        let t = self.template;
        let mut i = 0;
        while let Some(&b) = t.get(i) {
            match b {
                b'\\' => {
                    out.push(b);
                    out.extend(t.get(i + 1));
                    i += 2;
                }
                b'$' if t.get(i + 1) == Some(&b'$') => {
                    out.extend_from_slice(b"\\$");
                    i += 2;
                }
                b'$' if t.get(i + 1) == Some(&b'{') => {
                    let end = t[i..]
                        .iter()
                        .position(|&b| b == b'}')
                        .ok_or("${ without }")?
                        + i;
                    let spec = std::str::from_utf8(&t[i + 2..end]).map_err(|_| "bad ${…}")?;
                    modified(value, spec, out)?;
                    i = end + 1;
                }
                b'$' => {
                    out.extend_from_slice(value.to_string().as_bytes());
                    i += 1;
                }
                _ => {
                    out.push(b);
                    i += 1;
                }
            }
        }
        Ok(())
    }
}

/// `offset[,width[,base]]`.
fn modified(value: u64, spec: &str, out: &mut Vec<u8>) -> Result<(), String> {
    let bad = || {
        format!("expected ${{offset,width,base}} with base d, o, x, X, n or N, found ${{{spec}}}")
    };
    let mut parts = spec.split(',');
    let offset: i64 = parts
        .next()
        .unwrap_or("")
        .trim()
        .parse()
        .map_err(|_| bad())?;
    let width: usize = parts
        .next()
        .map_or(Ok(0), |w| w.trim().parse())
        .map_err(|_| bad())?;
    let base = parts.next().unwrap_or("d").trim();
    if parts.next().is_some() || width > 255 {
        return Err(bad());
    }
    let v = (value as i64)
        .checked_add(offset)
        .and_then(|v| u64::try_from(v).ok());
    let mut v =
        v.ok_or_else(|| format!("{value} with offset {offset} is negative or too large"))?;
    let text = match base {
        "d" => format!("{v:0width$}"),
        "o" => format!("{v:0width$o}"),
        "x" => format!("{v:0width$x}"),
        "X" => format!("{v:0width$X}"),
        "n" | "N" => {
            // Nibbles in reverse with dots, for ip6.arpa; the width counts the dots.
            let mut text = String::new();
            let mut left = width as i64;
            loop {
                let digit = char::from_digit((v & 15) as u32, 16).unwrap_or('0');
                text.push(if base == "N" {
                    digit.to_ascii_uppercase()
                } else {
                    digit
                });
                v >>= 4;
                left -= 1;
                if left <= 0 && v == 0 {
                    break;
                }
                text.push('.');
                left -= 1;
                if left <= 0 && v == 0 {
                    break;
                }
            }
            text
        }
        _ => return Err(bad()),
    };
    out.extend_from_slice(text.as_bytes());
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn expand(template: &str, v: u64) -> Result<String, String> {
        let g = Generate {
            start: 0,
            stop: 9,
            step: 1,
            span: 0..0,
            template: template.as_bytes(),
        };
        let mut out = Vec::new();
        g.expand(v, &mut out)
            .map(|()| String::from_utf8(out).unwrap())
    }

    #[test]
    fn expansion() {
        for (template, v, text) in [
            ("h$ A 192.0.2.$", 7, "h7 A 192.0.2.7"),
            ("h${1} A", 7, "h8 A"),
            ("h${-2,3} A", 7, "h005 A"),
            ("h${0,2,x} A", 171, "hab A"),
            ("h${0,4,X} A", 171, "h00AB A"),
            ("h${0,0,o} A", 8, "h10 A"),
            ("${0,3,n}.x PTR", 0x21, "1.2.x PTR"),
            ("${0,7,N}.x PTR", 0xab, "B.A.0.0.x PTR"),
            ("\\$$ a$$b", 1, "\\$1 a\\$b"),
        ] {
            assert_eq!(expand(template, v).unwrap(), text);
        }
        for bad in ["${", "${x}", "${0,1,q}", "${-9}", "${0,999}", "${0,1,d,1}"] {
            assert!(expand(bad, 1).is_err(), "{bad}");
        }
    }
}

//! Fields of a zone file entry, and where entries end (RFC 1035 §5.1).

use std::ops::Range;

use crate::code::Code;

/// Deepest nesting of parentheses.
pub const MAX_DEPTH: u8 = 16;

/// What is wrong with an entry, and which octets of the file show it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    pub code: Code,
    pub span: Range<usize>,
    pub message: String,
    pub label: String,
    pub help: Option<String>,
}

/// Boxed: the good path must not pay for the bad one.
pub type Lexed<T> = Result<T, Box<Problem>>;

pub fn problem(code: Code, span: Range<usize>, message: impl Into<String>) -> Box<Problem> {
    Box::new(Problem {
        code,
        span,
        message: message.into(),
        label: String::new(),
        help: None,
    })
}

impl Problem {
    pub fn help(mut self: Box<Self>, text: impl Into<String>) -> Box<Self> {
        self.help = Some(text.into());
        self
    }
}

/// One field.
#[derive(Debug, Clone, Copy)]
pub struct Token<'a> {
    /// Without quotes, escapes as written.
    pub text: &'a [u8],
    /// Octet of the file where it starts, the quote included.
    pub start: usize,
    pub end: usize,
    pub quoted: bool,
    /// Contains a backslash.
    pub escaped: bool,
    /// Nothing stands between it and the field before.
    pub adjacent: bool,
}

impl Token<'_> {
    pub fn span(&self) -> Range<usize> {
        self.start..self.end
    }

    /// The text for messages.
    pub fn show(&self) -> String {
        let text = String::from_utf8_lossy(self.text);
        match text.char_indices().nth(60) {
            Some((i, _)) => format!("{}…", &text[..i]),
            None => text.into_owned(),
        }
    }

    pub fn is(&self, word: &str) -> bool {
        !self.quoted && self.text.eq_ignore_ascii_case(word.as_bytes())
    }
}

const PLAIN: u8 = 0;
const BLANK: u8 = 1;
const LF: u8 = 2;
const CR: u8 = 3;
const COMMENT: u8 = 4;
const OPEN: u8 = 5;
const CLOSE: u8 = 6;
const QUOTE: u8 = 7;
const ESCAPE: u8 = 8;
const NUL: u8 = 9;

const CLASS: [u8; 256] = {
    let mut t = [PLAIN; 256];
    t[b' ' as usize] = BLANK;
    t[b'\t' as usize] = BLANK;
    t[b'\n' as usize] = LF;
    t[b'\r' as usize] = CR;
    t[b';' as usize] = COMMENT;
    t[b'(' as usize] = OPEN;
    t[b')' as usize] = CLOSE;
    t[b'"' as usize] = QUOTE;
    t[b'\\' as usize] = ESCAPE;
    t[0] = NUL;
    t
};

/// Reads fields of one entry after the other.
#[derive(Debug, Clone)]
pub struct Lexer<'a> {
    pub src: &'a [u8],
    pub pos: usize,
    /// A parenthesis was opened: the entry may have several lines.
    pub multi: bool,
    depth: u8,
    opened: usize,
}

impl<'a> Lexer<'a> {
    pub fn new(src: &'a [u8], pos: usize) -> Self {
        Lexer {
            src,
            pos,
            multi: false,
            depth: 0,
            opened: 0,
        }
    }

    /// The next field of the entry; `None` at its end, which is not consumed.
    #[inline]
    pub fn next(&mut self) -> Lexed<Option<Token<'a>>> {
        let before = self.pos;
        loop {
            let Some(&b) = self.src.get(self.pos) else {
                return self.at_end_of_file();
            };
            match CLASS[b as usize] {
                BLANK => self.pos += 1,
                PLAIN | ESCAPE => return self.bare(before).map(Some),
                LF if self.depth == 0 => return Ok(None),
                _ => {
                    if let Some(token) = self.special(b, before)? {
                        return Ok(Some(token));
                    }
                    if self.depth == 0 && self.src.get(self.pos) == Some(&b'\n') {
                        return Ok(None);
                    }
                }
            }
        }
    }

    #[inline]
    fn bare(&mut self, before: usize) -> Lexed<Token<'a>> {
        let start = self.pos;
        let mut escaped = false;
        let mut i = start;
        while let Some(&b) = self.src.get(i) {
            match CLASS[b as usize] {
                PLAIN => i += 1,
                ESCAPE => {
                    escaped = true;
                    match self.src.get(i + 1) {
                        None | Some(b'\n') => {
                            return Err(problem(
                                Code::BAD_CHARACTER,
                                i..i + 1,
                                "backslash at the end of a line",
                            ));
                        }
                        Some(_) => i += 2,
                    }
                }
                _ => break,
            }
        }
        self.pos = i;
        Ok(Token {
            text: &self.src[start..i],
            start,
            end: i,
            quoted: false,
            escaped,
            adjacent: start == before,
        })
    }

    #[cold]
    fn at_end_of_file(&self) -> Lexed<Option<Token<'a>>> {
        if self.depth > 0 {
            return Err(problem(
                Code::UNBALANCED,
                self.opened..self.opened + 1,
                "parenthesis is never closed",
            )
            .help("everything from here to the end of the file is one entry; add the missing )"));
        }
        Ok(None)
    }

    /// Everything that is neither blank nor part of a bare field.
    fn special(&mut self, b: u8, before: usize) -> Lexed<Option<Token<'a>>> {
        let at = self.pos;
        match CLASS[b as usize] {
            CR => {
                if !matches!(self.src.get(at + 1), None | Some(b'\n')) {
                    return Err(problem(
                        Code::BAD_CHARACTER,
                        at..at + 1,
                        "carriage return inside a line",
                    ));
                }
                self.pos += 1;
            }
            COMMENT => {
                self.pos =
                    memchr::memchr(b'\n', &self.src[at..]).map_or(self.src.len(), |i| at + i);
            }
            OPEN => {
                if self.depth == MAX_DEPTH {
                    let text = format!("parentheses nested deeper than {MAX_DEPTH}");
                    return Err(problem(Code::UNBALANCED, at..at + 1, text));
                }
                if self.depth == 0 {
                    self.opened = at;
                }
                self.depth += 1;
                self.multi = true;
                self.pos += 1;
            }
            CLOSE => {
                if self.depth == 0 {
                    let text = "closing parenthesis without an opening one";
                    return Err(problem(Code::UNBALANCED, at..at + 1, text));
                }
                self.depth -= 1;
                self.pos += 1;
            }
            QUOTE => return self.quoted(before).map(Some),
            NUL => {
                return Err(problem(
                    Code::BAD_CHARACTER,
                    at..at + 1,
                    "NUL outside quotes",
                ));
            }
            _ => self.pos += 1, // LF inside parentheses
        }
        Ok(None)
    }

    fn quoted(&mut self, before: usize) -> Lexed<Token<'a>> {
        let start = self.pos;
        let mut escaped = false;
        let mut i = start + 1;
        loop {
            match self.src.get(i) {
                Some(b'"') => break,
                Some(b'\\') => {
                    escaped = true;
                    i += if self.src.get(i + 1) == Some(&b'\n') {
                        1
                    } else {
                        2
                    };
                }
                Some(b'\n') if self.depth == 0 => {
                    return Err(problem(
                        Code::UNBALANCED,
                        start..i,
                        "quote is not closed in its line",
                    )
                    .help("a quoted string may span lines only inside parentheses"));
                }
                Some(_) => i += 1,
                None => {
                    return Err(problem(
                        Code::UNBALANCED,
                        start..start + 1,
                        "quote is never closed",
                    ));
                }
            }
        }
        self.pos = i + 1;
        Ok(Token {
            text: &self.src[start + 1..i],
            start,
            end: i + 1,
            quoted: true,
            escaped,
            adjacent: start == before,
        })
    }
}

/// Position after the line feed that ends the entry starting at `at`.
///
/// The one place that says where an entry ends; the splitter and the parser after an error agree
/// because both ask here.
pub fn entry_end(src: &[u8], at: usize) -> usize {
    let mut depth = 0u32;
    let mut i = at;
    while let Some(&b) = src.get(i) {
        i += 1;
        match b {
            b'\n' if depth == 0 => return i,
            b'\\' if src.get(i) != Some(&b'\n') => i += 1,
            b';' => i = memchr::memchr(b'\n', &src[i..]).map_or(src.len(), |n| i + n),
            b'(' => depth += 1,
            b')' => depth = depth.saturating_sub(1),
            b'"' => loop {
                match src.get(i) {
                    None => break,
                    Some(b'\n') if depth == 0 => break,
                    Some(b'\\') if src.get(i + 1) != Some(&b'\n') => i += 2,
                    Some(b'"') => {
                        i += 1;
                        break;
                    }
                    Some(_) => i += 1,
                }
            },
            _ => {}
        }
    }
    src.len()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fields(text: &[u8]) -> Result<Vec<String>, Code> {
        let mut lex = Lexer::new(text, 0);
        let mut out = Vec::new();
        loop {
            match lex.next() {
                Ok(Some(t)) => out.push(String::from_utf8_lossy(t.text).into_owned()),
                Ok(None) => return Ok(out),
                Err(p) => return Err(p.code),
            }
        }
    }

    #[test]
    fn fields_of_entries() {
        assert_eq!(fields(b"a  b\tc;d\ne").unwrap(), ["a", "b", "c"]);
        assert_eq!(
            fields(b"a ( b ; x \" ( \r\n c\r\n ) d\r\ne").unwrap(),
            ["a", "b", "c", "d"]
        );
        assert_eq!(fields(b"a(b)c").unwrap(), ["a", "b", "c"]);
        assert_eq!(
            fields(b"\"a ; b\" c\\;d \\\"").unwrap(),
            ["a ; b", "c\\;d", "\\\""]
        );
        assert_eq!(fields(b"( \"a\nb\" )").unwrap(), ["a\nb"]);
        assert_eq!(fields(b"((a)) b").unwrap(), ["a", "b"]);
        assert_eq!(fields(b"").unwrap(), [""; 0]);
        assert_eq!(fields(b"\"a\0\"").unwrap(), ["a\0"]);
    }

    #[test]
    fn broken_entries() {
        for (text, code) in [
            (&b"a\0"[..], Code::BAD_CHARACTER),
            (b"a\rb", Code::BAD_CHARACTER),
            (b"a\\\n", Code::BAD_CHARACTER),
            (b"a \"b\n", Code::UNBALANCED),
            (b"a (b\n", Code::UNBALANCED),
            (b"a )b\n", Code::UNBALANCED),
            (b"((((((((((((((((( a", Code::UNBALANCED),
            (b"(\"a", Code::UNBALANCED),
        ] {
            assert_eq!(
                fields(text),
                Err(code),
                "{:?}",
                String::from_utf8_lossy(text)
            );
        }
    }

    proptest::proptest! {
        /// A well-formed entry ends where `entry_end` says.
        #[test]
        fn lexer_and_entry_end_agree(text in "[a \"\\\\();\n]{0,40}") {
            let src = text.as_bytes();
            let mut lex = Lexer::new(src, 0);
            let good = loop {
                match lex.next() {
                    Ok(Some(_)) => {}
                    Ok(None) => break true,
                    Err(_) => break false,
                }
            };
            if good {
                let end = (lex.pos + 1).min(src.len());
                proptest::prop_assert_eq!(entry_end(src, 0), end);
            }
            proptest::prop_assert!(entry_end(src, 0) <= src.len());
        }
    }
}

//! The parser of one chunk: entries to records in a sink.

use std::collections::BTreeMap;
use std::ops::Range;

use cascade_zone::name::write_name;
use cascade_zone::rdata::push_hex;
use cascade_zone::{Name, Rtype, key};

use crate::code::{Checks, Code};
use crate::diag::{Diagnostic, Diagnostics, Line, Place};
use crate::directive::{self, Directive, Generate, MAX_GENERATED};
use crate::lex::{Lexed, Lexer, Problem, Token, problem};
use crate::plain;
use crate::rdata;
use crate::scan::{Chunk, MAX_TTL, State, clamp_ttl};
use crate::sink::RecordSink;
use crate::source::SourceFile;
use crate::text;

/// Largest RR that a message can carry beside header, question and TSIG (RFC 1035 §4.2.2): 65535
/// less 12, 255 + 4, and 345 for a TSIG with two names and a SHA-512 MAC.
const MAX_RR: usize = 65535 - 12 - 259 - 345;

/// What all chunks of a load share.
#[derive(Debug, Clone, Copy)]
pub struct Env<'a> {
    pub apex: &'a Name,
    pub checks: &'a Checks,
    /// TTLs above are lowered; `None`: as they are.
    pub max_ttl: Option<u32>,
    /// Drop what another signer made.
    pub strip: bool,
    pub files: &'a [SourceFile],
}

/// What flows from chunk to chunk.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Carry {
    /// Last stated owner, wire form; empty when it could not be read, which was reported.
    pub owner: Option<Vec<u8>>,
    /// Last stated TTL (RFC 1035 §5.1).
    pub ttl: Option<u32>,
}

/// The result of a chunk.
#[derive(Debug)]
pub struct Parsed<S> {
    pub sink: S,
    pub diagnostics: Diagnostics,
    /// Owner and TTL stated last in this chunk, if any was.
    pub out: Carry,
    /// MINIMUM of a SOA without TTL, which serves as TTL when none was stated before.
    pub implied_ttl: Option<u32>,
    /// The chunk's records depend on the owner or TTL carried in.
    pub used_owner: bool,
    pub used_ttl: bool,
    /// Records in the input, before stripping.
    pub records: u64,
    pub stripped: BTreeMap<u16, u64>,
    pub full: bool,
}

/// Parses a chunk.
pub fn parse_chunk<S: RecordSink>(
    env: &Env<'_>,
    chunk: &Chunk,
    carry: &Carry,
    sink: S,
) -> Parsed<S> {
    parse_as(env, chunk, carry, sink, true)
}

/// `plain`: usual lines take the short way. The result does not depend on it.
pub(crate) fn parse_as<S: RecordSink>(
    env: &Env<'_>,
    chunk: &Chunk,
    carry: &Carry,
    mut sink: S,
    plain: bool,
) -> Parsed<S> {
    let src = env.files.get(chunk.file).map_or(&[][..], |f| &f.bytes);
    let end = chunk.range.end.min(src.len());
    sink.expect(chunk.range.len());
    let mut parser = Parser {
        env,
        chunk,
        src: &src[..end],
        line: chunk.first_line,
        entry: chunk.range.start,
        state: chunk.state.clone(),
        carried: carry.ttl,
        owner: Owner::default(),
        rtype: None,
        rdata: Vec::with_capacity(512),
        room: plain.then(plain::Room::default),
        noted_include: false,
        parsed: Parsed {
            sink,
            diagnostics: Diagnostics::default(),
            out: Carry::default(),
            implied_ttl: None,
            used_owner: false,
            used_ttl: false,
            records: 0,
            stripped: BTreeMap::new(),
            full: false,
        },
    };
    match &carry.owner {
        Some(owner) if owner.is_empty() => parser.owner.broken = true,
        Some(owner) => {
            parser.owner.wire.extend_from_slice(owner);
            parser.owner.place(env);
            parser.owner.carried = true;
        }
        None => {}
    }
    parser.run();
    if parser.owner.broken {
        parser.parsed.out.owner = Some(Vec::new());
    } else if !parser.owner.carried && parser.owner.stated {
        parser.parsed.out.owner = Some(parser.owner.wire);
    }
    parser.parsed
}

#[derive(Default)]
struct Owner<'a> {
    /// The field it was read from; a repetition need not be read again.
    text: &'a [u8],
    wire: Vec<u8>,
    key: Vec<u8>,
    case: Option<Vec<u8>>,
    in_zone: bool,
    stated: bool,
    /// The last one stated could not be read, which was reported.
    broken: bool,
    carried: bool,
    /// The sink has been told.
    told: bool,
}

impl<'a> Owner<'a> {
    /// As [`Self::place`], for the owner of a usual line. `None`: it is out of the zone; then it
    /// counts as unknown, and the general way reads and reports it.
    #[inline]
    fn take_plain(
        &mut self,
        apex: &Name,
        origin: &[u8],
        new: &plain::PlainOwner<'a, '_>,
    ) -> Option<()> {
        self.text = b"";
        self.stated = false;
        self.key.clear();
        if !key::push_key(apex, new.wire, &mut self.key) {
            return None;
        }
        // An origin below the apex can bring upper-case letters of its own.
        self.case = if new.upper || origin.len() != apex.as_wire().len() {
            key::case_of(apex, new.wire)
        } else {
            None
        };
        self.wire.clear();
        self.wire.extend_from_slice(new.wire);
        self.text = new.text;
        self.in_zone = true;
        self.stated = true;
        self.broken = false;
        self.carried = false;
        self.told = false;
        Some(())
    }

    fn place(&mut self, env: &Env<'_>) {
        self.key.clear();
        self.in_zone = key::push_key(env.apex, &self.wire, &mut self.key);
        self.case = if self.in_zone {
            key::case_of(env.apex, &self.wire)
        } else {
            None
        };
        self.stated = true;
        self.broken = false;
        self.carried = false;
        self.told = false;
    }
}

struct Parser<'a, 'e, S> {
    env: &'e Env<'a>,
    chunk: &'e Chunk,
    src: &'a [u8],
    /// Line and position of the current entry.
    line: u32,
    entry: usize,
    state: State,
    carried: Option<u32>,
    owner: Owner<'a>,
    /// Type of the current entry, once read.
    rtype: Option<Rtype>,
    rdata: Vec<u8>,
    /// For usual lines.
    room: Option<plain::Room>,
    noted_include: bool,
    parsed: Parsed<S>,
}

impl<'a, S: RecordSink> Parser<'a, '_, S> {
    fn run(&mut self) {
        if self.entry == 3 && self.chunk.first_line == 1 {
            self.finding(
                Code::BYTE_ORDER_MARK,
                0..3,
                "byte order mark at the start of the file",
                None,
            );
        }
        let mut pos = self.entry;
        while let Some(&first) = self.src.get(pos) {
            if first == b'\n' {
                pos += 1;
                self.line = self.line.saturating_add(1);
                continue;
            }
            self.entry = pos;
            if let Some(next) = self.plain(pos, first) {
                pos = next;
                self.line = self.line.saturating_add(1);
                continue;
            }
            self.rtype = None;
            let mut lex = Lexer::new(self.src, pos);
            let done = match first {
                b'$' => self.directive(&mut lex),
                _ => self.entry(&mut lex, first),
            };
            if let Err(p) = done {
                self.problem(*p);
                lex.pos = crate::lex::entry_end(self.src, pos);
                lex.multi = true;
            } else if lex.pos < self.src.len() {
                lex.pos += 1; // the line feed
            }
            let lines = match lex.multi {
                false => 1,
                true => memchr::memchr_iter(b'\n', &self.src[pos..lex.pos]).count() as u32,
            };
            self.line = self.line.saturating_add(lines);
            pos = lex.pos;
            if self.parsed.full {
                return;
            }
        }
    }

    /// Takes the line at `pos` if it is a usual one and nothing is to be said about it; gives the
    /// start of the next. Otherwise the general way finds what it would have found without this.
    #[inline]
    fn plain(&mut self, pos: usize, first: u8) -> Option<usize> {
        let room = self.room.as_mut()?;
        let owner = &mut self.owner;
        let known = owner.stated && owner.in_zone && !owner.carried;
        if first == b'$' || (!known && matches!(first, b' ' | b'\t')) {
            return None;
        }
        let last = if known { owner.text } else { b"" };
        let line = plain::read(self.src, pos, last, &self.state.origin, room)?;
        let ttl = match line.ttl {
            Some(ttl) => ttl,
            // What an included file changed may have to be noted.
            None if self.state.changed_by.is_some() => return None,
            None => self.state.default_ttl.or(self.parsed.out.ttl)?,
        };
        if self.env.max_ttl.is_some_and(|max| ttl > max) {
            return None;
        }
        if let Some(new) = &line.owner {
            owner.take_plain(self.env.apex, &self.state.origin, new)?;
        }
        if !owner.told {
            self.parsed.sink.owner(&owner.key, owner.case.as_deref());
            owner.told = true;
        }
        let loc = self
            .chunk
            .loc_base
            .saturating_add(self.line.saturating_sub(self.chunk.first_line));
        // A full sink is full for the general way as well, which reports it.
        self.parsed
            .sink
            .record(line.rtype, ttl, line.rdata, loc)
            .ok()?;
        if line.ttl.is_some() {
            self.parsed.out.ttl = line.ttl;
        }
        self.parsed.records += 1;
        Some(line.next)
    }

    #[inline]
    fn entry(&mut self, lex: &mut Lexer<'a>, first: u8) -> Lexed<()> {
        if matches!(first, b' ' | b'\t' | b'\r' | b';') {
            let Some(field) = lex.next()? else {
                return Ok(());
            };
            return self.record(lex, Some(field), field.start);
        }
        if matches!(first, b'(' | b')') {
            let text = "an entry cannot start with a parenthesis; open it after the owner";
            return Err(problem(Code::UNBALANCED, self.entry..self.entry + 1, text));
        }
        let Some(token) = lex.next()? else {
            return Ok(());
        };
        if token.text != self.owner.text || self.owner.carried || token.quoted {
            self.owner.text = b"";
            let high = self.set_owner(&token)?;
            if high {
                // Not remembered as text: every line with such a name is noted, wherever chunks start.
                self.eight_bit(token.span());
            } else {
                self.owner.text = token.text;
            }
        }
        self.record(lex, None, token.start)
    }

    /// True if the name has octets above 127.
    fn set_owner(&mut self, token: &Token<'_>) -> Lexed<bool> {
        self.owner.wire.clear();
        self.owner.stated = false;
        self.owner.broken = true;
        self.owner.carried = false;
        let high = text::push_name(token, &self.state.origin, &mut self.owner.wire)?;
        self.owner.place(self.env);
        if !self.owner.in_zone {
            let text = format!(
                "owner {} is outside the zone {}",
                show(&self.owner.wire),
                self.env.apex
            );
            return Err(problem(Code::OUT_OF_ZONE, token.span(), text).help(
                "a name with a final dot is absolute; one without gets the origin appended",
            ));
        }
        Ok(high)
    }

    /// The rest of an entry after its owner; `field`: its first field if that was read already.
    fn record<'t>(
        &mut self,
        lex: &mut Lexer<'t>,
        field: Option<Token<'t>>,
        start: usize,
    ) -> Lexed<()> {
        let none_stated = !self.owner.stated && !self.owner.broken;
        self.parsed.used_owner |= field.is_some() && (none_stated || self.owner.carried);
        let (rtype, ttl, type_token) = self.prefix(lex, field)?;
        self.rtype = Some(rtype);
        if field.is_some() && none_stated {
            return Err(problem(
                Code::NO_OWNER,
                start..type_token.end,
                "no owner was stated before",
            )
            .help("start the line with an owner, or with @ for the zone itself"));
        }
        let mut data = std::mem::take(&mut self.rdata);
        data.clear();
        let parsed = rdata::parse(rtype, lex, &self.state.origin, &mut data);
        self.rdata = data;
        if parsed? {
            self.eight_bit(type_token.end..lex.pos);
        }
        let ttl = match ttl {
            Some(ttl) => ttl,
            None => self.omitted_ttl(rtype, &type_token)?,
        };
        self.parsed.records += 1;
        if !self.owner.stated || !self.owner.in_zone {
            return Ok(());
        }
        self.push(rtype, ttl, start, &type_token)
    }

    /// TTL, class and type. An omitted TTL is found later: SOA may need its RDATA.
    #[inline]
    fn prefix<'t>(
        &mut self,
        lex: &mut Lexer<'t>,
        field: Option<Token<'t>>,
    ) -> Lexed<(Rtype, Option<u32>, Token<'t>)> {
        let mut ttl = None;
        let mut class = false;
        let mut next = field;
        loop {
            let t = match next.take() {
                Some(t) => t,
                None => match lex.next()? {
                    Some(t) => t,
                    None => {
                        return Err(problem(
                            Code::MISSING_FIELD,
                            lex.pos..lex.pos,
                            "the entry ends before a type",
                        ));
                    }
                },
            };
            if t.text.first().is_some_and(u8::is_ascii_digit) && !t.quoted {
                let Some(v) = text::ttl(t.text) else {
                    let text = format!("expected a TTL such as 3600 or 1h, found {:?}", t.show());
                    return Err(problem(Code::BAD_NUMBER, t.span(), text));
                };
                if ttl.is_some() {
                    return Err(problem(Code::BAD_NUMBER, t.span(), "two TTLs in one entry"));
                }
                ttl = Some(self.stated_ttl(v, t.span()));
                continue;
            }
            if t.is("IN") || t.is("CLASS1") {
                if class {
                    return Err(problem(Code::CLASS, t.span(), "two classes in one entry"));
                }
                class = true;
                continue;
            }
            let rtype = if t.quoted {
                None
            } else {
                rdata::rtype_of(t.text)
            };
            return match rtype {
                Some(r) if r.is_meta() => {
                    let text = format!("{r} is a type for messages, not for zones");
                    Err(problem(Code::META_TYPE, t.span(), text))
                }
                Some(r) => Ok((r, ttl, t)),
                None => Err(not_a_type(&t)),
            };
        }
    }

    fn stated_ttl(&mut self, v: u64, span: Range<usize>) -> u32 {
        if v > MAX_TTL {
            self.finding(
                Code::TTL_RANGE,
                span,
                "TTL above 2147483647: 0 is used",
                None,
            );
        }
        let ttl = clamp_ttl(v);
        self.parsed.out.ttl = Some(ttl);
        ttl
    }

    fn omitted_ttl(&mut self, rtype: Rtype, at: &Token<'_>) -> Lexed<u32> {
        if let Some(place) = self.state.changed_by
            && !self.noted_include
        {
            self.noted_include = true;
            let text = "an included file set $TTL; here the value from before holds again";
            let line = Line {
                file: self.file_name(place.0),
                line: place.1,
            };
            self.finding(Code::INCLUDE_CHANGED_TTL, at.span(), text, Some(line));
        }
        if let Some(ttl) = self.state.default_ttl.or(self.parsed.out.ttl) {
            return Ok(ttl);
        }
        self.parsed.used_ttl = true;
        let n = self.rdata.len();
        let minimum = (rtype == Rtype::SOA && n >= 22).then(|| {
            self.rdata[n - 4..]
                .iter()
                .fold(0u64, |v, &b| v << 8 | b as u64)
        });
        let before = self.parsed.implied_ttl;
        // Remembered even when not needed here: what flows into this chunk may be an assumption.
        self.parsed.implied_ttl = before.or(minimum.map(clamp_ttl));
        if let Some(ttl) = self.carried.or(before) {
            return Ok(ttl);
        }
        if let Some(minimum) = minimum {
            let text = "no TTL is stated: the SOA's MINIMUM is used";
            self.finding(Code::TTL_FROM_SOA, at.span(), text, None);
            if minimum > MAX_TTL {
                self.finding(
                    Code::TTL_RANGE,
                    at.span(),
                    "TTL above 2147483647: 0 is used",
                    None,
                );
            }
            return Ok(clamp_ttl(minimum));
        }
        Err(problem(
            Code::MISSING_FIELD,
            at.span(),
            "no TTL: none is stated here or before, and there is no $TTL",
        )
        .help("put a $TTL line at the start of the file"))
    }

    #[inline]
    fn push(&mut self, rtype: Rtype, mut ttl: u32, start: usize, at: &Token<'_>) -> Lexed<()> {
        if self.env.strip
            && (rtype.is_denial_or_signature()
                || (self.owner.key.is_empty() && rtype.is_signer_apex()))
        {
            *self.parsed.stripped.entry(rtype.0).or_default() += 1;
            return Ok(());
        }
        if self.owner.wire.len() + 10 + self.rdata.len() > MAX_RR {
            let text = format!(
                "record of {} octets fits no message",
                self.owner.wire.len() + 10 + self.rdata.len()
            );
            return Err(problem(Code::TOO_LARGE, at.span(), text));
        }
        if let Some(max) = self.env.max_ttl.filter(|&max| ttl > max) {
            let text = format!("TTL {ttl} is above signer.max-ttl: lowered to {max}");
            self.finding(Code::TTL_LOWERED, start..at.end, &text, None);
            ttl = max;
        }
        if !self.owner.told {
            self.parsed
                .sink
                .owner(&self.owner.key, self.owner.case.as_deref());
            self.owner.told = true;
        }
        let loc = self
            .chunk
            .loc_base
            .saturating_add(self.line.saturating_sub(self.chunk.first_line));
        if self
            .parsed
            .sink
            .record(rtype, ttl, &self.rdata, loc)
            .is_err()
        {
            self.parsed.full = true;
            return Err(problem(
                Code::LIMIT,
                at.span(),
                "too many records in one piece of the file",
            ));
        }
        Ok(())
    }

    fn directive(&mut self, lex: &mut Lexer<'a>) -> Lexed<()> {
        match directive::read(lex, &self.state.origin)? {
            Directive::Origin(name) => {
                self.state.origin = name;
                // The same text may now be another name.
                self.owner.text = b"";
            }
            Directive::Ttl(v, span) => {
                if v > MAX_TTL {
                    self.finding(
                        Code::TTL_RANGE,
                        span,
                        "TTL above 2147483647: 0 is used",
                        None,
                    );
                }
                self.state.default_ttl = Some(clamp_ttl(v));
                self.state.changed_by = None;
            }
            // Never inside a chunk: the splitter has followed it.
            Directive::Include { .. } => {}
            Directive::Generate(g) => self.generate(&g)?,
        }
        Ok(())
    }

    fn generate(&mut self, g: &Generate<'_>) -> Lexed<()> {
        self.state.generated = self
            .state
            .generated
            .saturating_add(g.count())
            .min(MAX_GENERATED + 1);
        if self.state.generated > MAX_GENERATED {
            let text =
                format!("$GENERATE would make more than {MAX_GENERATED} records in this file");
            return Err(problem(Code::LIMIT, g.span.clone(), text));
        }
        let mut line = Vec::new();
        for value in (g.start..=g.stop).step_by(usize::try_from(g.step).unwrap_or(usize::MAX)) {
            line.clear();
            let made = match g.expand(value, &mut line) {
                Err(text) => Err(problem(Code::BAD_NUMBER, 0..0, text)),
                Ok(()) => self.generated(&line),
            };
            if let Err(p) = made {
                // The place is the directive's: the line itself is in no file.
                let text = format!("$GENERATE for {value}: {}", p.message);
                let mut p = problem(p.code, g.span.clone(), text);
                p.help = Some(format!(
                    "the line made is: {}",
                    String::from_utf8_lossy(&line)
                ));
                return Err(p);
            }
        }
        self.owner.text = b"";
        Ok(())
    }

    fn generated(&mut self, line: &[u8]) -> Lexed<()> {
        let mut lex = Lexer::new(line, 0);
        let Some(owner) = lex.next()? else {
            return Ok(());
        };
        self.owner.text = b"";
        self.set_owner(&owner)?;
        // Spans inside the made line mean nothing in the file; findings stand at the directive.
        self.record(&mut lex, None, 0)
    }

    fn eight_bit(&mut self, span: Range<usize>) {
        let text =
            "name with octets above 127; an internationalised name is written as A-label (xn--…)";
        self.finding(Code::EIGHT_BIT_NAME, span, text, None);
    }

    fn file_name(&self, file: usize) -> String {
        self.env
            .files
            .get(file)
            .map_or(String::new(), |f| f.name.clone())
    }

    fn finding(&mut self, code: Code, span: Range<usize>, message: &str, included: Option<Line>) {
        let Some(severity) = self.env.checks.severity(code) else {
            return;
        };
        // The note of an include is always kept, because the chunks' notes are merged into one.
        if self.parsed.diagnostics.count(code, severity) || included.is_some() {
            let p = Problem {
                code,
                span,
                message: message.to_string(),
                label: String::new(),
                help: None,
            };
            let mut d = diagnostic(self.env.files, self.chunk.file, self.line, self.entry, p);
            d.severity = severity;
            if let Some(line) = included {
                d.help = Some(format!("the include is at {}:{}", line.file, line.line));
            }
            self.parsed.diagnostics.kept.push(d);
        }
    }

    #[cold]
    fn problem(&mut self, p: Problem) {
        let severity = self
            .env
            .checks
            .severity(p.code)
            .unwrap_or(crate::code::Severity::Error);
        if self.parsed.diagnostics.count(p.code, severity) {
            let mut d = diagnostic(self.env.files, self.chunk.file, self.line, self.entry, p);
            d.severity = severity;
            d.rtype = self.rtype.map(|t| t.to_string());
            // A directive has no owner.
            if self.owner.stated && self.src.get(self.entry) != Some(&b'$') {
                d.owner = Some(show(&self.owner.wire));
            }
            self.parsed.diagnostics.kept.push(d);
        }
    }
}

/// A problem with its place; `line` is the line of the octet `entry`.
pub fn diagnostic(
    files: &[SourceFile],
    file: usize,
    line: u32,
    entry: usize,
    p: Problem,
) -> Diagnostic {
    let (name, src) = files
        .get(file)
        .map_or(("", &[][..]), |f| (f.name.as_str(), &f.bytes[..]));
    // A span at the end of a line or file is shown behind its last character.
    let at = p.span.start.min(src.len());
    let at = if at < entry { entry.min(src.len()) } else { at };
    let entry = entry.min(at);
    let line = line.saturating_add(memchr::memchr_iter(b'\n', &src[entry..at]).count() as u32);
    let start = memchr::memrchr(b'\n', &src[..at]).map_or(0, |i| i + 1);
    let end = memchr::memchr(b'\n', &src[at..]).map_or(src.len(), |i| at + i);
    let text = src[start..end]
        .strip_suffix(b"\r")
        .unwrap_or(&src[start..end]);
    let span = at - start..p.span.end.saturating_sub(start).max(at - start);
    let mut included_from = Vec::new();
    let mut parent = files.get(file).and_then(|f| f.parent);
    while let Some((f, line)) = parent {
        let Some(f) = files.get(f) else { break };
        included_from.push(Line {
            file: f.name.clone(),
            line,
        });
        parent = f.parent;
    }
    let rule = p.code.info().map(|i| i.rule).filter(|r| !r.is_empty());
    Diagnostic {
        code: p.code,
        severity: crate::code::Severity::Error,
        message: p.message,
        place: Some(Place::new(name, line, text, span).labelled(p.label)),
        included_from,
        owner: None,
        rtype: None,
        related: Vec::new(),
        rule: rule.map(str::to_string),
        help: p.help,
    }
}

#[cold]
fn not_a_type(t: &Token<'_>) -> Box<Problem> {
    let text = t.show();
    if ["CH", "HS", "CS", "NONE", "ANY"].iter().any(|c| t.is(c))
        || text
            .get(..5)
            .is_some_and(|t| t.eq_ignore_ascii_case("CLASS"))
    {
        return problem(
            Code::CLASS,
            t.span(),
            format!("class {text}: only IN is possible"),
        );
    }
    let upper = text.to_ascii_uppercase();
    let near = Rtype::ALL
        .iter()
        .map(|(_, m)| (strsim::damerau_levenshtein(m, &upper), *m))
        .min()
        .filter(|(distance, m)| *distance <= 2 && *distance < m.len());
    let p = problem(
        Code::UNKNOWN_TYPE,
        t.span(),
        format!("unknown type {text:?}"),
    );
    match near {
        Some((_, m)) => p.help(format!(
            "did you mean {m}? A type without a name is written TYPE123"
        )),
        None => p.help("a type without a name is written TYPE123 (RFC 3597)"),
    }
}

fn show(wire: &[u8]) -> String {
    let mut out = String::new();
    if write_name(wire, &mut out).is_err() {
        let _ = push_hex(wire, &mut out);
    }
    out
}

//! Requests as people write them: the commands of nsupdate(1), as far as they say what is to be
//! changed.
//!
//! Names are absolute, with or without a final dot, as there. What says how to reach a server is
//! refused with a sentence: the text goes to the daemon that holds the zone.

use std::collections::BTreeMap;

use cascade_zone::{Name, Rtype, key};

use super::{Change, Prerequisite, Request, Target};
use crate::lex::{Lexed, Lexer, Problem, Token, entry_end};
use crate::rdata::{self, rtype_of};
use crate::text;

/// Errors told at once.
const MAX_ERRORS: usize = 20;

/// Requests of one text.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Script {
    pub requests: Vec<Scripted>,
}

/// One request: what stood before a `send`, an empty line or the end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Scripted {
    /// Where its first command stands, from 1.
    pub line: usize,
    pub request: Request,
}

/// A command that cannot be read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ScriptError {
    /// From 1, in octets.
    pub line: usize,
    pub column: usize,
    pub message: String,
}

/// Reads the whole text.
///
/// # Errors
/// What is wrong, in order; at most 20 are told.
pub fn parse(src: &str, apex: &Name) -> Result<Script, Vec<ScriptError>> {
    let mut reader = Reader {
        src: src.as_bytes(),
        apex,
        ttl: None,
        open: None,
        script: Script::default(),
    };
    let mut errors = Vec::new();
    let mut at = 0;
    while at < reader.src.len() && errors.len() < MAX_ERRORS {
        let end = entry_end(reader.src, at);
        match reader.entry(at) {
            Ok(true) => {}
            Ok(false) => break,
            Err(fault) => errors.push(reader.placed(fault)),
        }
        at = end;
    }
    reader.send();
    match errors.is_empty() {
        true => Ok(reader.script),
        false => Err(errors),
    }
}

/// What a request gathers.
struct Open {
    line: usize,
    request: Request,
    /// RFC 2136 §2.4.2: values of one RRset are one prerequisite.
    sets: BTreeMap<(Vec<u8>, Rtype), (Target, Vec<Vec<u8>>)>,
}

struct Reader<'a> {
    src: &'a [u8],
    apex: &'a Name,
    /// Of `ttl`, for records without one.
    ttl: Option<u32>,
    open: Option<Open>,
    script: Script,
}

/// Octet and message.
struct Fault(usize, String);

impl From<Box<Problem>> for Fault {
    fn from(p: Box<Problem>) -> Fault {
        let help = p.help.map_or(String::new(), |h| format!("; {h}"));
        Fault(p.span.start, format!("{}{help}", p.message))
    }
}

const KNOWN: &str = "prereq, update, zone, class, ttl, send, quit, and ; for comments";

impl<'a> Reader<'a> {
    /// One command; `false`: nothing follows.
    fn entry(&mut self, at: usize) -> Result<bool, Fault> {
        let mut lex = Lexer::new(self.src, at);
        let Some(word) = lex.next()? else {
            if self.is_blank(at) {
                self.send();
            }
            return Ok(true);
        };
        let is = |w: &str| word.is(w);
        if is("prereq") {
            let what = self.need(&mut lex, "nxdomain, yxdomain, nxrrset or yxrrset")?;
            self.prereq(&what, &mut lex, at)?;
        } else if ["nxdomain", "yxdomain", "nxrrset", "yxrrset"]
            .map(is)
            .contains(&true)
        {
            self.prereq(&word, &mut lex, at)?;
        } else if is("update") {
            let what = self.need(&mut lex, "add or delete")?;
            self.update(&what, &mut lex, at)?;
        } else if ["add", "del", "delete"].map(is).contains(&true) {
            self.update(&word, &mut lex, at)?;
        } else if is("send") {
            end(&mut lex)?;
            self.send();
        } else if is("quit") {
            return Ok(false);
        } else if is("zone") {
            let token = self.need(&mut lex, "the name of the zone")?;
            let name = name(&token)?;
            end(&mut lex)?;
            if name.to_lowercase() != self.apex.to_lowercase() {
                let text = format!("zone {name}: the command is for {}", self.apex);
                return Err(Fault(token.start, text));
            }
        } else if is("class") {
            let token = self.need(&mut lex, "IN")?;
            end(&mut lex)?;
            if !token.is("IN") {
                return Err(Fault(token.start, "the class is IN and no other".into()));
            }
        } else if is("ttl") {
            let token = self.need(&mut lex, "a TTL")?;
            let value = ttl(&token).ok_or_else(|| bad_ttl(&token))?;
            end(&mut lex)?;
            self.ttl = Some(value);
        } else {
            return Err(Fault(word.start, unknown(&word)));
        }
        Ok(true)
    }

    fn need(&self, lex: &mut Lexer<'a>, what: &str) -> Result<Token<'a>, Fault> {
        let at = lex.pos;
        match lex.next()? {
            Some(token) => Ok(token),
            None => Err(Fault(at, format!("here must follow {what}"))),
        }
    }

    fn prereq(&mut self, what: &Token<'_>, lex: &mut Lexer<'a>, at: usize) -> Result<(), Fault> {
        let owner = self.need(lex, "a name")?;
        let mut target = self.target(&owner)?;
        if what.is("nxdomain") || what.is("yxdomain") {
            end(lex)?;
            self.gather(at)
                .request
                .prerequisites
                .push(match what.is("yxdomain") {
                    true => Prerequisite::NameInUse(target),
                    false => Prerequisite::NameNotInUse(target),
                });
            return Ok(());
        }
        let there = what.is("yxrrset");
        if !there && !what.is("nxrrset") {
            let text = format!(
                "'{}' is no prerequisite; write nxdomain, yxdomain, nxrrset or yxrrset",
                what.show()
            );
            return Err(Fault(what.start, text));
        }
        let first = self.need(lex, "a type")?;
        let token = class_then(lex, first)?;
        let token = token.ok_or_else(|| Fault(lex.pos, "here must follow a type".into()))?;
        target.rtype = rtype(&token)?;
        if there && let Some(rdata) = data(target.rtype, lex)? {
            let sets = &mut self.gather(at).sets;
            let id = (target.key.clone(), target.rtype);
            let set = sets.entry(id).or_insert_with(|| (target, Vec::new()));
            set.1.push(rdata);
            return Ok(());
        }
        end(lex)?;
        self.gather(at).request.prerequisites.push(match there {
            true => Prerequisite::SetExists(target),
            false => Prerequisite::SetAbsent(target),
        });
        Ok(())
    }

    fn update(&mut self, what: &Token<'_>, lex: &mut Lexer<'a>, at: usize) -> Result<(), Fault> {
        let add = what.is("add");
        if !add && !what.is("del") && !what.is("delete") {
            let text = format!("'{}' is no update; write add or delete", what.show());
            return Err(Fault(what.start, text));
        }
        let owner = self.need(lex, "a name")?;
        let mut target = self.target(&owner)?;
        let mut token = lex.next()?;
        let mut given = None;
        if let Some(t) = token
            && let Some(value) = ttl(&t)
        {
            given = Some(value);
            token = lex.next()?;
        }
        let token = match token {
            Some(t) => class_then(lex, t)?,
            None => None,
        };
        let Some(token) = token else {
            if add {
                return Err(Fault(lex.pos, "here must follow TTL, type and data".into()));
            }
            self.gather(at)
                .request
                .changes
                .push(Change::DeleteName(target));
            return Ok(());
        };
        target.rtype = rtype(&token)?;
        let rdata = data(target.rtype, lex)?;
        let change = match (add, rdata) {
            (false, None) => Change::DeleteSet(target),
            (false, Some(rdata)) => Change::DeleteRecord { at: target, rdata },
            (true, None) => {
                let text = format!("here must follow the data of the {} record", target.rtype);
                return Err(Fault(lex.pos, text));
            }
            (true, Some(rdata)) => Change::Add {
                ttl: given.or(self.ttl).ok_or_else(|| {
                    let text = "the record has no TTL; write one after the name, or 'ttl N' before";
                    Fault(token.start, text.into())
                })?,
                at: target,
                rdata,
            },
        };
        self.gather(at).request.changes.push(change);
        Ok(())
    }

    fn target(&self, token: &Token<'_>) -> Result<Target, Fault> {
        let name = name(token)?;
        let Some(key) = key::key_of(self.apex, name.as_wire()) else {
            let mut text = format!("{name} is outside of the zone {}", self.apex);
            if !token.text.ends_with(b".") {
                text.push_str("; names are absolute here, write them in full");
            }
            return Err(Fault(token.start, text));
        };
        Ok(Target {
            case: key::case_of(self.apex, name.as_wire()),
            key,
            rtype: Rtype::ANY,
        })
    }

    fn gather(&mut self, at: usize) -> &mut Open {
        let line = place(self.src, at).0;
        self.open.get_or_insert_with(|| Open {
            line,
            request: Request::default(),
            sets: BTreeMap::new(),
        })
    }

    fn send(&mut self) {
        let Some(mut open) = self.open.take() else {
            return;
        };
        let sets = open.sets.into_values();
        let sets = sets.map(|(at, rdatas)| Prerequisite::SetIs(at, rdatas));
        open.request.prerequisites.extend(sets);
        self.script.requests.push(Scripted {
            line: open.line,
            request: open.request,
        });
    }

    /// No comment either.
    fn is_blank(&self, at: usize) -> bool {
        let line = self.src.get(at..).unwrap_or_default();
        let line = line.split(|b| *b == b'\n').next().unwrap_or_default();
        line.iter().all(u8::is_ascii_whitespace)
    }

    fn placed(&self, Fault(at, message): Fault) -> ScriptError {
        let (line, column) = place(self.src, at);
        ScriptError {
            line,
            column,
            message,
        }
    }
}

fn place(src: &[u8], at: usize) -> (usize, usize) {
    let before = src.get(..at).unwrap_or(src);
    let line = before.iter().filter(|b| **b == b'\n').count() + 1;
    let start = memchr::memrchr(b'\n', before).map_or(0, |i| i + 1);
    (line, before.len() - start + 1)
}

/// The field after an optional class.
fn class_then<'a>(lex: &mut Lexer<'a>, token: Token<'a>) -> Lexed<Option<Token<'a>>> {
    match token.is("IN") {
        true => lex.next(),
        false => Ok(Some(token)),
    }
}

fn end(lex: &mut Lexer<'_>) -> Result<(), Fault> {
    match lex.next()? {
        None => Ok(()),
        Some(t) => Err(Fault(
            t.start,
            format!("'{}' is one word too many", t.show()),
        )),
    }
}

fn name(token: &Token<'_>) -> Result<Name, Fault> {
    let mut wire = Vec::new();
    text::push_name(token, &[0], &mut wire)?;
    Name::from_wire(&wire).map_err(|e| Fault(token.start, e.to_string()))
}

fn ttl(token: &Token<'_>) -> Option<u32> {
    if token.quoted || !token.text.first()?.is_ascii_digit() {
        return None;
    }
    let value = text::ttl(token.text)?;
    // RFC 2181 §8.
    u32::try_from(value).ok().filter(|v| *v <= i32::MAX as u32)
}

fn bad_ttl(token: &Token<'_>) -> Fault {
    let text = format!("'{}' is no TTL; write seconds, or 1h30m", token.show());
    Fault(token.start, text)
}

fn rtype(token: &Token<'_>) -> Result<Rtype, Fault> {
    let text = token.text.to_ascii_uppercase();
    let found = rtype_of(&text).filter(|t| !token.quoted && !t.is_meta());
    found.ok_or_else(|| {
        let text = format!("'{}' is no type of records", token.show());
        Fault(token.start, text)
    })
}

/// The rest of the entry as RDATA; `None`: there is none.
fn data(rtype: Rtype, lex: &mut Lexer<'_>) -> Result<Option<Vec<u8>>, Fault> {
    if lex.clone().next()?.is_none() {
        return Ok(None);
    }
    let mut out = Vec::new();
    rdata::parse(rtype, lex, &[0], &mut out)?;
    Ok(Some(out))
}

fn unknown(word: &Token<'_>) -> String {
    let elsewhere = ["server", "local", "key", "gsstsig", "oldgsstsig", "realm"];
    let text = word.show();
    if elsewhere.iter().any(|w| word.is(w)) {
        return format!(
            "'{text}' says how to reach a server; this goes to the daemon through the control API, \
             which knows who asks: leave the line away"
        );
    }
    if [
        "show",
        "answer",
        "debug",
        "help",
        "version",
        "check-names",
        "lease",
    ]
    .iter()
    .any(|w| word.is(w))
    {
        return format!("'{text}' is nothing that changes the zone; leave the line away");
    }
    format!("'{text}' is no command; known are {KNOWN}")
}

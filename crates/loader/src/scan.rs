//! The splitter: one pass that finds chunk boundaries, follows `$ORIGIN` and `$TTL`, and opens
//! includes, so that chunks can be parsed in parallel from a known start state.

use std::ffi::OsStr;
use std::ops::Range;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use crate::code::Code;
use crate::directive::{self, Directive, MAX_GENERATED};
use crate::lex::{Lexer, Problem, entry_end, problem};
use crate::source::{self, IncludeMode, MAX_FILES, MAX_INCLUDE_DEPTH, SourceFile};

/// Highest TTL (RFC 2181 §8).
pub const MAX_TTL: u64 = (1 << 31) - 1;

/// What a chunk starts with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct State {
    /// Wire form.
    pub origin: Vec<u8>,
    /// From `$TTL`.
    pub default_ttl: Option<u32>,
    /// An included file set `$TTL` and this file has not since: where.
    pub changed_by: Option<(usize, u32)>,
    /// Records that `$GENERATE` lines before made in this file.
    pub generated: u64,
}

/// A piece of a file that starts and ends at entries.
#[derive(Debug, Clone)]
pub struct Chunk {
    pub file: usize,
    pub range: Range<usize>,
    pub first_line: u32,
    /// Number of the first line in the load's space of lines.
    pub loc_base: u32,
    /// The item whose last owner and last TTL hold at the start.
    pub previous: Option<usize>,
    pub state: State,
}

#[derive(Debug)]
pub enum Item {
    Chunk(Chunk),
    /// A directive that the splitter itself could not follow.
    Broken {
        file: usize,
        line: u32,
        entry: usize,
        problem: Box<Problem>,
    },
}

/// Everything a load reads, in pieces.
#[derive(Debug, Default)]
pub struct Plan {
    pub files: Vec<SourceFile>,
    pub items: Vec<Item>,
    /// Total of line numbers given out.
    pub lines: u64,
}

#[derive(Debug, Clone)]
pub struct ScanOptions {
    /// Least octets of a chunk.
    pub chunk: usize,
    pub include: IncludeMode,
    /// Largest file, 0 unlimited.
    pub max_size: u64,
}

/// Splits `main` and all that it includes.
pub fn scan(main: SourceFile, origin: &[u8], options: &ScanOptions) -> Plan {
    let dir = match main.stat.path.parent() {
        Some(p) if p.as_os_str().is_empty() => PathBuf::from("."),
        Some(p) => p.to_path_buf(),
        None => PathBuf::from("."),
    };
    let mut scan = Scan {
        plan: Plan::default(),
        options,
        dir,
    };
    scan.plan.files.push(main);
    let state = State {
        origin: origin.to_vec(),
        default_ttl: None,
        changed_by: None,
        generated: 0,
    };
    scan.file(0, state, None, 0);
    scan.plan
}

struct Scan<'o> {
    plan: Plan,
    options: &'o ScanOptions,
    dir: PathBuf,
}

/// Walking one file.
struct Walk {
    file: usize,
    state: State,
    previous: Option<usize>,
    /// Start of the chunk that is open, its line, and the state there.
    start: usize,
    line: u32,
    start_state: State,
}

impl Scan<'_> {
    /// Gives the default TTL at the end of the file.
    fn file(
        &mut self,
        file: usize,
        state: State,
        previous: Option<usize>,
        depth: usize,
    ) -> Option<u32> {
        // The octets are lent out of the plan while includes add to it.
        let Some(entry) = self.plan.files.get_mut(file) else {
            return state.default_ttl;
        };
        let bytes = std::mem::take(&mut entry.bytes);
        let mut walk = Walk {
            file,
            start_state: state.clone(),
            state,
            previous,
            start: 0,
            line: 1,
        };
        if bytes.starts_with(b"\xef\xbb\xbf") {
            walk.start = 3;
        }
        self.walk(&bytes, &mut walk, depth);
        self.close(&bytes, &mut walk, bytes.len());
        if let Some(entry) = self.plan.files.get_mut(file) {
            entry.bytes = bytes;
        }
        walk.state.default_ttl
    }

    fn walk(&mut self, src: &[u8], w: &mut Walk, depth: usize) {
        let mut pos = w.start;
        let mut specials = Specials::default();
        while pos < src.len() {
            let special = specials.next(src, pos);
            // All before the line of the special octet is plain: every line is an entry's start.
            let line = memchr::memrchr(b'\n', &src[pos..special]).map_or(pos, |i| pos + i + 1);
            self.cut_plain(src, w, pos, line);
            if special == src.len() {
                return;
            }
            if src[special] == b';' {
                // Nothing special stands before it: a comment, and the entry ends with the line.
                pos = memchr::memchr(b'\n', &src[special..]).map_or(src.len(), |i| special + i + 1);
                debug_assert_eq!(pos, entry_end(src, line));
                continue;
            }
            pos = entry_end(src, line);
            if src[line] == b'$' {
                pos = self.directive(src, w, line, pos, depth);
            }
        }
    }

    /// Cuts within `from..to`, where every line starts an entry; `to` starts one as well.
    fn cut_plain(&mut self, src: &[u8], w: &mut Walk, from: usize, to: usize) {
        let mut at = from.max(w.start.saturating_add(self.options.chunk));
        while at < to {
            let Some(lf) = memchr::memchr(b'\n', &src[at..to]) else {
                return;
            };
            at += lf + 1;
            // Only a line with an owner of its own needs nothing from the lines before.
            if at >= src.len() || at > to {
                return;
            }
            if matches!(src[at], b' ' | b'\t' | b'\r' | b'\n' | b';' | b'$' | b'(') {
                continue;
            }
            self.close(src, w, at);
            at = w.start.saturating_add(self.options.chunk);
        }
    }

    /// Ends the open chunk at `end`.
    fn close(&mut self, src: &[u8], w: &mut Walk, end: usize) {
        if end <= w.start {
            return;
        }
        let lines = memchr::memchr_iter(b'\n', &src[w.start..end]).count() as u64;
        let index = self.plan.items.len();
        self.plan.items.push(Item::Chunk(Chunk {
            file: w.file,
            range: w.start..end,
            first_line: w.line,
            loc_base: u32::try_from(self.plan.lines).unwrap_or(u32::MAX),
            previous: w.previous,
            state: w.start_state.clone(),
        }));
        self.plan.lines += lines + 1;
        w.previous = Some(index);
        w.line = w.line.saturating_add(lines as u32);
        w.start = end;
        w.start_state = w.state.clone();
    }

    /// Follows the directive at `at`, whose entry ends at `end`; gives where to go on. What is
    /// wrong with it is reported by the parser of its chunk, except for includes.
    fn directive(
        &mut self,
        src: &[u8],
        w: &mut Walk,
        at: usize,
        end: usize,
        depth: usize,
    ) -> usize {
        let mut lex = Lexer::new(&src[..end], at);
        let Ok(directive) = directive::read(&mut lex, &w.state.origin) else {
            return end;
        };
        match directive {
            Directive::Origin(name) => w.state.origin = name,
            Directive::Ttl(v, _) => {
                w.state.default_ttl = Some(clamp_ttl(v));
                w.state.changed_by = None;
            }
            Directive::Generate(g) => {
                w.state.generated = w
                    .state
                    .generated
                    .saturating_add(g.count())
                    .min(MAX_GENERATED + 1);
            }
            Directive::Include { path, span, origin } => {
                self.close(src, w, at);
                let line = w.line;
                let start = w.state.clone();
                let ttl = match self.include(w, &path, origin, line, depth) {
                    Ok(ttl) => ttl,
                    Err(text) => {
                        let problem = problem(Code::INCLUDE_REFUSED, span, text);
                        let broken = Item::Broken {
                            file: w.file,
                            line,
                            entry: at,
                            problem,
                        };
                        self.plan.items.push(broken);
                        start.default_ttl
                    }
                };
                w.state = start;
                if ttl != w.state.default_ttl {
                    w.state.changed_by = Some((w.file, line));
                }
                // The directive itself belongs to no chunk.
                let lines = memchr::memchr_iter(b'\n', &src[at..end]).count();
                w.line = w.line.saturating_add(lines as u32);
                w.start = end;
                w.start_state = w.state.clone();
            }
        }
        end
    }

    fn include(
        &mut self,
        w: &Walk,
        path: &[u8],
        origin: Option<Vec<u8>>,
        line: u32,
        depth: usize,
    ) -> Result<Option<u32>, String> {
        if depth >= MAX_INCLUDE_DEPTH {
            return Err(format!("includes nested deeper than {MAX_INCLUDE_DEPTH}"));
        }
        if self.plan.files.len() >= MAX_FILES {
            return Err(format!("more than {MAX_FILES} files in one zone"));
        }
        let including = &self.plan.files[w.file];
        let including_dir = match including.stat.path.parent() {
            Some(p) if !p.as_os_str().is_empty() => p.to_path_buf(),
            _ => PathBuf::from("."),
        };
        let name = Path::new(OsStr::from_bytes(path));
        let (bytes, stat) = source::read_include(
            name,
            &self.dir,
            &including_dir,
            self.options.include,
            self.options.max_size,
        )
        .map_err(|e| e.to_string())?;
        let mut up = Some(w.file);
        while let Some(i) = up {
            let f = &self.plan.files[i];
            if (f.stat.device, f.stat.inode) == (stat.device, stat.inode) {
                return Err(format!(
                    "{:?} includes itself, through the lines shown",
                    stat.path
                ));
            }
            up = f.parent.map(|(p, _)| p);
        }
        let read: u64 = self.plan.files.iter().map(|f| f.stat.size).sum();
        if self.options.max_size > 0 && read.saturating_add(stat.size) > self.options.max_size {
            return Err(format!(
                "all files together exceed {} octets (loader.max-size)",
                self.options.max_size
            ));
        }
        let index = self.plan.files.len();
        let name = stat.path.display().to_string();
        self.plan.files.push(SourceFile {
            name,
            bytes,
            parent: Some((w.file, line)),
            stat,
        });
        let mut state = State {
            generated: 0,
            changed_by: None,
            ..w.state.clone()
        };
        if let Some(origin) = origin {
            state.origin = origin;
        }
        Ok(self.file(index, state, w.previous, depth + 1))
    }
}

/// RFC 2181 §8: a TTL with the top bit set counts as 0.
pub fn clamp_ttl(v: u64) -> u32 {
    if v > MAX_TTL { 0 } else { v as u32 }
}

/// Octets that can change where entries end, or start a directive.
const SPECIAL: [[u8; 3]; 2] = [*b"\"(;", *b")\\$"];

/// Octets looked at for one set before the other's turn, so that both find them in the cache.
const WINDOW: usize = 64 * 1024;

/// Finds special octets in order. What was looked at for one set is remembered, so that a file
/// full of octets of the other is still read once.
#[derive(Debug, Default)]
struct Specials {
    seen: [Seen; SPECIAL.len()],
}

/// No octet of the set stands in `from..hit`; one stands at `hit` if that is below `to`.
#[derive(Debug, Clone, Copy, Default)]
struct Seen {
    from: usize,
    hit: usize,
    to: usize,
}

impl Specials {
    /// The first from `pos` on, or the end. `pos` never goes back.
    fn next(&mut self, src: &[u8], pos: usize) -> usize {
        let mut at = pos;
        while at < src.len() {
            let to = src.len().min(at.saturating_add(WINDOW));
            let mut first = to;
            for (seen, set) in self.seen.iter_mut().zip(SPECIAL) {
                first = first.min(seen.first(src, at..first, set));
            }
            if first < to {
                return first;
            }
            at = to;
        }
        src.len()
    }
}

impl Seen {
    /// The first of the set in `range`, or its end.
    #[inline]
    fn first(&mut self, src: &[u8], range: Range<usize>, set: [u8; 3]) -> usize {
        if self.from <= range.start && range.start <= self.hit {
            if self.hit < self.to || range.end <= self.to {
                return self.hit.min(range.end);
            }
        } else {
            self.to = range.start;
        }
        // Nothing from the start of the range to `to`.
        let at = self.to.max(range.start);
        let [a, b, c] = set;
        let hit = memchr::memchr3(a, b, c, &src[at..range.end]);
        *self = Seen {
            from: range.start,
            hit: hit.map_or(range.end, |i| at + i),
            to: range.end,
        };
        self.hit
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn specials_are_found(text in "[a-c\"(;)\\\\$\n]{0,40}", gaps in prop::collection::vec(0usize..3 * WINDOW, 0..4), steps in prop::collection::vec(1usize..9, 1..40)) {
            // Long plain stretches, so that windows matter.
            let mut src = text.into_bytes();
            for gap in gaps {
                let at = gap % (src.len() + 1);
                src.splice(at..at, std::iter::repeat_n(b'x', gap));
            }
            let mut specials = Specials::default();
            let mut pos = 0;
            for step in steps {
                let is = |b: &u8| b"\"(;)\\$".contains(b);
                let want = src[pos..].iter().position(is).map_or(src.len(), |i| pos + i);
                prop_assert_eq!(specials.next(&src, pos), want);
                pos = (want + step).min(src.len());
            }
        }
    }
}

//! A load's parsing as a whole: plan, parallel waves, and one result in file order.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use rayon::prelude::*;

use crate::code::{Code, Severity};
use crate::diag::{Diagnostics, Line, Place};
use crate::parse::{Carry, Env, Parsed, diagnostic, parse_chunk};
use crate::scan::{Chunk, Item, Plan};
use crate::sink::RecordSink;

/// How far a load is, readable from anywhere without a lock.
#[derive(Debug, Default)]
pub struct Progress {
    /// Octets parsed and octets to parse.
    pub octets: AtomicU64,
    pub octets_total: AtomicU64,
    /// Records parsed.
    pub records: AtomicU64,
}

/// Everything parsed, in file order.
#[derive(Debug)]
pub struct ParsedFile<S> {
    pub sinks: Vec<S>,
    pub diagnostics: Diagnostics,
    /// Records in the input, before stripping.
    pub records: u64,
    /// Records dropped because a signer makes its own, by type number.
    pub stripped: BTreeMap<u16, u64>,
}

/// Parses all items of a plan on the current thread pool.
///
/// The result does not depend on how the plan was cut or on the number of threads.
pub fn parse_plan<S: RecordSink + Send>(
    env: &Env<'_>,
    plan: &Plan,
    sink: impl Fn() -> S + Sync,
    progress: &Progress,
) -> ParsedFile<S> {
    let total = plan
        .items
        .iter()
        .map(|i| chunk_of(i).map_or(0, |c| c.range.len() as u64))
        .sum();
    progress.octets_total.store(total, Ordering::Relaxed);
    let parse = |chunk: &Chunk, carry: &Carry| {
        let parsed = parse_chunk(env, chunk, carry, sink());
        progress
            .octets
            .fetch_add(chunk.range.len() as u64, Ordering::Relaxed);
        progress
            .records
            .fetch_add(parsed.records, Ordering::Relaxed);
        parsed
    };
    // The TTL stated last in the first chunk is most likely that of all later ones, if they lean
    // on one at all; so it is assumed, and what assumed wrongly is parsed again.
    let nothing = Carry::default();
    let mut items = plan.items.iter();
    let first = items
        .next()
        .map(|i| chunk_of(i).map(|c| parse(c, &nothing)));
    let assumed = Carry {
        owner: None,
        ttl: first
            .iter()
            .flatten()
            .next()
            .and_then(|p| p.out.ttl.or(p.implied_ttl)),
    };
    let rest: Vec<Option<Parsed<S>>> = plan.items[plan.items.len().min(1)..]
        .par_iter()
        .map(|i| chunk_of(i).map(|c| parse(c, &assumed)))
        .collect();
    let mut parsed: Vec<Option<Parsed<S>>> = first.into_iter().chain(rest).collect();

    // What a chunk states last can itself depend on what flowed in (a `$GENERATE` that fails for
    // want of a TTL states fewer owners), so this repeats until nothing is parsed again. Each
    // round settles at least the first chunk that was not; nearly always there is one round.
    let mut used: Vec<Carry> = vec![assumed; parsed.len()];
    if let Some(first) = used.first_mut() {
        *first = Carry::default();
    }
    loop {
        let carries = carries(plan, &parsed);
        let again = AtomicBool::new(false);
        parsed
            .par_iter_mut()
            .zip(&mut used)
            .enumerate()
            .for_each(|(i, (slot, used))| {
                let (Some(p), Some(chunk), Some(carry)) = (
                    slot.as_mut(),
                    plan.items.get(i).and_then(chunk_of),
                    carries.get(i),
                ) else {
                    return;
                };
                if (p.used_ttl && carry.ttl != used.ttl)
                    || (p.used_owner && carry.owner != used.owner)
                {
                    *p = parse_chunk(env, chunk, carry, sink());
                    *used = carry.clone();
                    again.store(true, Ordering::Relaxed);
                }
            });
        if !again.into_inner() {
            break;
        }
    }
    merge(env, plan, parsed)
}

fn chunk_of(item: &Item) -> Option<&Chunk> {
    match item {
        Item::Chunk(c) => Some(c),
        Item::Broken { .. } => None,
    }
}

/// What really flows into each chunk.
fn carries<S>(plan: &Plan, parsed: &[Option<Parsed<S>>]) -> Vec<Carry> {
    // Owner and TTL that a chunk states do not depend on what flows in.
    let mut outs: Vec<Carry> = Vec::with_capacity(parsed.len());
    let mut ins: Vec<Carry> = Vec::with_capacity(parsed.len());
    for (item, p) in plan.items.iter().zip(parsed) {
        let carry = chunk_of(item)
            .and_then(|c| c.previous)
            .and_then(|i| outs.get(i))
            .cloned()
            .unwrap_or_default();
        let out = match p {
            None => carry.clone(),
            Some(p) => Carry {
                owner: p.out.owner.clone().or_else(|| carry.owner.clone()),
                ttl: p.out.ttl.or(carry.ttl).or(p.implied_ttl),
            },
        };
        ins.push(carry);
        outs.push(out);
    }
    ins
}

fn merge<S>(env: &Env<'_>, plan: &Plan, parsed: Vec<Option<Parsed<S>>>) -> ParsedFile<S> {
    let mut all = ParsedFile {
        sinks: Vec::with_capacity(parsed.len()),
        diagnostics: Diagnostics::default(),
        records: 0,
        stripped: BTreeMap::new(),
    };
    let mut noted: Option<Option<String>> = None;
    for (item, p) in plan.items.iter().zip(parsed) {
        match (item, p) {
            (
                Item::Broken {
                    file,
                    line,
                    entry,
                    problem,
                },
                _,
            ) => {
                let make = || diagnostic(env.files, *file, *line, *entry, (**problem).clone());
                all.diagnostics.add(problem.code, Severity::Error, make);
            }
            (Item::Chunk(_), Some(mut p)) => {
                noted = one_include_note(&mut p.diagnostics, noted);
                all.records += p.records;
                all.diagnostics.append(p.diagnostics);
                for (t, n) in p.stripped {
                    *all.stripped.entry(t).or_default() += n;
                }
                all.sinks.push(p.sink);
            }
            (Item::Chunk(_), None) => {}
        }
    }
    all
}

/// Every chunk notes the first record that leans on a TTL from before an include; of neighbours
/// that mean the same include only the first is wanted. `noted`: the include noted last.
fn one_include_note(d: &mut Diagnostics, noted: Option<Option<String>>) -> Option<Option<String>> {
    let code = Code::INCLUDE_CHANGED_TTL;
    let Some(i) = d.kept.iter().position(|k| k.code == code) else {
        return noted;
    };
    let help = d.kept[i].help.clone();
    if noted.as_ref() != Some(&help) {
        return Some(help);
    }
    let severity = d.kept.remove(i).severity;
    let n = match severity {
        Severity::Error => &mut d.errors,
        Severity::Warning => &mut d.warnings,
        Severity::Note => &mut d.notes,
    };
    *n -= 1;
    if let Some(n) = d.by_code.get_mut(&code.to_string()) {
        *n -= 1;
        if *n == 0 {
            d.by_code.remove(&code.to_string());
        }
    }
    noted
}

impl Plan {
    /// The place of the record at `loc`: its owner field, or the record when it states none.
    pub fn place(&self, loc: u32) -> Option<(Place, Vec<Line>)> {
        let chunks: Vec<&Chunk> = self.items.iter().filter_map(chunk_of).collect();
        let i = chunks
            .partition_point(|c| c.loc_base <= loc)
            .checked_sub(1)?;
        let c = chunks.get(i)?;
        let bytes = &self.files.get(c.file)?.bytes;
        let start = match loc - c.loc_base {
            0 => c.range.start,
            n => {
                let piece = bytes.get(c.range.clone())?;
                let lf = memchr::memchr_iter(b'\n', piece).nth(n as usize - 1)?;
                c.range.start + lf + 1
            }
        };
        let end = memchr::memchr(b'\n', bytes.get(start..)?).map_or(bytes.len(), |i| start + i);
        let line = &bytes[start..end];
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        let from = line
            .iter()
            .position(|b| !matches!(b, b' ' | b'\t'))
            .unwrap_or(0);
        let to = match from {
            0 => line
                .iter()
                .position(|b| matches!(b, b' ' | b'\t' | b'(' | b';'))
                .unwrap_or(line.len()),
            _ => line.len(),
        };
        let file = self.files.get(c.file)?;
        let number = c.first_line.saturating_add(loc - c.loc_base);
        let mut included = Vec::new();
        let mut parent = file.parent;
        while let Some((f, line)) = parent {
            let f = self.files.get(f)?;
            included.push(Line {
                file: f.name.clone(),
                line,
            });
            parent = f.parent;
        }
        Some((Place::new(&file.name, number, line, from..to), included))
    }
}

//! Lines as words with their columns, and words as values.

use cascade_keys::{Class, KeyNum, KeyState, Role, Stage, Step};
use cascade_time::parse_span;

use super::ScenarioError;

#[derive(Clone, Debug)]
pub(super) struct Word {
    pub(super) text: String,
    pub(super) column: usize,
}

/// The words of a line that are left.
pub(super) struct Words {
    pub(super) line: usize,
    words: std::collections::VecDeque<Word>,
    end: usize,
}

pub(super) type Parsed<T> = Result<T, ScenarioError>;

impl Words {
    /// `#` begins a comment; a quotation is part of its word.
    pub(super) fn of(line: usize, text: &str) -> Parsed<Words> {
        let mut words = std::collections::VecDeque::new();
        let mut word: Option<Word> = None;
        let mut quoted = false;
        let mut end = 1;
        for (i, c) in text.chars().enumerate() {
            let column = i + 1;
            end = column + 1;
            if !quoted && c == '#' {
                break;
            }
            if !quoted && c.is_whitespace() {
                words.extend(word.take());
                continue;
            }
            let w = word.get_or_insert_with(|| Word {
                text: String::new(),
                column,
            });
            if c == '"' {
                quoted = !quoted;
            } else {
                w.text.push(c);
            }
        }
        words.extend(word);
        let all = Words { line, words, end };
        if quoted {
            return Err(all.error(end, "the quotation is not closed"));
        }
        Ok(all)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.words.is_empty()
    }

    pub(super) fn error(&self, column: usize, text: impl Into<String>) -> ScenarioError {
        ScenarioError {
            line: self.line,
            column,
            text: text.into(),
        }
    }

    pub(super) fn bad(&self, w: &Word, wants: &str) -> ScenarioError {
        self.error(w.column, format!("'{}' is not {wants}", w.text))
    }

    pub(super) fn peek(&self) -> Option<&str> {
        self.words.front().map(|w| w.text.as_str())
    }

    pub(super) fn next(&mut self, wants: &str) -> Parsed<Word> {
        match self.words.pop_front() {
            Some(w) => Ok(w),
            None => Err(self.error(self.end, format!("{wants} is missing"))),
        }
    }

    /// Takes the word if it is this one.
    pub(super) fn take(&mut self, text: &str) -> bool {
        let is = self.peek() == Some(text);
        if is {
            self.words.pop_front();
        }
        is
    }

    pub(super) fn end(&self) -> Parsed<()> {
        match self.words.front() {
            Some(w) => Err(self.error(w.column, format!("'{}' is not expected here", w.text))),
            None => Ok(()),
        }
    }

    /// `key=value`.
    pub(super) fn pair(&mut self, wants: &str) -> Parsed<(Word, Word)> {
        let w = self.next(wants)?;
        match w.text.split_once('=') {
            Some((k, v)) => {
                let column = w.column + k.chars().count() + 1;
                let key = Word {
                    text: k.to_string(),
                    column: w.column,
                };
                let text = v.to_string();
                Ok((key, Word { text, column }))
            }
            None => Err(self.bad(&w, &format!("{wants} of the form key=value"))),
        }
    }

    pub(super) fn span(&mut self, wants: &str) -> Parsed<u64> {
        let w = self.next(wants)?;
        self.span_of(&w)
    }

    pub(super) fn span_of(&self, w: &Word) -> Parsed<u64> {
        let span = parse_span(&w.text).map_err(|e| self.error(w.column, e.to_string()))?;
        Ok(span.as_secs())
    }

    pub(super) fn seconds_of(&self, w: &Word) -> Parsed<u32> {
        let secs = self.span_of(w)?;
        u32::try_from(secs).map_err(|_| self.bad(w, "a TTL"))
    }

    pub(super) fn spans_of(&self, w: &Word) -> Parsed<Vec<u64>> {
        self.list_of(w, |part| self.span_of(part))
    }

    pub(super) fn number_of<T: std::str::FromStr>(&self, w: &Word) -> Parsed<T> {
        w.text.parse().map_err(|_| self.bad(w, "a number"))
    }

    pub(super) fn number<T: std::str::FromStr>(&mut self, wants: &str) -> Parsed<T> {
        let w = self.next(wants)?;
        self.number_of(&w)
    }

    pub(super) fn list_of<T>(&self, w: &Word, one: impl Fn(&Word) -> Parsed<T>) -> Parsed<Vec<T>> {
        let mut column = w.column;
        let mut out = Vec::new();
        if w.text == "none" {
            return Ok(out);
        }
        for part in w.text.split(',') {
            out.push(one(&Word {
                text: part.to_string(),
                column,
            })?);
            column += part.chars().count() + 1;
        }
        Ok(out)
    }

    pub(super) fn yes_of(&self, w: &Word) -> Parsed<bool> {
        match w.text.as_str() {
            "yes" => Ok(true),
            "no" => Ok(false),
            _ => Err(self.bad(w, "yes or no")),
        }
    }

    pub(super) fn class(&mut self) -> Parsed<Class> {
        let w = self.next("a class of rolls")?;
        let found = Class::of_word(&w.text);
        found.ok_or_else(|| self.bad(&w, "one of first-keys, insecure, algorithm, csk, ksk, zsk"))
    }

    pub(super) fn stage_of(&self, w: &Word) -> Parsed<Stage> {
        Ok(match w.text.as_str() {
            "keys" => Stage::Keys,
            "p1" => Stage::P1,
            "c1" => Stage::C1,
            "p1b" => Stage::P1b,
            "c1b" => Stage::C1b,
            "p2" => Stage::P2,
            "c2" => Stage::C2,
            "d" => Stage::D,
            "db" => Stage::Db,
            _ => return Err(self.bad(w, "one of keys, p1, c1, p1b, c1b, p2, c2, d, db")),
        })
    }

    pub(super) fn step_of(&self, w: &Word) -> Parsed<Step> {
        let all = [
            Step::Propagation1Complete,
            Step::CacheExpired1,
            Step::Propagation2Complete,
            Step::CacheExpired2,
            Step::RollDone,
        ];
        let found = all.into_iter().find(|s| s.word() == w.text);
        found.ok_or_else(|| self.bad(w, "a step such as propagation1-complete"))
    }

    pub(super) fn role(&mut self) -> Parsed<Role> {
        let w = self.next("a role")?;
        match w.text.as_str() {
            "ksk" => Ok(Role::Ksk),
            "zsk" => Ok(Role::Zsk),
            "csk" => Ok(Role::Csk),
            _ => Err(self.bad(&w, "one of ksk, zsk, csk")),
        }
    }

    pub(super) fn key(&mut self) -> Parsed<KeyNum> {
        let w = self.next("a key such as k1")?;
        self.key_of(&w)
    }

    pub(super) fn key_of(&self, w: &Word) -> Parsed<KeyNum> {
        let num = w.text.strip_prefix('k').and_then(|n| n.parse().ok());
        num.map(KeyNum)
            .ok_or_else(|| self.bad(w, "a key such as k1"))
    }

    /// `k1+k2`, or `none`.
    pub(super) fn keys_of(&self, w: &Word) -> Parsed<Vec<KeyNum>> {
        let commas = Word {
            text: w.text.replace('+', ","),
            column: w.column,
        };
        let mut keys = self.list_of(&commas, |k| self.key_of(k))?;
        keys.sort_unstable();
        Ok(keys)
    }

    pub(super) fn state_of(&self, w: &Word) -> Parsed<KeyState> {
        use KeyState::{Active, Dead, Generated, Published, Ready, Removed, Retired, Revoked};
        let all = [
            Generated, Published, Ready, Active, Retired, Dead, Removed, Revoked,
        ];
        let is = |s: &KeyState| s.to_string().to_lowercase() == w.text;
        let found = all.into_iter().find(is);
        found.ok_or_else(|| self.bad(w, "a state of a key"))
    }
}

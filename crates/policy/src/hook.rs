//! Hook commands: run directly, never through a shell unless the policy says so.

use crate::reader::Cx;
use crate::tree::{Node, Val, quote};
use crate::value::{MAX_STRING, Value, string};

/// A command as written: a string split like shell words, or a list of words.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Hook {
    Text(String),
    Words(Vec<String>),
}

/// A command as run.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Command {
    pub program: String,
    pub args: Vec<String>,
}

impl Hook {
    /// The process to start; `None` if the text cannot be split, which validation refuses (P12).
    pub fn command(&self, shell: bool) -> Option<Command> {
        let words = match self {
            Hook::Text(text) if shell => {
                vec!["/bin/sh".to_string(), "-c".to_string(), text.clone()]
            }
            Hook::Text(text) => shell_words::split(text).ok()?,
            Hook::Words(words) => words.clone(),
        };
        let mut words = words.into_iter();
        let program = words.next()?;
        Some(Command {
            program,
            args: words.collect(),
        })
    }

    /// What of the text only a shell would understand.
    ///
    /// Quoted text is taken literally by shell words and by a shell alike, so only what stands
    /// outside of quotes counts; a variable or a command substitution also within `"`.
    pub fn shell_syntax(&self) -> Option<&'static str> {
        let Hook::Text(text) = self else { return None };
        let mut quote = None;
        let mut chars = text.chars();
        let mut word_start = true;
        while let Some(c) = chars.next() {
            let at_start = std::mem::replace(&mut word_start, c.is_whitespace());
            match (quote, c) {
                (Some('\''), '\'') | (Some('"'), '"') => quote = None,
                (Some('\''), _) => {}
                (_, '\\') => {
                    chars.next();
                }
                (_, '$') => return Some("'$'"),
                (_, '`') => return Some("'`'"),
                (Some(_), _) => {}
                (None, '\'' | '"') => quote = Some(c),
                (None, '|') => return Some("'|'"),
                (None, '&') => return Some("'&'"),
                (None, ';') => return Some("';'"),
                (None, '<') => return Some("'<'"),
                (None, '>') => return Some("'>'"),
                (None, '(' | ')') => return Some("parentheses"),
                (None, '*' | '?' | '[') => return Some("a file name pattern"),
                (None, '~') if at_start => return Some("'~'"),
                (None, '\n') => return Some("several lines"),
                _ => {}
            }
        }
        if quote.is_some() {
            Some("a quote that is not closed")
        } else {
            None
        }
    }
}

impl Value for Hook {
    fn type_text() -> String {
        "command, as a string or a list of words".into()
    }

    fn read(node: &Node, cx: &mut Cx) -> Option<Self> {
        let hook = match &node.value {
            Val::Str(_) => Hook::Text(string(node, cx, "a command")?.to_string()),
            Val::List(_) => Hook::Words(Vec::<String>::read(node, cx)?),
            _ => {
                cx.wrong_type(node, "a command");
                return None;
            }
        };
        let (empty, nul, long) = match &hook {
            Hook::Text(t) => (t.trim().is_empty(), t.contains('\0'), false),
            Hook::Words(w) => (
                w.first().is_none_or(|p| p.is_empty()),
                w.iter().any(|w| w.contains('\0')),
                w.len() > MAX_STRING,
            ),
        };
        if empty || nul || long {
            cx.bad(
                node,
                "not a command",
                "write for example \"/usr/local/bin/check-zone --strict\"",
            );
            return None;
        }
        Some(hook)
    }

    fn write(&self) -> String {
        match self {
            Hook::Text(text) => quote(text),
            Hook::Words(words) => words.write(),
        }
    }
}

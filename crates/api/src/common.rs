//! Shapes that many documents share.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// One page of a list, sorted; `next` continues it (`?after=`).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct List<T> {
    pub items: Vec<T>,
    #[serde(default)]
    pub next: Option<String>,
}

impl<T> List<T> {
    /// A list that is complete.
    pub fn whole(items: Vec<T>) -> Self {
        List { items, next: None }
    }

    /// The page of `all` that `query` asks for; `cursor` gives the sort key of an item, and `all`
    /// is sorted by it.
    pub fn page(all: Vec<T>, query: &PageQuery, cursor: impl Fn(&T) -> String) -> Self {
        let limit = query.limit();
        let mut items: Vec<T> = match &query.after {
            None => all,
            Some(after) => all
                .into_iter()
                .skip_while(|i| cursor(i) <= *after)
                .collect(),
        };
        let more = items.len() > limit;
        items.truncate(limit);
        let next = if more {
            items.last().map(&cursor)
        } else {
            None
        };
        List { items, next }
    }
}

/// `?limit=&after=` of every list.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(default, deny_unknown_fields)]
pub struct PageQuery {
    pub limit: Option<u32>,
    pub after: Option<String>,
}

/// Entries of a page when nothing is asked for, and at most.
pub const DEFAULT_LIMIT: u32 = 100;
pub const MAX_LIMIT: u32 = 1000;

impl PageQuery {
    pub fn limit(&self) -> usize {
        self.limit.unwrap_or(DEFAULT_LIMIT).clamp(1, MAX_LIMIT) as usize
    }
}

/// What a problem, warning or check is about.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Subject {
    pub kind: SubjectKind,
    pub name: String,
}

#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, ToSchema,
)]
#[serde(rename_all = "kebab-case")]
pub enum SubjectKind {
    Zone,
    Policy,
    Hsm,
    TsigKey,
    Key,
    Version,
    Operation,
    Token,
    Secondary,
    Daemon,
    Route,
    File,
}

/// Who must act so that it gets better.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, ToSchema,
)]
#[serde(rename_all = "kebab-case")]
pub enum Acts {
    Operator,
    Source,
    Parent,
    Token,
    Storage,
    /// A bug of ours.
    Cascade,
}

impl Acts {
    /// For sentences: "<who> must act".
    pub fn who(self) -> &'static str {
        match self {
            Acts::Operator => "the operator",
            Acts::Source => "the operator of the zone's source",
            Acts::Parent => "the parent zone",
            Acts::Token => "the operator of the HSM",
            Acts::Storage => "the operator of the machine's storage",
            Acts::Cascade => "the developers (a bug)",
        }
    }
}

/// Of a zone version: what came in, or what goes out.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, ToSchema,
)]
#[serde(rename_all = "kebab-case")]
pub enum Stage {
    Unsigned,
    Signed,
}

impl Stage {
    pub fn as_str(self) -> &'static str {
        match self {
            Stage::Unsigned => "unsigned",
            Stage::Signed => "signed",
        }
    }

    pub fn parse(text: &str) -> Option<Stage> {
        match text {
            "unsigned" => Some(Stage::Unsigned),
            "signed" => Some(Stage::Signed),
            _ => None,
        }
    }
}

/// A finding in a text the operator wrote; `errors` of a problem and `findings` of a check.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Finding {
    pub file: Option<String>,
    pub line: Option<u64>,
    pub column: Option<u64>,
    #[serde(default)]
    pub code: Option<String>,
    #[serde(default)]
    pub level: Option<Level>,
    pub detail: String,
    pub suggestion: Option<String>,
}

#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, ToSchema,
)]
#[serde(rename_all = "kebab-case")]
pub enum Level {
    Ok,
    Info,
    Warning,
    Error,
    Critical,
}

/// A consequence the operator should know of; the call succeeded all the same.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Warning {
    #[serde(default)]
    pub policy: Option<String>,
    #[serde(default)]
    pub code: Option<String>,
    pub detail: String,
    /// The command or deed that helps.
    #[serde(default)]
    pub action: Option<String>,
}

/// Calls that ask for confirmation take it so: a plan id seen before, or `yes`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Confirm {
    pub confirm: Option<String>,
    pub yes: bool,
    /// For the audit log, at most 500 bytes.
    pub comment: Option<String>,
}

/// A body for calls that need nothing but perhaps a comment.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Commented {
    /// For the audit log, at most 500 bytes.
    pub comment: Option<String>,
}

/// 202: durable, and work follows under `operation`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Accepted {
    pub zone: String,
    #[serde(default)]
    pub operation: Option<String>,
    /// True when it waits, for example for the end of maintenance; `detail` says for what.
    #[serde(default)]
    pub queued: bool,
    #[serde(default)]
    pub detail: Option<String>,
    #[serde(default)]
    pub warnings: Vec<Warning>,
}

/// The word of an enumeration as JSON and people see it.
pub fn word<T: Serialize>(value: &T) -> String {
    match serde_json::to_value(value) {
        Ok(serde_json::Value::String(s)) => s,
        _ => String::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages_follow_each_other_without_gap() {
        let all: Vec<String> = (0..7).map(|i| format!("z{i}")).collect();
        let mut seen = Vec::new();
        let mut query = PageQuery {
            limit: Some(3),
            after: None,
        };
        loop {
            let page = List::page(all.clone(), &query, |s| s.clone());
            seen.extend(page.items);
            match page.next {
                None => break,
                next => query.after = next,
            }
        }
        assert_eq!(seen, all);
    }

    #[test]
    fn limits_are_bounded() {
        assert_eq!(
            PageQuery {
                limit: Some(0),
                after: None
            }
            .limit(),
            1
        );
        assert_eq!(
            PageQuery {
                limit: Some(u32::MAX),
                after: None
            }
            .limit(),
            1000
        );
    }
}

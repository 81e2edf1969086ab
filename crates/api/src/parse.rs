//! Request bodies: strict, and helpful about what is wrong with them.

use serde::de::DeserializeOwned;

use crate::common::Finding;
use crate::problem::{Problem, ProblemType, nearest};

/// Parses a request body. An empty body stands for `{}`.
///
/// # Errors
/// `malformed-json` with line and column, `unknown-member` with the nearest known one,
/// `invalid-value` with what was expected.
#[allow(
    clippy::result_large_err,
    reason = "once per request, and only when it is refused"
)]
pub fn parse_request<T: DeserializeOwned>(body: &[u8]) -> Result<T, Problem> {
    let body: &[u8] = if body.trim_ascii().is_empty() {
        b"{}"
    } else {
        body
    };
    serde_json::from_slice(body).map_err(|e| explain(&e))
}

fn explain(error: &serde_json::Error) -> Problem {
    let text = error.to_string();
    // serde_json ends its message with the place, which we give as members.
    let message = text
        .rsplit_once(" at line ")
        .map_or(text.as_str(), |(m, _)| m);
    let unknown = message
        .strip_prefix("unknown field `")
        .and_then(|r| r.split_once('`'));
    let (kind, detail, suggestion) = match (error.classify(), unknown) {
        (serde_json::error::Category::Data, Some((name, rest))) => {
            let known: Vec<&str> = rest.split('`').skip(1).step_by(2).collect();
            let detail = if known.is_empty() {
                format!("member '{name}' is not known here")
            } else {
                format!(
                    "member '{name}' is not known; known are {}",
                    known.join(", ")
                )
            };
            (ProblemType::UnknownMember, detail, nearest(name, known))
        }
        (serde_json::error::Category::Data, None) => {
            (ProblemType::InvalidValue, message.replace('`', "'"), None)
        }
        _ => (
            ProblemType::MalformedJson,
            format!("body is not valid JSON: {message}"),
            None,
        ),
    };
    let place = Finding {
        file: None,
        line: (error.line() > 0).then_some(error.line() as u64),
        column: (error.line() > 0).then_some(error.column() as u64),
        code: None,
        level: None,
        detail: detail.clone(),
        suggestion: suggestion.clone(),
    };
    Problem::new(kind, detail)
        .suggestion(suggestion)
        .errors(vec![place])
}

/// A problem for what serde says about a query string.
pub fn query_problem(message: &str) -> Problem {
    let (kind, detail, suggestion) = explain_data(message, "query parameter");
    Problem::new(kind, detail).suggestion(suggestion)
}

/// Makes sense of serde's message about data of the wrong shape.
fn explain_data(message: &str, what: &str) -> (ProblemType, String, Option<String>) {
    let unknown = message
        .split_once("unknown field `")
        .and_then(|(_, r)| r.split_once('`'));
    let Some((name, rest)) = unknown else {
        return (ProblemType::InvalidValue, message.replace('`', "'"), None);
    };
    let known: Vec<&str> = rest.split('`').skip(1).step_by(2).collect();
    let detail = if known.is_empty() {
        format!("{what} '{name}' is not known here")
    } else {
        format!(
            "{what} '{name}' is not known; known are {}",
            known.join(", ")
        )
    };
    (ProblemType::UnknownMember, detail, nearest(name, known))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::zones::{ReloadRequest, ZoneAdd};

    #[test]
    fn unknown_members_get_a_suggestion() {
        let p = parse_request::<ZoneAdd>(br#"{"zone":"a","polcy":"b","source":{"kind":"none"}}"#)
            .unwrap_err();
        assert_eq!(p.kind, ProblemType::UnknownMember);
        assert_eq!(p.suggestion.as_deref(), Some("policy"));
        assert_eq!(p.errors[0].line, Some(1));
        let p = parse_request::<ZoneAdd>(
            br#"{"zone":"a","policy":"b","source":{"kind":"file","pth":"/x"}}"#,
        )
        .unwrap_err();
        assert_eq!(p.kind, ProblemType::UnknownMember, "{p:?}");
        assert_eq!(p.suggestion.as_deref(), Some("path"));
        let p = parse_request::<ZoneAdd>(
            br#"{"zone":"a","policy":"b","source":{"kind":"none","path":"/x"}}"#,
        )
        .unwrap_err();
        assert_eq!(p.kind, ProblemType::UnknownMember, "{p:?}");
    }

    #[test]
    fn kinds_of_errors() {
        let kind = |b: &[u8]| parse_request::<ZoneAdd>(b).unwrap_err().kind;
        assert_eq!(kind(b"{"), ProblemType::MalformedJson);
        assert_eq!(kind(b"\xff"), ProblemType::MalformedJson);
        assert_eq!(kind(b""), ProblemType::InvalidValue);
        assert_eq!(kind(b"[]"), ProblemType::InvalidValue);
        assert_eq!(kind(br#"{"zone":1}"#), ProblemType::InvalidValue);
        let deep = vec![b'['; 100_000];
        assert_eq!(kind(&deep), ProblemType::InvalidValue);
    }

    #[test]
    fn empty_body_is_an_empty_object() {
        assert_eq!(
            parse_request::<ReloadRequest>(b" \n").unwrap(),
            ReloadRequest::default()
        );
    }
}

//! Errors as documents (RFC 9457), and the one place that maps them to HTTP status and exit code.

use std::fmt;

use cascade_time::Timestamp;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use utoipa::ToSchema;

use crate::common::{Acts, Finding, Subject, SubjectKind};

/// Media type of problem documents.
pub const PROBLEM_JSON: &str = "application/problem+json";

const URN: &str = "urn:cascade:problem:";

macro_rules! problem_types {
    ($($variant:ident $slug:literal $status:literal $title:literal;)*) => {
        /// The kinds of problems. Each has one HTTP status.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub enum ProblemType {
            $($variant,)*
            /// Of a newer daemon; the document's `status` decides.
            Unknown,
        }

        impl ProblemType {
            pub const ALL: &'static [ProblemType] = &[$(ProblemType::$variant),*];

            /// The last part of the type's URN.
            pub fn slug(self) -> &'static str {
                match self { $(ProblemType::$variant => $slug,)* ProblemType::Unknown => "unknown" }
            }
            pub fn status(self) -> u16 {
                match self { $(ProblemType::$variant => $status,)* ProblemType::Unknown => 500 }
            }
            pub fn title(self) -> &'static str {
                match self { $(ProblemType::$variant => $title,)* ProblemType::Unknown => "Unknown problem" }
            }
            pub fn from_slug(slug: &str) -> ProblemType {
                match slug { $($slug => ProblemType::$variant,)* _ => ProblemType::Unknown }
            }
        }
    };
}

problem_types! {
    MalformedRequest "malformed-request" 400 "Request not understood";
    MalformedJson "malformed-json" 400 "Body is not JSON";
    NotAuthenticated "not-authenticated" 401 "Not authenticated";
    NotAllowed "not-allowed" 403 "Not allowed";
    ForeignOrigin "foreign-origin" 403 "Request comes from a foreign web page";
    ZoneNotFound "zone-not-found" 404 "Zone not known";
    PolicyNotFound "policy-not-found" 404 "Policy not known";
    HsmNotFound "hsm-not-found" 404 "HSM not known";
    TsigKeyNotFound "tsig-key-not-found" 404 "TSIG key not known";
    TokenNotFound "token-not-found" 404 "Token not known";
    KeyNotFound "key-not-found" 404 "Key not known";
    VersionNotFound "version-not-found" 404 "Version not known";
    OperationNotFound "operation-not-found" 404 "Operation not known";
    NoSuchRoute "no-such-route" 404 "No such route";
    MethodNotAllowed "method-not-allowed" 405 "Method not allowed here";
    ZoneExists "zone-exists" 409 "Zone exists already";
    HsmExists "hsm-exists" 409 "HSM exists already";
    TsigKeyExists "tsig-key-exists" 409 "TSIG key exists already";
    TokenExists "token-exists" 409 "Token exists already";
    BackupExists "backup-exists" 409 "Backup exists already";
    InUse "in-use" 409 "Still in use";
    NotUnderReview "not-under-review" 409 "Nothing is under review";
    ClockTrusted "clock-trusted" 409 "Clock is trusted";
    NotHalted "not-halted" 409 "Not halted";
    NotRejected "not-rejected" 409 "Nothing was rejected";
    GateRefused "gate-refused" 409 "Refused by verification";
    RollConflict "roll-conflict" 409 "A roll is in the way";
    TooEarly "too-early" 409 "Too early";
    WrongRollStep "wrong-roll-step" 409 "Not the next step of the roll";
    MaintenanceState "maintenance-state" 409 "Maintenance mode does not fit";
    NoSource "no-source" 409 "Zone has no source";
    Halted "halted" 409 "Zone is halted";
    ConfirmationRequired "confirmation-required" 409 "Confirmation required";
    PlanOutdated "plan-outdated" 409 "Plan is out of date";
    SecondPersonRequired "second-person-required" 409 "A second person must agree";
    EtagMismatch "etag-mismatch" 412 "Changed in the meantime";
    TooLarge "too-large" 413 "Body too large";
    WrongContentType "wrong-content-type" 415 "Wrong content type";
    WrongHost "wrong-host" 421 "Wrong host";
    InvalidValue "invalid-value" 422 "Invalid value";
    UnknownMember "unknown-member" 422 "Unknown member";
    PolicyInvalid "policy-invalid" 422 "Policy is not valid";
    ImportMismatch "import-mismatch" 422 "Imported key does not fit";
    SerialNotAhead "serial-not-ahead" 422 "Serial is not ahead";
    IdempotencyMismatch "idempotency-mismatch" 422 "Idempotency key was used for another request";
    SourceUnreadable "source-unreadable" 422 "Source cannot be read";
    Bug "bug" 500 "Internal error";
    HsmUnreachable "hsm-unreachable" 502 "HSM not reachable";
    HsmUntrusted "hsm-untrusted" 502 "HSM certificate not trusted";
    HsmLoginFailed "hsm-login-failed" 502 "HSM login failed";
    HsmIncapable "hsm-incapable" 502 "HSM lacks what is needed";
    Starting "starting" 503 "Daemon is starting";
    Busy "busy" 503 "Too busy";
    ClockHeld "clock-held" 503 "Clock is not trusted";
    Timeout "timeout" 504 "No answer in time";
    StorageFull "storage-full" 507 "Storage is full";
}

impl Serialize for ProblemType {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.collect_str(&format_args!("{URN}{}", self.slug()))
    }
}

impl<'de> Deserialize<'de> for ProblemType {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        let text = String::deserialize(d)?;
        Ok(ProblemType::from_slug(text.strip_prefix(URN).unwrap_or("")))
    }
}

/// A problem document. Made with [`Problem::new`] and the methods that follow it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Problem {
    #[serde(rename = "type")]
    #[schema(value_type = String)]
    pub kind: ProblemType,
    pub title: String,
    pub status: u16,
    /// What failed, naming the thing. One sentence, lower case, without final dot.
    pub detail: String,
    /// Path of the request.
    #[serde(default)]
    pub instance: Option<String>,
    #[serde(default)]
    pub subject: Option<Subject>,
    /// The nearest existing name, or the right value.
    #[serde(default)]
    pub suggestion: Option<String>,
    /// A command or deed that helps.
    #[serde(default)]
    pub action: Option<String>,
    #[serde(default)]
    pub acts: Option<Acts>,
    /// What is left behind, for example "nothing changed".
    #[serde(default)]
    pub state: Option<String>,
    #[serde(default)]
    pub retry_after_secs: Option<u64>,
    #[serde(default)]
    pub errors: Vec<Finding>,
    /// Of `too-early`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, format = DateTime)]
    pub earliest_at: Option<Timestamp>,
    /// Of `confirmation-required`: id to confirm with, and what would happen, for people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub plan: Option<String>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub effects: Vec<String>,
    /// Of `hsm-untrusted`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fingerprint: Option<String>,
    /// Of `not-allowed`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub role_held: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub role_needed: Option<String>,
}

impl Problem {
    pub fn new(kind: ProblemType, detail: impl Into<String>) -> Self {
        Problem {
            kind,
            title: kind.title().to_string(),
            status: kind.status(),
            detail: detail.into(),
            instance: None,
            subject: None,
            suggestion: None,
            action: None,
            acts: Some(default_acts(kind)),
            state: Some("nothing changed".to_string()),
            retry_after_secs: None,
            errors: Vec::new(),
            earliest_at: None,
            plan: None,
            effects: Vec::new(),
            fingerprint: None,
            role_held: None,
            role_needed: None,
        }
    }

    pub fn subject(mut self, kind: SubjectKind, name: impl Into<String>) -> Self {
        self.subject = Some(Subject {
            kind,
            name: name.into(),
        });
        self
    }

    pub fn action(mut self, action: impl Into<String>) -> Self {
        self.action = Some(action.into());
        self
    }

    pub fn suggestion(mut self, suggestion: Option<String>) -> Self {
        self.suggestion = suggestion;
        self
    }

    pub fn acts(mut self, acts: Acts) -> Self {
        self.acts = Some(acts);
        self
    }

    /// What is left behind.
    pub fn state(mut self, state: impl Into<String>) -> Self {
        self.state = Some(state.into());
        self
    }

    pub fn retry_after(mut self, secs: u64) -> Self {
        self.retry_after_secs = Some(secs);
        self
    }

    pub fn errors(mut self, errors: Vec<Finding>) -> Self {
        self.errors = errors;
        self
    }

    pub fn plan(mut self, plan: impl Into<String>, effects: Vec<String>) -> Self {
        self.plan = Some(plan.into());
        self.effects = effects;
        self
    }

    pub fn instance(mut self, path: impl Into<String>) -> Self {
        self.instance = Some(path.into());
        self
    }

    /// `zone-not-found` with the nearest of the names known.
    pub fn zone_not_found<'a>(zone: &str, known: impl IntoIterator<Item = &'a str>) -> Self {
        Problem::new(
            ProblemType::ZoneNotFound,
            format!("zone '{zone}' is not known"),
        )
        .subject(SubjectKind::Zone, zone)
        .suggestion(nearest(zone, known))
        .action("cascade zone list")
    }

    /// `policy-not-found` with the nearest of the names known.
    pub fn policy_not_found<'a>(policy: &str, known: impl IntoIterator<Item = &'a str>) -> Self {
        Problem::new(
            ProblemType::PolicyNotFound,
            format!("policy '{policy}' is not loaded"),
        )
        .subject(SubjectKind::Policy, policy)
        .suggestion(nearest(policy, known))
        .action("cascade policy list")
    }

    /// Exit code of the CLI.
    pub fn exit_code(&self) -> u8 {
        match (self.kind, self.status) {
            (ProblemType::Starting, _) | (_, 504) => 5,
            (_, 401 | 403) => 4,
            (ProblemType::NoSuchRoute, _) => 1,
            (_, 404) => 3,
            _ => 1,
        }
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.detail)
    }
}

impl std::error::Error for Problem {}

/// The nearest of `known` by edit distance, if it is at most 2 away.
pub fn nearest<'a>(name: &str, known: impl IntoIterator<Item = &'a str>) -> Option<String> {
    known
        .into_iter()
        // Names whose lengths differ by more cannot be near; saves the work for long lists.
        .filter(|k| k.len().abs_diff(name.len()) <= 2 && *k != name)
        .map(|k| (strsim::osa_distance(name, k), k))
        .filter(|(d, k)| *d <= 2 && *d < k.chars().count())
        .min()
        .map(|(_, k)| k.to_string())
}

fn default_acts(kind: ProblemType) -> Acts {
    match kind {
        ProblemType::Bug => Acts::Cascade,
        ProblemType::StorageFull => Acts::Storage,
        ProblemType::SourceUnreadable => Acts::Source,
        ProblemType::HsmUnreachable | ProblemType::HsmLoginFailed | ProblemType::HsmIncapable => {
            Acts::Token
        }
        _ => Acts::Operator,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slugs_round_trip_and_are_unique() {
        let mut seen = std::collections::BTreeSet::new();
        for &t in ProblemType::ALL {
            assert!(seen.insert(t.slug()), "{} twice", t.slug());
            assert_eq!(ProblemType::from_slug(t.slug()), t);
            let json = serde_json::to_string(&t).unwrap();
            assert_eq!(json, format!("\"urn:cascade:problem:{}\"", t.slug()));
            assert_eq!(serde_json::from_str::<ProblemType>(&json).unwrap(), t);
            assert!((400..600).contains(&t.status()));
        }
    }

    #[test]
    fn exit_codes_follow_the_table() {
        for (kind, code) in [
            (ProblemType::NotAuthenticated, 4),
            (ProblemType::NotAllowed, 4),
            (ProblemType::ForeignOrigin, 4),
            (ProblemType::ZoneNotFound, 3),
            (ProblemType::NoSuchRoute, 1),
            (ProblemType::Starting, 5),
            (ProblemType::Timeout, 5),
            (ProblemType::Busy, 1),
            (ProblemType::ZoneExists, 1),
            (ProblemType::Bug, 1),
            (ProblemType::PolicyInvalid, 1),
        ] {
            assert_eq!(Problem::new(kind, "").exit_code(), code, "{kind:?}");
        }
    }

    #[test]
    fn unknown_type_keeps_its_status() {
        let p: Problem = serde_json::from_str(
            r#"{"type":"urn:cascade:problem:new-thing","title":"T","status":403,"detail":"d","later":1}"#,
        )
        .unwrap();
        assert_eq!((p.kind, p.exit_code()), (ProblemType::Unknown, 4));
    }

    #[test]
    fn near_names() {
        let known = ["example.net", "example.org", "a"];
        assert_eq!(nearest("exmaple.net", known), Some("example.net".into()));
        assert_eq!(nearest("example.ogr", known), Some("example.org".into()));
        assert_eq!(nearest("other.zone", known), None);
        assert_eq!(nearest("b", known), None);
    }
}

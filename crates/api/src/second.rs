//! Calls that wait for a second person (`remote-control.two-person`).

use cascade_time::Timestamp;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// A call that was checked and agreed to by whoever made it, and is carried out when somebody else
/// agrees too.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct SecondRequest {
    /// For `POST /v1/requests/{id}/approve` and `reject`.
    pub id: String,
    /// As in `two-person`: `rollback`, `remove-zone`, …
    pub verb: String,
    #[serde(default)]
    pub zone: Option<String>,
    /// Method and path of the call.
    pub call: String,
    /// What it will do.
    #[serde(default)]
    pub effects: Vec<String>,
    pub by: String,
    #[serde(default)]
    pub comment: Option<String>,
    #[schema(value_type = String, format = DateTime)]
    pub requested_at: Timestamp,
    /// Nobody can agree from then on.
    #[schema(value_type = String, format = DateTime)]
    pub expires_at: Timestamp,
}

/// Answer 202 of a call that needs a second person.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Asked {
    pub request: SecondRequest,
}

//! HSMs, TSIG keys and tokens (api.md §4.5). Secrets go in and never come out.

use std::fmt;

use cascade_time::Timestamp;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::common::Warning;
use crate::role::Role;

/// A secret on its way to the daemon; its `Debug` shows nothing.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(transparent)]
pub struct Secret(pub String);

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(..)")
    }
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Endpoint {
    pub host: String,
    pub port: u16,
    /// `verified`, `pinned` or `unverified`; only in answers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tls: Option<String>,
}

#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, ToSchema,
)]
#[serde(rename_all = "kebab-case")]
#[derive(Default)]
pub enum TlsVerify {
    #[default]
    Full,
    Pinned,
    None,
}

#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(default, deny_unknown_fields)]
pub struct HsmTls {
    pub verify: TlsVerify,
    pub ca_pem: Option<String>,
    pub server_pem: Option<String>,
    /// `sha256:<hex>` of the server's certificate.
    pub fingerprint: Option<String>,
    pub client_pem: Option<String>,
    pub client_key_pem: Option<Secret>,
}

#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(default, deny_unknown_fields)]
pub struct HsmLabel {
    pub prefix: String,
    pub max_bytes: u16,
}

/// `POST /v1/hsms`
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct HsmAdd {
    pub hsm: String,
    pub endpoints: Vec<Endpoint>,
    #[serde(default)]
    pub username: Option<String>,
    #[serde(default)]
    pub password: Option<Secret>,
    #[serde(default)]
    pub tls: HsmTls,
    #[serde(default)]
    pub connect_timeout_secs: Option<u64>,
    #[serde(default)]
    pub read_timeout_secs: Option<u64>,
    #[serde(default)]
    pub write_timeout_secs: Option<u64>,
    #[serde(default)]
    pub max_response_bytes: Option<u64>,
    #[serde(default)]
    pub connections: Option<u32>,
    #[serde(default)]
    pub in_flight: Option<u32>,
    #[serde(default)]
    pub label: Option<HsmLabel>,
    /// Contact it before storing.
    #[serde(default = "yes")]
    pub connect: bool,
    #[serde(default)]
    pub comment: Option<String>,
}

fn yes() -> bool {
    true
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct HsmAdded {
    pub hsm: String,
    /// What the server says it is; `null` when it was not contacted.
    pub vendor: Option<String>,
    pub endpoints: Vec<Endpoint>,
    pub algorithms: Vec<String>,
    #[serde(default)]
    pub warnings: Vec<Warning>,
}

/// `GET /v1/hsms[/{h}]`
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Hsm {
    pub hsm: String,
    pub vendor: Option<String>,
    pub state: String,
    pub has_credentials: bool,
    pub tls: String,
    pub instances: Vec<HsmInstance>,
    pub algorithms: Vec<String>,
    pub policies: Vec<String>,
    pub zones: u64,
    pub keys: u64,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct HsmInstance {
    pub endpoint: String,
    pub state: String,
    pub latency_p50_secs: Option<f64>,
    pub signatures_per_sec: Option<f64>,
    pub in_flight: u32,
    pub last_error: Option<String>,
    pub keys_proved: u64,
    pub keys_failed: u64,
}

/// `POST /v1/tsig-keys`: with a secret, or `generate`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct TsigAdd {
    pub name: String,
    #[serde(default)]
    pub algorithm: Option<String>,
    /// Base64.
    #[serde(default)]
    pub secret: Option<Secret>,
    #[serde(default)]
    pub generate: bool,
    #[serde(default)]
    pub comment: Option<String>,
}

/// The only answer that may carry a secret: of a key that was just generated.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct TsigAdded {
    pub name: String,
    pub algorithm: String,
    #[serde(default)]
    pub secret: Option<Secret>,
    #[serde(default)]
    pub warnings: Vec<Warning>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct TsigItem {
    pub name: String,
    pub algorithm: String,
    pub zones: Vec<String>,
    pub policies: Vec<String>,
}

/// `POST /v1/tokens`
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct TokenAdd {
    pub name: String,
    pub roles: Vec<Role>,
    /// Absent: 90 days. `null` cannot be told from absent, so `never` has its own member.
    #[serde(default)]
    pub expires_in_secs: Option<u64>,
    #[serde(default)]
    pub never_expires: bool,
    /// Glob.
    #[serde(default)]
    pub zones: Option<String>,
    #[serde(default)]
    pub comment: Option<String>,
}

/// Shown once.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct TokenAdded {
    pub name: String,
    pub token: Secret,
    #[schema(value_type = Option<String>, format = DateTime)]
    pub expires_at: Option<Timestamp>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct TokenItem {
    pub name: String,
    pub roles: Vec<Role>,
    #[schema(value_type = Option<String>, format = DateTime)]
    pub expires_at: Option<Timestamp>,
    #[schema(value_type = Option<String>, format = DateTime)]
    pub last_used_at: Option<Timestamp>,
    #[serde(default)]
    pub zones: Option<String>,
}

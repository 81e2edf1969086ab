//! HSMs, TSIG keys and tokens. Secrets go in and never come out.

use std::collections::BTreeMap;
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

/// A bridge that the daemon starts itself, in front of a PKCS#11 module. The username is the
/// token's label, the password its PIN.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct HsmManaged {
    /// Absolute path of the module.
    pub module: String,
    /// Environment of the module.
    #[serde(default)]
    pub env: BTreeMap<String, String>,
}

/// What became of a bridge that the daemon starts itself.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct HsmManagedState {
    pub module: String,
    /// `running`, or `waiting` for its next start.
    pub state: String,
    pub pid: Option<u32>,
    #[serde(default)]
    #[schema(value_type = Option<String>, format = DateTime)]
    pub since: Option<Timestamp>,
    /// Since the daemon started, or the settings were changed.
    pub starts: u64,
    /// How the last one ended.
    pub last_end: Option<String>,
}

/// `POST /v1/hsms`
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct HsmAdd {
    pub hsm: String,
    /// None with `managed`.
    #[serde(default)]
    pub endpoints: Vec<Endpoint>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub managed: Option<HsmManaged>,
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
    /// `up`, `connecting`, `down` or `quarantined`.
    pub state: String,
    #[serde(default)]
    #[schema(value_type = Option<String>, format = DateTime)]
    pub since: Option<Timestamp>,
    /// Settings as `name: value`, without secrets.
    #[serde(default)]
    pub settings: Vec<String>,
    pub has_credentials: bool,
    /// `verified`, `pinned`, `unverified`, or `none` for a managed bridge.
    pub tls: String,
    #[serde(default)]
    pub managed: Option<HsmManagedState>,
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

/// `PATCH /v1/hsms/{h}`: what is absent stays as it is.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(default, deny_unknown_fields)]
pub struct HsmEdit {
    pub add_endpoints: Vec<Endpoint>,
    pub remove_endpoints: Vec<Endpoint>,
    pub managed: Option<HsmManaged>,
    pub username: Option<String>,
    pub password: Option<Secret>,
    pub clear_credentials: bool,
    pub tls: Option<HsmTls>,
    pub connect_timeout_secs: Option<u64>,
    pub read_timeout_secs: Option<u64>,
    pub write_timeout_secs: Option<u64>,
    pub max_response_bytes: Option<u64>,
    pub connections: Option<u32>,
    pub in_flight: Option<u32>,
    pub label: Option<HsmLabel>,
    /// Contact it before storing.
    pub connect: bool,
    pub comment: Option<String>,
}

impl Default for HsmEdit {
    fn default() -> Self {
        HsmEdit {
            add_endpoints: Vec::new(),
            remove_endpoints: Vec::new(),
            managed: None,
            username: None,
            password: None,
            clear_credentials: false,
            tls: None,
            connect_timeout_secs: None,
            read_timeout_secs: None,
            write_timeout_secs: None,
            max_response_bytes: None,
            connections: None,
            in_flight: None,
            label: None,
            connect: true,
            comment: None,
        }
    }
}

/// `POST /v1/hsms/{h}/test`
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(default, deny_unknown_fields)]
pub struct HsmTest {
    /// Also make, use and destroy a key of each algorithm.
    pub write: bool,
    pub comment: Option<String>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct HsmTested {
    pub hsm: String,
    pub passed: bool,
    pub steps: Vec<HsmTestStep>,
    pub keys: Vec<HsmTestKey>,
    /// The test ended a quarantine.
    #[serde(default)]
    pub released: bool,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct HsmTestStep {
    /// Of one instance; `null`: of the HSM as a whole.
    pub instance: Option<String>,
    /// `connect` (with TLS and login), or an algorithm.
    pub step: String,
    pub passed: bool,
    pub detail: Option<String>,
    pub secs: f64,
}

/// A key of ours, proven by signatures that its public half verifies.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct HsmTestKey {
    pub zone: String,
    pub role: String,
    pub tag: u16,
    pub passed: bool,
    pub detail: Option<String>,
}

/// `POST /v1/hsms/{h}/bench`
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(default, deny_unknown_fields)]
pub struct HsmBench {
    pub algorithm: Option<String>,
    /// For all runs together.
    pub seconds: Option<u64>,
    /// Requests at a time; absent: several in turn.
    pub parallel: Option<u32>,
    pub comment: Option<String>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct HsmBenched {
    pub hsm: String,
    pub algorithm: String,
    pub runs: Vec<HsmBenchRun>,
    pub zones: Vec<HsmBenchZone>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct HsmBenchRun {
    pub parallel: u32,
    pub signatures: u64,
    pub signatures_per_sec: f64,
    /// Of one signature, from request to answer.
    pub latency_p50_secs: f64,
    pub latency_p99_secs: f64,
}

/// What the best rate means for a zone with keys there.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct HsmBenchZone {
    pub zone: String,
    pub signatures: u64,
    pub resign_secs: f64,
}

/// `GET /v1/hsms/{h}/inventory`
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct HsmInventory {
    pub items: Vec<HsmObject>,
    /// Objects of no key that is known.
    pub orphans: u64,
    /// Keys that zones have here, and that are not here.
    pub missing: u64,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct HsmObject {
    /// As the server names it.
    pub object: String,
    pub label: Option<String>,
    /// `public` or `private`.
    pub class: String,
    /// DNSSEC algorithm number.
    pub algorithm: Option<u8>,
    pub zone: Option<String>,
    pub role: Option<String>,
    pub tag: Option<u16>,
    pub state: Option<String>,
    /// `public-key`, `orphan`, `missing`, or `conflict`: the name is a key's of ours, the octets
    /// are not.
    #[serde(rename = "match")]
    pub found: String,
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

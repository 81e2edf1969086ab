//! The policy file, version 1.

use std::time::Duration;

use camino::Utf8PathBuf;

use crate::acl::AclEntry;
use crate::address::{Canary, Target};
use crate::checks::Checks;
use crate::def::section;
use crate::effects::Effect;
use crate::guard::Guard;
use crate::hook::Hook;
use crate::keys::KeyManagerPolicy;
use crate::keytypes::Salt;
use crate::reader::Cx;
use crate::review::Review;
use crate::tree::{Node, Val};
use crate::update::UpdateRule;
use crate::value::{AutoOr, OffOr, Size, Value, choice};

choice! {
    /// The only version of the format so far.
    pub enum Version { V1 = "v1" }
}
choice! {
    pub enum OnSourceExpire { Expire = "expire", Keep = "keep" }
}
choice! {
    /// Checking of the source's ZONEMD (RFC 8976 §4).
    pub enum ZonemdCheck { Off = "off", IfPresent = "if-present", Required = "required" }
}
choice! {
    /// What `$INCLUDE` may read.
    pub enum Include { Beside = "beside", Anywhere = "anywhere", Off = "off" }
}
choice! {
    pub enum SignerMode { Sign = "sign", Passthrough = "passthrough", Unsigned = "unsigned" }
}
choice! {
    pub enum SerialPolicy {
        Keep = "keep",
        Counter = "counter",
        UnixTime = "unix-time",
        DateCounter = "date-counter",
    }
}
choice! {
    pub enum SerialKeepRefresh { Bump = "bump", Hold = "hold" }
}
choice! {
    pub enum DenialType { Nsec = "nsec", Nsec3 = "nsec3" }
}
choice! {
    pub enum Zonemd { Off = "off", Sha384 = "sha384", Sha512 = "sha512" }
}
choice! {
    pub enum VerifyMode { Changed = "changed", Full = "full" }
}
choice! {
    pub enum ParentChain { Auto = "auto", Required = "required", Off = "off" }
}
choice! {
    pub enum TransferTls { Off = "off", Allowed = "allowed", Required = "required" }
}

/// Whether a zone file is loaded when it changes. `false` and `true` mean off and inotify.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Watch {
    Off,
    Poll,
    Inotify,
}

impl Value for Watch {
    fn type_text() -> String {
        "\"off\", \"poll\" or \"inotify\"".into()
    }

    fn read(node: &Node, cx: &mut Cx) -> Option<Self> {
        match &node.value {
            Val::Bool(false) => Some(Watch::Off),
            Val::Bool(true) => Some(Watch::Inotify),
            Val::Str(s) => match s.as_str() {
                "off" => Some(Watch::Off),
                "poll" => Some(Watch::Poll),
                "inotify" => Some(Watch::Inotify),
                other => {
                    crate::value::not_a_word(node, cx, other, &["off", "poll", "inotify"]);
                    None
                }
            },
            _ => {
                cx.wrong_type(node, "\"off\", \"poll\" or \"inotify\"");
                None
            }
        }
    }

    fn write(&self) -> String {
        match self {
            Watch::Off => "\"off\"".into(),
            Watch::Poll => "\"poll\"".into(),
            Watch::Inotify => "\"inotify\"".into(),
        }
    }
}

section! {
    /// Where content comes from and what is accepted of it.
    pub struct LoaderPolicy {
        /// Load a zone file when it changed: "off", "poll" (every 10 s) or
        /// "inotify".
        key "watch" => watch: Watch = r#""off""# [why("half-written files; a reload is explicit")];
        /// What $INCLUDE in a zone file may read: "beside" the file and below,
        /// "anywhere", or "off".
        key "include" => include: Include = r#""beside""# [why("a zone file from elsewhere must not read other files")];
        /// Shortest time between two checks of the source, whatever its SOA
        /// REFRESH says.
        key "refresh-min" => refresh_min: Duration = r#""60s""# [range(1, 2_592_000), why("a zero timer must not become a busy loop")];
        /// Longest time between two checks of the source.
        key "refresh-max" => refresh_max: Duration = r#""1d""# [range(1, 2_592_000), why("a lost NOTIFY must not cost more than a day")];
        /// Shortest time between two attempts after a failure, whatever SOA RETRY
        /// says.
        key "retry-min" => retry_min: Duration = r#""30s""# [range(1, 86_400), why("a dead primary is not hammered")];
        /// After SOA EXPIRE without contact to the source: "expire" answers
        /// SERVFAIL, "keep" serves and re-signs on with a critical alarm.
        key "on-source-expire" => on_source_expire: OnSourceExpire = r#""expire""# [why("the protocol's own rule, RFC 1034 section 4.3.5")];
        /// Most records a zone may have; 0 is no limit.
        key "max-records" => max_records: u64 = "0" [why("only the operator knows the zone")];
        /// Most octets of a source; 0 is no limit.
        key "max-size" => max_size: Size = "0" [why("only the operator knows the zone")];
        /// Check the source's own ZONEMD: "off", "if-present" or "required".
        key "zonemd" => zonemd: ZonemdCheck = r#""off""# [why("a source's stale digest must not stop its loading unasked")];
        /// Levels of single checks, by name or code.
        key "checks" => checks: Checks = "{}" [why("each finding has the level its harm deserves")];
        /// Who may change a zone whose source is "update:" by DNS UPDATE (RFC
        /// 2136): "any^key", or a table that also says which names, relative to
        /// the zone ("@", "www", "*.dyn"), and which types. Always with a key.
        key "update-allow" => update_allow: Vec<UpdateRule> = "[]" [why("content is changed by those who were named")];
        /// Review of the unsigned candidate.
        sub "review" => review: Review;
        sub "guard" => guard: Guard;
    }
}

section! {
    /// Proof that names and types do not exist.
    pub struct Denial {
        /// "nsec" or "nsec3".
        key "type" => kind: DenialType = r#""nsec""# [effect(Effect::Resign), confirm(), why("RFC 9276: NSEC unless there is a need")];
        /// NSEC3 only: leave unsigned delegations out of the chain.
        key "opt-out" => opt_out: bool = "false" [effect(Effect::Resign), why("RFC 9276 section 3.1")];
        /// NSEC3 only: further hash iterations.
        key "iterations" => iterations: u32 = "0" [effect(Effect::Resign), why("RFC 9276 section 3.1")];
        /// NSEC3 only.
        key "salt" => salt: Salt = r#""""# [effect(Effect::Resign), why("RFC 9276 section 3.1")];
    }
}

section! {
    /// The gate: independent verification before publication. It cannot be
    /// switched off.
    pub struct Verify {
        /// "changed": every new or affected record, the links of the denial
        /// chain, the chain of the apex. "full": everything.
        key "mode" => mode: VerifyMode = r#""changed""# [why("the cost follows the change")];
        /// Full verification of the published version in the background, once
        /// in this time. A failure halts the zone and offers a rollback.
        key "sweep" => sweep: OffOr = r#""24h""# [min(3600), why("what a restart or a disk broke is found within a day")];
        /// Check the chain from the parent's DS: "auto" when a DS has been
        /// seen, "required", "off".
        key "parent-chain" => parent_chain: ParentChain = r#""auto""# [why("zones that are not delegated have none")];
    }
}

section! {
    /// Signing.
    pub struct SignerPolicy {
        /// "sign"; "passthrough" verifies and serves a source that is signed
        /// already; "unsigned" serves without DNSSEC and is reached through
        /// the steps of going insecure only.
        key "mode" => mode: SignerMode = r#""sign""# [effect(Effect::Parent), confirm(), why("what the daemon is for")];
        /// Serial of the signed zone: "keep" the loaded one, "counter",
        /// "unix-time", or "date-counter" (YYYYMMDDnn).
        key "serial-policy" => serial_policy: SerialPolicy = r#""date-counter""# [why("readable; always ahead of every serial seen")];
        /// With "keep", when signatures must be refreshed and the source has
        /// no new serial: "bump" it by one, or "hold" and alarm.
        key "serial-keep-refresh" => serial_keep_refresh: SerialKeepRefresh = r#""bump""# [why("expired signatures are worse than a serial of our own")];
        /// How far the inception of signatures lies in the past.
        key "signature-inception-offset" => signature_inception_offset: Duration = r#""1d""# [effect(Effect::Refresh), why("clock errors of validators")];
        /// How long signatures are valid from now on.
        key "signature-lifetime" => signature_lifetime: Duration = r#""2w""# [effect(Effect::Refresh), why("limits replay and leaves time for repair")];
        /// No signature with less than this plus its TTL left is kept.
        key "signature-remain-time" => signature_remain_time: Duration = r#""1w""# [effect(Effect::Refresh), why("a week to repair an HSM")];
        /// Part of the zone is refreshed each time this has passed, the oldest
        /// signatures first.
        key "signature-refresh-interval" => signature_refresh_interval: Duration = r#""12h""# [effect(Effect::Refresh), why("even load")];
        /// Spread of expirations, from a seed of the zone.
        key "signature-jitter" => signature_jitter: Duration = r#""0s""# [effect(Effect::Refresh), why("refreshing spreads already")];
        /// Most signatures refreshed in one version; 0 chooses 250000 for
        /// software keys, and what the HSM makes in ten minutes.
        key "refresh-batch" => refresh_batch: u64 = "0" [why("a refresh must not hold up a change")];
        /// Re-signing after a change of the ZSK or CSK is spread over this.
        key "key-roll-time" => key_roll_time: Duration = r#""24h""# [why("an HSM's day, not its minute")];
        /// Higher TTLs are lowered in the signed zone.
        opt "max-ttl" => max_ttl: Duration [range(1, 2_147_040_000), effect(Effect::Resign), eg(r#""2d""#)];
        /// Digest of the whole zone (RFC 8976): "off", "sha384", "sha512".
        key "zonemd" => zonemd: Zonemd = r#""off""# [effect(Effect::Resign), why("costs a pass over the zone")];
        sub "denial" => denial: Denial;
        sub "verify" => verify: Verify;
        /// Review of the signed candidate, after the gate.
        sub "review" => review: Review;
    }
}

section! {
    /// Who is told of new versions, who may transfer them.
    pub struct Outbound {
        /// Servers that get a NOTIFY after the new version answers.
        key "send-notify-to" => send_notify_to: Vec<Target> = "[]" [why("no traffic to strangers unasked")];
        /// Also notify the zone's NS RRset without MNAME (RFC 1996).
        key "notify-ns" => notify_ns: bool = "false" [why("a hidden primary is often not known to all of them")];
        /// Warn when a server has not acknowledged for this long.
        key "notify-give-up" => notify_give_up: Duration = r#""1h""# [min(1), why("long enough for a reboot")];
        /// Who may transfer the zone. Also "any", "loopback", prefixes, and
        /// "^key"; "!" denies; the first match decides; [] is nobody.
        key "provide-xfr-to" => provide_xfr_to: Vec<AclEntry> = r#"["127.0.0.0/8", "::1"]"# [why("a zone leaves the machine only to those who were named")];
        /// Most differences kept for incremental transfer.
        key "max-diffs" => max_diffs: u32 = "1000" [range(0, 10_000), why("a secondary follows a stream of updates without whole transfers")];
        /// Most of them in percent of the published records; 0 leaves whole
        /// transfers only.
        key "max-diffs-size" => max_diffs_size: u32 = "20" [range(0, 100), why("beyond, a whole transfer is cheaper")];
        /// Servers watched for serial and validity. Unset: send-notify-to.
        opt "secondaries" => secondaries: Vec<Target> [eg(r#"["192.0.2.1", "[2001:db8::1]:5353"]"#)];
        /// Notify this server first, verify from it, then notify the rest.
        opt "canary" => canary: Canary [eg(r#"{ addr = "192.0.2.1", hold = "2m" }"#)];
        /// Transfers over TLS (RFC 9103): "off", "allowed", "required".
        key "tls" => tls: TransferTls = r#""off""# [why("needs a certificate")];
        /// Write each published version to this file; {zone} is replaced by
        /// the zone's name.
        opt "file" => file: Utf8PathBuf [eg(r#""/var/lib/cascade/export/{zone}.zone""#)];
        /// Run after the file was written.
        opt "file-hook" => file_hook: Hook [eg(r#""/usr/local/bin/zone-written""#)];
    }
}

impl Outbound {
    /// The servers watched: `secondaries`, or who is notified.
    pub fn watched(&self) -> &[Target] {
        self.secondaries.as_deref().unwrap_or(&self.send_notify_to)
    }
}

section! {
    pub struct ServerPolicy {
        /// Who may ask the publication server about the zone.
        key "query-allow" => query_allow: Vec<AclEntry> = r#"["any"]"# [why("a published zone is public")];
        sub "outbound" => outbound: Outbound;
    }
}

section! {
    /// When the zone's health turns to warning or critical.
    pub struct HealthPolicy {
        /// Warn when the earliest expiration is nearer; "auto": remain-time
        /// less two refresh-intervals.
        key "runway-warning" => runway_warning: AutoOr = r#""auto""# [why("two missed refreshes")];
        /// Critical when it is nearer than this; "auto": a quarter of
        /// remain-time.
        key "runway-critical" => runway_critical: AutoOr = r#""auto""# [why("a weekend less sleep")];
        /// Warn when a watched secondary is behind for longer.
        key "secondary-lag" => secondary_lag: Duration = r#""1h""# [min(1), why("longer than a transfer with retries")];
    }
}

section! {
    /// A policy: how the zones that use it are loaded, signed and published.
    pub struct Policy {
        /// Version of this format.
        req "version" => version: Version = r#""v1""#;
        sub "loader" => loader: LoaderPolicy;
        sub "key-manager" => key_manager: KeyManagerPolicy;
        sub "signer" => signer: SignerPolicy;
        sub "server" => server: ServerPolicy;
        sub "health" => health: HealthPolicy;
    }
}

impl Policy {
    /// Runway below which an operator is warned.
    pub fn runway_warning(&self) -> Duration {
        let s = &self.signer;
        self.health.runway_warning.span().unwrap_or_else(|| {
            s.signature_remain_time
                .saturating_sub(s.signature_refresh_interval.saturating_mul(2))
        })
    }

    /// Runway below which re-signing goes before everything else.
    pub fn runway_critical(&self) -> Duration {
        let quarter = self.signer.signature_remain_time / 4;
        self.health.runway_critical.span().unwrap_or(quarter)
    }
}

//! The routes as data: one table for the daemon's router, the role check, the OpenAPI document
//! and the tests.

use crate::role::Access;
use crate::role::Role::{Admin, Approver, Operator, Viewer};

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Method {
    Get,
    Post,
    Put,
    Patch,
    Delete,
}

impl Method {
    pub fn as_str(self) -> &'static str {
        match self {
            Method::Get => "GET",
            Method::Post => "POST",
            Method::Put => "PUT",
            Method::Patch => "PATCH",
            Method::Delete => "DELETE",
        }
    }

    /// Calls that change something need a content type and are audited.
    pub fn changes(self) -> bool {
        self != Method::Get
    }
}

/// One row of the table.
#[derive(Debug, Clone, Copy)]
pub struct Route {
    pub id: RouteId,
    pub method: Method,
    /// With `{z}` a zone, `{p}` a policy, and so on.
    pub path: &'static str,
    pub access: Access,
    /// Understands `?dry_run=true` (D).
    pub dry_run: bool,
    /// Answers 409 `confirmation-required` unless confirmed (C).
    pub confirm: bool,
    /// Schema of the request's body.
    pub request: Option<&'static str>,
    /// Status of success, and the schema of its body; `None`: not JSON, or empty with 204.
    pub success: u16,
    pub answer: Option<&'static str>,
    pub summary: &'static str,
}

const ANY: Access = Access::Any;
const V: Access = Access::Needs(Viewer);
const O: Access = Access::Needs(Operator);
const P: Access = Access::Needs(Approver);
const A: Access = Access::Needs(Admin);

macro_rules! request {
    (-) => {
        None
    };
    ($name:literal) => {
        Some($name)
    };
}

macro_rules! routes {
    ($($id:ident $method:ident $path:literal $access:ident [$($flag:ident)*] $request:tt => $status:literal $answer:tt $summary:literal;)*) => {
        /// Names the rows.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub enum RouteId { $($id,)* }

        pub const ROUTES: &[Route] = &[$(Route {
            id: RouteId::$id,
            method: Method::$method,
            path: $path,
            access: $access,
            dry_run: has(&[$(stringify!($flag)),*], "D"),
            confirm: has(&[$(stringify!($flag)),*], "C"),
            request: request!($request),
            success: $status,
            answer: request!($answer),
            summary: $summary,
        },)*];
    };
}

const fn has(flags: &[&str], flag: &str) -> bool {
    let mut i = 0;
    while i < flags.len() {
        if flags[i].as_bytes()[0] == flag.as_bytes()[0] {
            return true;
        }
        i += 1;
    }
    false
}

routes! {
    Livez Get "/livez" ANY [] - => 200 - "The event loop answers";
    Readyz Get "/readyz" ANY [] - => 200 - "Store open, zones restored, publication bound";
    Metrics Get "/metrics" ANY [] - => 200 - "Prometheus text";
    Openapi Get "/v1/openapi.json" ANY [] - => 200 - "This document";
    Info Get "/v1/info" ANY [] - => 200 "Info" "Version and features";
    Status Get "/v1/status" ANY [] - => 200 "Status" "Addresses, zones, queue";
    StatusKeys Get "/v1/status/keys" ANY [] - => 200 "StatusKeys" "Keys of all zones by remaining validity";
    Health Get "/v1/health" ANY [] - => 200 "Health" "Outcome checks; 503 when critical";
    HealthDeep Get "/v1/health/deep" V [] - => 200 "Health" "Outcome checks with those that ask outside";

    ZoneList Get "/v1/zones" ANY [] - => 200 "List_ZoneItem" "Zones";
    ZoneAdd Post "/v1/zones" O [D] "ZoneAdd" => 201 "Zone" "Add a zone";
    ZoneShow Get "/v1/zones/{z}" ANY [] - => 200 "Zone" "One zone";
    ZoneEdit Patch "/v1/zones/{z}" O [D C] "ZoneEdit" => 200 "Zone" "Change policy or source";
    ZoneRemove Delete "/v1/zones/{z}" A [C] - => 204 - "Remove a zone";
    ZoneStatus Get "/v1/zones/{z}/status" ANY [] - => 200 "ZoneStatus" "Status report";
    ZoneWhy Get "/v1/zones/{z}/why" ANY [] - => 200 "Why" "What it waits for, or why it halted";
    ZoneHistory Get "/v1/zones/{z}/history" V [] - => 200 "List_HistoryEntry" "What happened";
    VersionList Get "/v1/zones/{z}/versions" V [] - => 200 "List_Version" "Versions kept";
    VersionShow Get "/v1/zones/{z}/versions/{v}" V [] - => 200 "Version" "One version";
    ZoneDiff Get "/v1/zones/{z}/diff" V [] - => 200 "Diff" "Difference of two versions";
    ZoneExport Get "/v1/zones/{z}/export" V [] - => 200 - "The zone in zone-file form";
    ZoneReload Post "/v1/zones/{z}/reload" O [] "ReloadRequest" => 202 "Accepted" "Read the source again";
    ZoneUpdate Post "/v1/zones/{z}/update" O [D] "UpdateRequest" => 200 "Updated" "Change the content of a zone that takes updates";
    ZoneResign Post "/v1/zones/{z}/resign" O [] "ResignRequest" => 202 "Accepted" "Refresh signatures";
    ZoneReset Post "/v1/zones/{z}/reset" O [] "Commented" => 202 "Accepted" "Drop the candidate";
    ZoneRollback Post "/v1/zones/{z}/rollback" A [D C] "RollbackRequest" => 202 "Accepted" "Publish the content of an older version again";
    PinOn Put "/v1/zones/{z}/pin" O [] "PinRequest" => 200 "Pin" "Hold the published content";
    PinOff Delete "/v1/zones/{z}/pin" O [] - => 204 - "Let newer content go on";
    ReviewApprove Post "/v1/zones/{z}/reviews/{stage}/{serial}/approve" P [] "Commented" => 200 "ReviewDecision" "Approve a candidate";
    ReviewReject Post "/v1/zones/{z}/reviews/{stage}/{serial}/reject" P [] "Commented" => 200 "ReviewDecision" "Reject a candidate";
    ReviewOverride Post "/v1/zones/{z}/reviews/{stage}/override" P [C] "OverrideRequest" => 202 "Accepted" "Accept a rejected candidate after all";
    MaintenanceOn Put "/v1/zones/{z}/maintenance" O [] "MaintenanceRequest" => 200 "Maintenance" "Enter maintenance mode";
    MaintenanceOff Delete "/v1/zones/{z}/maintenance" O [] - => 204 - "Leave maintenance mode";
    KeyList Get "/v1/zones/{z}/keys" ANY [] - => 200 "List_Key" "Keys of a zone";
    KeyImport Post "/v1/zones/{z}/keys" A [] "KeyImport" => 201 "KeyImported" "Import keys";
    KeyCheck Post "/v1/zones/{z}/keys/check" O [] "Commented" => 200 "KeyCheck" "Look at all servers now";
    KeyRemove Delete "/v1/zones/{z}/keys/{k}" A [C] - => 204 - "Remove a key";
    KeyBackedUp Post "/v1/zones/{z}/keys/{k}/backed-up" A [] "Commented" => 200 "Key" "The key is in a backup";
    KeyRestore Post "/v1/zones/{z}/keys/{k}/restore" A [] "Commented" => 200 "Key" "Take a key out of the trash";
    Emergency Post "/v1/zones/{z}/emergency" A [C] "EmergencyRequest" => 200 "Roll" "Replace a key that leaked";
    Timeline Get "/v1/zones/{z}/timeline" ANY [] - => 200 "Timeline" "What will happen if nothing fails";
    KeyShow Get "/v1/zones/{z}/keys/{k}" ANY [] - => 200 "Key" "One key";
    KeyRecords Get "/v1/zones/{z}/key-records/{type}" ANY [] - => 200 "KeyRecords" "DS, DNSKEY, CDS or CDNSKEY records";
    RollList Get "/v1/zones/{z}/rolls" ANY [] - => 200 "List_Roll" "Running and last rolls";
    RollStep Post "/v1/zones/{z}/rolls/{kind}/{step}" O [] "RollStep" => 200 "Roll" "Start or advance a roll";

    PolicyList Get "/v1/policies" V [] - => 200 "List_PolicyItem" "Policies";
    PolicyShow Get "/v1/policies/{p}" V [] - => 200 "Policy" "One policy with effective values";
    PolicyCheck Post "/v1/policies/check" V [] "PolicyCheckRequest" => 200 "PolicyCheck" "Lint policies without activating them";
    PolicyPlan Post "/v1/policies/plan" V [] "PolicyPlanRequest" => 200 "PolicyPlan" "Rolls that the files on disk would begin";
    PolicyReload Post "/v1/policies/reload" A [D C] "PolicyReload" => 200 "PolicyReloaded" "Activate the policy files";

    HsmList Get "/v1/hsms" V [] - => 200 "List_Hsm" "HSMs";
    HsmAdd Post "/v1/hsms" A [D C] "HsmAdd" => 201 "HsmAdded" "Register an HSM";
    HsmShow Get "/v1/hsms/{h}" V [] - => 200 "Hsm" "One HSM";
    HsmEdit Patch "/v1/hsms/{h}" A [D] "HsmEdit" => 200 "Hsm" "Change the settings of an HSM";
    HsmRemove Delete "/v1/hsms/{h}" A [D C] - => 204 - "Forget an HSM";
    HsmTest Post "/v1/hsms/{h}/test" O [] "HsmTest" => 200 "HsmTested" "Connect, and prove every key; an admin may have keys made";
    HsmBench Post "/v1/hsms/{h}/bench" A [] "HsmBench" => 200 "HsmBenched" "Measure signatures a second";
    HsmInventory Get "/v1/hsms/{h}/inventory" V [] - => 200 "HsmInventory" "Every object, and whose it is";
    HsmOrphan Delete "/v1/hsms/{h}/inventory/{object}" A [C] - => 204 - "Destroy an object of no known key";
    TsigList Get "/v1/tsig-keys" V [] - => 200 "List_TsigItem" "TSIG keys, without secrets";
    TsigAdd Post "/v1/tsig-keys" A [] "TsigAdd" => 201 "TsigAdded" "Add or generate a TSIG key";
    TsigRemove Delete "/v1/tsig-keys/{n}" A [] - => 204 - "Remove a TSIG key";
    TokenList Get "/v1/tokens" A [] - => 200 "List_TokenItem" "Tokens, without secrets";
    TokenAdd Post "/v1/tokens" A [] "TokenAdd" => 201 "TokenAdded" "Make a token; shown once";
    TokenRemove Delete "/v1/tokens/{n}" A [] - => 204 - "Remove a token";

    BackupCreate Post "/v1/backups" A [] "BackupCreate" => 201 "Backup" "Make a backup on the daemon's host";
    ClockConfirm Post "/v1/clock/confirm" O [] "Commented" => 200 "ClockConfirmed" "The clock is right as it is";
    LoggingShow Get "/v1/logging" V [] - => 200 "Logging" "Log level and trace targets";
    LoggingEdit Patch "/v1/logging" A [] "LoggingEdit" => 200 "Logging" "Change them until restart";
    OperationList Get "/v1/operations" V [] - => 200 "List_Operation" "Running and last operations";
    SecondList Get "/v1/requests" V [] - => 200 "List_SecondRequest" "Calls that wait for a second person";
    SecondApprove Post "/v1/requests/{id}/approve" P [] "Commented" => 200 - "Carry one out; the answer is that of the call";
    SecondReject Post "/v1/requests/{id}/reject" P [] "Commented" => 200 "SecondRequest" "Drop one";
    OperationShow Get "/v1/operations/{id}" V [] - => 200 "Operation" "One operation";
}

/// The row of `id`.
pub fn route(id: RouteId) -> &'static Route {
    // The rows are in the order of the variants: both come from one macro.
    &ROUTES[id as usize]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_where_their_ids_say() {
        for r in ROUTES {
            assert_eq!(route(r.id).path, r.path);
            assert_eq!(route(r.id).method, r.method);
        }
    }

    #[test]
    fn every_row_is_its_own() {
        let mut seen = std::collections::BTreeSet::new();
        for r in ROUTES {
            assert!(
                seen.insert((r.method, r.path)),
                "{:?} {} twice",
                r.method,
                r.path
            );
            assert!(!r.confirm || r.method.changes(), "{}", r.path);
            assert_eq!(
                r.success == 204,
                r.answer.is_none() && r.method == Method::Delete,
                "{}",
                r.path
            );
        }
    }

    #[test]
    fn nothing_changes_without_a_role() {
        // The changing methods that are open to viewers only read: they lint and plan.
        for r in ROUTES.iter().filter(|r| r.method.changes()) {
            let needs_more = r.access == O || r.access == P || r.access == A;
            assert!(
                needs_more || matches!(r.id, RouteId::PolicyCheck | RouteId::PolicyPlan),
                "{:?}",
                r.id
            );
        }
    }
}

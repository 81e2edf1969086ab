//! The OpenAPI document, generated from the types and the route table.

use serde_json::{Map, Value, json};
use utoipa::OpenApi;

use crate::route::{ROUTES, Route};
use crate::{
    API_VERSION, backup as b, common as c, daemon as d, hsm as h, keys as k, policies as p,
    problem, second as r, status as s, zones as z,
};

#[derive(OpenApi)]
#[openapi(components(schemas(
    problem::Problem,
    d::Info,
    d::Status,
    d::StatusKeys,
    d::Health,
    d::ClockConfirmed,
    d::Logging,
    d::LoggingEdit,
    d::Operation,
    r::SecondRequest,
    r::Asked,
    b::BackupCreate,
    b::Backup,
    z::Zone,
    z::ZoneItem,
    z::ZoneAdd,
    z::ZoneEdit,
    s::ZoneStatus,
    z::Why,
    z::HistoryEntry,
    z::Version,
    z::Diff,
    z::ReloadRequest,
    z::ResignRequest,
    z::UpdateRequest,
    z::Updated,
    z::UpdateResult,
    z::UpdateOutcome,
    z::RollbackRequest,
    z::PinRequest,
    z::ReviewDecision,
    z::OverrideRequest,
    z::MaintenanceRequest,
    z::Maintenance,
    c::Accepted,
    c::Commented,
    k::Key,
    k::KeyRecords,
    k::Roll,
    k::RollStep,
    k::KeyCheck,
    k::KeyImport,
    k::KeyImported,
    k::EmergencyRequest,
    k::Timeline,
    p::PolicyItem,
    p::Policy,
    p::PolicyCheckRequest,
    p::PolicyCheck,
    p::PolicyReload,
    p::PolicyPlanRequest,
    p::PolicyPlan,
    p::PolicyReloaded,
    h::Hsm,
    h::HsmAdd,
    h::HsmAdded,
    h::HsmEdit,
    h::HsmTest,
    h::HsmTested,
    h::HsmBench,
    h::HsmBenched,
    h::HsmInventory,
    h::TsigAdd,
    h::TsigAdded,
    h::TsigItem,
    h::TokenAdd,
    h::TokenAdded,
    h::TokenItem,
    c::List<z::ZoneItem>,
    c::List<z::HistoryEntry>,
    c::List<z::Version>,
    c::List<k::Key>,
    c::List<k::Roll>,
    c::List<p::PolicyItem>,
    c::List<h::Hsm>,
    c::List<h::TsigItem>,
    c::List<h::TokenItem>,
    c::List<d::Operation>,
    c::List<r::SecondRequest>,
)))]
struct Schemas;

/// The document that `GET /v1/openapi.json` answers.
pub fn document() -> Value {
    let mut doc = serde_json::to_value(Schemas::openapi()).unwrap_or_default();
    doc["info"] = json!({
        "title": "Cascade control API",
        "version": API_VERSION,
        "license": {"name": "BSD-3-Clause", "identifier": "BSD-3-Clause"},
    });
    let mut paths = Map::new();
    for route in ROUTES {
        let item = paths.entry(route.path).or_insert_with(|| json!({}));
        item[route.method.as_str().to_ascii_lowercase()] = operation(route);
    }
    doc["paths"] = Value::Object(paths);
    doc["components"]["securitySchemes"] = json!({"token": {"type": "http", "scheme": "bearer"}});
    doc
}

fn operation(route: &Route) -> Value {
    let mut op = json!({
        "operationId": format!("{:?}", route.id),
        "summary": route.summary,
        "x-cascade-role": route.access.as_str(),
        "x-cascade-confirm": route.confirm,
        "parameters": parameters(route),
        "responses": {
            route.success.to_string(): success(route),
            "default": {
                "description": "Problem (RFC 9457)",
                "content": {problem::PROBLEM_JSON: {"schema": reference("Problem")}},
            },
        },
    });
    if let Some(name) = route.request {
        op["requestBody"] = json!({"content": {"application/json": {"schema": reference(name)}}});
    }
    op["security"] = match route.access {
        crate::role::Access::Any => json!([{}, {"token": []}]),
        crate::role::Access::Needs(_) => json!([{"token": []}]),
    };
    op
}

fn success(route: &Route) -> Value {
    let mut answer = json!({"description": route.summary});
    if let Some(name) = route.answer {
        answer["content"] = json!({"application/json": {"schema": reference(name)}});
    }
    answer
}

fn parameters(route: &Route) -> Value {
    let mut list = Vec::new();
    for segment in route.path.split('/') {
        if let Some(name) = segment.strip_prefix('{').and_then(|s| s.strip_suffix('}')) {
            list.push(
                json!({"name": name, "in": "path", "required": true, "schema": {"type": "string"}}),
            );
        }
    }
    if route.dry_run {
        list.push(json!({"name": "dry_run", "in": "query", "schema": {"type": "boolean"}}));
    }
    if route.answer.is_some_and(|a| a.starts_with("List_")) {
        list.push(json!({"name": "limit", "in": "query", "schema": {"type": "integer", "maximum": crate::common::MAX_LIMIT}}));
        list.push(json!({"name": "after", "in": "query", "schema": {"type": "string"}}));
    }
    Value::Array(list)
}

fn reference(name: &str) -> Value {
    json!({"$ref": format!("#/components/schemas/{name}")})
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_route_is_in_it_with_its_role() {
        let doc = document();
        let mut operations = 0;
        for (_, item) in doc["paths"].as_object().unwrap() {
            operations += item.as_object().unwrap().len();
        }
        assert_eq!(operations, ROUTES.len());
        for r in ROUTES {
            let op = &doc["paths"][r.path][r.method.as_str().to_ascii_lowercase()];
            assert_eq!(op["x-cascade-role"], r.access.as_str(), "{}", r.path);
        }
    }

    #[test]
    fn every_reference_leads_somewhere() {
        let doc = document();
        let schemas = doc["components"]["schemas"].as_object().unwrap();
        fn walk(v: &Value, out: &mut Vec<String>) {
            match v {
                Value::Object(m) => {
                    if let Some(Value::String(r)) = m.get("$ref") {
                        out.push(r.clone());
                    }
                    m.values().for_each(|v| walk(v, out));
                }
                Value::Array(a) => a.iter().for_each(|v| walk(v, out)),
                _ => {}
            }
        }
        let mut refs = Vec::new();
        walk(&doc, &mut refs);
        assert!(refs.len() > 100);
        for r in refs {
            let name = r.strip_prefix("#/components/schemas/").unwrap();
            assert!(
                schemas.contains_key(name),
                "{name} is not among {:?}",
                schemas.keys()
            );
        }
    }
}

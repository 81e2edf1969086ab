//! From a path to a row of the route table. The table is the router: there is no second list.

use std::collections::BTreeMap;

use cascade_api::path;
use cascade_api::{Method, Problem, ProblemType, ROUTES, Route};

/// Decoded `{…}` parts of a path, by name.
pub type Params = BTreeMap<&'static str, String>;

/// What a path and method lead to.
#[derive(Debug)]
pub enum Found {
    Route(&'static Route, Params),
    /// The path exists with these methods.
    OtherMethods(Vec<&'static str>),
    Nothing,
}

/// `HEAD` counts as `GET`.
pub fn find(method: &str, path: &str) -> Found {
    let method = if method == "HEAD" { "GET" } else { method };
    let mut others: Vec<&'static str> = Vec::new();
    let mut best: Option<(&'static Route, Params)> = None;
    for route in ROUTES {
        let Some(params) = matches(route.path, path) else {
            continue;
        };
        if route.method.as_str() != method {
            if !others.contains(&route.method.as_str()) {
                others.push(route.method.as_str());
            }
            continue;
        }
        // A literal path wins over one with placeholders.
        if best.as_ref().is_none_or(|(_, p)| params.len() < p.len()) {
            best = Some((route, params));
        }
    }
    match best {
        Some((route, params)) => Found::Route(route, params),
        None if others.is_empty() => Found::Nothing,
        None => Found::OtherMethods(others),
    }
}

/// Value of the `Allow` header.
pub fn allow(methods: &[&'static str]) -> String {
    let mut all = methods.to_vec();
    if all.contains(&Method::Get.as_str()) {
        all.extend(["HEAD", "OPTIONS"]);
    }
    all.join(", ")
}

pub fn not_found(path: &str) -> Problem {
    Problem::new(
        ProblemType::NoSuchRoute,
        format!("there is nothing at '{path}'"),
    )
    .action("see /v1/openapi.json for what there is")
}

/// Segments are compared while still encoded, so that `%2F` inside a zone name does not split it.
fn matches(pattern: &'static str, path: &str) -> Option<Params> {
    let mut params = Params::new();
    let mut have = path.split('/');
    for want in pattern.split('/') {
        let got = have.next()?;
        match want.strip_prefix('{').and_then(|w| w.strip_suffix('}')) {
            Some(name) if !got.is_empty() => {
                params.insert(name, path::decode(got)?);
            }
            Some(_) => return None,
            None if want == got => {}
            None => return None,
        }
    }
    have.next().is_none().then_some(params)
}

#[cfg(test)]
mod tests {
    use super::*;
    use cascade_api::RouteId;

    fn id(method: &str, path: &str) -> (RouteId, Params) {
        match find(method, path) {
            Found::Route(r, p) => (r.id, p),
            other => panic!("{method} {path}: {other:?}"),
        }
    }

    #[test]
    fn every_row_is_found_by_its_own_path() {
        for route in ROUTES {
            let path = route.path.replace('{', "x").replace('}', "");
            assert_eq!(id(route.method.as_str(), &path).0, route.id);
        }
    }

    #[test]
    fn names_with_slashes_and_escapes() {
        let (r, p) = id("GET", "/v1/zones/0%2F25.2.0.192.in-addr.arpa/status");
        assert_eq!(
            (r, p["z"].as_str()),
            (RouteId::ZoneStatus, "0/25.2.0.192.in-addr.arpa")
        );
        let (_, p) = id("GET", "/v1/zones/a%5C046b.example");
        assert_eq!(p["z"], "a\\046b.example");
        let (r, p) = id("HEAD", "/v1/zones/@");
        assert_eq!((r, p["z"].as_str()), (RouteId::ZoneShow, "@"));
    }

    #[test]
    fn literal_paths_win() {
        assert_eq!(id("POST", "/v1/policies/reload").0, RouteId::PolicyReload);
        // A policy may bear the name of a verb.
        assert_eq!(id("GET", "/v1/policies/reload").0, RouteId::PolicyShow);
    }

    #[test]
    fn what_is_not_there() {
        for path in [
            "/",
            "",
            "/v1",
            "/v1/zones/",
            "/v1/zones//status",
            "/v2/zones",
            "/v1/zones/a/b",
            "/v1/zones/%zz",
            "/v1/zones/%ff",
        ] {
            assert!(matches!(find("GET", path), Found::Nothing), "{path}");
        }
        match find("DELETE", "/v1/zones") {
            Found::OtherMethods(m) => assert_eq!(allow(&m), "GET, POST, HEAD, OPTIONS"),
            other => panic!("{other:?}"),
        }
    }
}

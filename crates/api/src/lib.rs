//! The control API: routes, documents, problems, roles, OpenAPI, and a client.
//!
//! Daemon and CLI share these types, so they cannot drift; they are the only types whose JSON
//! strangers see. Reading order: [`route`] says what there is, [`role`] who may, [`zones`],
//! [`status`], [`keys`], [`policies`], [`daemon`] and [`hsm`] what is said, [`problem`] what can
//! go wrong, [`client`] how to ask.

pub mod backup;
pub mod client;
pub mod common;
pub mod daemon;
pub mod hsm;
pub mod keys;
pub mod openapi;
pub mod parse;
pub mod path;
pub mod policies;
pub mod problem;
pub mod role;
pub mod route;
pub mod second;
pub mod status;
pub mod zones;

pub use common::{Accepted, Acts, List, PageQuery, Stage, Subject, SubjectKind, word};
pub use problem::{Problem, ProblemType};
pub use role::{Access, Role, Roles};
pub use route::{Method, ROUTES, Route, RouteId};

/// `<major>.<minor>`; the header `Cascade-Api` carries it. Within a major, members are only added.
pub const API_VERSION: &str = "1.4";
/// Header naming the API version on every answer.
pub const API_HEADER: &str = "cascade-api";
/// Largest request body.
pub const MAX_BODY: usize = 4 << 20;
/// Where the daemon listens unless told otherwise.
pub const DEFAULT_SOCKET: &str = "/run/cascade/control.sock";
/// Longest comment for the audit log.
pub const MAX_COMMENT: usize = 500;

//! The configuration files of the daemon and of the bridge, and policy files, version 1: from text
//! to validated types.
//!
//! Each key is defined once (`section!` in `def.rs`): name, type, default, range, reason, example.
//! From the definitions come the reader, the templates, the manual's text, effective values and
//! the suggestions in errors. Nothing here does I/O: the caller hands in names and texts.

mod acl;
mod address;
mod bridge;
mod bridge_dialect;
mod checks;
mod config;
mod crosscheck;
mod def;
mod diag;
mod dialect;
mod effects;
mod file;
mod guard;
mod hook;
mod keys;
mod keytypes;
mod lint;
mod policy;
mod reader;
mod review;
mod set;
mod template;
mod tree;
mod update;
mod value;

pub use acl::{AclEntry, Net, admits};
pub use address::{Canary, ListenAddr, Push, Resolver, Target, TcpAddr, Transport};
pub use bridge::{
    BridgeAddrs, BridgeConfig, BridgeLogTarget, Environment, Facility, KeyIdForm,
    LIB_PATH_PLACEHOLDER, SetLabels,
};
pub use checks::{CHECKS, CheckDef, CheckLevel, Checks};
pub use config::*;
pub use def::{Def, Kind, Setting};
pub use diag::{Diagnostic, Level, MAX_DIAGNOSTICS};
pub use effects::{ConfigChange, Effect, KeyChange, config_changes, effects};
pub use file::{
    BridgeFile, ConfigFile, PolicyFile, effective_bridge, effective_config, effective_policy,
    parse_bridge, parse_config, parse_config_with, parse_policy, print_effective,
};
pub use guard::{Guard, GuardAct, GuardLimit, Percent};
pub use hook::{Command, Hook};
pub use keys::*;
pub use keytypes::{DsDigest, DsDigests, Home, HsmId, KeyAlgorithm, Salt, TagRange};
pub use lint::{HsmFacts, LintContext, ZoneFacts};
pub use policy::*;
pub use review::{OnNewer, OnReject, OnSilence, Review, ReviewMode};
pub use set::{Content, DirEntry, LoadedSet, MAX_POLICIES, PolicyChange, PolicySet, is_name};
pub use template::{
    KeyDoc, manual, reference_bridge, reference_config, reference_policy, template_bridge,
    template_config, template_policy,
};
pub use tree::MAX_FILE;
pub use update::{NamePattern, UpdateRule};
pub use value::{AutoOr, FileMode, MAX_LIST, OffOr, PathOrNone, Size, Validity, show_span};

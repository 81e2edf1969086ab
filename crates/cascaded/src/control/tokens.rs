//! Bearer tokens: shown once, kept as a digest, with roles, an end, and perhaps a set of zones.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use cascade_api::common::{List, PageQuery, SubjectKind};
use cascade_api::hsm::{Secret, TokenAdd, TokenAdded, TokenItem};
use cascade_api::{Problem, ProblemType, Role};
use cascade_archive::{Change, State, Table};
use cascade_time::Timestamp;
use data_encoding::{BASE64URL_NOPAD, HEXLOWER};
use parking_lot::{Mutex, RwLock};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::{Answer, bug};
use crate::daemon::{Daemon, random};
use crate::http::Identity;

const PREFIX: &str = "cas_";
const TOKENS_MAX: usize = 1000;
const DEFAULT_SPAN: Duration = Duration::from_secs(90 * 86_400);
/// Ten years; what shall last longer says so.
const LONGEST_SPAN: u64 = 10 * 366 * 86_400;
const GLOB_MAX: usize = 300;
/// The time of last use is written at most this often; in memory it is exact.
const USE_WRITTEN: Duration = Duration::from_secs(3600);

/// A token as it is stored.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TokenRow {
    /// SHA-256 of the token, in hexadecimal. A token has 256 random bits, so no salt is needed.
    digest: String,
    roles: Vec<Role>,
    created_at: Timestamp,
    expires_at: Option<Timestamp>,
    last_used_at: Option<Timestamp>,
    zones: Option<String>,
}

#[derive(Debug)]
struct Kept {
    row: TokenRow,
    /// When `last_used_at` was written.
    written_at: Option<Timestamp>,
}

/// Tokens by name.
#[derive(Debug)]
pub struct Tokens {
    all: RwLock<BTreeMap<String, Kept>>,
    /// Held while a row is written or deleted: a late note of use must not bring a token back.
    disk: Mutex<()>,
}

impl Tokens {
    /// Tokens as an earlier process left them.
    ///
    /// # Errors
    /// The state cannot be read.
    pub fn stored(state: &State) -> Result<Self, String> {
        let rows: Vec<(String, TokenRow)> = state
            .list(Table::Tokens, None, usize::MAX)
            .map_err(|e| e.to_string())?;
        let kept = |row: TokenRow| Kept {
            written_at: row.last_used_at,
            row,
        };
        let all = rows.into_iter().map(|(n, row)| (n, kept(row)));
        Ok(Tokens {
            all: RwLock::new(all.collect()),
            disk: Mutex::new(()),
        })
    }

    /// The token's bearer, and the row when its use is worth writing down.
    fn used(&self, token: &str, now: Timestamp) -> Option<(Identity, Option<TokenRow>)> {
        if !token.starts_with(PREFIX) || token.len() > 100 {
            return None;
        }
        let digest = digest(token);
        let mut all = self.all.write();
        let (name, kept) = all.iter_mut().find(|(_, k)| k.row.digest == digest)?;
        if kept.row.expires_at.is_some_and(|e| e <= now) {
            return None;
        }
        kept.row.last_used_at = Some(now);
        let due = kept
            .written_at
            .is_none_or(|at| now.since(at) >= USE_WRITTEN || at > now);
        if due {
            kept.written_at = Some(now);
        }
        let identity = Identity {
            name: name.clone(),
            roles: kept.row.roles.iter().copied().collect(),
            zones: kept.row.zones.clone(),
        };
        Some((identity, due.then(|| kept.row.clone())))
    }
}

fn digest(token: &str) -> String {
    HEXLOWER.encode(&Sha256::digest(token.as_bytes()))
}

/// Who bears this token; none when it is not known or over.
pub fn authenticate(d: &Arc<Daemon>, token: &str) -> Option<Identity> {
    let (identity, write) = d.tokens.used(token, d.now())?;
    if let Some(row) = write {
        let (d, name) = (d.clone(), identity.name.clone());
        tokio::task::spawn_blocking(move || {
            let _turn = d.tokens.disk.lock();
            let same = |k: &Kept| k.row.digest == row.digest;
            if !d.tokens.all.read().get(&name).is_some_and(same) {
                return;
            }
            let written = Change::put(Table::Tokens, &name, &row)
                .and_then(|change| d.state.commit(vec![change]));
            if let Err(e) = written {
                tracing::warn!("last use of token '{name}' could not be written: {e}");
            }
        });
    }
    Some(identity)
}

pub fn list(d: &Daemon, page: &PageQuery) -> List<TokenItem> {
    let all = d.tokens.all.read();
    let items = all
        .iter()
        .map(|(name, k)| TokenItem {
            name: name.clone(),
            roles: k.row.roles.clone(),
            expires_at: k.row.expires_at,
            last_used_at: k.row.last_used_at,
            zones: k.row.zones.clone(),
        })
        .collect();
    List::page(items, page, |i| i.name.clone())
}

pub async fn add(d: &Arc<Daemon>, add: &TokenAdd) -> Answer<TokenAdded> {
    let now = d.now();
    let row_without_token = checked(add, now)?;
    let token = format!("{PREFIX}{}", BASE64URL_NOPAD.encode(&random::<32>()));
    let row = TokenRow {
        digest: digest(&token),
        ..row_without_token
    };
    let _one = d.reloading.write().await;
    {
        let all = d.tokens.all.read();
        if all.contains_key(&add.name) {
            return Err(Problem::new(
                ProblemType::TokenExists,
                format!("token '{}' exists already", add.name),
            )
            .subject(SubjectKind::Token, &add.name)
            .action(format!("cascade token remove {}", add.name)));
        }
        if all.len() >= TOKENS_MAX {
            return Err(invalid(
                format!("there are {TOKENS_MAX} tokens already"),
                "cascade token remove <name>",
            ));
        }
    }
    let change = Change::put(Table::Tokens, &add.name, &row).map_err(bug)?;
    super::commit(d, vec![change]).await?;
    let expires_at = row.expires_at;
    let kept = Kept {
        row,
        written_at: None,
    };
    d.tokens.all.write().insert(add.name.clone(), kept);
    Ok(TokenAdded {
        name: add.name.clone(),
        token: Secret(token),
        expires_at,
    })
}

fn invalid(detail: String, action: &str) -> Problem {
    Problem::new(ProblemType::InvalidValue, detail).action(action)
}

fn checked(add: &TokenAdd, now: Timestamp) -> Answer<TokenRow> {
    if !cascade_policy::is_name(&add.name) {
        return Err(invalid(
            format!("'{}' is not a name for a token", add.name),
            "write 1 to 63 letters, digits, '.', '_' or '-', a letter or digit first",
        ));
    }
    if add.roles.is_empty() {
        return Err(invalid(
            "a token needs at least one role".into(),
            "give viewer, operator, approver or admin",
        ));
    }
    let expires_at = match (add.never_expires, add.expires_in_secs) {
        (true, None) => None,
        (false, None) => Some(now + DEFAULT_SPAN),
        (false, Some(secs)) if (1..=LONGEST_SPAN).contains(&secs) => {
            Some(now + Duration::from_secs(secs))
        }
        (false, Some(secs)) => {
            return Err(invalid(
                format!("a token cannot expire in {secs} seconds"),
                "give a time from one second to ten years, or never",
            ));
        }
        (true, Some(_)) => {
            return Err(invalid(
                "the token shall both expire and never expire".into(),
                "give one of the two",
            ));
        }
    };
    let glob = |g: &str| {
        !g.is_empty() && g.len() <= GLOB_MAX && !g.chars().any(|c| c.is_control() || c == ' ')
    };
    if let Some(g) = add.zones.as_deref().filter(|g| !glob(g)) {
        return Err(invalid(
            format!("'{}' is no pattern for zones", g.escape_debug()),
            "write for example *.example or example.net",
        ));
    }
    let mut roles = add.roles.clone();
    roles.sort();
    roles.dedup();
    Ok(TokenRow {
        digest: String::new(),
        roles,
        created_at: now,
        expires_at,
        last_used_at: None,
        zones: add.zones.clone(),
    })
}

pub async fn remove(d: &Arc<Daemon>, name: &str) -> Answer<()> {
    let _one = d.reloading.write().await;
    if !d.tokens.all.read().contains_key(name) {
        let all = d.tokens.all.read();
        let near = cascade_api::problem::nearest(name, all.keys().map(String::as_str));
        return Err(Problem::new(
            ProblemType::TokenNotFound,
            format!("token '{name}' is not known"),
        )
        .subject(SubjectKind::Token, name)
        .suggestion(near)
        .action("cascade token list"));
    }
    // First out of memory: a token that is being removed lets nobody in, whatever the disk says.
    let taken = d.tokens.all.write().remove(name);
    let change = Change::Delete {
        table: Table::Tokens,
        key: name.to_string(),
    };
    let d2 = d.clone();
    let gone = tokio::task::spawn_blocking(move || {
        let _turn = d2.tokens.disk.lock();
        d2.state.commit(vec![change])
    })
    .await
    .map_err(bug)?;
    if let Err(e) = gone {
        if let Some(kept) = taken {
            d.tokens.all.write().insert(name.to_string(), kept);
        }
        return Err(Problem::new(ProblemType::StorageFull, e.to_string()));
    }
    Ok(())
}

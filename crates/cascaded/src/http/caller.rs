//! Who is at the other end.

use std::collections::BTreeMap;
use std::ffi::CString;
use std::sync::Arc;
use std::time::Duration;

use cascade_api::{Role, Roles};
use nix::unistd::{Gid, Uid, User, getgrouplist};
use parking_lot::Mutex;
use tokio::net::unix::UCred;
use tokio::time::Instant;

use super::backend::Caller;

/// Looking a user up may ask a directory service; a caller does not wait longer than this for
/// more than the viewer's role.
const LOOKUP_BOUND: Duration = Duration::from_secs(3);

/// What was found counts for so long: a tool that asks many times in a row costs one look.
const FOUND_FOR: Duration = Duration::from_secs(5);
/// Users remembered.
const REMEMBERED: usize = 64;

/// Name and groups of a user.
type Found = (Option<String>, Vec<u32>);

/// Users that were looked up a moment ago.
#[derive(Debug, Default)]
pub struct Users(Mutex<BTreeMap<(u32, u32), (Instant, Found)>>);

impl Users {
    /// Who has this user and group id.
    async fn find(&self, uid: u32, gid: u32, now: Instant) -> Found {
        let known = self.0.lock().get(&(uid, gid)).cloned();
        if let Some((_, found)) =
            known.filter(|(at, _)| now.saturating_duration_since(*at) < FOUND_FOR)
        {
            return found;
        }
        let look = tokio::task::spawn_blocking(move || user_and_groups(uid, gid));
        let Ok(Ok(found)) = tokio::time::timeout(LOOKUP_BOUND, look).await else {
            return (None, vec![gid]);
        };
        let mut known = self.0.lock();
        if known.len() >= REMEMBERED {
            known.clear();
        }
        known.insert((uid, gid), (now, found.clone()));
        found
    }
}

/// Who is admin over the socket, besides root.
#[derive(Debug, Clone, Default)]
pub struct Admins {
    /// The daemon's own user.
    pub own_uid: u32,
    /// `admin-users`, resolved.
    pub uids: Vec<u32>,
    /// `admin-groups`, resolved.
    pub gids: Vec<u32>,
    /// `local-read`: every other local user is viewer.
    pub local_read: bool,
    pub users: Arc<Users>,
}

/// The caller behind a Unix socket, from the credentials the kernel reports for the connection.
///
/// The supplementary groups come from the user database, not from the peer's process: the kernel
/// reports those only through a call that has no safe wrapper, and reading `/proc` by process id
/// could be fooled by a process that ends and another that takes its number.
pub async fn over_socket(peer: &UCred, admins: &Admins) -> Caller {
    let (uid, gid) = (peer.uid(), peer.gid());
    let (name, groups) = admins.users.find(uid, gid, Instant::now()).await;
    let actor = match name {
        Some(name) => format!("uid:{uid}({name})"),
        None => format!("uid:{uid}"),
    };
    Caller {
        actor,
        from: "unix".to_string(),
        roles: socket_roles(uid, &groups, admins),
        zones: None,
        second: Default::default(),
    }
}

/// The decision itself.
fn socket_roles(uid: u32, groups: &[u32], admins: &Admins) -> Roles {
    let admin = uid == 0
        || uid == admins.own_uid
        || admins.uids.contains(&uid)
        || groups.iter().any(|g| admins.gids.contains(g));
    match (admin, admins.local_read) {
        (true, _) => Role::Admin.into(),
        (false, true) => Role::Viewer.into(),
        (false, false) => Roles::NONE,
    }
}

/// Blocking.
fn user_and_groups(uid: u32, gid: u32) -> Found {
    let Ok(Some(user)) = User::from_uid(Uid::from_raw(uid)) else {
        return (None, vec![gid]);
    };
    let mut groups = vec![gid];
    if let Ok(name) = CString::new(user.name.as_str())
        && let Ok(list) = getgrouplist(&name, Gid::from_raw(gid))
    {
        groups.extend(list.into_iter().map(Gid::as_raw));
    }
    (Some(user.name), groups)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_is_admin() {
        let admins = Admins {
            own_uid: 900,
            uids: vec![1001],
            gids: vec![901],
            local_read: true,
            users: Arc::default(),
        };
        for (uid, groups, admin) in [
            (0, vec![0], true),
            (900, vec![900], true),
            (1001, vec![100], true),
            (1002, vec![100, 901], true),
            (1003, vec![100], false),
        ] {
            let roles = socket_roles(uid, &groups, &admins);
            assert_eq!(roles.has(Role::Admin), admin, "{uid}");
            assert!(roles.has(Role::Viewer), "{uid}");
        }
        let closed = Admins {
            local_read: false,
            ..admins
        };
        assert!(socket_roles(1003, &[100], &closed).is_empty());
        assert!(socket_roles(0, &[0], &closed).has(Role::Admin));
    }

    #[test]
    fn the_user_database_is_asked() {
        let (name, groups) = user_and_groups(0, 0);
        assert_eq!(name.as_deref(), Some("root"));
        assert!(groups.contains(&0));
        assert_eq!(user_and_groups(4_000_000_123, 77), (None, vec![77]));
    }

    #[tokio::test]
    async fn who_was_looked_up_is_known_for_a_moment() {
        let (users, now) = (Users::default(), Instant::now());
        let found = users.find(0, 0, now).await;
        assert_eq!(found, user_and_groups(0, 0));
        let other = (Some("somebody".to_string()), vec![5]);
        if let Some(known) = users.0.lock().get_mut(&(0, 0)) {
            known.1 = other.clone();
        }
        assert_eq!(users.find(0, 0, now).await, other);
        assert_eq!(users.find(0, 0, now + FOUND_FOR).await, found);
        for uid in 0..REMEMBERED as u32 * 2 {
            users.find(uid, 0, now).await;
            assert!(users.0.lock().len() <= REMEMBERED);
        }
    }
}

//! The process itself: environment for the module, background, identity, process id file.
//!
//! Neither forking nor changing the environment is safe in a process with threads, so both are done
//! by starting this program again.
#![allow(
    clippy::disallowed_methods,
    reason = "a program reads its own environment"
)]

use std::ffi::CString;
use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, ExitCode, Stdio};

use cascade_policy::Environment;
use nix::unistd::{Gid, Group, Uid, User};

use crate::settings::Become;

/// Set in the process that was started for the background.
const DETACHED: &str = "KMIP2PKCS11_DETACHED";
/// Set when the module's environment has been set.
const ENVIRONED: &str = "KMIP2PKCS11_ENVIRONED";
/// What the process in the background says once connections are taken.
const READY: &[u8] = b"ready\n";

/// Gives the process the module's variables, by becoming this program anew with them.
///
/// # Errors
/// The program cannot be started again.
pub fn with_environment(wanted: &Environment) -> Result<(), String> {
    let has = |(name, value): &(String, String)| {
        std::env::var_os(name).is_some_and(|v| v == value.as_str())
    };
    if wanted.0.iter().all(has) || std::env::var_os(ENVIRONED).is_some() {
        return Ok(());
    }
    let mut again = again()?;
    again.envs(wanted.0.iter().cloned()).env(ENVIRONED, "1");
    Err(format!(
        "module_env: this program cannot be started again: {}",
        again.exec()
    ))
}

/// True in the process that is to stay in the background.
pub fn is_detached() -> bool {
    std::env::var_os(DETACHED).is_some()
}

/// Starts this program in the background, waits until it takes connections or fails, and gives
/// this process's exit status.
///
/// # Errors
/// It cannot be started.
pub fn detach() -> Result<ExitCode, String> {
    let failed = |e: std::io::Error| format!("the background process: {e}");
    let mut child = again()?
        .env(DETACHED, "1")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .map_err(failed)?;
    let mut said = Vec::new();
    if let Some(out) = child.stdout.take() {
        let most = READY.len() as u64;
        out.take(most).read_to_end(&mut said).map_err(failed)?;
    }
    if said == READY {
        return Ok(ExitCode::SUCCESS);
    }
    let status = child.wait().map_err(failed)?;
    let code = status.code().and_then(|c| u8::try_from(c).ok());
    Ok(ExitCode::from(code.unwrap_or(1)))
}

/// Leaves the terminal's session; gives what [`tell_ready`] needs. Before standard output changes.
///
/// # Errors
/// As the system says.
pub fn settle() -> Result<OwnedFd, String> {
    nix::unistd::setsid().map_err(|e| format!("a session of its own: {e}"))?;
    nix::unistd::dup(std::io::stdout()).map_err(|e| format!("standard output: {e}"))
}

/// The one who started us may end now.
pub fn tell_ready(parent: OwnedFd) {
    // If it is gone already, nobody waits.
    let _ = File::from(parent).write_all(READY);
}

fn again() -> Result<Command, String> {
    let exe = std::env::current_exe().map_err(|e| format!("this program's own file: {e}"))?;
    let mut args = std::env::args_os();
    let mut command = Command::new(exe);
    if let Some(name) = args.next() {
        command.arg0(name);
    }
    command.args(args);
    Ok(command)
}

/// Root directory, working directory, process id file, groups and user, in this order.
///
/// # Errors
/// What could not be done, and why.
pub fn assume(to: &Become) -> Result<(), String> {
    // Names are looked up before the root directory hides /etc.
    let user = to.user.as_deref().map(find_user).transpose()?;
    let group = to.group.as_deref().map(find_group).transpose()?;
    if let Some(path) = &to.pid_file {
        std::fs::write(path, format!("{}\n", std::process::id()))
            .map_err(|e| format!("process id file {}: {e}", path.display()))?;
    }
    if let Some(root) = &to.chroot {
        nix::unistd::chroot(root).map_err(|e| format!("--chroot {}: {e}", root.display()))?;
    }
    if to.chroot.is_some() || to.working_dir.is_some() {
        let dir = to.working_dir.as_deref().unwrap_or(Path::new("/"));
        std::env::set_current_dir(dir)
            .map_err(|e| format!("--working-dir {}: {e}", dir.display()))?;
    }
    identity(user, group)
}

fn identity(user: Option<User>, group: Option<Gid>) -> Result<(), String> {
    let gid = group.or(user.as_ref().map(|u| u.gid));
    if !Uid::effective().is_root() {
        let other = user.as_ref().is_some_and(|u| u.uid != Uid::effective())
            || group.is_some_and(|g| g != Gid::effective());
        return match other {
            true => Err("only root can become another user or group".into()),
            false => Ok(()),
        };
    }
    let failed = |what: &str, e: nix::Error| format!("{what}: {e}");
    if let Some(gid) = gid {
        match &user {
            Some(user) => {
                let name = CString::new(user.name.as_str())
                    .map_err(|_| "a user's name with NUL".to_string())?;
                nix::unistd::initgroups(&name, gid)
            }
            None => nix::unistd::setgroups(&[gid]),
        }
        .map_err(|e| failed("groups", e))?;
        nix::unistd::setresgid(gid, gid, gid).map_err(|e| failed("group", e))?;
    }
    if let Some(user) = user {
        nix::unistd::setresuid(user.uid, user.uid, user.uid).map_err(|e| failed("user", e))?;
    }
    Ok(())
}

fn find_user(name: &str) -> Result<User, String> {
    let by_name = User::from_name(name).ok().flatten();
    let by_number = || {
        let uid = Uid::from_raw(name.parse().ok()?);
        User::from_uid(uid).ok().flatten()
    };
    by_name
        .or_else(by_number)
        .ok_or_else(|| format!("there is no user '{name}' on this host"))
}

fn find_group(name: &str) -> Result<Gid, String> {
    let by_name = Group::from_name(name).ok().flatten();
    by_name
        .map(|g| g.gid)
        .or_else(|| name.parse().ok().map(Gid::from_raw))
        .ok_or_else(|| format!("there is no group '{name}' on this host"))
}

/// Whom the module's files have to be readable for.
pub fn user_name() -> String {
    let uid = Uid::effective();
    let user = User::from_uid(uid).ok().flatten();
    user.map_or_else(|| uid.to_string(), |u| u.name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn users_are_found_by_name_and_number() {
        assert_eq!(find_user("root").map(|u| u.uid), Ok(Uid::from_raw(0)));
        assert_eq!(find_user("0").map(|u| u.name), Ok("root".into()));
        assert!(find_user("no such user").is_err_and(|e| e.contains("no such user")));
        assert_eq!(find_group("4711"), Ok(Gid::from_raw(4711)));
    }
}

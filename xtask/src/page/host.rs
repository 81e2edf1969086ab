//! What the host must be able to do, and the root file system made on it.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::{process, tools};

/// Debian 12, unless another one is asked for.
pub const SUITE: &str = "bookworm";
/// Besides the base system. What the page installs with apt is in it: the machine has no network.
const INCLUDE: &str = "systemd,systemd-sysv,dbus,softhsm2,opensc,bind9-dnsutils,ca-certificates,\
                       man-db,bash-completion";

/// Says why the walk cannot be done here.
pub fn able() -> Result<(), String> {
    if !tools::is_root() {
        return Err("booting a machine needs root".into());
    }
    for (program, package) in [
        ("debootstrap", "debootstrap"),
        ("systemd-nspawn", "systemd-container"),
        ("nsenter", "util-linux"),
        ("dpkg-deb", "dpkg"),
        ("dpkg-shlibdeps", "dpkg-dev"),
        ("objcopy", "binutils"),
    ] {
        if tools::find(program).is_none() {
            return Err(format!("{program} is not installed (package {package})"));
        }
    }
    let status = Command::new("unshare")
        .args([
            "--mount", "--pid", "--net", "--ipc", "--uts", "--fork", "true",
        ])
        .status();
    match status {
        Ok(status) if status.success() => Ok(()),
        _ => Err("the kernel does not let us make namespaces".into()),
    }
}

/// A copy of the base system, which is made once and kept.
pub fn fresh_root(suite: &str) -> Result<PathBuf, String> {
    let place = place();
    fs::create_dir_all(&place).map_err(|e| format!("{}: {e}", place.display()))?;
    let base = base(&place, suite)?;
    let root = place.join(format!("walk-{}", std::process::id()));
    process::output(
        Command::new("cp")
            .args(["--archive", "--reflink=auto"])
            .arg(&base)
            .arg(&root),
    )?;
    Ok(root)
}

fn place() -> PathBuf {
    std::env::var_os("CASCADE_PAGE_DIR")
        .map_or_else(|| PathBuf::from("/var/tmp/cascade-page"), PathBuf::from)
}

fn base(place: &Path, suite: &str) -> Result<PathBuf, String> {
    let base = place.join(suite);
    let made_of = format!("{suite} {INCLUDE}\n");
    let mark = place.join(format!("{suite}.made-of"));
    if fs::read_to_string(&mark).is_ok_and(|text| text == made_of) {
        return Ok(base);
    }
    println!("making a Debian {suite} in {} (once)", base.display());
    let _ = fs::remove_dir_all(&base);
    let made = process::output(
        Command::new("debootstrap")
            .arg("--variant=minbase")
            .arg(format!("--include={INCLUDE}"))
            .arg(suite)
            .arg(&base)
            .arg(mirror()),
    );
    if let Err(e) = made {
        let log = fs::read_to_string(base.join("debootstrap/debootstrap.log")).unwrap_or_default();
        let last: Vec<_> = log.lines().rev().take(5).collect();
        return Err(format!("{e}\n{}", last.join("\n")));
    }
    // Copies take less, and what is in it is installed already.
    let _ = fs::remove_dir_all(base.join("var/cache/apt/archives"));
    fs::write(&mark, made_of).map_err(|e| format!("{}: {e}", mark.display()))?;
    Ok(base)
}

/// The `.deb` files of a folder.
pub fn packages_in(folder: &Path) -> Result<Vec<PathBuf>, String> {
    let error = |e| format!("{}: {e}", folder.display());
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).map_err(error)? {
        let path = entry.map_err(error)?.path();
        let debug = path.to_string_lossy().contains("-dbgsym_");
        if path.extension().is_some_and(|e| e == "deb") && !debug {
            found.push(path);
        }
    }
    if found.is_empty() {
        return Err(format!("{}: no .deb file is there", folder.display()));
    }
    Ok(found)
}

/// The mirror that apt uses for Debian 12 here, or Debian's own.
fn mirror() -> String {
    const DEBIAN: &str = "http://deb.debian.org/debian";
    let said = process::output(Command::new("apt-get").args([
        "indextargets",
        "--format",
        "$(REPO_URI)",
        &format!("Codename: {SUITE}"),
        "Component: main",
        "Created-By: Packages",
    ]));
    said.ok()
        .map(|text| String::from_utf8_lossy(&text).into_owned())
        .and_then(|text| text.lines().next().map(str::to_owned))
        .filter(|uri| uri.starts_with("http"))
        .unwrap_or_else(|| DEBIAN.to_owned())
}

/// Copies files into a folder of the root file system.
pub fn give(root: &Path, folder: &str, files: &[PathBuf]) -> Result<(), String> {
    let folder = root.join(folder);
    fs::create_dir_all(&folder).map_err(|e| format!("{}: {e}", folder.display()))?;
    for file in files {
        let to = folder.join(file.file_name().unwrap_or_default());
        fs::copy(file, &to).map_err(|e| format!("{}: {e}", to.display()))?;
    }
    Ok(())
}

pub fn throw_away(root: &Path) {
    let _ = fs::remove_file(root.with_extension("boot.log"));
    if let Err(e) = fs::remove_dir_all(root) {
        println!("{} stays: {e}", root.display());
    }
}

//! Foreign programs that judge our work, and how they get onto the machine.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// (program, Debian package, what the tests need it for)
pub const TOOLS: &[(&str, &str, &str)] = &[
    ("ldns-verify-zone", "ldnsutils", "judges signed zones"),
    ("dnssec-verify", "bind9-utils", "judges signed zones"),
    (
        "named-checkzone",
        "bind9-utils",
        "reads the corpus of zone files",
    ),
    ("kzonecheck", "knot-dnssecutils", "judges signed zones"),
    ("kdig", "knot-dnsutils", "asks over TCP, TLS and with TSIG"),
    (
        "dig",
        "bind9-dnsutils",
        "asks the servers as an operator would",
    ),
    (
        "nsd",
        "nsd",
        "serves signed zones to the validating resolver, and is a primary of ours",
    ),
    ("knotd", "knot", "is a primary of ours, and a secondary"),
    ("named", "bind9", "is a primary of ours, and a secondary"),
    (
        "unbound",
        "unbound",
        "validates answers as a resolver would",
    ),
    (
        "softhsm2-util",
        "softhsm2",
        "makes tokens for the tests of HSMs",
    ),
    ("pkcs11-tool", "opensc", "looks at tokens from outside"),
    (
        "debootstrap",
        "debootstrap",
        "makes the machine in which the packages are tested",
    ),
    (
        "systemd-nspawn",
        "systemd-container",
        "boots the machine in which the packages are tested",
    ),
    (
        "dpkg-shlibdeps",
        "dpkg-dev",
        "tells what libraries the packages need",
    ),
    (
        "objcopy",
        "binutils",
        "takes the programs' debug symbols apart",
    ),
    ("lintian", "lintian", "judges the packages"),
    ("curl", "curl", "calls the control API as the manual does"),
    (
        "python3",
        "python3-venv",
        "speaks KMIP with PyKMIP, from the other side",
    ),
];

/// Where the program is, if it is installed. `/usr/sbin` counts even when `PATH` leaves it out.
pub fn find(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path)
        .chain(["/usr/sbin", "/sbin", "/usr/local/sbin"].map(PathBuf::from))
        .map(|folder| folder.join(program))
        .find(|candidate| {
            fs::metadata(candidate)
                .is_ok_and(|meta| meta.is_file() && meta.permissions().mode() & 0o111 != 0)
        })
}

/// Installs what is missing, as far as this user may, and returns what is missing still.
pub fn provide() -> Vec<(&'static str, &'static str)> {
    let absent = missing();
    if absent.is_empty() {
        println!("tools: all {} present", TOOLS.len());
        return absent;
    }
    let mut packages: Vec<_> = absent.iter().map(|(_, package)| *package).collect();
    packages.sort_unstable();
    packages.dedup();
    if may_install() {
        println!("tools: installing {}", packages.join(" "));
        install(&packages);
    }
    let absent = missing();
    for (program, package) in &absent {
        let use_ = TOOLS
            .iter()
            .find(|(name, ..)| name == program)
            .map_or("", |(_, _, use_)| use_);
        println!(
            "tools: {program} is not installed and cannot be installed from here \
             (it {use_}). As root: apt-get install {package}"
        );
    }
    absent
}

fn missing() -> Vec<(&'static str, &'static str)> {
    TOOLS
        .iter()
        .filter(|(program, ..)| find(program).is_none())
        .map(|(program, package, _)| (*program, *package))
        .collect()
}

fn may_install() -> bool {
    is_root() && find("apt-get").is_some()
}

pub fn is_root() -> bool {
    // The owner of the process's own directory in /proc is its effective user.
    fs::metadata("/proc/self").is_ok_and(|meta| std::os::unix::fs::MetadataExt::uid(&meta) == 0)
}

/// Where this user may: a package that no program of [`TOOLS`] stands for.
pub fn provide_package(package: &str) {
    if may_install() {
        println!("tools: installing {package}");
        install(&[package]);
    }
}

fn install(packages: &[&str]) {
    // The packages of NSD and Unbound start a server on port 53; a test needs only the program.
    let policy = Path::new("/usr/sbin/policy-rc.d");
    let ours = !policy.exists()
        && fs::write(policy, "#!/bin/sh\nexit 101\n").is_ok()
        && fs::set_permissions(policy, fs::Permissions::from_mode(0o755)).is_ok();
    let apt = |args: &[&str]| {
        Command::new("apt-get")
            .args(args)
            .env("DEBIAN_FRONTEND", "noninteractive")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .status()
            .is_ok_and(|status| status.success())
    };
    let mut args = vec!["install", "-y", "--no-install-recommends"];
    args.extend(packages);
    // The lists may be present and fresh already; ask for new ones only when that fails.
    let done = apt(&args) || (apt(&["update"]) && apt(&args));
    if !done {
        // One package that does not exist here must not keep the others away.
        for package in packages {
            apt(&["install", "-y", "--no-install-recommends", package]);
        }
    }
    if ours {
        let _ = fs::remove_file(policy);
    }
}

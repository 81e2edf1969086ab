//! `cargo xtask deb`: the Debian packages, and the metadata from which RPM packages are made.
//!
//! What a package holds is data ([`contents`]); where a file comes from is one of few ways
//! ([`Source`](contents::Source)); [`tree`] lays the files out, [`deb`] closes the package.

mod bundled;
mod contents;
mod deb;
mod pages;
mod rpm;
mod tree;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use clap::Args;

use crate::process;
use contents::{CASCADE, KMIP2PKCS11, Package};

#[derive(Args)]
pub struct DebArgs {
    /// Programs without optimisation of our own code, as the tests build them
    #[arg(long)]
    dev: bool,
    /// Take the programs as they were built
    #[arg(long)]
    no_build: bool,
    /// Version of the packages [default: the workspace's, with revision 1]
    #[arg(long)]
    version: Option<String>,
    /// Let lintian judge the packages
    #[arg(long)]
    lint: bool,
}

/// What all packages of one run share.
pub struct Build {
    /// With the Debian revision.
    pub version: String,
    /// Debian's word for the machine.
    pub arch: String,
    /// Folder of the built programs.
    pub programs: PathBuf,
    /// Where packages and their trees go.
    pub out: PathBuf,
    /// Seconds since 1970; every time stamp in the packages.
    pub epoch: u64,
    /// With packages of the symbols for debuggers, and compressed well: both take their time.
    pub symbols: bool,
    /// Appended to a conffile's text; for the package that plays the predecessor.
    pub conffile_note: Option<String>,
}

pub fn run(args: &DebArgs) -> Result<bool, String> {
    let mut build = Build::new(args.dev)?;
    if let Some(version) = &args.version {
        build.version.clone_from(version);
    }
    if !args.no_build {
        compile(args.dev)?;
    }
    let made = build.all()?;
    for path in &made {
        let size = fs::metadata(path).map_or(0, |m| m.len());
        println!("{} ({} KiB)", path.display(), size / 1024);
    }
    if args.lint {
        lint(&made)?;
    }
    Ok(true)
}

impl Build {
    pub fn new(dev: bool) -> Result<Build, String> {
        let arch = process::output(Command::new("dpkg").arg("--print-architecture"))?;
        let target = target()?;
        Ok(Build {
            version: format!("{}-1", env!("CARGO_PKG_VERSION")),
            arch: String::from_utf8_lossy(&arch).trim().to_owned(),
            programs: target.join(if dev { "debug" } else { "release" }),
            out: target.join("packages"),
            epoch: epoch()?,
            symbols: !dev,
            conffile_note: None,
        })
    }

    /// Every package whose program exists; the paths of the `.deb` files.
    pub fn all(&self) -> Result<Vec<PathBuf>, String> {
        let mut made = Vec::new();
        for package in packages() {
            let laid = tree::lay_out(self, package)?;
            made.extend(deb::close(self, package, &laid)?);
            rpm::write(self, package, &laid)?;
        }
        Ok(made)
    }
}

/// The packages whose programs are in this repository.
pub fn packages() -> impl Iterator<Item = &'static Package> {
    let crates = crate::root().join("crates");
    [&CASCADE, &KMIP2PKCS11].into_iter().filter(move |p| {
        p.programs
            .iter()
            .all(|program| crates.join(program).exists())
    })
}

/// The programs: alone with optimisation, or with the workspace as the tests build them, so that
/// nothing is built twice.
pub fn compile(dev: bool) -> Result<(), String> {
    let mut command = Command::new("cargo");
    command.args(["build", "--locked", "--quiet"]);
    if dev {
        command.args(["--workspace", "--lib", "--bins", "--tests"]);
    } else {
        command.arg("--release").envs(release_flags());
        for package in packages() {
            for program in package.programs {
                command.args(["--package", program]);
            }
        }
    }
    let status = command
        .current_dir(crate::root())
        .env("CASCADE_COMMIT", commit())
        .status()
        .map_err(|e| format!("cannot start cargo: {e}"))?;
    if status.success() {
        Ok(())
    } else {
        Err("the build failed".into())
    }
}

/// Paths of this machine are not for the world, and make packages of equal sources differ. C code
/// gets what Debian's own builds have; what rustc makes is PIE with full RELRO by itself.
fn release_flags() -> Vec<(&'static str, String)> {
    let mut places = vec![(crate::root(), "/usr/src/cascade")];
    let home = std::env::var_os("HOME").map(PathBuf::from);
    let cargo = std::env::var_os("CARGO_HOME").map(PathBuf::from);
    places.extend(
        cargo
            .or(home.map(|h| h.join(".cargo")))
            .map(|p| (p, "/usr/src/cargo")),
    );
    let mut rust: Vec<String> = Vec::new();
    let mut c = "-O2 -g1 -fstack-protector-strong -D_FORTIFY_SOURCE=2".to_owned();
    for (from, to) in &places {
        let from = from.display();
        rust.push(format!("--remap-path-prefix={from}={to}"));
        c.push_str(&format!(" -ffile-prefix-map={from}={to}"));
    }
    // The separator that cargo asks for.
    let rust = rust.join("\u{1f}");
    vec![("CARGO_ENCODED_RUSTFLAGS", rust), ("CFLAGS", c)]
}

/// What lintian finds is an error; what cannot be otherwise stands in the overrides, with its reason.
pub fn lint(packages: &[PathBuf]) -> Result<(), String> {
    let mut command = Command::new("lintian");
    command.args(["--fail-on", "error,warning", "--allow-root"]);
    let done = command
        .args(packages)
        .output()
        .map_err(|e| format!("cannot start lintian: {e}"))?;
    if done.status.success() {
        return Ok(());
    }
    Err(String::from_utf8_lossy(&done.stdout).into_owned())
}

/// The folder in which this program was built, two above it.
pub fn target() -> Result<PathBuf, String> {
    let ours = std::env::current_exe().map_err(|e| format!("where this program is: {e}"))?;
    ours.parent()
        .and_then(Path::parent)
        .map(PathBuf::from)
        .ok_or_else(|| "this program is in no folder".into())
}

fn commit() -> String {
    process::output(
        Command::new("git")
            .args(["rev-parse", "--short=12", "HEAD"])
            .current_dir(crate::root()),
    )
    .map_or_else(
        |_| "unknown commit".into(),
        |o| String::from_utf8_lossy(&o).trim().to_owned(),
    )
}

/// `SOURCE_DATE_EPOCH`, or the time of the last commit: equal sources give equal packages.
fn epoch() -> Result<u64, String> {
    let text = match std::env::var("SOURCE_DATE_EPOCH") {
        Ok(text) => text,
        Err(_) => String::from_utf8_lossy(&process::output(
            Command::new("git")
                .args(["log", "-1", "--format=%ct"])
                .current_dir(crate::root()),
        )?)
        .into_owned(),
    };
    text.trim()
        .parse()
        .map_err(|_| format!("not a number of seconds: {text:?} (SOURCE_DATE_EPOCH)"))
}

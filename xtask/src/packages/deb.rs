//! A laid-out tree becomes a `.deb`, and its symbols another.

use std::fmt::Write;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::Build;
use super::contents::Package;
use super::tree::{self, Tree};
use crate::process;

pub const MAINTAINER: &str = "The Cascade developers <cascade@localhost.invalid>";

/// The packages made of one tree.
pub fn close(build: &Build, package: &Package, laid: &Tree) -> Result<Vec<PathBuf>, String> {
    let debian = crate::root().join("packaging/debian").join(package.name);
    let control = laid.root.join("DEBIAN");
    tree::make_dir(&control)?;

    let fields = String::from_utf8_lossy(&tree::read(&debian.join("control"))?).into_owned();
    let libraries = libraries(&laid.root, package)?;
    let fields = fields.replace("${shlibs}", &libraries);
    let size = installed_size(&laid.root)?;
    write(
        &control.join("control"),
        &control_fields(build, &fields, size),
    )?;

    let mut conffiles = String::new();
    for path in laid.conffiles() {
        let _ = writeln!(conffiles, "{path}");
    }
    write(&control.join("conffiles"), &conffiles)?;
    for script in ["preinst", "postinst", "prerm", "postrm"] {
        let from = debian.join(script);
        if from.exists() {
            let to = control.join(script);
            fs::copy(&from, &to).map_err(|e| format!("{}: {e}", to.display()))?;
            tree::mode(&to, 0o755)?;
        }
    }
    write(&control.join("md5sums"), &sums(laid)?)?;
    let program = pack(build, package.name, &laid.root)?;
    if build.symbols {
        Ok(vec![program, symbols(build, package, laid)?])
    } else {
        Ok(vec![program])
    }
}

/// The package for debuggers, as Debian makes them.
fn symbols(build: &Build, package: &Package, laid: &Tree) -> Result<PathBuf, String> {
    let name = format!("{}-dbgsym", package.name);
    let doc = tree::inside(&laid.symbols, "/usr/share/doc");
    tree::make_dir(&doc)?;
    let link = doc.join(&name);
    std::os::unix::fs::symlink(package.name, &link)
        .map_err(|e| format!("{}: {e}", link.display()))?;
    let control = laid.symbols.join("DEBIAN");
    tree::make_dir(&control)?;
    let fields = format!(
        "Package: {name}\nSection: debug\nPriority: optional\nAuto-Built-Package: debug-symbols\n\
         Depends: {} (= {})\nDescription: debug symbols for {}\n",
        package.name, build.version, package.name
    );
    let size = installed_size(&laid.symbols)?;
    write(
        &control.join("control"),
        &control_fields(build, &fields, size),
    )?;
    pack(build, &name, &laid.symbols)
}

/// What every package says, after its first field.
fn control_fields(build: &Build, fields: &str, size: u64) -> String {
    let ours = format!(
        "Version: {}\nArchitecture: {}\nMaintainer: {MAINTAINER}\nInstalled-Size: {size}\n",
        build.version, build.arch
    );
    match fields.split_once('\n') {
        Some((first, rest)) => format!("{first}\n{ours}{rest}"),
        None => ours,
    }
}

fn pack(build: &Build, name: &str, root: &Path) -> Result<PathBuf, String> {
    let path = build
        .out
        .join(format!("{name}_{}_{}.deb", build.version, build.arch));
    process::output(
        Command::new("dpkg-deb")
            .args([
                "--root-owner-group",
                if build.symbols { "-Zxz" } else { "-Zgzip" },
            ])
            .args(if build.symbols { None } else { Some("-z1") })
            .arg("--build")
            .arg(root)
            .arg(&path)
            // Times in the archive are cut at this one.
            .env("SOURCE_DATE_EPOCH", build.epoch.to_string()),
    )?;
    Ok(path)
}

/// `libc6 (>= 2.34), libgcc-s1 (>= 4.2)`: what the programs are linked to.
fn libraries(root: &Path, package: &Package) -> Result<String, String> {
    // dpkg-shlibdeps wants a source package around it.
    let place = root.with_file_name("shlibs");
    tree::make_dir(&place.join("debian"))?;
    write(
        &place.join("debian/control"),
        &format!(
            "Source: {0}\n\nPackage: {0}\nArchitecture: any\n",
            package.name
        ),
    )?;
    let mut command = Command::new("dpkg-shlibdeps");
    command.arg("-O").current_dir(&place);
    for program in package.programs {
        command.arg("-e").arg(root.join("usr/bin").join(program));
    }
    let said = process::output(&mut command)
        .map_err(|e| format!("{e} (dpkg-shlibdeps is in the package dpkg-dev)"))?;
    let said = String::from_utf8_lossy(&said);
    said.lines()
        .find_map(|line| line.strip_prefix("shlibs:Depends="))
        .map(str::to_owned)
        .ok_or_else(|| format!("dpkg-shlibdeps says nothing of use: {said}"))
}

/// In KiB, each file rounded up, as Debian counts.
fn installed_size(root: &Path) -> Result<u64, String> {
    let mut total = 0;
    for entry in fs::read_dir(root).map_err(|e| format!("{}: {e}", root.display()))? {
        let entry = entry.map_err(|e| format!("{}: {e}", root.display()))?;
        let meta = entry
            .metadata()
            .map_err(|e| format!("{}: {e}", entry.path().display()))?;
        total += if meta.is_dir() {
            1 + installed_size(&entry.path())?
        } else {
            meta.len().div_ceil(1024)
        };
    }
    Ok(total)
}

fn sums(laid: &Tree) -> Result<String, String> {
    let files = laid
        .files
        .iter()
        .map(|f| f.trim_start_matches('/'))
        // dpkg keeps the sums of conffiles itself.
        .filter(|f| !f.starts_with("etc/"));
    let text = process::output(Command::new("md5sum").args(files).current_dir(&laid.root))?;
    Ok(String::from_utf8_lossy(&text).into_owned())
}

fn write(path: &Path, text: &str) -> Result<(), String> {
    fs::write(path, text).map_err(|e| format!("{}: {e}", path.display()))?;
    tree::mode(path, 0o644)
}

//! The same files as metadata for `cargo generate-rpm --metadata-overwrite`.

use std::fmt::Write;
use std::fs;

use super::Build;
use super::contents::Package;
use super::tree::{self, Tree};

pub fn write(build: &Build, package: &Package, laid: &Tree) -> Result<(), String> {
    let folder = build.out.join("rpm");
    tree::make_dir(&folder)?;
    let path = folder.join(format!("{}.toml", package.name));
    fs::write(&path, metadata(build, package, laid)?)
        .map_err(|e| format!("{}: {e}", path.display()))
}

fn metadata(build: &Build, package: &Package, laid: &Tree) -> Result<String, String> {
    let version = build.version.split('-').next().unwrap_or(&build.version);
    let mut out = format!(
        "name = \"{}\"\nversion = \"{version}\"\nrelease = \"1\"\nlicense = \"{}\"\n\
         summary = \"{}\"\nauto-req = \"auto\"\n",
        package.name,
        env!("CARGO_PKG_LICENSE"),
        summary(package)?
    );
    // An asset is a file: empty folders are made here.
    let folders: String = laid
        .folders
        .iter()
        .map(|f| format!("install -d {f}; "))
        .collect();
    let script = format!(
        "{folders}systemd-sysusers {0}.conf; systemd-tmpfiles --create {0}.conf >/dev/null 2>&1; \
         systemctl daemon-reload >/dev/null 2>&1; [ $1 -lt 2 ] || systemctl try-restart {1}.service; :",
        package.name, package.programs[0]
    );
    let _ = writeln!(out, "post_install_script = '{script}'");
    let _ = writeln!(
        out,
        "pre_uninstall_script = '[ $1 -gt 0 ] || systemctl disable --now {}.service >/dev/null 2>&1; :'",
        package.programs[0]
    );
    out.push_str("\n[requires]\nsystemd = \"*\"\n");
    for path in laid.files.iter().filter(|p| !is_of_debian(p)) {
        // Where zsh looks on hosts with RPM.
        let dest = path.replace("/zsh/vendor-completions/", "/zsh/site-functions/");
        let mode = if path.starts_with("/usr/bin/") {
            "755"
        } else {
            "644"
        };
        let _ = write!(
            out,
            "\n[[assets]]\nsource = \"{}\"\ndest = \"{dest}\"\nmode = \"{mode}\"\n",
            tree::inside(&laid.root, path).display()
        );
        if path.starts_with("/etc/") {
            out.push_str("config = \"noreplace\"\n");
        }
        if path.starts_with("/usr/share/doc/") {
            out.push_str("doc = true\n");
        }
    }
    Ok(out)
}

/// Words for Debian's own tools and readers.
fn is_of_debian(path: &str) -> bool {
    path.contains("/lintian/") || path.contains(".Debian")
}

/// The first line of the Debian package's description.
fn summary(package: &Package) -> Result<String, String> {
    let path = crate::root()
        .join("packaging/debian")
        .join(package.name)
        .join("control");
    let text = String::from_utf8_lossy(&tree::read(&path)?).into_owned();
    text.lines()
        .find_map(|line| line.strip_prefix("Description: "))
        .map(str::to_owned)
        .ok_or_else(|| format!("{}: no description", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_of_debian_stays_there() {
        for path in [
            "/usr/share/lintian/overrides/cascade",
            "/usr/share/doc/cascade/README.Debian",
            "/usr/share/doc/cascade/changelog.Debian.gz",
        ] {
            assert!(is_of_debian(path), "{path}");
        }
        assert!(!is_of_debian("/usr/share/doc/cascade/README.md"));
    }
}

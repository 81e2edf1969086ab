//! What the packages hold: one row for each file.

/// A package: its programs, and every other file.
pub struct Package {
    pub name: &'static str,
    pub programs: &'static [&'static str],
    pub files: &'static [File],
    /// Folders that exist although nothing lies in them.
    pub folders: &'static [&'static str],
}

pub struct File {
    pub to: &'static str,
    pub from: Source,
}

#[derive(Clone, Copy)]
pub enum Source {
    /// A file of the repository.
    Repo(&'static str),
    /// All files of a folder of the repository with this ending, below `to`.
    Folder(&'static str, &'static str),
    /// What a built program prints.
    Prints(&'static str, &'static [&'static str]),
    /// The configuration template with the journal as log target.
    Config,
    /// The description of the control API.
    OpenApi,
    /// Manual pages into the folder `to`.
    ManPages,
    /// `copyright`: ours, and a row for each bundled crate.
    Copyright,
    /// The licence texts of everything that is linked in.
    Licences,
    /// CycloneDX list of everything that is linked in.
    Sbom,
    /// `changelog.Debian`.
    Changelog,
}

use Source::{
    Changelog, Config, Copyright, Folder, Licences, ManPages, OpenApi, Prints, Repo, Sbom,
};

macro_rules! files {
    ($($to:literal <= $from:expr;)*) => { &[$(File { to: $to, from: $from },)*] };
}

pub const CASCADE: Package = Package {
    name: "cascade",
    programs: &["cascaded", "cascade"],
    folders: &["/etc/cascade/policies"],
    files: files! {
        "/etc/cascade/config.toml" <= Config;
        "/etc/logrotate.d/cascade" <= Repo("packaging/logrotate/cascade");
        "/usr/lib/systemd/system/cascaded.service" <= Repo("packaging/systemd/cascaded.service");
        "/usr/lib/systemd/system/cascaded.socket" <= Repo("packaging/systemd/cascaded.socket");
        "/usr/lib/systemd/system-preset/50-cascade.preset" <= Repo("packaging/preset/50-cascade.preset");
        "/usr/lib/sysusers.d/cascade.conf" <= Repo("packaging/sysusers/cascade.conf");
        "/usr/lib/tmpfiles.d/cascade.conf" <= Repo("packaging/tmpfiles/cascade.conf");
        "/usr/share/man" <= ManPages;
        "/usr/share/bash-completion/completions/cascade" <= Prints("cascade", &["completions", "bash"]);
        "/usr/share/zsh/vendor-completions/_cascade" <= Prints("cascade", &["completions", "zsh"]);
        "/usr/share/fish/vendor_completions.d/cascade.fish" <= Prints("cascade", &["completions", "fish"]);
        "/usr/share/cascade/config.toml" <= Prints("cascade", &["template", "config"]);
        "/usr/share/cascade/policy.toml" <= Prints("cascade", &["template", "policy"]);
        "/usr/share/cascade/openapi.json" <= OpenApi;
        "/usr/share/cascade/alerts.yml" <= Repo("packaging/monitoring/alerts.yml");
        "/usr/share/cascade/dashboard.json" <= Repo("packaging/monitoring/dashboard.json");
        "/usr/share/doc/cascade/README.md" <= Repo("README.md");
        "/usr/share/doc/cascade/README.Debian" <= Repo("packaging/debian/cascade/README.Debian");
        "/usr/share/doc/cascade/changelog.gz" <= Repo("CHANGELOG.md");
        "/usr/share/doc/cascade/changelog.Debian.gz" <= Changelog;
        "/usr/share/doc/cascade/copyright" <= Copyright;
        "/usr/share/doc/cascade/licences.txt.gz" <= Licences;
        "/usr/share/doc/cascade/sbom.cdx.json" <= Sbom;
        "/usr/share/doc/cascade/manual" <= Folder("docs/manual/src", "md");
        "/usr/share/doc/cascade/examples/hook-paths.conf" <= Repo("packaging/examples/hook-paths.conf");
        "/usr/share/doc/cascade/examples/cascaded-publish.socket" <= Repo("packaging/examples/publish-53.socket");
        "/usr/share/lintian/overrides/cascade" <= Repo("packaging/debian/cascade/lintian-overrides");
    },
};

pub const KMIP2PKCS11: Package = Package {
    name: "kmip2pkcs11",
    programs: &["kmip2pkcs11"],
    folders: &[],
    files: files! {
        "/etc/kmip2pkcs11/config.toml" <= Repo("etc/kmip2pkcs11/config.toml");
        "/etc/logrotate.d/kmip2pkcs11" <= Repo("packaging/logrotate/kmip2pkcs11");
        "/usr/lib/systemd/system/kmip2pkcs11.service" <= Repo("packaging/systemd/kmip2pkcs11.service");
        "/usr/lib/systemd/system/kmip2pkcs11.socket" <= Repo("packaging/systemd/kmip2pkcs11.socket");
        "/usr/lib/systemd/system-preset/50-kmip2pkcs11.preset" <= Repo("packaging/preset/50-kmip2pkcs11.preset");
        "/usr/lib/sysusers.d/kmip2pkcs11.conf" <= Repo("packaging/sysusers/kmip2pkcs11.conf");
        "/usr/share/man" <= ManPages;
        "/usr/share/lintian/overrides/kmip2pkcs11" <= Repo("packaging/debian/kmip2pkcs11/lintian-overrides");
        "/usr/share/doc/kmip2pkcs11/hsm.md" <= Repo("docs/manual/src/hsm.md");
        "/usr/share/doc/kmip2pkcs11/softhsm.md" <= Repo("docs/manual/src/softhsm.md");
        "/usr/share/doc/kmip2pkcs11/nethsm.md" <= Repo("docs/manual/src/nethsm.md");
        "/usr/share/doc/kmip2pkcs11/smartcard-hsm.md" <= Repo("docs/manual/src/smartcard-hsm.md");
        "/usr/share/doc/kmip2pkcs11/README.Debian" <= Repo("packaging/debian/kmip2pkcs11/README.Debian");
        "/usr/share/doc/kmip2pkcs11/changelog.gz" <= Repo("CHANGELOG.md");
        "/usr/share/doc/kmip2pkcs11/changelog.Debian.gz" <= Changelog;
        "/usr/share/doc/kmip2pkcs11/copyright" <= Copyright;
        "/usr/share/doc/kmip2pkcs11/licences.txt.gz" <= Licences;
        "/usr/share/doc/kmip2pkcs11/sbom.cdx.json" <= Sbom;
        "/usr/share/doc/kmip2pkcs11/examples/softhsm.conf" <= Repo("packaging/examples/softhsm.conf");
        "/usr/share/doc/kmip2pkcs11/examples/usb.conf" <= Repo("packaging/examples/usb.conf");
        "/usr/share/doc/kmip2pkcs11/examples/smartcard.conf" <= Repo("packaging/examples/smartcard.conf");
        "/usr/share/doc/kmip2pkcs11/examples/kmip2pkcs11-pcscd.rules" <= Repo("packaging/examples/kmip2pkcs11-pcscd.rules");
        "/usr/share/doc/kmip2pkcs11/examples/jit-module.conf" <= Repo("packaging/examples/jit-module.conf");
        "/usr/share/doc/kmip2pkcs11/examples/home-module.conf" <= Repo("packaging/examples/home-module.conf");
        "/usr/share/doc/kmip2pkcs11/examples/env.conf" <= Repo("packaging/examples/env.conf");
    },
};

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_file_of_the_repository_is_there() {
        for package in super::super::packages() {
            for file in package.files {
                if let Repo(path) | Folder(path, _) = file.from {
                    assert!(crate::root().join(path).exists(), "{path}");
                }
            }
        }
    }

    #[test]
    fn no_file_stands_in_both_packages() {
        let shared = |to: &str| to == "/usr/share/man";
        for file in CASCADE.files.iter().filter(|f| !shared(f.to)) {
            assert!(
                KMIP2PKCS11.files.iter().all(|f| f.to != file.to),
                "{}",
                file.to
            );
        }
    }

    #[test]
    fn nothing_is_shipped_that_the_operator_makes() {
        for file in CASCADE.files {
            assert!(!file.to.starts_with("/etc/cascade/zones"), "{}", file.to);
            assert!(!file.to.starts_with("/etc/cascade/policies"), "{}", file.to);
            assert!(!file.to.starts_with("/var/"), "{}", file.to);
        }
    }
}

//! Row 1: what the installation leaves.

use super::walk::{Step, Walk, check, done, equal, names, says};

/// What bash offers for this beginning, by way of what bash-completion loads.
fn completes(m: &super::machine::Machine, line: &str, wanted: &str) -> Step {
    let words: Vec<&str> = line.split(' ').collect();
    let (last, before) = (words.len() - 1, words[words.len() - 2]);
    let said = m.sh(&format!(
        "source /usr/share/bash-completion/bash_completion; \
         _completion_loader cascade 2>/dev/null || _comp_load cascade; \
         f=$(complete -p cascade | grep -o -- '-F [^ ]*' | cut -d' ' -f2); \
         COMP_WORDS=({line}); COMP_CWORD={last}; COMP_LINE='{line}'; COMP_POINT={}; \
         $f cascade '{}' '{before}'; echo \"${{COMPREPLY[*]}}\"",
        line.len(),
        words[last],
    ));
    let found = said.stdout.split_whitespace().any(|w| w == wanted);
    check(found, || {
        format!("`{line}<TAB>` does not offer {wanted}: {said}")
    })
}

pub fn rows(walk: &mut Walk) -> Step {
    let hsm = walk.hsm;
    let units: &[&str] = if hsm {
        &[
            "cascaded.service",
            "cascaded.socket",
            "kmip2pkcs11.service",
            "kmip2pkcs11.socket",
        ]
    } else {
        &["cascaded.service", "cascaded.socket"]
    };
    let packages = walk.packages.clone();
    walk.row("1.0", "lintian finds no error and no warning", |_| {
        crate::packages::lint(&packages)
    })?;
    walk.row("1.1", "dpkg installs everything, asks nothing", |m| {
        let said = done(m.sh("dpkg -i /root/now/*.deb </dev/null"))?;
        names(&said.stdout, &["quick-start"])
    })?;
    walk.row("1.2", "nothing is enabled or running", |m| {
        for unit in units {
            let said = m.sh(&format!(
                "systemctl is-enabled {unit}; systemctl is-active {unit}"
            ));
            equal(&said.stdout, "disabled\ninactive\n").map_err(|e| format!("{unit}: {e}"))?;
        }
        Ok(())
    })?;
    walk.row(
        "1.3",
        "users with groups of their own; files with their modes",
        |m| {
            let users: &[&str] = if hsm {
                &["cascade", "kmip2pkcs11"]
            } else {
                &["cascade"]
            };
            for user in users {
                says(
                    m.sh(&format!("id -gn {user}; id -Gn {user}")),
                    &format!("{user}\n{user}\n"),
                )?;
            }
            let stat = "stat -c '%U:%G %a %n' /usr/bin/cascaded /usr/bin/cascade /etc/cascade \
                    /etc/cascade/config.toml /etc/cascade/policies /run/cascade";
            says(
                m.sh(stat),
                "root:root 755 /usr/bin/cascaded\nroot:root 755 /usr/bin/cascade\n\
             root:root 755 /etc/cascade\nroot:root 644 /etc/cascade/config.toml\n\
             root:root 755 /etc/cascade/policies\ncascade:cascade 755 /run/cascade\n",
            )?;
            let said = m.sh("ls -A /etc/cascade /etc/cascade/policies; ls -d /var/lib/cascade");
            names(&said.stdout, &["config.toml"])?;
            check(
                !said.stdout.contains("zones") && said.code != Some(0),
                || format!("more than expected: {}", said.stdout),
            )
        },
    )?;
    walk.row("1.4", "systemd finds nothing wrong with the units", |m| {
        let said = m.sh(&format!("systemd-analyze verify {} 2>&1", units.join(" ")));
        equal(&said.stdout, "")
    })?;
    walk.row("1.5", "exposure of the services is 2.0 at most", |m| {
        for unit in units.iter().filter(|u| u.ends_with(".service")) {
            let said = m.sh(&format!(
                "systemd-analyze security --threshold=20 --no-pager {unit}"
            ));
            check(said.code == Some(0), || {
                said.stdout.lines().last().unwrap_or_default().to_owned()
            })?;
        }
        Ok(())
    })?;
    walk.row("1.6", "version, manual pages, completions", |m| {
        says(m.sh("cascade --version"), &format!("cascade {}\n", env!("CARGO_PKG_VERSION")))?;
        let said = done(m.sh(
            "zcat /usr/share/man/man1/cascade.1.gz /usr/share/man/man1/cascade-zone-add.1.gz \
             /usr/share/man/man1/cascaded.1.gz /usr/share/man/man5/cascaded-config.toml.5.gz \
             /usr/share/man/man5/cascaded-policy.toml.5.gz",
        ))?;
        names(&said.stdout, &["cascade\\-zone", "check\\-config", "policy\\-dir", "use\\-csk"])?;
        completes(m, "cascade zo", "zone")?;
        completes(m, "cascade zone sta", "status")?;
        completes(m, "cascade zone add --pol", "--policy")?;
        names(
            &done(m.sh("cat /usr/share/zsh/vendor-completions/_cascade /usr/share/fish/vendor_completions.d/cascade.fish"))?.stdout,
            &["#compdef cascade", "complete -c cascade"],
        )
    })?;
    walk.row(
        "1.8",
        "man shows a page for each program, command and file",
        |m| {
            let said =
                done(m.sh("MANWIDTH=80 man cascade | head -4; man -w cascaded cascade-zone-add"))?;
            names(
                &said.stdout,
                &["cascade(1)", "NAME", "cascade-zone-add.1.gz"],
            )?;
            let said = done(m.sh("cascade --help"))?;
            let (_, commands) = said.stdout.split_once("Commands:").unwrap_or_default();
            let listed = commands.lines().skip(1).take_while(|l| l.starts_with("  "));
            let groups: Vec<&str> = listed.filter_map(|l| l.split_whitespace().next()).collect();
            check(groups.len() > 10, || said.to_string())?;
            for group in groups.iter().filter(|g| **g != "help") {
                done(m.sh(&format!("man -w cascade-{group}")))?;
            }
            let mut pages = vec!["cascaded", "cascaded-config.toml", "cascaded-policy.toml"];
            if hsm {
                pages.extend(["kmip2pkcs11", "kmip2pkcs11-config.toml"]);
            }
            let said = m.sh(&format!(
                "man --warnings --ascii {} 2>&1 >/dev/null",
                pages.join(" ")
            ));
            equal(&said.stdout, "")
        },
    )?;
    walk.row("1.9", "what else packaging promises is there", |m| {
        let mut files = vec![
            "cascade/openapi.json",
            "cascade/alerts.yml",
            "cascade/dashboard.json",
            "cascade/config.toml",
            "cascade/policy.toml",
            "doc/cascade/README.Debian",
            "doc/cascade/copyright",
            "doc/cascade/licences.txt.gz",
            "doc/cascade/sbom.cdx.json",
            "doc/cascade/manual/quick-start.md",
            "doc/cascade/examples/hook-paths.conf",
        ];
        if hsm {
            files.extend([
                "doc/kmip2pkcs11/README.Debian",
                "doc/kmip2pkcs11/copyright",
                "doc/kmip2pkcs11/nethsm.md",
                "doc/kmip2pkcs11/examples/softhsm.conf",
                "doc/kmip2pkcs11/examples/usb.conf",
                "doc/kmip2pkcs11/examples/smartcard.conf",
                "doc/kmip2pkcs11/examples/jit-module.conf",
                "doc/kmip2pkcs11/examples/home-module.conf",
                "doc/kmip2pkcs11/examples/env.conf",
            ]);
        }
        done(m.sh(&format!(
            "cd /usr/share && test -s {}",
            files.join(" && test -s ")
        )))?;
        // What is linked in has its licence text.
        let said = done(m.sh("cd /usr/share/doc/cascade; zcat licences.txt.gz; cat copyright"))?;
        names(
            &said.stdout,
            &["aws-lc-sys", "Apache License", "BSD-3-Clause", "tokio"],
        )
    })?;
    walk.row("1.7", "the packaged configuration is valid", |m| {
        let said = done(m.sh("runuser -u cascade -- cascaded --check-config"))?;
        equal(&said.stdout, "/etc/cascade/config.toml: ok\n")
    })
}

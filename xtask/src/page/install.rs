//! Row 1: what the installation leaves.

use super::walk::{Step, Walk, check, done, equal, names, says};

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
        let complaints: Vec<&str> = said
            .stdout
            .lines()
            // man-db is not installed.
            .filter(|line| !line.contains("Command 'man "))
            .collect();
        check(complaints.is_empty(), || complaints.join("\n"))
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
        let complete = "source /usr/share/bash-completion/completions/cascade; \
                        COMP_WORDS=(cascade zo); COMP_CWORD=1; _cascade cascade zo cascade; \
                        echo \"${COMPREPLY[@]}\"";
        says(m.sh(complete), "zone\n")?;
        names(
            &done(m.sh("cat /usr/share/zsh/vendor-completions/_cascade /usr/share/fish/vendor_completions.d/cascade.fish"))?.stdout,
            &["#compdef cascade", "complete -c cascade"],
        )
    })?;
    walk.row("1.7", "the packaged configuration is valid", |m| {
        let said = done(m.sh("runuser -u cascade -- cascaded --check-config"))?;
        equal(&said.stdout, "/etc/cascade/config.toml: ok\n")
    })
}

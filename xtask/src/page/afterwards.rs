//! Rows 18 and 19: the next release, a copy on an empty machine, removal.

use super::steps::serial;
use super::walk::{Step, Walk, check, done, equal, names, says, until};

pub fn rows(walk: &mut Walk) -> Step {
    upgrade(walk)?;
    backup(walk)?;
    removal(walk)
}

/// Row 18.
fn upgrade(walk: &mut Walk) -> Step {
    walk.row("18.1", "an upgrade restarts what runs and keeps serials and keys", |m| {
        done(m.sh("echo '# by the operator' >> /etc/cascade/config.toml"))?;
        let look = "cascade keyset example.net list; dig @127.0.0.1 -p 4543 example.net SOA +dnssec +short";
        let pid = "systemctl show -P MainPID cascaded";
        let (before, old) = (m.sh(look).stdout, m.sh(pid).stdout);
        let said = done(m.sh("dpkg --force-confdef --force-confold -i /root/next/*.deb </dev/null"))?;
        check(!said.stderr.contains("needs a look"), || said.to_string())?;
        until(20, || equal(&m.sh("systemctl is-active cascaded").stdout, "active\n"))?;
        check(m.sh(pid).stdout != old, || "the old process still runs".into())?;
        until(20, || equal(&m.sh(look).stdout, &before))
    })?;
    walk.row(
        "18.2",
        "a changed conffile is kept, the new one lies beside it",
        |m| {
            done(m.sh("grep -q 'by the operator' /etc/cascade/config.toml"))?;
            done(m.sh("grep -q 'former release' /etc/cascade/config.toml.dpkg-dist"))?;
            equal(&m.sh("systemctl is-enabled cascaded").stdout, "enabled\n")
        },
    )?;
    walk.row("18.3", "what did not run is not started", |m| {
        done(m.sh("systemctl stop cascaded; dpkg --force-confdef --force-confold -i /root/next/*.deb </dev/null"))?;
        equal(&m.sh("systemctl is-active cascaded").stdout, "inactive\n")?;
        done(m.sh("systemctl start cascaded")).map(drop)
    })
}

/// Backup while it runs, and its restoration where there is nothing.
fn backup(walk: &mut Walk) -> Step {
    walk.row("18.4", "a backup made online, and its proof", |m| {
        let said = done(m.sh("cascade backup create --name walk"))?;
        names(&said.stdout, &["/var/lib/cascade/backup/walk", "2 zones"])?;
        let said = done(m.sh("mv /var/lib/cascade/backup/walk /root/walk; cascade backup verify /root/walk"))?;
        names(&said.stdout, &["intact"])?;
        let said = m.sh(
            "cp -a /root/walk /root/bad; f=$(find /root/bad -name state.redb); \
             printf x | dd of=$f bs=1 seek=5000 conv=notrunc 2>/dev/null; cascade backup verify /root/bad",
        );
        check(said.code == Some(7) && said.stderr.contains("state.redb"), || said.to_string())
    })?;
    walk.row("18.5", "restored on an empty machine it goes on with the same keys and serials", |m| {
        let keys = "cascade keyset example.net list; cascade keyset example.org list";
        let (before, at) = (m.sh(keys).stdout, serial(m, "example.net")?);
        done(m.sh("systemctl stop cascaded; rm -rf /var/lib/cascade"))?;
        let said = done(m.sh("cascade backup restore /root/walk"))?;
        names(&said.stdout, &["/var/lib/cascade", "systemctl start cascaded"])?;
        says(m.sh("stat -c '%U %a' /var/lib/cascade /var/lib/cascade/state.redb"), "cascade 750\ncascade 600\n")?;
        done(m.sh("systemctl start cascaded"))?;
        equal(&m.sh(keys).stdout, &before)?;
        equal(&serial(m, "example.net")?.to_string(), &at.to_string())?;
        done(m.sh(
            "sed -i -E 's/ [0-9]+ 86400/ 9 86400/' /etc/cascade/zones/example.net; \
             echo 'v9 IN A 192.0.2.9' >> /etc/cascade/zones/example.net; cascade zone reload example.net",
        ))?;
        until(20, || equal(&m.sh("dig @127.0.0.1 -p 4543 v9.example.net A +short").stdout, "192.0.2.9\n"))?;
        equal(&m.sh(keys).stdout, &before)?;
        let again = m.sh("cascade backup restore /root/walk");
        check(again.code == Some(1), || format!("restored over a state: {again}"))
    })
}

/// Row 19.
fn removal(walk: &mut Walk) -> Step {
    let packages = if walk.hsm {
        "cascade kmip2pkcs11"
    } else {
        "cascade"
    };
    walk.row("19.1", "removal stops and disables, and keeps what is the operator's", |m| {
        done(m.sh(&format!("dpkg -r {packages}")))?;
        let said = m.sh("pgrep cascaded; systemctl is-enabled cascaded 2>/dev/null; ls /usr/bin/cascade* /run/cascade/control.sock 2>/dev/null");
        equal(&said.stdout, "")?;
        done(m.sh("ls /etc/cascade/config.toml /etc/cascade/policies/nethsm.toml /var/lib/cascade/state.redb")).map(drop)
    })?;
    walk.row("19.2", "purge keeps keys and zones, and says so", |m| {
        let said = done(m.sh(&format!("dpkg -P {packages}")))?;
        names(
            &said.stderr,
            &["/var/lib/cascade is kept", "rm -r /var/lib/cascade"],
        )?;
        done(m.sh("ls /var/lib/cascade/state.redb; id cascade"))?;
        let gone = m
            .sh("ls -d /etc/cascade/config.toml /var/log/cascade /var/lib/kmip2pkcs11 2>/dev/null");
        equal(&gone.stdout, "")
    })?;
    walk.row("19.3", "without keys and zones nothing stays", |m| {
        done(m.sh(&format!(
            "rm -rf /var/lib/cascade /etc/cascade; dpkg -i /root/now/*.deb </dev/null && \
             systemctl start cascaded && dpkg -P {packages}"
        )))?;
        let said =
            m.sh("ls -d /var/lib/cascade /etc/cascade /var/log/cascade /run/cascade 2>/dev/null");
        equal(&said.stdout, "")
    })
}

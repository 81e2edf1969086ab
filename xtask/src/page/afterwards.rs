//! Rows 17 to 19: a bridge of the daemon's own, the next release, a copy on an empty machine, states of former releases, removal.

use super::steps::{MODULE, ZONE_FILE, serial};
use super::walk::{Step, Walk, check, done, equal, names, says, until};

pub fn rows(walk: &mut Walk) -> Step {
    managed(walk)?;
    upgrade(walk)?;
    backup(walk)?;
    former_layout(walk)?;
    removal(walk)?;
    former_release(walk)
}

/// A bridge that the daemon starts, inside the packaged unit's confinement.
fn managed(walk: &mut Walk) -> Step {
    if !walk.hsm {
        println!("SKIP  17.1, 17.2: kmip2pkcs11 is not part of this build");
        return Ok(());
    }
    walk.row("17.1", "the packaged daemon starts a bridge of its own and signs through it", |m| {
        done(m.sh(
            "mkdir -p /srv/token/tokens /etc/systemd/system/cascaded.service.d && \
             printf 'directories.tokendir = /srv/token/tokens\\nobjectstore.backend = file\\n' > /srv/token/softhsm2.conf && \
             SOFTHSM2_CONF=/srv/token/softhsm2.conf softhsm2-util --init-token --free --label Own --pin 1234 --so-pin 1234 && \
             chown -R cascade: /srv/token && \
             printf '[Service]\\nReadWritePaths=/srv/token\\n' > /etc/systemd/system/cascaded.service.d/token.conf && \
             echo 1234 > /etc/cascade/own.pin && chown cascade: /etc/cascade/own.pin && chmod 600 /etc/cascade/own.pin && \
             systemctl daemon-reload && systemctl restart cascaded",
        ))?;
        done(m.sh(
            "cascade hsm add --pkcs11-module /usr/lib/softhsm/libsofthsm2.so \
             --module-env SOFTHSM2_CONF=/srv/token/softhsm2.conf --token Own --pin-file /etc/cascade/own.pin own",
        ))?;
        done(m.sh(
            "cascade template policy | sed -e 's|^#hsm-server-id = .\\+|hsm-server-id = \"own\"|' \
                 > /etc/cascade/policies/own.toml && cascade policy reload && \
             sed -e 's/example.net/own.example/g' /etc/cascade/zones/example.net > /etc/cascade/zones/own.example && \
             cascade zone add --source /etc/cascade/zones/own.example --policy own --wait own.example",
        ))?;
        names(&m.sh("dig @127.0.0.1 -p 4543 own.example SOA +dnssec +short").stdout, &["SOA 13"])?;
        let said = done(m.sh("cascade hsm inventory own"))?;
        names(&said.stdout, &["own.example"])
    })?;
    walk.row("17.2", "it ends, is started again, and goes with its HSM", |m| {
        let pid = "cascade hsm show own --json | grep -o '\"pid\": *[0-9]*' | grep -o '[0-9]*'";
        let old = m.sh(pid).stdout;
        done(m.sh(&format!("kill -9 {}", old.trim())))?;
        done(m.sh(
            "sed -i -E 's/ [0-9]+ 86400/ 9 86400/' /etc/cascade/zones/own.example; \
             echo 'v9 IN A 192.0.2.9' >> /etc/cascade/zones/own.example; cascade zone reload own.example",
        ))?;
        until(60, || equal(&m.sh("dig @127.0.0.1 -p 4543 v9.own.example A +short").stdout, "192.0.2.9\n"))?;
        let new = m.sh(pid).stdout;
        check(!new.is_empty() && new != old, || format!("bridge {old} then {new}"))?;
        done(m.sh("cascade zone remove --purge-keys --yes own.example && rm /etc/cascade/policies/own.toml && cascade policy reload && cascade hsm remove --yes own"))?;
        until(60, || {
            let said = m.sh(&format!("kill -0 {}", new.trim()));
            check(said.code != Some(0), || format!("bridge {new} still runs"))
        })?;
        done(m.sh(
            "rm -r /etc/systemd/system/cascaded.service.d/token.conf /etc/cascade/own.pin \
                 /etc/cascade/zones/own.example /srv/token && \
             systemctl daemon-reload && systemctl restart cascaded",
        ))
        .map(drop)
    })
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

/// A state as the first layout was, from the tests' data.
fn former_layout(walk: &mut Walk) -> Step {
    walk.row("18.6", "the state of a former layout is copied, then taken over", |m| {
        let done_so_far = "systemctl stop cascaded; mv /var/lib/cascade /root/mine";
        done(m.sh(done_so_far))?;
        done(m.sh(
            "tar -xzf /root/states/schema-1.tar.gz -C /var/lib && mv /var/lib/state /var/lib/cascade && \
             chown -R cascade: /var/lib/cascade && chmod 750 /var/lib/cascade && \
             cp /usr/share/cascade/policy.toml /etc/cascade/policies/default.toml && systemctl start cascaded",
        ))?;
        let said = done(m.sh("cascade keyset example.net list"))?;
        names(&said.stdout, &["17076", "21737"])?;
        // Its signatures have ended long ago: it is signed before it is answered again.
        until(20, || {
            let at = serial(m, "example.net")?;
            check(at >= 2_026_052_801, || at.to_string())
        })?;
        let said = done(m.sh("cascade backup verify /var/lib/cascade/backup/0.1.0-pre"))?;
        names(&said.stdout, &["intact: 1 zones", "by release 0.1.0-pre"])?;
        says(m.sh("stat -c '%U %a' /var/lib/cascade/backup/0.1.0-pre"), "cascade 700\n")?;
        done(m.sh(
            "systemctl stop cascaded; rm -rf /var/lib/cascade /etc/cascade/policies/default.toml; \
             mv /root/mine /var/lib/cascade; systemctl start cascaded",
        ))
        .map(drop)
    })
}

/// Row 18 with the packages of a former release, where they are at hand.
fn former_release(walk: &mut Walk) -> Step {
    if !walk.previous {
        println!(
            "SKIP  18.7-18.9: no packages of a former release are given (CASCADE_PAGE_PREVIOUS)"
        );
        return Ok(());
    }
    let look = "cascade keyset example.net list -q; cascade keyset example.net get dnskey; \
                dig @127.0.0.1 -p 4543 example.net SOA +dnssec +short";
    let mut before = String::new();
    walk.row("18.7", "the former release signs with keys in the token", |m| {
        done(m.sh("dpkg -i /root/previous/*.deb </dev/null"))?;
        done(m.sh(&format!(
            "sed -i -e 's|^lib_path = .\\+|lib_path = \"{MODULE}\"|' /etc/kmip2pkcs11/config.toml; \
             systemctl start kmip2pkcs11; \
             cascade template policy | sed -e 's|^#hsm-server-id = .\\+|hsm-server-id = \"kmip2pkcs11\"|' \
                 > /etc/cascade/policies/nethsm.toml; \
             systemctl start cascaded; cascade policy reload; \
             cascade hsm add --insecure --username 0 --password 123456 kmip2pkcs11 127.0.0.1"
        )))?;
        done(m.sh(ZONE_FILE))?;
        done(m.sh("cascade zone add --source /etc/cascade/zones/example.net --policy nethsm --wait example.net"))?;
        until(20, || names(&m.sh(look).stdout, &["SOA 13"]))?;
        before = m.sh(look).stdout;
        Ok(())
    })?;
    walk.row(
        "18.8",
        "the upgrade keeps keys, serial and signatures, and a copy of the state",
        |m| {
            let said =
                done(m.sh("dpkg --force-confdef --force-confold -i /root/now/*.deb </dev/null"))?;
            check(!said.stderr.contains("did not come up"), || {
                said.to_string()
            })?;
            until(20, || equal(&m.sh(look).stdout, &before))?;
            let folder = m.sh("ls -d /var/lib/cascade/backup/*").stdout;
            let said = done(m.sh(&format!("cascade backup verify {}", folder.trim())))?;
            names(&said.stdout, &["intact: 1 zones"])
        },
    )?;
    walk.row("18.9", "the former release refuses the newer state; with the copy it goes on", |m| {
        done(m.sh("systemctl stop cascaded"))?;
        done(m.sh("dpkg --force-confdef --force-confold -i /root/previous/*.deb </dev/null"))?;
        let said = m.sh("systemctl start cascaded");
        check(said.code != Some(0), || "it took the newer state".into())?;
        names(&m.sh("journalctl --no-pager -u cascaded -n 20").stdout, &["newer release"])?;
        done(m.sh(
            "systemctl stop cascaded; systemctl reset-failed; mv /var/lib/cascade /var/lib/cascade.newer; \
             cascade backup restore /var/lib/cascade.newer/backup/* && systemctl start cascaded",
        ))?;
        until(20, || equal(&m.sh(look).stdout, &before))
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
        let said = m.sh("pgrep cascaded; systemctl is-enabled cascaded 2>/dev/null | grep -v not-found; ls /usr/bin/cascade* /run/cascade/control.sock 2>/dev/null");
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

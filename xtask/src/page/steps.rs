//! Rows 2 to 13: the page's own commands, in its order, and what each must say.

use cascade_e2e::judge::{Judge, Verdict};
use cascade_e2e::{Said, mask_times};

use super::machine::Machine;
use super::walk::{Step, Walk, check, code, done, equal, names, says, until};

/// What the page types for its zone.
pub const ZONE_FILE: &str = "mkdir /etc/cascade/zones
cat > /etc/cascade/zones/example.net << EOF
example.net.    3600    IN      SOA     ns.example.net. username.example.net. 1 86400 7200 2419200 300
example.net.            IN      NS      ns
ns                      IN      A       192.0.2.1
EOF
chown -R cascade: /etc/cascade/zones";

pub const MODULE: &str = "/usr/lib/x86_64-linux-gnu/nethsm-pkcs11.so";

/// The report of a zone that is published and at rest; what differs from run to run is masked.
fn report(zone: &str, policy: &str) -> String {
    format!(
        "\
Status report for zone '{zone}' using policy '{policy}'
✔ Waited for a new version of the {zone} zone
✔ Loaded version 1
  Loaded at TIME (AGE)
  Loaded 196 B and 3 records from the filesystem in 0 seconds
✔ Auto approving signing of version 1, no checks enabled in policy.
✔ Approval received to sign version 1, signing requested
✔ Signed version 1 as version SERIAL
  Signing requested at TIME (AGE)
  Signing started at TIME (AGE)
  Signing finished at TIME (AGE)
  Collected 3 records in 0s, sorted in 0s
  Generated 2 NSEC(3) records in 0s
  Generated 5 signatures in 0s (5 sig/s)
  Inserted signatures in 0s (5 sig/s)
  Took 0s in total, using N threads
  Current action: Finished
✔ Waited for approval to publish version SERIAL
✔ Published version SERIAL
  Published zone available on 127.0.0.1:PORT
"
    )
}

pub fn rows(walk: &mut Walk) -> Step {
    if walk.hsm {
        bridge(walk)?;
    } else {
        println!("SKIP  2-4, 6, 11: kmip2pkcs11 is not part of this build; the keys are files");
    }
    daemon(walk)?;
    zone(walk)?;
    one_key(walk)
}

/// Rows 2 to 4.
fn bridge(walk: &mut Walk) -> Step {
    let foreign = walk.foreign_module;
    walk.row("2", "a token under the name of the page's module", |m| {
        if foreign {
            return done(m.sh(&format!("install /root/module/* {MODULE}"))).map(drop);
        }
        done(m.sh(&format!(
            "softhsm2-util --init-token --free --label LocalHSM --pin 123456 --so-pin 123456 &&
             chown -R kmip2pkcs11: /var/lib/softhsm/tokens &&
             ln -s softhsm/libsofthsm2.so {MODULE} &&
             mkdir -p /etc/systemd/system/kmip2pkcs11.service.d &&
             cp /usr/share/doc/kmip2pkcs11/examples/softhsm.conf /etc/systemd/system/kmip2pkcs11.service.d/ &&
             systemctl daemon-reload"
        )))
        .map(drop)
    })?;
    walk.row(
        "3",
        "the bridge before its module is named: an error that says where",
        |m| {
            let said = m.sh("systemctl start kmip2pkcs11");
            check(said.code != Some(0), || format!("it started: {said}"))?;
            m.sh("systemctl stop kmip2pkcs11");
            let journal = m.sh("journalctl --no-pager -u kmip2pkcs11").stdout;
            names(&journal, &["/etc/kmip2pkcs11/config.toml", "lib_path"])?;
            check(
                !journal.contains("panicked") && !journal.contains("core-dump"),
                || journal,
            )
        },
    )?;
    walk.row("4", "the page's sed, then it starts and listens on loopback", |m| {
        says(
            m.sh(&format!(
                "sed -i -e 's|^lib_path = .\\+|lib_path = \"{MODULE}\"|' /etc/kmip2pkcs11/config.toml"
            )),
            "",
        )?;
        says(m.sh("systemctl start kmip2pkcs11; systemctl is-active kmip2pkcs11"), "active\n")?;
        listens(m, 5696)
    })
}

/// Row 5, and 6 with the bridge.
fn daemon(walk: &mut Walk) -> Step {
    let hsm = walk.hsm;
    let foreign = walk.foreign_module;
    walk.row("5.1", "the page's template and sed", |m| {
        let said = done(m.sh("cascade template policy | tee /etc/cascade/policies/nethsm.toml"))?;
        check(said.stderr.is_empty(), || said.to_string())?;
        let line = said.stdout.lines().filter(|l| l.starts_with("#hsm-server-id = "));
        check(line.count() == 1, || "not one line for the sed".into())?;
        if hsm {
            says(
                m.sh("sed -i -e 's|^#hsm-server-id = .\\+|hsm-server-id = \"kmip2pkcs11\"|' /etc/cascade/policies/nethsm.toml"),
                "",
            )?;
        }
        Ok(())
    })?;
    walk.row(
        "5.2",
        "the daemon starts and takes a command at once",
        |m| {
            let said = done(m.sh("systemctl start cascaded && cascade policy reload"))?;
            equal(&said.stdout, "Policies reloaded:\n- nethsm added\n")?;
            if hsm {
                names(&said.stderr, &["kmip2pkcs11", "cascade hsm add"])
            } else {
                equal(&said.stderr, "")
            }
        },
    )?;
    walk.row(
        "5.3",
        "ports on loopback only; the control socket is for everybody",
        |m| {
            for port in 4539..=4543 {
                listens(m, port)?;
            }
            says(
                m.sh("stat -c '%a %U' /run/cascade/control.sock"),
                "666 cascade\n",
            )
        },
    )?;
    walk.row(
        "5.4",
        "systemctl status says what a user of Debian expects",
        |m| {
            let said = done(m.sh("systemctl status cascaded --no-pager"))?;
            names(
                &said.stdout,
                &[
                    "cascaded.service - Cascade DNSSEC signer",
                    "Active: active (running)",
                    "Docs: man:cascaded(1)",
                    "Status: \"serving\"",
                    "Cascade is fully initialized",
                ],
            )
        },
    )?;
    if !hsm {
        return Ok(());
    }
    walk.row("6", "the page's hsm add", |m| {
        let add =
            "cascade hsm add --insecure --username 0 --password \"123456\" kmip2pkcs11 127.0.0.1";
        let said = done(m.sh(add))?;
        equal(&said.stderr, "")?;
        let line = said.stdout.trim_end_matches('\n');
        let begins = line.starts_with("Added KMIP server 'kmip2pkcs11 ");
        let slot = if foreign {
            "using PKCS#11 token with label LocalHSM in slot NetHSM via library nethsm-pkcs11.so'"
        } else {
            "using PKCS#11 token with label LocalHSM in slot SoftHSM slot ID 0x"
        };
        check(
            begins && line.contains(slot) && line.ends_with(" via library nethsm-pkcs11.so'"),
            || format!("another text: {line}"),
        )
    })
}

/// Rows 7 to 12.
fn zone(walk: &mut Walk) -> Step {
    let hsm = walk.hsm;
    walk.row("7", "the page's zone", |m| {
        says(m.sh(ZONE_FILE), "")?;
        says(
            m.sh("cascade zone add --source /etc/cascade/zones/example.net --policy nethsm example.net"),
            "Added zone example.net\n",
        )
    })?;
    walk.row("8", "the report, as a normal user, within 10 s", |m| {
        done(m.sh("useradd --create-home jane"))?;
        until(10, || {
            let said = done(m.as_user("jane", "cascade zone status example.net"))?;
            equal(&mask_times(&said.stdout), &report("example.net", "nethsm"))
        })
    })?;
    walk.row("9", "that user may look and not touch", |m| {
        for line in [
            "cascade zone add --source /etc/cascade/zones/example.net --policy nethsm other.example",
            "cascade zone remove --yes example.net",
            "cascade policy reload",
        ] {
            let said = code(m.as_user("jane", line), 4)?;
            names(&said.stderr, &["jane", "group cascade"])?;
        }
        Ok(())
    })?;
    walk.row("10.1", "the page's dig", |m| {
        let dig = "dig @127.0.0.1 -p 4543 example.net DNSKEY +nocrypto +norec +noedns";
        for line in [dig.to_owned(), format!("{dig} +tcp")] {
            let said = done(m.as_user("jane", &line))?;
            names(
                &said.stdout,
                &["status: NOERROR", "flags: qr aa;", "ANSWER: 2,"],
            )?;
            let keys = said.stdout.lines().filter(|l| l.contains("DNSKEY\t25"));
            check(
                keys.clone()
                    .all(|l| l.contains("\t3600\tIN\t") && l.contains(" 3 13 ")),
                || said.to_string(),
            )?;
            check(keys.count() == 2, || said.to_string())?;
        }
        names(
            &m.sh("dig @127.0.0.1 -p 4543 example.net SOA +dnssec")
                .stdout,
            &["RRSIG\tSOA"],
        )
    })?;
    walk.row("10.2", "what is transferred is valid for others", |m| {
        transferred(m, "example.net")
    })?;
    if hsm {
        walk.row(
            "11.1",
            "the token holds the keys, and labels name them",
            on_the_token,
        )?;
        walk.row(
            "11.2",
            "each key is proved, and the inventory knows its zone",
            |m| {
                done(m.sh("cascade hsm test kmip2pkcs11"))?;
                let said = done(m.as_user("jane", "cascade hsm inventory kmip2pkcs11"))?;
                names(&said.stdout, &["example.net"])
            },
        )?;
    }
    walk.row("12", "the details name the keys", |m| {
        let said = done(m.as_user("jane", "cascade zone status example.net --detailed"))?;
        let reference = if hsm {
            "kmip://kmip2pkcs11/keys/"
        } else {
            "file:///var/lib/cascade/keys/"
        };
        let keys = said
            .stdout
            .matches(&format!("    Reference: {reference}"))
            .count();
        check(keys == 2, || format!("{keys} keys:\n{}", said.stdout))?;
        names(
            &said.stdout,
            &["  KSK tagged ", "  ZSK tagged ", " expires at "],
        )
    })
}

fn on_the_token(m: &mut Machine) -> Step {
    let said = done(m.sh(&format!(
        "su -s /bin/sh kmip2pkcs11 -c 'true'; runuser -u kmip2pkcs11 -g softhsm -- pkcs11-tool --module {MODULE} --login --pin 123456 --list-objects"
    )))?;
    let (public, private) = (
        said.stdout.matches("Public Key Object; EC").count(),
        said.stdout.matches("Private Key Object; EC").count(),
    );
    check((public, private) == (2, 2), || {
        format!(
            "{public} public and {private} private keys\n{}",
            said.stdout
        )
    })?;
    names(
        &said.stdout,
        &["sensitive", "never extractable", "example.net-"],
    )?;
    // The references in our details are the ids, in upper case.
    let details = m.sh("cascade zone status example.net --detailed").stdout;
    let ids = details.lines().filter_map(|line| {
        let rest = line
            .trim()
            .strip_prefix("Reference: kmip://kmip2pkcs11/keys/")?;
        rest.split_once("_pub?algorithm=13&flags=")
            .map(|(id, _)| id.to_owned())
    });
    for id in ids {
        let hex = id.to_ascii_lowercase();
        let ascii: String = hex.bytes().map(|b| format!("{b:02x}")).collect();
        let known = said.stdout.contains(&hex) || said.stdout.contains(&ascii);
        check(hex.len() == 40 && known, || {
            format!("{id} is not on the token:\n{}", said.stdout)
        })?;
    }
    Ok(())
}

/// Row 13: the variant whose shapes the page prints.
fn one_key(walk: &mut Walk) -> Step {
    walk.row("13", "one key for ever, serials from the clock", |m| {
        done(m.sh(
            "sed -e 's|^use-csk = false|use-csk = true|' \
                 -e 's|^serial-policy = .*|serial-policy = \"unix-time\"|' \
                 -e '/^\\[key-manager.csk\\]/,/^validity/ s|^validity = .*|validity = \"forever\"|' \
                 /etc/cascade/policies/nethsm.toml > /etc/cascade/policies/csk.toml
             sed -e 's|example.net|example.org|g' /etc/cascade/zones/example.net > /etc/cascade/zones/example.org",
        ))?;
        let said = done(m.sh("cascade policy reload"))?;
        equal(&said.stdout, "Policies reloaded:\n- csk    added\n- nethsm unchanged\n")?;
        says(
            m.sh("cascade zone add --source /etc/cascade/zones/example.org --policy csk example.org"),
            "Added zone example.org\n",
        )?;
        until(10, || {
            let said = done(m.as_user("jane", "cascade zone status example.org"))?;
            equal(&mask_times(&said.stdout), &report("example.org", "csk"))
        })?;
        let said = done(m.sh("dig @127.0.0.1 -p 4543 example.org DNSKEY +nocrypto +norec +noedns"))?;
        names(&said.stdout, &["ANSWER: 1,", "257 3 13"])?;
        let said = done(m.sh("cascade zone status example.org --detailed"))?;
        names(
            &said.stdout,
            &["&flags=257 does not expire. No validity period is configured for the key type"]
                .map(|text| if said.stdout.contains("kmip://") { text } else { &text[11..] }),
        )?;
        let serial = serial(m, "example.org")?;
        check(serial > 1_700_000_000 && serial < 2_000_000_000, || serial.to_string())?;
        transferred(m, "example.org")
    })
}

/// The serial that is served.
pub fn serial(m: &Machine, zone: &str) -> Result<u64, String> {
    let said: Said = done(m.sh(&format!("dig @127.0.0.1 -p 4543 {zone} SOA +short")))?;
    let word = said.stdout.split_whitespace().nth(2).unwrap_or_default();
    word.parse().map_err(|_| format!("no serial: {said}"))
}

/// A transfer, judged by the programs of others that the host has; two at least.
fn transferred(m: &Machine, zone: &str) -> Step {
    let file = format!("root/{zone}.axfr");
    done(m.sh(&format!(
        "dig @127.0.0.1 -p 4543 {zone} AXFR +onesoa +nocomments +nocmd +nostats > /{file}"
    )))?;
    let path = m.root().join(file);
    let mut judged = 0;
    for judge in Judge::ALL {
        match judge.judge(zone, &path, false) {
            Verdict::Valid => judged += 1,
            Verdict::Invalid(said) => return Err(format!("{}: {said}", judge.program())),
            Verdict::NotInstalled => {}
        }
    }
    check(judged >= 2, || {
        "fewer than two programs of others to judge are installed".into()
    })
}

/// Someone listens on this TCP port, on loopback and nowhere else.
fn listens(m: &Machine, port: u16) -> Step {
    let said = m.sh("cat /proc/net/tcp /proc/net/tcp6");
    let ending = format!(":{port:04X}");
    let addresses: Vec<&str> = said
        .stdout
        .lines()
        .filter_map(|line| {
            let mut words = line.split_whitespace().skip(1);
            let (local, _remote, state) = (words.next()?, words.next()?, words.next()?);
            (state == "0A").then_some(local)
        })
        .filter(|local| local.ends_with(&ending))
        .collect();
    let loopback =
        |a: &&str| a.starts_with("0100007F:") || a.starts_with("00000000000000000000000001000000:");
    check(
        !addresses.is_empty() && addresses.iter().all(loopback),
        || format!("port {port} is bound on {addresses:?}"),
    )
}

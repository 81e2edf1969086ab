//! Rows 14 to 17: ends, restarts, and what goes wrong on a host.

use super::machine::Machine;
use super::steps::serial;
use super::walk::{Step, Walk, check, code, done, equal, names, until};

pub fn rows(walk: &mut Walk) -> Step {
    restarts(walk)?;
    if walk.hsm {
        bridge_gone(walk)?;
    }
    host_trouble(walk)?;
    over_tcp(walk)
}

/// Row 14.
fn restarts(walk: &mut Walk) -> Step {
    walk.row("14.1", "a restart changes nothing that is served", |m| {
        same_zone_after(m, |m| done(m.sh("systemctl restart cascaded")).map(drop))
    })?;
    walk.row(
        "14.2",
        "neither does kill -9: systemd starts it again",
        |m| {
            same_zone_after(m, |m| {
                done(m.sh("systemctl kill --kill-who=main --signal=SIGKILL cascaded")).map(drop)?;
                until(20, || {
                    equal(&m.sh("systemctl is-active cascaded").stdout, "active\n")
                })
            })
        },
    )?;
    walk.row("14.3", "systemctl reload keeps it running", |m| {
        let pid = main_pid(m);
        done(m.sh("systemctl reload cascaded"))?;
        equal(&main_pid(m), &pid)
    })?;
    let units = if walk.hsm {
        "cascaded kmip2pkcs11"
    } else {
        "cascaded"
    };
    walk.row("14.4", "enabled, it is there after a reboot", |m| {
        done(m.sh(&format!("systemctl enable {units}")))?;
        same_zone_after(m, |m| {
            m.reboot()?;
            equal(&m.sh("systemctl is-active cascaded").stdout, "active\n")
        })
    })?;
    walk.row("14.5", "acknowledged changes are there", |m| {
        let said = done(m.sh("cascade zone list -q; cascade policy list -q"))?;
        equal(&said.stdout, "example.net\nexample.org\ncsk\nnethsm\n")
    })
}

const METRICS: &str = "exec 3<>/dev/tcp/127.0.0.1/4539; \
    printf 'GET /metrics HTTP/1.1\\r\\nHost: localhost:4539\\r\\nConnection: close\\r\\n\\r\\n' >&3; cat <&3";

/// Row 15.
fn bridge_gone(walk: &mut Walk) -> Step {
    walk.row(
        "15.1",
        "without the bridge the old version is served, and all say why",
        |m| {
            let before = serial(m, "example.net")?;
            done(m.sh("systemctl stop kmip2pkcs11"))?;
            change(m, 2)?;
            until(60, || {
                for line in [
                    "cascade why example.net",
                    "cascade health",
                    "cascade status",
                    METRICS,
                ] {
                    let said = m.sh(line);
                    names(&said.stdout, &["kmip2pkcs11"]).map_err(|e| format!("{line}: {e}"))?;
                }
                let health = m.sh("cascade health");
                check(matches!(health.code, Some(7 | 8)), || health.to_string())
            })?;
            equal(&serial(m, "example.net")?.to_string(), &before.to_string())
        },
    )?;
    walk.row(
        "15.2",
        "with the bridge again the change is published without a command",
        |m| {
            done(m.sh("systemctl start kmip2pkcs11"))?;
            until(120, || {
                let said = m.sh("dig @127.0.0.1 -p 4543 v2.example.net A +short");
                equal(&said.stdout, "192.0.2.2\n")
            })
        },
    )
}

/// Row 16.
fn host_trouble(walk: &mut Walk) -> Step {
    walk.row("16.1", "without IPv6 it starts, with a warning", |m| {
        let all = "/proc/sys/net/ipv6/conf/all/disable_ipv6";
        done(m.sh(&format!("echo 1 > {all}")))?;
        let result = done(m.sh("systemctl restart cascaded")).and_then(|_| {
            let journal = m.sh("journalctl --no-pager -u cascaded -n 20").stdout;
            names(&journal, &["[::1]"])
        });
        done(m.sh(&format!("echo 0 > {all}; systemctl restart cascaded")))?;
        result
    })?;
    walk.row("16.2", "a port that is taken is named", |m| {
        done(
            m.sh("systemctl stop cascaded; systemd-run --quiet --unit=taker \
             systemd-socket-activate -l 127.0.0.1:4543 /bin/true; sleep 1"),
        )?;
        let result = refuses_to_start(m, &["127.0.0.1:4543"]);
        m.sh("systemctl stop taker; systemctl reset-failed");
        result
    })?;
    walk.row("16.3", "a full disk is named, and nothing is lost", |m| {
        done(m.sh("systemctl stop cascaded; \
             mount -t tmpfs -o size=16k,mode=0750,uid=$(id -u cascade),gid=$(id -g cascade) \
             tmpfs /var/lib/cascade && dd if=/dev/zero of=/var/lib/cascade/x bs=1k 2>/dev/null; \
             chown cascade: /var/lib/cascade/x"))?;
        let result = refuses_to_start(m, &["/var/lib/cascade", "No space left", "full"]);
        m.sh("systemctl stop cascaded; umount /var/lib/cascade; systemctl reset-failed");
        result
    })?;
    walk.row(
        "16.4",
        "an unknown key in the configuration is shown where it stands",
        |m| {
            done(m.sh(
                "systemctl stop cascaded; cp -p /etc/cascade/config.toml /root/config.toml; \
             sed -i 's/^\\[loader\\]/[loader]\\nmax-concurent-loads = 2/' /etc/cascade/config.toml",
            ))?;
            let result = refuses_to_start(
                m,
                &[
                    "/etc/cascade/config.toml",
                    "max-concurent-loads",
                    "max-concurrent-loads",
                ],
            );
            done(m.sh("cp -p /root/config.toml /etc/cascade/config.toml; systemctl reset-failed"))?;
            result
        },
    )?;
    walk.row(
        "16.5",
        "a policy that the daemon may not read is named, and all stays",
        |m| {
            done(m.sh("systemctl start cascaded; chmod 000 /etc/cascade/policies/csk.toml"))?;
            let said = m.sh("cascade policy reload");
            done(m.sh("chmod 644 /etc/cascade/policies/csk.toml"))?;
            let said = code(said, 1)?;
            names(&said.stderr, &["csk.toml"])?;
            equal(&m.sh("cascade policy list -q").stdout, "csk\nnethsm\n")
        },
    )?;
    walk.row("16.6", "the zones have outlived all that", |m| {
        until(20, || {
            equal(
                &m.sh("cascade zone list -q --state published").stdout,
                "example.net\nexample.org\n",
            )
        })
    })
}

/// Row 17.
fn over_tcp(walk: &mut Walk) -> Step {
    walk.row("17", "over TCP: reading is open, changing needs a token, foreign names are refused", |m| {
        let ask = |method: &str, path: &str, host: &str| {
            let line = format!(
                "exec 3<>/dev/tcp/127.0.0.1/4539; printf '{method} {path} HTTP/1.1\\r\\nHost: {host}\\r\\n\
                 Content-Type: application/json\\r\\nContent-Length: 2\\r\\nConnection: close\\r\\n\\r\\n{{}}' >&3; \
                 head -1 <&3"
            );
            let said = m.sh(&line).stdout;
            said.split(' ').nth(1).unwrap_or_default().to_owned()
        };
        equal(&ask("GET", "/v1/openapi.json", "127.0.0.1:4539"), "200")?;
        equal(&ask("GET", "/metrics", "localhost:4539"), "200")?;
        equal(&ask("POST", "/v1/policies/reload", "127.0.0.1:4539"), "401")?;
        equal(&ask("GET", "/metrics", "evil.example"), "421")
    })
}

/// Both zones have the same serial and signatures before and after.
fn same_zone_after(m: &mut Machine, act: impl FnOnce(&mut Machine) -> Step) -> Step {
    let look = |m: &Machine| {
        m.sh("for z in example.net example.org; do dig @127.0.0.1 -p 4543 $z SOA +dnssec +short; done")
            .stdout
    };
    let before = look(m);
    names(&before, &["SOA 13"])?;
    act(m)?;
    until(20, || equal(&look(m), &before))
}

/// The page's zone with another serial and one more record.
fn change(m: &Machine, serial: u32) -> Step {
    done(m.sh(&format!(
        "sed -i -e 's/ 1 86400/ {serial} 86400/' /etc/cascade/zones/example.net; \
         echo 'v{serial} IN A 192.0.2.2' >> /etc/cascade/zones/example.net; \
         cascade zone reload example.net"
    )))
    .map(drop)
}

fn main_pid(m: &Machine) -> String {
    m.sh("systemctl show -P MainPID cascaded").stdout
}

fn refuses_to_start(m: &Machine, words: &[&str]) -> Step {
    let since = m.sh("date +%s.%N").stdout;
    let said = m.sh("systemctl start cascaded");
    check(said.code != Some(0), || format!("it started: {said}"))?;
    m.sh("systemctl stop cascaded");
    let journal = m.sh(&format!(
        "journalctl --no-pager -u cascaded --since @{}",
        since.trim()
    ));
    names(&journal.stdout, words)?;
    check(!journal.stdout.contains("panicked"), || {
        journal.stdout.clone()
    })
}

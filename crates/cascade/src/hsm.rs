//! `cascade hsm …`, `tsig …`, `token …`

use std::io::BufRead;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use cascade_api::Method;
use cascade_api::client::{Answer, Call};
use cascade_api::hsm::*;
use cascade_api::path::{Query, encode};

use crate::args::{self, HsmCommand, TokenCommand, TsigCommand};
use crate::ctx::Ctx;
use crate::error::CliError;
use crate::forms;
use crate::output::{clean, table};

pub async fn run(ctx: &Ctx, command: HsmCommand) -> Result<(), CliError> {
    match command {
        HsmCommand::Add(add) => {
            let body = add_request(ctx, *add)?;
            let added = ctx
                .change(Method::Post, "/v1/hsms", &body, |a: &HsmAdded| {
                    match &a.vendor {
                        Some(vendor) => format!("Added KMIP server '{}'", clean(vendor)),
                        None => format!(
                            "Added KMIP server '{}' without contacting it",
                            clean(&a.hsm)
                        ),
                    }
                })
                .await?;
            ctx.warnings(&added.warnings);
            Ok(())
        }
        HsmCommand::List => {
            ctx.list("/v1/hsms", Query::new(), |hsms: &[Hsm]| {
                ctx.hint(
                    hsms.is_empty(),
                    "no HSMs yet; add one with: cascade hsm add <id> <host>",
                );
                if ctx.quiet {
                    return hsms
                        .iter()
                        .map(|h| format!("{}\n", clean(&h.hsm)))
                        .collect();
                }
                hsm_table(hsms)
            })
            .await
        }
        HsmCommand::Show { id } => {
            ctx.show(format!("/v1/hsms/{}", encode(&id)), |h: &Hsm| hsm_text(h))
                .await
        }
        HsmCommand::Edit(edit) => {
            let id = edit.id.clone();
            let body = edit_request(ctx, *edit)?;
            let target = format!("/v1/hsms/{}", encode(&id));
            ctx.change(Method::Patch, target, &body, |h: &Hsm| {
                format!("Changed HSM {}", clean(&h.hsm))
            })
            .await?;
            Ok(())
        }
        HsmCommand::Test { id, write } => test(ctx, &id, write).await,
        HsmCommand::Bench {
            id,
            algorithm,
            seconds,
            parallel,
        } => {
            let body = HsmBench {
                algorithm,
                seconds: Some(seconds),
                parallel,
                comment: ctx.comment.clone(),
            };
            let target = format!("/v1/hsms/{}/bench", encode(&id));
            ctx.change(Method::Post, target, &body, bench_text).await?;
            Ok(())
        }
        HsmCommand::Inventory {
            id,
            destroy_orphan: Some(object),
            yes,
            ..
        } => {
            let target = format!("/v1/hsms/{}/inventory/{}", encode(&id), encode(&object));
            let answer = delete(ctx, target, yes).await?;
            ctx.changed(&answer, || format!("Destroyed object {}", clean(&object)))
        }
        HsmCommand::Inventory {
            id,
            orphans,
            missing,
            ..
        } => {
            let target = format!("/v1/hsms/{}/inventory", encode(&id));
            ctx.show(target, |i: &HsmInventory| {
                inventory_text(i, orphans, missing)
            })
            .await
        }
        HsmCommand::Remove { id, yes } => {
            let answer = delete(ctx, format!("/v1/hsms/{}", encode(&id)), yes).await?;
            ctx.changed(&answer, || format!("Removed HSM {}", clean(&id)))
        }
    }
}

/// A call that destroys, after consent.
async fn delete(ctx: &Ctx, target: String, yes: bool) -> Result<Answer, CliError> {
    let base = Query::new().set("comment", ctx.comment.as_deref());
    ctx.confirmed(yes, |confirmed| {
        let query = match confirmed {
            None => base.clone(),
            Some(c) => base
                .clone()
                .set("confirm", c.plan.as_deref())
                .flag("yes", true),
        };
        Call::delete(format!("{target}{}", query.as_str()))
    })
    .await
}

async fn test(ctx: &Ctx, id: &str, write: bool) -> Result<(), CliError> {
    let body = HsmTest {
        write,
        comment: ctx.comment.clone(),
    };
    let target = format!("/v1/hsms/{}/test", encode(id));
    let tested = ctx.change(Method::Post, target, &body, test_text).await?;
    match tested.passed {
        true => Ok(()),
        false => Err(CliError::Exit(7)),
    }
}

fn test_text(t: &HsmTested) -> String {
    let word = |passed: bool| if passed { "good" } else { "FAILED" }.to_string();
    let mut rows: Vec<Vec<String>> = Vec::new();
    for s in &t.steps {
        let what = match &s.instance {
            Some(instance) => format!("{} {instance}", s.step),
            None => s.step.clone(),
        };
        rows.push(vec![
            what,
            word(s.passed),
            format!("{:.0} ms", s.secs * 1000.0),
            s.detail.clone().unwrap_or_default(),
        ]);
    }
    for k in &t.keys {
        rows.push(vec![
            format!("key {} {} {}", k.zone, k.tag, k.role),
            word(k.passed),
            "-".into(),
            k.detail.clone().unwrap_or_default(),
        ]);
    }
    let mut out = table(&["TEST", "RESULT", "TIME", "DETAIL"], &rows);
    if t.released {
        out.push_str(&format!("HSM {} is out of quarantine\n", clean(&t.hsm)));
    }
    out.trim_end().to_string()
}

fn bench_text(b: &HsmBenched) -> String {
    let ms = |secs: f64| format!("{:.2} ms", secs * 1000.0);
    let rows: Vec<Vec<String>> = b
        .runs
        .iter()
        .map(|r| {
            vec![
                r.parallel.to_string(),
                format!("{:.0}", r.signatures_per_sec),
                ms(r.latency_p50_secs),
                ms(r.latency_p99_secs),
            ]
        })
        .collect();
    let mut out = format!("{} on HSM {}\n", clean(&b.algorithm), clean(&b.hsm));
    out.push_str(&table(&["PARALLEL", "SIG/S", "P50", "P99"], &rows));
    for z in &b.zones {
        out.push_str(&format!(
            "zone {}: {} signatures, all anew in {:.1} s\n",
            clean(&z.zone),
            z.signatures,
            z.resign_secs
        ));
    }
    out.trim_end().to_string()
}

fn inventory_text(i: &HsmInventory, orphans: bool, missing: bool) -> String {
    let wanted = |o: &&HsmObject| match (orphans, missing) {
        (true, _) => o.found == "orphan",
        (_, true) => o.found == "missing",
        _ => true,
    };
    let dash = |text: &Option<String>| text.clone().unwrap_or_else(|| "-".into());
    let number = |n: Option<u32>| n.map_or("-".to_string(), |n| n.to_string());
    let rows: Vec<Vec<String>> = i
        .items
        .iter()
        .filter(wanted)
        .map(|o| {
            vec![
                o.object.clone(),
                o.class.clone(),
                number(o.algorithm.map(u32::from)),
                dash(&o.zone),
                dash(&o.role),
                number(o.tag.map(u32::from)),
                dash(&o.state),
                dash(&o.label),
                o.found.clone(),
            ]
        })
        .collect();
    let heads = [
        "OBJECT", "CLASS", "ALG", "ZONE", "ROLE", "TAG", "STATE", "LABEL", "MATCH",
    ];
    format!(
        "{}{} objects of no known key, {} keys missing\n",
        table(&heads, &rows),
        i.orphans,
        i.missing
    )
}

fn edit_request(ctx: &Ctx, a: args::HsmEdit) -> Result<HsmEdit, CliError> {
    let secs = |d: Option<std::time::Duration>| d.map(|d| d.as_secs());
    let t = &a.tls;
    let says_tls = t.insecure
        || t.server_cert.is_some()
        || t.fingerprint.is_some()
        || t.hsm_ca.is_some()
        || t.hsm_client_cert.is_some();
    let tls = says_tls.then(|| tls(a.tls)).transpose()?;
    let all = |texts: &[String]| texts.iter().map(|t| endpoint(t)).collect::<Result<_, _>>();
    Ok(HsmEdit {
        add_endpoints: all(&a.add_endpoint)?,
        remove_endpoints: all(&a.remove_endpoint)?,
        managed: managed(&a.managed)?,
        username: a.managed.token.or(a.username),
        password: match &a.managed.pin_file {
            Some(path) => Some(Secret(secret_file(path)?)),
            None => password(a.password, a.password_stdin, a.password_file.as_deref())?,
        },
        clear_credentials: a.clear_credentials,
        tls,
        connect_timeout_secs: secs(a.connect_timeout),
        read_timeout_secs: secs(a.read_timeout),
        write_timeout_secs: secs(a.write_timeout),
        max_response_bytes: a.max_response_bytes,
        connections: a.connections,
        in_flight: a.in_flight,
        label: a.key_label_max_bytes.map(|max_bytes| HsmLabel {
            prefix: a.key_label_prefix.unwrap_or_default(),
            max_bytes,
        }),
        connect: !a.no_connect,
        comment: ctx.comment.clone(),
    })
}

/// Whom to trust, with the files' contents: the daemon need not be able to read them.
fn tls(t: args::HsmTls) -> Result<HsmTls, CliError> {
    let pem = |path: &Option<std::path::PathBuf>| path.as_deref().map(read_text).transpose();
    let pinned = t.server_cert.is_some() || t.fingerprint.is_some();
    Ok(HsmTls {
        verify: match (t.insecure, pinned) {
            (true, _) => TlsVerify::None,
            (false, true) => TlsVerify::Pinned,
            (false, false) => TlsVerify::Full,
        },
        ca_pem: pem(&t.hsm_ca)?,
        server_pem: pem(&t.server_cert)?,
        fingerprint: t.fingerprint,
        client_pem: pem(&t.hsm_client_cert)?,
        client_key_pem: pem(&t.hsm_client_key)?.map(Secret),
    })
}

/// The password, whichever way it was given.
fn password(
    given: Option<String>,
    stdin: bool,
    file: Option<&Path>,
) -> Result<Option<Secret>, CliError> {
    let password = match (given, stdin, file) {
        (Some(p), _, _) => Some(p),
        (None, true, _) => Some(first_line(std::io::stdin().lock(), "standard input")?),
        (None, false, Some(path)) => Some(secret_file(path)?),
        (None, false, None) => None,
    };
    Ok(password.map(Secret))
}

/// The bridge that the daemon is to start.
fn managed(m: &args::HsmManaged) -> Result<Option<HsmManaged>, CliError> {
    let Some(module) = &m.pkcs11_module else {
        return Ok(None);
    };
    // The daemon has another working directory.
    let module = std::path::absolute(module).map_err(|source| CliError::File {
        what: "find",
        path: module.display().to_string(),
        source,
    })?;
    Ok(Some(HsmManaged {
        module: module.to_string_lossy().into_owned(),
        env: m.module_env.iter().cloned().collect(),
    }))
}

fn add_request(ctx: &Ctx, a: args::HsmAdd) -> Result<HsmAdd, CliError> {
    let first = a.host.map(|host| Endpoint {
        host,
        port: a.port,
        tls: None,
    });
    let mut endpoints: Vec<Endpoint> = first.into_iter().collect();
    for text in &a.endpoint {
        endpoints.push(endpoint(text)?);
    }
    let password = match &a.managed.pin_file {
        Some(path) => Some(Secret(secret_file(path)?)),
        None => password(a.password, a.password_stdin, a.password_file.as_deref())?,
    };
    Ok(HsmAdd {
        hsm: a.id,
        endpoints,
        managed: managed(&a.managed)?,
        username: a.managed.token.or(a.username),
        password,
        tls: tls(a.tls)?,
        connect_timeout_secs: Some(a.connect_timeout.as_secs()),
        read_timeout_secs: Some(a.read_timeout.as_secs()),
        write_timeout_secs: Some(a.write_timeout.as_secs()),
        max_response_bytes: Some(a.max_response_bytes),
        connections: Some(a.connections),
        in_flight: a.in_flight,
        label: Some(HsmLabel {
            prefix: a.key_label_prefix,
            max_bytes: a.key_label_max_bytes,
        }),
        connect: !a.no_connect,
        comment: ctx.comment.clone(),
    })
}

/// `HOST` or `HOST:PORT`; IPv6 with port needs brackets.
fn endpoint(text: &str) -> Result<Endpoint, CliError> {
    const PORT: u16 = 5696;
    let make = |host: &str, port| Endpoint {
        host: host.to_string(),
        port,
        tls: None,
    };
    if text.parse::<std::net::Ipv6Addr>().is_ok() {
        return Ok(make(text, PORT));
    }
    let (host, port) = match text.rsplit_once(':') {
        Some((host, port)) if !text.ends_with(']') => {
            let port = port.parse::<u16>().ok().filter(|p| *p > 0).ok_or_else(|| {
                CliError::Usage(format!(
                    "'{text}' has no valid port; write for example 127.0.0.1:5696"
                ))
            })?;
            (host, port)
        }
        _ => (text, PORT),
    };
    let host = host
        .strip_prefix('[')
        .and_then(|h| h.strip_suffix(']'))
        .unwrap_or(host);
    if host.is_empty() {
        return Err(CliError::Usage(format!(
            "'{text}' has no host; write for example 127.0.0.1:5696"
        )));
    }
    Ok(make(host, port))
}

fn read_text(path: &Path) -> Result<String, CliError> {
    std::fs::read_to_string(path).map_err(|source| CliError::File {
        what: "read",
        path: path.display().to_string(),
        source,
    })
}

/// A secret from a file that only its owner can read.
fn secret_file(path: &Path) -> Result<String, CliError> {
    let failed = |source| CliError::File {
        what: "read",
        path: path.display().to_string(),
        source,
    };
    let file = std::fs::File::open(path).map_err(failed)?;
    let mode = file.metadata().map_err(failed)?.mode();
    if mode & 0o077 != 0 {
        return Err(CliError::Usage(format!(
            "{} can be read by others (mode {:04o}); chmod 600 it and change the secret",
            path.display(),
            mode & 0o7777
        )));
    }
    first_line(std::io::BufReader::new(file), &path.display().to_string())
}

/// At most 64 KiB; the rest of the input is not looked at.
fn first_line(input: impl BufRead, what: &str) -> Result<String, CliError> {
    let mut line = String::new();
    input
        .take(65_536)
        .read_line(&mut line)
        .map_err(|source| CliError::File {
            what: "read",
            path: what.to_string(),
            source,
        })?;
    let line = line.trim_end_matches(['\r', '\n']).to_string();
    if line.is_empty() {
        return Err(CliError::Usage(format!(
            "{what} has no secret in its first line"
        )));
    }
    Ok(line)
}

fn hsm_table(hsms: &[Hsm]) -> String {
    let rows: Vec<Vec<String>> = hsms
        .iter()
        .map(|h| {
            let first = h.instances.first();
            let number = |v: Option<f64>, unit: f64, suffix: &str| {
                v.map_or("-".to_string(), |v| format!("{:.0}{suffix}", v * unit))
            };
            vec![
                h.hsm.clone(),
                h.instances
                    .iter()
                    .map(|i| i.endpoint.as_str())
                    .collect::<Vec<_>>()
                    .join(", "),
                h.state.clone(),
                h.keys.to_string(),
                number(first.and_then(|i| i.signatures_per_sec), 1.0, ""),
                number(first.and_then(|i| i.latency_p50_secs), 1000.0, " ms"),
                h.tls.clone(),
            ]
        })
        .collect();
    table(
        &["ID", "ADDRESS", "STATE", "KEYS", "SIG/S", "LATENCY", "TLS"],
        &rows,
    )
}

fn hsm_text(h: &Hsm) -> String {
    let mut out = String::new();
    let mut line = |key: &str, value: String| out.push_str(&format!("{key}: {value}\n"));
    line("id", clean(&h.hsm));
    line(
        "vendor",
        clean(h.vendor.as_deref().unwrap_or("not known yet")),
    );
    let since = h
        .since
        .map_or(String::new(), |at| format!(" since {}", at.to_human()));
    line("state", format!("{}{since}", clean(&h.state)));
    line("tls", clean(&h.tls));
    if let Some(m) = &h.managed {
        line("managed", clean(&managed_text(m)));
        line("module", clean(&m.module));
    }
    line(
        "has credentials",
        if h.has_credentials { "yes" } else { "no" }.to_string(),
    );
    for setting in &h.settings {
        let (key, value) = setting.split_once(": ").unwrap_or(("note", setting));
        line(&clean(key), clean(value));
    }
    line("algorithms", clean(&h.algorithms.join(", ")));
    line("policies", clean(&h.policies.join(", ")));
    line("zones", h.zones.to_string());
    line("keys", h.keys.to_string());
    for i in &h.instances {
        let error = i
            .last_error
            .as_ref()
            .map_or(String::new(), |e| format!(", last error: {e}"));
        let text = format!(
            "{} {}, {} in flight, {} keys proved, {} failed{error}",
            i.endpoint, i.state, i.in_flight, i.keys_proved, i.keys_failed
        );
        line("instance", clean(&text));
    }
    out
}

fn managed_text(m: &HsmManagedState) -> String {
    let since = m
        .since
        .map_or(String::new(), |at| format!(" since {}", at.to_human()));
    let pid = m.pid.map_or(String::new(), |pid| format!(", pid {pid}"));
    let end = m
        .last_end
        .as_ref()
        .map_or(String::new(), |e| format!(", the last one {e}"));
    format!("{}{since}{pid}, started {} times{end}", m.state, m.starts)
}

pub async fn tsig(ctx: &Ctx, command: TsigCommand) -> Result<(), CliError> {
    match command {
        TsigCommand::Add {
            name,
            algorithm,
            secret,
            secret_stdin,
        } => {
            let body = tsig_request(ctx, name, algorithm, secret, secret_stdin)?;
            let added = ctx
                .change(Method::Post, "/v1/tsig-keys", &body, |a: &TsigAdded| {
                    format!("Added TSIG key '{}'", clean(&a.name))
                })
                .await?;
            ctx.warnings(&added.warnings);
            Ok(())
        }
        TsigCommand::Generate { name, algorithm } => {
            let body = TsigAdd {
                name,
                algorithm: Some(algorithm),
                secret: None,
                generate: true,
                comment: ctx.comment.clone(),
            };
            let answer = ctx
                .call(&Call::send(Method::Post, "/v1/tsig-keys", &body))
                .await?;
            if ctx.json {
                return ctx.document(&answer);
            }
            // Shown whatever -q says: it cannot be asked for again.
            let added: TsigAdded = ctx.parse(&answer)?;
            ctx.print(&format!(
                "key \"{}\" {{ algorithm {}; secret \"{}\"; }};\n",
                clean(&added.name),
                clean(&added.algorithm),
                added.secret.map(|s| clean(&s.0)).unwrap_or_default()
            ))
        }
        TsigCommand::List => {
            ctx.list("/v1/tsig-keys", Query::new(), |keys: &[TsigItem]| {
                ctx.hint(
                    keys.is_empty(),
                    "no TSIG keys yet; add one with: cascade tsig add",
                );
                if ctx.quiet {
                    return keys
                        .iter()
                        .map(|k| format!("{}\n", clean(&k.name)))
                        .collect();
                }
                let rows: Vec<Vec<String>> = keys
                    .iter()
                    .map(|k| {
                        vec![
                            k.name.clone(),
                            k.algorithm.clone(),
                            k.zones.join(", "),
                            k.policies.join(", "),
                        ]
                    })
                    .collect();
                table(&["NAME", "ALGORITHM", "ZONES", "POLICIES"], &rows)
            })
            .await
        }
        TsigCommand::Remove { name } => {
            let query = Query::new().set("comment", ctx.comment.as_deref());
            let target = format!("/v1/tsig-keys/{}{}", encode(&name), query.as_str());
            ctx.delete(target, &format!("Removed TSIG key {}", clean(&name)))
                .await
        }
    }
}

fn tsig_request(
    ctx: &Ctx,
    name: String,
    algorithm: Option<String>,
    secret: Option<String>,
    secret_stdin: bool,
) -> Result<TsigAdd, CliError> {
    let parts: Vec<&str> = name.split(':').collect();
    let (name, algorithm, secret) = match (parts.as_slice(), algorithm, secret, secret_stdin) {
        ([name], algorithm, None, true) => (
            name.to_string(),
            algorithm,
            first_line(std::io::stdin().lock(), "standard input")?,
        ),
        ([name], Some(algorithm), Some(secret), false) => {
            (name.to_string(), Some(algorithm), secret)
        }
        ([name, secret], None, None, false) => (name.to_string(), None, secret.to_string()),
        ([algorithm, name, secret], None, None, false) => (
            name.to_string(),
            Some(algorithm.to_string()),
            secret.to_string(),
        ),
        _ => {
            return Err(CliError::Usage(
                "write <NAME> <ALG> <SECRET>, [<ALG>:]<NAME>:<SECRET>, or <NAME> [ALG] --secret-stdin; for example xfr1 hmac-sha256 c2VjcmV0…".to_string(),
            ));
        }
    };
    // A path is told from base64 by existing: base64 may contain '/'.
    let secret = if Path::new(&secret).is_file() {
        secret_file(Path::new(&secret))?
    } else {
        secret
    };
    let algorithm = algorithm.or(Some("hmac-sha256".to_string()));
    Ok(TsigAdd {
        name,
        algorithm,
        secret: Some(Secret(secret)),
        generate: false,
        comment: ctx.comment.clone(),
    })
}

pub async fn token(ctx: &Ctx, command: TokenCommand) -> Result<(), CliError> {
    match command {
        TokenCommand::Add {
            name,
            role,
            expires,
            zones,
        } => {
            let never_expires = expires == "never";
            let expires_in_secs = match never_expires {
                true => None,
                false => Some(
                    forms::duration(&expires)
                        .map_err(CliError::Usage)?
                        .as_secs(),
                ),
            };
            let body = TokenAdd {
                name,
                roles: role.into_iter().map(|r| r.0).collect(),
                expires_in_secs,
                never_expires,
                zones,
                comment: ctx.comment.clone(),
            };
            let answer = ctx
                .call(&Call::send(Method::Post, "/v1/tokens", &body))
                .await?;
            if ctx.json {
                return ctx.document(&answer);
            }
            // Shown whatever -q says: it cannot be asked for again.
            let added: TokenAdded = ctx.parse(&answer)?;
            ctx.print(&format!("{}\n", clean(&added.token.0)))
        }
        TokenCommand::List => {
            ctx.list("/v1/tokens", Query::new(), |tokens: &[TokenItem]| {
                ctx.hint(
                    tokens.is_empty(),
                    "no tokens yet; make one with: cascade token add",
                );
                if ctx.quiet {
                    return tokens
                        .iter()
                        .map(|t| format!("{}\n", clean(&t.name)))
                        .collect();
                }
                let rows: Vec<Vec<String>> = tokens
                    .iter()
                    .map(|t| {
                        let roles: Vec<&str> = t.roles.iter().map(|r| r.as_str()).collect();
                        vec![
                            t.name.clone(),
                            roles.join(", "),
                            t.expires_at.map_or("never".to_string(), |at| at.to_human()),
                            t.last_used_at.map_or("-".to_string(), |at| at.to_human()),
                        ]
                    })
                    .collect();
                table(&["NAME", "ROLES", "EXPIRES", "LAST-USED"], &rows)
            })
            .await
        }
        TokenCommand::Remove { name } => {
            let query = Query::new().set("comment", ctx.comment.as_deref());
            let target = format!("/v1/tokens/{}{}", encode(&name), query.as_str());
            ctx.delete(target, &format!("Removed token {}", clean(&name)))
                .await
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn endpoints() {
        for (text, host, port) in [
            ("hsm.example", "hsm.example", 5696),
            ("127.0.0.1:1", "127.0.0.1", 1),
            ("[::1]:1", "::1", 1),
            ("[::1]", "::1", 5696),
            ("::1", "::1", 5696),
        ] {
            let e = endpoint(text).unwrap();
            assert_eq!((e.host.as_str(), e.port), (host, port), "{text}");
        }
        for text in ["", ":1", "h:0", "h:x"] {
            assert!(endpoint(text).is_err(), "{text}");
        }
    }

    #[test]
    fn secrets_in_first_lines() {
        assert_eq!(first_line(&b"abc\r\nmore"[..], "x").unwrap(), "abc");
        assert!(first_line(&b"\n"[..], "x").is_err());
    }
}

//! TSIG keys over the API.

use std::collections::BTreeMap;
use std::sync::Arc;

use cascade_api::common::{List, PageQuery, SubjectKind, Warning};
use cascade_api::hsm::{Secret, TsigAdd, TsigAdded, TsigItem};
use cascade_api::zones::Source;
use cascade_api::{Problem, ProblemType};
use cascade_archive::{Change, Table};
use cascade_policy::parse_policy;
use cascade_wire::tsig::Algorithm;
use data_encoding::{BASE64, BASE64_NOPAD};

use super::{Answer, bug, policies};
use crate::daemon::{Daemon, random};
use crate::tsig::{SECRET_MAX, SECRET_MIN, TsigRow, canonical};

/// Keys kept at most; each is looked at for every signed message.
const KEYS_MAX: usize = 10_000;

pub fn list(d: &Daemon, page: &PageQuery) -> List<TsigItem> {
    let users = Users::of(d);
    let items = d
        .tsig
        .list()
        .into_iter()
        .map(|(name, algorithm)| TsigItem {
            zones: users.zones.get(&name).cloned().unwrap_or_default(),
            policies: users.policies.get(&name).cloned().unwrap_or_default(),
            name,
            algorithm,
        })
        .collect();
    List::page(items, page, |i| i.name.clone())
}

pub async fn add(d: &Arc<Daemon>, add: &TsigAdd) -> Answer<TsigAdded> {
    let invalid = |detail: String, action: &str| {
        Problem::new(ProblemType::InvalidValue, detail).action(action)
    };
    let name = canonical(&add.name).ok_or_else(|| {
        invalid(
            format!("'{}' is not the name of a TSIG key", add.name),
            "write a domain name, for example xfr1 or ns1-ns2.example",
        )
    })?;
    let wanted = add.algorithm.as_deref().unwrap_or("hmac-sha256");
    let algorithm = Algorithm::parse(wanted).ok_or_else(|| {
        let known: Vec<&str> = Algorithm::ALL.iter().map(|a| a.name()).collect();
        invalid(
            format!("'{wanted}' is not an algorithm for TSIG here"),
            &format!("use one of {}", known.join(", ")),
        )
    })?;
    let row = match (&add.secret, add.generate) {
        (Some(secret), false) => TsigRow::new(algorithm, &decode(secret)?),
        (None, true) => generate(algorithm),
        _ => {
            return Err(invalid(
                "give either a secret or generate".into(),
                "cascade tsig generate <name>",
            ));
        }
    };
    let _one = d.reloading.write().await;
    if d.tsig.has(&name) {
        return Err(Problem::new(
            ProblemType::TsigKeyExists,
            format!("TSIG key '{name}' exists already"),
        )
        .subject(SubjectKind::TsigKey, &name)
        .action(format!("cascade tsig remove {name}, then add it again")));
    }
    if d.tsig.names().len() >= KEYS_MAX {
        return Err(invalid(
            format!("there are {KEYS_MAX} TSIG keys already"),
            "cascade tsig remove <name>",
        ));
    }
    let change = Change::put(Table::TsigKeys, &name, &row).map_err(bug)?;
    super::commit(d, vec![change]).await?;
    d.tsig.put(&name, Some(row.clone()));
    crate::servers::renew_keys(d);
    let mut warnings = Vec::new();
    if algorithm == Algorithm::HmacSha1 {
        warnings.push(Warning {
            policy: None,
            code: None,
            detail: format!(
                "TSIG key '{name}' uses HMAC-SHA-1, which RFC 8945 §6 only keeps for old peers"
            ),
            action: Some("use hmac-sha256 where the peer can".into()),
        });
    }
    Ok(TsigAdded {
        name,
        algorithm: algorithm.name().into(),
        secret: add.generate.then(|| Secret(row.secret().to_string())),
        warnings,
    })
}

fn decode(secret: &Secret) -> Answer<Vec<u8>> {
    let text: String = secret.0.split_ascii_whitespace().collect();
    let bytes = BASE64
        .decode(text.as_bytes())
        .or_else(|_| BASE64_NOPAD.decode(text.as_bytes()))
        // The text may be a secret in another form: it is not repeated.
        .map_err(|_| {
            Problem::new(
                ProblemType::InvalidValue,
                "the secret is neither base64 nor the path of a file",
            )
            .action("give it in base64, or: cascade tsig generate <name>")
        })?;
    if !(SECRET_MIN..=SECRET_MAX).contains(&bytes.len()) {
        return Err(Problem::new(
            ProblemType::InvalidValue,
            format!(
                "the secret has {} octets; it must have {SECRET_MIN} to {SECRET_MAX}",
                bytes.len()
            ),
        )
        .action("cascade tsig generate <name>"));
    }
    Ok(bytes)
}

/// As long as the digest (RFC 8945 §8).
fn generate(algorithm: Algorithm) -> TsigRow {
    let octets: [u8; 64] = random();
    let n = match algorithm {
        Algorithm::HmacSha1 => 20,
        Algorithm::HmacSha256 => 32,
        Algorithm::HmacSha384 => 48,
        Algorithm::HmacSha512 => 64,
    };
    TsigRow::new(algorithm, octets.get(..n).unwrap_or(&octets))
}

pub async fn remove(d: &Arc<Daemon>, given: &str) -> Answer<()> {
    let known = d.tsig.names();
    let name = canonical(given).filter(|n| known.contains(n));
    let Some(name) = name else {
        let near = cascade_api::problem::nearest(given, known.iter().map(String::as_str));
        return Err(Problem::new(
            ProblemType::TsigKeyNotFound,
            format!("TSIG key '{given}' is not known"),
        )
        .subject(SubjectKind::TsigKey, given)
        .suggestion(near)
        .action("cascade tsig list"));
    };
    let on_disk = policies::on_disk(d).await;
    let _one = d.reloading.write().await;
    let mut users = Users::of(d);
    for (policy, text) in &on_disk {
        // A file with errors cannot be activated, and names nothing yet.
        if let Ok(file) = parse_policy(policy, policy, text.as_bytes()) {
            users.add_policy(&file, &format!("{policy} (file)"));
        }
    }
    let used = users.of_key(&name);
    if !used.is_empty() {
        return Err(Problem::new(
            ProblemType::InUse,
            format!("TSIG key '{name}' is used by {}", used.join(", ")),
        )
        .subject(SubjectKind::TsigKey, &name)
        .action("take it out there first, then: cascade policy reload"));
    }
    let change = Change::Delete {
        table: Table::TsigKeys,
        key: name.clone(),
    };
    super::commit(d, vec![change]).await?;
    d.tsig.put(&name, None);
    crate::servers::renew_keys(d);
    Ok(())
}

/// Who names which key.
#[derive(Default)]
struct Users {
    zones: BTreeMap<String, Vec<String>>,
    policies: BTreeMap<String, Vec<String>>,
    config: BTreeMap<String, Vec<String>>,
}

impl Users {
    fn of(d: &Daemon) -> Users {
        let mut users = Users::default();
        for z in d.zone_list() {
            if let Source::Servers { servers } = &z.view().row.source {
                for key in servers.iter().filter_map(|s| s.tsig_key.as_deref()) {
                    note(&mut users.zones, key, &z.name);
                }
            }
        }
        for (name, policy) in d.policies.load().iter() {
            users.add_policy(&policy.file, name);
        }
        let conf = d.conf();
        let c = &conf.config;
        for (key, list) in [
            ("loader.notify-allow", &c.loader.notify_allow),
            ("loader.review.allow", &c.loader.review.allow),
            ("signer.review.allow", &c.signer.review.allow),
        ] {
            for entry in list.iter().filter_map(|e| e.key.as_deref()) {
                note(&mut users.config, entry, key);
            }
        }
        users
    }

    fn add_policy(&mut self, file: &cascade_policy::PolicyFile, shown: &str) {
        for (_, key) in file.tsig_references() {
            note(&mut self.policies, &key, shown);
        }
    }

    /// Every user, for people.
    fn of_key(&self, name: &str) -> Vec<String> {
        let of = |what: &str, map: &BTreeMap<String, Vec<String>>| -> Vec<String> {
            let users = map.get(name).map(Vec::as_slice).unwrap_or_default();
            users.iter().map(|u| format!("{what} {u}")).collect()
        };
        let mut all = of("zone", &self.zones);
        all.extend(of("policy", &self.policies));
        all.extend(of("configuration key", &self.config));
        all
    }
}

fn note(map: &mut BTreeMap<String, Vec<String>>, key: &str, user: &str) {
    let Some(key) = canonical(key) else { return };
    let users = map.entry(key).or_default();
    if !users.iter().any(|u| u == user) {
        users.push(user.to_string());
    }
}

//! Key files: round trips, import, refusals, and files that other tools made.

#![allow(clippy::unwrap_used)]

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use cascade_crypto::{
    Batch, FileKeyStore, KeyError, KeySpec, KeyStore, Mode, NewKey, Signatures, SoftwareKey,
    ZoneRef, dnskey::Role, verify,
};
use cascade_time::Timestamp;
use cascade_zone::{KeyId, Name, ZoneId};

const ZONE: ZoneId = ZoneId([7; 16]);
const KEY: KeyId = KeyId([9; 16]);

fn now() -> Timestamp {
    Timestamp::from_secs(1_764_000_000)
}

fn want<'a>(zone: &'a Name, spec: &str, role: Role) -> NewKey<'a> {
    NewKey {
        id: KEY,
        zone: ZoneRef {
            id: ZONE,
            name: zone,
        },
        role,
        spec: spec.parse().unwrap(),
        taken_tags: &[],
        tag_range: 0..=u16::MAX,
        labelling: cascade_crypto::Labelling::Auto,
        now: now(),
    }
}

fn signs(key: &dyn cascade_crypto::SigningKey) {
    let Mode::Inline(signer) = key.mode() else {
        panic!("software keys sign inline")
    };
    let mut batch = Batch::new(key.input());
    batch.push(b"one");
    batch.push(b"two");
    let mut out = Signatures::new();
    signer.sign_batch(&batch, &mut out).unwrap();
    assert!(verify(key.dnskey(), b"one", out.get(0).unwrap()));
    assert!(verify(key.dnskey(), b"two", out.get(1).unwrap()));
    assert!(!verify(key.dnskey(), b"two", out.get(0).unwrap()));
}

fn algorithms() -> Vec<&'static str> {
    let mut all = vec![
        "RSASHA256:2048",
        "RSASHA512:2048",
        "ECDSAP256SHA256",
        "ECDSAP384SHA384",
        "ED25519",
    ];
    if cfg!(feature = "ed448") {
        all.push("ED448");
    }
    all
}

#[test]
fn a_pair_goes_to_the_trash_and_comes_back() {
    let dir = tempfile::tempdir().unwrap();
    let store = FileKeyStore::new(dir.path().join("keys"));
    let zone = Name::parse("example").unwrap();
    let at = ZoneRef {
        id: ZONE,
        name: &zone,
    };
    let (key, _) = store.generate(&want(&zone, "13", Role::Zsk)).unwrap();
    let path = PathBuf::from(key.reference.strip_prefix("file://").unwrap());
    let trash = path.with_file_name("trash");
    let aside = trash.join(path.file_name().unwrap());
    store.set_aside(at, &key).unwrap();
    store.set_aside(at, &key).unwrap();
    assert!(aside.is_file() && aside.with_extension("private").is_file());
    assert!(!path.exists() && !path.with_extension("private").exists());
    let mode = fs::metadata(&trash).unwrap().permissions().mode();
    assert_eq!(mode & 0o7777, 0o700);
    // No key of the zone, as far as making and importing goes; but its name is not given away.
    assert_eq!(store.list(at).unwrap(), []);
    signs(&*store.load(KEY, at, &key).unwrap());
    let twin = store.import(KEY, at, &aside, now()).unwrap();
    assert!(twin.reference.ends_with("-2.key"), "{}", twin.reference);
    store.destroy(at, &twin).unwrap();
    // A move that a crash has cut short is no obstacle.
    fs::rename(
        aside.with_extension("private"),
        path.with_extension("private"),
    )
    .unwrap();
    signs(&*store.load(KEY, at, &key).unwrap());
    store.bring_back(at, &key).unwrap();
    store.bring_back(at, &key).unwrap();
    assert!(path.is_file() && !aside.exists());
    store.set_aside(at, &key).unwrap();
    store.destroy(at, &key).unwrap();
    assert_eq!(fs::read_dir(&trash).unwrap().count(), 0);
    assert!(matches!(
        store.load(KEY, at, &key),
        Err(KeyError::NotFound(_))
    ));
}

#[test]
fn generate_load_list_destroy() {
    let dir = tempfile::tempdir().unwrap();
    let store = FileKeyStore::new(dir.path().join("keys"));
    let zone = Name::parse("Example.net").unwrap();
    let at = ZoneRef {
        id: ZONE,
        name: &zone,
    };
    assert_eq!(store.list(at).unwrap(), []);
    for spec in algorithms() {
        let (key, _) = store.generate(&want(&zone, spec, Role::Csk)).unwrap();
        assert_eq!(key.dnskey.flags(), 257);
        let name = format!(
            "keys/{ZONE}/Kexample.net.+{:03}+{:05}.key",
            key.dnskey.algorithm_number(),
            key.dnskey.key_tag()
        );
        assert!(key.reference.ends_with(&name), "{} {name}", key.reference);
        let path = dir.path().join(&name);
        for p in [path.clone(), path.with_extension("private")] {
            assert_eq!(
                fs::metadata(p).unwrap().permissions().mode() & 0o7777,
                0o600
            );
        }
        let parent = fs::metadata(path.parent().unwrap()).unwrap();
        assert_eq!(parent.permissions().mode() & 0o7777, 0o700);
        let loaded = store.load(KEY, at, &key).unwrap();
        assert_eq!(loaded.dnskey(), &key.dnskey);
        signs(&*loaded);
        assert_eq!(
            store.find(at, &key.dnskey.with_flags(256)).unwrap(),
            Some(key)
        );
    }
    let all = store.list(at).unwrap();
    assert_eq!(all.len(), algorithms().len());
    for key in &all {
        store.destroy(at, key).unwrap();
        store.destroy(at, key).unwrap();
        assert!(matches!(
            store.load(KEY, at, key),
            Err(KeyError::NotFound(_))
        ));
    }
    let left: Vec<_> = fs::read_dir(dir.path().join("keys").join(ZONE.to_string()))
        .unwrap()
        .collect();
    assert!(left.is_empty(), "{left:?}");
}

#[test]
fn tags_taken_and_ranges() {
    let dir = tempfile::tempdir().unwrap();
    let store = FileKeyStore::new(dir.path());
    let zone = Name::parse("example.net").unwrap();
    let (key, _) = store
        .generate(&NewKey {
            tag_range: 0..=0x7fff,
            ..want(&zone, "15", Role::Zsk)
        })
        .unwrap();
    assert!(key.dnskey.key_tag() < 0x8000);
    let all: Vec<u16> = (0..=u16::MAX).collect();
    let refused = store.generate(&NewKey {
        taken_tags: &all,
        ..want(&zone, "15", Role::Zsk)
    });
    assert!(matches!(
        refused,
        Err(KeyError::NoFreeTag { tried: 24, .. })
    ));
}

#[test]
fn import_checks_everything() {
    let dir = tempfile::tempdir().unwrap();
    let zone = Name::parse("example.net").unwrap();
    let other = Name::parse("example.org").unwrap();
    let at = ZoneRef {
        id: ZONE,
        name: &zone,
    };
    let source = FileKeyStore::new(dir.path().join("a"));
    let store = FileKeyStore::new(dir.path().join("b"));
    let (one, _) = source.generate(&want(&zone, "13", Role::Zsk)).unwrap();
    let (two, _) = source.generate(&want(&zone, "13", Role::Ksk)).unwrap();
    let path =
        |k: &cascade_crypto::StoredKey| PathBuf::from(k.reference.strip_prefix("file://").unwrap());
    let private = path(&one).with_extension("private");

    let wrong = store.import(
        KEY,
        ZoneRef {
            id: ZONE,
            name: &other,
        },
        &path(&one),
        now(),
    );
    assert!(matches!(wrong, Err(KeyError::WrongOwner { .. })));
    let key = store.import(KEY, at, &private, now()).unwrap();
    assert_eq!(key.dnskey, one.dnskey);
    signs(&*store.load(KEY, at, &key).unwrap());
    assert!(matches!(
        store.import(KEY, at, &private, now()),
        Err(KeyError::Exists(_))
    ));
    assert!(private.exists(), "the original stays");

    fs::copy(&private, path(&two).with_extension("private")).unwrap();
    assert!(matches!(
        store.import(KEY, at, &path(&two), now()),
        Err(KeyError::PairMismatch(_))
    ));
    assert!(matches!(
        source.load(KEY, at, &two),
        Err(KeyError::PairMismatch(_))
    ));
    assert!(matches!(
        store.import(KEY, at, dir.path(), now()),
        Err(KeyError::NotAKeyPath(_))
    ));
    let gone = dir.path().join("x.key");
    assert!(matches!(
        store.import(KEY, at, &gone, now()),
        Err(KeyError::Io { .. })
    ));
    fs::create_dir(&gone).unwrap();
    assert!(matches!(
        store.import(KEY, at, &gone, now()),
        Err(KeyError::NotAFile(_))
    ));

    let revoked = fs::read_to_string(path(&one))
        .unwrap()
        .replace("DNSKEY 256", "DNSKEY 384");
    fs::write(path(&one), revoked).unwrap();
    let store = FileKeyStore::new(dir.path().join("c"));
    assert!(matches!(
        store.import(KEY, at, &path(&one), now()),
        Err(KeyError::Flags { .. })
    ));
}

#[test]
fn names_of_any_octets_stay_inside() {
    let dir = tempfile::tempdir().unwrap();
    let store = FileKeyStore::new(dir.path());
    let long = format!("{0}.{0}.{0}.example", "\\255".repeat(60));
    for zone in [
        ".",
        "\\.\\.\\047\\.\\.\\047etc.",
        "0/25.2.0.192.in-addr.arpa",
        &long,
    ] {
        let zone = Name::parse(zone).unwrap();
        let (key, _) = store.generate(&want(&zone, "15", Role::Csk)).unwrap();
        let at = ZoneRef {
            id: ZONE,
            name: &zone,
        };
        store.load(KEY, at, &key).unwrap();
        for entry in fs::read_dir(dir.path().join(ZONE.to_string())).unwrap() {
            assert!(entry.unwrap().file_name().len() < 220);
        }
        store.destroy(at, &key).unwrap();
    }
    let zone = Name::parse("example.net").unwrap();
    let at = ZoneRef {
        id: ZONE,
        name: &zone,
    };
    let (mut key, _) = store.generate(&want(&zone, "15", Role::Csk)).unwrap();
    key.reference = "file:///etc/passwd.key".into();
    assert!(matches!(
        store.destroy(at, &key),
        Err(KeyError::BadReference(_))
    ));
    assert!(matches!(
        store.load(KEY, at, &key),
        Err(KeyError::BadReference(_))
    ));
}

#[test]
fn half_a_pair_is_no_key_and_blocks_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let store = FileKeyStore::new(dir.path().join("b"));
    let source = FileKeyStore::new(dir.path().join("a"));
    let zone = Name::parse("example.net").unwrap();
    let at = ZoneRef {
        id: ZONE,
        name: &zone,
    };
    let (key, _) = source.generate(&want(&zone, "15", Role::Csk)).unwrap();
    let path = PathBuf::from(key.reference.strip_prefix("file://").unwrap());
    let copy = store.import(KEY, at, &path, now()).unwrap();
    // As a crash between the two renames leaves it.
    fs::remove_file(copy.reference.strip_prefix("file://").unwrap()).unwrap();
    assert_eq!(store.list(at).unwrap(), []);
    let copy = store.import(KEY, at, &path, now()).unwrap();
    assert!(copy.reference.ends_with("-2.key"));
    signs(&*store.load(KEY, at, &copy).unwrap());
}

#[test]
fn symbolic_link_as_directory_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let zone = Name::parse("example.net").unwrap();
    fs::create_dir(dir.path().join("elsewhere")).unwrap();
    std::os::unix::fs::symlink(
        dir.path().join("elsewhere"),
        dir.path().join(ZONE.to_string()),
    )
    .unwrap();
    let refused = FileKeyStore::new(dir.path()).generate(&want(&zone, "15", Role::Csk));
    assert!(matches!(refused, Err(KeyError::NotADirectory(_))));
}

#[test]
fn pkcs8_documents() {
    // RFC 8410 §10.3: an Ed25519 key whose seed is printed there.
    let seed = "d4ee72dbf913584ad5b6d8f1f769f8ad3afe7c28cbf1d4fbe097a88f44755842";
    let mut der = data_encoding::HEXLOWER
        .decode(b"302e020100300506032b657004220420")
        .unwrap();
    der.extend(data_encoding::HEXLOWER.decode(seed.as_bytes()).unwrap());
    let key = SoftwareKey::from_pkcs8(KEY, 257, "ED25519".parse().unwrap(), &der).unwrap();
    let public = "19bf44096984cdfe8541bac167dc3b96c85086aa30b6b6cb0c5c38ad703166e1";
    assert_eq!(
        data_encoding::HEXLOWER.encode(cascade_crypto::SigningKey::dnskey(&key).public_key()),
        public
    );
    key.prove().unwrap();
    assert!(SoftwareKey::from_pkcs8(KEY, 257, "13".parse().unwrap(), &der).is_err());
}

/// Runs a key generator if it is installed; the base name it printed.
fn tool(dir: &Path, program: &str, args: &[&str]) -> Option<String> {
    let out = Command::new(program)
        .args(args)
        .arg("Example.net")
        .current_dir(dir)
        .output()
        .ok()?;
    assert!(
        out.status.success(),
        "{}",
        String::from_utf8_lossy(&out.stderr)
    );
    Some(String::from_utf8(out.stdout).unwrap().trim().to_owned())
}

#[test]
fn files_of_other_tools() {
    let dir = tempfile::tempdir().unwrap();
    let zone = Name::parse("example.net").unwrap();
    let at = ZoneRef {
        id: ZONE,
        name: &zone,
    };
    for spec in algorithms() {
        let spec: KeySpec = spec.parse().unwrap();
        let name = spec.algorithm.mnemonic();
        let bits = spec.bits.to_string();
        let mut args = vec!["-a", name];
        if spec.bits != 0 {
            args.extend(["-b", &bits]);
        }
        for program in ["dnssec-keygen", "ldns-keygen"] {
            let Some(base) = tool(dir.path(), program, &args) else {
                continue;
            };
            let store = FileKeyStore::new(dir.path().join(program));
            let key = store
                .import(KEY, at, &dir.path().join(format!("{base}.private")), now())
                .unwrap();
            let tag = format!("{:05}", key.dnskey.key_tag());
            assert!(base.ends_with(&tag), "{program} {base} {tag}");
            signs(&*store.load(KEY, at, &key).unwrap());
        }
    }
}

#[test]
fn other_tools_read_our_files() {
    let dir = tempfile::tempdir().unwrap();
    let store = FileKeyStore::new(dir.path());
    let zone = Name::parse("example.net").unwrap();
    for spec in algorithms() {
        let (key, _) = store.generate(&want(&zone, spec, Role::Ksk)).unwrap();
        let path = key.reference.strip_prefix("file://").unwrap().to_owned();
        // -p prints the publication time, for which both halves are parsed.
        if let Ok(out) = Command::new("dnssec-settime")
            .args(["-p", "P", "-u"])
            .arg(&path)
            .output()
        {
            let text = String::from_utf8_lossy(&out.stdout).into_owned();
            assert!(
                out.status.success(),
                "{spec} {}",
                String::from_utf8_lossy(&out.stderr)
            );
            assert!(text.contains(&now().secs().to_string()), "{text}");
        }
    }
}

//! `seeds <repository> <folder>`: writes the inputs from which fuzzing starts, a folder a target.
//! They are made, not kept: formats change, and a seed of an old format explores nothing.

use std::path::{Path, PathBuf};

use cascade_kmip::client::{Client, ClientSettings, ask};
use cascade_kmip::enums::BatchErrorContinuation;
use cascade_kmip::{Hash, KeyKind, Mechanism, SignInput};
use cascade_signer::DenialPlan;
use cascade_wire::Composer;
use cascade_zone::Rtype;

/// Owners of every kind: cuts with and without DS, glue, an empty non-terminal, a wildcard, a DNAME.
const ZONE: &str = "\
$TTL 3600
@ SOA ns admin 1 7200 900 1209600 300
@ NS ns
@ NS ns.elsewhere.test.
ns A 192.0.2.1
ns AAAA 2001:db8::1
Mixed-Case TXT \"one\" \"two\"
a.b.ent A 192.0.2.2
*.wild MX 10 ns
d DNAME elsewhere.test.
below.d A 192.0.2.3
cut NS ns.cut
ns.cut A 192.0.2.4
secure NS ns.elsewhere.test.
secure DS 12345 13 2 0101010101010101010101010101010101010101010101010101010101010101
unknown TYPE65280 \\# 3 010203
";

fn main() -> Result<(), String> {
    let mut args = std::env::args().skip(1).map(PathBuf::from);
    let (Some(repository), Some(folder)) = (args.next(), args.next()) else {
        return Err("usage: seeds <repository> <folder>".into());
    };
    for (name, _) in cascade_fuzz::ALL {
        std::fs::create_dir_all(folder.join(name)).map_err(|e| format!("{name}: {e}"))?;
    }
    versions(&folder)?;
    texts(&repository, &folder)?;
    messages(&folder)?;
    requests(&folder)
}

fn put(folder: &Path, target: &str, name: &str, octets: &[u8]) -> Result<(), String> {
    let path = folder.join(target).join(name);
    std::fs::write(&path, octets).map_err(|e| format!("{}: {e}", path.display()))
}

fn versions(folder: &Path) -> Result<(), String> {
    let path = folder.join("seed.zone");
    std::fs::write(&path, ZONE).map_err(|e| format!("{}: {e}", path.display()))?;
    let nsec3 = |opt_out| DenialPlan::Nsec3 {
        iterations: 0,
        salt: vec![0xab],
        opt_out,
    };
    let plans = [
        ("nsec", DenialPlan::Nsec),
        ("nsec3", nsec3(false)),
        ("opt-out", nsec3(true)),
    ];
    for (name, plan) in plans {
        let version = cascade_bench::stages::signed(&path, "example.net", plan)?;
        let mut all = Vec::new();
        version.export_parts(&mut |kind, bytes| cascade_fuzz::join(kind, bytes, &mut all));
        put(folder, "parts", name, &all)?;
        let header = cascade_archive::FileHeader {
            kind: cascade_archive::FileKind::Snapshot,
            zone: version.zone(),
            version: version.id(),
            serial: version.serial(),
            created: version.made_at(),
            fingerprint: version.full_fingerprint().to_bytes(),
        };
        put(folder, "file", name, &header.encode())?;
    }
    Ok(())
}

/// The corpus of the conformance suite, good and bad.
fn texts(repository: &Path, folder: &Path) -> Result<(), String> {
    put(folder, "zonefile", "seed", ZONE.as_bytes())?;
    let mut folders = vec![repository.join("integration/conformance")];
    let mut n = 0;
    while let Some(at) = folders.pop() {
        let Ok(entries) = std::fs::read_dir(&at) else {
            continue;
        };
        for entry in entries.flatten() {
            let path = entry.path();
            if path.is_dir() {
                folders.push(path);
                continue;
            }
            let zone = path.extension().is_some_and(|e| e == "zone");
            if let (true, Ok(text)) = (zone, std::fs::read(&path)) {
                if text.len() <= 4096 {
                    n += 1;
                    put(folder, "zonefile", &format!("corpus-{n}"), &text)?;
                }
            }
        }
    }
    Ok(())
}

fn messages(folder: &Path) -> Result<(), String> {
    for (name, rtype) in [("soa", Rtype::SOA), ("axfr", Rtype::AXFR)] {
        let mut query = Vec::new();
        let mut composer = Composer::new(&mut query, 512, 1, 0);
        composer.question(b"\x07example\x03net\x00", rtype, 1);
        composer.finish();
        put(folder, "message", name, &query)?;
    }
    Ok(())
}

fn requests(folder: &Path) -> Result<(), String> {
    let digest = SignInput::Digest(vec![7; 32]);
    let all = [
        ("discover", ask::discover_versions()),
        ("query", ask::query()),
        (
            "create",
            ask::create_key_pair(KeyKind::P256, "private", "public"),
        ),
        ("get", ask::public_key("AB_pub")),
        ("rename", ask::rename("AB_pub", "name")),
        (
            "sign",
            ask::sign("AB_priv", Mechanism::Ecdsa(Hash::Sha256), digest),
        ),
        ("destroy", ask::destroy("AB_priv")),
    ];
    for (name, payload) in all {
        let mut client = Client::new(ClientSettings::default());
        client
            .send(vec![payload], BatchErrorContinuation::Stop)
            .map_err(|e| format!("{name}: {e}"))?;
        let octets = client.take_output().ok_or("nothing to send")?;
        put(folder, "ttlv", name, &octets)?;
    }
    Ok(())
}

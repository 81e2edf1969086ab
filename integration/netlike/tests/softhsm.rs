//! The suite on SoftHSM 2.
#![allow(
    clippy::disallowed_methods,
    reason = "tests wait for real libraries with the real clock"
)]

mod suite;

use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use cascade_hsm::{Event, HsmError, IdForm, KeyAlgorithm, KeyKind, Naming, NewPair, Settings};
use suite::*;

/// A configuration and one token for each label and PIN.
fn softhsm(folder: &Path, tokens: &[(&str, &str)]) -> Vec<(&'static str, String)> {
    let conf = folder.join("softhsm2.conf");
    std::fs::create_dir(folder.join("tokens")).expect("own folder");
    let text = format!(
        "directories.tokendir = {}/tokens\nobjectstore.backend = file\nlog.level = ERROR\n",
        folder.display()
    );
    std::fs::write(&conf, text).expect("own folder");
    for (label, pin) in tokens {
        let made = Command::new("softhsm2-util")
            .args(["--init-token", "--free", "--so-pin", "1234"])
            .args(["--label", label, "--pin", pin])
            .env("SOFTHSM2_CONF", &conf)
            .output()
            .expect("softhsm2-util is installed");
        assert!(made.status.success(), "{made:?}");
    }
    vec![("SOFTHSM2_CONF", conf.display().to_string())]
}

fn one(folder: &Path) -> Vec<(&'static str, String)> {
    softhsm(folder, &[("test", "1234")])
}

/// The token of [`one`], open.
fn test(name: &str, body: impl FnOnce(&Bench)) {
    isolated(name, one, |_| {
        let bench = Bench::load(&softhsm_module());
        body(&bench);
        // SoftHSM tears itself down when the process ends, and no thread may be in it then.
        bench.hsm.finish(Duration::from_secs(10));
    });
}

/// OpenSC's view from outside.
fn pkcs11_tool(args: &[&str]) -> String {
    let all = [&["--login", "--pin", "1234"], args].concat();
    suite::pkcs11_tool(&softhsm_module(), &all)
}

#[test]
fn keys_sign() {
    test("keys_sign", |bench| {
        make_and_sign(&bench.open("test", "1234"))
    });
}

#[test]
fn keys_come_and_go() {
    test("keys_come_and_go", |bench| {
        find_rename_destroy(&bench.open("test", "1234"), true);
    });
}

#[test]
fn batches() {
    test("batches", |bench| batch(&bench.open("test", "1234")));
}

#[test]
fn restart() {
    isolated("restart", one, |_| {
        survives_restart(&softhsm_module(), "test", "1234")
    });
}

#[test]
fn wrong_pin() {
    test("wrong_pin", |bench| {
        let refused = bench.hsm.open("test", &pin("4321")).err().expect("wrong");
        assert!(
            refused.to_string().contains("CKR_PIN_INCORRECT"),
            "{refused}"
        );
        let again = bench.hsm.open("test", &pin("4321")).err().expect("wrong");
        assert!(again.to_string().contains("a moment ago"), "{again}");
        let token = bench.open("test", "1234");
        // The token is open now, and would serve anybody.
        for name in ["test", "0"] {
            let refused = bench.hsm.open(name, &pin("4321")).err().expect("wrong");
            assert!(matches!(refused, HsmError::LoginRefused(_)), "{refused}");
        }
        make(&token, KeyKind::P256);
        assert!(bench.saw(|e| matches!(
            e,
            Event::Opened {
                by_module: false,
                ..
            }
        )));
    });
}

#[test]
fn which_token() {
    let setup = |folder: &Path| softhsm(folder, &[("a", "1234"), ("b", "1234"), ("b", "1234")]);
    isolated("which_token", setup, |_| {
        let bench = Bench::load(&softhsm_module());
        let slots = bench.hsm.slots().expect("lists");
        assert_eq!(slots.len(), 4, "{slots:?}");
        let by_label = bench.open("a", "1234");
        let by_id = bench.open(&by_label.slot_id().to_string(), "1234");
        assert!(
            std::sync::Arc::ptr_eq(&by_label, &by_id),
            "one slot is one token"
        );
        let both = bench.hsm.open("b", &pin("1234")).err().expect("two tokens");
        assert!(both.to_string().contains("use the slot id"), "{both}");
        let free = bench
            .hsm
            .open("3", &pin("1234"))
            .err()
            .expect("not initialised");
        assert!(free.to_string().contains("no initialised token"), "{free}");
        let none = bench
            .hsm
            .open("c", &pin("1234"))
            .err()
            .expect("no such label");
        assert!(none.to_string().contains("token 'a'"), "{none}");
    });
}

#[test]
fn what_it_can_do() {
    test("what_it_can_do", |bench| {
        let algorithms = bench.open("test", "1234").algorithms().expect("asks");
        for algorithm in [
            KeyAlgorithm::RsaSha256,
            KeyAlgorithm::EcdsaP256Sha256,
            KeyAlgorithm::EcdsaP384Sha384,
            KeyAlgorithm::Ed25519,
        ] {
            assert!(algorithms.contains(&algorithm), "{algorithms:?}");
        }
        assert!(bench.hsm.about_module().expect("says").contains("SoftHSM"));
    });
}

#[test]
fn seen_from_outside() {
    test("seen_from_outside", |bench| {
        let token = bench.open("test", "1234");
        let made = token
            .generate(&NewPair {
                kind: KeyKind::P256,
                random: [0x5a; 20],
                naming: Naming::AtCreation {
                    private: "example.net-ksk-pri".into(),
                    public: "example.net-ksk-pub".into(),
                    name: "example.net-ksk-5a5a5a5a".into(),
                },
            })
            .expect("makes a key");
        assert!(made.labelled);
        let list = pkcs11_tool(&["--list-objects"]);
        for label in ["example.net-ksk-pri", "example.net-ksk-pub"] {
            assert!(list.contains(label), "{list}");
        }
        // CKA_ID is the ASCII of the hexadecimal digits.
        assert!(
            list.contains(&format!("ID:         {}", "3561".repeat(20))),
            "{list}"
        );
        assert!(
            list.contains("sensitive, always sensitive, never extractable"),
            "{list}"
        );
    });
}

#[test]
fn keys_of_other_software() {
    test("keys_of_other_software", |bench| {
        let id = "00ff".repeat(5);
        let args = [
            "--keypairgen",
            "--key-type",
            "EC:prime256v1",
            "--id",
            &id,
            "--label",
            "old",
        ];
        pkcs11_tool(&args);
        let token = bench.open("test", "1234");
        let objects = token.objects(Some("old")).expect("lists");
        assert_eq!(objects.len(), 2, "{objects:?}");
        let key = &objects[0].id;
        assert_eq!(key.as_str(), id);
        let signature = sign(&token, key, KeyKind::P256, b"x").expect("signs");
        let public = token.public_key(key).expect("reads");
        assert!(verifies(&public, b"x", &signature));
    });
}

#[test]
fn binary_ids() {
    isolated("binary_ids", one, |_| {
        let mut settings = Settings::new([1; 16]);
        settings.id_form = IdForm::Binary;
        settings.set_labels = false;
        let bench = Bench::with(&softhsm_module(), settings);
        let token = bench.open("test", "1234");
        let made = token
            .generate(&NewPair {
                kind: KeyKind::P256,
                random: [0x5a; 20],
                naming: Naming::Auto {
                    private: "a".into(),
                    public: "b".into(),
                },
            })
            .expect("makes a key");
        assert!(!made.labelled, "labels are not wanted");
        assert_eq!(made.id.as_str(), "5a".repeat(20));
        let list = pkcs11_tool(&["--list-objects"]);
        assert!(
            list.contains(&format!("ID:         {}\n", "5a".repeat(20))),
            "{list}"
        );
        let ours = KeyKind::P256;
        assert!(sign(&token, &made.id, ours, b"x").is_ok());
    });
}

#[test]
fn token_away_and_back() {
    test_with_folder("token_away_and_back", |bench, folder| {
        let token = bench.open("test", "1234");
        let key = make(&token, KeyKind::P256);
        let (there, away) = (folder.join("tokens"), folder.join("elsewhere"));
        std::fs::rename(&there, &away).expect("own folder");
        std::fs::create_dir(&there).expect("own folder");
        // SoftHSM finds out when it looks at the object again.
        let why = until(Duration::from_secs(20), "the token is missed", || {
            let result = token.object(&key.id, cascade_hsm::Half::Private);
            result.err()
        });
        eprintln!("while away: {why}");
        let since = Instant::now();
        while since.elapsed() < Duration::from_secs(5) {
            let error = sign(&token, &key.id, KeyKind::P256, b"x").expect_err("away");
            assert!(error.is_transient(), "{error}");
            std::thread::sleep(Duration::from_millis(100));
        }
        std::fs::remove_dir(&there).expect("own folder");
        std::fs::rename(&away, &there).expect("own folder");
        let start = Instant::now();
        let signature = until(Duration::from_secs(40), "the token is back", || {
            sign(&token, &key.id, KeyKind::P256, b"x").ok()
        });
        eprintln!("back after {:?}", start.elapsed());
        assert!(verifies(&key.public, b"x", &signature));
    });
}

#[test]
fn token_replaced() {
    test_with_folder("token_replaced", |bench, folder| {
        let token = bench.open("test", "1234");
        let key = make(&token, KeyKind::P256);
        let conf = folder.join("softhsm2.conf");
        for args in [
            &["--delete-token", "--token", "test"][..],
            &[
                "--init-token",
                "--free",
                "--so-pin",
                "1234",
                "--label",
                "test",
                "--pin",
                "5678",
            ],
        ] {
            let done = Command::new("softhsm2-util")
                .args(args)
                .env("SOFTHSM2_CONF", &conf)
                .output()
                .expect("softhsm2-util is installed");
            assert!(done.status.success(), "{done:?}");
        }
        // The old token is missed when its key is used.
        until(Duration::from_secs(10), "missed", || {
            sign(&token, &key.id, KeyKind::P256, b"x").err()
        });
        let new = until(Duration::from_secs(20), "the new token is found", || {
            let _ = token.probe();
            bench.hsm.open("test", &pin("5678")).ok()
        });
        assert_ne!(new.info().serial, token.info().serial);
        make(&new, KeyKind::P256);
        let gone = sign(&token, &key.id, KeyKind::P256, b"x").expect_err("gone");
        assert!(gone.is_transient(), "{gone}");
    });
}

fn test_with_folder(name: &str, body: impl FnOnce(&Bench, &Path)) {
    isolated(name, one, |folder| {
        let bench = Bench::load(&softhsm_module());
        body(&bench, folder);
        // A process that ends while a thread is in the module can crash there, in what libraries do at the end.
        bench.hsm.finish(Duration::from_secs(5));
    });
}

//! The suite on netlike, and what only a network HSM does.
#![allow(
    clippy::disallowed_methods,
    reason = "tests wait for real libraries with the real clock"
)]

mod suite;

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use cascade_hsm::{
    Event, Half, HsmError, KeyAlgorithm, KeyKind, ModuleError, Naming, NewPair, Settings, SignInput,
};
use suite::*;

const P256: KeyKind = KeyKind::P256;

/// The module, where cargo puts it when it builds this test.
fn module() -> PathBuf {
    let own = std::env::current_exe().expect("own path");
    own.with_file_name("libcascade_netlike.so")
}

fn setup(folder: &Path, slots: &str, manners: &str) -> Vec<(&'static str, String)> {
    let config = folder.join("netlike.toml");
    let text = format!(
        "store = '{0}/keys'\nlogin-log = '{0}/logins'\n{slots}\n[manners]\n{manners}\n",
        folder.display()
    );
    std::fs::write(&config, text).expect("own folder");
    vec![("NETLIKE_CONFIG", config.display().to_string())]
}

/// Two slots that show one device, as on the NetHSM page.
const TWICE: &str = "[[slot]]\n[[slot]]";

fn test(name: &str, manners: &str, body: impl FnOnce(&Bench, &Path)) {
    with(name, manners, Settings::new([3; 16]), body);
}

fn with(name: &str, manners: &str, settings: Settings, body: impl FnOnce(&Bench, &Path)) {
    isolated(
        name,
        |folder| setup(folder, TWICE, manners),
        |folder| body(&Bench::with(&module(), settings), folder),
    );
}

fn short(call_timeout_ms: u64) -> Settings {
    let mut settings = Settings::new([3; 16]);
    settings.call_timeout = Duration::from_millis(call_timeout_ms);
    settings
}

/// Changes the manners from now on.
fn control(folder: &Path, manners: &str) {
    let (new, path) = (folder.join("new"), folder.join("netlike.toml.control"));
    std::fs::write(&new, manners).expect("own folder");
    std::fs::rename(&new, &path).expect("own folder");
}

fn logins(folder: &Path) -> Vec<String> {
    let text = std::fs::read_to_string(folder.join("logins")).unwrap_or_default();
    text.lines().map(str::to_owned).collect()
}

#[test]
fn keys_sign() {
    test("keys_sign", "", |bench, _| {
        make_and_sign(&bench.open("0", "any"))
    });
}

#[test]
fn keys_come_and_go() {
    test("keys_come_and_go", "", |bench, _| {
        find_rename_destroy(&bench.open("0", "any"), false)
    });
}

#[test]
fn keys_come_and_go_with_labels() {
    let manners = "label-is-id = false\nlabels-read-only = false\nhalves-go-together = false";
    test("keys_come_and_go_with_labels", manners, |bench, _| {
        find_rename_destroy(&bench.open("LocalHSM", "any"), true);
    });
}

#[test]
fn batches() {
    test("batches", "", |bench, _| batch(&bench.open("0", "any")));
}

#[test]
fn restart() {
    let setup = |folder: &Path| setup(folder, TWICE, "");
    isolated("restart", setup, |_| {
        survives_restart(&module(), "0", "any")
    });
}

#[test]
fn logged_in_before() {
    test("logged_in_before", "", |bench, folder| {
        let token = bench.open("0", "no PIN of this device");
        make(&token, P256);
        let other = bench.open("LocalHSM", "another");
        assert_eq!(
            other.slot_id(),
            0,
            "two slots with one label and serial are one token"
        );
        make(&other, P256);
        assert_eq!(
            logins(folder),
            Vec::<String>::new(),
            "C_Login was never called"
        );
        assert!(bench.saw(|e| matches!(
            e,
            Event::Opened {
                by_module: true,
                ..
            }
        )));
    });
}

#[test]
fn different_tokens_of_one_label() {
    let slots = "[[slot]]\nserial = 'a'\n[[slot]]\nserial = 'b'";
    let setup = |folder: &Path| setup(folder, slots, "");
    isolated("different_tokens_of_one_label", setup, |_| {
        let bench = Bench::load(&module());
        let refused = bench
            .hsm
            .open("LocalHSM", &pin("x"))
            .err()
            .expect("two tokens");
        assert!(refused.to_string().contains("use the slot id"), "{refused}");
        assert_eq!(bench.open("1", "x").slot_id(), 1);
    });
}

#[test]
fn one_login_for_all_sessions() {
    test(
        "one_login_for_all_sessions",
        "logged-in = false\nlatency-us = 3000",
        |bench, folder| {
            assert!(bench.hsm.open("0", &pin("wrong")).is_err());
            assert!(bench.hsm.open("0", &pin("wrong")).is_err());
            assert_eq!(logins(folder), ["bad"], "a refused PIN is not tried again");
            let token = bench.open("0", "123456");
            batch(&token);
            assert!(token.stats().len() > 8, "{:?}", token.stats());
            assert!(bench.hsm.open("0", &pin("wrong")).is_err());
            assert_eq!(logins(folder), ["bad", "good"]);
            // The device forgets who is logged in.
            control(folder, "login-epoch = 1");
            batch(&token);
            assert_eq!(logins(folder), ["bad", "good", "good"]);
        },
    );
}

#[test]
fn no_login_at_all() {
    let manners = "logged-in = false\nlogin-required = false\nhalves-go-together = false";
    test("no_login_at_all", manners, |bench, folder| {
        let token = bench.open("0", "");
        find_rename_destroy(&token, false);
        let key = make(&token, P256);
        // Somebody else destroys it.
        for file in std::fs::read_dir(folder.join("keys"))
            .expect("the store")
            .flatten()
        {
            std::fs::remove_file(file.path()).expect("own file");
        }
        let manners = "login-required = false\nsession-epoch = 1\nstore-epoch = 1";
        control(folder, manners);
        let gone = until(Duration::from_secs(20), "missed", || {
            match sign(&token, &key.id, P256, b"x") {
                Err(error @ HsmError::NotFound { .. }) => Some(error),
                Err(error) if error.is_transient() => None,
                other => panic!("{other:?}"),
            }
        });
        assert!(gone.to_string().contains(key.id.as_str()), "{gone}");
        assert_eq!(logins(folder), Vec::<String>::new());
    });
}

#[test]
fn label_is_id() {
    test("label_is_id", "", |bench, folder| {
        let token = bench.open("0", "x");
        let want = |naming| NewPair {
            kind: P256,
            random: random(),
            naming,
        };
        let (private, public) = (
            "example.net-ksk-pri".to_owned(),
            "example.net-ksk-pub".to_owned(),
        );
        let auto = Naming::Auto {
            private: private.clone(),
            public: public.clone(),
        };
        let made = token.generate(&want(auto)).expect("makes a key");
        assert_eq!(made.id.as_str().len(), 40, "what the page shows");
        assert!(!made.labelled);
        assert!(!token.can_rename(), "it was tried");
        let name = "example.net-ksk-1f2e3d4c".to_owned();
        let at_creation = Naming::AtCreation {
            private,
            public,
            name: name.clone(),
        };
        let made = token
            .generate(&want(at_creation.clone()))
            .expect("makes a key");
        assert!(made.labelled);
        assert_eq!(made.id.octets(), name.as_bytes());
        assert_eq!(token.objects(Some(&name)).expect("lists").len(), 2);
        // What the page shows, and what the policy wants.
        let list = pkcs11_tool(&module(), &["--list-objects"]);
        assert_eq!(
            list.matches(&format!("label:      {name}")).count(),
            2,
            "{list}"
        );
        assert_eq!(list.matches("Private Key Object").count(), 2, "{list}");
        let signature = sign(&token, &made.id, P256, b"x").expect("signs");
        assert!(verifies(&made.public, b"x", &signature));
        // Another session, which has to find it.
        assert_eq!(
            token.object(&made.id, Half::Public).expect("found").id,
            made.id
        );
        control(folder, "session-epoch = 1");
        assert!(sign(&token, &made.id, P256, b"x").is_ok());
        let twice = token.generate(&want(at_creation));
        assert_eq!(twice, Err(HsmError::IdTaken(made.id)));
        assert_eq!(
            token.objects(None).expect("lists").len(),
            4,
            "nothing else is left"
        );
    });
}

#[test]
fn first_key_is_named_at_creation() {
    // The id is not the label here, yet labels cannot be changed.
    let manners = "label-is-id = false";
    test("first_key_is_named_at_creation", manners, |bench, _| {
        let token = bench.open("0", "x");
        let made = token
            .generate(&NewPair {
                kind: KeyKind::Ed25519,
                random: random(),
                naming: Naming::AtCreation {
                    private: "a".into(),
                    public: "b".into(),
                    name: "example.net-zsk-00000001".into(),
                },
            })
            .expect("makes a key");
        assert_eq!(made.id.octets(), b"example.net-zsk-00000001");
        assert_eq!(
            token.objects(None).expect("lists").len(),
            2,
            "what was tried is gone"
        );
    });
}

#[test]
fn templates_that_are_refused() {
    let manners = "refuses-extractable = true\ncurve-by-name = true";
    test("templates_that_are_refused", manners, |bench, _| {
        make_and_sign(&bench.open("0", "x"))
    });
}

#[test]
fn no_administrator() {
    test("no_administrator", "admin = false", |bench, _| {
        let token = bench.open("0", "x");
        let want = NewPair {
            kind: P256,
            random: random(),
            naming: Naming::Plain,
        };
        let refused = token.generate(&want).expect_err("nobody may make keys");
        assert!(
            refused.to_string().contains("administrator account"),
            "{refused}"
        );
    });
}

#[test]
fn one_odd_request_stops_no_other() {
    test(
        "one_odd_request_stops_no_other",
        "odd-about-rsa = true",
        |bench, _| {
            let token = bench.open("0", "x");
            let key = make(&token, P256);
            let want = NewPair {
                kind: KeyKind::Rsa { bits: 2048 },
                random: random(),
                naming: Naming::Plain,
            };
            let refused = token.generate(&want).expect_err("odd");
            assert!(matches!(refused, HsmError::Refused(_)), "{refused}");
            assert!(
                refused.to_string().contains("CKR_DEVICE_ERROR"),
                "{refused}"
            );
            assert!(token.away().is_none());
            assert!(sign(&token, &key.id, P256, b"x").is_ok());
        },
    );
}

#[test]
fn away_and_back() {
    let manners = "latency-us = 1000";
    test("away_and_back", manners, |bench, folder| {
        let token = bench.open("0", "x");
        let key = make(&token, P256);
        control(folder, "away = true\naway-after-ms = 300");
        let slow = Instant::now();
        let error = sign(&token, &key.id, P256, b"x").expect_err("away");
        assert!(matches!(error, HsmError::Unavailable(_)), "{error}");
        assert!(error.to_string().contains("CKR_DEVICE_REMOVED"), "{error}");
        assert!(slow.elapsed() >= Duration::from_millis(300));
        let quick = Instant::now();
        for _ in 0..100 {
            let error = sign(&token, &key.id, P256, b"x").expect_err("away");
            assert!(error.to_string().contains("tried again in"), "{error}");
        }
        assert!(
            quick.elapsed() < Duration::from_secs(15),
            "a hundred answers without a call: {:?}",
            quick.elapsed()
        );
        assert!(token.away().is_some());
        // A second probe fails, too.
        std::thread::sleep(Duration::from_millis(1100));
        assert!(sign(&token, &key.id, P256, b"x").is_err());
        control(folder, "");
        let back = Instant::now();
        let signature = until(Duration::from_secs(5), "back", || {
            sign(&token, &key.id, P256, b"x").ok()
        });
        assert!(
            back.elapsed() > Duration::from_secs(1),
            "not before the pause is over"
        );
        assert!(verifies(&key.public, b"x", &signature));
        batch(&token);
        assert!(token.away().is_none());
        assert!(bench.saw(|e| matches!(e, Event::Away { .. })));
        assert!(bench.saw(|e| matches!(e, Event::Back { .. })));
    });
}

#[test]
fn many_open_at_once() {
    test("many_open_at_once", "latency-us = 20000", |bench, _| {
        std::thread::scope(|scope| {
            for i in 0..32 {
                let name = ["0", "1", "LocalHSM"][i % 3];
                scope.spawn(move || make(&bench.open(name, "x"), P256));
            }
        });
    });
}

#[test]
fn away_from_the_start() {
    test("away_from_the_start", "away = true", |bench, folder| {
        let error = bench.hsm.open("LocalHSM", &pin("x")).err().expect("away");
        assert!(error.is_transient(), "{error}");
        let slots = bench.hsm.slots().expect("lists");
        assert!(slots.iter().all(|slot| slot.token.is_err()), "{slots:?}");
        control(folder, "away = false");
        make(&bench.open("LocalHSM", "x"), P256);
        // The other slot is gone, this one works.
        control(folder, "away = false\naway-slots = [1]");
        make(&bench.open("LocalHSM", "x"), P256);
        assert!(bench.hsm.open("1", &pin("x")).is_err());
    });
}

#[test]
fn hanging() {
    with("hanging", "", short(700), |bench, folder| {
        let token = bench.open("0", "x");
        let key = make(&token, P256);
        control(folder, "hang-ms = 12000");
        let start = Instant::now();
        let error = sign(&token, &key.id, P256, b"x").expect_err("hangs");
        assert!(error.to_string().contains("did not return"), "{error}");
        assert!(
            start.elapsed() < Duration::from_secs(11),
            "{:?}",
            start.elapsed()
        );
        let quick = Instant::now();
        for _ in 0..20 {
            assert!(sign(&token, &key.id, P256, b"x").is_err());
        }
        assert!(
            quick.elapsed() < 20 * Duration::from_millis(700) / 2,
            "twenty are answered at once, none of them after the time limit"
        );
        control(folder, "");
        let signature = until(Duration::from_secs(60), "recovers", || {
            sign(&token, &key.id, P256, b"x").ok()
        });
        assert!(verifies(&key.public, b"x", &signature));
        assert!(!bench.hsm.is_beyond_recovery());
        // Many at once count once, and a module that comes back does not hang.
        control(folder, "hang-ms = 1800");
        let inputs: Vec<SignInput> = (0..64).map(|_| input("x")).collect();
        let results = token.sign_batch(&key.id, mechanism(P256), &inputs);
        assert!(results.iter().all(Result::is_err));
        assert!(!bench.hsm.is_beyond_recovery());
        std::thread::sleep(Duration::from_millis(2200));
        for _ in 0..2 {
            let _ = sign(&token, &key.id, P256, b"x");
            std::thread::sleep(Duration::from_millis(2000));
        }
        assert!(!bench.hsm.is_beyond_recovery(), "slow, but it comes back");
        control(folder, "");
        until(Duration::from_secs(20), "recovers again", || {
            sign(&token, &key.id, P256, b"x").ok()
        });
        control(folder, "hang-ms = 60000");
        until(Duration::from_secs(60), "gives up", || {
            let _ = sign(&token, &key.id, P256, b"x");
            bench.hsm.is_beyond_recovery().then_some(())
        });
        assert!(bench.saw(|e| matches!(e, Event::Hung { in_a_row: 3, .. })));
    });
}

#[test]
fn all_sessions_hang() {
    with("all_sessions_hang", "", short(700), |bench, folder| {
        let token = bench.open("0", "x");
        let key = make(&token, P256);
        control(folder, "hang-ms = 60000");
        // As many as there can be: no session is left, and it is found out all the same.
        let inputs: Vec<SignInput> = (0..2 * cascade_hsm::MAX_SESSIONS)
            .map(|_| input("x"))
            .collect();
        let results = token.sign_batch(&key.id, mechanism(P256), &inputs);
        assert!(results.iter().all(Result::is_err));
        until(Duration::from_secs(40), "gives up", || {
            let _ = token.probe();
            bench.hsm.is_beyond_recovery().then_some(())
        });
    });
}

#[test]
fn sessions_that_break() {
    test("sessions_that_break", "stuck-after = 5", |bench, folder| {
        let token = bench.open("0", "x");
        let key = make(&token, P256);
        for i in 0..40 {
            let signature =
                sign(&token, &key.id, P256, b"x").unwrap_or_else(|e| panic!("{i}: {e}"));
            assert!(verifies(&key.public, b"x", &signature));
            if i % 10 == 0 {
                control(
                    folder,
                    &format!("stuck-after = 5\nsession-epoch = {}", i + 1),
                );
            }
        }
        make(&token, P256);
        control(folder, "session-epoch = 1000");
        make(&token, P256);
        assert!(!bench.saw(|e| matches!(e, Event::Away { .. })));
    });
}

#[test]
fn few_sessions() {
    let manners = "max-sessions = 3\nlatency-us = 2000";
    test("few_sessions", manners, |bench, _| {
        let token = bench.open("0", "x");
        batch(&token);
        assert_eq!(token.stats().len(), 3);
    });
}

/// The token claims more sessions than it gives.
#[test]
fn fewer_sessions_than_promised() {
    test(
        "fewer_sessions_than_promised",
        "latency-us = 2000",
        |bench, folder| {
            let token = bench.open("0", "x");
            control(folder, "max-sessions = 2\nlatency-us = 2000");
            batch(&token);
            assert!(token.stats().len() <= 2, "{:?}", token.stats());
        },
    );
}

#[test]
fn latency_is_shared() {
    test("latency_is_shared", "latency-us = 10000", |bench, _| {
        let token = bench.open("0", "x");
        let key = make(&token, P256);
        let inputs: Vec<SignInput> = (0..512).map(|i| input(&i.to_string())).collect();
        // Sessions are opened and find the key.
        token.sign_batch(&key.id, mechanism(P256), &inputs);
        let start = Instant::now();
        let results = token.sign_batch(&key.id, mechanism(P256), &inputs);
        let took = start.elapsed();
        assert!(results.iter().all(Result::is_ok));
        let rate = results.len() as f64 / took.as_secs_f64();
        println!(
            "{rate:.0} signatures/s over {} sessions",
            token.stats().len()
        );
        assert!(rate > 500.0, "one session makes 100: {rate:.0}");
    });
}

#[test]
fn lies_are_delivered() {
    test("lies_are_delivered", "lie-every = 10", |bench, _| {
        let token = bench.open("0", "x");
        let key = make(&token, P256);
        let inputs: Vec<SignInput> = (0..200).map(|_| input("x")).collect();
        let results = token.sign_batch(&key.id, mechanism(P256), &inputs);
        let wrong = results
            .iter()
            .filter(|r| !r.as_ref().is_ok_and(|s| verifies(&key.public, b"x", s)));
        assert_eq!(wrong.count(), 20, "whoever uses signatures verifies them");
    });
}

#[test]
fn instances_without_shared_keys() {
    let manners = "instances = 2\nsplit = 'missing'";
    test("instances_without_shared_keys", manners, |bench, _| {
        let token = bench.open("0", "x");
        // The instance that makes the key is not always the one that tells of it.
        let want = || NewPair {
            kind: P256,
            random: random(),
            naming: Naming::Plain,
        };
        let made = (0..20).find_map(|_| token.generate(&want()).ok());
        if let Some(made) = made {
            let results: Vec<_> = (0..20)
                .map(|_| sign(&token, &made.id, P256, b"x"))
                .collect();
            assert!(results.iter().any(Result::is_err), "{results:?}");
        }
        assert!(token.away().is_none(), "the device itself is there");
    });
}

#[test]
fn instances_with_different_keys() {
    let manners = "instances = 2\nsplit = 'different'";
    test("instances_with_different_keys", manners, |bench, _| {
        let token = bench.open("0", "x");
        let key = make(&token, P256);
        let inputs: Vec<SignInput> = (0..40).map(|_| input("x")).collect();
        let results = token.sign_batch(&key.id, mechanism(P256), &inputs);
        let good = results
            .iter()
            .filter(|r| r.as_ref().is_ok_and(|s| verifies(&key.public, b"x", s)))
            .count();
        // What an identity proof with several draws finds.
        assert!((1..40).contains(&good), "{good} of 40");
    });
}

#[test]
fn what_it_can_do() {
    test("what_it_can_do", "", |bench, _| {
        let algorithms = bench.open("0", "x").algorithms().expect("asks");
        assert_eq!(algorithms.len(), 5, "{algorithms:?}");
        assert!(!algorithms.contains(&KeyAlgorithm::Ed448));
    });
}

#[test]
fn module_without_configuration() {
    isolated(
        "module_without_configuration",
        |_| vec![],
        |_| {
            let clock = std::sync::Arc::new(Wall::new());
            let settings = Settings::new([3; 16]);
            let result =
                cascade_hsm::Hsm::load(&module(), settings, clock, std::sync::Arc::new(|_| {}));
            let error = result.err().expect("no configuration");
            assert!(matches!(error, ModuleError::Refused { .. }), "{error}");
            let text = error.to_string();
            assert!(
                text.contains("CKR_FUNCTION_FAILED") && text.contains("configuration"),
                "{text}"
            );
        },
    );
}

#[test]
fn more_callers_than_room() {
    let manners = "latency-us = 5000\nmax-sessions = 4";
    test("more_callers_than_room", manners, |bench, _| {
        crowd(&bench.open("0", "x"))
    });
}

#[test]
fn one_slot_away_delays_no_other() {
    let slots = "[[slot]]\nserial = 'a'\n[[slot]]\nserial = 'b'";
    let setup = |folder: &Path| setup(folder, slots, "");
    isolated("one_slot_away_delays_no_other", setup, |folder| {
        let bench = Bench::load(&module());
        let (good, bad) = (bench.open("0", "x"), bench.open("1", "x"));
        let key = make(&good, P256);
        control(folder, "away-slots = [1]\naway-after-ms = 8000");
        let waits = std::thread::spawn(move || {
            let start = Instant::now();
            assert!(bad.probe().is_err());
            start.elapsed()
        });
        std::thread::sleep(Duration::from_millis(200));
        let start = Instant::now();
        for _ in 0..50 {
            assert!(sign(&good, &key.id, P256, b"x").is_ok());
            assert!(bench.hsm.open("0", &pin("x")).is_ok());
        }
        assert!(
            start.elapsed() < Duration::from_secs(7),
            "{:?}",
            start.elapsed()
        );
        assert!(waits.join().expect("came back") >= Duration::from_secs(8));
        assert!(good.away().is_none());
    });
}

#[test]
fn a_silent_slot_hides_no_other() {
    let slots = "[[slot]]\nserial = 'a'\n[[slot]]\nserial = 'b'";
    let manners = "away-slots = [1]\naway-after-ms = 20000";
    let setup = |folder: &Path| setup(folder, slots, manners);
    isolated("a_silent_slot_hides_no_other", setup, |_| {
        let bench = Bench::with(&module(), short(8000));
        let token = bench.open("0", "x");
        make(&token, P256);
        let start = Instant::now();
        let slots = bench.hsm.slots().expect("lists");
        assert!(
            start.elapsed() < Duration::from_secs(7),
            "{:?}",
            start.elapsed()
        );
        assert!(slots[0].token.is_ok(), "{slots:?}");
        let why = slots[1].token.as_ref().expect_err("silent");
        assert!(why.contains("earlier question"), "{why}");
        let error = bench.hsm.open("1", &pin("x")).err().expect("silent");
        assert!(error.is_transient(), "{error}");
    });
}

#[test]
fn the_end() {
    test(
        "the_end",
        "latency-us = 100000\nmax-sessions = 2",
        |bench, _| {
            let token = bench.open("0", "x");
            let key = make(&token, P256);
            let (tell, answers) = std::sync::mpsc::channel();
            for _ in 0..50 {
                let tell = tell.clone();
                token.sign_then(&key.id, mechanism(P256), &input("x"), move |result| {
                    tell.send(result).expect("somebody waits");
                });
            }
            std::thread::sleep(Duration::from_millis(50));
            bench.hsm.finish(Duration::from_secs(5));
            let results: Vec<_> = (0..50)
                .map(|_| answers.recv().expect("every one"))
                .collect();
            let good = results.iter().filter(|r| r.is_ok()).count();
            assert!(
                (1..50).contains(&good),
                "what was under way came to its end: {good}"
            );
            let refused = results.into_iter().filter_map(Result::err);
            for error in refused {
                assert!(error.to_string().contains("shut down"), "{error}");
            }
            let after = sign(&token, &key.id, P256, b"x").expect_err("finished");
            assert!(after.is_transient(), "{after}");
        },
    );
}

/// How much of a signature's time is ours. Prints; fails only if it is absurd.
#[test]
fn null_token() {
    test("null_token", "null-token = true", |bench, _| {
        let token = bench.open("0", "x");
        let key = make(&token, P256);
        let inputs: Vec<SignInput> = (0..20_000)
            .map(|i| SignInput::Digest(vec![i as u8; 32]))
            .collect();
        let start = Instant::now();
        let results = token.sign_batch(&key.id, mechanism(P256), &inputs);
        let rate = inputs.len() as f64 / start.elapsed().as_secs_f64();
        assert!(results.iter().all(Result::is_ok));
        let start = Instant::now();
        for input in &inputs[..2000] {
            token.sign(&key.id, mechanism(P256), input).expect("signs");
        }
        let one = start.elapsed() / 2000;
        println!("null token: {rate:.0} signatures/s in batches, {one:?} one by one");
        assert!(rate > 2_000.0);
    });
}

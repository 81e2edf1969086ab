//! Secrets are planted wherever the daemon has one, and looked for in everything that it shows:
//! log, answers, errors, history, audit log, hooks, command lines, files that others could read.
//! The daemon runs without a umask, so that its files have the modes that it asks for.

mod planted;

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::time::Duration;

use cascade_e2e::bridge::LABEL;
use cascade_e2e::{Bridge, Said, over_tcp, until};
use nix::sys::signal::Signal;
use serde_json::{Value, json};

use super::{World, ZONE};
use crate::common::{SEED, seed_with_serial};
use planted::{Planted, Watch};

const OTHER: &str = "other.test";
const IN_HSM: &str = "hsm.test";
const HSM: &str = "token1";

const PIN: &str = "pin-Zk3vQ8wYt1Lx";
const WRONG_PIN: &str = "pin-H7rNc2WmPq5s";
const PASSWORD: &str = "password-uT6yJd9KfB4e";
const WRONG_TOKEN: &str = "csk_Gq0pVx8LzR2mWb5nYd7c";
const SURROUNDINGS: &str = "surroundings-aM1sXo6PhE3i";
/// 32 octets, and others of a length that no algorithm has.
const TSIG: &str = "tsig-secret-Bw4kTj7QnUv2Zr9LgCx5";
const BAD_TSIG: &str = "tsig-Dy8h!";
const PEM: &str = "pem-Ns5xIe0VaKo3tRl7pMz1";

struct Story {
    world: World,
    planted: Planted,
    shown: Vec<(String, String)>,
}

impl Story {
    fn show(&mut self, what: &str, text: impl Into<String>) {
        self.shown.push((what.to_owned(), text.into()));
    }

    /// A command; whatever it ends with, nothing secret is in what it says.
    fn say(&mut self, args: &[&str]) -> Said {
        let said = self.world.site.cascade(args);
        self.show(&args.join(" "), format!("{}\n{}", said.stdout, said.stderr));
        let changes = ["add", "create", "remove", "import", "edit"];
        if !args.get(1).is_some_and(|word| changes.contains(word)) {
            let json = self.world.site.cascade(&[args, &["--json"]].concat());
            self.show(&args.join(" "), format!("{}\n{}", json.stdout, json.stderr));
        }
        said
    }

    fn call(&mut self, method: &str, path: &str, body: Option<&str>) -> Value {
        let reply = self.world.site.request(method, path, body).unwrap();
        self.show(&format!("{method} {path}"), format!("{reply:?}"));
        reply.json()
    }

    /// A file that only its owner may read, and that the search leaves out.
    fn secret_file(&self, name: &str, text: &str) -> String {
        let path = self.world.site.write(&format!("secret-{name}"), text);
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        path.to_str().unwrap().to_owned()
    }

    fn add_zone(&mut self, zone: &str, policy: &str, more: &[&str]) -> Said {
        let text = SEED.replace("example.net", zone);
        let file = self.world.site.write(&format!("zones/{zone}"), &text);
        let add = ["zone", "add", zone, "--policy", policy, "--source"];
        self.say(&[&add[..], &[file.to_str().unwrap()], more].concat())
    }

    /// A TSIG key, a wrong one, tokens, and calls with what does not exist.
    fn credentials(&mut self) {
        let file = self.secret_file("tsig", &data_encoding::BASE64.encode(TSIG.as_bytes()));
        self.say(&["tsig", "add", "transfer", "hmac-sha256", &file])
            .expect(0);
        let bad = self.secret_file("bad-tsig", BAD_TSIG);
        self.say(&["tsig", "add", "bad", "hmac-sha256", &bad])
            .expect(1);
        self.say(&["tsig", "list"]);
        for body in [
            json!({"name": "bad.", "algorithm": "hmac-sha256", "secret": BAD_TSIG}).to_string(),
            json!({"name": "bad.", "algorithm": "none", "secret": TSIG}).to_string(),
            json!({"name": "bad.", "secret": [TSIG]}).to_string(),
            json!({"name": "bad.", "secret": TSIG, "more": 1}).to_string(),
            format!("{{\"name\":\"bad.\",\"secret\":\"{TSIG}\""),
            format!("{{\"name\":\"bad.\",\"secret\":{TSIG}}}"),
        ] {
            let answer = self.call("POST", "/v1/tsig-keys", Some(&body));
            assert!(answer["status"].as_u64().unwrap_or(0) >= 400, "{answer}");
        }
        let made = self
            .world
            .site
            .ok(&["token", "add", "bob", "--role", "viewer"]);
        let token = made.trim().to_owned();
        self.planted.plant("a token", token.as_bytes());
        let file = self.secret_file("token", &token);
        let server = format!("127.0.0.1:{}", self.world.site.http_port());
        let bob = ["--server", &server, "--token-file", &file];
        self.say(&[&["zone", "list"], &bob[..]].concat()).expect(0);
        self.say(&[&["zone", "remove", ZONE, "--yes"], &bob[..]].concat())
            .expect(4);
        fs::set_permissions(&file, fs::Permissions::from_mode(0o644)).unwrap();
        self.say(&[&["zone", "list"], &bob[..]].concat());
        fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).unwrap();
        for value in [
            format!("Bearer {WRONG_TOKEN}"),
            format!("Basic {WRONG_TOKEN}"),
        ] {
            let port = self.world.site.http_port();
            let reply = over_tcp(
                port,
                "GET",
                "/v1/tokens",
                &[("authorization", &value)],
                None,
            );
            self.show("a wrong token", format!("{:?}", reply.unwrap()));
        }
        self.say(&["token", "list"]);
    }

    /// Keys on a token behind a bridge of the daemon's own, and an HSM that nobody runs.
    fn hsms(&mut self, token: &Bridge) {
        let pin = self.secret_file("pin", &format!("{PIN}\n"));
        let wrong = self.secret_file("wrong-pin", &format!("{WRONG_PIN}\n"));
        let (module, env) = (token.module().to_str().unwrap(), token.module_env());
        let add = |pin: &str| {
            let managed = ["--pkcs11-module", module, "--module-env", &env];
            let login = ["--token", LABEL, "--pin-file", pin, HSM];
            [&["hsm", "add"], &managed[..], &login[..]]
                .concat()
                .into_iter()
                .map(str::to_owned)
                .collect::<Vec<_>>()
        };
        for (pin, code) in [(&wrong, None), (&pin, Some(0))] {
            let args = add(pin);
            let args: Vec<&str> = args.iter().map(String::as_str).collect();
            let said = self.say(&args);
            assert!(code.is_none() || said.code == code, "{said}");
            if code.is_none() {
                self.say(&["hsm", "remove", HSM, "--yes"]);
            }
        }
        self.world.site.policy(
            "hsm",
            &format!("[key-manager.generation]\nhsm-server-id = \"{HSM}\"\n"),
        );
        self.world.site.ok(&["policy", "reload", "--yes"]);
        self.add_zone(IN_HSM, "hsm", &[]).expect(0);
        self.world.site.await_published(IN_HSM, 1);
        for args in [
            &["hsm", "list"][..],
            &["hsm", "show", HSM],
            &["hsm", "test", HSM],
            &["hsm", "inventory", HSM],
        ] {
            self.say(args);
        }
        let shown = self.world.site.json(&["hsm", "show", HSM]);
        let pid = shown["managed"]["pid"].as_u64().expect("a bridge runs");
        for file in ["cmdline", "environ"] {
            let octets = fs::read(format!("/proc/{pid}/{file}")).unwrap();
            let text = String::from_utf8_lossy(&octets).into_owned();
            // What the operator gave the daemon for its surroundings is not the daemon's to hide.
            self.show(
                &format!("{file} of the bridge"),
                text.replace(SURROUNDINGS, ""),
            );
        }
        self.say(&["hsm", "edit", HSM, "--pin-file", &wrong]);
        self.say(&["hsm", "edit", HSM, "--pin-file", &pin]);

        let password = self.secret_file("password", &format!("{PASSWORD}\n"));
        let other = [
            "--username",
            "u",
            "--password-file",
            &password,
            "--insecure",
            "--port",
            "9",
        ];
        self.say(&[&["hsm", "add"], &other[..], &["vault", "127.0.0.1"]].concat())
            .expect(1);
        let args = [
            &["hsm", "add", "--no-connect"],
            &other[..],
            &["vault", "127.0.0.1"],
        ]
        .concat();
        self.say(&args).expect(0);
        for args in [
            &["hsm", "show", "vault"][..],
            &["hsm", "test", "vault"],
            &["hsm", "inventory", "vault"],
        ] {
            self.say(args);
        }
        for body in [
            json!({"id": "x", "host": "127.0.0.1", "username": "u", "password": [PASSWORD]}),
            json!({"id": "x", "host": "127.0.0.1", "auth": {"username": 1, "password": PASSWORD}}),
            json!({"id": "x", "password": PASSWORD, "nothing": 1}),
            json!({"id": "x", "managed": {"pin": PIN, "module": 7}}),
        ] {
            self.call("POST", "/v1/hsms", Some(&body.to_string()));
            self.call("PATCH", "/v1/hsms/vault", Some(&body.to_string()));
        }
        self.say(&["hsm", "remove", "vault", "--yes"]);
    }

    /// Key files: imported, damaged, moved to the trash, backed up.
    fn key_files(&mut self) {
        let planted = self.planted.key_files(&self.world.site.path("state/keys"));
        assert!(planted >= 4, "{planted} private keys");
        // A pair of which the private half was cut off, or says something else.
        let pair = planted::a_private_file(&self.world.site.path("state/keys"));
        let text = fs::read_to_string(&pair).unwrap();
        let public = fs::read_to_string(pair.with_extension("key")).unwrap();
        for (n, damage) in [
            text.replace("PrivateKey: ", "PrivateKey: !"),
            text.replace("PrivateKey: ", "PrivateKey "),
            text.replace("Algorithm: 13", "Algorithm: 15"),
            text[..text.len().saturating_sub(30)].to_owned(),
            text.replace("v1.3", "v9"),
        ]
        .into_iter()
        .enumerate()
        {
            let name = pair.file_stem().unwrap().to_str().unwrap();
            fs::create_dir_all(self.world.site.path(&format!("secret-import-{n}"))).unwrap();
            let place = format!("secret-import-{n}/{name}");
            self.world.site.write(&format!("{place}.key"), &public);
            let private = self.world.site.write(&format!("{place}.private"), &damage);
            let private = private.to_str().unwrap();
            self.say(&["keyset", ZONE, "import", "--import-ksk-file", private])
                .expect(1);
            let more = ["--import-ksk-file", private];
            let said = self.add_zone("imported.test", "parent", &more);
            assert_ne!(said.code, Some(0), "{said}");
        }
        self.say(&["backup", "create", "--name", "b1"]).expect(0);
        let backup = self.world.site.path("state/backup/b1");
        let backup = backup.to_str().unwrap().to_owned();
        self.say(&["backup", "verify", &backup]).expect(0);
        fs::write(&pair, text.replace("PrivateKey: ", "PrivateKey: !")).unwrap();
        self.say(&["backup", "create", "--name", "b2"]);
        // Loaded again: the damaged half is told, its octets are not.
        self.restart();
        self.say(&["zone", "resign", OTHER]);
        self.say(&["zone", "reload", OTHER]);
        self.say(&["health"]);
        fs::write(&pair, text).unwrap();
        self.restart();
    }

    fn restart(&mut self) {
        let now = self.world.site.now();
        self.world.site.stop();
        self.world.site.begin_at(now);
        self.world.site.start();
    }

    /// A certificate's key that cannot be read as one.
    fn broken_tls(&mut self) {
        let body = data_encoding::BASE64.encode(PEM.as_bytes());
        let pem = format!("-----BEGIN PRIVATE KEY-----\n{body}\n-----END PRIVATE KEY-----\n");
        let key = self.secret_file("tls.key", &pem);
        let config = fs::read_to_string(self.world.site.path("config.toml")).unwrap();
        let more = format!(
            "\n[server.tls]\nservers = [\"127.0.0.1:0\"]\ncert-path = \"{key}\"\nkey-path = \"{key}\"\n"
        );
        let broken = self
            .world
            .site
            .write("broken.toml", &format!("{config}{more}"));
        let said =
            self.world
                .site
                .cascaded(&["--config", broken.to_str().unwrap(), "--check-config"]);
        self.show("--check-config", format!("{}{}", said.stdout, said.stderr));
        self.world
            .site
            .write("config.toml", &format!("{config}{more}"));
        self.world.site.signal(Signal::SIGHUP);
        until("the configuration is read again", || {
            self.world.site.log().contains("server.tls").then_some(())
        });
        self.world.site.write("config.toml", &config);
        self.world.site.signal(Signal::SIGHUP);
        self.world.site.signal(Signal::SIGUSR1);
    }

    /// Everything that can be asked for.
    fn ask_for_everything(&mut self) {
        let listed = self.call("GET", "/v1/openapi.json", None);
        let paths = listed["paths"].as_object().expect("paths").clone();
        let mut asked = 0;
        for zone in [ZONE, OTHER, IN_HSM, "test"] {
            let keys = self.call("GET", &format!("/v1/zones/{zone}/keys"), None);
            let key = keys["items"][0]["id"].as_str().unwrap_or("k1").to_owned();
            for (path, methods) in &paths {
                if methods.get("get").is_none() {
                    continue;
                }
                for kind in ["ds", "dnskey", "cds", "cdnskey"] {
                    if kind != "ds" && !path.contains("{type}") {
                        continue;
                    }
                    let path = [
                        ("{z}", zone),
                        ("{k}", &key),
                        ("{v}", "1"),
                        ("{p}", "child"),
                        ("{h}", HSM),
                        ("{n}", "transfer"),
                        ("{id}", "1"),
                        ("{type}", kind),
                    ]
                    .into_iter()
                    .fold(path.clone(), |p, (from, to)| p.replace(from, to));
                    assert!(!path.contains('{'), "{path}");
                    self.call("GET", &path, None);
                    asked += 1;
                }
            }
            for args in [
                &["zone", "show", zone][..],
                &["zone", "status", zone, "--detailed"],
                &["zone", "why", zone],
                &["zone", "history", zone],
                &["zone", "timeline", zone],
                &["keyset", zone, "list"],
                &["keyset", zone, "get", "dnskey"],
                &["keyset", zone, "remove-key", "k1"],
                &["keyset", zone, "emergency", "zsk"],
            ] {
                self.say(args);
            }
        }
        assert!(asked > 100, "{asked}");
        for args in [
            &["status", "keys"][..],
            &["status", "show"],
            &["policy", "list"],
            &["policy", "show", "child"],
            &["policy", "plan"],
        ] {
            self.say(args);
        }
    }
}

#[test]
fn nothing_secret_is_shown_to_anybody() {
    let Some(token) = Bridge::softhsm_token_with(PIN) else {
        return;
    };
    let mut world = World::new("");
    world.site.stop();
    let config = world.site.config();
    world.site.write(
        "config.toml",
        &format!("{config}\n[daemon]\nlog-level = \"trace\"\n"),
    );
    let surroundings = format!("umask 0\nexport SURROUNDINGS={SURROUNDINGS}");
    world.site.begin_after(&surroundings);
    world.site.start();
    let mut planted = Planted::default();
    for (name, text) in [
        ("the PIN", PIN),
        ("a wrong PIN", WRONG_PIN),
        ("a password", PASSWORD),
        ("a wrong token", WRONG_TOKEN),
        ("the surroundings", SURROUNDINGS),
        ("a TSIG secret", TSIG),
        ("what is no TSIG secret", BAD_TSIG),
        ("a key in PEM", PEM),
    ] {
        planted.plant(name, text.as_bytes());
    }
    let watch = Watch::begin(&world.site.path("state"), &planted);
    let mut story = Story {
        world,
        planted,
        shown: Vec::new(),
    };
    story.add_zone(OTHER, "parent", &[]).expect(0);
    story.world.site.await_published(OTHER, 1);
    story.credentials();
    story.hsms(&token);
    told_by_hook(&mut story);
    story.key_files();
    story.broken_tls();
    story.ask_for_everything();
    let file = story.world.site.path(&format!("zones/{OTHER}"));
    fs::write(&file, seed_with_serial(2).replace("example.net", OTHER)).unwrap();
    story.say(&["zone", "reload", OTHER]);
    story.world.site.await_published(OTHER, 2);
    story.say(&["zone", "remove", OTHER, "--yes"]);

    let log = story.world.site.log();
    assert!(log.contains(" debug "), "the log says little");
    story.show("the log", log);
    story
        .planted
        .key_files(&story.world.site.path("state/keys"));
    for (what, text) in &story.shown {
        story.planted.must_not_be_in(what, text.as_bytes());
    }
    story.planted.must_be_private(story.world.site.folder());
    assert_eq!(watch.end(), Vec::<String>::new());
}

/// The hook that tells the parent gets what it needs and nothing of the daemon's surroundings.
fn told_by_hook(story: &mut Story) {
    let told = story.world.site.path("told");
    let script = format!(
        "env >> {0}\ntr '\\0' ' ' < /proc/$$/cmdline >> {0}\necho done >> {0}\n",
        told.display()
    );
    let hook = story.world.site.script("tell", &script);
    let line = format!("hook = \"{}\"\n", hook.display());
    story.world.child_policy_with("", &line);
    story.world.site.ok(&["policy", "reload", "--yes"]);
    let text = |told: &std::path::Path| fs::read_to_string(told).unwrap_or_default();
    let at = told.clone();
    story
        .world
        .drive("the hook is run", Duration::from_secs(7200), move |_| {
            text(&at).contains("done")
        });
    let said = text(&told);
    assert!(said.contains("CASCADE_DS_ADD="), "{said}");
    story.show("what the hook gets", said);
}

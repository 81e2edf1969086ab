//! Transfers over TLS (RFC 9103), both ways, with BIND and NSD at the other end.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use cascade_e2e::{Ports, Site, dig, until, within};
use nix::sys::signal::Signal;
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use sha2::Digest;

use crate::common::{SEED, add, seed_with_serial};

const ZONE: &str = "example.net";
const NAME: &str = "ns1.cascade.test";

/// An authority and what it certified, as files.
struct Certificates {
    folder: PathBuf,
    issuer: Issuer<'static, KeyPair>,
}

impl Certificates {
    fn new(folder: &Path) -> Certificates {
        let folder = folder.join("tls");
        fs::create_dir_all(&folder).unwrap();
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        common_name(&mut params, "authority");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().unwrap();
        let made = params.self_signed(&key).unwrap();
        fs::write(folder.join("ca.crt"), made.pem()).unwrap();
        Certificates {
            folder,
            issuer: Issuer::new(params, key),
        }
    }

    /// Certificate and key for this name in `<file>.crt` and `.key`; gives the pin of the key.
    fn make(&self, file: &str, name: &str, good_until: i32) -> String {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(vec![name.into()]).unwrap();
        common_name(&mut params, name);
        params.not_before = rcgen::date_time_ymd(2020, 1, 1);
        params.not_after = rcgen::date_time_ymd(good_until, 1, 1);
        let made = params.signed_by(&key, &self.issuer).unwrap();
        fs::write(self.folder.join(format!("{file}.crt")), made.pem()).unwrap();
        let secret = self.folder.join(format!("{file}.key"));
        fs::write(&secret, key.serialize_pem()).unwrap();
        use std::os::unix::fs::PermissionsExt;
        fs::set_permissions(&secret, fs::Permissions::from_mode(0o600)).unwrap();
        let spki = rcgen::PublicKeyData::subject_public_key_info(&key);
        data_encoding::BASE64.encode(&sha2::Sha256::digest(spki))
    }

    fn file(&self, name: &str) -> String {
        self.folder.join(name).display().to_string()
    }
}

/// A subject that is not its issuer's.
fn common_name(params: &mut CertificateParams, name: &str) {
    let names = &mut params.distinguished_name;
    *names = rcgen::DistinguishedName::new();
    names.push(rcgen::DnType::CommonName, name);
}

/// A foreign server; ends when dropped.
struct Server(Child, PathBuf);

impl Server {
    /// `None` when the program is not installed.
    fn start(program: &str, args: &[&str], folder: &Path, config: &str) -> Option<Server> {
        let path = Path::new("/usr/sbin").join(program);
        if !path.exists() {
            // `cargo xtask test` tells, and fails where nobody watches.
            eprintln!("{program} is not installed");
            return None;
        }
        fs::create_dir_all(folder).unwrap();
        fs::write(folder.join("conf"), config).unwrap();
        let log = fs::File::create(folder.join("log")).unwrap();
        let child = Command::new(path)
            .args(args)
            .current_dir(folder)
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn()
            .unwrap();
        Some(Server(child, folder.join("log")))
    }

    fn log(&self) -> String {
        fs::read_to_string(&self.1).unwrap_or_default()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let pid = nix::unistd::Pid::from_raw(i32::try_from(self.0.id()).unwrap());
        let _ = nix::sys::signal::kill(pid, Signal::SIGTERM);
        if within(Duration::from_secs(10), || self.0.try_wait().ok()?).is_none() {
            let _ = self.0.kill();
            let _ = self.0.wait();
        }
    }
}

fn named(folder: &Path, config: &str) -> Option<Server> {
    let place = folder.display();
    let text = format!(
        "options {{ directory \"{place}\"; listen-on-v6 {{ none; }}; pid-file \"{place}/pid\"; \
         session-keyfile \"{place}/session\"; recursion no; notify no; dnssec-validation no; \
         minimal-responses yes;\n{config}"
    );
    Server::start("named", &["-g", "-n", "1", "-c", "conf"], folder, &text)
}

/// A site that publishes over TLS with `server.crt`, and believes `ca.crt`.
fn site(certificates: impl FnOnce(&Certificates)) -> (Site, Certificates, Ports) {
    let mut site = Site::new();
    let made = Certificates::new(site.folder());
    made.make("server", NAME, 2120);
    certificates(&made);
    let ports = Ports::take(1);
    let more = format!(
        "[server.tls]\nservers = [\"127.0.0.1:{}\"]\ncert-path = \"{}\"\nkey-path = \"{}\"\n\
         client-ca-path = \"{}\"\n[loader.tls]\nca-path = \"{}\"\n",
        ports.get(0),
        made.file("server.crt"),
        made.file("server.key"),
        made.file("ca.crt"),
        made.file("ca.crt"),
    );
    site.write("config.toml", &format!("{}{more}", site.config()));
    site.start();
    (site, made, ports)
}

fn policy(site: &Site, lines: &str) {
    site.policy("p", lines);
    site.ok(&["policy", "reload"]);
}

/// What kdig says of a question over TLS to a server of this name.
fn kdig(port: u16, ca: &str, name: &str, more: &[&str]) -> String {
    let (port, ca) = (port.to_string(), format!("+tls-ca={ca}"));
    let host = format!("+tls-hostname={name}");
    let out = Command::new("kdig")
        .args(["@127.0.0.1", "-p", &port, "+tls", &ca, &host, "+retry=0"])
        .args(more)
        .output()
        .unwrap();
    let said = [&out.stdout[..], &out.stderr[..]].concat();
    String::from_utf8_lossy(&said).into_owned()
}

#[test]
fn secondaries_over_tls() {
    let (site, made, ports) = site(|c| {
        c.make("secondary", "ns2.example", 2120);
    });
    policy(
        &site,
        "[server.outbound]\ntls = \"required\"\nprovide-xfr-to = [\"127.0.0.1\"]\nmax-diffs-size = 100\n",
    );
    add(&site, ZONE, SEED);
    site.await_published(ZONE, 1);
    let serial = site.served_serial(ZONE);

    let refused = dig(site.publication_port(), &[ZONE, "AXFR"]);
    assert!(!refused.text.contains("DNSKEY"), "{}", refused.text);
    let (ca, port) = (made.file("ca.crt"), ports.get(0));
    let whole = kdig(port, &ca, NAME, &[ZONE, "AXFR"]);
    assert!(
        whole.contains("DNSKEY") && whole.contains("RRSIG"),
        "{whole}"
    );
    let one = kdig(port, &ca, NAME, &[ZONE, "SOA", "+padding=128"]);
    // RFC 8467: answers in blocks of 468 octets.
    assert!(
        one.contains("(TLS1.3)") && one.contains("Received 468 B"),
        "{one}"
    );
    let other = kdig(port, &ca, "other.test", &[ZONE, "SOA"]);
    assert!(!other.contains("NOERROR"), "{other}");

    let folder = site.path("bind");
    let listen = Ports::take(2);
    let bind = named(
        &folder,
        &format!(
            "listen-on port {} {{ 127.0.0.1; }}; }};\ncontrols {{ }};\n\
             tls cascade {{ ca-file \"{ca}\"; remote-hostname \"{NAME}\"; }};\n\
             zone \"{ZONE}\" {{ type secondary; primaries {{ 127.0.0.1 port {port} tls cascade; }}; \
             file \"zone\"; masterfile-format text; }};\n",
            listen.get(0)
        ),
    );
    let place = site.path("nsd");
    let shown = place.display();
    let nsd = Server::start(
        "nsd",
        &["-d", "-c", "conf"],
        &place,
        &format!(
            "server:\n  ip-address: 127.0.0.1@{}\n  username: \"\"\n  chroot: \"\"\n  \
             zonesdir: \"{shown}\"\n  pidfile: \"{shown}/pid\"\n  database: \"\"\n  \
             xfrdfile: \"{shown}/xfrd\"\n  xfrdir: \"{shown}\"\n  zonelistfile: \"{shown}/zones\"\n  \
             server-count: 1\n  tls-cert-bundle: \"{ca}\"\nremote-control:\n  control-enable: no\n\
             tls-auth:\n  name: \"cascade\"\n  auth-domain-name: \"{NAME}\"\n\
             zone:\n  name: \"{ZONE}\"\n  zonefile: \"zone\"\n  \
             request-xfr: AXFR 127.0.0.1@{port} NOKEY cascade\n",
            listen.get(1)
        ),
    );
    for (server, port) in [(&bind, listen.get(0)), (&nsd, listen.get(1))] {
        let Some(server) = server else { continue };
        let got = within(cascade_e2e::PATIENCE, || {
            (dig(port, &[ZONE, "SOA"]).serial() == Some(serial)).then_some(())
        });
        assert!(got.is_some(), "{}\n{}", server.log(), site.log());
    }
    let metrics = site.request("GET", "/metrics", None).unwrap().body;
    assert!(metrics.contains("transport=\"tls\""), "{metrics}");

    // A name of a client's certificate is as good as an address.
    policy(
        &site,
        "[server.outbound]\ntls = \"allowed\"\nprovide-xfr-to = [\"tls:ns2.example\"]\n",
    );
    let stranger = kdig(port, &ca, NAME, &[ZONE, "AXFR"]);
    assert!(!stranger.contains("DNSKEY"), "{stranger}");
    let certificate = format!("+tls-certfile={}", made.file("secondary.crt"));
    let key = format!("+tls-keyfile={}", made.file("secondary.key"));
    let known = kdig(port, &ca, NAME, &[&certificate, &key, ZONE, "AXFR"]);
    assert!(known.contains("DNSKEY"), "{known}");
    policy(
        &site,
        "[server.outbound]\nprovide-xfr-to = [\"127.0.0.1\"]\n",
    );
    let off = kdig(port, &ca, NAME, &[ZONE, "AXFR"]);
    assert!(!off.contains("DNSKEY"), "{off}");
}

#[test]
fn a_renewed_certificate_is_taken_over_and_a_broken_one_is_not() {
    let (site, made, ports) = site(|_| {});
    policy(&site, "");
    add(&site, ZONE, SEED);
    site.await_published(ZONE, 1);
    let (ca, port) = (made.file("ca.crt"), ports.get(0));
    let good = |name: &str| kdig(port, &ca, name, &[ZONE, "SOA"]).contains("NOERROR");
    assert!(good(NAME));
    made.make("server", "ns9.cascade.test", 2120);
    assert!(good(NAME), "not before it is asked for");
    site.signal(Signal::SIGHUP);
    until("the new certificate", || {
        good("ns9.cascade.test").then_some(())
    });
    assert!(!good(NAME));
    fs::write(made.file("server.crt"), "nothing").unwrap();
    site.signal(Signal::SIGHUP);
    until("the complaint", || {
        site.log().contains("no certificate in PEM").then_some(())
    });
    assert!(good("ns9.cascade.test"));
    let said = site.cascaded(&[
        "--check-config",
        "--config",
        site.path("config.toml").to_str().unwrap(),
    ]);
    assert!(said.stderr.contains("server.tls.cert-path"), "{said}");
}

#[test]
fn primaries_over_tls() {
    let mut pin = String::new();
    let (site, made, _ports) = site(|c| {
        pin = c.make("primary", "ns1.primary.test", 2120);
        c.make("expired", "ns1.primary.test", 2021);
    });
    policy(&site, "");
    let folder = site.path("bind");
    let listen = Ports::take(3);
    fs::create_dir_all(&folder).unwrap();
    fs::write(folder.join("zone"), SEED).unwrap();
    let files = |name: &str| {
        format!(
            "tls {name} {{ cert-file \"{}\"; key-file \"{}\"; protocols {{ TLSv1.3; }}; }};\n",
            made.file(&format!("{name}.crt")),
            made.file(&format!("{name}.key"))
        )
    };
    let config = format!(
        "listen-on port {} {{ 127.0.0.1; }}; listen-on port {} tls primary {{ 127.0.0.1; }}; \
         listen-on port {} tls expired {{ 127.0.0.1; }}; allow-transfer {{ any; }}; \
         ixfr-from-differences yes; }};\ncontrols {{ }};\n{}{}\
         zone \"{ZONE}\" {{ type primary; file \"zone\"; check-integrity no; }};\n",
        listen.get(0),
        listen.get(1),
        listen.get(2),
        files("primary"),
        files("expired"),
    );
    let Some(bind) = named(&folder, &config) else {
        return;
    };
    until("named", || dig(listen.get(0), &[ZONE, "SOA"]).serial());
    let source = |port: u16, who: &str| format!("tls:127.0.0.1:{port}#{who}");
    let good = listen.get(1);
    let wrong_pin = data_encoding::BASE64.encode(&[0; 32]);
    let shown = format!("its key has pin-sha256={pin}");
    let cases = [
        (
            source(good, "ns2.primary.test"),
            "its certificate is not for the name ns2.primary.test",
        ),
        (
            source(listen.get(2), "ns1.primary.test"),
            "its certificate has expired",
        ),
        (source(good, &format!("pin-sha256={wrong_pin}")), &shown),
        // TCP answers there, and is not asked.
        (source(listen.get(0), "any"), "TLS: the handshake"),
    ];
    for (i, (from, why)) in cases.iter().enumerate() {
        let zone = if i == 0 {
            ZONE.to_string()
        } else {
            format!("zone{i}.test")
        };
        site.ok(&["zone", "add", &zone, "--policy", "p", "--source", from]);
        let status = site.await_status(&zone, "without a transfer", |s| {
            s["primaries"]["error"].is_string()
        });
        let error = status["primaries"]["error"].as_str().unwrap();
        assert!(error.contains(why), "{error}");
        assert!(error.contains(from.split('^').next().unwrap()), "{error}");
    }
    // The right ones, by name, then by pin, then whoever it is.
    for (i, who) in ["ns1.primary.test", &format!("pin-sha256={pin}"), "any"]
        .iter()
        .enumerate()
    {
        let serial = u32::try_from(i + 1).unwrap();
        if i > 0 {
            fs::write(folder.join("zone"), seed_with_serial(serial)).unwrap();
            let pid = nix::unistd::Pid::from_raw(i32::try_from(bind.0.id()).unwrap());
            nix::sys::signal::kill(pid, Signal::SIGHUP).unwrap();
            until("named has it", || {
                (dig(listen.get(0), &[ZONE, "SOA"]).serial() == Some(serial)).then_some(())
            });
        }
        site.ok(&["zone", "edit", ZONE, "--source", &source(good, who)]);
        site.ok(&["zone", "reload", ZONE]);
        site.await_published(ZONE, serial);
    }
    let text = site.ok(&["zone", "status", ZONE]);
    assert!(text.contains("#any"), "{text}");
}

/// Two weeks before the end an operator is told, in every place where operators look.
#[test]
fn certificates_that_end_are_told_of_before() {
    let mut site = Site::new();
    // 2030-01-01.
    site.begin_at(1_893_456_000);
    let made = Certificates::new(site.folder());
    made.make("server", NAME, 2031);
    let ports = Ports::take(1);
    let more = format!(
        "[server.tls]\nservers = [\"127.0.0.1:{}\"]\ncert-path = \"{}\"\nkey-path = \"{}\"\n",
        ports.get(0),
        made.file("server.crt"),
        made.file("server.key"),
    );
    site.write("config.toml", &format!("{}{more}", site.config()));
    site.start();
    let health = || site.request("GET", "/v1/health", None).unwrap().body;
    assert!(!health().contains("tls-expiry"), "{}", health());
    let metrics = || site.request("GET", "/metrics", None).unwrap().body;
    let end = "cascade_certificate_end_timestamp_seconds{usage=\"server.tls.cert-path\",file=\"";
    assert!(metrics().contains(end), "{}", metrics());
    let day = Duration::from_secs(86_400);
    site.advance(352 * day);
    let told = health();
    assert!(
        told.contains("tls-expiry") && told.contains("ends in 12 days"),
        "{told}"
    );
    assert!(
        told.contains("server.crt") && told.contains("systemctl reload"),
        "{told}"
    );
    site.advance(13 * day);
    let over = site.cascade(&["health"]);
    assert!(
        over.code != Some(0) && over.stdout.contains("ended at 2031-01-01"),
        "{over}"
    );
    // It is no better when it is read again, and that is said.
    site.signal(Signal::SIGHUP);
    until("the complaint", || {
        site.log()
            .contains("nothing changed: the certificate of")
            .then_some(())
    });
    made.make("server", NAME, 2120);
    site.signal(Signal::SIGHUP);
    until("the new one", || {
        (!health().contains("tls-expiry")).then_some(())
    });
}

/// NSD as the primary. Those that do not select the protocol `dot` must not be used (RFC 9103 §7.1):
/// the operator is told why, and TCP, which would do, is never tried instead.
#[test]
fn nsd_as_a_primary_over_tls() {
    let (site, made, _ports) = site(|c| {
        c.make("primary", "ns1.primary.test", 2120);
    });
    policy(&site, "");
    let (place, listen) = (site.path("nsd"), Ports::take(2));
    fs::create_dir_all(&place).unwrap();
    fs::write(place.join("zone"), SEED).unwrap();
    let (shown, plain, secure) = (place.display(), listen.get(0), listen.get(1));
    let (cert, key) = (made.file("primary.crt"), made.file("primary.key"));
    let config = format!(
        "server:\n  ip-address: 127.0.0.1@{plain}\n  ip-address: 127.0.0.1@{secure}\n  \
         tls-port: {secure}\n  tls-service-pem: \"{cert}\"\n  tls-service-key: \"{key}\"\n  \
         username: \"\"\n  chroot: \"\"\n  zonesdir: \"{shown}\"\n  pidfile: \"{shown}/pid\"\n  \
         database: \"\"\n  xfrdfile: \"{shown}/xfrd\"\n  xfrdir: \"{shown}\"\n  \
         zonelistfile: \"{shown}/zones\"\n  server-count: 1\n  verbosity: 2\nremote-control:\n  \
         control-enable: no\nzone:\n  name: \"{ZONE}\"\n  zonefile: \"zone\"\n  \
         provide-xfr: 127.0.0.1 NOKEY\n"
    );
    let Some(nsd) = Server::start("nsd", &["-d", "-c", "conf"], &place, &config) else {
        return;
    };
    until("nsd", || dig(plain, &[ZONE, "SOA"]).serial());
    let source = format!("tls:127.0.0.1:{secure}#ns1.primary.test");
    site.ok(&["zone", "add", ZONE, "--policy", "p", "--source", &source]);
    let status = site.await_status(ZONE, "taken or refused", |s| {
        s["primaries"]["error"].is_string() || s["published"].is_object()
    });
    let Some(error) = status["primaries"]["error"].as_str() else {
        eprintln!("nsd selects 'dot'");
        site.await_published(ZONE, 1);
        return;
    };
    assert!(error.contains("'dot' (ALPN, RFC 9103"), "{error}");
    assert!(error.contains(&source), "{error}");
    assert!(!nsd.log().contains("axfr for"), "{}", nsd.log());
    assert!(
        dig(site.publication_port(), &[ZONE, "SOA"])
            .serial()
            .is_none()
    );
    // Without TLS, when that is what is wanted.
    let source = format!("127.0.0.1:{plain}");
    site.ok(&["zone", "edit", ZONE, "--source", &source]);
    site.ok(&["zone", "reload", ZONE]);
    site.await_published(ZONE, 1);
}

//! Many small zones in one daemon.

use std::fs;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use crate::{Site, over_unix};

/// Zone files in one directory of these.
const PER_FOLDER: u32 = 1000;
/// Clients that add zones at the same time.
const CLIENTS: u32 = 8;

/// `n` zones of ten records with a policy of combined keys, not added yet.
pub struct Many {
    pub n: u32,
    folder: PathBuf,
}

impl Many {
    /// The lines that make a policy sign with one P-256 key per zone.
    pub const POLICY: &'static str = "[key-manager.generation]\nuse-csk = true\n";

    /// Writes the zone files.
    ///
    /// # Panics
    /// When the site's folder cannot be written.
    pub fn new(site: &Site, n: u32) -> Many {
        let folder = site.path("zones");
        for i in 0..n {
            if i.is_multiple_of(PER_FOLDER) {
                let folder = folder.join((i / PER_FOLDER).to_string());
                fs::create_dir_all(folder).expect("our own directory is writable");
            }
        }
        let many = Many { n, folder };
        (0..n).for_each(|i| many.write(i, 1));
        many
    }

    /// The zone's name without final dot.
    pub fn name(i: u32) -> String {
        format!("z{i}.many.test")
    }

    /// Writes a zone's file with this serial, which also stands in its content.
    ///
    /// # Panics
    /// When the site's folder cannot be written.
    pub fn write(&self, i: u32, serial: u32) {
        let mut text = format!(
            "$TTL 3600\n@ SOA ns1 hostmaster {serial} 7200 3600 1209600 900\n@ NS ns1\n@ NS ns2\n\
             ns1 A 192.0.2.1\nns2 A 192.0.2.2\n@ MX 10 mail\nmail A 192.0.2.3\n\
             count TXT \"{serial}\"\n"
        );
        text += &format!("www A 192.0.2.{}\nftp CNAME www\n", i % 250);
        let path = self.path(i);
        fs::write(&path, text).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    }

    /// Adds all of them with the policy `p`, several at a time; how long that took.
    ///
    /// # Panics
    /// When one is not added.
    pub fn add(&self, site: &Site) -> Duration {
        let began = Instant::now();
        let next = AtomicU32::new(0);
        thread::scope(|scope| {
            for _ in 0..CLIENTS {
                scope.spawn(|| {
                    loop {
                        let i = next.fetch_add(1, Ordering::Relaxed);
                        if i >= self.n {
                            return;
                        }
                        self.add_one(site, i);
                    }
                });
            }
        });
        began.elapsed()
    }

    fn add_one(&self, site: &Site, i: u32) {
        let (zone, path) = (Many::name(i), self.path(i));
        let body = format!(
            r#"{{"zone":"{zone}","policy":"p","source":{{"kind":"file","path":"{}"}}}}"#,
            path.display()
        );
        let reply = over_unix(&site.socket(), "POST", "/v1/zones", &[], Some(&body));
        let reply = reply.unwrap_or_else(|e| panic!("{zone}: {e}\n{}", site.log()));
        assert_eq!(reply.status, 201, "{zone}: {reply:?}");
    }

    /// Waits until all are published; how long that took.
    ///
    /// # Panics
    /// When that does not come within the bound.
    pub fn await_published(&self, site: &Site, bound: Duration) -> Duration {
        let began = Instant::now();
        loop {
            let reply = site.request("GET", "/v1/status", None);
            let published = reply.map_or(0, |r| {
                r.json()["zones"]["published"].as_u64().unwrap_or_default()
            });
            if published >= u64::from(self.n) {
                return began.elapsed();
            }
            assert!(
                began.elapsed() < bound,
                "{published} of {} zones are published after {bound:?}",
                self.n
            );
            thread::sleep(Duration::from_millis(if self.n > 5000 { 500 } else { 50 }));
        }
    }

    fn path(&self, i: u32) -> PathBuf {
        self.folder
            .join((i / PER_FOLDER).to_string())
            .join(format!("{i}.zone"))
    }
}

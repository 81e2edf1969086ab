//! Zones like those of registries, of any size, equal for equal seeds, in canonical order.
//!
//! Names come out of a walk over a tree of letters in which every node divides the number of names
//! below it among its children: no name is kept, so memory does not grow with the zone.

use std::io::{self, Write};

use crate::random::Random;

/// What a registry's zone is made of.
#[derive(Clone, Debug)]
pub struct Tld {
    /// Name of the zone without final dot.
    pub name: String,
    pub delegations: u64,
    pub seed: u64,
    pub serial: u32,
    /// Delegations, in percent, whose two name servers stand below themselves, each with an A and
    /// an AAAA record.
    pub glue_percent: u64,
    /// Delegations, in percent, with one DS record.
    pub ds_percent: u64,
}

impl Tld {
    /// The mix of the project's numbers: 3.32 records per delegation and about 48 octets a record.
    pub fn new(delegations: u64, seed: u64) -> Self {
        Tld {
            name: "bench".into(),
            delegations,
            seed,
            serial: 2026112501,
            glue_percent: 30,
            ds_percent: 12,
        }
    }

    /// Writes the zone file and says what is in it.
    pub fn write(&self, out: &mut dyn Write) -> io::Result<Counts> {
        let mut writer = Writer {
            tld: self,
            out,
            random: Random::new(self.seed),
            hosters: Hosters::new(self.delegations),
            counts: Counts::default(),
            line: Vec::with_capacity(256),
            label: Vec::with_capacity(64),
        };
        writer.apex()?;
        writer.below(self.delegations)?;
        Ok(writer.counts)
    }
}

/// What was written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    pub octets: u64,
    pub records: u64,
    pub delegations: u64,
    pub with_glue: u64,
    pub with_ds: u64,
}

/// Octets of a label in canonical order. A hyphen neither begins nor ends a name.
const LETTERS: &[u8] = b"-0123456789abcdefghijklmnopqrstuvwxyz";
/// How often each of them stands in a name, roughly: digits and hyphens are rare.
const WEIGHTS: [u32; 37] = [
    2, 2, 2, 2, 1, 1, 1, 1, 1, 1, 1, 42, 12, 18, 16, 45, 10, 12, 14, 32, 4, 9, 24, 20, 28, 32, 16,
    1, 30, 32, 28, 16, 7, 6, 2, 7, 3,
];
/// Names are split letter by letter until one is left; this many letters may follow it then.
const TAIL_MAX: u64 = 10;
const TTL: &str = "86400 IN";

struct Writer<'a> {
    tld: &'a Tld,
    out: &'a mut dyn Write,
    random: Random,
    hosters: Hosters,
    counts: Counts,
    line: Vec<u8>,
    label: Vec<u8>,
}

impl Writer<'_> {
    fn apex(&mut self) -> io::Result<()> {
        let zone = self.tld.name.clone();
        let serial = self.tld.serial;
        self.record(&format!(
            "{zone}. {TTL} SOA a.nic.{zone}. hostmaster.nic.{zone}. {serial} 1800 900 604800 3600"
        ))?;
        for server in ["a", "b"] {
            self.record(&format!("{zone}. {TTL} NS {server}.nic.{zone}."))?;
        }
        // Out of canonical order with what follows, as apex name servers are in registries' files.
        for (server, octet) in [("a", 1), ("b", 2)] {
            self.record(&format!("{server}.nic.{zone}. {TTL} A 192.0.2.{octet}"))?;
            self.record(&format!(
                "{server}.nic.{zone}. {TTL} AAAA 2001:db8::{octet}"
            ))?;
        }
        Ok(())
    }

    /// Writes `count` delegations whose names begin with the letters at hand.
    fn below(&mut self, count: u64) -> io::Result<()> {
        if count == 0 {
            return Ok(());
        }
        if count == 1 && self.label.len() >= 2 {
            return self.leaf();
        }
        let mut left = count;
        let ends_well = self.label.last().is_some_and(|octet| *octet != b'-');
        // Short names are taken first, as everywhere. `nic` is the registry's own.
        if ends_well && self.label.len() >= 3 && self.label != b"nic" {
            self.delegation()?;
            left -= 1;
        }
        let mut weight_left: u64 = 0;
        let mut shares = [0u64; LETTERS.len()];
        for (share, weight) in shares.iter_mut().zip(WEIGHTS) {
            // Somewhat uneven, or all levels of the tree would look alike.
            *share = u64::from(weight) * (50 + self.random.below(100));
        }
        if self.label.is_empty() || self.label.last() == Some(&b'-') || self.label.len() > 40 {
            shares[0] = 0;
        }
        weight_left += shares.iter().sum::<u64>();
        for (at, share) in shares.into_iter().enumerate() {
            if share == 0 || left == 0 {
                continue;
            }
            // What is left is divided in proportion, with the remainder drawn by lot.
            let exact = left as f64 * share as f64 / weight_left as f64;
            let part =
                (exact.floor() as u64 + u64::from(self.random.unit() < exact.fract())).min(left);
            let part = if share == weight_left { left } else { part };
            weight_left -= share;
            left -= part;
            self.label.push(LETTERS[at]);
            self.below(part)?;
            self.label.pop();
        }
        Ok(())
    }

    /// One name: the letters at hand and a tail.
    fn leaf(&mut self) -> io::Result<()> {
        let stem = self.label.len();
        let tail = 1 + self.random.below(TAIL_MAX);
        for _ in 0..tail {
            let letter = 11 + self.random.below(26) as usize;
            self.label.push(LETTERS[letter]);
        }
        let done = self.delegation();
        self.label.truncate(stem);
        done
    }

    fn delegation(&mut self) -> io::Result<()> {
        let name = format!(
            "{}.{}.",
            String::from_utf8_lossy(&self.label),
            self.tld.name
        );
        self.counts.delegations += 1;
        let glue = self.random.percent(self.tld.glue_percent);
        if glue {
            self.counts.with_glue += 1;
            self.record(&format!("{name} {TTL} NS ns1.{name}"))?;
            self.record(&format!("{name} {TTL} NS ns2.{name}"))?;
        } else {
            let [first, second] = self.hosters.pair(&mut self.random);
            self.record(&format!("{name} {TTL} NS {first}"))?;
            self.record(&format!("{name} {TTL} NS {second}"))?;
        }
        if self.random.percent(self.tld.ds_percent) {
            self.counts.with_ds += 1;
            self.ds(&name)?;
        }
        if glue {
            for server in ["ns1", "ns2"] {
                let bits = self.random.next();
                let [a, b, c, d, e, f, ..] = bits.to_be_bytes();
                self.record(&format!("{server}.{name} {TTL} A 10.{a}.{b}.{c}"))?;
                self.record(&format!(
                    "{server}.{name} {TTL} AAAA 2001:db8:{d:x}:{e:x}::{f:x}"
                ))?;
            }
        }
        Ok(())
    }

    fn ds(&mut self, name: &str) -> io::Result<()> {
        let algorithm = match self.random.below(100) {
            0..80 => 13,
            80..95 => 8,
            _ => 15,
        };
        let mut text = format!(
            "{name} {TTL} DS {} {algorithm} 2 ",
            self.random.below(65536)
        );
        for _ in 0..4 {
            text.push_str(&format!("{:016x}", self.random.next()));
        }
        self.record(&text)
    }

    fn record(&mut self, text: &str) -> io::Result<()> {
        self.line.clear();
        self.line.extend_from_slice(text.as_bytes());
        self.line.push(b'\n');
        self.counts.octets += self.line.len() as u64;
        self.counts.records += 1;
        self.out.write_all(&self.line)
    }
}

/// Operators of name servers. A few serve a large share of all names, most serve a handful:
/// the n-th largest has a share in proportion to 1/n.
struct Hosters {
    /// Logarithm of one more than the number of them, the scale of their shares.
    scale: f64,
}

impl Hosters {
    fn new(delegations: u64) -> Self {
        let count = (delegations / 150).max(8);
        Hosters {
            scale: (count as f64 + 1.0).ln(),
        }
    }

    fn pair(&self, random: &mut Random) -> [String; 2] {
        // The share up to n grows with ln(n), so its inverse is the exponential.
        let rank = ((random.unit() * self.scale).exp() as u64).max(1);
        // The largest have many servers and give each customer two of them.
        let sets = (200 / rank).max(1);
        let set = 2 * random.below(sets);
        let domain = ["net", "com", "org"][(rank % 3) as usize];
        [set + 1, set + 2].map(|n| format!("ns{n}.host{rank}.{domain}."))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(tld: &Tld) -> (String, Counts) {
        let mut out = Vec::new();
        let counts = tld.write(&mut out).unwrap();
        (String::from_utf8(out).unwrap(), counts)
    }

    #[test]
    fn equal_seeds_make_equal_zones() {
        assert_eq!(text(&Tld::new(500, 7)), text(&Tld::new(500, 7)));
        assert_ne!(text(&Tld::new(500, 7)), text(&Tld::new(500, 8)));
    }

    #[test]
    fn the_mix_is_the_one_promised() {
        let (text, counts) = text(&Tld::new(20_000, 1));
        assert_eq!(counts.delegations, 20_000);
        assert_eq!(counts.octets, text.len() as u64);
        assert_eq!(counts.records, text.lines().count() as u64);
        let per_mille = |n: u64| n * 1000 / counts.delegations;
        assert!(
            (285..=315).contains(&per_mille(counts.with_glue)),
            "{counts:?}"
        );
        assert!(
            (110..=130).contains(&per_mille(counts.with_ds)),
            "{counts:?}"
        );
        assert!(
            (3250..=3400).contains(&per_mille(counts.records)),
            "{counts:?}"
        );
        let per_record = counts.octets / counts.records;
        assert!(
            (43..=53).contains(&per_record),
            "{per_record} octets a record"
        );
    }

    #[test]
    fn names_are_distinct_legal_and_in_canonical_order() {
        let (text, _) = text(&Tld::new(3_000, 3));
        let mut last = String::new();
        let mut distinct = 0;
        for line in text
            .lines()
            .filter(|l| l.contains(" NS ") && l.matches('.').count() > 2)
        {
            let label = line.split('.').next().unwrap();
            if !line.starts_with(&format!("{label}.bench. ")) || label == last {
                continue;
            }
            assert!(label.as_bytes() > last.as_bytes(), "{label} after {last}");
            assert!(label.len() <= 63 && !label.starts_with('-') && !label.ends_with('-'));
            assert_ne!(label, "nic");
            last = label.to_owned();
            distinct += 1;
        }
        assert_eq!(distinct, 3_000);
    }

    #[test]
    fn the_smallest_zones() {
        for delegations in 0..5 {
            assert_eq!(text(&Tld::new(delegations, 1)).1.delegations, delegations);
        }
    }
}

//! What the arithmetic must show before any process relies on it: published signatures, rare cases
//! and random ones, all compared with ring.
//!
//! Signatures are made here with the very arithmetic under test. That proves nothing by itself; that
//! ring accepts them does.

use ring::signature::{ECDSA_P256_SHA256_FIXED, UnparsedPublicKey};
use sha2::{Digest, Sha256};

use super::num::{Fe, Limbs, Modulus, N, Scalar, limbs_of, octets_of};
use super::table::{Point, Table, lift};
use super::{Answer, Job, Judge, Lanes, Sum, Tables, invert_all};

/// Random signatures: this many keys, this many good ones and as many mutated for each.
const KEYS: usize = 4;
const PER_KEY: usize = 250;

/// Runs all of it. `seed` makes the random part differ from process to process.
///
/// # Errors
/// What failed, for an alert.
pub(crate) fn run(judge: Judge, g: &Table, seed: &[u8]) -> Result<(), &'static str> {
    let mut test = SelfTest {
        judge,
        g,
        seed: Sha256::digest(seed).into(),
        drawn: 0,
    };
    test.published()?;
    test.ranges()?;
    test.large_x()?;
    test.special_keys()?;
    test.zero_digest()?;
    for _ in 0..KEYS {
        let secret = test.scalar();
        test.random(secret, PER_KEY, false)?;
    }
    Ok(())
}

struct SelfTest<'t> {
    judge: Judge,
    g: &'t Table,
    seed: [u8; 32],
    drawn: u64,
}

/// A message with its signature.
struct Signed {
    message: Vec<u8>,
    signature: [u8; 64],
}

/// A key with its table.
struct Subject {
    octets: [u8; 64],
    table: Table,
}

impl SelfTest<'_> {
    /// The next number of the seed's sequence.
    fn draw(&mut self) -> [u8; 32] {
        self.drawn += 1;
        Sha256::new()
            .chain_update(self.seed)
            .chain_update(self.drawn.to_be_bytes())
            .finalize()
            .into()
    }

    /// Zero comes with a chance of 2^-256 and would only fail the test.
    fn scalar(&mut self) -> Scalar {
        Scalar::wrapped(limbs_of(&self.draw()))
    }

    fn subject(&self, point: Point) -> Subject {
        Subject {
            octets: point.octets(),
            table: Table::new(point),
        }
    }

    /// `at_once`: how many are judged together.
    fn answers(&self, subject: &Subject, list: &[Signed], at_once: usize) -> Vec<Answer> {
        let jobs: Vec<Job<'_>> = list
            .iter()
            .map(|s| Job {
                digest: Sha256::digest(&s.message).into(),
                signature: &s.signature,
            })
            .collect();
        let tables = Tables {
            g: self.g,
            q: &subject.table,
        };
        let (mut answers, mut some) = (Vec::new(), Vec::new());
        for jobs in jobs.chunks(at_once.max(1)) {
            (self.judge)(tables, jobs, &mut some);
            answers.append(&mut some);
        }
        answers
    }

    /// Ring says `good` of each (or anything, when `None`), and the arithmetic the same. `unsure`:
    /// it may also pass the question on.
    fn agrees(
        &self,
        subject: &Subject,
        list: &[Signed],
        good: Option<bool>,
        unsure: bool,
        what: &'static str,
    ) -> Result<(), &'static str> {
        let together = self.answers(subject, list, list.len());
        // Few are judged in another way than many.
        let alone = self.answers(subject, list, 1);
        let key = [&[4u8][..], &subject.octets].concat();
        let ring = UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, &key);
        let fits = |answer: Answer, accepted: bool| match answer {
            Answer::Good => accepted,
            Answer::Bad => !accepted,
            Answer::Unsure => unsure,
        };
        let pairs = together.iter().zip(&alone);
        let same = (together.len(), alone.len()) == (list.len(), list.len())
            && list.iter().zip(pairs).all(|(s, (a, b))| {
                let accepted = ring.verify(&s.message, &s.signature).is_ok();
                good.is_none_or(|g| g == accepted) && fits(*a, accepted) && fits(*b, accepted)
            });
        if same { Ok(()) } else { Err(what) }
    }

    /// RFC 6979 §A.2.5, with SHA-256.
    fn published(&self) -> Result<(), &'static str> {
        const WHAT: &str = "the signatures of RFC 6979 A.2.5";
        let key = hex64(
            b"60fed4ba255a9d31c961eb74c6356d68c049b8923b61fa6ce669622e60f29fb6",
            b"7903fe1008b8bc99a41ae9e95628bc64f2f1b20c2d7e9f5177a3c294d4462299",
        );
        let sample = hex64(
            b"efd48b2aacb6a8fd1140dd9cd45e81d69d2c877b56aaf991c34d0ea84eaf3716",
            b"f7cb1c942d657c41d436c7a1b6e29f65f3e900dbb9aff4064dc4ab2f843acda8",
        );
        let test = hex64(
            b"f1abb023518351cd71d881567b1ea663ed3efcf6c5132b354f28d3b0b7d38367",
            b"019f4113742a2b14bd25926b49c649155f267e60d3814b4c0cc84250e46f0083",
        );
        let subject = self.subject(Point::new(&key).ok_or(WHAT)?);
        let list = |a: &str, b: &str| {
            [(a, sample), (b, test)].map(|(message, signature)| Signed {
                message: message.into(),
                signature,
            })
        };
        self.agrees(&subject, &list("sample", "test"), Some(true), false, WHAT)?;
        self.agrees(&subject, &list("test", "sample"), Some(false), false, WHAT)
    }

    /// r and s at and beyond the ends of their range.
    fn ranges(&mut self) -> Result<(), &'static str> {
        let near = |d: i64| {
            let mut limbs = N::M;
            limbs[0] = limbs[0].wrapping_add_signed(d);
            limbs
        };
        let small = |v: u64| [v, 0, 0, 0];
        let (secret, other) = (self.scalar(), self.scalar().limbs());
        let mut values = vec![other, [u64::MAX; 4]];
        values.extend([0, 1, 2].map(small));
        values.extend([-2, -1, 0, 1].map(near));
        let mut list = Vec::new();
        for r in &values {
            for s in &values {
                list.push(Signed {
                    message: b"ranges".to_vec(),
                    signature: pair(r, s),
                });
            }
        }
        let Some(point) = self.multiples(&[secret]).pop() else {
            return Err("a public key");
        };
        let subject = self.subject(point);
        self.agrees(&subject, &list, Some(false), false, "r or s out of range")
    }

    /// Signatures whose point has an x of n or more, so that r is x - n. The point is chosen first,
    /// the key computed from it.
    fn large_x(&mut self) -> Result<(), &'static str> {
        const WHAT: &str = "a point with x above the group order";
        let mut found = 0;
        for i in 1..64u64 {
            let x = super::num::add_limbs(&N::M, &[i, 0, 0, 0]).0;
            let Some(point) = Fe::new(x).and_then(lift) else {
                continue;
            };
            let message = i.to_be_bytes().to_vec();
            let r = Scalar::wrapped([i, 0, 0, 0]);
            let s = self.scalar();
            let e = Scalar::wrapped(limbs_of(&Sha256::digest(&message).into()));
            // s R = e G + r Q.
            let inverse = r.invert();
            let (u1, u2) = (e.neg().mul(&inverse), s.mul(&inverse));
            let table = Table::new(point);
            let tables = Tables {
                g: self.g,
                q: &table,
            };
            let key = sums(tables, &[(u1.limbs(), u2.limbs())]).pop();
            let subject = self.subject(key.flatten().ok_or(WHAT)?);
            let signature = pair(&r.limbs(), &s.limbs());
            let list = [Signed { message, signature }];
            self.agrees(&subject, &list, Some(true), false, WHAT)?;
            found += 1;
            if found == 2 {
                return Ok(());
            }
        }
        Err(WHAT)
    }

    /// Q = G and Q = -G, where sums meet points they already hold.
    fn special_keys(&mut self) -> Result<(), &'static str> {
        self.random(Scalar::ONE, 64, true)?;
        self.random(Scalar::ONE.neg(), 64, true)
    }

    /// u1 = 0. No message with such a digest is known, so ring cannot be asked.
    fn zero_digest(&mut self) -> Result<(), &'static str> {
        const WHAT: &str = "a digest of zero";
        let (secret, nonce) = (self.scalar(), self.scalar());
        let points = self.multiples(&[secret, nonce]);
        let [key, point] = points[..] else {
            return Err(WHAT);
        };
        let r = Scalar::wrapped(point.x.limbs());
        let s = r.mul(&secret).mul(&nonce.invert());
        let table = Table::new(key);
        let tables = Tables {
            g: self.g,
            q: &table,
        };
        let mut answers = Vec::new();
        for (digest, signature, expected) in [
            ([0; 32], pair(&r.limbs(), &s.limbs()), Answer::Good),
            // n is zero as well.
            (octets_of(&N::M), pair(&r.limbs(), &s.limbs()), Answer::Good),
            ([1; 32], pair(&r.limbs(), &s.limbs()), Answer::Bad),
        ] {
            let signature = &signature[..];
            (self.judge)(tables, &[Job { digest, signature }], &mut answers);
            if answers != [expected] {
                return Err(WHAT);
            }
        }
        Ok(())
    }

    /// `n` good signatures by a key, with s and with n - s, and `n` mutated ones.
    fn random(&mut self, secret: Scalar, n: usize, unsure: bool) -> Result<(), &'static str> {
        let Some(key) = self.multiples(&[secret]).pop() else {
            return Err("a public key");
        };
        let subject = self.subject(key);
        let mut list = self.sign(secret, n);
        if list.len() != n {
            return Err("signatures to be made");
        }
        self.agrees(&subject, &list, Some(true), unsure, "random signatures")?;
        for (i, s) in list.iter_mut().enumerate() {
            let (bit, signature) = (self.draw(), &mut s.signature);
            match i % 5 {
                0 => s.message[bit[0] as usize % 8] ^= 1 << (bit[1] % 8),
                1 => signature[bit[0] as usize % 32] ^= 1 << (bit[1] % 8),
                2 => signature[32 + bit[0] as usize % 32] ^= 1 << (bit[1] % 8),
                3 => signature.rotate_left(32),
                _ => signature[..32].copy_from_slice(&bit),
            }
        }
        self.agrees(&subject, &list, None, unsure, "mutated signatures")
    }

    fn sign(&mut self, secret: Scalar, n: usize) -> Vec<Signed> {
        let nonces: Vec<Scalar> = (0..n).map(|_| self.scalar()).collect();
        let points = self.multiples(&nonces);
        let mut inverses = nonces;
        invert_all(&mut inverses);
        let mut list = Vec::with_capacity(n);
        for (i, (point, inverse)) in points.iter().zip(inverses).enumerate() {
            let message = self.draw().to_vec();
            let e = Scalar::wrapped(limbs_of(&Sha256::digest(&message).into()));
            let r = Scalar::wrapped(point.x.limbs());
            let s = e.add(&r.mul(&secret)).mul(&inverse);
            // ECDSA has two valid s for each r.
            let s = if i % 2 == 0 { s } else { s.neg() };
            let signature = pair(&r.limbs(), &s.limbs());
            list.push(Signed { message, signature });
        }
        list
    }

    /// Multiples of G; fewer than asked for if something is wrong.
    fn multiples(&self, scalars: &[Scalar]) -> Vec<Point> {
        let tables = Tables {
            g: self.g,
            q: self.g,
        };
        let pairs: Vec<(Limbs, Limbs)> = scalars.iter().map(|k| (k.limbs(), [0; 4])).collect();
        sums(tables, &pairs).into_iter().flatten().collect()
    }
}

/// u1 G + u2 Q of each pair, where it is a point and no special case on the way.
fn sums(tables: Tables<'_>, pairs: &[(Limbs, Limbs)]) -> Vec<Option<Point>> {
    let mut lanes = Lanes::default();
    for (u1, u2) in pairs {
        lanes.push(u1, u2, tables.q.entry(0, 1));
    }
    lanes.sum(tables);
    let both = lanes.sums.iter().zip(&lanes.points);
    both.map(|(sum, point)| (*sum == Sum::Point).then_some(*point))
        .collect()
}

fn pair(r: &Limbs, s: &Limbs) -> [u8; 64] {
    let mut out = [0u8; 64];
    out[..32].copy_from_slice(&octets_of(r));
    out[32..].copy_from_slice(&octets_of(s));
    out
}

/// Of two times 64 hexadecimal digits.
fn hex64(a: &[u8; 64], b: &[u8; 64]) -> [u8; 64] {
    let digit = |c: u8| (c as char).to_digit(16).unwrap_or(0) as u8;
    let mut out = [0u8; 64];
    for (octet, digits) in out.iter_mut().zip(a.chunks(2).chain(b.chunks(2))) {
        *octet = digit(digits[0]) << 4 | digit(digits[1]);
    }
    out
}

//! Verification of many P-256 signatures by one key, with tables of multiples of its point.
//!
//! The signatures of a zone are by one or two keys, so the public point Q is as fixed as the base
//! point G: with tables of multiples of both, u1 G + u2 Q (FIPS 186-4 §6.4) is a sum of 52 points
//! without a doubling. Hundreds of such sums grow side by side, one table entry at a time, and share
//! one inversion per step, which makes an addition in affine coordinates six multiplications, fewer
//! than any formula without inversion needs (a mixed addition takes eleven), and leaves the x that
//! is to be compared with r as it is.
//!
//! The chord formula fails when both points have the same x. No signature meets that but by
//! construction or chance of 1 in 2^200, so there is no code for it: the answer is [`Answer::Unsure`]
//! and somebody else decides.

pub(crate) mod num;
pub(crate) mod selftest;
pub(crate) mod table;

use num::{Fe, Limbs, Modulus, N, P, Scalar};
use table::{Digits, Point, Table, WINDOWS};

/// Sums that grow side by side: enough to make the shared inversion cheap, few enough to stay in
/// the first-level cache.
const LANES: usize = 256;

/// What the arithmetic says about one signature.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Answer {
    Good,
    Bad,
    /// A case without code of its own.
    Unsure,
}

/// SHA-256 of the message and the signature, r and s (RFC 6605 §4).
#[derive(Debug, Clone, Copy)]
pub(crate) struct Job<'a> {
    pub(crate) digest: [u8; 32],
    pub(crate) signature: &'a [u8],
}

/// Tables of the two points of every sum.
#[derive(Clone, Copy)]
pub(crate) struct Tables<'t> {
    pub(crate) g: &'t Table,
    pub(crate) q: &'t Table,
}

/// Judges all `jobs`; one answer each, in order.
pub(crate) fn judge(tables: Tables<'_>, jobs: &[Job<'_>], answers: &mut Vec<Answer>) {
    answers.clear();
    let mut lanes = Lanes::default();
    for chunk in jobs.chunks(LANES) {
        judge_chunk(tables, chunk, &mut lanes, answers);
    }
}

fn judge_chunk(tables: Tables<'_>, jobs: &[Job<'_>], lanes: &mut Lanes, answers: &mut Vec<Answer>) {
    let parsed: Vec<Option<(Limbs, Scalar)>> = jobs.iter().map(|j| parse(j.signature)).collect();
    let mut inverses: Vec<Scalar> = parsed
        .iter()
        .map(|p| p.map_or(Scalar::ONE, |(_, s)| s))
        .collect();
    invert_all(&mut inverses);
    lanes.clear();
    for ((job, parsed), w) in jobs.iter().zip(&parsed).zip(&inverses) {
        let (u1, u2) = match parsed {
            Some((r, _)) => (
                Scalar::wrapped(num::limbs_of(&job.digest)).mul(w).limbs(),
                Scalar::wrapped(*r).mul(w).limbs(),
            ),
            None => ([0; 4], [0; 4]),
        };
        lanes.push(&u1, &u2);
    }
    lanes.sum(tables);
    for (parsed, sum) in parsed.iter().zip(&lanes.sums) {
        answers.push(match (parsed, sum) {
            (None, _) => Answer::Bad,
            (_, Sum::Unsure) => Answer::Unsure,
            // FIPS 186-4 §6.4.2 step 5: the point at infinity.
            (_, Sum::Nothing) => Answer::Bad,
            (Some((r, _)), Sum::Point(p)) if is_x_of(r, p) => Answer::Good,
            _ => Answer::Bad,
        });
    }
}

/// r and s, each from 1 to n - 1 (FIPS 186-4 §6.4.2 step 1).
fn parse(signature: &[u8]) -> Option<(Limbs, Scalar)> {
    let (r, s) = signature.split_first_chunk::<32>()?;
    let r = num::limbs_of(r);
    let s = Scalar::new(num::limbs_of(<&[u8; 32]>::try_from(s).ok()?))?;
    let in_range = r != [0; 4] && num::compare(&r, &N::M).is_lt() && !s.is_zero();
    in_range.then_some((r, s))
}

/// x mod n == r. As p is less than 2n, x is r or r + n.
fn is_x_of(r: &Limbs, point: &Point) -> bool {
    let x = point.x.limbs();
    if x == *r {
        return true;
    }
    let (other, carry) = num::add_limbs(r, &N::M);
    carry == 0 && num::compare(&other, &P::M).is_lt() && x == other
}

/// Inverts all numbers, none of which is zero, with one inversion.
fn invert_all(numbers: &mut [Scalar]) {
    let mut product = Scalar::ONE;
    let chain: Vec<Scalar> = numbers
        .iter()
        .map(|x| {
            let before = product;
            product = product.mul(x);
            before
        })
        .collect();
    let mut inverse = product.invert();
    for (x, before) in numbers.iter_mut().zip(&chain).rev() {
        let one = inverse.mul(before);
        inverse = inverse.mul(x);
        *x = one;
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Sum {
    /// No point yet: infinity.
    Nothing,
    Point(Point),
    Unsure,
}

/// Sums u1 G + u2 Q under way, and buffers.
#[derive(Default)]
struct Lanes {
    digits: Vec<[Digits; 2]>,
    sums: Vec<Sum>,
    /// Per addition of the step: lane, product of the runs before it, point to add.
    steps: Vec<Step>,
}

struct Step {
    lane: u32,
    before: Fe,
    run: Fe,
    point: Point,
}

impl Lanes {
    fn clear(&mut self) {
        self.digits.clear();
        self.sums.clear();
    }

    fn push(&mut self, u1: &Limbs, u2: &Limbs) {
        self.digits.push([Digits::new(u1), Digits::new(u2)]);
        self.sums.push(Sum::Nothing);
    }

    fn sum(&mut self, tables: Tables<'_>) {
        for window in 0..WINDOWS {
            self.step(tables.g, 0, window);
            self.step(tables.q, 1, window);
        }
    }

    /// Adds one table entry to every sum.
    fn step(&mut self, table: &Table, which: usize, window: usize) {
        let Lanes {
            digits,
            sums,
            steps,
        } = self;
        steps.clear();
        let mut product = Fe::ONE;
        for (lane, (digits, sum)) in digits.iter().zip(sums.iter_mut()).enumerate() {
            let digit = digits[which].get(window);
            if digit == 0 {
                continue;
            }
            let point = table.entry(window, digit);
            match sum {
                Sum::Nothing => *sum = Sum::Point(point),
                Sum::Unsure => {}
                Sum::Point(p) if p.x == point.x => *sum = Sum::Unsure,
                Sum::Point(p) => {
                    let run = point.x.sub(&p.x);
                    steps.push(Step {
                        lane: lane as u32,
                        before: product,
                        run,
                        point,
                    });
                    product = product.mul(&run);
                }
            }
        }
        let mut inverse = product.invert();
        for step in steps.iter().rev() {
            let one = inverse.mul(&step.before);
            inverse = inverse.mul(&step.run);
            if let Sum::Point(p) = &mut sums[step.lane as usize] {
                let slope = step.point.y.sub(&p.y).mul(&one);
                *p = p.chord(&step.point, &slope);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    #[test]
    fn quick() {
        use ring::signature::{EcdsaKeyPair, ECDSA_P256_SHA256_FIXED_SIGNING, KeyPair};
        use sha2::Digest;
        let rng = ring::rand::SystemRandom::new();
        let pk = EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &rng).unwrap();
        let k = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, pk.as_ref(), &rng).unwrap();
        let q: &[u8;64] = k.public_key().as_ref()[1..].try_into().unwrap();
        let g = Table::new(Point::generator().unwrap());
        #[allow(clippy::disallowed_methods)]
        let t0 = std::time::Instant::now();
        let q = Table::new(Point::new(q).unwrap());
        println!("table {:?}", t0.elapsed());
        let sigs: Vec<_> = (0..4096u32).map(|i| { let m = i.to_be_bytes(); (k.sign(&rng, &m).unwrap(), sha2::Sha256::digest(m))}).collect();
        let jobs: Vec<_> = sigs.iter().map(|(s,d)| Job { digest: (*d).into(), signature: s.as_ref() }).collect();
        let mut out = vec![];
        for _ in 0..4 {
            #[allow(clippy::disallowed_methods)]
            let t0 = std::time::Instant::now();
            judge(Tables{g:&g,q:&q}, &jobs, &mut out);
            println!("{:?} per sig", t0.elapsed()/4096);
        }
        assert!(out.iter().all(|a| *a == Answer::Good));
    }
}

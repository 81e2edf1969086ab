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
mod one;
pub(crate) mod selftest;
pub(crate) mod table;

use num::{Fe, Limbs, Modulus, N, P, Scalar};
use table::{Digits, Point, Table, WINDOWS};

/// Sums that grow side by side: enough to make the shared inversion cheap, few enough to stay in the
/// caches near by. Measured: 256 and 1,024 cost a tenth more.
const LANES: usize = 512;

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

/// The form of [`judge`].
pub(crate) type Judge = fn(Tables<'_>, &[Job<'_>], &mut Vec<Answer>);

/// Up to so many are judged one by one: an inversion for each step costs more than it saves then.
const FEW: usize = 16;

/// Judges all `jobs`; one answer each, in order.
pub(crate) fn judge(tables: Tables<'_>, jobs: &[Job<'_>], answers: &mut Vec<Answer>) {
    match jobs.len() <= FEW {
        true => {
            answers.clear();
            answers.extend(jobs.iter().map(|job| one::judge(tables, job)));
        }
        false => judge_many(tables, jobs, answers),
    }
}

fn judge_many(tables: Tables<'_>, jobs: &[Job<'_>], answers: &mut Vec<Answer>) {
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
    let any = tables.q.entry(0, 1);
    for ((job, parsed), w) in jobs.iter().zip(&parsed).zip(&inverses) {
        let (u1, u2) = match parsed {
            Some((r, _)) => (
                Scalar::wrapped(num::limbs_of(&job.digest)).mul(w).limbs(),
                Scalar::wrapped(*r).mul(w).limbs(),
            ),
            None => ([0; 4], [0; 4]),
        };
        lanes.push(&u1, &u2, any);
    }
    lanes.sum(tables);
    for ((parsed, sum), point) in parsed.iter().zip(&lanes.sums).zip(&lanes.points) {
        answers.push(match (parsed, sum) {
            (Some(_), Sum::Unsure) => Answer::Unsure,
            (Some((r, _)), Sum::Point) if is_x_of(r, point) => Answer::Good,
            // Also the point at infinity (FIPS 186-4 §6.4.2 step 5).
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

/// How far a sum has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Sum {
    /// No point yet: infinity.
    Nothing,
    /// The point beside it.
    Point,
    Unsure,
}

/// Sums u1 G + u2 Q under way, lane by lane, and buffers for one step.
#[derive(Default)]
struct Lanes {
    digits: Vec<[Digits; 2]>,
    sums: Vec<Sum>,
    points: Vec<Point>,
    additions: Vec<Addition>,
}

/// A sum that grows in this step.
struct Addition {
    lane: u32,
    digit: i32,
    /// Difference of the two x.
    run: Fe,
    /// Product of the runs before this one.
    before: Fe,
}

impl Lanes {
    fn clear(&mut self) {
        self.digits.clear();
        self.sums.clear();
        self.points.clear();
    }

    fn push(&mut self, u1: &Limbs, u2: &Limbs, any: Point) {
        self.digits.push([Digits::new(u1), Digits::new(u2)]);
        self.sums.push(Sum::Nothing);
        self.points.push(any);
    }

    fn sum(&mut self, tables: Tables<'_>) {
        for window in 0..WINDOWS {
            self.step(tables.g, 0, window);
            self.step(tables.q, 1, window);
        }
    }

    /// Adds one table entry to every sum.
    fn step(&mut self, table: &Table, which: usize, window: usize) {
        self.additions.clear();
        let mut product = Fe::ONE;
        let lanes = self.digits.iter().zip(&mut self.sums).zip(&mut self.points);
        for (lane, ((digits, sum), p)) in lanes.enumerate() {
            let digit = digits[which].get(window);
            if digit == 0 || *sum == Sum::Unsure {
                continue;
            }
            if *sum == Sum::Nothing {
                (*sum, *p) = (Sum::Point, table.entry(window, digit));
                continue;
            }
            let run = table.x(window, digit).sub(&p.x);
            if run.is_zero() {
                *sum = Sum::Unsure;
                continue;
            }
            self.additions.push(Addition {
                lane: lane as u32,
                digit,
                run,
                before: product,
            });
            product = product.mul(&run);
        }
        let mut inverse = product.invert();
        for addition in self.additions.iter().rev() {
            let one = inverse.mul(&addition.before);
            inverse = inverse.mul(&addition.run);
            let p = &mut self.points[addition.lane as usize];
            let other = table.entry(window, addition.digit);
            let slope = other.y.sub(&p.y).mul(&one);
            *p = p.chord(&other, &slope);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::LazyLock;

    use proptest::prelude::*;
    use ring::rand::SystemRandom;
    use ring::signature::{
        ECDSA_P256_SHA256_FIXED, ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair,
        UnparsedPublicKey,
    };
    use sha2::{Digest, Sha256};

    use super::*;

    static G: LazyLock<Table> = LazyLock::new(|| Table::new(Point::generator().unwrap()));

    struct Pair {
        pair: EcdsaKeyPair,
        table: Table,
    }

    impl Pair {
        fn new() -> Pair {
            let (rng, form) = (SystemRandom::new(), &ECDSA_P256_SHA256_FIXED_SIGNING);
            let document = EcdsaKeyPair::generate_pkcs8(form, &rng).unwrap();
            let pair = EcdsaKeyPair::from_pkcs8(form, document.as_ref(), &rng).unwrap();
            let octets: &[u8; 64] = pair.public_key().as_ref()[1..].try_into().unwrap();
            let table = Table::new(Point::new(octets).unwrap());
            Pair { pair, table }
        }

        fn sign(&self, message: &[u8]) -> Vec<u8> {
            let signature = self.pair.sign(&SystemRandom::new(), message).unwrap();
            signature.as_ref().to_vec()
        }

        fn ring(&self, message: &[u8], signature: &[u8]) -> bool {
            UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, self.pair.public_key())
                .verify(message, signature)
                .is_ok()
        }

        fn judge(&self, list: &[(Vec<u8>, Vec<u8>)]) -> Vec<Answer> {
            let jobs: Vec<Job<'_>> = list
                .iter()
                .map(|(message, signature)| Job {
                    digest: Sha256::digest(message).into(),
                    signature,
                })
                .collect();
            let tables = Tables {
                g: &G,
                q: &self.table,
            };
            let mut answers = vec![Answer::Good; 3];
            judge_many(tables, &jobs, &mut answers);
            // Side by side, and each alone.
            let alone = jobs.iter().map(|job| one::judge(tables, job));
            assert!(answers.iter().copied().eq(alone));
            answers
        }
    }

    static PAIRS: LazyLock<[Pair; 3]> = LazyLock::new(|| [Pair::new(), Pair::new(), Pair::new()]);

    #[derive(Debug, Clone)]
    enum Mutation {
        None,
        FlipSignature(usize),
        FlipMessage(usize),
        Swap,
        /// n - s: the other valid one.
        OtherS,
        /// n - r, r + n (mod 2^256), s + n (mod 2^256).
        NegateR,
        AddToR,
        AddToS,
        Shorter(usize),
        Longer,
        Random(Vec<u8>),
        /// Judged by another key.
        OtherKey,
    }

    fn mutation() -> impl Strategy<Value = Mutation> {
        use Mutation::*;
        prop_oneof![
            2 => Just(None),
            3 => (0..512usize).prop_map(FlipSignature),
            2 => any::<usize>().prop_map(FlipMessage),
            1 => Just(Swap),
            2 => Just(OtherS),
            1 => Just(NegateR),
            1 => Just(AddToR),
            1 => Just(AddToS),
            1 => (0..64usize).prop_map(Shorter),
            1 => Just(Longer),
            1 => prop::collection::vec(any::<u8>(), 64).prop_map(Random),
            1 => Just(OtherKey),
        ]
    }

    fn half(signature: &mut [u8], at: usize, f: impl Fn(Limbs) -> Limbs) {
        let half: &mut [u8; 32] = (&mut signature[at..at + 32]).try_into().unwrap();
        *half = num::octets_of(&f(num::limbs_of(half)));
    }

    fn mutate(mutation: &Mutation, message: &mut [u8], signature: &mut Vec<u8>) {
        let negate = |x: Limbs| Scalar::wrapped(x).neg().limbs();
        let add_n = |x: Limbs| num::add_limbs(&x, &N::M).0;
        match mutation {
            Mutation::None | Mutation::OtherKey => {}
            Mutation::FlipSignature(bit) => signature[bit / 8] ^= 1 << (bit % 8),
            Mutation::FlipMessage(bit) => {
                let len = message.len();
                message[bit / 8 % len] ^= 1 << (bit % 8);
            }
            Mutation::Swap => signature.rotate_left(32),
            Mutation::OtherS => half(signature, 32, negate),
            Mutation::NegateR => half(signature, 0, negate),
            Mutation::AddToR => half(signature, 0, add_n),
            Mutation::AddToS => half(signature, 32, add_n),
            Mutation::Shorter(len) => signature.truncate(*len),
            Mutation::Longer => signature.push(0),
            Mutation::Random(octets) => signature.clone_from(octets),
        }
    }

    type Case = (usize, Vec<u8>, Mutation);

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(48))]
        #[test]
        fn says_what_ring_says(
            cases in prop::collection::vec(
                (0..3usize, prop::collection::vec(any::<u8>(), 1..300), mutation()),
                1..24,
            )
        ) {
            let mut lists: [Vec<(Vec<u8>, Vec<u8>)>; 3] = Default::default();
            for (key, mut message, mutation) in cases as Vec<Case> {
                let mut signature = PAIRS[key].sign(&message);
                mutate(&mutation, &mut message, &mut signature);
                let judge = (key + matches!(mutation, Mutation::OtherKey) as usize) % 3;
                let good = PAIRS[judge].ring(&message, &signature);
                if matches!(mutation, Mutation::None | Mutation::OtherS) {
                    prop_assert!(good);
                }
                lists[judge].push((message, signature));
            }
            for (pair, list) in PAIRS.iter().zip(&lists) {
                let answers = pair.judge(list);
                prop_assert_eq!(answers.len(), list.len());
                for ((message, signature), answer) in list.iter().zip(answers) {
                    let expected = match pair.ring(message, signature) {
                        true => Answer::Good,
                        false => Answer::Bad,
                    };
                    prop_assert_eq!(answer, expected);
                }
            }
        }
    }

    /// One bad signature is found wherever it stands, and changes nothing for its neighbours.
    #[test]
    fn lanes_do_not_touch_each_other() {
        let pair = &PAIRS[0];
        let mut list: Vec<(Vec<u8>, Vec<u8>)> = (0..LANES as u32 + 40)
            .map(|i| {
                let message = i.to_be_bytes().to_vec();
                let signature = pair.sign(&message);
                (message, signature)
            })
            .collect();
        let bad = [0, 1, 77, LANES - 1, LANES, LANES + 39];
        for (n, &i) in bad.iter().enumerate() {
            match n % 3 {
                0 => list[i].1[40] ^= 1,
                1 => list[i].1[32..].fill(0),
                _ => list[i].1.truncate(63),
            }
        }
        for (i, answer) in pair.judge(&list).into_iter().enumerate() {
            assert_eq!(answer == Answer::Good, !bad.contains(&i), "{i}");
        }
        assert!(pair.judge(&[]).is_empty());
    }

    /// Sums that meet a point they hold give no answer, and never a wrong one.
    #[test]
    fn the_missing_case_is_told() {
        let tables = Tables { g: &G, q: &G };
        let mut lanes = Lanes::default();
        let any = G.entry(0, 1);
        // 5 G + 5 G would be a doubling; 5 G + (n - 5) G is infinity, met as opposite points.
        lanes.push(&[5, 0, 0, 0], &[5, 0, 0, 0], any);
        let minus = Scalar::wrapped([5, 0, 0, 0]).neg().limbs();
        lanes.push(&[5, 0, 0, 0], &minus, any);
        lanes.push(&[0; 4], &[0; 4], any);
        lanes.push(&[2, 0, 0, 0], &[3, 0, 0, 0], any);
        lanes.sum(tables);
        assert_eq!(
            lanes.sums,
            [Sum::Unsure, Sum::Unsure, Sum::Nothing, Sum::Point]
        );
        assert_eq!(lanes.points[3], G.entry(0, 5));
    }
}

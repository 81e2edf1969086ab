//! Integers modulo the field prime and the group order of P-256, in Montgomery form.
//!
//! Variable time throughout: the verifier handles public data only.

use std::cmp::Ordering;
use std::marker::PhantomData;

/// Four 64-bit limbs, least significant first.
pub(crate) type Limbs = [u64; 4];

/// An odd modulus between 2^255 and 2^256.
pub(crate) trait Modulus: Copy {
    const M: Limbs;
    /// 2^512 mod M, the way into Montgomery form.
    const R2: Limbs = power_of_two(Self::M, 512);
    /// 2^256 mod M: one in Montgomery form.
    const ONE: Limbs = power_of_two(Self::M, 256);

    /// `t` / 2^64 + `top` * 2^256, after adding the multiple of M that makes `t` divisible.
    fn shift(t: [u64; 5], top: u64) -> [u64; 5];
}

/// The field prime 2^256 - 2^224 + 2^192 + 2^96 - 1 (FIPS 186-4 §D.1.2.3).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct P;

/// The order of the group of points (FIPS 186-4 §D.1.2.3).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct N;

impl Modulus for P {
    const M: Limbs = [
        0xffff_ffff_ffff_ffff,
        0x0000_0000_ffff_ffff,
        0,
        0xffff_ffff_0000_0001,
    ];

    #[inline(always)]
    fn shift(t: [u64; 5], top: u64) -> [u64; 5] {
        // -1/p mod 2^64 is 1, so m * p is added for m = the lowest limb. The two low limbs of p are
        // 2^96 - 1: with the limb itself they make m * 2^96. The highest is 2^64 - 2^32 + 1.
        let m = t[0];
        let (up, down) = (m << 32, m >> 32);
        let (low, borrow) = sub(m, up, 0);
        let high = m.wrapping_sub(down).wrapping_sub(borrow);
        let (a, carry) = add(t[1], up, 0);
        let (b, carry) = add(t[2], down, carry);
        let (c, carry) = add(t[3], low, carry);
        let (d, carry) = add(t[4], high, carry);
        [a, b, c, d, top + carry]
    }
}

impl Modulus for N {
    const M: Limbs = [
        0xf3b9_cac2_fc63_2551,
        0xbce6_faad_a717_9e84,
        0xffff_ffff_ffff_ffff,
        0xffff_ffff_0000_0000,
    ];

    #[inline(always)]
    fn shift(t: [u64; 5], top: u64) -> [u64; 5] {
        const N0: u64 = minus_inverse(N::M[0]);
        let m = t[0].wrapping_mul(N0);
        let (_, carry) = mul_add(t[0], m, Self::M[0], 0);
        let (a, carry) = mul_add(t[1], m, Self::M[1], carry);
        let (b, carry) = mul_add(t[2], m, Self::M[2], carry);
        let (c, carry) = mul_add(t[3], m, Self::M[3], carry);
        let (d, carry) = add(t[4], carry, 0);
        [a, b, c, d, top + carry]
    }
}

/// An integer modulo `M` in Montgomery form, always below the modulus, so that equal numbers have
/// equal limbs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Num<M>(Limbs, PhantomData<M>);

pub(crate) type Fe = Num<P>;
pub(crate) type Scalar = Num<N>;

impl<M: Modulus> Num<M> {
    pub(crate) const ZERO: Self = Num([0; 4], PhantomData);
    pub(crate) const ONE: Self = Num(M::ONE, PhantomData);

    /// The number itself; `None` when it is not below the modulus.
    pub(crate) fn new(limbs: Limbs) -> Option<Self> {
        (compare(&limbs, &M::M) == Ordering::Less)
            .then(|| Num(mul::<M>(&limbs, &M::R2), PhantomData))
    }

    /// Any number below 2^256, which is below twice the modulus.
    pub(crate) fn wrapped(limbs: Limbs) -> Self {
        Num(mul::<M>(&settle(limbs, 0, &M::M), &M::R2), PhantomData)
    }

    pub(crate) fn limbs(self) -> Limbs {
        mul::<M>(&self.0, &[1, 0, 0, 0])
    }

    pub(crate) fn is_zero(&self) -> bool {
        self.0 == [0; 4]
    }

    #[inline(always)]
    pub(crate) fn mul(&self, other: &Self) -> Self {
        Num(mul::<M>(&self.0, &other.0), PhantomData)
    }

    #[inline(always)]
    pub(crate) fn square(&self) -> Self {
        Num(mul::<M>(&self.0, &self.0), PhantomData)
    }

    #[inline(always)]
    pub(crate) fn add(&self, other: &Self) -> Self {
        let (sum, carry) = add_limbs(&self.0, &other.0);
        Num(settle(sum, carry, &M::M), PhantomData)
    }

    #[inline(always)]
    pub(crate) fn sub(&self, other: &Self) -> Self {
        let (d, borrow) = sub_limbs(&self.0, &other.0);
        let mask = 0u64.wrapping_sub(borrow);
        let (d, _) = add_limbs(&d, &M::M.map(|limb| limb & mask));
        Num(d, PhantomData)
    }

    pub(crate) fn neg(&self) -> Self {
        Self::ZERO.sub(self)
    }

    /// `self` to the power of `exponent`, four bits at a time.
    pub(crate) fn pow(&self, exponent: &Limbs) -> Self {
        let mut powers = [Self::ONE; 16];
        for i in 1..16 {
            powers[i] = powers[i - 1].mul(self);
        }
        let mut out = Self::ONE;
        for i in (0..64).rev() {
            for _ in 0..4 {
                out = out.square();
            }
            let digit = exponent[i / 16] >> (i % 16 * 4) & 15;
            if digit != 0 {
                out = out.mul(&powers[digit as usize]);
            }
        }
        out
    }

    /// 1 / `self` by Fermat's little theorem; zero of zero.
    pub(crate) fn invert(&self) -> Self {
        // Both moduli end in a limb above 2.
        let [a, b, c, d] = M::M;
        self.pow(&[a - 2, b, c, d])
    }
}

/// Big-endian octets as limbs.
pub(crate) fn limbs_of(octets: &[u8; 32]) -> Limbs {
    let mut limbs = [0u64; 4];
    for (limb, chunk) in limbs.iter_mut().rev().zip(octets.chunks_exact(8)) {
        *limb = chunk.iter().fold(0, |v, &b| v << 8 | b as u64);
    }
    limbs
}

/// The other way.
pub(crate) fn octets_of(limbs: &Limbs) -> [u8; 32] {
    let mut out = [0u8; 32];
    for (limb, chunk) in limbs.iter().rev().zip(out.chunks_exact_mut(8)) {
        chunk.copy_from_slice(&limb.to_be_bytes());
    }
    out
}

pub(crate) fn compare(a: &Limbs, b: &Limbs) -> Ordering {
    a.iter().rev().cmp(b.iter().rev())
}

/// Sum and carry.
#[inline(always)]
pub(crate) fn add_limbs(a: &Limbs, b: &Limbs) -> (Limbs, u64) {
    let (mut sum, mut carry) = ([0; 4], 0);
    for i in 0..4 {
        (sum[i], carry) = add(a[i], b[i], carry);
    }
    (sum, carry)
}

/// Difference and borrow.
#[inline(always)]
fn sub_limbs(a: &Limbs, b: &Limbs) -> (Limbs, u64) {
    let (mut d, mut borrow) = ([0; 4], 0);
    for i in 0..4 {
        (d[i], borrow) = sub(a[i], b[i], borrow);
    }
    (d, borrow)
}

/// Subtracts the modulus once if the number, `top` being its fifth limb, is not below it.
#[inline(always)]
fn settle(t: Limbs, top: u64, m: &Limbs) -> Limbs {
    let (d, borrow) = sub_limbs(&t, m);
    // The modulus is taken off when that leaves nothing to borrow.
    let keep = 0u64.wrapping_sub(borrow & !top & 1);
    let mut out = [0; 4];
    for i in 0..4 {
        out[i] = d[i] ^ (keep & (d[i] ^ t[i]));
    }
    out
}

/// Row by row, each followed by a step of reduction: few limbs are alive at a time.
#[inline(always)]
fn mul<M: Modulus>(a: &Limbs, b: &Limbs) -> Limbs {
    let mut t = [0u64; 5];
    for &a in a {
        let (mut carry, top);
        (t[0], carry) = mul_add(t[0], a, b[0], 0);
        (t[1], carry) = mul_add(t[1], a, b[1], carry);
        (t[2], carry) = mul_add(t[2], a, b[2], carry);
        (t[3], carry) = mul_add(t[3], a, b[3], carry);
        (t[4], top) = add(t[4], carry, 0);
        t = M::shift(t, top);
    }
    settle([t[0], t[1], t[2], t[3]], t[4], &M::M)
}

#[inline(always)]
const fn add(a: u64, b: u64, carry: u64) -> (u64, u64) {
    let t = a as u128 + b as u128 + carry as u128;
    (t as u64, (t >> 64) as u64)
}

#[inline(always)]
const fn sub(a: u64, b: u64, borrow: u64) -> (u64, u64) {
    let t = (a as u128).wrapping_sub(b as u128 + borrow as u128);
    (t as u64, (t >> 127) as u64)
}

/// `a + b * c + carry`, low and high.
#[inline(always)]
const fn mul_add(a: u64, b: u64, c: u64, carry: u64) -> (u64, u64) {
    let t = a as u128 + b as u128 * c as u128 + carry as u128;
    (t as u64, (t >> 64) as u64)
}

/// -1/`m` mod 2^64 by Newton's iteration, for odd `m`.
const fn minus_inverse(m: u64) -> u64 {
    let mut x = 1u64;
    let mut i = 0;
    while i < 6 {
        x = x.wrapping_mul(2u64.wrapping_sub(m.wrapping_mul(x)));
        i += 1;
    }
    x.wrapping_neg()
}

/// 2^`n` mod `m` by doubling.
const fn power_of_two(m: Limbs, n: usize) -> Limbs {
    let mut v = [1, 0, 0, 0];
    let mut i = 0;
    while i < n {
        let (mut twice, mut less) = ([0; 4], [0; 4]);
        let (mut carry, mut borrow, mut j) = (0, 0, 0);
        while j < 4 {
            (twice[j], carry) = add(v[j], v[j], carry);
            (less[j], borrow) = sub(twice[j], m[j], borrow);
            j += 1;
        }
        v = if carry == 1 || borrow == 0 {
            less
        } else {
            twice
        };
        i += 1;
    }
    v
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// `a * b mod m` by shift and add, nothing in common with the code above.
    fn slow_mul(a: Limbs, b: Limbs, m: &Limbs) -> Limbs {
        let reduce = |(sum, carry): (Limbs, u64)| {
            let (d, borrow) = sub_limbs(&sum, m);
            if carry == 1 || borrow == 0 { d } else { sum }
        };
        let mut out = [0; 4];
        for bit in (0..256).rev() {
            out = reduce(add_limbs(&out, &out));
            if a[bit / 64] >> (bit % 64) & 1 == 1 {
                out = reduce(add_limbs(&out, &b));
            }
        }
        out
    }

    /// Limbs with many all-zero and all-one parts, where carries hide.
    fn limbs() -> impl Strategy<Value = Limbs> {
        let limb = prop_oneof![
            Just(0u64),
            Just(u64::MAX),
            Just(1),
            Just(0xffff_ffff),
            Just(0xffff_ffff_0000_0001),
            any::<u64>()
        ];
        [limb.clone(), limb.clone(), limb.clone(), limb]
    }

    fn agrees<M: Modulus + std::fmt::Debug + PartialEq>(a: Limbs, b: Limbs) {
        let (x, y) = (Num::<M>::wrapped(a), Num::<M>::wrapped(b));
        let (a, b) = (settle(a, 0, &M::M), settle(b, 0, &M::M));
        assert_eq!(x.limbs(), a);
        assert_eq!(x.mul(&y).limbs(), slow_mul(a, b, &M::M));
        assert_eq!(x.square().limbs(), slow_mul(a, a, &M::M));
        assert_eq!(x.add(&y).sub(&y), x);
        assert_eq!(x.add(&x), x.mul(&Num::wrapped([2, 0, 0, 0])));
        assert_eq!(x.sub(&y), y.sub(&x).neg());
        if !x.is_zero() {
            assert_eq!(x.invert().mul(&x), Num::ONE);
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(512))]
        #[test]
        fn arithmetic_is_that_of_the_model(a in limbs(), b in limbs()) {
            agrees::<P>(a, b);
            agrees::<N>(a, b);
        }
    }

    #[test]
    fn the_borders() {
        for (m, less) in [(P::M, P::M[0] - 1), (N::M, N::M[0] - 1)] {
            let last = [less, m[1], m[2], m[3]];
            assert_eq!(compare(&last, &m), Ordering::Less);
            for other in [[0; 4], [1, 0, 0, 0], last, m, [u64::MAX; 4]] {
                agrees::<P>(last, other);
                agrees::<N>(last, other);
            }
        }
        assert!(Fe::new(P::M).is_none());
        assert!(Scalar::new(N::M).is_none());
        assert!(Scalar::wrapped(N::M).is_zero());
        assert_eq!(P::R2, slow_mul(P::ONE, P::ONE, &P::M));
    }

    #[test]
    fn octets_go_both_ways() {
        let mut octets = [0u8; 32];
        octets.iter_mut().zip(1..).for_each(|(o, i)| *o = i);
        assert_eq!(limbs_of(&octets)[3], 0x0102_0304_0506_0708);
        assert_eq!(octets_of(&limbs_of(&octets)), octets);
    }
}

//! Points of P-256 and tables of multiples of a fixed one.

use super::num::{Fe, limbs_of, octets_of};

/// Bits of a window: 26 of 10 bits, 0.85 MB a table. Measured where ring takes 65 µs a signature:
/// 12.6 µs with 8 bits, 11.5 with 9, 9.0 with 10; 12 bits gain nothing more and are 2.9 MB.
const WIDTH: usize = 10;
/// Windows that hold a scalar of 256 bits and the carry that signed digits need.
pub(super) const WINDOWS: usize = 257usize.div_ceil(WIDTH);
/// Digits run from -HALF to HALF - 1: the opposite of a point is at hand.
const HALF: usize = 1 << (WIDTH - 1);

/// A point in affine coordinates; the point at infinity is never one of these.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(align(64))]
pub(crate) struct Point {
    pub(crate) x: Fe,
    pub(crate) y: Fe,
}

impl Point {
    /// The point of x and y, 32 big-endian octets each; `None` if it is not on the curve.
    pub(crate) fn new(key: &[u8; 64]) -> Option<Point> {
        let (x, y) = key.split_first_chunk::<32>()?;
        let x = Fe::new(limbs_of(x))?;
        let y = Fe::new(limbs_of(y.first_chunk()?))?;
        (y.square() == right_side(&x)).then_some(Point { x, y })
    }

    /// The base point (FIPS 186-4 §D.1.2.3).
    pub(crate) fn generator() -> Option<Point> {
        Point::new(&GENERATOR)
    }

    /// x and y, 32 big-endian octets each.
    pub(crate) fn octets(&self) -> [u8; 64] {
        let mut out = [0u8; 64];
        out[..32].copy_from_slice(&octets_of(&self.x.limbs()));
        out[32..].copy_from_slice(&octets_of(&self.y.limbs()));
        out
    }

    pub(super) fn neg(self) -> Point {
        Point {
            x: self.x,
            y: self.y.neg(),
        }
    }

    /// No point of the curve has order two, so y is never zero.
    fn double(&self) -> Point {
        self.chord(self, &slope_of_tangent(self, &self.y.add(&self.y).invert()))
    }

    /// The sum with `other`, given the slope of the line through both.
    #[inline(always)]
    pub(super) fn chord(&self, other: &Point, slope: &Fe) -> Point {
        let x = slope.square().sub(&self.x).sub(&other.x);
        let y = slope.mul(&self.x.sub(&x)).sub(&self.y);
        Point { x, y }
    }
}

/// y² = x³ - 3x + b.
fn right_side(x: &Fe) -> Fe {
    let three_x = x.add(x).add(x);
    let b = Fe::wrapped([
        0x3bce_3c3e_27d2_604b,
        0x651d_06b0_cc53_b0f6,
        0xb3eb_bd55_7698_86bc,
        0x5ac6_35d8_aa3a_93e7,
    ]);
    x.square().mul(x).sub(&three_x).add(&b)
}

/// (3x² - 3) / 2y, given 1 / 2y.
fn slope_of_tangent(p: &Point, inverse: &Fe) -> Fe {
    let t = p.x.square().sub(&Fe::ONE);
    t.add(&t).add(&t).mul(inverse)
}

/// The point of this x, if there is one, with either y. For tests of rare signatures.
pub(super) fn lift(x: Fe) -> Option<Point> {
    // p = 3 mod 4: a root is the power (p + 1) / 4.
    const ROOT: [u64; 4] = [0, 0x4000_0000, 0x4000_0000_0000_0000, 0x3fff_ffff_c000_0000];
    let y = right_side(&x).pow(&ROOT);
    (y.square() == right_side(&x)).then_some(Point { x, y })
}

const GENERATOR: [u8; 64] = [
    0x6b, 0x17, 0xd1, 0xf2, 0xe1, 0x2c, 0x42, 0x47, 0xf8, 0xbc, 0xe6, 0xe5, 0x63, 0xa4, 0x40, 0xf2,
    0x77, 0x03, 0x7d, 0x81, 0x2d, 0xeb, 0x33, 0xa0, 0xf4, 0xa1, 0x39, 0x45, 0xd8, 0x98, 0xc2, 0x96,
    0x4f, 0xe3, 0x42, 0xe2, 0xfe, 0x1a, 0x7f, 0x9b, 0x8e, 0xe7, 0xeb, 0x4a, 0x7c, 0x0f, 0x9e, 0x16,
    0x2b, 0xce, 0x33, 0x57, 0x6b, 0x31, 0x5e, 0xce, 0xcb, 0xb6, 0x40, 0x68, 0x37, 0xbf, 0x51, 0xf5,
];

/// j * 2^(WIDTH * i) * Q for each window i and 1 <= j <= HALF: a multiple of Q is a sum of one entry
/// per window, without any doubling.
pub(crate) struct Table {
    points: Vec<Point>,
}

impl Table {
    pub(crate) fn new(q: Point) -> Table {
        let mut points = vec![q; WINDOWS * HALF];
        let mut base = q;
        for window in points.chunks_exact_mut(HALF) {
            window[0] = base;
            for _ in 0..WIDTH {
                base = base.double();
            }
        }
        // Multiples 1..=k give k + 1..=2k, over all windows with one inversion.
        let (mut k, mut chain) = (1, Vec::new());
        while k < HALF {
            double_up(&mut points, k, &mut chain);
            k *= 2;
        }
        Table { points }
    }

    /// `digit` * 2^(WIDTH * window) * Q for a digit that is not zero.
    #[inline(always)]
    pub(super) fn entry(&self, window: usize, digit: i32) -> Point {
        let point = self.points[window * HALF + digit.unsigned_abs() as usize - 1];
        if digit < 0 { point.neg() } else { point }
    }

    /// x of the same.
    #[inline(always)]
    pub(super) fn x(&self, window: usize, digit: i32) -> Fe {
        self.points[window * HALF + digit.unsigned_abs() as usize - 1].x
    }

    #[cfg(test)]
    pub(super) fn octets(&self) -> usize {
        std::mem::size_of_val(self.points.as_slice())
    }
}

/// Fills multiples k + 1..=2k of every window from 1..=k. `chain` is a buffer.
fn double_up(points: &mut [Point], k: usize, chain: &mut Vec<Fe>) {
    // j * B and k * B have the same x only for j = k: the order of the group is far above.
    let run = |w: &[Point], j: usize| match j + 1 == k {
        true => w[j].y.add(&w[j].y),
        false => w[k - 1].x.sub(&w[j].x),
    };
    chain.clear();
    let mut product = Fe::ONE;
    for window in points.chunks_exact(HALF) {
        for j in 0..k {
            chain.push(product);
            product = product.mul(&run(window, j));
        }
    }
    let mut inverse = product.invert();
    for (window, chain) in points
        .chunks_exact_mut(HALF)
        .zip(chain.chunks_exact(k))
        .rev()
    {
        for j in (0..k).rev() {
            let one = inverse.mul(&chain[j]);
            inverse = inverse.mul(&run(window, j));
            let (small, big) = (window[j], window[k - 1]);
            let slope = match j + 1 == k {
                true => slope_of_tangent(&big, &one),
                false => big.y.sub(&small.y).mul(&one),
            };
            window[k + j] = small.chord(&big, &slope);
        }
    }
}

/// A scalar in signed digits: adding half a window everywhere turns digits from -HALF into digits
/// from 0, so that none depends on the one before.
#[derive(Clone, Copy)]
pub(super) struct Digits([u64; 6]);

impl Digits {
    pub(super) fn new(scalar: &[u64; 4]) -> Digits {
        const OFFSET: [u64; 6] = offset();
        let mut out = [0u64; 6];
        let mut carry = 0u128;
        for i in 0..6 {
            let limb = scalar.get(i).copied().unwrap_or(0);
            carry += limb as u128 + OFFSET[i] as u128;
            out[i] = carry as u64;
            carry >>= 64;
        }
        Digits(out)
    }

    /// Digit of the window, from -HALF to HALF - 1.
    #[inline(always)]
    pub(super) fn get(&self, window: usize) -> i32 {
        let bit = window * WIDTH;
        let pair = self.0[bit / 64] as u128 | (self.0[bit / 64 + 1] as u128) << 64;
        ((pair >> (bit % 64)) as usize & (2 * HALF - 1)) as i32 - HALF as i32
    }
}

const fn offset() -> [u64; 6] {
    let mut out = [0u64; 6];
    let mut i = 0;
    while i < WINDOWS {
        let bit = i * WIDTH + WIDTH - 1;
        out[bit / 64] |= 1 << (bit % 64);
        i += 1;
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Sums of entries by single additions.
    fn multiple(table: &Table, scalar: &[u64; 4]) -> Option<Point> {
        let digits = Digits::new(scalar);
        let mut sum: Option<Point> = None;
        for window in 0..WINDOWS {
            let digit = digits.get(window);
            if digit == 0 {
                continue;
            }
            let p = table.entry(window, digit);
            sum = Some(match sum {
                None => p,
                Some(s) if s == p => s.double(),
                Some(s) => s.chord(&p, &p.y.sub(&s.y).mul(&p.x.sub(&s.x).invert())),
            });
        }
        sum
    }

    #[test]
    fn every_entry_is_on_the_curve_and_digits_add_up() {
        let g = Point::generator().unwrap();
        let table = Table::new(g);
        assert_eq!(table.octets(), WINDOWS * HALF * 64);
        for p in &table.points {
            assert_eq!(p.y.square(), right_side(&p.x));
        }
        let mut power = g;
        for i in 0..256 {
            let mut scalar = [0u64; 4];
            scalar[i / 64] = 1 << (i % 64);
            assert_eq!(multiple(&table, &scalar), Some(power), "2^{i}");
            power = power.double();
        }
        // n - 1 and n + 1 (as a number) times G: the opposite of G, and G.
        let mut last = <super::super::num::N as super::super::num::Modulus>::M;
        last[0] -= 1;
        assert_eq!(multiple(&table, &last), Some(g.neg()));
        last[0] += 2;
        assert_eq!(multiple(&table, &last), Some(g));
    }

    #[test]
    fn points_off_the_curve_are_none() {
        let mut key = GENERATOR;
        assert_eq!(Point::new(&key).unwrap().octets(), key);
        key[63] ^= 1;
        assert!(Point::new(&key).is_none());
        assert!(Point::new(&[0; 64]).is_none());
        assert!(Point::new(&[0xff; 64]).is_none());
    }

    #[test]
    fn roots() {
        let g = Point::generator().unwrap();
        let p = lift(g.x).unwrap();
        assert!(p == g || p == g.neg());
    }
}

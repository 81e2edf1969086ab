//! One signature alone: the same sum of table entries, in Jacobian coordinates, which need no inversion
//! but that of s.

use super::num::{self, Fe, Modulus, N, P};
use super::table::{Digits, Point, WINDOWS};
use super::{Answer, Job, Scalar, Tables, parse};

/// x / z^2 and y / z^3; z is never zero.
struct Jacobian {
    x: Fe,
    y: Fe,
    z: Fe,
}

impl Jacobian {
    /// The sum with a point of other x (P. L. Montgomery's mixed addition, eleven multiplications);
    /// `None` where both have the same.
    fn add(&self, p: &Point) -> Option<Jacobian> {
        let zz = self.z.square();
        let run = p.x.mul(&zz).sub(&self.x);
        if run.is_zero() {
            return None;
        }
        let rise = p.y.mul(&zz).mul(&self.z).sub(&self.y);
        let run2 = run.square();
        let run3 = run2.mul(&run);
        let across = self.x.mul(&run2);
        let x = rise.square().sub(&run3).sub(&across).sub(&across);
        let y = rise.mul(&across.sub(&x)).sub(&self.y.mul(&run3));
        let z = self.z.mul(&run);
        Some(Jacobian { x, y, z })
    }

    /// x mod n == r, without a division. As p is less than 2n, x is r or r + n.
    fn has_x_of(&self, r: &num::Limbs) -> bool {
        let zz = self.z.square();
        let is = |x: num::Limbs| Fe::new(x).is_some_and(|x| x.mul(&zz) == self.x);
        let (other, carry) = num::add_limbs(r, &N::M);
        is(*r) || (carry == 0 && num::compare(&other, &P::M).is_lt() && is(other))
    }
}

/// As [`judge`](super::judge) says of this one.
pub(super) fn judge(tables: Tables<'_>, job: &Job<'_>) -> Answer {
    let Some((r, s)) = parse(job.signature) else {
        return Answer::Bad;
    };
    let w = s.invert();
    let u1 = Scalar::wrapped(num::limbs_of(&job.digest)).mul(&w).limbs();
    let u2 = Scalar::wrapped(r).mul(&w).limbs();
    let parts = [(tables.g, Digits::new(&u1)), (tables.q, Digits::new(&u2))];
    let mut sum: Option<Jacobian> = None;
    for window in 0..WINDOWS {
        for (table, digits) in &parts {
            let digit = digits.get(window);
            if digit == 0 {
                continue;
            }
            let Point { x, y } = table.entry(window, digit);
            let grown = match &sum {
                None => Some(Jacobian { x, y, z: Fe::ONE }),
                Some(sum) => sum.add(&Point { x, y }),
            };
            let Some(grown) = grown else {
                return Answer::Unsure;
            };
            sum = Some(grown);
        }
    }
    match sum {
        Some(sum) if sum.has_x_of(&r) => Answer::Good,
        // Also the point at infinity (FIPS 186-4 §6.4.2 step 5).
        _ => Answer::Bad,
    }
}

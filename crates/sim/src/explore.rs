//! Random worlds, as scenario files: whatever fails here can be kept as one.

use crate::fault::FAULTS;
use crate::rng::Rng;

/// A world, an operator and faults from one number.
pub fn random_scenario(seed: u64) -> String {
    let mut r = Rng::stream(seed, "explore");
    let mut out = format!("scenario explored-{seed}\n");
    let ttl = |r: &mut Rng| pick(r, &["5m", "1h", "1d", "2d"]);
    let quiet = r.one_in(2);
    out += &format!(
        "zone policy={} data-ttl={} resign={}\n",
        if quiet { "quiet" } else { "default" },
        ttl(&mut r),
        pick(&mut r, &["10m", "6h", "2d"])
    );
    out += &format!(
        "parent by={} every={} register={} copy={},{} ds-ttl={}\n",
        pick(&mut r, &["hook", "cds", "person"]),
        pick(&mut r, &["1h", "6h", "1d"]),
        pick(&mut r, &["0s", "1h", "2d", "9d"]),
        pick(&mut r, &["1m", "1h"]),
        pick(&mut r, &["1m", "6h", "3d"]),
        ttl(&mut r)
    );
    let lags = ["10s", "5m", "1h", "1d"];
    out += &format!(
        "secondaries lags={},{}\n",
        pick(&mut r, &lags),
        pick(&mut r, &lags)
    );
    if r.one_in(3) {
        out += "daemon generate=5s build=2m prove=3s look=5m\n";
    }
    out += &format!(
        "policy ksk-roll={} zsk-roll={} cds={} standby-ksk={} standby-zsk={} ttl={}\n",
        pick(
            &mut r,
            &["double-signature", "double-signature", "double-ds"]
        ),
        pick(&mut r, &["pre-publish", "pre-publish", "double-signature"]),
        pick(&mut r, &["when-needed", "when-needed", "always"]),
        pick(&mut r, &["0", "0", "1"]),
        pick(&mut r, &["0", "0", "1"]),
        pick(&mut r, &["5m", "1h", "1d"])
    );
    let mut at = 12 * 24;
    for _ in 0..4 + r.below(12) {
        at += r.below(9 * 24);
        out += &format!("at {at}h {}\n", event(&mut r));
    }
    let end = at / 24 + 120;
    out += &format!("run {end}d\n");
    out
}

fn event(r: &mut Rng) -> String {
    match r.below(12) {
        0..=2 => format!(
            "operator start-roll {} maybe",
            pick(r, &["ksk", "zsk", "csk"])
        ),
        3 => format!("policy use-csk={}", pick(r, &["yes", "no"])),
        4 => format!("policy algorithm={}", pick(r, &["8", "13", "15"])),
        5 => format!(
            "policy cds={}",
            pick(r, &["delete", "when-needed", "always"])
        ),
        6 => format!(
            "operator remove-key {} {}maybe",
            pick(r, &["k1", "k2", "k3", "k4", "k5"]),
            pick(r, &["", "--force "])
        ),
        7 => format!("operator emergency {} safe maybe", pick(r, &["ksk", "zsk"])),
        8 => format!(
            "operator {} {} maybe",
            pick(r, &["ksk", "zsk"]),
            pick(r, &["cache-expired1", "cache-expired2", "roll-done"])
        ),
        _ => {
            // Two dead secondaries at once would be a zone without half its servers.
            let usual: Vec<&str> = FAULTS
                .iter()
                .filter(|f| f.2.is_empty() && f.0 != "secondary-rewinds")
                .map(|f| f.1)
                .collect();
            pick(r, &usual)
        }
    }
}

fn pick(r: &mut Rng, of: &[&str]) -> String {
    r.pick(of).map_or(String::new(), |s| (*s).to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fault::Choice;
    use crate::run::run;
    use crate::scenario::parse;

    #[test]
    fn every_random_world_can_be_read() {
        for seed in 0..200 {
            let text = random_scenario(seed);
            assert!(parse(&text).is_ok(), "{:?}\n{text}", parse(&text).err());
            assert_eq!(text, random_scenario(seed));
        }
    }

    #[test]
    fn a_few_random_worlds_hold() {
        for seed in 0..12 {
            let text = random_scenario(seed);
            let scenario = parse(&text).expect("good");
            let choice = Choice {
                seed,
                ..Choice::default()
            };
            let out = run(&scenario, &choice);
            assert_eq!(out.broken, None, "{text}\n{}", out.world.lines.join("\n"));
        }
    }
}

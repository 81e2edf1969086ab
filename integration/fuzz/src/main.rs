//! `fuzz <corpus folders> [-options]`: libFuzzer over the target that `CASCADE_FUZZ_TARGET` names.
//! Started by `cargo xtask fuzz`.
#![no_main]

use std::sync::LazyLock;

static TARGET: LazyLock<fn(&[u8])> = LazyLock::new(|| {
    let name = std::env::var("CASCADE_FUZZ_TARGET").unwrap_or_default();
    cascade_fuzz::by_name(&name).unwrap_or_else(|| {
        let names: Vec<&str> = cascade_fuzz::ALL.iter().map(|t| t.0).collect();
        eprintln!("CASCADE_FUZZ_TARGET must be one of {}", names.join(", "));
        std::process::exit(2)
    })
});

libfuzzer_sys::fuzz_target!(|input: &[u8]| TARGET(input));

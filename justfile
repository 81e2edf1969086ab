# Short names. The commands themselves are `cargo xtask …`.

# Everything, as CI runs it.
ci:
    cargo xtask test

# Quick checks before a commit.
check:
    cargo xtask test --only fmt --only layers --only tidy --only clippy

unit:
    cargo xtask test --only unit

# The scenarios of integration/sim, each with each fault at each stage, dealt over what it sweeps.
sim:
    cargo xtask test --only sim

# All of them with each fault at each stage dealt over what they sweep, random worlds, and small worlds
# as a whole.
year seeds="5":
    cargo run --release --locked --package cascade-sim -- run integration/sim integration/sim/regress --dealt --seeds {{seeds}} --reached
    cargo run --release --locked --package cascade-sim -- many
    cargo run --release --locked --package cascade-sim -- day
    cargo run --release --locked --package cascade-sim -- explore --count 5000
    cargo run --release --locked --package cascade-sim -- small --fault

# Every fault at every stage of everything that is swept, and a crash after every action: a night's work.
night seeds="0":
    cargo run --release --locked --package cascade-sim -- run integration/sim integration/sim/regress --all --seeds {{seeds}} --reached

conformance:
    cargo xtask test --only conformance

# Long chains of random changes, each step signed, compared and judged: a night's work.
sequences count="10000":
    cargo run --release --locked --package cascade-conformance --bin sequences -- --count {{count}}

e2e:
    cargo xtask test --only e2e

# Power cuts while changes stream in; CI has 300.
kills count="3000":
    CASCADE_KILLS={{count}} cargo test --package cascade-e2e --test stories -- --nocapture kill_at_random

# The scenarios of integration/sim that real programs can play, at the real daemon; with NSD, Unbound.
level-d only="":
    cargo build --package cascaded --package cascade --package kmip2pkcs11 --features cascaded/test-clock
    CASCADE_LEVEL_D={{only}} cargo test --package cascade-e2e --test stories -- --ignored --nocapture every_scenario_that_applies

# Small zones added, signed and restarted in one daemon of a development build; CI has 10,000.
many-zones count="30000":
    CASCADE_ZONES={{count}} cargo test --package cascade-e2e --test stories -- --nocapture many_zones_are

demo *args:
    cargo xtask demo {{args}}

bench *args:
    cargo xtask bench {{args}}

# Licences, advisories, duplicate and banned dependencies (cargo install cargo-deny).
deny:
    cargo deny check

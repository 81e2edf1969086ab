//! Zones and steps that several stories share.

use cascade_e2e::Site;

/// The zone file of the seed page.
pub const SEED: &str = include_str!("../../../data/example.net.zone");

/// The same with another serial and one more record, so that the next load makes a version.
pub fn seed_with_serial(serial: u32) -> String {
    let soa = SEED.replace(". 1 86400", &format!(". {serial} 86400"));
    assert!(
        serial == 1 || soa != SEED,
        "the serial stands where it is replaced"
    );
    format!("{soa}v{serial}                     IN      A       192.0.2.2\n")
}

/// A running site with a policy named `p` of these lines, activated.
#[track_caller]
pub fn site_with_policy(lines: &str) -> Site {
    let site = Site::started();
    site.policy("p", lines);
    site.ok(&["policy", "reload"]);
    site
}

/// Adds a zone whose file has this text.
#[track_caller]
pub fn add(site: &Site, zone: &str, text: &str) {
    let file = site.write(&format!("zones/{zone}"), text);
    add_file(site, zone, &file);
}

/// Adds a zone with this file.
#[track_caller]
pub fn add_file(site: &Site, zone: &str, file: &std::path::Path) {
    let said = site.ok(&[
        "zone",
        "add",
        zone,
        "--source",
        file.to_str().unwrap(),
        "--policy",
        "p",
    ]);
    assert_eq!(said, format!("Added zone {zone}\n"));
}

/// Replaces the zone's file and asks for it to be read.
#[track_caller]
pub fn change(site: &Site, zone: &str, text: &str) {
    site.write(&format!("zones/{zone}"), text);
    site.ok(&["zone", "reload", zone]);
}

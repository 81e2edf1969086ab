//! Records as people read them.

use cascade_zone::Rtype;

/// One record in zone file form: fully qualified, one line.
pub fn record(owner: &[u8], rtype: Rtype, ttl: u32, rdata: &[u8]) -> String {
    let mut out = String::with_capacity(80 + rdata.len() * 2);
    // Writing to a string cannot fail.
    let _ = cascade_zone::name::write_name(owner, &mut out);
    out.push_str(&format!(" {ttl} IN {rtype} "));
    let _ = cascade_zone::rdata::print(rtype, rdata, &mut out);
    out
}

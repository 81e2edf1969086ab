//! Which servers are asked: those of the policy, or those that names lead to.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use cascade_keys::{MAX_MEMBERS, What};
use cascade_policy::Target;
use cascade_zone::{Name, Rtype, ZoneVersion, key};

use super::Look;
use super::message::{ANSWER, AUTHORITY, Reply};
use super::transport::Asker;

/// Server names of one zone that are looked up.
pub const MAX_NAMES: usize = 32;
const PORT: u16 = 53;
/// Resolvers of the system that are tried.
const MAX_RESOLVERS: usize = 3;

/// Someone to ask.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Server {
    pub name: String,
    pub addr: SocketAddr,
    pub tsig: Option<String>,
}

/// All that must be asked.
pub async fn find(look: &Look, asker: &Asker) -> Vec<Server> {
    let named = match look.what {
        What::Ds => &look.parent_nameservers,
        _ => &look.publication_nameservers,
    };
    if !named.is_empty() {
        return named.iter().map(configured).collect();
    }
    let resolvers = resolvers(&look.resolvers).await;
    let mut names = match look.what {
        What::Ds => match parent_of(&look.zone, &resolvers, asker).await {
            Some((_, names)) => names,
            None => return Vec::new(),
        },
        _ => {
            let mut names = apex_ns(&look.version);
            names.extend(look.referral.iter().cloned());
            names
        }
    };
    names.sort_by(|a, b| a.as_wire().cmp(b.as_wire()));
    names.dedup();
    names.truncate(MAX_NAMES);
    let mut out = Vec::new();
    for name in names {
        let own = match look.what {
            What::Ds => None,
            _ => own_addresses(&look.version, &name),
        };
        let addresses = match own {
            Some(own) => own,
            None => addresses(&name, &resolvers, asker).await,
        };
        for ip in addresses {
            // A resolver may invent addresses of this host or of its network.
            if is_public(ip) && out.len() < MAX_MEMBERS {
                out.push(Server {
                    name: name.to_lowercase().without_dot(),
                    addr: SocketAddr::new(ip, PORT),
                    tsig: None,
                });
            }
        }
    }
    out
}

/// Names of the published apex NS RRset, in lower case.
pub fn apex_ns(version: &ZoneVersion) -> Vec<Name> {
    let apex = version.apex_owner();
    let Some(set) = apex.set(Rtype::NS) else {
        return Vec::new();
    };
    set.rdatas()
        .filter_map(|r| Name::from_wire(r).ok())
        .map(|n| n.to_lowercase())
        .collect()
}

fn configured(t: &Target) -> Server {
    Server {
        name: t.addr.ip().to_string(),
        addr: t.addr,
        tsig: t.tsig_key.clone(),
    }
}

/// Addresses of a name that is in the zone itself; `None` if it is not.
fn own_addresses(version: &ZoneVersion, name: &Name) -> Option<Vec<IpAddr>> {
    if !name.is_at_or_below(version.apex()) {
        return None;
    }
    let owner = version.owner(&key::key_of(version.apex(), name.as_wire())?)?;
    let mut out = Vec::new();
    for rtype in [Rtype::A, Rtype::AAAA] {
        if let Some(set) = owner.set(rtype) {
            out.extend(set.rdatas().filter_map(address));
        }
    }
    Some(out)
}

pub(super) fn address(rdata: &[u8]) -> Option<IpAddr> {
    if let Ok(v4) = <[u8; 4]>::try_from(rdata) {
        return Some(Ipv4Addr::from(v4).into());
    }
    Some(Ipv6Addr::from(<[u8; 16]>::try_from(rdata).ok()?).into())
}

/// Not loopback, link-local, unspecified, multicast or broadcast.
pub(super) fn is_public(ip: IpAddr) -> bool {
    match ip.to_canonical() {
        IpAddr::V4(a) => {
            !(a.is_loopback()
                || a.is_link_local()
                || a.is_unspecified()
                || a.is_multicast()
                || a.is_broadcast())
        }
        IpAddr::V6(a) => {
            let link_local = a.segments()[0] & 0xffc0 == 0xfe80;
            !(a.is_loopback() || link_local || a.is_unspecified() || a.is_multicast())
        }
    }
}

/// Addresses of the servers in the apex NS RRset, but for the one that the SOA names as primary
/// (RFC 1996 §2): glue of the zone itself, else what `configured` resolvers or the system's say.
pub async fn of_ns(
    version: &ZoneVersion,
    configured: &[SocketAddr],
    asker: &Asker,
) -> Vec<SocketAddr> {
    let resolvers = resolvers(configured).await;
    let mut out = Vec::new();
    for name in secondary_names(version) {
        let found = match own_addresses(version, &name) {
            Some(own) => own,
            None => addresses(&name, &resolvers, asker).await,
        };
        let fresh = found.into_iter().filter(|ip| is_public(*ip));
        out.extend(fresh.map(|ip| SocketAddr::new(ip, PORT)));
    }
    out.sort();
    out.dedup();
    out.truncate(MAX_NAMES);
    out
}

fn secondary_names(version: &ZoneVersion) -> Vec<Name> {
    let soa = version.soa();
    let len = cascade_zone::name::wire_len(soa).unwrap_or(0);
    let mname = soa.get(..len).and_then(|n| Name::from_wire(n).ok());
    let mut names = apex_ns(version);
    names.retain(|n| Some(n) != mname.as_ref());
    names.truncate(MAX_NAMES);
    names
}

pub(super) async fn resolvers(configured: &[SocketAddr]) -> Vec<SocketAddr> {
    if !configured.is_empty() {
        return configured.to_vec();
    }
    let text = tokio::fs::read_to_string("/etc/resolv.conf").await;
    system_resolvers(&text.unwrap_or_default())
}

/// The `nameserver` lines of resolv.conf(5).
fn system_resolvers(text: &str) -> Vec<SocketAddr> {
    text.lines()
        .filter_map(|l| l.trim().strip_prefix("nameserver"))
        .filter_map(|rest| rest.split_whitespace().next()?.parse::<IpAddr>().ok())
        .map(|ip| SocketAddr::new(ip, PORT))
        .take(MAX_RESOLVERS)
        .collect()
}

/// The parent zone and the names of its servers: upwards from the zone's name without its first
/// label until a zone begins.
async fn parent_of(
    zone: &Name,
    resolvers: &[SocketAddr],
    asker: &Asker,
) -> Option<(Name, Vec<Name>)> {
    let mut above = zone.parent()?;
    loop {
        let reply = first_reply(resolvers, &above, Rtype::SOA, asker).await?;
        let owner = above.to_lowercase();
        if !reply.set(ANSWER, owner.as_wire(), Rtype::SOA).is_empty() {
            break;
        }
        // Where none begins, the SOA in the authority section says which one the name is in.
        let named = reply.set_owner(AUTHORITY, Rtype::SOA);
        above = match named {
            Some(n) if above.is_at_or_below(&n) && n != above => n,
            _ => above.parent()?,
        };
    }
    let reply = first_reply(resolvers, &above, Rtype::NS, asker).await?;
    let owner = above.to_lowercase();
    let names = reply
        .set(ANSWER, owner.as_wire(), Rtype::NS)
        .into_iter()
        .filter_map(|r| Name::from_wire(&r.rdata).ok())
        .map(|n| n.to_lowercase())
        .collect();
    Some((above, names))
}

async fn addresses(name: &Name, resolvers: &[SocketAddr], asker: &Asker) -> Vec<IpAddr> {
    let mut out = Vec::new();
    for rtype in [Rtype::A, Rtype::AAAA] {
        if let Some(reply) = first_reply(resolvers, name, rtype, asker).await {
            // Behind a CNAME or not: the resolver has followed it.
            let found = reply
                .records
                .iter()
                .filter(|r| r.section == ANSWER && r.rtype == rtype);
            out.extend(found.filter_map(|r| address(&r.rdata)));
        }
    }
    out
}

pub(super) async fn first_reply(
    resolvers: &[SocketAddr],
    name: &Name,
    rtype: Rtype,
    asker: &Asker,
) -> Option<Reply> {
    for resolver in resolvers {
        if let Some(reply) = asker.resolve(*resolver, name, rtype).await
            && matches!(
                reply.rcode,
                super::message::NOERROR | super::message::NXDOMAIN
            )
        {
            return Some(reply);
        }
    }
    None
}

impl Reply {
    fn set_owner(&self, section: u8, rtype: Rtype) -> Option<Name> {
        let found = self
            .records
            .iter()
            .find(|r| r.section == section && r.rtype == rtype)?;
        Name::from_wire(&found.owner).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn resolvers_of_the_system() {
        let text = "# by hand\nsearch example\nnameserver 192.0.2.1\n nameserver 2001:db8::1 x\n\
                    nameserver none\nnameserver fe80::1%eth0\nnameserver 192.0.2.2\nnameserver 192.0.2.3\n";
        let found = system_resolvers(text);
        let shown: Vec<String> = found.iter().map(ToString::to_string).collect();
        assert_eq!(shown, ["192.0.2.1:53", "[2001:db8::1]:53", "192.0.2.2:53"]);
    }

    #[test]
    fn invented_addresses_are_dropped() {
        for bad in [
            "127.0.0.1",
            "::1",
            "169.254.3.4",
            "fe80::1",
            "0.0.0.0",
            "::",
            "224.0.0.1",
            "ff02::1",
            "255.255.255.255",
            "::ffff:127.0.0.1",
        ] {
            assert!(!is_public(bad.parse().unwrap()), "{bad}");
        }
        for good in ["192.0.2.1", "10.1.2.3", "2001:db8::1", "fd00::1"] {
            assert!(is_public(good.parse().unwrap()), "{good}");
        }
    }
}

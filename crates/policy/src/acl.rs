//! Access lists: the text of an entry, checked and taken apart.

use std::net::IpAddr;

use crate::address::{member, only_members};
use crate::reader::Cx;
use crate::tree::{Node, Val, quote};
use crate::value::{Value, string};

/// One entry; the first that matches decides, no match denies.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct AclEntry {
    /// Written with a leading `!`: denies.
    pub negate: bool,
    pub net: Net,
    /// Only requests signed with this TSIG key. Without one the entry matches unsigned requests
    /// and those with any valid key.
    pub key: Option<String>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Net {
    Any,
    None,
    Loopback,
    /// Host bits may be set as written; they do not count.
    Prefix {
        addr: IpAddr,
        len: u8,
    },
    /// The name in a TLS client's certificate.
    Tls(String),
}

const FORM: &str = "write \"any\", \"none\", \"loopback\", an address or prefix such as \
                    \"192.0.2.0/24\", or \"tls:name\", each with \"^key\" if need be";

impl Value for AclEntry {
    fn type_text() -> String {
        "address, prefix, \"any\", \"none\", \"loopback\" or \"tls:name\", with ^key".into()
    }

    fn read(node: &Node, cx: &mut Cx) -> Option<Self> {
        match &node.value {
            Val::Str(_) => entry(string(node, cx, "an entry")?, node, cx),
            Val::Table(table) => {
                only_members(table, &["addr", "tsig-key-name"], cx)?;
                let at = member(table, "addr", node, cx)?;
                let mut out = entry(string(at, cx, "an address or prefix")?, at, cx)?;
                if let Some(e) = table.get("tsig-key-name") {
                    let name = key_name(string(&e.node, cx, "a key name")?, &e.node, cx)?;
                    if out.key.replace(name).is_some() {
                        cx.bad(node, "the key is named twice", "");
                        return None;
                    }
                }
                Some(out)
            }
            _ => {
                cx.wrong_type(node, "an address or prefix");
                None
            }
        }
    }

    fn write(&self) -> String {
        quote(&self.text())
    }
}

impl AclEntry {
    pub fn text(&self) -> String {
        let not = if self.negate { "!" } else { "" };
        let key = self
            .key
            .as_ref()
            .map(|k| format!("^{k}"))
            .unwrap_or_default();
        let net = match &self.net {
            Net::Any => "any".into(),
            Net::None => "none".into(),
            Net::Loopback => "loopback".into(),
            Net::Prefix { addr, len } if *len == width(*addr) => addr.to_string(),
            Net::Prefix { addr, len } => format!("{addr}/{len}"),
            Net::Tls(name) => format!("tls:{name}"),
        };
        format!("{not}{net}{key}")
    }

    /// Whether the network part covers an address, keys left aside.
    pub fn covers(&self, ip: IpAddr) -> bool {
        let ip = ip.to_canonical();
        match &self.net {
            Net::Any => true,
            Net::None | Net::Tls(_) => false,
            Net::Loopback => ip.is_loopback(),
            Net::Prefix { addr, len } => covers(*addr, *len, ip),
        }
    }
}

/// Whether the list lets an address in, whatever key it uses.
pub fn admits(list: &[AclEntry], ip: IpAddr) -> bool {
    list.iter()
        .find(|e| e.covers(ip))
        .is_some_and(|e| !e.negate)
}

fn covers(addr: IpAddr, len: u8, ip: IpAddr) -> bool {
    let (addr, len) = match addr {
        // An IPv4-mapped prefix is compared as IPv4 if it lies within the mapping.
        IpAddr::V6(v6) if len >= 96 && v6.to_ipv4_mapped().is_some() => {
            (addr.to_canonical(), len - 96)
        }
        _ => (addr, len),
    };
    match (addr, ip) {
        (IpAddr::V4(a), IpAddr::V4(b)) => (a.to_bits() ^ b.to_bits()).leading_zeros() >= len.into(),
        (IpAddr::V6(a), IpAddr::V6(b)) => (a.to_bits() ^ b.to_bits()).leading_zeros() >= len.into(),
        _ => false,
    }
}

fn width(addr: IpAddr) -> u8 {
    if addr.is_ipv4() { 32 } else { 128 }
}

fn entry(text: &str, at: &Node, cx: &mut Cx) -> Option<AclEntry> {
    let (negate, rest) = match text.strip_prefix('!') {
        Some(rest) => (true, rest),
        None => (false, text),
    };
    let (place, key) = match rest.split_once('^') {
        Some((place, key)) => (place, Some(key_name(key, at, cx)?)),
        None => (rest, None),
    };
    let net = match place {
        "any" => Net::Any,
        "none" => Net::None,
        "loopback" => Net::Loopback,
        _ => match place.strip_prefix("tls:") {
            Some(name) => Net::Tls(key_name(name, at, cx)?),
            None => prefix(place, at, cx)?,
        },
    };
    Some(AclEntry { negate, net, key })
}

fn prefix(text: &str, at: &Node, cx: &mut Cx) -> Option<Net> {
    if let Ok(with_port) = text.parse::<std::net::SocketAddr>() {
        cx.warn(
            at,
            "the port says nothing: requests come from any port",
            "leave the port away",
        );
        let addr = with_port.ip();
        return Some(Net::Prefix {
            addr,
            len: width(addr),
        });
    }
    let (addr, len) = match text.split_once('/') {
        Some((addr, len)) => (addr, Some(len)),
        None => (text, None),
    };
    let Ok(addr) = addr.parse::<IpAddr>() else {
        cx.bad(at, "not an entry of an access list", FORM);
        return None;
    };
    let len = match len {
        None => width(addr),
        Some(len) => match len.parse::<u8>() {
            Ok(n) if n <= width(addr) && len.bytes().all(|b| b.is_ascii_digit()) => n,
            _ => {
                let detail = format!("the prefix length must be 0 to {}", width(addr));
                cx.bad(at, detail, FORM);
                return None;
            }
        },
    };
    let net = masked(addr, len);
    if net != addr {
        let plain = format!("{net}/{len}");
        cx.warn(
            at,
            "bits beyond the prefix length are set and do not count",
            format!("write {plain}"),
        );
    }
    Some(Net::Prefix { addr: net, len })
}

fn masked(addr: IpAddr, len: u8) -> IpAddr {
    match addr {
        IpAddr::V4(a) => {
            let mask = u32::MAX.checked_shl(32 - u32::from(len)).unwrap_or(0);
            IpAddr::from((a.to_bits() & mask).to_be_bytes())
        }
        IpAddr::V6(a) => {
            let mask = u128::MAX.checked_shl(128 - u32::from(len)).unwrap_or(0);
            IpAddr::from((a.to_bits() & mask).to_be_bytes())
        }
    }
}

/// A TSIG key name or certificate name: a domain name as text, without blanks.
pub(crate) fn key_name(text: &str, at: &Node, cx: &mut Cx) -> Option<String> {
    let good = !text.is_empty()
        && text.len() <= 255
        && text
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-' | b'_'));
    if !good {
        cx.bad(
            at,
            "not a name of a key",
            "letters, digits, '.', '-' and '_', at most 255",
        );
        return None;
    }
    Some(text.to_string())
}

//! Access lists: who may ask, transfer, notify.
//!
//! First matching entry decides; no match denies. A list is compiled into prefix tables, so ten
//! thousand entries cost a binary search and a walk over the enclosing prefixes.

use std::fmt;
use std::net::IpAddr;

use cascade_zone::Name;
use thiserror::Error;

#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("access list entry '{entry}': {problem}")]
pub struct AclError {
    pub entry: String,
    pub problem: AclProblem,
}

#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum AclProblem {
    #[error(
        "it is empty; write any, none, loopback, an address, a prefix such as 192.0.2.0/24, or tls:<name>"
    )]
    Empty,
    #[error(
        "'{0}' is no address or prefix; write any, none, loopback, an address, a prefix such as 192.0.2.0/24, or tls:<name>"
    )]
    NotAnAddress(String),
    #[error("prefix length '{0}' is no number up to {1}")]
    BadPrefix(String, u8),
    #[error("'{0}' after ^ is no TSIG key name")]
    BadKey(String),
    #[error("'none' can have neither ! nor a key")]
    NoneAlone,
}

/// An entry that works but is probably not what was meant.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum AclWarning {
    #[error("access list entry '{0}' has bits set beyond its prefix length; they are ignored")]
    HostBits(String),
    #[error("access list entry '{0}' has a port; access lists look at addresses only")]
    Port(String),
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Who {
    Any,
    None,
    Loopback,
    Prefix(IpAddr, u8),
    Tls(String),
}

/// One entry, parsed. `Display` gives its canonical text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AclEntry {
    deny: bool,
    who: Who,
    key: Option<Name>,
}

impl AclEntry {
    /// Parses `["!"] what ["^" key]`.
    pub fn parse(text: &str) -> Result<(AclEntry, Option<AclWarning>), AclError> {
        Self::read(text).map_err(|problem| AclError {
            entry: text.to_string(),
            problem,
        })
    }

    /// The table form: address or prefix, and the name of a key.
    pub fn with_key(addr: &str, key: &str) -> Result<(AclEntry, Option<AclWarning>), AclError> {
        Self::parse(&format!("{addr}^{key}"))
    }

    /// The TSIG key that the entry asks for.
    pub fn key(&self) -> Option<&Name> {
        self.key.as_ref()
    }

    fn read(text: &str) -> Result<(AclEntry, Option<AclWarning>), AclProblem> {
        let trimmed = text.trim();
        let (deny, rest) = match trimmed.strip_prefix('!') {
            Some(rest) => (true, rest.trim_start()),
            None => (false, trimmed),
        };
        let (what, key) = match rest.split_once('^') {
            Some((what, key)) => (what.trim_end(), Some(parse_key(key.trim_start())?)),
            None => (rest, None),
        };
        let mut warning = None;
        let who = match what {
            "" => return Err(AclProblem::Empty),
            "any" => Who::Any,
            "none" if deny || key.is_some() => return Err(AclProblem::NoneAlone),
            "none" => Who::None,
            "loopback" => Who::Loopback,
            _ => match what.strip_prefix("tls:") {
                Some("") => return Err(AclProblem::Empty),
                Some(name) => Who::Tls(name.to_ascii_lowercase()),
                None => parse_prefix(what, text, &mut warning)?,
            },
        };
        Ok((AclEntry { deny, who, key }, warning))
    }
}

fn parse_key(text: &str) -> Result<Name, AclProblem> {
    match Name::parse(text) {
        Ok(name) if !name.is_root() => Ok(name.to_lowercase()),
        _ => Err(AclProblem::BadKey(text.to_string())),
    }
}

fn parse_prefix(
    what: &str,
    entry: &str,
    warning: &mut Option<AclWarning>,
) -> Result<Who, AclProblem> {
    let no_address = || AclProblem::NotAnAddress(what.to_string());
    if let Ok(with_port) = what.parse::<std::net::SocketAddr>() {
        *warning = Some(AclWarning::Port(entry.to_string()));
        return Ok(whole(with_port.ip()));
    }
    let Some((addr, len)) = what.split_once('/') else {
        return what.parse().map(whole).map_err(|_| no_address());
    };
    let addr: IpAddr = addr.parse().map_err(|_| no_address())?;
    let max = if addr.is_ipv4() { 32 } else { 128 };
    let bad = || AclProblem::BadPrefix(len.to_string(), max);
    if len.is_empty() || !len.bytes().all(|b| b.is_ascii_digit()) {
        return Err(bad());
    }
    let mut len: u8 = len.parse().ok().filter(|n| *n <= max).ok_or_else(bad)?;
    let mut addr = addr;
    // An IPv4-mapped prefix means the IPv4 addresses in it, when it holds no others.
    if let (IpAddr::V6(_), IpAddr::V4(_)) = (addr, addr.to_canonical())
        && len >= 96
    {
        addr = addr.to_canonical();
        len -= 96;
    }
    let masked = mask(bits(addr), len);
    if masked != bits(addr) {
        *warning = Some(AclWarning::HostBits(entry.to_string()));
        addr = from_bits(masked, addr.is_ipv4());
    }
    Ok(Who::Prefix(addr, len))
}

fn whole(addr: IpAddr) -> Who {
    let addr = addr.to_canonical();
    Who::Prefix(addr, if addr.is_ipv4() { 32 } else { 128 })
}

impl fmt::Display for AclEntry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.deny { "!" } else { "" })?;
        match &self.who {
            Who::Any => f.write_str("any")?,
            Who::None => f.write_str("none")?,
            Who::Loopback => f.write_str("loopback")?,
            Who::Prefix(a, len) if *len == if a.is_ipv4() { 32 } else { 128 } => write!(f, "{a}")?,
            Who::Prefix(a, len) => write!(f, "{a}/{len}")?,
            Who::Tls(name) => write!(f, "tls:{name}")?,
        }
        match &self.key {
            Some(key) => write!(f, "^{}", key.without_dot()),
            None => Ok(()),
        }
    }
}

/// What an entry says when it matches.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Verdict {
    /// Position in the list; the smallest matching one decides.
    place: u32,
    deny: bool,
}

/// The entries of one prefix.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Node {
    first: u128,
    last: u128,
    /// Index of the nearest enclosing prefix.
    parent: Option<u32>,
    unkeyed: Option<Verdict>,
    /// Sorted by key name in lower-case wire form; one verdict a key.
    keyed: Vec<(Box<[u8]>, Verdict)>,
}

/// A compiled access list.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Acl {
    entries: Vec<AclEntry>,
    v4: Vec<Node>,
    v6: Vec<Node>,
    tls: Vec<(String, Option<Name>, Verdict)>,
}

impl Acl {
    /// Everybody.
    pub fn any() -> Self {
        Acl::compile(vec![AclEntry {
            deny: false,
            who: Who::Any,
            key: None,
        }])
    }

    /// Nobody.
    pub fn none() -> Self {
        Acl::default()
    }

    /// 127.0.0.0/8 and ::1.
    pub fn loopback() -> Self {
        Acl::compile(vec![AclEntry {
            deny: false,
            who: Who::Loopback,
            key: None,
        }])
    }

    pub fn parse<T: AsRef<str>>(entries: &[T]) -> Result<(Self, Vec<AclWarning>), AclError> {
        let mut parsed = Vec::with_capacity(entries.len());
        let mut warnings = Vec::new();
        for text in entries {
            let (entry, warning) = AclEntry::parse(text.as_ref())?;
            parsed.push(entry);
            warnings.extend(warning);
        }
        Ok((Acl::compile(parsed), warnings))
    }

    pub fn compile(entries: Vec<AclEntry>) -> Self {
        let (mut v4, mut v6, mut tls) = (Vec::new(), Vec::new(), Vec::new());
        for (place, e) in entries.iter().enumerate() {
            let verdict = Verdict {
                place: place as u32,
                deny: e.deny || e.who == Who::None,
            };
            let add = |table: &mut Vec<_>, bits: u128, len: u8| {
                table.push(Flat {
                    first: bits,
                    len,
                    key: e.key.as_ref(),
                    verdict,
                });
            };
            match &e.who {
                Who::Any | Who::None => {
                    add(&mut v4, 0, 0);
                    add(&mut v6, 0, 0);
                }
                Who::Loopback => {
                    add(&mut v4, 127 << 120, 8);
                    add(&mut v6, 1, 128);
                }
                Who::Prefix(a @ IpAddr::V4(_), len) => add(&mut v4, bits(*a), *len),
                Who::Prefix(a, len) => add(&mut v6, bits(*a), *len),
                Who::Tls(name) => tls.push((name.clone(), e.key.clone(), verdict)),
            }
        }
        let (v4, v6) = (build(v4), build(v6));
        Acl {
            entries,
            v4,
            v6,
            tls,
        }
    }

    pub fn entries(&self) -> &[AclEntry] {
        &self.entries
    }

    /// Names of all keys that the entries ask for.
    pub fn keys(&self) -> impl Iterator<Item = &Name> {
        self.entries.iter().filter_map(AclEntry::key)
    }

    /// `key`: the key whose TSIG was verified on the request, `tls`: a name of the verified client
    /// certificate.
    pub fn allows(&self, peer: IpAddr, key: Option<&Name>, tls: Option<&str>) -> bool {
        let peer = peer.to_canonical();
        let table = if peer.is_ipv4() { &self.v4 } else { &self.v6 };
        let mut best = lookup(table, bits(peer), key);
        if let Some(name) = tls {
            for (want, want_key, verdict) in &self.tls {
                if want.eq_ignore_ascii_case(name)
                    && want_key.as_ref().is_none_or(|k| Some(k) == key)
                {
                    best = earlier(best, Some(*verdict));
                    break;
                }
            }
        }
        best.is_some_and(|v| !v.deny)
    }
}

/// An entry for one table.
struct Flat<'a> {
    first: u128,
    len: u8,
    key: Option<&'a Name>,
    verdict: Verdict,
}

/// Sorts prefixes so that an enclosing one comes first, and links each to its nearest enclosing.
fn build(mut flat: Vec<Flat<'_>>) -> Vec<Node> {
    flat.sort_by_key(|f| (f.first, f.len, f.verdict.place));
    let mut nodes: Vec<Node> = Vec::new();
    let mut open: Vec<u32> = Vec::new();
    for f in flat {
        let last = f.first | !mask_of(f.len);
        let same = nodes
            .last()
            .is_some_and(|n| n.first == f.first && n.last == last);
        if !same {
            while open
                .last()
                .is_some_and(|&i| nodes[i as usize].last < f.first)
            {
                open.pop();
            }
            let parent = open.last().copied();
            open.push(nodes.len() as u32);
            nodes.push(Node {
                first: f.first,
                last,
                parent,
                unkeyed: None,
                keyed: Vec::new(),
            });
        }
        let Some(node) = nodes.last_mut() else {
            continue;
        };
        match f.key {
            None => node.unkeyed = earlier(node.unkeyed, Some(f.verdict)),
            Some(k) => node
                .keyed
                .push((k.as_wire().to_ascii_lowercase().into(), f.verdict)),
        }
    }
    for n in &mut nodes {
        n.keyed
            .sort_by(|a, b| (&a.0, a.1.place).cmp(&(&b.0, b.1.place)));
        n.keyed.dedup_by(|later, first| later.0 == first.0);
    }
    nodes
}

fn lookup(table: &[Node], addr: u128, key: Option<&Name>) -> Option<Verdict> {
    let key = key.map(|k| k.as_wire().to_ascii_lowercase());
    let after = table.partition_point(|n| n.first <= addr);
    let mut at = after.checked_sub(1);
    let mut best = None;
    while let Some(node) = at.and_then(|i| table.get(i)) {
        if addr <= node.last {
            best = earlier(best, node.unkeyed);
            if let Some(key) = &key
                && let Ok(i) = node.keyed.binary_search_by(|(k, _)| k[..].cmp(key))
            {
                best = earlier(best, Some(node.keyed[i].1));
            }
        }
        at = node.parent.map(|p| p as usize);
    }
    best
}

fn earlier(a: Option<Verdict>, b: Option<Verdict>) -> Option<Verdict> {
    match (a, b) {
        (Some(a), Some(b)) => Some(if b.place < a.place { b } else { a }),
        (a, b) => a.or(b),
    }
}

/// The address in the upper bits.
fn bits(addr: IpAddr) -> u128 {
    match addr {
        IpAddr::V4(a) => (u32::from(a) as u128) << 96,
        IpAddr::V6(a) => u128::from(a),
    }
}

fn from_bits(bits: u128, v4: bool) -> IpAddr {
    if v4 {
        IpAddr::V4(((bits >> 96) as u32).into())
    } else {
        IpAddr::V6(bits.into())
    }
}

fn mask_of(len: u8) -> u128 {
    if len == 0 {
        0
    } else {
        !0 << (128 - len.min(128) as u32)
    }
}

fn mask(bits: u128, len: u8) -> u128 {
    bits & mask_of(len)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn acl(entries: &[&str]) -> Acl {
        Acl::parse(entries).unwrap().0
    }
    fn ip(t: &str) -> IpAddr {
        t.parse().unwrap()
    }
    fn key(t: &str) -> Name {
        Name::parse(t).unwrap()
    }

    #[test]
    fn first_match_decides() {
        let a = acl(&[
            "!192.0.2.7",
            "192.0.2.0/24",
            "10.0.0.0/8^k1",
            "any^K2.",
            "2001:db8::/32",
        ]);
        assert!(a.allows(ip("192.0.2.8"), None, None));
        assert!(!a.allows(ip("192.0.2.7"), None, None));
        assert!(!a.allows(ip("192.0.2.7"), Some(&key("k2")), None));
        // An entry without key matches signed requests too.
        assert!(a.allows(ip("192.0.2.8"), Some(&key("other")), None));
        assert!(!a.allows(ip("10.1.1.1"), None, None));
        assert!(a.allows(ip("10.1.1.1"), Some(&key("K1")), None));
        assert!(!a.allows(ip("11.1.1.1"), Some(&key("k1")), None));
        assert!(a.allows(ip("::5"), Some(&key("k2")), None));
        assert!(a.allows(ip("2001:db8::5"), None, None));
        assert!(a.allows(ip("::ffff:192.0.2.8"), None, None));
        assert!(!a.allows(ip("203.0.113.1"), None, None));
    }

    #[test]
    fn words() {
        assert!(
            Acl::any().allows(ip("::1"), None, None)
                && Acl::any().allows(ip("1.2.3.4"), None, None)
        );
        assert!(!Acl::none().allows(ip("::1"), None, None));
        let l = Acl::loopback();
        assert!(l.allows(ip("127.9.9.9"), None, None) && l.allows(ip("::1"), None, None));
        assert!(l.allows(ip("::ffff:127.0.0.1"), None, None));
        assert!(!l.allows(ip("::2"), None, None) && !l.allows(ip("128.0.0.1"), None, None));
        assert!(!acl(&["none", "any"]).allows(ip("::1"), None, None));
        let t = acl(&["!127.0.0.1", "tls:ns1.example"]);
        assert!(t.allows(ip("::1"), None, Some("NS1.example")));
        assert!(!t.allows(ip("127.0.0.1"), None, Some("ns1.example")));
        assert!(!t.allows(ip("::1"), None, None));
    }

    #[test]
    fn errors_name_the_entry() {
        for bad in [
            "",
            "!",
            "^k",
            "1.2.3",
            "1.2.3.4/33",
            "::/129",
            "1.2.3.4/",
            "1.2.3.4/+1",
            "any^",
            "any^a..b",
            "!none",
            "none^k",
            "tls:",
            "example.com",
        ] {
            let e = AclEntry::parse(bad).unwrap_err();
            assert!(e.to_string().contains(&format!("'{bad}'")), "{e}");
        }
    }

    #[test]
    fn warnings() {
        let (a, w) = Acl::parse(&["192.0.2.5/24", "[::1]:53", "10.0.0.1"]).unwrap();
        assert_eq!(
            w,
            [
                AclWarning::HostBits("192.0.2.5/24".into()),
                AclWarning::Port("[::1]:53".into())
            ]
        );
        let shown: Vec<String> = a.entries().iter().map(|e| e.to_string()).collect();
        assert_eq!(shown, ["192.0.2.0/24", "::1", "10.0.0.1"]);
    }

    proptest! {
        /// The compiled list against a walk over the entries.
        #[test]
        fn compiled_equals_linear(
            list in prop::collection::vec((any::<bool>(), 0u8..4, 0u8..=8, prop::option::of(0u8..3)), 0..30),
            peer in any::<u8>(), signed in prop::option::of(0u8..3),
        ) {
            let texts: Vec<String> = list.iter().map(|(deny, top, len, k)| format!(
                "{}{}.0.0.0/{}{}", if *deny { "!" } else { "" }, (*top as u32) << 6, len,
                k.map_or(String::new(), |k| format!("^k{k}")))).collect();
            let compiled = Acl::parse(&texts).unwrap().0;
            let want = list.iter().find(|(_, top, len, k)| {
                let m = if *len == 0 { 0 } else { 0xffu8 << (8 - len) };
                (peer & m) == ((top << 6) & m) && k.is_none_or(|k| Some(k) == signed)
            }).is_some_and(|e| !e.0);
            let k = signed.map(|k| key(&format!("K{k}")));
            prop_assert_eq!(compiled.allows(IpAddr::from([peer, 0, 0, 0]), k.as_ref(), None), want);
        }

        #[test]
        fn any_text_is_parsed_or_refused(text in "[!any^0-9./:a-f\\[\\] \\PC]{0,20}") {
            if let Ok((e, _)) = AclEntry::parse(&text) {
                prop_assert_eq!(AclEntry::parse(&e.to_string()).unwrap().0, e);
            }
        }
    }
}

//! Addresses: what the daemon listens on and whom it talks to.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use crate::acl::key_name;
use crate::reader::Cx;
use crate::tree::{Entry, Node, Table, Val, quote};
use crate::value::{Value, string};

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Transport {
    TcpUdp,
    Udp,
    Tcp,
}

/// Where a DNS server of the daemon listens.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ListenAddr {
    pub transport: Transport,
    pub addr: SocketAddr,
}

/// Where a server that is TCP only listens.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct TcpAddr(pub SocketAddr);

/// A server to talk to, with the key to use: `"ip[:port][^tsig]"`, port 53 if none is given.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Target {
    pub addr: SocketAddr,
    pub tsig_key: Option<String>,
}

/// A server to ask, without key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Resolver(pub SocketAddr);

/// The secondary that is told first.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Canary {
    pub target: Target,
    /// How long it must answer well before the others are told.
    pub hold: Duration,
}

/// The parent's server that takes updates of the DS set (RFC 2136).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Push {
    pub server: SocketAddr,
    pub tsig_key: String,
}

const DNS_PORT: u16 = 53;
const LISTEN_FORM: &str = "write for example \"127.0.0.1:4543\" or \"[::1]:4543\"";
const TARGET_FORM: &str =
    "write for example \"192.0.2.1\", \"192.0.2.1:5353^key\" or \"[2001:db8::1]:53^key\"";

impl Value for ListenAddr {
    fn type_text() -> String {
        "address with port".into()
    }

    fn read(node: &Node, cx: &mut Cx) -> Option<Self> {
        Self::read_many(node, cx)?.into_iter().next()
    }

    fn write(&self) -> String {
        quote(&match self.transport {
            Transport::TcpUdp => self.addr.to_string(),
            Transport::Udp => format!("udp://{}", self.addr),
            Transport::Tcp => format!("tcp://{}", self.addr),
        })
    }

    fn read_many(node: &Node, cx: &mut Cx) -> Option<Vec<Self>> {
        let (transport, text, at) = match &node.value {
            Val::Str(s) => {
                if let Some(rest) = s.strip_prefix("udp://") {
                    (Transport::Udp, rest, node)
                } else if let Some(rest) = s.strip_prefix("tcp://") {
                    (Transport::Tcp, rest, node)
                } else {
                    (Transport::TcpUdp, s.as_str(), node)
                }
            }
            Val::Table(table) => {
                only_members(table, &["type", "addr"], cx)?;
                let transport = match table.get("type").map(|e| (&e.node, &e.node.value)) {
                    None => Transport::TcpUdp,
                    Some((_, Val::Str(s))) if s == "udp" => Transport::Udp,
                    Some((_, Val::Str(s))) if s == "tcp" => Transport::Tcp,
                    Some((_, Val::Str(s))) if s == "tcp-udp" => Transport::TcpUdp,
                    Some((at, _)) => {
                        cx.bad(
                            at,
                            "not a type of address",
                            "write \"udp\", \"tcp\" or \"tcp-udp\"",
                        );
                        return None;
                    }
                };
                let at = member(table, "addr", node, cx)?;
                (transport, string(at, cx, "an address")?, at)
            }
            _ => {
                cx.wrong_type(node, "an address with port");
                return None;
            }
        };
        let found = listen(text, at, cx)?;
        Some(
            found
                .into_iter()
                .map(|addr| ListenAddr { transport, addr })
                .collect(),
        )
    }
}

impl Value for TcpAddr {
    fn type_text() -> String {
        "address with port".into()
    }

    fn read(node: &Node, cx: &mut Cx) -> Option<Self> {
        Self::read_many(node, cx)?.into_iter().next()
    }

    fn write(&self) -> String {
        quote(&self.0.to_string())
    }

    fn read_many(node: &Node, cx: &mut Cx) -> Option<Vec<Self>> {
        let text = string(node, cx, "an address with port")?;
        let text = text.strip_prefix("tcp://").unwrap_or(text);
        Some(listen(text, node, cx)?.into_iter().map(TcpAddr).collect())
    }
}

/// `localhost:<port>` is both loopback addresses; other names are refused.
fn listen(text: &str, at: &Node, cx: &mut Cx) -> Option<Vec<SocketAddr>> {
    let found = match text.strip_prefix("localhost:") {
        Some(port) => port.parse::<u16>().ok().map(|port| {
            vec![
                SocketAddr::from((Ipv4Addr::LOCALHOST, port)),
                SocketAddr::from((Ipv6Addr::LOCALHOST, port)),
            ]
        }),
        None => text.parse::<SocketAddr>().ok().map(|addr| vec![addr]),
    };
    let Some(found) = found else {
        let detail = if text.parse::<IpAddr>().is_ok() {
            "the port is missing"
        } else {
            "not an address with port; of names only localhost is known here"
        };
        cx.bad(at, detail, LISTEN_FORM);
        return None;
    };
    if found.iter().any(|a| a.port() == 0) && !cx.allow_port_zero {
        cx.bad(at, "port 0 is not a place others can find", LISTEN_FORM);
        return None;
    }
    Some(found)
}

impl Value for Target {
    fn type_text() -> String {
        "address, with port and TSIG key where needed".into()
    }

    fn read(node: &Node, cx: &mut Cx) -> Option<Self> {
        match &node.value {
            Val::Str(s) => {
                let (addr, key) = match s.split_once('^') {
                    Some((addr, key)) => (addr, Some(key)),
                    None => (s.as_str(), None),
                };
                let tsig_key = match key {
                    Some(key) => Some(key_name(key, node, cx)?),
                    None => None,
                };
                Some(Target {
                    addr: server(addr, node, cx)?,
                    tsig_key,
                })
            }
            Val::Table(table) => {
                only_members(table, &["addr", "tsig-key-name"], cx)?;
                target_of(table, node, cx)
            }
            _ => {
                cx.wrong_type(node, "an address");
                None
            }
        }
    }

    fn write(&self) -> String {
        quote(&self.text())
    }
}

impl Target {
    /// As written in a policy: `ip[:port][^key]`.
    pub fn text(&self) -> String {
        let key = self
            .tsig_key
            .as_ref()
            .map(|k| format!("^{k}"))
            .unwrap_or_default();
        format!("{}{key}", show_server(self.addr))
    }
}

fn target_of(table: &Table, node: &Node, cx: &mut Cx) -> Option<Target> {
    let at = member(table, "addr", node, cx)?;
    let text = string(at, cx, "an address")?;
    if text.contains('^') && table.get("tsig-key-name").is_none() {
        return Target::read(at, cx);
    }
    let addr = server(text, at, cx)?;
    let tsig_key = match table.get("tsig-key-name") {
        Some(e) => Some(key_name(string(&e.node, cx, "a key name")?, &e.node, cx)?),
        None => None,
    };
    Some(Target { addr, tsig_key })
}

impl Value for Resolver {
    fn type_text() -> String {
        "address, with port if not 53".into()
    }

    fn read(node: &Node, cx: &mut Cx) -> Option<Self> {
        server(string(node, cx, "an address")?, node, cx).map(Resolver)
    }

    fn write(&self) -> String {
        quote(&show_server(self.0))
    }
}

impl Value for Canary {
    fn type_text() -> String {
        "table of addr, tsig-key-name, hold".into()
    }

    fn read(node: &Node, cx: &mut Cx) -> Option<Self> {
        let hold = Duration::from_secs(120);
        let Val::Table(table) = &node.value else {
            return Target::read(node, cx).map(|target| Canary { target, hold });
        };
        only_members(table, &["addr", "tsig-key-name", "hold"], cx)?;
        let hold = match table.get("hold") {
            Some(e) => Duration::read(&e.node, cx)?,
            None => hold,
        };
        Some(Canary {
            target: target_of(table, node, cx)?,
            hold,
        })
    }

    fn write(&self) -> String {
        format!(
            "{{ addr = {}, hold = {} }}",
            self.target.write(),
            self.hold.write()
        )
    }
}

impl Value for Push {
    fn type_text() -> String {
        "table of server, tsig-key".into()
    }

    fn read(node: &Node, cx: &mut Cx) -> Option<Self> {
        let Val::Table(table) = &node.value else {
            cx.wrong_type(node, "a table");
            return None;
        };
        only_members(table, &["server", "tsig-key"], cx)?;
        let at = member(table, "server", node, cx)?;
        let server = server(string(at, cx, "an address")?, at, cx);
        let at = member(table, "tsig-key", node, cx)?;
        let tsig_key = key_name(string(at, cx, "a key name")?, at, cx);
        Some(Push {
            server: server?,
            tsig_key: tsig_key?,
        })
    }

    fn write(&self) -> String {
        let server = quote(&show_server(self.server));
        format!(
            "{{ server = {server}, tsig-key = {} }}",
            quote(&self.tsig_key)
        )
    }
}

fn server(text: &str, at: &Node, cx: &mut Cx) -> Option<SocketAddr> {
    let addr = match text.parse::<IpAddr>() {
        Ok(ip) => Some(SocketAddr::new(ip, DNS_PORT)),
        Err(_) => text.parse::<SocketAddr>().ok(),
    };
    match addr {
        Some(addr) if addr.port() != 0 => Some(addr),
        Some(_) => {
            cx.bad(at, "port 0 is not a place to send to", TARGET_FORM);
            None
        }
        None => {
            cx.bad(at, "not an address", TARGET_FORM);
            None
        }
    }
}

fn show_server(addr: SocketAddr) -> String {
    if addr.port() == DNS_PORT {
        addr.ip().to_string()
    } else {
        addr.to_string()
    }
}

/// Reports every member of an inline table that does not belong there.
pub(crate) fn only_members(table: &Table, known: &[&str], cx: &mut Cx) -> Option<()> {
    let strangers: Vec<&Entry> = table
        .entries
        .iter()
        .filter(|e| !known.contains(&e.name.as_str()))
        .collect();
    for entry in &strangers {
        cx.unknown_key(entry, known);
    }
    strangers.is_empty().then_some(())
}

pub(crate) fn member<'t>(
    table: &'t Table,
    name: &str,
    node: &Node,
    cx: &mut Cx,
) -> Option<&'t Node> {
    let found = table.get(name).map(|e| &e.node);
    if found.is_none() {
        cx.bad(node, format!("the member '{name}' is missing"), "");
    }
    found
}

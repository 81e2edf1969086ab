//! The DS set of a zone is brought to its parent by DNS UPDATE (RFC 2136), signed with TSIG
//! (RFC 8945). The update holds only if the parent still has what was seen there.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use cascade_keys::DsRecord;
use cascade_time::Clock;
use cascade_wire::{ClientTsig, Composer, Message, Section, TsigKeys, flag};
use cascade_zone::{Name, Rtype};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::Looks;
use super::message::ANSWER;
use super::servers::Server;
use super::transport::{Asker, Fetch};
use crate::daemon::random;
use crate::keys::ds_rdata;

/// OPCODE UPDATE (RFC 2136 §2.2), in its place in the header.
const UPDATE: u16 = 5 << 11;
/// CLASS of deletions of RRsets, and of the prerequisite that there is none (RFC 2136 §2.4, §2.5).
const ANY: u16 = 255;
const NONE: u16 = 254;
const IN: u16 = 1;
const MAX_MESSAGE: usize = 16_384;

/// What is to be brought where.
#[derive(Debug)]
pub struct Push {
    pub server: SocketAddr,
    pub tsig_key: String,
    pub zone: Name,
    /// The DS RRset as last seen; the update is refused if it is another one by now.
    pub before: Vec<DsRecord>,
    pub set: Vec<DsRecord>,
    pub ttl: u32,
}

/// Brings it there.
///
/// # Errors
/// Says what the server answered, or that it did not; it is to be tried again later.
pub async fn push(
    push: &Push,
    tsig: Arc<TsigKeys>,
    looks: Arc<Looks>,
    clock: Arc<dyn Clock>,
    bound: Duration,
) -> Result<(), String> {
    let asker = Asker {
        timeout: bound,
        tsig: tsig.clone(),
        looks,
        clock: clock.clone(),
    };
    let parent = parent_zone(push, &asker).await?;
    let key = Name::parse(&push.tsig_key).ok();
    let key = key.and_then(|n| tsig.get(&n).cloned());
    let key = key.ok_or_else(|| format!("TSIG key '{}' is not known here", push.tsig_key))?;
    let id = u16::from_be_bytes(random());
    let mut message = update(id, &parent, push).ok_or("the DS set is too large for an update")?;
    let mut signed = ClientTsig::request(key, &mut message, 0, clock.now());
    let exchange = async {
        let mut stream = TcpStream::connect(push.server).await?;
        let mut framed = (message.len() as u16).to_be_bytes().to_vec();
        framed.extend(&message);
        stream.write_all(&framed).await?;
        let mut octets = vec![0; usize::from(stream.read_u16().await?)];
        stream.read_exact(&mut octets).await?;
        std::io::Result::Ok(octets)
    };
    let at = push.server;
    let octets = match tokio::time::timeout(bound, exchange).await {
        Err(_) => return Err(format!("{at} did not answer the update")),
        Ok(Err(e)) => return Err(format!("{at}: {e}")),
        Ok(Ok(octets)) => octets,
    };
    let header = Message::parse(&octets).map_err(|e| format!("{at}: malformed answer: {e}"))?;
    let header = header.header;
    if !header.has(flag::QR) || header.id != id || header.opcode() != 5 {
        return Err(format!("{at}: not an answer to the update"));
    }
    // An error may come without a signature, and changes nothing; only success must be proved.
    match (header.rcode(), signed.verify(&octets, clock.now())) {
        (0, Ok(_)) => Ok(()),
        (0, Err(e)) => Err(format!("{at}: the answer's signature is wrong: {e}")),
        (rcode, _) => Err(format!("{at} says {}", rcode_text(rcode))),
    }
}

/// The zone above ours that the server has.
async fn parent_zone(push: &Push, asker: &Asker) -> Result<Name, String> {
    let above = push.zone.parent().ok_or("the root has no parent")?;
    let server = Server {
        name: "ds.push".into(),
        addr: push.server,
        tsig: None,
    };
    let reply = match asker.ask(&server, &above, Rtype::SOA).await {
        Fetch::Reply(r) => r,
        Fetch::NoRoute => return Err(format!("no route to {}", push.server)),
        Fetch::Silent => return Err(format!("{} did not answer", push.server)),
        Fetch::Unusable(why) => return Err(format!("{}: {why}", push.server)),
    };
    let here = above.to_lowercase();
    let own = !reply.set(ANSWER, here.as_wire(), Rtype::SOA).is_empty();
    let owner = match reply.soa() {
        _ if own => Some(here),
        Some((owner, _)) => Name::from_wire(owner).ok(),
        None => None,
    };
    owner
        .filter(|_| reply.aa)
        .ok_or_else(|| format!("{} has no zone above {}", push.server, push.zone))
}

/// The message; `None` if it does not fit.
fn update(id: u16, parent: &Name, push: &Push) -> Option<Vec<u8>> {
    let owner = push.zone.to_lowercase();
    let owner = owner.as_wire();
    let mut out = Vec::with_capacity(512);
    let mut c = Composer::new(&mut out, MAX_MESSAGE, id, UPDATE);
    c.question(parent.to_lowercase().as_wire(), Rtype::SOA, IN);
    let mut fits = true;
    let mut put = |c: &mut Composer<'_>, section, class, ttl, rdata: &[u8]| {
        let write = |o: &mut Vec<u8>| o.extend_from_slice(rdata);
        fits &= c
            .record_with(section, owner, Rtype::DS, class, ttl, write)
            .is_ok();
    };
    // RFC 2136 §2.4.2: the RRset has exactly these values; §2.4.3: there is none.
    for ds in &push.before {
        put(&mut c, Section::Answer, IN, 0, &ds_rdata(ds));
    }
    if push.before.is_empty() {
        put(&mut c, Section::Answer, NONE, 0, &[]);
    }
    // RFC 2136 §2.5.2, §2.5.1.
    put(&mut c, Section::Authority, ANY, 0, &[]);
    for ds in &push.set {
        put(&mut c, Section::Authority, IN, push.ttl, &ds_rdata(ds));
    }
    c.finish();
    fits.then_some(out)
}

fn rcode_text(rcode: u16) -> String {
    match rcode {
        1 => "FORMERR".into(),
        2 => "SERVFAIL".into(),
        4 => "NOTIMP".into(),
        5 => "REFUSED".into(),
        // RFC 2136 §2.2: a prerequisite does not hold.
        7 => "YXRRSET: it has a DS that was not seen yet".into(),
        8 => "NXRRSET: its DS set is another one by now".into(),
        9 => "NOTAUTH".into(),
        10 => "NOTZONE".into(),
        other => format!("RCODE {other}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ds(tag: u16) -> DsRecord {
        DsRecord {
            tag,
            algorithm: 13,
            digest_type: 2,
            digest: vec![7; 32],
        }
    }

    fn records(message: &[u8]) -> Vec<(u8, u16, u32, Vec<u8>)> {
        let m = Message::parse(message).unwrap();
        let all = m.records().map(|r| {
            let r = r.unwrap();
            let mut rdata = Vec::new();
            r.push_rdata(&mut rdata).unwrap();
            assert_eq!(r.rtype, Rtype::DS);
            (r.section, r.class, r.ttl, rdata)
        });
        all.collect()
    }

    #[test]
    fn the_update_holds_only_for_what_was_seen() {
        let name = |n: &str| Name::parse(n).unwrap();
        let mut push = Push {
            server: ([127, 0, 0, 1], 53).into(),
            tsig_key: "k".into(),
            zone: name("Example.test"),
            before: vec![ds(1)],
            set: vec![ds(2)],
            ttl: 300,
        };
        let message = update(7, &name("test"), &push).unwrap();
        let header = Message::parse(&message).unwrap().header;
        assert_eq!((header.id, header.opcode()), (7, 5));
        let (old, new) = (ds_rdata(&ds(1)), ds_rdata(&ds(2)));
        assert_eq!(
            records(&message),
            [(1, IN, 0, old), (2, ANY, 0, vec![]), (2, IN, 300, new)]
        );
        // Nothing seen: there must be nothing. Nothing wanted: all goes.
        push.before.clear();
        push.set.clear();
        let message = update(7, &name("test"), &push).unwrap();
        assert_eq!(
            records(&message),
            [(1, NONE, 0, vec![]), (2, ANY, 0, vec![])]
        );
        push.set = (0..500).map(ds).collect();
        assert!(update(7, &name("test"), &push).is_none());
    }
}

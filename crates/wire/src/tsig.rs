//! TSIG: signing and verifying requests, answers and multi-message transfers (RFC 8945).
//!
//! Works on finished messages in place, so that answers and transfer messages composed elsewhere
//! are signed without being built again.

use std::collections::HashMap;
use std::sync::Arc;

use cascade_time::Timestamp;
use cascade_zone::{Name, Rtype};
use ring::hmac;
use thiserror::Error;

use crate::reader::{
    CLASS_ANY, HEADER, Header, Message, NameBuf, RecordView, WireError, rcode, read_name,
};

/// Seconds by which clocks may differ (RFC 8945 §10).
pub const FUDGE: u16 = 300;
/// A client accepts at most this many unsigned messages in a row (RFC 8945 §5.3.1).
pub const MAX_UNSIGNED: u32 = 99;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Algorithm {
    HmacSha1,
    HmacSha256,
    HmacSha384,
    HmacSha512,
}

impl Algorithm {
    pub const ALL: [Algorithm; 4] = [
        Algorithm::HmacSha1,
        Algorithm::HmacSha256,
        Algorithm::HmacSha384,
        Algorithm::HmacSha512,
    ];

    /// The name in messages and configuration, without final dot (RFC 8945 §6).
    pub fn name(self) -> &'static str {
        match self {
            Algorithm::HmacSha1 => "hmac-sha1",
            Algorithm::HmacSha256 => "hmac-sha256",
            Algorithm::HmacSha384 => "hmac-sha384",
            Algorithm::HmacSha512 => "hmac-sha512",
        }
    }

    /// Reads the name in any case, with or without final dot.
    pub fn parse(text: &str) -> Option<Self> {
        let text = text.strip_suffix('.').unwrap_or(text);
        Self::ALL
            .into_iter()
            .find(|a| a.name().eq_ignore_ascii_case(text))
    }

    fn wire(self) -> &'static [u8] {
        match self {
            Algorithm::HmacSha1 => b"\x09hmac-sha1\0",
            Algorithm::HmacSha256 => b"\x0bhmac-sha256\0",
            Algorithm::HmacSha384 => b"\x0bhmac-sha384\0",
            Algorithm::HmacSha512 => b"\x0bhmac-sha512\0",
        }
    }

    fn hmac(self) -> hmac::Algorithm {
        match self {
            Algorithm::HmacSha1 => hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY,
            Algorithm::HmacSha256 => hmac::HMAC_SHA256,
            Algorithm::HmacSha384 => hmac::HMAC_SHA384,
            Algorithm::HmacSha512 => hmac::HMAC_SHA512,
        }
    }

    fn mac_len(self) -> usize {
        match self {
            Algorithm::HmacSha1 => 20,
            Algorithm::HmacSha256 => 32,
            Algorithm::HmacSha384 => 48,
            Algorithm::HmacSha512 => 64,
        }
    }
}

/// A shared key. `Debug` shows no secret.
pub struct TsigKey {
    /// In lower case.
    name: Name,
    algorithm: Algorithm,
    key: hmac::Key,
}

impl TsigKey {
    pub fn new(name: &Name, algorithm: Algorithm, secret: &[u8]) -> Self {
        TsigKey {
            name: name.to_lowercase(),
            algorithm,
            key: hmac::Key::new(algorithm.hmac(), secret),
        }
    }

    pub fn name(&self) -> &Name {
        &self.name
    }

    pub fn algorithm(&self) -> Algorithm {
        self.algorithm
    }

    /// Octets that the TSIG record of a signed message takes.
    pub fn record_len(&self) -> usize {
        self.name.as_wire().len() + 10 + self.algorithm.wire().len() + 16 + self.algorithm.mac_len()
    }
}

impl std::fmt::Debug for TsigKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "TsigKey({} {})", self.name, self.algorithm.name())
    }
}

/// Keys by name; immutable, replaced as a whole when the configuration changes.
#[derive(Debug, Clone, Default)]
pub struct TsigKeys(HashMap<Name, Arc<TsigKey>>);

impl TsigKeys {
    pub fn new(keys: impl IntoIterator<Item = TsigKey>) -> Self {
        TsigKeys(
            keys.into_iter()
                .map(|k| (k.name.clone(), Arc::new(k)))
                .collect(),
        )
    }

    pub fn get(&self, name: &Name) -> Option<&Arc<TsigKey>> {
        self.0.get(name)
    }

    pub fn len(&self) -> usize {
        self.0.len()
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// The TSIG record of a message, taken apart.
#[derive(Debug, Clone)]
pub struct TsigView<'a> {
    /// Where the record starts, which is where the signed part of the message ends.
    pub at: usize,
    name: NameBuf,
    algorithm: NameBuf,
    time: u64,
    fudge: u16,
    mac: &'a [u8],
    original_id: u16,
    error: u16,
    other: &'a [u8],
}

impl<'a> TsigView<'a> {
    /// # Errors
    /// Class, TTL or RDATA are not as RFC 8945 §4.2 wants them.
    pub fn from_record(record: &RecordView<'a>) -> Result<Self, WireError> {
        let mut name = NameBuf::new();
        record.read_owner(&mut name)?;
        let rdata = record.raw_rdata();
        let mut algorithm = NameBuf::new();
        // Inside its own RDATA a pointer could only lead back into the name itself.
        let at = read_name(rdata, 0, &mut algorithm)?;
        let (fixed, rest) = rdata[at..]
            .split_at_checked(10)
            .ok_or(WireError::BadRdata)?;
        let (mac, rest) = rest
            .split_at_checked(be16(&fixed[8..]) as usize)
            .ok_or(WireError::BadRdata)?;
        let (tail, other) = rest.split_at_checked(6).ok_or(WireError::BadRdata)?;
        if record.class != CLASS_ANY || record.ttl != 0 || other.len() != be16(&tail[4..]) as usize
        {
            return Err(WireError::BadRdata);
        }
        let mut time = [0u8; 8];
        time[2..].copy_from_slice(&fixed[..6]);
        Ok(TsigView {
            at: record.at,
            name,
            algorithm,
            time: u64::from_be_bytes(time),
            fudge: be16(&fixed[6..]),
            mac,
            original_id: be16(tail),
            error: be16(&tail[2..]),
            other,
        })
    }

    fn is_of(&self, key: &TsigKey) -> bool {
        self.name.as_wire().eq_ignore_ascii_case(key.name.as_wire())
            && self
                .algorithm
                .as_wire()
                .eq_ignore_ascii_case(key.algorithm.wire())
    }

    fn in_time(&self, now: u64) -> bool {
        self.time.abs_diff(now) <= self.fudge as u64
    }
}

fn be16(b: &[u8]) -> u16 {
    u16::from_be_bytes([b[0], b[1]])
}

/// Why a signed request is refused (RFC 8945 §5.2): answered NOTAUTH with the TSIG error.
#[derive(Debug, Clone)]
pub enum TsigRefusal {
    BadKey,
    BadSig,
    /// Signed with a known key, so the answer is signed too.
    BadTime(Box<ServerTsig>),
    BadTrunc,
}

impl TsigRefusal {
    pub fn code(&self) -> u16 {
        match self {
            TsigRefusal::BadKey => rcode::BADKEY,
            TsigRefusal::BadSig => rcode::BADSIG,
            TsigRefusal::BadTime(_) => rcode::BADTIME,
            TsigRefusal::BadTrunc => rcode::BADTRUNC,
        }
    }

    /// Appends the TSIG record to the finished error answer that starts at `start`.
    pub fn sign(self, request: &TsigView<'_>, out: &mut Vec<u8>, start: usize, now: Timestamp) {
        let code = self.code();
        match self {
            TsigRefusal::BadTime(mut tsig) => {
                // RFC 8945 §5.2.3: the client's time, ours as other data.
                tsig.append(
                    out,
                    start,
                    request.time,
                    code,
                    &wire_time(now).to_be_bytes()[2..],
                );
            }
            // RFC 8945 §5.3.2: unsigned.
            _ => push_record(
                out,
                start,
                &Fields {
                    name: request.name.as_wire(),
                    algorithm: request.algorithm.as_wire(),
                    time: request.time,
                    fudge: request.fudge,
                    mac: &[],
                    original_id: request.original_id,
                    error: code,
                    other: &[],
                },
            ),
        }
    }
}

/// The signing state towards one client after its request was verified.
#[derive(Clone)]
pub struct ServerTsig(State);

impl std::fmt::Debug for ServerTsig {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "ServerTsig({:?})", self.0.key)
    }
}

impl ServerTsig {
    /// Verifies a request whose TSIG record was read by [`crate::Request::parse`].
    pub fn verify(
        keys: &TsigKeys,
        msg: &[u8],
        tsig: &TsigView<'_>,
        now: Timestamp,
    ) -> Result<Self, TsigRefusal> {
        let key = keys
            .get(&tsig.name.to_name())
            .filter(|k| tsig.is_of(k))
            .ok_or(TsigRefusal::BadKey)?;
        let mut context = hmac::Context::with_key(&key.key);
        feed_message(&mut context, msg, tsig);
        feed_variables(
            &mut context,
            key,
            tsig.time,
            tsig.fudge,
            tsig.error,
            tsig.other,
        );
        check_mac(context, tsig.mac).map_err(|e| match e {
            TsigError::BadTrunc => TsigRefusal::BadTrunc,
            _ => TsigRefusal::BadSig,
        })?;
        let state = State::after(key.clone(), tsig.mac, tsig.original_id);
        match tsig.in_time(wire_time(now)) {
            true => Ok(ServerTsig(state)),
            false => Err(TsigRefusal::BadTime(Box::new(ServerTsig(state)))),
        }
    }

    pub fn key(&self) -> &Arc<TsigKey> {
        &self.0.key
    }

    /// Octets that [`ServerTsig::sign`] appends.
    pub fn record_len(&self) -> usize {
        self.0.key.record_len()
    }

    /// Signs the finished message that starts at `start` of `out`: first or only answer with all
    /// variables, later ones of a transfer with the timers (RFC 8945 §5.3.1).
    pub fn sign(&mut self, out: &mut Vec<u8>, start: usize, now: Timestamp) {
        self.append(out, start, wire_time(now), 0, &[]);
    }

    /// Counts a message of a transfer that goes out unsigned into the next signature.
    pub fn skip(&mut self, message: &[u8]) {
        self.0.context.update(message);
    }

    fn append(&mut self, out: &mut Vec<u8>, start: usize, time: u64, error: u16, other: &[u8]) {
        self.0.sign(out, start, time, error, other);
    }
}

/// The state of a client towards one server: signs a request, verifies one or more answers.
#[derive(Clone)]
pub struct ClientTsig {
    state: State,
    unsigned: u32,
}

impl std::fmt::Debug for ClientTsig {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "ClientTsig({:?})", self.state.key)
    }
}

/// Why an answer is not to be believed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum TsigError {
    #[error("the answer is malformed")]
    Malformed(#[from] WireError),
    #[error("the answer carries no TSIG record although the request did")]
    Unsigned,
    #[error("more than 99 messages in a row without TSIG (RFC 8945 §5.3.1)")]
    TooManyUnsigned,
    #[error("the answer is signed with another key")]
    BadKey,
    #[error("the answer's signature is wrong")]
    BadSig,
    #[error("the answer's signature is truncated")]
    BadTrunc,
    #[error("the answer's time is not within its fudge of ours; compare the clocks")]
    BadTime,
    #[error("the server does not accept our signature: TSIG error {0}")]
    Server(u16),
}

impl ClientTsig {
    /// Signs the finished request that starts at `start` of `out`.
    pub fn request(key: Arc<TsigKey>, out: &mut Vec<u8>, start: usize, now: Timestamp) -> Self {
        let id = out.get(start..start + 2).map_or(0, be16);
        let mut state = State {
            context: hmac::Context::with_key(&key.key),
            key,
            original_id: id,
            first: true,
        };
        state.sign(out, start, wire_time(now), 0, &[]);
        // The first answer is again signed with all variables.
        state.first = true;
        ClientTsig { state, unsigned: 0 }
    }

    /// Verifies the next message and gives the length of its part before the TSIG record.
    ///
    /// # Errors
    /// The message must not be used.
    pub fn verify(&mut self, msg: &[u8], now: Timestamp) -> Result<usize, TsigError> {
        let Some(tsig) = find_tsig(msg)? else {
            if self.state.first {
                return Err(TsigError::Unsigned);
            }
            self.unsigned += 1;
            if self.unsigned > MAX_UNSIGNED {
                return Err(TsigError::TooManyUnsigned);
            }
            self.state.context.update(msg);
            return Ok(msg.len());
        };
        // RFC 8945 §5.3.2: these two errors come unsigned.
        if matches!(tsig.error, rcode::BADKEY | rcode::BADSIG) && tsig.mac.is_empty() {
            return Err(TsigError::Server(tsig.error));
        }
        if !tsig.is_of(&self.state.key) {
            return Err(TsigError::BadKey);
        }
        let fresh = State::after(self.state.key.clone(), tsig.mac, self.state.original_id);
        let old = std::mem::replace(&mut self.state, fresh);
        let mut context = old.context;
        feed_message(&mut context, msg, &tsig);
        if old.first {
            feed_variables(
                &mut context,
                &old.key,
                tsig.time,
                tsig.fudge,
                tsig.error,
                tsig.other,
            );
        } else {
            feed_timers(&mut context, tsig.time, tsig.fudge);
        }
        check_mac(context, tsig.mac)?;
        self.state.first = false;
        self.unsigned = 0;
        if tsig.error != 0 {
            return Err(TsigError::Server(tsig.error));
        }
        if !tsig.in_time(wire_time(now)) {
            return Err(TsigError::BadTime);
        }
        Ok(tsig.at)
    }

    /// True when the last message verified was signed: a transfer may only end so.
    pub fn is_complete(&self) -> bool {
        !self.state.first && self.unsigned == 0
    }
}

/// The last record if it is a TSIG; one elsewhere is an error (RFC 8945 §5.1).
fn find_tsig(msg: &[u8]) -> Result<Option<TsigView<'_>>, WireError> {
    let mut found = None;
    for record in Message::parse(msg)?.records() {
        let record = record?;
        if found.is_some() {
            return Err(WireError::BadRdata);
        }
        if record.rtype == Rtype::TSIG {
            if record.section != 3 || record.end != msg.len() {
                return Err(WireError::BadRdata);
            }
            found = Some(TsigView::from_record(&record)?);
        }
    }
    Ok(found)
}

/// A key and a MAC under way that already holds what precedes the next message.
#[derive(Clone)]
struct State {
    key: Arc<TsigKey>,
    context: hmac::Context,
    original_id: u16,
    /// The next signature covers all variables, not only the timers.
    first: bool,
}

impl State {
    fn after(key: Arc<TsigKey>, mac: &[u8], original_id: u16) -> Self {
        let mut context = hmac::Context::with_key(&key.key);
        context.update(&(mac.len() as u16).to_be_bytes());
        context.update(mac);
        State {
            key,
            context,
            original_id,
            first: true,
        }
    }

    fn sign(&mut self, out: &mut Vec<u8>, start: usize, time: u64, error: u16, other: &[u8]) {
        let mut context =
            std::mem::replace(&mut self.context, hmac::Context::with_key(&self.key.key));
        context.update(out.get(start..).unwrap_or_default());
        if self.first {
            feed_variables(&mut context, &self.key, time, FUDGE, error, other);
        } else {
            feed_timers(&mut context, time, FUDGE);
        }
        let tag = context.sign();
        let fields = Fields {
            name: self.key.name.as_wire(),
            algorithm: self.key.algorithm.wire(),
            time,
            fudge: FUDGE,
            mac: tag.as_ref(),
            original_id: self.original_id,
            error,
            other,
        };
        push_record(out, start, &fields);
        *self = State {
            first: false,
            ..State::after(self.key.clone(), tag.as_ref(), self.original_id)
        };
    }
}

struct Fields<'a> {
    name: &'a [u8],
    algorithm: &'a [u8],
    time: u64,
    fudge: u16,
    mac: &'a [u8],
    original_id: u16,
    error: u16,
    other: &'a [u8],
}

/// Appends the TSIG record (RFC 8945 §4.2) and counts it in the header.
fn push_record(out: &mut Vec<u8>, start: usize, f: &Fields<'_>) {
    let Some(count) = out.get_mut(start + 10..start + HEADER) else {
        return;
    };
    let n = be16(count).saturating_add(1);
    count.copy_from_slice(&n.to_be_bytes());
    out.extend_from_slice(f.name);
    out.extend_from_slice(&Rtype::TSIG.0.to_be_bytes());
    out.extend_from_slice(&CLASS_ANY.to_be_bytes());
    out.extend_from_slice(&[0; 4]);
    let rdlen = f.algorithm.len() + 16 + f.mac.len() + f.other.len();
    out.extend_from_slice(&(rdlen as u16).to_be_bytes());
    out.extend_from_slice(f.algorithm);
    out.extend_from_slice(&f.time.to_be_bytes()[2..]);
    out.extend_from_slice(&f.fudge.to_be_bytes());
    out.extend_from_slice(&(f.mac.len() as u16).to_be_bytes());
    out.extend_from_slice(f.mac);
    out.extend_from_slice(&f.original_id.to_be_bytes());
    out.extend_from_slice(&f.error.to_be_bytes());
    out.extend_from_slice(&(f.other.len() as u16).to_be_bytes());
    out.extend_from_slice(f.other);
}

/// The message as it was before the TSIG record: original ID, one additional record less.
fn feed_message(context: &mut hmac::Context, msg: &[u8], tsig: &TsigView<'_>) {
    let header = Header::parse(msg).unwrap_or_default();
    let mut head = [0u8; HEADER];
    head.copy_from_slice(msg.get(..HEADER).unwrap_or(&[0; HEADER]));
    head[..2].copy_from_slice(&tsig.original_id.to_be_bytes());
    head[10..].copy_from_slice(&header.counts[3].saturating_sub(1).to_be_bytes());
    context.update(&head);
    context.update(msg.get(HEADER..tsig.at).unwrap_or_default());
}

/// RFC 8945 §4.3.3.
fn feed_variables(
    context: &mut hmac::Context,
    key: &TsigKey,
    time: u64,
    fudge: u16,
    error: u16,
    other: &[u8],
) {
    context.update(key.name.as_wire());
    context.update(&CLASS_ANY.to_be_bytes());
    context.update(&[0; 4]);
    context.update(key.algorithm.wire());
    feed_timers(context, time, fudge);
    context.update(&error.to_be_bytes());
    context.update(&(other.len() as u16).to_be_bytes());
    context.update(other);
}

fn feed_timers(context: &mut hmac::Context, time: u64, fudge: u16) {
    context.update(&time.to_be_bytes()[2..]);
    context.update(&fudge.to_be_bytes());
}

/// Compares in constant time. Truncated MACs are not accepted (RFC 8945 §5.2.2.1, local policy).
fn check_mac(context: hmac::Context, got: &[u8]) -> Result<(), TsigError> {
    let tag = context.sign();
    let want = tag.as_ref();
    if got.len() != want.len() {
        let cut = got.len() >= 10.max(want.len() / 2) && got.len() < want.len();
        return Err(if cut {
            TsigError::BadTrunc
        } else {
            TsigError::BadSig
        });
    }
    let differ = want
        .iter()
        .zip(got)
        .fold(0u8, |acc, (a, b)| std::hint::black_box(acc | (a ^ b)));
    if differ == 0 {
        Ok(())
    } else {
        Err(TsigError::BadSig)
    }
}

/// 48-bit seconds since 1970.
fn wire_time(now: Timestamp) -> u64 {
    now.secs().max(0) as u64 & 0xffff_ffff_ffff
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Request;
    use domain::base::{Message as DMessage, MessageBuilder, Name as DName, iana::Rtype as DRtype};
    use domain::rdata::tsig::Time48;
    use domain::tsig as oracle;
    use proptest::prelude::*;
    use std::str::FromStr;

    const NOW: i64 = 1_700_000_000;

    fn key(a: Algorithm) -> TsigKey {
        TsigKey::new(&Name::parse("Key.Example").unwrap(), a, b"sixteen octets!!")
    }
    fn now() -> Timestamp {
        Timestamp::from_secs(NOW)
    }
    fn oracle_key() -> oracle::Key {
        oracle::Key::new(
            oracle::Algorithm::Sha256,
            b"sixteen octets!!",
            oracle::KeyName::from_str("key.example").unwrap(),
            None,
            None,
        )
        .unwrap()
    }
    fn query() -> Vec<u8> {
        let mut m = vec![0x12, 0x34, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0];
        m.extend_from_slice(b"\x07example\x00\x00\xfc\x00\x01");
        m
    }
    fn answer(n: u8) -> Vec<u8> {
        let mut m = query();
        m[2] = 0x84;
        m[7] = 1;
        m.extend_from_slice(&[0xc0, 0x0c, 0, 1, 0, 1, 0, 0, 0, 1, 0, 4, 10, 0, 0, n]);
        m
    }
    fn verify_server(msg: &[u8], keys: &TsigKeys, at: i64) -> Result<ServerTsig, TsigRefusal> {
        let r = Request::parse(msg).unwrap();
        ServerTsig::verify(
            keys,
            msg,
            r.tsig.as_ref().unwrap(),
            Timestamp::from_secs(at),
        )
    }

    #[test]
    fn a_transfer_is_signed_and_verified_with_every_algorithm() {
        for a in Algorithm::ALL {
            assert_eq!(
                Algorithm::parse(&format!("{}.", a.name().to_uppercase())),
                Some(a)
            );
            let keys = TsigKeys::new([key(a)]);
            let mut request = query();
            let len = request.len();
            let mut client = ClientTsig::request(Arc::new(key(a)), &mut request, 0, now());
            assert_eq!(request.len(), len + key(a).record_len());
            let mut server = verify_server(&request, &keys, NOW + 200).unwrap();
            for n in 0..5u8 {
                let mut m = answer(n);
                let plain = m.len();
                if n == 2 || n == 3 {
                    server.skip(&m);
                } else {
                    server.sign(&mut m, 0, now());
                }
                assert_eq!(client.verify(&m, now()), Ok(plain), "{n}");
                assert_eq!(client.is_complete(), n != 2 && n != 3);
            }
            let mut forged = answer(9);
            server.sign(&mut forged, 0, now());
            forged[30] ^= 1;
            assert_eq!(client.verify(&forged, now()), Err(TsigError::BadSig));
        }
    }

    #[test]
    fn refusals() {
        let keys = TsigKeys::new([key(Algorithm::HmacSha256)]);
        let mut good = query();
        let mut client =
            ClientTsig::request(Arc::new(key(Algorithm::HmacSha256)), &mut good, 0, now());
        assert!(matches!(
            verify_server(&good, &TsigKeys::default(), NOW),
            Err(TsigRefusal::BadKey)
        ));
        let mut other = query();
        ClientTsig::request(Arc::new(key(Algorithm::HmacSha512)), &mut other, 0, now());
        assert!(matches!(
            verify_server(&other, &keys, NOW),
            Err(TsigRefusal::BadKey)
        ));
        let mut bad = good.clone();
        bad[14] ^= 1;
        assert!(matches!(
            verify_server(&bad, &keys, NOW),
            Err(TsigRefusal::BadSig)
        ));
        let late = verify_server(&good, &keys, NOW + 301).unwrap_err();
        assert_eq!(late.code(), rcode::BADTIME);
        // The answer to a bad time is signed and carries our time.
        let r = Request::parse(&good).unwrap();
        let mut m = answer(0);
        late.sign(
            r.tsig.as_ref().unwrap(),
            &mut m,
            0,
            Timestamp::from_secs(NOW + 301),
        );
        assert_eq!(
            client.clone().verify(&m, now()),
            Err(TsigError::Server(rcode::BADTIME))
        );
        // The answer to a bad key is unsigned.
        let mut m = answer(0);
        TsigRefusal::BadKey.sign(r.tsig.as_ref().unwrap(), &mut m, 0, now());
        assert_eq!(
            client.verify(&m, now()),
            Err(TsigError::Server(rcode::BADKEY))
        );
        assert_eq!(client.verify(&answer(0), now()), Err(TsigError::Unsigned));
    }

    #[test]
    fn a_changed_id_does_not_matter() {
        // RFC 8945 §4.3.1: forwarders change the ID; the original one is signed.
        let keys = TsigKeys::new([key(Algorithm::HmacSha256)]);
        let mut m = query();
        ClientTsig::request(Arc::new(key(Algorithm::HmacSha256)), &mut m, 0, now());
        m[0] ^= 0xff;
        assert!(verify_server(&m, &keys, NOW).is_ok());
    }

    #[test]
    fn other_peoples_client_and_our_server() {
        let mut b = MessageBuilder::new_vec().question();
        b.push((DName::<Vec<u8>>::from_str("example").unwrap(), DRtype::AXFR))
            .unwrap();
        let mut b = b.additional();
        let mut theirs = oracle::ClientSequence::request(
            Arc::new(oracle_key()),
            &mut b,
            Time48::from_u64(NOW as u64),
        )
        .unwrap();
        let request = b.finish();
        let keys = TsigKeys::new([key(Algorithm::HmacSha256)]);
        let mut ours = verify_server(&request, &keys, NOW).unwrap();
        for n in 0..4u8 {
            let mut m = answer(n);
            m[..2].copy_from_slice(&request[..2]);
            if n == 1 {
                ours.skip(&m)
            } else {
                ours.sign(&mut m, 0, now())
            }
            let mut m = DMessage::from_octets(m).unwrap();
            theirs.answer(&mut m, Time48::from_u64(NOW as u64)).unwrap();
        }
        theirs.done().unwrap();
    }

    #[test]
    fn our_client_and_other_peoples_server() {
        let mut request = query();
        let mut ours =
            ClientTsig::request(Arc::new(key(Algorithm::HmacSha256)), &mut request, 0, now());
        let mut request = DMessage::from_octets(request).unwrap();
        let store = Arc::new(oracle_key());
        let mut theirs =
            oracle::ServerSequence::request(&store, &mut request, Time48::from_u64(NOW as u64))
                .unwrap()
                .unwrap();
        for _ in 0..3 {
            let b = MessageBuilder::new_vec()
                .start_answer(&request, domain::base::iana::Rcode::NOERROR)
                .unwrap();
            let mut b = b.additional();
            theirs.answer(&mut b, Time48::from_u64(NOW as u64)).unwrap();
            assert!(ours.verify(&b.finish(), now()).is_ok());
        }
    }

    proptest! {
        #[test]
        fn no_mutation_is_accepted_or_panics(at in 0usize..200, bit in 0u8..8, cut in 0usize..200) {
            let keys = TsigKeys::new([key(Algorithm::HmacSha256)]);
            let mut m = query();
            let mut client = ClientTsig::request(Arc::new(key(Algorithm::HmacSha256)), &mut m, 0, now());
            let mut server = verify_server(&m, &keys, NOW).unwrap();
            let mut reply = answer(1);
            server.sign(&mut reply, 0, now());
            let n = m.len();
            // Octets of the ID, of letter case and of the key name's case are not protected.
            let at = at % n;
            let before = m.clone();
            m[at] ^= 1 << bit;
            if let Ok(r) = Request::parse(&m) && let Some(t) = &r.tsig
                && at >= 2 && !before[at].is_ascii_alphabetic()
            {
                prop_assert!(ServerTsig::verify(&keys, &m, t, now()).is_err());
            }
            reply.truncate(cut);
            prop_assert!(client.verify(&reply, now()).is_err() || cut >= reply.len());
        }
    }
}

//! DNS cookies (RFC 7873) in the interoperable form of RFC 9018: SipHash-2-4.

use std::net::IpAddr;
use std::time::Duration;

use cascade_time::Timestamp;

/// A server secret (RFC 9018 §4.4).
#[derive(Clone, Copy)]
pub struct Secret(pub [u8; 16]);

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Secret")
    }
}

/// The current secret and the one before it, which stays good for an hour.
#[derive(Debug, Clone, Copy)]
pub struct Secrets {
    current: Secret,
    previous: Option<Secret>,
    rotated: Timestamp,
}

/// Secrets live a day.
pub const ROTATE_EVERY: Duration = Duration::from_secs(86_400);
/// A server cookie is good for an hour (RFC 9018 §4.3), thus also its secret after rotation.
const LIFETIME: Duration = Duration::from_secs(3600);
/// Clocks of servers that share a secret may differ by this much (RFC 9018 §4.3).
const AHEAD: Duration = Duration::from_secs(300);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CookieState {
    /// A well-formed client cookie alone.
    ClientOnly,
    /// Client cookie and a server cookie that we made for this address.
    Valid,
    /// A server cookie that is old, foreign or for another address.
    Invalid,
    /// Lengths against RFC 7873 §5.2.2: FORMERR.
    Malformed,
}

impl Secrets {
    pub fn new(secret: Secret, now: Timestamp) -> Self {
        Secrets {
            current: secret,
            previous: None,
            rotated: now,
        }
    }

    /// When a new secret is due.
    pub fn next_rotation(&self) -> Timestamp {
        self.rotated + ROTATE_EVERY
    }

    pub fn rotate(&self, secret: Secret, now: Timestamp) -> Self {
        Secrets {
            current: secret,
            previous: Some(self.current),
            rotated: now,
        }
    }

    pub fn check(&self, option: &[u8], peer: IpAddr, now: Timestamp) -> CookieState {
        let Some((client, server)) = option.split_at_checked(8) else {
            return CookieState::Malformed;
        };
        match server.len() {
            0 => return CookieState::ClientOnly,
            8..=32 => {}
            _ => return CookieState::Malformed,
        }
        if server.len() != 16 || server[0] != 1 {
            return CookieState::Invalid;
        }
        let made = Timestamp::from_wire(
            u32::from_be_bytes([server[4], server[5], server[6], server[7]]),
            now,
        );
        if now.since(made) > LIFETIME || made.since(now) > AHEAD {
            return CookieState::Invalid;
        }
        let previous = self
            .previous
            .filter(|_| now.since(self.rotated) <= LIFETIME);
        let known = [Some(self.current), previous]
            .into_iter()
            .flatten()
            .any(|s| hash(&s, client, &server[..8], peer) == server[8..16]);
        if known {
            CookieState::Valid
        } else {
            CookieState::Invalid
        }
    }

    /// The COOKIE option data for an answer: the client's cookie and a fresh one of ours.
    pub fn make(&self, client: &[u8; 8], peer: IpAddr, now: Timestamp) -> [u8; 24] {
        let mut out = [0u8; 24];
        out[..8].copy_from_slice(client);
        out[8] = 1;
        out[12..16].copy_from_slice(&now.to_wire().to_be_bytes());
        let h = {
            let (client, server) = out[..16].split_at(8);
            hash(&self.current, client, server, peer)
        };
        out[16..].copy_from_slice(&h);
        out
    }
}

/// RFC 9018 §4.4: SipHash-2-4(client cookie | version | reserved | timestamp | client address).
fn hash(secret: &Secret, client: &[u8], head: &[u8], peer: IpAddr) -> [u8; 8] {
    let mut input = [0u8; 32];
    input[..8].copy_from_slice(client);
    input[8..16].copy_from_slice(head);
    let len = match peer.to_canonical() {
        IpAddr::V4(a) => {
            input[16..20].copy_from_slice(&a.octets());
            20
        }
        IpAddr::V6(a) => {
            input[16..32].copy_from_slice(&a.octets());
            32
        }
    };
    siphash24(&secret.0, &input[..len]).to_le_bytes()
}

/// SipHash-2-4 of J.-P. Aumasson and D. J. Bernstein.
fn siphash24(key: &[u8; 16], data: &[u8]) -> u64 {
    let word = |b: &[u8]| {
        let mut w = [0u8; 8];
        w[..b.len()].copy_from_slice(b);
        u64::from_le_bytes(w)
    };
    let (k0, k1) = (word(&key[..8]), word(&key[8..]));
    let mut v = [
        k0 ^ 0x736f_6d65_7073_6575,
        k1 ^ 0x646f_7261_6e64_6f6d,
        k0 ^ 0x6c79_6765_6e65_7261,
        k1 ^ 0x7465_6462_7974_6573,
    ];
    let chunks = data.chunks_exact(8);
    let last = word(chunks.remainder()) | (data.len() as u64) << 56;
    for m in chunks.map(word).chain([last]) {
        v[3] ^= m;
        sip_round(&mut v);
        sip_round(&mut v);
        v[0] ^= m;
    }
    v[2] ^= 0xff;
    for _ in 0..4 {
        sip_round(&mut v);
    }
    v[0] ^ v[1] ^ v[2] ^ v[3]
}

fn sip_round(v: &mut [u64; 4]) {
    v[0] = v[0].wrapping_add(v[1]);
    v[1] = v[1].rotate_left(13) ^ v[0];
    v[0] = v[0].rotate_left(32);
    v[2] = v[2].wrapping_add(v[3]);
    v[3] = v[3].rotate_left(16) ^ v[2];
    v[0] = v[0].wrapping_add(v[3]);
    v[3] = v[3].rotate_left(21) ^ v[0];
    v[2] = v[2].wrapping_add(v[1]);
    v[1] = v[1].rotate_left(17) ^ v[2];
    v[2] = v[2].rotate_left(32);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hex(text: &str) -> Vec<u8> {
        data_encoding::HEXLOWER.decode(text.as_bytes()).unwrap()
    }

    #[test]
    fn vectors_of_rfc9018() {
        // Appendix A.1: a new server cookie.
        let secret = Secret(hex("e5e973e5a6b2a43f48e7dc849e37bfcf").try_into().unwrap());
        let now = Timestamp::from_secs(1_559_731_985);
        let peer = "198.51.100.100".parse().unwrap();
        let s = Secrets::new(secret, now);
        let client: [u8; 8] = hex("2464c4abcf10c957").try_into().unwrap();
        let full = s.make(&client, peer, now);
        assert_eq!(
            full[..],
            hex("2464c4abcf10c957010000005cf79f111f8130c3eee29480")
        );
        assert_eq!(s.check(&full, peer, now), CookieState::Valid);
        assert_eq!(
            s.check(&full, "198.51.100.101".parse().unwrap(), now),
            CookieState::Invalid
        );
    }

    #[test]
    fn ages_and_lengths() {
        let t = Timestamp::from_secs(1_600_000_000);
        let peer: IpAddr = "2001:db8::1".parse().unwrap();
        let s = Secrets::new(Secret([7; 16]), t);
        let c = s.make(b"abcdefgh", peer, t);
        let after = |s: &Secrets, secs: u64| s.check(&c, peer, t + Duration::from_secs(secs));
        assert_eq!(after(&s, 3600), CookieState::Valid);
        assert_eq!(after(&s, 3601), CookieState::Invalid);
        let rotated = s.rotate(Secret([8; 16]), t + Duration::from_secs(60));
        assert_eq!(after(&rotated, 3600), CookieState::Valid);
        assert_eq!(
            after(&rotated.rotate(Secret([9; 16]), t), 60),
            CookieState::Invalid
        );
        assert_eq!(s.check(&c[..8], peer, t), CookieState::ClientOnly);
        for n in [0, 7, 9, 15] {
            assert_eq!(s.check(&c[..n], peer, t), CookieState::Malformed);
        }
        assert_eq!(s.check(&[0; 41], peer, t), CookieState::Malformed);
        assert_eq!(s.check(&[0; 40], peer, t), CookieState::Invalid);
    }
}

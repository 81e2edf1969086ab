//! The type table: the fields of every RR type, in wire order.
//!
//! One table drives the wire checker and the printer here and the zone file parser of the loader,
//! so a type cannot be known to one of them only. Where names are lower-cased is [`crate::canon`]'s.
//! Types without a row are opaque: RFC 3597.

mod check;
mod print;

pub use check::{Problem, RdataError, check_wire};
pub use print::{print, print_generic, push_base32hex, push_base64, push_hex};

use crate::rtype::Rtype;

/// One field of RDATA, both its wire form and its presentation.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Field {
    U8,
    U16,
    U32,
    U64,
    /// 32 bits of seconds; presentation may use TTL units (SOA timers, original TTL).
    Period,
    /// 32 bits, seconds or `YYYYMMDDHHmmSS` (RFC 4034 §3.2).
    Time,
    Ipv4,
    Ipv6,
    /// An uncompressed name.
    Name,
    /// Names up to the end, possibly none.
    Names,
    /// A `<character-string>`.
    Str,
    /// The same, unquoted letters and digits only (CAA tag, RFC 8659 §4.1).
    Tag,
    /// A `<character-string>` that may be absent (ISDN subaddress, RFC 1183 §3.2).
    OptStr,
    /// One or more `<character-string>`s up to the end.
    Strs,
    /// The rest as one quoted text without length octet (CAA, URI).
    Text,
    /// The rest in hex, at least so many octets.
    Hex(u8),
    /// The rest in base64, at least one octet.
    Base64,
    /// The rest in base64, possibly empty; `-` or nothing then.
    OptBase64,
    /// Length octet and octets in hex without blanks, `-` when empty (RFC 5155 §3.3).
    Salt,
    /// Length octet and octets in unpadded base32hex (RFC 5155 §3.3).
    Hash,
    /// Type bitmap in window blocks (RFC 4034 §4.1.2).
    Types,
    /// Type bitmap of the obsolete NXT (RFC 2535 §5.2).
    NxtTypes,
    /// A type number, presented by mnemonic.
    Type,
    /// DNSSEC algorithm number; mnemonics are read (RFC 4034 appendix A.1).
    Algorithm,
    /// Certificate type; mnemonics are read (RFC 4398 §2.1).
    CertType,
    /// DSYNC scheme: 1 is NOTIFY (RFC 9859 §2.2).
    Scheme,
    /// 64 bits as four groups of hex (RFC 6742 §2.1).
    Locator,
    /// So many octets in hex pairs with dashes (RFC 7043).
    Eui(u8),
    /// `0x` and hex, dots ignored (RFC 1706 §5).
    Nsap,
    /// Format octet and address (ATM Forum af-saa-0069).
    Atma,
    /// RFC 1876 §2, without anything before or after.
    Loc,
    /// Protocol and port bitmap (RFC 1035 §3.4.2).
    Services,
    /// Prefix length, address suffix, prefix name (RFC 2874 §3.1).
    A6,
    /// Address prefixes (RFC 3123 §4).
    Apl,
    /// Gateway type, algorithm and gateway (RFC 4025 §2.1): octets 2 and 3 and what follows.
    Gateway,
    /// Discovery bit, relay type and relay (RFC 8777 §4.2).
    Relay,
    /// Lengths, algorithm, HIT and public key (RFC 8005 §5).
    Hip,
    /// Service parameters (RFC 9460 §2.2).
    SvcParams,
}

/// The fields of a type; `None`: opaque, or never zone data.
pub fn fields(rtype: Rtype) -> Option<&'static [Field]> {
    use Field::*;
    Some(match rtype {
        Rtype::A => &[Ipv4],
        Rtype::AAAA => &[Ipv6],
        Rtype::NS
        | Rtype::MD
        | Rtype::MF
        | Rtype::CNAME
        | Rtype::MB
        | Rtype::MG
        | Rtype::MR
        | Rtype::PTR
        | Rtype::DNAME
        | Rtype::NSAP_PTR => &[Name],
        Rtype::SOA => &[Name, Name, U32, Period, Period, Period, Period],
        Rtype::WKS => &[Ipv4, Services],
        Rtype::HINFO => &[Str, Str],
        Rtype::MINFO | Rtype::RP | Rtype::TALINK => &[Name, Name],
        Rtype::MX | Rtype::AFSDB | Rtype::RT | Rtype::KX | Rtype::LP => &[U16, Name],
        Rtype::TXT
        | Rtype::SPF
        | Rtype::NINFO
        | Rtype::AVC
        | Rtype::RESINFO
        | Rtype::WALLET
        | Rtype::CLA => &[Strs],
        Rtype::X25 => &[Str],
        Rtype::ISDN => &[Str, OptStr],
        Rtype::NSAP => &[Nsap],
        Rtype::PX => &[U16, Name, Name],
        Rtype::GPOS => &[Str, Str, Str],
        Rtype::LOC => &[Loc],
        Rtype::NXT => &[Name, NxtTypes],
        Rtype::EID | Rtype::NIMLOC => &[Hex(1)],
        Rtype::SRV => &[U16, U16, U16, Name],
        Rtype::ATMA => &[Atma],
        Rtype::NAPTR => &[U16, U16, Str, Str, Str, Name],
        Rtype::CERT => &[CertType, U16, Algorithm, Base64],
        Rtype::A6 => &[A6],
        Rtype::SINK => &[U8, U8, U8, OptBase64],
        Rtype::APL => &[Apl],
        Rtype::SIG | Rtype::RRSIG => &[Type, Algorithm, U8, Period, Time, Time, U16, Name, Base64],
        Rtype::KEY | Rtype::RKEY => &[U16, U8, Algorithm, OptBase64],
        Rtype::DNSKEY | Rtype::CDNSKEY => &[U16, U8, Algorithm, Base64],
        Rtype::DS | Rtype::CDS | Rtype::TA | Rtype::DLV => &[U16, Algorithm, U8, Hex(1)],
        Rtype::SSHFP => &[U8, U8, Hex(1)],
        Rtype::IPSECKEY => &[U8, Gateway, OptBase64],
        Rtype::NSEC => &[Name, Types],
        Rtype::DHCID | Rtype::OPENPGPKEY | Rtype::HHIT | Rtype::BRID => &[Base64],
        Rtype::NSEC3 => &[U8, U8, U16, Salt, Hash, Types],
        Rtype::NSEC3PARAM => &[U8, U8, U16, Salt],
        Rtype::TLSA | Rtype::SMIMEA => &[U8, U8, U8, Hex(1)],
        Rtype::HIP => &[Hip, Names],
        Rtype::CSYNC => &[U32, U16, Types],
        // RFC 8976 §2.2.4: a digest has at least 12 octets.
        Rtype::ZONEMD => &[U32, U8, U8, Hex(12)],
        Rtype::SVCB | Rtype::HTTPS => &[U16, Name, SvcParams],
        Rtype::DSYNC => &[Type, Scheme, U16, Name],
        Rtype::NID | Rtype::L64 => &[U16, Locator],
        Rtype::L32 => &[U16, Ipv4],
        Rtype::EUI48 => &[Eui(6)],
        Rtype::EUI64 => &[Eui(8)],
        Rtype::URI => &[U16, U16, Text],
        Rtype::CAA => &[U8, Tag, Text],
        Rtype::DOA => &[U32, U32, U8, Str, OptBase64],
        Rtype::AMTRELAY => &[U8, Relay],
        Rtype::IPN => &[U64],
        _ => return None,
    })
}

/// DNSSEC algorithm mnemonics (IANA "DNS Security Algorithm Numbers").
pub const ALGORITHMS: &[(u8, &str)] = &[
    (1, "RSAMD5"),
    (2, "DH"),
    (3, "DSA"),
    (5, "RSASHA1"),
    (6, "DSA-NSEC3-SHA1"),
    (7, "RSASHA1-NSEC3-SHA1"),
    (8, "RSASHA256"),
    (10, "RSASHA512"),
    (12, "ECC-GOST"),
    (13, "ECDSAP256SHA256"),
    (14, "ECDSAP384SHA384"),
    (15, "ED25519"),
    (16, "ED448"),
    (17, "SM2SM3"),
    (23, "ECC-GOST12"),
    (252, "INDIRECT"),
    (253, "PRIVATEDNS"),
    (254, "PRIVATEOID"),
];

/// Certificate types (RFC 4398 §2.1).
pub const CERT_TYPES: &[(u16, &str)] = &[
    (1, "PKIX"),
    (2, "SPKI"),
    (3, "PGP"),
    (4, "IPKIX"),
    (5, "ISPKI"),
    (6, "IPGP"),
    (7, "ACPKIX"),
    (8, "IACPKIX"),
    (253, "URI"),
    (254, "OID"),
];

/// Service parameter keys (RFC 9460 §14.3.2, RFC 9461, RFC 9540).
pub const SVC_KEYS: &[(u16, &str)] = &[
    (0, "mandatory"),
    (1, "alpn"),
    (2, "no-default-alpn"),
    (3, "port"),
    (4, "ipv4hint"),
    (5, "ech"),
    (6, "ipv6hint"),
    (7, "dohpath"),
    (8, "ohttp"),
    (9, "tls-supported-groups"),
];

#[cfg(test)]
mod tests {
    use super::*;

    /// Registered types that stay opaque, each with its reason.
    const OPAQUE: &[Rtype] = &[
        Rtype::NULL,  // RFC 1035 §3.3.10: anything at all
        Rtype::UINFO, // no document defines these four
        Rtype::UID,
        Rtype::GID,
        Rtype::UNSPEC,
    ];

    #[test]
    fn every_registered_data_type_has_a_row_or_a_reason() {
        for &(t, m) in Rtype::ALL {
            let expect = !t.is_meta() && !OPAQUE.contains(&t);
            assert_eq!(fields(t).is_some(), expect, "{m}");
        }
    }

    #[test]
    fn names_that_are_lowered_stand_where_the_table_has_names() {
        // canon's walk and this table must agree: a checked RDATA has its names where canon looks.
        for &(t, m) in Rtype::ALL {
            let lowered = crate::canon::parts(t)
                .iter()
                .filter(|p| **p == crate::canon::Part::Name);
            let n = lowered.count();
            if n > 0 {
                let here = fields(t)
                    .unwrap_or(&[])
                    .iter()
                    .filter(|f| **f == Field::Name)
                    .count();
                assert_eq!(n, here, "{m}");
            }
        }
    }
}

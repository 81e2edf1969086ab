//! RR types: numbers and mnemonics of the IANA registry "Resource Record (RR) TYPEs".

use std::fmt;
use std::str::FromStr;

/// An RR type number.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Rtype(pub u16);

macro_rules! rtypes {
    ($($name:ident $text:literal = $n:literal),* $(,)?) => {
        impl Rtype {
            $(pub const $name: Rtype = Rtype($n);)*
            /// All types with a mnemonic, in numerical order.
            pub const ALL: &'static [(Rtype, &'static str)] = &[$((Rtype($n), $text)),*];
        }
    };
}

rtypes! {
    A "A" = 1, NS "NS" = 2, MD "MD" = 3, MF "MF" = 4, CNAME "CNAME" = 5, SOA "SOA" = 6, MB "MB" = 7,
    MG "MG" = 8, MR "MR" = 9, NULL "NULL" = 10, WKS "WKS" = 11, PTR "PTR" = 12, HINFO "HINFO" = 13,
    MINFO "MINFO" = 14, MX "MX" = 15, TXT "TXT" = 16, RP "RP" = 17, AFSDB "AFSDB" = 18, X25 "X25" = 19,
    ISDN "ISDN" = 20, RT "RT" = 21, NSAP "NSAP" = 22, NSAP_PTR "NSAP-PTR" = 23, SIG "SIG" = 24,
    KEY "KEY" = 25, PX "PX" = 26, GPOS "GPOS" = 27, AAAA "AAAA" = 28, LOC "LOC" = 29, NXT "NXT" = 30,
    EID "EID" = 31, NIMLOC "NIMLOC" = 32, SRV "SRV" = 33, ATMA "ATMA" = 34, NAPTR "NAPTR" = 35,
    KX "KX" = 36, CERT "CERT" = 37, A6 "A6" = 38, DNAME "DNAME" = 39, SINK "SINK" = 40, OPT "OPT" = 41,
    APL "APL" = 42, DS "DS" = 43, SSHFP "SSHFP" = 44, IPSECKEY "IPSECKEY" = 45, RRSIG "RRSIG" = 46,
    NSEC "NSEC" = 47, DNSKEY "DNSKEY" = 48, DHCID "DHCID" = 49, NSEC3 "NSEC3" = 50,
    NSEC3PARAM "NSEC3PARAM" = 51, TLSA "TLSA" = 52, SMIMEA "SMIMEA" = 53, HIP "HIP" = 55,
    NINFO "NINFO" = 56, RKEY "RKEY" = 57, TALINK "TALINK" = 58, CDS "CDS" = 59, CDNSKEY "CDNSKEY" = 60,
    OPENPGPKEY "OPENPGPKEY" = 61, CSYNC "CSYNC" = 62, ZONEMD "ZONEMD" = 63, SVCB "SVCB" = 64,
    HTTPS "HTTPS" = 65, DSYNC "DSYNC" = 66, HHIT "HHIT" = 67, BRID "BRID" = 68, SPF "SPF" = 99,
    UINFO "UINFO" = 100, UID "UID" = 101, GID "GID" = 102, UNSPEC "UNSPEC" = 103, NID "NID" = 104,
    L32 "L32" = 105, L64 "L64" = 106, LP "LP" = 107, EUI48 "EUI48" = 108, EUI64 "EUI64" = 109,
    NXNAME "NXNAME" = 128, TKEY "TKEY" = 249, TSIG "TSIG" = 250, IXFR "IXFR" = 251, AXFR "AXFR" = 252,
    MAILB "MAILB" = 253, MAILA "MAILA" = 254, ANY "ANY" = 255, URI "URI" = 256, CAA "CAA" = 257,
    AVC "AVC" = 258, DOA "DOA" = 259, AMTRELAY "AMTRELAY" = 260, RESINFO "RESINFO" = 261,
    WALLET "WALLET" = 262, CLA "CLA" = 263, IPN "IPN" = 264, TA "TA" = 32768, DLV "DLV" = 32769,
}

impl Rtype {
    /// The mnemonic, when the registry has one.
    pub fn mnemonic(self) -> Option<&'static str> {
        let i = Self::ALL.binary_search_by_key(&self, |&(t, _)| t).ok()?;
        Some(Self::ALL[i].1)
    }

    /// Meta types and question types: never zone data (RFC 6895 §3.1).
    pub fn is_meta(self) -> bool {
        matches!(self.0, 0 | 41 | 128..=255)
    }

    /// Made by a signer, never content: RRSIG, NSEC, NSEC3.
    pub fn is_denial_or_signature(self) -> bool {
        matches!(self, Rtype::RRSIG | Rtype::NSEC | Rtype::NSEC3)
    }

    /// At the apex, the types a signer owns beside those.
    pub fn is_signer_apex(self) -> bool {
        matches!(
            self,
            Rtype::DNSKEY | Rtype::CDS | Rtype::CDNSKEY | Rtype::NSEC3PARAM | Rtype::ZONEMD
        )
    }
}

impl fmt::Display for Rtype {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.mnemonic() {
            Some(m) => f.write_str(m),
            // RFC 3597 §5.
            None => write!(f, "TYPE{}", self.0),
        }
    }
}

impl fmt::Debug for Rtype {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

/// A text that names no type.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct UnknownType;

impl FromStr for Rtype {
    type Err = UnknownType;
    /// Mnemonics in any case, and `TYPE123`.
    fn from_str(text: &str) -> Result<Rtype, UnknownType> {
        for &(t, m) in Self::ALL {
            if m.eq_ignore_ascii_case(text) {
                return Ok(t);
            }
        }
        let digits = text
            .get(..4)
            .filter(|p| p.eq_ignore_ascii_case("TYPE"))
            .and_then(|_| text.get(4..))
            .ok_or(UnknownType)?;
        if digits.is_empty() || !digits.bytes().all(|b| b.is_ascii_digit()) {
            return Err(UnknownType);
        }
        digits.parse().map(Rtype).map_err(|_| UnknownType)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn table_is_sorted_and_reads_back() {
        assert!(Rtype::ALL.windows(2).all(|w| w[0].0 < w[1].0));
        for &(t, m) in Rtype::ALL {
            assert_eq!(m.to_ascii_lowercase().parse(), Ok(t));
            assert_eq!(format!("TYPE{}", t.0).parse(), Ok(t));
            assert_eq!(t.to_string(), m);
        }
        assert_eq!("TYPE65280".parse(), Ok(Rtype(65280)));
        assert_eq!(Rtype(65280).to_string(), "TYPE65280");
        for bad in ["", "TYPE", "TYPE65536", "TYPE-1", "AA", "TYP"] {
            assert_eq!(bad.parse::<Rtype>(), Err(UnknownType), "{bad}");
        }
    }
}

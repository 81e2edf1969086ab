//! How the state of a zone's keys is written: JSON with short names, without what is as it mostly is.
//!
//! Very many zones keep two keys and wait; what one of them takes on disk and in the commit of each
//! of its looks is counted (`crates/sim/tests/budgets.rs`). Rows of releases that wrote long names,
//! times as RFC 3339 and octets in hexadecimal are read as before: every short name has the long one
//! as its alias.

/// Left out when written, put back when read.
pub fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

/// Times as seconds since 1970; with a fraction of a second as nanoseconds, eight octets in base64,
/// which is shorter than their nineteen digits.
pub mod time {
    use std::fmt;

    use cascade_time::Timestamp;
    use data_encoding::BASE64_NOPAD;
    use serde::de::{Error, Visitor};
    use serde::{Deserializer, Serializer};

    const NANOS: i64 = 1_000_000_000;

    pub fn serialize<S: Serializer>(at: &Timestamp, s: S) -> Result<S::Ok, S::Error> {
        match at.nanos() % NANOS {
            0 => s.serialize_i64(at.secs()),
            _ => s.serialize_str(&BASE64_NOPAD.encode(&at.nanos().to_be_bytes())),
        }
    }

    struct Time;

    impl Visitor<'_> for Time {
        type Value = Timestamp;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("a time, in seconds, in base64 or as RFC 3339")
        }

        fn visit_i64<E: Error>(self, secs: i64) -> Result<Timestamp, E> {
            Ok(Timestamp::from_secs(secs))
        }

        fn visit_u64<E: Error>(self, secs: u64) -> Result<Timestamp, E> {
            let secs = i64::try_from(secs).map_err(|_| E::custom(format!("{secs} is no time")))?;
            Ok(Timestamp::from_secs(secs))
        }

        fn visit_str<E: Error>(self, text: &str) -> Result<Timestamp, E> {
            // RFC 3339 has dashes and colons, base64 neither.
            let octets = BASE64_NOPAD.decode(text.as_bytes()).ok();
            let nanos = octets.and_then(|o| Some(i64::from_be_bytes(o.try_into().ok()?)));
            nanos
                .map(Timestamp::from_nanos)
                .or_else(|| Timestamp::parse_rfc3339(text))
                .ok_or_else(|| E::custom(format!("'{text}' is no time")))
        }
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(d: D) -> Result<Timestamp, D::Error> {
        d.deserialize_any(Time)
    }
}

/// Times that may be missing.
pub mod maybe_time {
    use cascade_time::Timestamp;
    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    #[derive(Serialize, Deserialize)]
    struct Given(#[serde(with = "super::time")] Timestamp);

    pub fn serialize<S: Serializer>(at: &Option<Timestamp>, s: S) -> Result<S::Ok, S::Error> {
        at.map(Given).serialize(s)
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(d: D) -> Result<Option<Timestamp>, D::Error> {
        Ok(Option::<Given>::deserialize(d)?.map(|g| g.0))
    }
}

/// The octets of a public key in base64 (RFC 4648 §4) behind a `=`, which hexadecimal has not.
pub mod octets {
    use data_encoding::BASE64_NOPAD;
    use serde::{Deserialize, Deserializer, Serializer, de::Error};

    pub fn serialize<S: Serializer>(bytes: &[u8], s: S) -> Result<S::Ok, S::Error> {
        s.serialize_str(&format!("={}", BASE64_NOPAD.encode(bytes)))
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(d: D) -> Result<Vec<u8>, D::Error> {
        let text = String::deserialize(d)?;
        let octets = match text.strip_prefix('=') {
            Some(short) => BASE64_NOPAD.decode(short.as_bytes()).ok(),
            None => crate::hex::decode(&text),
        };
        octets.ok_or_else(|| D::Error::custom(format!("'{text}' is no key")))
    }
}

/// The last looks. Each look asks much the same servers, most of which say the same at the same time:
/// servers are listed once, and what is as at the member before is left out.
pub mod looks {
    use std::fmt;

    use cascade_time::Timestamp;
    use serde::de::value::{MapAccessDeserializer, SeqAccessDeserializer};
    use serde::de::{Error, MapAccess, SeqAccess, Visitor};
    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    use super::is_default;
    use crate::observe::{Delegation, DsShown, MemberReport, SweepReport, Verdict, What};
    use crate::roll::{Class, Seen};

    /// Name, address, NSID.
    type Server = (String, String, Option<String>);

    #[derive(Serialize, Deserialize)]
    struct Looks {
        #[serde(rename = "s")]
        servers: Vec<Server>,
        #[serde(rename = "l")]
        looks: Vec<Look>,
    }

    #[derive(Serialize, Deserialize)]
    struct Look {
        #[serde(rename = "w")]
        what: What,
        #[serde(rename = "b", with = "super::time")]
        started: Timestamp,
        #[serde(rename = "e", with = "super::time")]
        ended: Timestamp,
        #[serde(rename = "m")]
        members: Vec<Told>,
        #[serde(rename = "p", default, skip_serializing_if = "is_default")]
        passed: Option<u64>,
        /// Missing: as `passed`.
        #[serde(rename = "c", default, skip_serializing_if = "is_default")]
        covered: Option<Maybe<u64>>,
        #[serde(rename = "n", default, skip_serializing_if = "is_default")]
        seen: Vec<(Class, Seen, bool)>,
        #[serde(rename = "d", default, skip_serializing_if = "is_default")]
        ds: Vec<DsShown>,
        #[serde(rename = "g", default, skip_serializing_if = "is_default")]
        delegation: Option<Delegation>,
    }

    /// The number of the server alone: all is as at the member before.
    #[derive(Serialize, Deserialize)]
    #[serde(untagged)]
    enum Told {
        Same(usize),
        Other(Member),
    }

    /// What is missing is as at the member before; the first one matches, shows no TTL and was asked
    /// and answered when the look began and ended.
    #[derive(Default, PartialEq, Serialize, Deserialize)]
    struct Member {
        #[serde(rename = "i")]
        server: usize,
        #[serde(rename = "v", default, skip_serializing_if = "is_default")]
        verdict: Option<Verdict>,
        #[serde(rename = "f", default, skip_serializing_if = "is_default")]
        found: Option<String>,
        #[serde(rename = "t", default, skip_serializing_if = "is_default")]
        ttl: Option<Maybe<u32>>,
        #[serde(rename = "q", default, skip_serializing_if = "is_default")]
        first_asked: Option<Moment>,
        #[serde(rename = "a", default, skip_serializing_if = "is_default")]
        last_answer: Option<Maybe<Moment>>,
        #[serde(rename = "x", default, skip_serializing_if = "is_default")]
        flipped_at: Option<Moment>,
    }

    #[derive(Clone, Copy, PartialEq, Serialize, Deserialize)]
    struct Moment(#[serde(with = "super::time")] Timestamp);

    /// A value or that there is none, which is something else than to be as before.
    #[derive(Clone, Copy, PartialEq, Serialize, Deserialize)]
    #[serde(untagged)]
    enum Maybe<T> {
        Some(T),
        None(bool),
    }

    impl<T> Maybe<T> {
        fn of(value: Option<T>) -> Maybe<T> {
            value.map_or(Maybe::None(false), Maybe::Some)
        }

        fn value(self) -> Option<T> {
            match self {
                Maybe::Some(value) => Some(value),
                Maybe::None(_) => None,
            }
        }
    }

    /// The member that the first one of a look is compared with.
    fn before_first(look_started: Timestamp, look_ended: Timestamp) -> MemberReport {
        MemberReport {
            server: String::new(),
            address: String::new(),
            nsid: None,
            verdict: Verdict::Match,
            found: String::new(),
            ttl: None,
            first_asked: look_started,
            last_answer: Some(look_ended),
            flipped_at: None,
        }
    }

    pub fn serialize<S: Serializer>(looks: &[SweepReport], s: S) -> Result<S::Ok, S::Error> {
        let mut servers: Vec<Server> = Vec::new();
        let mut index = |m: &MemberReport| {
            let server = (m.server.clone(), m.address.clone(), m.nsid.clone());
            let known = servers.iter().position(|s| *s == server);
            known.unwrap_or_else(|| {
                servers.push(server);
                servers.len() - 1
            })
        };
        let looks: Vec<Look> = looks.iter().map(|l| short(l, &mut index)).collect();
        Looks { servers, looks }.serialize(s)
    }

    fn short(look: &SweepReport, index: &mut impl FnMut(&MemberReport) -> usize) -> Look {
        let first = before_first(look.started, look.ended);
        let before = std::iter::once(&first).chain(&look.members);
        let members = look.members.iter().zip(before);
        Look {
            what: look.what,
            started: look.started,
            ended: look.ended,
            members: members.map(|(m, b)| short_member(m, b, index(m))).collect(),
            passed: look.passed,
            covered: (look.covered != look.passed).then(|| Maybe::of(look.covered)),
            seen: look.seen.clone(),
            ds: look.ds.clone(),
            delegation: look.delegation,
        }
    }

    fn short_member(m: &MemberReport, before: &MemberReport, server: usize) -> Told {
        let answer = |a: Option<Timestamp>| Maybe::of(a.map(Moment));
        let told = Member {
            server,
            verdict: (m.verdict != before.verdict).then_some(m.verdict),
            found: (m.found != before.found).then(|| m.found.clone()),
            ttl: (m.ttl != before.ttl).then(|| Maybe::of(m.ttl)),
            first_asked: (m.first_asked != before.first_asked).then_some(Moment(m.first_asked)),
            last_answer: (m.last_answer != before.last_answer).then(|| answer(m.last_answer)),
            flipped_at: m.flipped_at.map(Moment),
        };
        let alone = Member {
            server,
            ..Member::default()
        };
        match told == alone {
            true => Told::Same(server),
            false => Told::Other(told),
        }
    }

    impl Look {
        /// `None`: it names a server that is not listed.
        fn whole(self, servers: &[Server]) -> Option<SweepReport> {
            let mut before = before_first(self.started, self.ended);
            let mut members = Vec::with_capacity(self.members.len());
            for told in self.members {
                let m = match told {
                    Told::Other(member) => member,
                    Told::Same(server) => Member {
                        server,
                        ..Member::default()
                    },
                };
                let (server, address, nsid) = servers.get(m.server)?.clone();
                let answer = m.last_answer.map(|a| a.value().map(|m| m.0));
                before = MemberReport {
                    server,
                    address,
                    nsid,
                    verdict: m.verdict.unwrap_or(before.verdict),
                    found: m.found.unwrap_or(before.found),
                    ttl: m.ttl.map_or(before.ttl, Maybe::value),
                    first_asked: m.first_asked.map_or(before.first_asked, |a| a.0),
                    last_answer: answer.unwrap_or(before.last_answer),
                    flipped_at: m.flipped_at.map(|a| a.0),
                };
                members.push(before.clone());
            }
            Some(SweepReport {
                what: self.what,
                started: self.started,
                ended: self.ended,
                members,
                passed: self.passed,
                covered: self.covered.map_or(self.passed, Maybe::value),
                seen: self.seen,
                ds: self.ds,
                delegation: self.delegation,
            })
        }
    }

    /// The short form, or the list of former releases.
    struct Either;

    impl<'de> Visitor<'de> for Either {
        type Value = Vec<SweepReport>;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("the last looks at name servers")
        }

        fn visit_seq<A: SeqAccess<'de>>(self, list: A) -> Result<Self::Value, A::Error> {
            Vec::deserialize(SeqAccessDeserializer::new(list))
        }

        fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Self::Value, A::Error> {
            let Looks { servers, looks } = Looks::deserialize(MapAccessDeserializer::new(map))?;
            let whole = looks.into_iter().map(|l| l.whole(&servers));
            whole
                .collect::<Option<_>>()
                .ok_or_else(|| A::Error::custom("a look names a server that is not listed"))
        }
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(d: D) -> Result<Vec<SweepReport>, D::Error> {
        d.deserialize_any(Either)
    }
}

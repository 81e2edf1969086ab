//! Labels of keys on tokens: for people who look at the token with other tools. Nothing
//! here is ever used to find a key.

use cascade_crypto::Role;
use cascade_zone::Name;
use sha2::{Digest, Sha256};

/// Shortest room for a zone's name: a hash alone takes eight octets.
const LEAST: usize = 8;

/// Octets of a name that may take the place of an id.
const ID_MAX: usize = 64;

/// How labels are made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LabelRule {
    pub prefix: String,
    /// Octets of the whole label.
    pub max: usize,
}

/// Which half of a pair.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    Public,
    Private,
}

impl Side {
    fn suffix(self) -> &'static str {
        match self {
            Side::Public => "-pub",
            Side::Private => "-pri",
        }
    }
}

impl LabelRule {
    /// `<prefix><zone>-<tag>-<role>-<side>`.
    pub fn named(&self, zone: &Name, tag: u16, role: Role, side: Side) -> String {
        self.put_together(zone, &format!("-{tag}-{role}{}", side.suffix()))
    }

    /// Before the tag is known: `<prefix><zone>-<role>-<8 hex>-<side>`.
    pub fn provisional(&self, zone: &Name, role: Role, random: [u8; 4], side: Side) -> String {
        let hex = data_encoding::HEXLOWER.encode(&random);
        self.put_together(zone, &format!("-{role}-{hex}{}", side.suffix()))
    }

    /// One name for both halves, to stay: `<prefix><zone>-<role>-<8 hex>`. It may become the id.
    pub fn lasting(&self, zone: &Name, role: Role, random: [u8; 4]) -> String {
        let hex = data_encoding::HEXLOWER.encode(&random);
        let max = self.max.min(ID_MAX);
        let short = LabelRule {
            prefix: self.prefix.clone(),
            max,
        };
        short.put_together(zone, &format!("-{role}-{hex}"))
    }

    /// The zone's name gives way, never what stands behind it.
    fn put_together(&self, zone: &Name, rest: &str) -> String {
        let zone = zone.to_lowercase().without_dot();
        let room = self.max.saturating_sub(self.prefix.len() + rest.len());
        match room {
            room if room < LEAST => {
                let prefix: String = self.prefix.chars().take_while(char::is_ascii).collect();
                let keep = self.max.saturating_sub(LEAST + rest.len());
                let prefix = prefix.get(..keep.min(prefix.len())).unwrap_or_default();
                format!("{prefix}{}{rest}", shorten(&zone, LEAST))
            }
            room => format!("{}{}{rest}", self.prefix, shorten(&zone, room)),
        }
    }

    /// Flags of the key that a label of ours was made for, if it is one of this zone's.
    pub fn role_of(&self, zone: &Name, label: &str) -> Option<Role> {
        let lasting = |role| {
            let (_, hex) = label.rsplit_once('-')?;
            let random = data_encoding::HEXLOWER.decode(hex.as_bytes()).ok()?;
            let made = self.lasting(zone, role, random.try_into().ok()?);
            (made == label).then_some(role)
        };
        if let Some(role) = [Role::Ksk, Role::Zsk, Role::Csk]
            .into_iter()
            .find_map(lasting)
        {
            return Some(role);
        }
        let body = label
            .strip_suffix(Side::Public.suffix())
            .or_else(|| label.strip_suffix(Side::Private.suffix()))?;
        let (front, last) = body.rsplit_once('-')?;
        let roles = [Role::Ksk, Role::Zsk, Role::Csk];
        let role = |word: &str| roles.into_iter().find(|r| r.word() == word);
        let side = match label.ends_with(Side::Public.suffix()) {
            true => Side::Public,
            false => Side::Private,
        };
        if let Some(role) = role(last) {
            let tag = front.rsplit_once('-')?.1.parse().ok()?;
            return (self.named(zone, tag, role, side) == label).then_some(role);
        }
        let role = role(front.rsplit_once('-')?.1)?;
        let random = data_encoding::HEXLOWER.decode(last.as_bytes()).ok()?;
        let random = random.try_into().ok()?;
        (self.provisional(zone, role, random, side) == label).then_some(role)
    }
}

/// The name, or its first label, `..`, as many of its last labels as fit, and a hash of the whole.
fn shorten(zone: &str, room: usize) -> String {
    if zone.len() <= room {
        return zone.to_string();
    }
    let hash = Sha256::digest(zone.as_bytes());
    let hash = data_encoding::HEXLOWER.encode(hash.get(..4).unwrap_or_default());
    let Some(room) = room.checked_sub(hash.len() + 1) else {
        return hash;
    };
    let (first, rest) = zone.split_once('.').unwrap_or((zone, ""));
    let mut tails = rest
        .match_indices('.')
        .map(|(at, _)| rest.get(at + 1..).unwrap_or_default());
    let fitting = tails.find(|tail| first.len() + 2 + tail.len() <= room);
    match fitting {
        Some(tail) => format!("{first}..{tail}-{hash}"),
        None => {
            let cut = zone.get(..room.min(zone.len())).unwrap_or_default();
            let cut = cut.trim_end_matches('.');
            match cut {
                "" => hash,
                cut => format!("{cut}-{hash}"),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rule(prefix: &str, max: usize) -> LabelRule {
        LabelRule {
            prefix: prefix.into(),
            max,
        }
    }

    #[test]
    fn labels_name_zone_tag_and_role() {
        let zone = Name::parse("Example.NET.").unwrap();
        let r = rule("", 32);
        let label = r.named(&zone, 31203, Role::Ksk, Side::Private);
        assert_eq!(label, "example.net-31203-ksk-pri");
        let early = r.provisional(&zone, Role::Zsk, [1, 2, 3, 4], Side::Public);
        assert_eq!(early, "example.net-zsk-01020304-pub");
        assert_eq!(r.role_of(&zone, &label), Some(Role::Ksk));
        assert_eq!(r.role_of(&zone, &early), Some(Role::Zsk));
        let lasting = r.lasting(&zone, Role::Csk, [1, 2, 3, 4]);
        assert_eq!(lasting, "example.net-csk-01020304");
        assert_eq!(r.role_of(&zone, &lasting), Some(Role::Csk));
        assert!(rule("p-", 255).lasting(&zone, Role::Csk, [0; 4]).len() <= ID_MAX);
        let other = Name::parse("example.org").unwrap();
        assert_eq!(r.role_of(&other, &label), None);
        assert_eq!(r.role_of(&zone, "something else"), None);
    }

    #[test]
    fn long_names_stay_within_the_bound_and_stay_apart() {
        let a = Name::parse("host.a-quite-long-label.department.university.example").unwrap();
        let b = Name::parse("host.b-quite-long-label.department.university.example").unwrap();
        for max in [32, 40, 48, 64] {
            for prefix in ["", "dns-", "a-rather-long-prefix-for-labels-"] {
                let r = rule(prefix, max);
                let (x, y) = (
                    r.named(&a, 65535, Role::Csk, Side::Public),
                    r.named(&b, 65535, Role::Csk, Side::Public),
                );
                assert!(x.len() <= max, "{x}");
                assert_ne!(x, y);
                assert!(x.ends_with("-65535-csk-pub"), "{x}");
                assert_eq!(r.role_of(&a, &x), Some(Role::Csk), "{x}");
            }
        }
        let shown = rule("", 48).named(&a, 1, Role::Ksk, Side::Public);
        assert!(shown.starts_with("host..university.example-"), "{shown}");
    }
}

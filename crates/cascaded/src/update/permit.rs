//! What a policy lets the holder of a key change.

use std::net::IpAddr;

use cascade_loader::update::Permit;
use cascade_policy::{NamePattern, UpdateRule};
use cascade_wire::Acl;
use cascade_wire::acl::AclEntry;
use cascade_zone::{Name, Rtype, key};

use super::By;

/// The rules of a policy for one zone, compiled.
#[derive(Debug)]
pub struct Rules(Vec<Rule>);

#[derive(Debug)]
struct Rule {
    who: Acl,
    /// Order keys below the apex, and whether what is below them is meant. `None`: every name.
    names: Option<Vec<(Vec<u8>, bool)>>,
    types: Vec<Rtype>,
}

impl Rules {
    pub fn new(rules: &[UpdateRule], apex: &Name) -> Rules {
        Rules(rules.iter().map(|r| Rule::new(r, apex)).collect())
    }

    /// What one requester may do.
    pub fn of<'a>(&'a self, by: &By, apex: &'a Name) -> Allowed<'a> {
        let rules = match by {
            By::Person(_) => None,
            By::Key { name, from } => Some(
                self.0
                    .iter()
                    .filter(|r| r.who.allows(IpAddr::to_canonical(from), Some(name), None))
                    .collect(),
            ),
        };
        Allowed { rules, apex }
    }
}

impl Rule {
    fn new(rule: &UpdateRule, apex: &Name) -> Rule {
        // Validation has read it with the same grammar; what cannot be read allows nothing.
        let who = AclEntry::parse(&rule.who.text()).map(|(e, _)| e);
        let at = |p: &NamePattern| {
            let name = p.name(apex)?;
            Some((key::key_of(apex, name.as_wire())?, p.below))
        };
        Rule {
            who: Acl::compile(who.into_iter().collect()),
            names: (!rule.names.is_empty()).then(|| rule.names.iter().filter_map(at).collect()),
            types: rule.types.clone(),
        }
    }

    fn covers(&self, k: &[u8], rtype: Rtype) -> bool {
        // Type ANY, the deletion of a whole name, needs a rule for every type.
        let types = self.types.is_empty() || self.types.contains(&rtype);
        let names = self.names.as_ref().is_none_or(|names| {
            names.iter().any(|(n, below)| match below {
                true => k.len() > n.len() && k.starts_with(n),
                false => k == n,
            })
        });
        types && names
    }
}

/// What somebody may change.
#[derive(Debug)]
pub struct Allowed<'a> {
    /// `None`: everything.
    rules: Option<Vec<&'a Rule>>,
    apex: &'a Name,
}

impl Permit for Allowed<'_> {
    fn allows(&self, owner: &Name, rtype: Rtype) -> bool {
        let Some(rules) = &self.rules else {
            return true;
        };
        let Some(k) = key::key_of(self.apex, owner.as_wire()) else {
            return false;
        };
        rules.iter().any(|r| r.covers(&k, rtype))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rules(text: &str) -> Vec<UpdateRule> {
        let text = format!("version = \"v1\"\n[loader]\nupdate-allow = {text}\n");
        let parsed = cascade_policy::parse_policy("p", "p.toml", text.as_bytes());
        parsed.unwrap().policy.loader.update_allow
    }

    #[test]
    fn key_address_name_and_type_decide() {
        let apex = Name::parse("example.net").unwrap();
        let list = rules(
            r#"["192.0.2.0/24^all",
                { addr = "any^dhcp", names = ["*.dyn", "host"], types = ["A", "aaaa"] },
                { tsig-key-name = "acme", names = ["*._acme-challenge.example.net.", "*.c.example.org."], types = ["TXT"] },
                { tsig-key-name = "top", names = ["@"] },
                { tsig-key-name = "below", names = ["*"] }]"#,
        );
        let rules = Rules::new(&list, &apex);
        let may = |key: &str, from: &str, owner: &str, rtype: Rtype| {
            let by = By::Key {
                name: Name::parse(key).unwrap(),
                from: from.parse().unwrap(),
            };
            rules
                .of(&by, &apex)
                .allows(&Name::parse(owner).unwrap(), rtype)
        };
        let far = "203.0.113.1";
        assert!(may("ALL", "192.0.2.7", "x.example.net", Rtype::MX));
        assert!(may("all", "::ffff:192.0.2.7", "example.net", Rtype::ANY));
        assert!(!may("all", far, "x.example.net", Rtype::MX));
        assert!(may("dhcp", far, "a.dyn.example.net", Rtype::A));
        assert!(may("dhcp", far, "A.b.DYN.example.net", Rtype::AAAA));
        assert!(may("dhcp", far, "host.example.net", Rtype::A));
        for (owner, rtype) in [
            ("dyn.example.net", Rtype::A),
            ("adyn.example.net", Rtype::A),
            ("x.host.example.net", Rtype::A),
            ("a.dyn.example.net", Rtype::TXT),
            ("a.dyn.example.net", Rtype::ANY),
            ("example.net", Rtype::A),
            ("a.dyn.example.org", Rtype::A),
        ] {
            assert!(!may("dhcp", far, owner, rtype), "{owner} {rtype}");
        }
        assert!(may(
            "acme",
            far,
            "x._acme-challenge.example.net",
            Rtype::TXT
        ));
        assert!(may("top", far, "example.net", Rtype::ANY));
        assert!(!may("top", far, "x.example.net", Rtype::A));
        assert!(!may("below", far, "example.net", Rtype::A));
        assert!(may("below", far, "x.y.example.net", Rtype::A));
        assert!(!may("nobody", far, "x.example.net", Rtype::A));
        let by = By::Person("root".into());
        assert!(rules.of(&by, &apex).allows(&apex, Rtype::NS));
    }
}

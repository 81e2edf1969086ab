//! Who may change what by DNS UPDATE (RFC 2136, 3007).

use cascade_zone::{Name, Rtype};

use crate::acl::AclEntry;
use crate::address::only_members;
use crate::reader::Cx;
use crate::tree::{Node, Val, quote};
use crate::value::{Value, string};

/// One permission: requests signed with this key, from there, may change these types at these names.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct UpdateRule {
    /// With a key, and never negated.
    pub who: AclEntry,
    /// Relative to the zone unless they end with a dot; empty: every name.
    pub names: Vec<NamePattern>,
    /// Empty: every type but those that the signer makes.
    pub types: Vec<Rtype>,
}

/// A name, or everything below one.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct NamePattern {
    /// As written, `@` being the apex.
    pub text: String,
    /// `*.` stood before the name: everything below it, and not the name itself.
    pub below: bool,
}

const FORM: &str = "write \"any^key\", or { addr = \"any\", tsig-key-name = \"key\", \
                    names = [\"*.dyn\"], types = [\"A\", \"AAAA\"] }";
const MEMBERS: [&str; 4] = ["addr", "tsig-key-name", "names", "types"];

impl Value for UpdateRule {
    fn type_text() -> String {
        "\"address^key\", or a table of addr, tsig-key-name, names, types".into()
    }

    fn read(node: &Node, cx: &mut Cx) -> Option<Self> {
        let rule = match &node.value {
            Val::Str(_) => UpdateRule {
                who: AclEntry::read(node, cx)?,
                names: Vec::new(),
                types: Vec::new(),
            },
            Val::Table(table) => {
                only_members(table, &MEMBERS, cx)?;
                let mut who = match table.get("addr") {
                    Some(e) => AclEntry::read(&e.node, cx)?,
                    None => AclEntry {
                        negate: false,
                        net: crate::acl::Net::Any,
                        key: None,
                    },
                };
                if let Some(e) = table.get("tsig-key-name") {
                    let text = string(&e.node, cx, "a key name")?;
                    let name = crate::acl::key_name(text, &e.node, cx)?;
                    if who.key.replace(name).is_some() {
                        cx.bad(node, "the key is named twice", "");
                        return None;
                    }
                }
                UpdateRule {
                    who,
                    names: list(table.get("names").map(|e| &e.node), cx, pattern)?,
                    types: list(table.get("types").map(|e| &e.node), cx, rtype)?,
                }
            }
            _ => {
                cx.wrong_type(node, "a permission");
                return None;
            }
        };
        if rule.who.negate {
            cx.bad(node, "a permission cannot deny", FORM);
            return None;
        }
        if rule.who.key.is_none() {
            let detail = "an update without a key cannot be told from a forged one (RFC 3007)";
            cx.bad(node, detail, FORM);
            return None;
        }
        Some(rule)
    }

    fn write(&self) -> String {
        if self.names.is_empty() && self.types.is_empty() {
            return self.who.write();
        }
        let mut out = format!("{{ addr = {}", self.who.write());
        let lists = [
            ("names", self.names.iter().map(NamePattern::text).collect()),
            ("types", self.types.iter().map(Rtype::to_string).collect()),
        ];
        for (member, texts) in lists {
            let texts: Vec<String> = texts;
            if !texts.is_empty() {
                let quoted: Vec<String> = texts.iter().map(|t| quote(t)).collect();
                out.push_str(&format!(", {member} = [{}]", quoted.join(", ")));
            }
        }
        out + " }"
    }
}

impl NamePattern {
    /// As written.
    pub fn text(&self) -> String {
        match (self.below, self.text.as_str()) {
            (true, "@") => "*".into(),
            (true, text) => format!("*.{text}"),
            (false, text) => text.into(),
        }
    }

    /// The name in a zone; `None` when it would be too long.
    pub fn name(&self, apex: &Name) -> Option<Name> {
        if self.text == "@" {
            return Some(apex.clone());
        }
        if self.text.ends_with('.') {
            return Name::parse(&self.text).ok();
        }
        let root = apex.to_string();
        let dot = if root == "." { "" } else { "." };
        Name::parse(&format!("{}{dot}{root}", self.text)).ok()
    }
}

/// The entries of a list that may be left away; an empty one is refused, as it could mean both all
/// and nothing.
fn list<T>(
    node: Option<&Node>,
    cx: &mut Cx,
    one: fn(&str, &Node, &mut Cx) -> Option<T>,
) -> Option<Vec<T>> {
    let Some(node) = node else {
        return Some(Vec::new());
    };
    let Val::List(items) = &node.value else {
        cx.wrong_type(node, "a list of strings");
        return None;
    };
    if items.is_empty() {
        let detail = "an empty list allows nothing";
        cx.bad(
            node,
            detail,
            "leave it away to allow all, or name something",
        );
        return None;
    }
    items
        .iter()
        .map(|item| {
            let text = string(item, cx, "a list of strings")?;
            one(text, item, cx)
        })
        .collect()
}

fn pattern(text: &str, at: &Node, cx: &mut Cx) -> Option<NamePattern> {
    let (rest, below) = match text.strip_prefix("*.") {
        Some(rest) => (rest, true),
        None if text == "*" => ("@", true),
        None => (text, false),
    };
    if rest != "@" && Name::parse(rest).is_err() {
        let form = "write \"@\", \"www\", \"*\" or \"*.dyn\"; a name with a final dot is absolute";
        cx.bad(at, format!("'{text}' is not a name or pattern"), form);
        return None;
    }
    Some(NamePattern {
        text: rest.to_string(),
        below,
    })
}

fn rtype(text: &str, at: &Node, cx: &mut Cx) -> Option<Rtype> {
    let found = text.to_ascii_uppercase().parse::<Rtype>().ok();
    let found = found.filter(|t| !t.is_meta() && !t.is_denial_or_signature());
    if found.is_none() {
        let detail = format!("'{text}' is not a type that updates can change");
        cx.bad(
            at,
            detail,
            "write for example \"A\", \"TXT\" or \"TYPE65280\"",
        );
    }
    found
}

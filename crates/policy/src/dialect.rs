//! The older dialect of policies, rewritten into today's keys before reading.

use crate::diag::{Diagnostic, Level};
use crate::tree::{Entry, Node, Table, Val};

/// Rewrites older keys in place. Mixing an old and a new key of one meaning is an error.
pub(crate) fn modernise(root: &mut Table, found: &mut Vec<Diagnostic>) {
    for stage in ["loader", "signer"] {
        if let Some(table) = root.at_mut(&[stage, "review"]) {
            review(table, &format!("{stage}.review"), found);
        }
    }
    if let Some(table) = root.at_mut(&["server", "outbound"])
        && let Some(mut old) = table.take("accept-xfr-requests-from")
    {
        if table.get("provide-xfr-to").is_some() {
            let key = "server.outbound.accept-xfr-requests-from";
            found.push(mixed(key, "provide-xfr-to", &old));
        } else {
            old.name = "provide-xfr-to".into();
            table.entries.push(old);
        }
    }
}

fn review(table: &mut Table, path: &str, found: &mut Vec<Diagnostic>) {
    let required = table.take("required");
    let command = table.take("cmd-hook");
    if required.is_none() && command.is_none() {
        return;
    }
    let mut clash = false;
    for (old, new) in [(&required, ["mode", "mode"]), (&command, ["hook", "hooks"])] {
        let Some(old) = old else { continue };
        if let Some(new) = new.iter().find(|n| table.get(n).is_some()) {
            found.push(mixed(&format!("{path}.{}", old.name), new, old));
            clash = true;
        }
    }
    if clash {
        return;
    }
    let wanted = match &required {
        None => None,
        Some(Entry {
            node: Node {
                value: Val::Bool(b),
                ..
            },
            ..
        }) => Some(*b),
        Some(other) => {
            let detail = format!("{} where true or false is expected", other.node.type_name());
            found.push(
                Diagnostic::new("P01", Level::Error, detail)
                    .key(format!("{path}.required"))
                    .suggest("today's key is mode = \"off\", \"manual\" or \"script\"")
                    .at(Some(other.node.span.clone())),
            );
            return;
        }
    };
    match (wanted, command) {
        (Some(true), Some(command)) => {
            add(table, "mode", Val::Str("script".into()), &command);
            // Its old meaning: a line for the shell.
            if table.get("hook-shell").is_none() && matches!(command.node.value, Val::Str(_)) {
                add(table, "hook-shell", Val::Bool(true), &command);
            }
            add(table, "hook", command.node.value.clone(), &command);
        }
        (Some(true), None) => {
            if let Some(required) = &required {
                add(table, "mode", Val::Str("manual".into()), required);
            }
        }
        (_, Some(command)) => {
            let detail = "this command is never run: required is not true";
            found.push(
                Diagnostic::new("P11", Level::Warning, detail)
                    .key(format!("{path}.cmd-hook"))
                    .suggest("write mode = \"script\" and hook, or remove the line")
                    .at(Some(command.name_span.clone())),
            );
            if let Some(required) = &required {
                add(table, "mode", Val::Str("off".into()), required);
            }
        }
        (Some(false), None) => {
            if let Some(required) = &required {
                add(table, "mode", Val::Str("off".into()), required);
            }
        }
        (None, None) => {}
    }
}

fn add(table: &mut Table, name: &str, value: Val, from: &Entry) {
    table.entries.push(Entry {
        name: name.into(),
        name_span: from.name_span.clone(),
        node: Node {
            span: from.node.span.clone(),
            value,
        },
    });
}

fn mixed(key: &str, new: &str, old: &Entry) -> Diagnostic {
    Diagnostic::new(
        "P01",
        Level::Error,
        format!("older spelling beside '{new}'"),
    )
    .key(key)
    .suggest("keep one of the two; today's spelling is the one the template shows")
    .at(Some(old.name_span.clone()))
}

//! Several nodes behind one address (anycast, load balancers): each that names itself (RFC 5001) is
//! asked for itself.

use std::future::Future;

use cascade_keys::{Answer, Member};

use super::Look;
use super::answers::{self, Shown};
use super::servers::Server;
use super::transport::Asker;

/// Questions after the first to an address whose node names itself: another connection may reach
/// another node.
const AGAIN: usize = 2;
/// Questions per node that is known and was not reached yet.
const PER_NODE: usize = 3;
/// More names than this at one address are not names of nodes.
const MOST: usize = 8;

type Asked = (Option<String>, Answer, Shown);

/// What the nodes behind the address of this server answer.
pub async fn ask(look: &Look, server: &Server, asker: &Asker) -> Vec<(Member, Shown)> {
    let address = server.addr.to_string();
    let known: Vec<String> = look
        .nodes
        .iter()
        .filter(|(at, _)| *at == address)
        .map(|(_, id)| id.clone())
        .collect();
    let asked = all_nodes(known, || answers::ask(look, server, asker)).await;
    asked
        .into_iter()
        .map(|(nsid, answer, shown)| (member(server, nsid, answer), shown))
        .collect()
}

pub fn member(server: &Server, nsid: Option<String>, answer: Answer) -> Member {
    Member {
        server: server.name.clone(),
        address: server.addr.to_string(),
        nsid,
        answer,
    }
}

async fn all_nodes<F: Future<Output = Asked>>(
    known: Vec<String>,
    mut ask: impl FnMut() -> F,
) -> Vec<Asked> {
    let first = ask().await;
    let names = first.0.is_some();
    let mut all = vec![first];
    if !names {
        return all;
    }
    let mut missing = known.clone();
    missing.retain(|id| all[0].0.as_ref() != Some(id));
    // Names that are new at every question are none of nodes.
    if known.len() <= MOST {
        let most = AGAIN + PER_NODE * missing.len();
        for n in 0..most {
            if n >= AGAIN && missing.is_empty() {
                break;
            }
            let next = ask().await;
            let Some(id) = &next.0 else { continue };
            missing.retain(|m| m != id);
            let same = |(nsid, answer, _): &Asked| *nsid == next.0 && *answer == next.1;
            if !all.iter().any(same) {
                all.push(next);
            }
        }
        // Nobody knows what they show.
        all.extend(
            missing
                .into_iter()
                .map(|id| (Some(id), Answer::Silent, Shown::default())),
        );
    }
    let mut ids: Vec<&String> = all.iter().filter_map(|(id, _, _)| id.as_ref()).collect();
    ids.sort();
    ids.dedup();
    if ids.len() > MOST {
        let reached = |a: &Asked| a.1 != Answer::Silent;
        all.retain(reached);
        for (id, _, _) in &mut all {
            *id = None;
        }
    }
    all
}

#[cfg(test)]
mod tests {
    use std::future::ready;

    use super::*;

    fn rrsig(serial: u32) -> Answer {
        Answer::Rrsig {
            serial,
            same_content: false,
            faults: Vec::new(),
        }
    }

    /// Nodes answer in turn; returns (name, serial or 0) and the number of questions.
    async fn run(known: &[&str], turns: &[(&str, u32)]) -> (Vec<(String, u32)>, usize) {
        let mut n = 0;
        let asked = all_nodes(known.iter().map(ToString::to_string).collect(), || {
            let (id, serial) = turns[n % turns.len()];
            n += 1;
            let id = (!id.is_empty()).then(|| id.to_string());
            ready((id, rrsig(serial), Shown::default()))
        })
        .await;
        let found = asked.into_iter().map(|(id, answer, _)| {
            let serial = match answer {
                Answer::Rrsig { serial, .. } => serial,
                _ => 0,
            };
            (id.unwrap_or_default(), serial)
        });
        (found.collect(), n)
    }

    fn list(of: &[(&str, u32)]) -> Vec<(String, u32)> {
        of.iter().map(|(id, n)| (id.to_string(), *n)).collect()
    }

    #[tokio::test]
    async fn every_node_that_names_itself_is_a_member() {
        // Without a name: one question, one member.
        assert_eq!(run(&[], &[("", 7)]).await, (list(&[("", 7)]), 1));
        assert_eq!(run(&[], &[("a", 7)]).await, (list(&[("a", 7)]), 3));
        let (found, n) = run(&[], &[("a", 7), ("b", 6)]).await;
        assert_eq!((found, n), (list(&[("a", 7), ("b", 6)]), 3));
        // One that answers differently is two members, so that neither is overlooked.
        let (found, _) = run(&[], &[("a", 7), ("a", 6)]).await;
        assert_eq!(found, list(&[("a", 7), ("a", 6)]));
    }

    #[tokio::test]
    async fn known_nodes_are_sought_and_missed() {
        let (found, n) = run(&["a", "b"], &[("a", 7), ("a", 7), ("a", 7), ("b", 6)]).await;
        assert_eq!((found, n), (list(&[("a", 7), ("b", 6)]), 4));
        let (found, n) = run(&["a", "b"], &[("a", 7)]).await;
        assert_eq!(
            (found, n),
            (list(&[("a", 7), ("b", 0)]), 1 + AGAIN + PER_NODE)
        );
    }

    #[tokio::test]
    async fn names_that_never_repeat_are_no_nodes() {
        let known: Vec<String> = (0..MOST + 3).map(|n| format!("p{n}")).collect();
        let known: Vec<&str> = known.iter().map(String::as_str).collect();
        let (found, n) = run(&known, &[("x", 7)]).await;
        assert_eq!((found, n), (list(&[("x", 7)]), 1));
        let (found, _) = run(
            &known[..MOST],
            &[("x", 7), ("y", 7), ("z", 7), ("w", 7), ("v", 7)],
        )
        .await;
        assert!(
            found.iter().all(|(id, n)| id.is_empty() && *n == 7),
            "{found:?}"
        );
    }
}

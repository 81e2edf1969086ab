//! One connection at work.

use std::collections::BTreeMap;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::time::{Instant, sleep_until};
use zeroize::Zeroizing;

use super::dial::{Dialled, io_text};
use super::pool::Shared;
use super::queue::{Outcome, Waiting};
use crate::client::{Answer, AnswerError, Broken, Client, Completion, SendError, Ticket};

/// A call that was lost with its connection is sent once more, if that is harmless.
const MOST_LOSSES: u8 = 1;
const READ_AT_ONCE: usize = 16 * 1024;

/// Why a connection ended.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum End {
    Stopped,
    Lost(Broken),
    /// The server answers that its token is away.
    TokenAway(String),
}

struct Flying {
    waiting: Waiting,
    sent: Instant,
}

/// Sends and receives until the connection ends. Every call that was taken has then completed, or
/// is in the queue again.
pub(super) async fn serve(dialled: Dialled, shared: &Shared, instance: usize) -> End {
    let Dialled {
        stream,
        mut client,
        info,
    } = dialled;
    let timeouts = shared.settings.timeouts;
    let (mut reader, mut writer) = tokio::io::split(stream);
    let mut buffer = vec![0; READ_AT_ONCE];
    let mut flying: BTreeMap<Ticket, Flying> = BTreeMap::new();
    let mut output: Option<(Zeroizing<Vec<u8>>, usize)> = None;
    let mut flush = false;
    let mut heard = Instant::now();
    let mut wrote = Instant::now();
    let mut stop = shared.stop.subscribe();
    let mut away = None;
    loop {
        while let Some(completion) = client.next_completion() {
            let prefix = info.limits.away;
            away = away.or(complete(
                completion,
                &mut flying,
                shared,
                instance,
                prefix,
                false,
            ));
        }
        let stopped = *stop.borrow_and_update();
        if stopped {
            return give_up(
                client,
                flying,
                shared,
                instance,
                Broken::Closed,
                End::Stopped,
            );
        }
        if let Some(why) = away.take() {
            let end = End::TokenAway(why);
            return give_up(client, flying, shared, instance, Broken::Closed, end);
        }
        if output.is_none()
            && let Some(octets) = client.take_output()
        {
            output = Some((octets, 0));
            wrote = Instant::now();
        }
        let room = !client.is_full();
        let common = !shared.is_quarantined(instance);
        let rest = output
            .as_ref()
            .map_or(&[][..], |(o, at)| o.get(*at..).unwrap_or_default());
        let writing = !rest.is_empty();
        let broken = tokio::select! {
            _ = stop.changed() => None,
            n = reader.read(&mut buffer) => {
                heard = Instant::now();
                match n {
                    Ok(0) => Some(Broken::Closed),
                    Ok(n) => client.receive(buffer.get(..n).unwrap_or_default()).err(),
                    Err(e) => Some(Broken::Transport(io_text(&e))),
                }
            }
            n = write_or_flush(&mut writer, rest), if writing || flush => {
                wrote = Instant::now();
                flush = writing;
                match n {
                    Ok(0) if writing => Some(Broken::Closed),
                    Ok(n) => {
                        output = output.take().filter(|(o, at)| at + n < o.len());
                        if let Some((_, at)) = &mut output {
                            *at += n;
                        }
                        None
                    }
                    Err(e) => Some(Broken::Transport(io_text(&e))),
                }
            }
            waiting = shared.queue.take(instance, common), if room => {
                if flying.is_empty() {
                    heard = Instant::now();
                }
                send(&mut client, &mut flying, waiting, shared, instance)
            }
            () = sleep_until(heard + timeouts.read), if !flying.is_empty() => {
                Some(Broken::TimedOut(millis(timeouts.read)))
            }
            () = sleep_until(wrote + timeouts.write), if writing || flush => {
                Some(Broken::Transport(format!("nothing could be written for {} ms", millis(timeouts.write))))
            }
        };
        if let Some(broken) = broken {
            let end = End::Lost(broken.clone());
            return give_up(client, flying, shared, instance, broken, end);
        }
    }
}

/// Writes some of `octets`; without any, writes out what TLS holds back.
async fn write_or_flush(
    writer: &mut (impl AsyncWrite + Unpin),
    octets: &[u8],
) -> std::io::Result<usize> {
    match octets {
        [] => writer.flush().await.map(|()| 0),
        octets => writer.write(octets).await,
    }
}

fn millis(d: Duration) -> u64 {
    u64::try_from(d.as_millis()).unwrap_or(u64::MAX)
}

fn send(
    client: &mut Client,
    flying: &mut BTreeMap<Ticket, Flying>,
    waiting: Waiting,
    shared: &Shared,
    instance: usize,
) -> Option<Broken> {
    let call = &waiting.call;
    match client.send(call.payloads.clone(), call.on_error) {
        Ok(ticket) => {
            let sent = Instant::now();
            shared.count_in_flight(instance, 1);
            flying.insert(ticket, Flying { waiting, sent });
            None
        }
        Err(SendError::Broken(broken)) => {
            shared.queue.put_back(waiting);
            Some(broken)
        }
        // A call of a size that no server takes is its maker's mistake and fails alone.
        Err(SendError::Full(_) | SendError::BadBatch(_)) => {
            let operations = waiting.call.payloads.iter().map(|p| p.operation());
            let answers = operations
                .map(|o| Err(AnswerError::NotPerformed(o)))
                .collect();
            (waiting.call.done)(Outcome::Answered { instance, answers });
            None
        }
    }
}

/// Hands a completion to its caller, or puts its call back into the queue. Gives the server's words
/// if they say that its token is away.
fn complete(
    completion: Completion,
    flying: &mut BTreeMap<Ticket, Flying>,
    shared: &Shared,
    instance: usize,
    away: Option<&'static str>,
    may_repeat: bool,
) -> Option<String> {
    let Flying { mut waiting, sent } = flying.remove(&completion.ticket)?;
    shared.count_in_flight(instance, -1);
    let answers = completion.results;
    let lost = answers
        .iter()
        .any(|a| matches!(a, Err(AnswerError::Lost { .. })));
    let harmless = waiting.call.payloads.iter().all(|p| p.may_be_repeated());
    if lost && may_repeat && harmless && waiting.losses < MOST_LOSSES {
        waiting.losses += 1;
        shared.queue.put_back(waiting);
        return None;
    }
    let failures = answers.iter().filter(|a| a.is_err()).count();
    shared.note(instance, answers.len(), failures, sent.elapsed());
    let away = away.and_then(|prefix| answers.iter().find_map(|a| says_away(a, prefix)));
    (waiting.call.done)(Outcome::Answered { instance, answers });
    away
}

fn says_away(answer: &Answer, prefix: &str) -> Option<String> {
    match answer {
        Err(AnswerError::Refused { failure, .. }) if failure.message.starts_with(prefix) => {
            Some(failure.message.clone())
        }
        _ => None,
    }
}

fn give_up(
    mut client: Client,
    mut flying: BTreeMap<Ticket, Flying>,
    shared: &Shared,
    instance: usize,
    broken: Broken,
    end: End,
) -> End {
    // What timed out may well time out again, and its caller has waited long enough.
    let may_repeat = !matches!(broken, Broken::TimedOut(_)) && end != End::Stopped;
    client.fail(broken);
    while let Some(completion) = client.next_completion() {
        complete(completion, &mut flying, shared, instance, None, may_repeat);
    }
    end
}

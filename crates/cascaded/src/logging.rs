//! Log lines: where they go, which of them, in which form; changed while the daemon runs.
//!
//! `tracing` carries the events. A filter that can be exchanged decides by level and module; one
//! layer makes a [`Record`] of each event and hands it to an [`Output`]. The level "critical" is that
//! of error events with the field `critical = true`.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use arc_swap::ArcSwap;
use cascade_api::daemon::{LogLevel, Logging, LoggingEdit};
use cascade_policy::{DaemonConfig, LogFormat, LogLevel as Severity, LogTarget};
use cascade_program::log::{self, Output, Places, Record, Who, level_word};
use cascade_time::{Clock, Timestamp, format_span};
use parking_lot::Mutex;
use tracing::Subscriber;
use tracing::level_filters::LevelFilter;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::layer::{Context, Layer, SubscriberExt};
use tracing_subscriber::registry::Registry;
use tracing_subscriber::reload;

use crate::args::{Args, Format, Level};

/// Bounds of trace targets.
const TARGETS_MAX: usize = 64;
const TARGET_LEN_MAX: usize = 256;
/// Facility "daemon" (RFC 5424 §6.2.1, table 1).
const WHO: Who = Who {
    name: "cascaded",
    facility: 3,
};
/// Longest temporary change.
const FOR_MAX: Duration = Duration::from_secs(30 * 86_400);

/// The daemon's grip on its log.
#[derive(Clone)]
pub struct Handle(Arc<Inner>);

struct Inner {
    clock: Box<dyn Clock>,
    places: Places,
    /// Options and environment win over the file at every reload as well.
    args: Args,
    output: Mutex<Open>,
    dropped: AtomicU64,
    /// What the filter was made of; read for each event.
    current: ArcSwap<Selection>,
    filter: reload::Handle<Targets, Registry>,
    change: Mutex<Change>,
}

struct Open {
    output: Output,
    target: LogTarget,
}

/// Which events are logged.
#[derive(Debug, Clone, PartialEq)]
struct Selection {
    level: LogLevel,
    targets: Vec<String>,
}

#[derive(Debug, Default)]
struct Change {
    /// What comes back, and when.
    former: Option<(Timestamp, Selection)>,
}

/// Starts logging for the whole process.
///
/// # Errors
/// The target cannot be used, or logging was started before.
pub fn init(config: &DaemonConfig, args: &Args) -> Result<Handle, String> {
    let clock = Box::new(cascade_program::clock::SystemClock::new());
    let (handle, subscriber) = build(config, args, Places::default(), clock)?;
    // Without the bridge for the crate `log`: what libraries say there is for their developers.
    tracing::subscriber::set_global_default(subscriber)
        .map_err(|_| "logging was started twice; this is a bug".to_string())?;
    Ok(handle)
}

fn build(
    config: &DaemonConfig,
    args: &Args,
    places: Places,
    clock: Box<dyn Clock>,
) -> Result<(Handle, impl Subscriber + Send + Sync + use<>), String> {
    let selection = selection(config, args)?;
    let target = target(config, args)?;
    let (sink, notice) = log::open(&target, &places, WHO)?;
    let (filter, reload) = reload::Layer::new(selection.filter());
    let inner = Arc::new(Inner {
        clock,
        places,
        args: args.clone(),
        output: Mutex::new(Open {
            output: Output::new(sink, format(config, args)),
            target,
        }),
        dropped: AtomicU64::new(0),
        current: ArcSwap::from_pointee(selection),
        filter: reload,
        change: Mutex::new(Change::default()),
    });
    if let Some(text) = notice {
        inner.own(Severity::Warning, text);
    }
    let layer = Lines(inner.clone()).with_filter(filter);
    Ok((Handle(inner), tracing_subscriber::registry().with(layer)))
}

impl Handle {
    pub fn current(&self) -> Logging {
        let change = self.0.change.lock();
        self.0.answer(&change)
    }

    /// Applies a change at once; with `for_secs` what was before comes back after that time,
    /// otherwise at restart or at a reload of the configuration.
    ///
    /// # Errors
    /// A member is out of bounds; nothing changes.
    pub fn change(&self, edit: &LoggingEdit, now: Timestamp) -> Result<Logging, String> {
        let mut change = self.0.change.lock();
        let before = self.0.current.load_full();
        let mut after = Selection::clone(&before);
        if let Some(level) = edit.level {
            after.level = level;
        }
        if let Some(targets) = &edit.targets {
            after.targets = checked(targets)?;
        }
        let former = match edit.for_secs {
            _ if edit.level.is_none() && edit.targets.is_none() => {
                return match edit.for_secs {
                    None => Ok(self.0.answer(&change)),
                    Some(_) => {
                        Err("for_secs: nothing is to be changed; give level or targets too".into())
                    }
                };
            }
            None => None,
            Some(secs) => {
                let span = Duration::from_secs(secs);
                if span.is_zero() || span > FOR_MAX {
                    return Err(format!(
                        "for_secs: {secs} is out of range; 1 to {} seconds are possible",
                        FOR_MAX.as_secs()
                    ));
                }
                // Of two temporary changes the end of the later brings back what was before both.
                let old = change
                    .former
                    .take()
                    .map_or_else(|| (*before).clone(), |(_, old)| old);
                Some((now + span, old))
            }
        };
        self.0.apply(after.clone())?;
        change.former = former;
        let until = match edit.for_secs {
            Some(secs) => format!("for {}", format_span(Duration::from_secs(secs))),
            None => "until restart or reload".into(),
        };
        self.0.own(
            Severity::Info,
            format!("Logging changed to {} {until}", after.text()),
        );
        Ok(self.0.answer(&change))
    }

    /// To be called every second or so: ends temporary changes, sends what waits, tells repeats.
    pub fn expire(&self, now: Timestamp) {
        let mut change = self.0.change.lock();
        if change
            .former
            .as_ref()
            .is_some_and(|(until, _)| *until <= now)
            && let Some((_, former)) = change.former.take()
        {
            match self.0.apply(former.clone()) {
                Ok(()) => self.0.own(
                    Severity::Info,
                    format!("Logging is back to {}", former.text()),
                ),
                Err(e) => self.0.own(Severity::Error, e),
            }
        }
        drop(change);
        let lost = self.0.output.lock().output.tick(now);
        self.0.count(lost);
    }

    /// Takes level, targets, format and place from a configuration that was read again. A
    /// temporary change ends.
    ///
    /// # Errors
    /// Something cannot be used; nothing changes.
    pub fn reconfigure(&self, config: &DaemonConfig) -> Result<(), String> {
        let inner = &self.0;
        let mut change = inner.change.lock();
        let selection = selection(config, &inner.args)?;
        let target = target(config, &inner.args)?;
        let mut notice = None;
        let moved =
            (inner.output.lock().target != target).then(|| log::open(&target, &inner.places, WHO));
        let moved = moved.transpose()?;
        inner.apply(selection)?;
        change.former = None;
        let mut open = inner.output.lock();
        open.output.format = format(config, &inner.args);
        let mut lost = 0;
        if let Some((sink, text)) = moved {
            lost = open.output.replace(sink, inner.clock.now());
            open.target = target;
            notice = text;
        }
        drop(open);
        inner.count(lost);
        if let Some(text) = notice {
            inner.own(Severity::Warning, text);
        }
        Ok(())
    }

    /// Opens the log file again, connects to syslog or journal again. What fails is logged, to
    /// the former file.
    pub fn reopen(&self) {
        let reopened = self.0.output.lock().output.reopen();
        if let Err(e) = reopened {
            self.0
                .own(Severity::Error, format!("{e}; lines go to the former file"));
        }
    }

    /// Writes what is held back; for the end of the daemon.
    pub fn flush(&self) {
        let lost = self.0.output.lock().output.flush(self.0.clock.now());
        self.0.count(lost);
    }

    /// Lines that no target took, since start.
    pub fn dropped(&self) -> u64 {
        self.0.dropped.load(Ordering::Relaxed)
    }
}

impl std::fmt::Debug for Handle {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("logging::Handle")
    }
}

impl Inner {
    fn answer(&self, change: &Change) -> Logging {
        let now = self.current.load();
        Logging {
            level: now.level,
            targets: now.targets.clone(),
            until: change.former.as_ref().map(|(until, _)| *until),
        }
    }

    fn apply(&self, selection: Selection) -> Result<(), String> {
        let filter = selection.filter();
        self.filter
            .reload(filter)
            .map_err(|e| format!("logging could not be changed: {e}; restart the daemon"))?;
        self.current.store(Arc::new(selection));
        Ok(())
    }

    /// A line about the log itself, whatever the level: it explains the lines around it.
    fn own(&self, level: Severity, text: String) {
        self.write(Record::own(self.clock.now(), level, text));
    }

    fn write(&self, record: Record) {
        let lost = self.output.lock().output.write(record);
        self.count(lost);
    }

    fn count(&self, lost: u64) {
        if lost > 0 {
            self.dropped.fetch_add(lost, Ordering::Relaxed);
        }
    }
}

impl Selection {
    fn filter(&self) -> Targets {
        let level = match self.level {
            LogLevel::Trace => LevelFilter::TRACE,
            LogLevel::Debug => LevelFilter::DEBUG,
            LogLevel::Info => LevelFilter::INFO,
            LogLevel::Warning => LevelFilter::WARN,
            LogLevel::Error | LogLevel::Critical => LevelFilter::ERROR,
        };
        self.targets
            .iter()
            .fold(Targets::new().with_default(level), |f, t| {
                f.with_target(t.as_str(), LevelFilter::TRACE)
            })
    }

    /// What the filter cannot know: whether an error event is critical.
    fn admits(&self, record: &Record) -> bool {
        self.level != LogLevel::Critical
            || record.level == Severity::Critical
            || self
                .targets
                .iter()
                .any(|t| record.target.starts_with(t.as_str()))
    }

    fn text(&self) -> String {
        match self.targets.is_empty() {
            true => format!("level {}", level_word(severity(self.level))),
            false => format!(
                "level {}, trace for {}",
                level_word(severity(self.level)),
                self.targets.join(", ")
            ),
        }
    }
}

struct Lines(Arc<Inner>);

impl<S: Subscriber> Layer<S> for Lines {
    fn on_event(&self, event: &tracing::Event<'_>, _: Context<'_, S>) {
        let record = Record::new(self.0.clock.now(), event);
        if self.0.current.load().admits(&record) {
            self.0.write(record);
        }
    }
}

fn target(config: &DaemonConfig, args: &Args) -> Result<LogTarget, String> {
    let Some(word) = &args.log else {
        return Ok(config.log_target.clone());
    };
    Ok(match word.as_str() {
        "stdout" => LogTarget::Stdout,
        "stderr" => LogTarget::Stderr,
        "syslog" => LogTarget::Syslog,
        "journal" => LogTarget::Journal,
        other => match other.strip_prefix("file:") {
            Some(path) => LogTarget::File(path.into()),
            None => {
                return Err(format!(
                    "--log or CASCADE_LOG: {other:?} is no log target; write stdout, stderr, \
                     syslog, journal or file:PATH"
                ));
            }
        },
    })
}

fn format(config: &DaemonConfig, args: &Args) -> LogFormat {
    match args.log_format {
        Some(Format::Text) => LogFormat::Text,
        Some(Format::Json) => LogFormat::Json,
        None => config.log_format,
    }
}

fn selection(config: &DaemonConfig, args: &Args) -> Result<Selection, String> {
    let level = match args.log_level {
        Some(Level::Trace) => LogLevel::Trace,
        Some(Level::Debug) => LogLevel::Debug,
        Some(Level::Info) => LogLevel::Info,
        Some(Level::Warning) => LogLevel::Warning,
        Some(Level::Error) => LogLevel::Error,
        Some(Level::Critical) => LogLevel::Critical,
        None => level(config.log_level),
    };
    let given: Vec<String> = args
        .log_trace_targets
        .iter()
        .filter(|t| !t.is_empty())
        .cloned()
        .collect();
    let targets = match given.is_empty() {
        true => checked(&config.trace_targets)?,
        false => checked(&given)?,
    };
    Ok(Selection { level, targets })
}

/// The API's word for the configuration's.
fn level(level: Severity) -> LogLevel {
    match level {
        Severity::Trace => LogLevel::Trace,
        Severity::Debug => LogLevel::Debug,
        Severity::Info => LogLevel::Info,
        Severity::Warning => LogLevel::Warning,
        Severity::Error => LogLevel::Error,
        Severity::Critical => LogLevel::Critical,
    }
}

/// The other way round.
fn severity(word: LogLevel) -> Severity {
    let all = Severity::ALL.iter().copied();
    let mut same = all.filter(|s| level(*s) == word);
    same.next().unwrap_or(Severity::Info)
}

/// Module prefixes, each once.
fn checked(targets: &[String]) -> Result<Vec<String>, String> {
    if targets.len() > TARGETS_MAX {
        return Err(format!(
            "targets: {} are too many; at most {TARGETS_MAX}",
            targets.len()
        ));
    }
    let mut out: Vec<String> = Vec::with_capacity(targets.len());
    for t in targets {
        let good = !t.is_empty()
            && t.len() <= TARGET_LEN_MAX
            && t.chars()
                .all(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | ':'));
        if !good {
            let shown: String = t.chars().take(64).collect();
            return Err(format!(
                "targets: {shown:?} is no module prefix; write for example \
                 \"cascade_loader\" or \"cascaded::zone\""
            ));
        }
        if !out.contains(t) {
            out.push(t.clone());
        }
    }
    Ok(out)
}

#[cfg(test)]
mod tests;

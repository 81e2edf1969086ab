//! The log of this program: level, target, reopening.

use std::fs::File;
use std::os::fd::OwnedFd;
use std::sync::Arc;

use cascade_policy::{BridgeConfig, LogFormat, LogLevel, LogTarget};
use cascade_program::clock::SystemClock;
use cascade_program::log::{self, Output, Places, Record, Sink, Who};
use cascade_time::Clock;
use parking_lot::Mutex;
use tracing::Subscriber;
use tracing::level_filters::LevelFilter;
use tracing_subscriber::layer::{Context, Layer, SubscriberExt};

use crate::args::Args;
use crate::settings::log_target;

/// The program's grip on its log.
#[derive(Clone)]
pub struct Handle(Arc<Inner>);

struct Inner {
    clock: SystemClock,
    least: LogLevel,
    output: Mutex<Output>,
}

/// Starts logging. `stderr` is standard error as it was at the start: the module gets another one.
///
/// # Errors
/// The target cannot be used, with the reason.
pub fn init(config: &BridgeConfig, args: &Args, stderr: &OwnedFd) -> Result<Handle, String> {
    let target = log_target(config, args);
    let least = args.level().unwrap_or(config.log_level);
    let who = Who {
        name: "kmip2pkcs11",
        facility: args.syslog_facility.unwrap_or(config.log_facility).code(),
    };
    let (sink, notice) = match target {
        LogTarget::Stderr => (stream(stderr)?, None),
        other => match log::open(&other, &Places::default(), who)? {
            (Sink::Stderr, notice) => (stream(stderr)?, notice),
            opened => opened,
        },
    };
    let handle = Handle(Arc::new(Inner {
        clock: SystemClock::new(),
        least,
        output: Mutex::new(Output::new(sink, LogFormat::Text)),
    }));
    let layer = Lines(handle.0.clone()).with_filter(filter(least));
    tracing::subscriber::set_global_default(tracing_subscriber::registry().with(layer))
        .map_err(|_| "logging was started twice; this is a bug".to_string())?;
    if let Some(text) = notice {
        tracing::warn!("{text}");
    }
    Ok(handle)
}

impl Handle {
    /// To be called every second or so.
    pub fn tick(&self) {
        self.0.output.lock().tick(self.0.clock.now());
    }

    /// Opens the file again, connects again.
    pub fn reopen(&self) {
        let reopened = self.0.output.lock().reopen();
        if let Err(e) = reopened {
            tracing::error!("{e}; lines go to the former file");
        }
    }

    pub fn flush(&self) {
        self.0.output.lock().flush(self.0.clock.now());
    }
}

fn stream(stderr: &OwnedFd) -> Result<Sink, String> {
    let copy = stderr.try_clone();
    copy.map(|fd| Sink::Stream(File::from(fd)))
        .map_err(|e| format!("standard error: {e}"))
}

fn filter(least: LogLevel) -> LevelFilter {
    match least {
        LogLevel::Trace => LevelFilter::TRACE,
        LogLevel::Debug => LevelFilter::DEBUG,
        LogLevel::Info => LevelFilter::INFO,
        LogLevel::Warning => LevelFilter::WARN,
        LogLevel::Error | LogLevel::Critical => LevelFilter::ERROR,
    }
}

struct Lines(Arc<Inner>);

impl<S: Subscriber> Layer<S> for Lines {
    fn on_event(&self, event: &tracing::Event<'_>, _: Context<'_, S>) {
        let record = Record::new(self.0.clock.now(), event);
        if self.0.least != LogLevel::Critical || record.level == LogLevel::Critical {
            self.0.output.lock().write(record);
        }
    }
}

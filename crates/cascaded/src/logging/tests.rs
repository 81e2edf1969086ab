use std::os::unix::net::UnixDatagram;

use cascade_time::SimClock;
use clap::Parser;

use super::*;

const START: Timestamp = Timestamp::from_secs(1_764_108_062);

struct Setup {
    dir: tempfile::TempDir,
    config: DaemonConfig,
    args: Args,
}

impl Setup {
    /// A log file in a directory of its own.
    fn new() -> Setup {
        let dir = tempfile::tempdir().expect("directory");
        let mut setup = Setup {
            config: DaemonConfig::default(),
            args: Args::try_parse_from(["cascaded"]).expect("arguments"),
            dir,
        };
        setup.config.log_target = setup.file("log");
        setup
    }

    fn file(&self, name: &str) -> LogTarget {
        let path = self.dir.path().join(name);
        LogTarget::File(path.to_str().expect("UTF-8").into())
    }

    fn places(&self) -> Places {
        Places {
            syslog: self.dir.path().join("syslog"),
            journal: self.dir.path().join("journal"),
        }
    }

    fn build(&self) -> Result<(Handle, impl Subscriber + Send + Sync + use<>), String> {
        build(
            &self.config,
            &self.args,
            self.places(),
            Box::new(SimClock::new(START)),
        )
    }

    fn read(&self, name: &str) -> String {
        std::fs::read_to_string(self.dir.path().join(name)).expect("log file")
    }
}

fn edit(level: Option<LogLevel>, targets: Option<&[&str]>, for_secs: Option<u64>) -> LoggingEdit {
    LoggingEdit {
        level,
        targets: targets.map(|t| t.iter().map(|t| t.to_string()).collect()),
        for_secs,
        comment: None,
    }
}

fn all_levels() {
    tracing::error!(critical = true, "cannot go on");
    tracing::error!("act");
    tracing::warn!("soon");
    tracing::info!(zone = "example.net", serial = 7, "done");
    tracing::debug!("detail");
    tracing::trace!("everything");
}

#[test]
fn events_become_lines_of_their_level() {
    let setup = Setup::new();
    let (_, subscriber) = setup.build().expect("logging");
    tracing::subscriber::with_default(subscriber, all_levels);
    let at = "2025-11-25T22:01:02+00:00";
    assert_eq!(
        setup.read("log"),
        format!(
            "{at} critical cannot go on\n{at} error act\n{at} warning soon\n\
             {at} info done zone=example.net serial=7\n"
        )
    );
}

#[test]
fn level_critical_hides_errors_but_not_traced_modules() {
    let mut setup = Setup::new();
    setup.config.log_level = cascade_policy::LogLevel::Critical;
    let (handle, subscriber) = setup.build().expect("logging");
    tracing::subscriber::with_default(subscriber, || {
        all_levels();
        let wanted = edit(None, Some(&["cascaded::logging"]), None);
        handle.change(&wanted, START).expect("change");
        tracing::trace!("traced");
        tracing::error!(target: "elsewhere", "not traced");
    });
    let log = setup.read("log");
    let words: Vec<_> = log
        .lines()
        .map(|l| l.split(' ').skip(1).take(2).collect::<Vec<_>>())
        .collect();
    assert_eq!(
        words,
        [
            ["critical", "cannot"],
            ["info", "Logging"],
            ["trace", "traced"]
        ]
        .map(Vec::from)
    );
}

#[test]
fn json_lines_read_back() {
    let mut setup = Setup::new();
    setup.config.log_format = LogFormat::Json;
    let (_, subscriber) = setup.build().expect("logging");
    tracing::subscriber::with_default(subscriber, || {
        let version = Some(3u64);
        tracing::info!(zone = %"a\nb", ?version, reason = ?None::<u8>, ok = true, "two\nlines");
    });
    let log = setup.read("log");
    assert_eq!(log.lines().count(), 1);
    let value: serde_json::Value = serde_json::from_str(&log).expect("JSON");
    let expected = serde_json::json!({
        "time": "2025-11-25T22:01:02Z", "level": "info", "message": "two\nlines",
        "target": "cascaded::logging::tests", "zone": "a\nb", "version": 3, "ok": true,
    });
    assert_eq!(value, expected);
}

#[test]
fn options_win_over_the_file() {
    let mut setup = Setup::new();
    setup.config.log_level = cascade_policy::LogLevel::Error;
    setup.config.trace_targets = vec!["of_the_file".into()];
    let other = setup.dir.path().join("other").display().to_string();
    let words = [
        "cascaded",
        "--log",
        &format!("file:{other}"),
        "--log-level",
        "debug",
        "--log-format",
        "json",
        "--log-trace-targets",
        "a::b,c",
    ];
    setup.args = Args::try_parse_from(words).expect("arguments");
    let (handle, subscriber) = setup.build().expect("logging");
    let _guard = tracing::subscriber::set_default(subscriber);
    tracing::debug!("here");
    assert!(setup.read("other").starts_with('{'));
    assert!(!setup.dir.path().join("log").exists());
    let is = handle.current();
    assert_eq!(
        (is.level, is.targets, is.until),
        (LogLevel::Debug, vec!["a::b".into(), "c".into()], None)
    );
    // A reload does not change that.
    handle.reconfigure(&setup.config).expect("reload");
    assert_eq!(handle.current().level, LogLevel::Debug);
}

#[test]
fn a_temporary_change_ends() {
    let setup = Setup::new();
    let (handle, subscriber) = setup.build().expect("logging");
    tracing::subscriber::with_default(subscriber, || {
        let is = handle
            .change(&edit(Some(LogLevel::Debug), None, Some(60)), START)
            .expect("change");
        assert_eq!(
            (is.level, is.until),
            (LogLevel::Debug, Some(START + Duration::from_secs(60)))
        );
        tracing::debug!("during");
        // A second change within the first.
        let later = START + Duration::from_secs(30);
        let is = handle
            .change(&edit(None, Some(&["x"]), Some(60)), later)
            .expect("change");
        assert_eq!((is.level, is.targets.len()), (LogLevel::Debug, 1));
        handle.expire(START + Duration::from_secs(89));
        assert_eq!(
            handle.current().until,
            Some(START + Duration::from_secs(90))
        );
        handle.expire(START + Duration::from_secs(90));
        let is = handle.current();
        assert_eq!(
            (is.level, is.targets, is.until),
            (LogLevel::Info, vec![], None)
        );
        tracing::debug!("after");
        // Without a time it stays.
        handle
            .change(&edit(Some(LogLevel::Error), None, None), START)
            .expect("change");
        handle.expire(START + Duration::from_secs(1_000_000));
        assert_eq!(handle.current().level, LogLevel::Error);
    });
    let log = setup.read("log");
    assert!(
        log.contains("Logging changed to level debug for 1m\n"),
        "{log}"
    );
    assert!(log.contains("during") && !log.contains("after"), "{log}");
    assert!(log.contains("Logging is back to level info\n"), "{log}");
}

#[test]
fn changes_out_of_bounds_are_refused_and_change_nothing() {
    let setup = Setup::new();
    let (handle, _subscriber) = setup.build().expect("logging");
    let many: Vec<String> = (0..65).map(|n| format!("m{n}")).collect();
    let many: Vec<&str> = many.iter().map(String::as_str).collect();
    for bad in [
        edit(Some(LogLevel::Trace), Some(&[""]), None),
        edit(Some(LogLevel::Trace), Some(&["a\nb"]), None),
        edit(Some(LogLevel::Trace), Some(&many), None),
        edit(Some(LogLevel::Trace), None, Some(0)),
        edit(Some(LogLevel::Trace), None, Some(u64::MAX)),
        edit(None, None, Some(60)),
    ] {
        handle.change(&bad, START).expect_err("refused");
        assert_eq!(handle.current().level, LogLevel::Info);
        assert_eq!(handle.current().until, None);
    }
    handle
        .change(&edit(None, None, None), START)
        .expect("nothing to do");
}

#[test]
fn a_reload_moves_the_log_and_a_bad_one_changes_nothing() {
    let mut setup = Setup::new();
    let (handle, subscriber) = setup.build().expect("logging");
    tracing::subscriber::with_default(subscriber, || {
        tracing::info!("first");
        handle
            .change(&edit(Some(LogLevel::Trace), None, Some(60)), START)
            .expect("change");
        setup.config.log_target = setup.file("no/such/directory/log");
        let error = handle.reconfigure(&setup.config).expect_err("no directory");
        assert!(error.contains("no/such/directory/log"), "{error}");
        assert_eq!(handle.current().level, LogLevel::Trace);
        tracing::info!("second");
        setup.config.log_target = setup.file("new");
        setup.config.log_level = cascade_policy::LogLevel::Warning;
        handle.reconfigure(&setup.config).expect("reload");
        tracing::info!("third");
        tracing::warn!("fourth");
    });
    let is = handle.current();
    assert_eq!((is.level, is.until), (LogLevel::Warning, None));
    let (old, new) = (setup.read("log"), setup.read("new"));
    assert!(old.contains("first") && old.contains("second"), "{old}");
    assert!(new.contains("fourth") && !new.contains("third"), "{new}");
}

#[test]
fn repeats_are_told_by_the_clock_and_at_the_end() {
    let setup = Setup::new();
    let (handle, subscriber) = setup.build().expect("logging");
    tracing::subscriber::with_default(subscriber, || {
        for _ in 0..4 {
            tracing::warn!("again");
        }
        assert_eq!(setup.read("log").lines().count(), 1);
        handle.expire(START + Duration::from_secs(299));
        assert_eq!(setup.read("log").lines().count(), 1);
        handle.expire(START + Duration::from_secs(300));
        assert!(setup.read("log").contains("again (repeated 3 times in "));
        tracing::warn!("again");
        handle.flush();
    });
    assert_eq!(setup.read("log").lines().count(), 3);
}

#[test]
fn syslog_is_taken_up_when_it_comes() {
    let mut setup = Setup::new();
    setup.config.log_target = LogTarget::Syslog;
    let (handle, subscriber) = setup.build().expect("logging");
    tracing::subscriber::with_default(subscriber, || tracing::warn!(zone = "example.net", "early"));
    let socket = UnixDatagram::bind(setup.places().syslog).expect("bind");
    socket.set_nonblocking(true).expect("mode");
    handle.expire(START);
    let mut buffer = [0u8; 1024];
    let n = socket.recv(&mut buffer).expect("datagram");
    let text = String::from_utf8_lossy(&buffer[..n]);
    assert!(
        text.starts_with("<28>cascaded[") && text.ends_with(": early zone=example.net"),
        "{text}"
    );
    assert_eq!(handle.dropped(), 0);
}

#[test]
fn without_journal_standard_error_is_used() {
    let mut setup = Setup::new();
    setup.config.log_target = LogTarget::Journal;
    let (sink, notice) = log::open(&LogTarget::Journal, &setup.places(), WHO).expect("target");
    assert!(matches!(sink, log::Sink::Stderr));
    let notice = notice.expect("told");
    assert!(
        notice.contains("journal") && notice.contains("standard error"),
        "{notice}"
    );

    let socket = UnixDatagram::bind(setup.places().journal).expect("bind");
    let (_, subscriber) = setup.build().expect("logging");
    tracing::subscriber::with_default(subscriber, || tracing::error!(critical = true, "here"));
    let mut buffer = [0u8; 1024];
    let n = socket.recv(&mut buffer).expect("datagram");
    let text = String::from_utf8_lossy(&buffer[..n]);
    assert!(text.starts_with("MESSAGE=here\nPRIORITY=2\n"), "{text}");
}

#[test]
fn unusable_targets_are_named() {
    let mut setup = Setup::new();
    let mut fails = |log: &str| {
        setup.args.log = Some(log.into());
        match setup.build() {
            Ok(_) => panic!("{log} was accepted"),
            Err(e) => assert!(e.contains(log.trim_start_matches("file:")), "{e}"),
        }
    };
    fails("printer");
    fails("file:relative/path");
    fails("file:/no/such/directory/log");
}

//! Command line. Options win over the file.

use std::path::PathBuf;

use cascade_policy::{BridgeLogTarget, Facility, LogLevel};
use clap::Parser;

#[derive(Debug, Clone, Parser)]
#[command(
    name = "kmip2pkcs11",
    about = "KMIP server in front of a PKCS#11 module",
    version,
    after_help = "See kmip2pkcs11-config.toml(5) for the configuration."
)]
pub struct Args {
    /// Configuration file
    #[arg(
        short,
        long,
        value_name = "PATH",
        env = "KMIP2PKCS11_CONFIG",
        default_value = "/etc/kmip2pkcs11/config.toml"
    )]
    pub config: PathBuf,

    /// Check the configuration, load the module, list its slots and tokens and what each can do
    #[arg(long)]
    pub check_config: bool,

    /// Log in with the PIN in this file (with --check-config)
    #[arg(long, value_name = "FILE", requires = "slot")]
    pub pin_file: Option<PathBuf>,

    /// Label, id or index of the slot to log in to (with --pin-file)
    #[arg(long, value_name = "SLOT", requires = "check_config")]
    pub slot: Option<String>,

    /// Make, use and destroy a key (with --pin-file)
    #[arg(long, requires = "pin_file")]
    pub write: bool,

    /// Print the SHA-256 fingerprint of the server certificate
    #[arg(long, conflicts_with = "check_config")]
    pub fingerprint: bool,

    /// Log to standard error
    #[arg(long, group = "target")]
    pub stderr: bool,

    /// Log to syslog
    #[arg(long, group = "target")]
    pub syslog: bool,

    /// Facility in syslog
    #[arg(long, value_name = "FACILITY", value_parser = facility)]
    pub syslog_facility: Option<Facility>,

    /// Log to this file
    #[arg(long, value_name = "PATH", group = "target")]
    pub logfile: Option<PathBuf>,

    /// Least level that is logged
    #[arg(long, value_name = "LEVEL", value_parser = level)]
    pub log_level: Option<LogLevel>,

    /// Log more: once debug, twice trace
    #[arg(short, long, action = clap::ArgAction::Count, conflicts_with_all = ["log_level", "quiet"])]
    pub verbose: u8,

    /// Log less: once warnings, twice errors
    #[arg(short, long, action = clap::ArgAction::Count, conflicts_with = "log_level")]
    pub quiet: u8,

    /// Go to the background once connections are taken
    #[arg(short, long)]
    pub detach: bool,

    /// Write the process id to this file
    #[arg(long, value_name = "PATH")]
    pub pid_file: Option<PathBuf>,

    /// Change to this directory
    #[arg(long, value_name = "DIR")]
    pub working_dir: Option<PathBuf>,

    /// Make this directory the root; the module and its files must be below it
    #[arg(long, value_name = "DIR")]
    pub chroot: Option<PathBuf>,

    /// Become this user
    #[arg(long, value_name = "USER")]
    pub user: Option<String>,

    /// Become this group
    #[arg(long, value_name = "GROUP")]
    pub group: Option<String>,

    /// Serve the one peer at the other end of standard input, which is a Unix socket; no
    /// configuration file
    #[arg(long, value_name = "MODULE", conflicts_with_all = ["check_config", "fingerprint", "detach", "config"])]
    pub managed: Option<PathBuf>,
}

impl Args {
    /// The log target that an option names.
    pub fn target(&self) -> Option<BridgeLogTarget> {
        match (self.stderr, self.syslog, &self.logfile) {
            (true, ..) => Some(BridgeLogTarget::Stderr),
            (_, true, _) => Some(BridgeLogTarget::Syslog),
            (_, _, Some(_)) => Some(BridgeLogTarget::File),
            _ => None,
        }
    }

    /// The least level that is logged, if options say one.
    pub fn level(&self) -> Option<LogLevel> {
        match (self.log_level, self.verbose, self.quiet) {
            (Some(level), ..) => Some(level),
            (None, 1, _) => Some(LogLevel::Debug),
            (None, 2.., _) => Some(LogLevel::Trace),
            (None, 0, 1) => Some(LogLevel::Warning),
            (None, 0, 2..) => Some(LogLevel::Error),
            (None, 0, 0) => None,
        }
    }
}

fn facility(word: &str) -> Result<Facility, String> {
    Facility::from_word(word).ok_or_else(|| format!("write one of: {}", words(Facility::ALL)))
}

fn level(word: &str) -> Result<LogLevel, String> {
    LogLevel::from_word(word).ok_or_else(|| format!("write one of: {}", words(LogLevel::ALL)))
}

fn words<T: std::fmt::Display>(all: &[T]) -> String {
    let all: Vec<String> = all.iter().map(T::to_string).collect();
    all.join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn definition_is_consistent() {
        use clap::CommandFactory;
        Args::command().debug_assert();
    }

    #[test]
    fn options_give_level_and_target() {
        let args = |more: &[&str]| Args::try_parse_from([&["kmip2pkcs11"], more].concat());
        let good = |more: &[&str]| args(more).expect("arguments");
        assert_eq!(good(&[]).level(), None);
        assert_eq!(good(&["-v"]).level(), Some(LogLevel::Debug));
        assert_eq!(good(&["-qq"]).level(), Some(LogLevel::Error));
        assert_eq!(
            good(&["--log-level", "critical"]).level(),
            Some(LogLevel::Critical)
        );
        assert!(good(&["--syslog"]).target() == Some(BridgeLogTarget::Syslog));
        assert!(args(&["--syslog", "--stderr"]).is_err());
        assert!(args(&["--syslog-facility", "kernel"]).is_err());
        assert!(args(&["--pin-file", "/x"]).is_err());
    }
}

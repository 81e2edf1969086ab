//! Command line and environment of the daemon (option, environment, file, default: in this order).

use std::path::PathBuf;

use clap::{Parser, ValueEnum};

#[derive(Debug, Clone, Parser)]
#[command(
    name = "cascaded",
    about = "DNSSEC signing daemon",
    disable_version_flag = true,
    after_help = "See cascaded-config.toml(5) for the configuration and cascade(1) for the commands."
)]
pub struct Args {
    /// Configuration file
    #[arg(
        short,
        long,
        value_name = "PATH",
        env = "CASCADE_CONFIG_PATH",
        default_value = "/etc/cascade/config.toml"
    )]
    pub config: PathBuf,

    /// Check configuration, policies, directories and addresses; start nothing
    #[arg(long)]
    pub check_config: bool,

    /// State directory instead of the configured one
    #[arg(long, value_name = "PATH", env = "CASCADE_STATE_PATH")]
    pub state: Option<PathBuf>,

    /// Least level that is logged
    #[arg(long, value_name = "LEVEL", env = "CASCADE_LOG_LEVEL", value_enum)]
    pub log_level: Option<Level>,

    /// Where log lines go: stdout, stderr, syslog, journal or file:PATH
    #[arg(short, long, value_name = "TARGET", env = "CASCADE_LOG")]
    pub log: Option<String>,

    /// Form of log lines
    #[arg(long, value_name = "FORMAT", env = "CASCADE_LOG_FORMAT", value_enum)]
    pub log_format: Option<Format>,

    /// Module prefixes logged at level trace, separated by commas
    #[arg(
        long,
        hide = true,
        env = "CASCADE_LOG_TRACE_TARGETS",
        value_delimiter = ','
    )]
    pub log_trace_targets: Vec<String>,

    /// Print version and commit
    #[arg(short = 'V', long)]
    pub version: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Level {
    Trace,
    Debug,
    Info,
    Warning,
    Error,
    Critical,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Format {
    Text,
    Json,
}

/// The state directory meant by `--state`: a path that ends in a file name (older form
/// `…/state.db`) means its directory.
pub fn state_dir(path: &std::path::Path) -> PathBuf {
    let is_file = path.is_file() || path.extension().is_some_and(|e| e == "db" || e == "redb");
    match path.parent() {
        Some(parent) if is_file => parent.to_path_buf(),
        _ => path.to_path_buf(),
    }
}

pub fn version_text() -> String {
    let commit = option_env!("CASCADE_COMMIT").unwrap_or("unknown commit");
    format!("cascaded {} ({commit})", env!("CARGO_PKG_VERSION"))
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
    fn older_state_paths_mean_their_directory() {
        let dir = |p: &str| state_dir(std::path::Path::new(p));
        assert_eq!(dir("/x/state.db"), PathBuf::from("/x"));
        assert_eq!(dir("/x/y"), PathBuf::from("/x/y"));
    }
}

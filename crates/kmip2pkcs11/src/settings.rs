//! From file and options to what is done.

use std::path::{Path, PathBuf};

use cascade_policy::{
    BridgeConfig, BridgeFile, BridgeLogTarget, Diagnostic, LogTarget, MAX_FILE, parse_bridge,
};

use crate::args::Args;

/// Reads the configuration file.
///
/// # Errors
/// Every finding, a line each, or why the file cannot be read and what to do.
pub fn read(path: &Path) -> Result<BridgeFile, String> {
    let shown = path.display();
    let size = std::fs::metadata(path).map(|m| m.len()).unwrap_or(0);
    if size > MAX_FILE as u64 {
        return Err(format!(
            "{shown}: the file has {size} octets; at most {MAX_FILE} are read"
        ));
    }
    let bytes = std::fs::read(path).map_err(|e| match e.kind() {
        std::io::ErrorKind::NotFound => format!(
            "{shown}: no such configuration file; name one with --config, or install the \
             packaged one"
        ),
        _ => format!("{shown}: the configuration file cannot be read: {e}"),
    })?;
    parse_bridge(&shown.to_string(), &bytes).map_err(|found| {
        let lines: Vec<String> = found.iter().map(Diagnostic::one_line).collect();
        lines.join("\n")
    })
}

/// Where log lines go, and the file of target "file".
pub fn log_target(config: &BridgeConfig, args: &Args) -> LogTarget {
    match args.target().unwrap_or(config.log_target) {
        BridgeLogTarget::Stderr => LogTarget::Stderr,
        BridgeLogTarget::Syslog => LogTarget::Syslog,
        BridgeLogTarget::Journal => LogTarget::Journal,
        BridgeLogTarget::File => {
            let option = args.logfile.as_ref().map(|p| p.to_string_lossy());
            let option = option.as_deref().map(Into::into);
            // The reader insists on a path for this target.
            LogTarget::File(
                option
                    .or_else(|| config.log_file.clone())
                    .unwrap_or_default(),
            )
        }
    }
}

/// What the process becomes before the module is loaded.
#[derive(Debug, Clone, Default)]
pub struct Become {
    pub user: Option<String>,
    pub group: Option<String>,
    pub chroot: Option<PathBuf>,
    pub working_dir: Option<PathBuf>,
    pub pid_file: Option<PathBuf>,
}

impl Become {
    pub fn of(config: &BridgeConfig, args: &Args) -> Become {
        let identity = config.identity.as_ref();
        let pid_file = config.pid_file.as_ref().map(|p| p.as_std_path().to_owned());
        Become {
            user: args.user.clone().or(identity.map(|i| i.user.clone())),
            group: args
                .group
                .clone()
                .or(identity.and_then(|i| i.group.clone())),
            chroot: args.chroot.clone(),
            working_dir: args.working_dir.clone(),
            pid_file: args.pid_file.clone().or(pid_file),
        }
    }
}

//! `cascade`: one call of the control API per command, and its answer printed (cli.md).
//!
//! It holds no state and takes no decision. `args` defines the commands; a module per family
//! performs them; `report` prints the status report; `error` has the exit codes.

mod args;
mod backup;
mod calendar;
mod ctx;
mod daemon;
mod detail;
mod docs;
mod error;
mod export;
mod forms;
mod hsm;
mod keyset;
mod output;
mod policy;
mod report;
mod second;
mod update;
mod why;
mod zone;

use std::path::Path;
use std::process::ExitCode;

use anstream::ColorChoice;
use cascade_api::client::{Client, TlsFiles};
use cascade_time::Timestamp;
use clap::Parser;

use crate::args::{BackupCommand, Cli, ClockCommand, Color, Command, Global};
use crate::ctx::Ctx;
use crate::error::CliError;
use crate::output::{Paint, note};

fn main() -> ExitCode {
    let cli = Cli::parse();
    let json = cli.global.json;
    let Err(error) = run(cli) else {
        return ExitCode::SUCCESS;
    };
    if error.is_closed_pipe() {
        return ExitCode::SUCCESS;
    }
    if !matches!(error, CliError::Exit(_)) {
        note(&if json { error.json() } else { error.text() });
    }
    ExitCode::from(error.exit_code())
}

fn run(cli: Cli) -> Result<(), CliError> {
    // What needs no daemon needs no runtime either.
    let command = match cli.command {
        Command::Template(which) => return docs::template(which),
        Command::Completions { shell } => return docs::completions(shell),
        Command::Man { dir } => return docs::man(dir.as_deref()),
        Command::Backup(
            offline @ (BackupCommand::Verify { .. } | BackupCommand::Restore { .. }),
        ) => return backup::offline(&offline),
        other => other,
    };
    let mut global = cli.global;
    if matches!(command, Command::Backup(_)) {
        // The disk needs as long as there is data.
        global.timeout = global.timeout.max(BACKUP_TIMEOUT);
    }
    let ctx = context(global)?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|source| CliError::File {
            what: "start",
            path: "the runtime".to_string(),
            source,
        })?;
    runtime.block_on(async {
        tokio::select! {
            result = perform(&ctx, command) => result,
            _ = tokio::signal::ctrl_c() => Err(CliError::Exit(130)),
        }
    })
}

const BACKUP_TIMEOUT: std::time::Duration = std::time::Duration::from_secs(3600);

async fn perform(ctx: &Ctx, command: Command) -> Result<(), CliError> {
    match command {
        Command::Zone(c) => zone::run(ctx, c).await,
        Command::Policy(c) => policy::run(ctx, c).await,
        Command::Keyset(k) => keyset::run(ctx, k).await,
        Command::Hsm(c) => hsm::run(ctx, c).await,
        Command::Tsig(c) => hsm::tsig(ctx, c).await,
        Command::Token(c) => hsm::token(ctx, c).await,
        Command::Request(c) => second::run(ctx, &c).await,
        Command::Status { what } => daemon::status(ctx, what).await,
        Command::Health { deep } => daemon::health(ctx, deep).await,
        Command::Info => daemon::info(ctx).await,
        Command::Why { zone } => why::run(ctx, &zone).await,
        Command::Clock(ClockCommand::Confirm) => daemon::clock_confirm(ctx).await,
        Command::Debug(c) => daemon::debug(ctx, c).await,
        Command::Backup(BackupCommand::Create { name }) => backup::create(ctx, name).await,
        // Performed without a daemon, before.
        Command::Backup(_) => Ok(()),
        Command::Template(_) | Command::Completions { .. } | Command::Man { .. } => Ok(()),
    }
}

/// Reads what the environment has to say: token, colours, directory, time.
#[allow(clippy::disallowed_methods, reason = "this is the program's main")]
fn context(global: Global) -> Result<Ctx, CliError> {
    let color = match global.color {
        Color::Always => true,
        Color::Never => false,
        Color::Auto => anstream::AutoStream::choice(&std::io::stdout()) != ColorChoice::Never,
    };
    let token = match &global.token_file {
        Some(path) => Some(read(path)?.trim_ascii().to_vec()),
        None => std::env::var("CASCADE_TOKEN").ok().map(String::into_bytes),
    };
    let token = match token.filter(|t| !t.is_empty() && !global.server.is_unix()) {
        None => None,
        Some(token) if token.iter().all(u8::is_ascii_graphic) => String::from_utf8(token).ok(),
        Some(_) => {
            return Err(CliError::Usage(
                "the token has characters that no token has".to_string(),
            ));
        }
    };
    let mut client = Client::new(global.server.clone(), global.timeout).token(token);
    if global.server.to_string().starts_with("https:") {
        client = client.tls(tls_files(&global)?);
    }
    let since_epoch = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    Ok(Ctx {
        client,
        json: global.json,
        quiet: global.quiet,
        paint: Paint(color),
        comment: global.comment,
        now: Timestamp::EPOCH + since_epoch.unwrap_or_default(),
        cwd: std::env::current_dir().unwrap_or_else(|_| "/".into()),
        verbose: global.log_level.0 <= cascade_api::daemon::LogLevel::Debug,
    })
}

/// Where systems keep their trusted authorities in one file.
const SYSTEM_ROOTS: [&str; 3] = [
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/cert.pem",
];

fn tls_files(global: &Global) -> Result<TlsFiles, CliError> {
    let ca = match &global.ca_cert {
        Some(path) => read(path)?,
        None => SYSTEM_ROOTS
            .iter()
            .find_map(|p| std::fs::read(p).ok())
            .unwrap_or_default(),
    };
    let read_optional = |path: &Option<std::path::PathBuf>| path.as_deref().map(read).transpose();
    Ok(TlsFiles {
        ca,
        client_cert: read_optional(&global.client_cert)?,
        client_key: read_optional(&global.client_key)?,
    })
}

fn read(path: &Path) -> Result<Vec<u8>, CliError> {
    std::fs::read(path).map_err(|source| CliError::File {
        what: "read",
        path: path.display().to_string(),
        source,
    })
}

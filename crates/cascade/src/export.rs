//! `zone export`: a stream to stdout, or a file that appears complete or not at all.

use std::fs::{File, OpenOptions};
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

use cascade_api::client::{Call, ClientError};

use crate::ctx::Ctx;
use crate::error::CliError;

pub async fn export(ctx: &Ctx, target: &str, output: Option<&Path>) -> Result<(), CliError> {
    let call = Call::get(target);
    let Some(path) = output else {
        let mut out = io::stdout().lock();
        ctx.client
            .stream(&call, &mut |piece| out.write_all(piece))
            .await?;
        return out.flush().map_err(CliError::Stdout);
    };
    let failed = |what: &'static str, path: &Path| {
        let path = path.display().to_string();
        move |source: io::Error| CliError::File { what, path, source }
    };
    let temporary = temporary_name(path);
    let mut file = create(&temporary).map_err(failed("create", &temporary))?;
    let written = async {
        match ctx
            .client
            .stream(&call, &mut |piece| file.write_all(piece))
            .await
        {
            Err(ClientError::Output(e)) => return Err(failed("write", &temporary)(e)),
            other => other?,
        };
        file.flush()
            .and_then(|()| file.get_ref().sync_all())
            .and_then(|()| std::fs::rename(&temporary, path))
            .map_err(failed("write", path))
    }
    .await;
    if written.is_err() {
        // The error to tell is the first one.
        let _ = std::fs::remove_file(&temporary);
    }
    written
}

fn create(path: &Path) -> io::Result<BufWriter<File>> {
    OpenOptions::new()
        .write(true)
        .create_new(true)
        .open(path)
        .map(BufWriter::new)
}

/// In the same directory, so that the final rename is atomic.
fn temporary_name(path: &Path) -> PathBuf {
    let mut name = path.file_name().unwrap_or_default().to_os_string();
    name.push(format!(".{}.part", std::process::id()));
    path.with_file_name(name)
}

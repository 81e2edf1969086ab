use std::path::PathBuf;

use clap::Args;

#[derive(Args)]
pub struct DemoArgs {
    zone_file: Option<PathBuf>,
}

pub fn run(_args: &DemoArgs) -> Result<bool, String> {
    Ok(true)
}

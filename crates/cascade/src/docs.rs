//! Templates, completions, man pages: what needs no daemon.

use std::path::Path;

use clap::CommandFactory;
use clap_complete::Shell;

use crate::args::{Cli, ShellArg, TemplateCommand};
use crate::error::CliError;
use crate::output;

pub fn template(which: TemplateCommand) -> Result<(), CliError> {
    let text = match which {
        TemplateCommand::Policy => cascade_policy::template_policy(),
        TemplateCommand::Config => cascade_policy::template_config(),
    };
    output::stdout(text.as_bytes()).map_err(CliError::Stdout)
}

pub fn completions(shell: ShellArg) -> Result<(), CliError> {
    let shell = match shell {
        ShellArg::Bash => Shell::Bash,
        ShellArg::Zsh => Shell::Zsh,
        ShellArg::Fish => Shell::Fish,
    };
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), "cascade", &mut script);
    output::stdout(&script).map_err(CliError::Stdout)
}

/// All pages one after the other, or one file each.
pub fn man(dir: Option<&Path>) -> Result<(), CliError> {
    if let Some(dir) = dir {
        return clap_mangen::generate_to(Cli::command(), dir).map_err(|source| CliError::File {
            what: "write man pages to",
            path: dir.display().to_string(),
            source,
        });
    }
    let mut command = Cli::command();
    // Fills in the full names of subcommands.
    command.build();
    let mut pages = Vec::new();
    render(&command, &mut pages).map_err(CliError::Stdout)?;
    output::stdout(&pages).map_err(CliError::Stdout)
}

fn render(command: &clap::Command, out: &mut Vec<u8>) -> std::io::Result<()> {
    clap_mangen::Man::new(command.clone()).render(out)?;
    for sub in command
        .get_subcommands()
        .filter(|s| s.get_name() != "help" && !s.is_hide_set())
    {
        render(sub, out)?;
    }
    Ok(())
}

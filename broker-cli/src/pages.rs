//! `broker completions` and `broker man`: what a package installs beside the program.

use std::process::ExitCode;

use clap::{Args, CommandFactory};
use clap_complete::{Shell, generate};

use crate::{Cli, Console, Outcome};

/// Print shell completions
#[derive(Args, Debug)]
pub(crate) struct Completions {
    /// The shell
    shell: Shell,
}

impl Completions {
    pub(crate) async fn run(self, console: &mut Console) -> Outcome {
        let mut script = Vec::new();
        generate(self.shell, &mut Cli::command(), "broker", &mut script);
        console.write(&script).await?;
        Ok(ExitCode::SUCCESS)
    }
}

/// Print the manual page of the command or of a subcommand
#[derive(Args, Debug)]
pub(crate) struct Man {
    /// The subcommand, such as sub
    subcommand: Option<String>,
}

impl Man {
    pub(crate) async fn run(self, console: &mut Console) -> Outcome {
        let mut command = Cli::command();
        if let Some(name) = &self.subcommand {
            let found = command.find_subcommand(name).cloned();
            let found = found.ok_or_else(|| format!("there is no subcommand `{name}`; see broker --help"))?;
            command = found.name(format!("broker-{name}"));
        }
        let mut page = Vec::new();
        clap_mangen::Man::new(command).render(&mut page)?;
        console.write(&page).await?;
        Ok(ExitCode::SUCCESS)
    }
}

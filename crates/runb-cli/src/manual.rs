//! Writes a man page for the command and each verb, and the completion of bash, fish and zsh: `runb-manual DIR`.

#[allow(dead_code, reason = "what parses is runb's")]
mod args;
#[allow(dead_code, reason = "what parses is runb's")]
mod argv;

use std::error::Error;
use std::fs;
use std::path::PathBuf;

use clap_complete::Shell;
use clap_mangen::Man;

fn main() -> Result<(), Box<dyn Error>> {
    let dir = PathBuf::from(std::env::args_os().nth(1).ok_or("usage: runb-manual DIR")?);
    fs::create_dir_all(&dir)?;
    let root = args::tree();
    let page = |command: clap::Command, name: &str| -> Result<(), Box<dyn Error>> {
        let mut text = Vec::new();
        // No date, so that the same sources make the same bytes.
        Man::new(command)
            .title(name)
            .section("8")
            .date("")
            .source(format!("runb {}", env!("CARGO_PKG_VERSION")))
            .render(&mut text)?;
        fs::write(dir.join(format!("{name}.8")), text)?;
        Ok(())
    };
    for verb in root.get_subcommands() {
        // clap wants names that stay, as those of the definitions do.
        let name: &'static str = format!("runb-{}", verb.get_name()).leak();
        // What a page says of the call is `runb VERB`, its name is `runb-VERB`.
        page(verb.clone().name(name).bin_name(format!("runb {}", verb.get_name())), name)?;
    }
    page(root.clone(), "runb")?;
    for (shell, file) in [(Shell::Bash, "runb.bash"), (Shell::Fish, "runb.fish"), (Shell::Zsh, "_runb")] {
        let mut text = Vec::new();
        clap_complete::generate(shell, &mut root.clone(), "runb", &mut text);
        fs::write(dir.join(file), text)?;
    }
    Ok(())
}

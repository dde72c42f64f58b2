//! `weir config`: the configuration file without running it.

use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context as _;
use clap::Subcommand;

use crate::config;

/// The configuration file: an example, a check, its schema
#[derive(Debug, Subcommand)]
pub(crate) enum ConfigArgs {
    /// A file that says everything, with the defaults
    Example,
    /// Say everything that is wrong with a file; ends with 1 if something is
    Check {
        /// The file
        #[arg(value_name = "FILE")]
        file: PathBuf,
    },
    /// JSON Schema of the file, for editors
    Schema,
}

pub(crate) fn run(args: &ConfigArgs) -> anyhow::Result<ExitCode> {
    let text = match args {
        ConfigArgs::Example => config::EXAMPLE.to_owned(),
        ConfigArgs::Schema => {
            let schema =
                serde_json::to_string_pretty(&config::schema()).context("cannot encode the schema")?;
            format!("{schema}\n")
        }
        ConfigArgs::Check { file } => {
            let mut err = std::io::stderr().lock();
            return Ok(match config::read_and_compile(file) {
                Ok(_) => {
                    let _ = writeln!(err, "{}: nothing is wrong", file.display());
                    ExitCode::SUCCESS
                }
                Err(error) => {
                    let _ = writeln!(err, "{error}");
                    ExitCode::FAILURE
                }
            });
        }
    };
    match std::io::stdout().lock().write_all(text.as_bytes()) {
        Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => {}
        result => result.context("cannot write to stdout")?,
    }
    Ok(ExitCode::SUCCESS)
}

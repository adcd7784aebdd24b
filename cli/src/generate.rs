//! `tasker-ctl generate`.

use std::fs;
use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};
use serde::Serialize;

use crate::failure::Failure;
use crate::languages::Language;
use crate::output::Output;
use crate::templates::Reference;
use crate::types;

#[derive(Debug, Subcommand)]
pub(crate) enum GenerateCommand {
    /// Write the types of a template's context, inputs, results and events, from its schemas
    #[command(
        after_help = "Examples:\n  tasker-ctl generate types order_fulfillment.yaml --language typescript\n  tasker-ctl generate types shop/order_fulfillment@1.0.0 --language rust --file src/types.rs"
    )]
    Types(TypesOptions),
}

#[derive(Debug, Args)]
pub(crate) struct TypesOptions {
    /// A file, or a registered template
    #[arg(value_name = "FILE|[NAMESPACE/]NAME[@VERSION]")]
    template: Reference,
    /// The language of the types
    #[arg(short, long, value_enum)]
    language: Language,
    /// Write them to this file, over those that were written to it before
    #[arg(short, long, value_name = "FILE")]
    file: Option<PathBuf>,
}

#[derive(Serialize)]
struct Generated {
    language: Language,
    file: Option<PathBuf>,
    types: String,
}

pub(crate) async fn run(
    command: GenerateCommand,
    database_url: Option<String>,
    output: Output,
) -> Result<(), Failure> {
    let GenerateCommand::Types(options) = command;
    let template = options.template.template(database_url.as_deref()).await?;
    let generated = Generated {
        language: options.language,
        file: options.file,
        types: types::text(&template, options.language),
    };
    let Some(file) = &generated.file else {
        return output.show(&generated, || generated.types.clone());
    };
    write(file, &generated.types)?;
    output.show(&generated, || file.display().to_string())
}

/// Over nothing but what this command has written.
fn write(file: &Path, text: &str) -> Result<(), Failure> {
    match fs::read_to_string(file) {
        Ok(before)
            if before
                .lines()
                .take(6)
                .any(|line| line.contains(types::MARK)) => {}
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
        Ok(_) | Err(_) => {
            return Err(Failure::Exists {
                path: file.to_owned(),
            });
        }
    }
    fs::write(file, text).map_err(|source| Failure::Unwritable {
        path: file.to_owned(),
        source,
    })
}

//! The command line of `tasker-ctl template new`.

use std::path::{Path, PathBuf};

use clap::{Args, ValueEnum};

use crate::failure::Failure;
use crate::languages::Language;

/// Where the source of Tasker is looked for when it isn't told: beside the new folder.
const SOURCE: &str = "../tasker";

#[derive(Debug, Args)]
pub(crate) struct NewTemplate {
    /// The template's name: 1 to 64 of a-z, 0-9 and _
    pub(super) name: String,
    /// The language of the handlers
    #[arg(short, long, value_enum)]
    pub(super) language: Language,
    /// The template's namespace
    #[arg(short, long, default_value = "default")]
    pub(super) namespace: String,
    /// The folder to write, which is made, or empty [default: the name]
    #[arg(short, long, value_name = "FOLDER")]
    directory: Option<PathBuf>,
    /// The names of the steps, each waiting for the one before
    #[arg(
        long,
        value_name = "NAME,…",
        value_delimiter = ',',
        conflicts_with = "shape"
    )]
    pub(super) steps: Vec<String>,
    /// What the steps wait for, in place of their names
    #[arg(long, value_enum, default_value_t = Shape::Linear)]
    pub(super) shape: Shape,
    /// Where the source of Tasker lies, for handlers in Rust, which are built with it [default: tasker, beside the folder]
    #[arg(long, value_name = "FOLDER")]
    tasker: Option<PathBuf>,
}

/// What the steps wait for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum Shape {
    /// Three steps, one after the other
    Linear,
    /// Two steps side by side, between a first and a last one
    Diamond,
    /// A step that chooses which of two branches exists, and their join
    Decision,
    /// A step that runs once for each element of a list
    Map,
    /// Work that is cut into parts, which run side by side
    Batch,
}

impl NewTemplate {
    pub(super) fn directory(&self) -> PathBuf {
        self.directory
            .clone()
            .unwrap_or_else(|| PathBuf::from(&self.name))
    }

    /// The folder as a manifest may name it, whatever the folder is in which the command runs.
    pub(super) fn source_of_tasker(&self) -> Result<PathBuf, Failure> {
        let Some(folder) = &self.tasker else {
            return Ok(PathBuf::from(SOURCE));
        };
        if !folder.join("workers/runtime/Cargo.toml").is_file() {
            return Err(Failure::Usage(format!(
                "{} isn't the source of Tasker: it has no workers/runtime",
                folder.display()
            )));
        }
        std::path::absolute(folder).map_err(|source| Failure::File {
            path: Path::to_owned(folder),
            source,
        })
    }
}

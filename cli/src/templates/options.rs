//! The command line of `tasker-ctl template`.

use std::path::PathBuf;

use clap::{Args, Subcommand};

use super::reference::Reference;
use crate::scaffold::NewTemplate;

#[derive(Debug, Subcommand)]
pub(crate) enum TemplateCommand {
    /// Begin a workflow: a folder with a template, handlers of its steps, and tests of them
    #[command(
        after_help = "Examples:\n  tasker-ctl template new order_sync --language rust\n  tasker-ctl template new order_sync --language python --namespace shop --steps fetch,check,store"
    )]
    New(NewTemplate),
    /// Register templates from YAML or JSON files; the same content again changes nothing
    #[command(
        after_help = "Example:\n  tasker-ctl template register examples/templates/*.yaml --environment production"
    )]
    Register(TemplateFiles),
    /// List the registered templates
    #[command(after_help = "Example:\n  tasker-ctl template list --namespace shop")]
    List {
        /// Only those of this namespace
        #[arg(short, long)]
        namespace: Option<String>,
    },
    /// Show a template as it was written
    #[command(
        after_help = "Example:\n  tasker-ctl template show order_fulfillment --namespace shop --version 1.0.0"
    )]
    Show(TemplateName),
    /// Check template files without a database
    #[command(after_help = "Example:\n  tasker-ctl template validate order_fulfillment.yaml")]
    Validate(TemplateFiles),
    /// Retire a version of a template: no new tasks are made of it, those under way go on
    #[command(
        after_help = "Example:\n  tasker-ctl template retire order_fulfillment --namespace shop --version 1.0.0"
    )]
    Retire(TemplateName),
    /// Draw the graph of a template
    #[command(
        after_help = "Example:\n  tasker-ctl template visualize order_fulfillment.yaml --svg > order_fulfillment.svg"
    )]
    Visualize(VisualizeOptions),
    /// Say what is different in two templates: steps added, removed and changed
    #[command(
        after_help = "Example:\n  tasker-ctl template diff shop/order_fulfillment@1.0.0 order_fulfillment.yaml"
    )]
    Diff {
        /// A file, or a registered template
        #[arg(value_name = "FILE|[NAMESPACE/]NAME[@VERSION]")]
        from: Reference,
        /// Another one
        #[arg(value_name = "FILE|[NAMESPACE/]NAME[@VERSION]")]
        to: Reference,
    },
}

#[derive(Debug, Args)]
pub(crate) struct TemplateFiles {
    /// YAML or JSON files; - reads YAML from standard input
    #[arg(required = true, value_name = "FILE")]
    pub(super) files: Vec<PathBuf>,
    /// Apply the part of the template for this environment
    #[arg(long)]
    pub(super) environment: Option<String>,
}

#[derive(Debug, Args)]
pub(crate) struct TemplateName {
    /// The template's name
    pub(super) name: String,
    /// The template's namespace
    #[arg(short, long, default_value = "default")]
    pub(super) namespace: String,
    /// The template's version; the newest when left out
    #[arg(long)]
    pub(super) version: Option<String>,
}

#[derive(Debug, Args)]
pub(crate) struct VisualizeOptions {
    /// A file, or a registered template
    #[arg(value_name = "FILE|[NAMESPACE/]NAME[@VERSION]")]
    pub(super) template: Reference,
    /// Write a Mermaid flowchart
    #[arg(long)]
    pub(super) mermaid: bool,
    /// Write an SVG picture
    #[arg(long, conflicts_with = "mermaid")]
    pub(super) svg: bool,
}

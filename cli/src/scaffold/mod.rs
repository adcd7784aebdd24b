//! `tasker-ctl template new`: a folder with a template, its handlers and their tests.
//!
//! | module | holds |
//! |---|---|
//! | `options` | the command line |
//! | `plan` | which steps there are, and what each does |
//! | `texts` | the texts of `cli/scaffolds/`, in sections, with names put in |
//! | `template` | the template as YAML |
//! | `files` | what is written for each language |
//! | `folder` | how it is written, and what is refused |

mod files;
mod folder;
mod options;
mod plan;
mod template;
mod texts;

use std::path::{Path, PathBuf};

use serde::Serialize;
use tasker_rules::finding::Finding;
use tasker_rules::template::{Limits, Source, check};

pub(crate) use self::options::NewTemplate;
use self::plan::Plan;
use crate::failure::Failure;
use crate::output::{Output, plain};
use crate::templates::lines_of;

#[derive(Serialize)]
struct Written {
    directory: PathBuf,
    files: Vec<PathBuf>,
}

/// Writes the folder. Nothing of it is written where the names aren't allowed, or the folder holds something.
pub(crate) fn run(options: &NewTemplate, output: Output) -> Result<(), Failure> {
    let plan = Plan::of(options);
    let template = template::text(&plan);
    refuse_bad_names(&plan, &template)?;
    let files = files::of(&plan, template, &options.source_of_tasker()?);
    let directory = options.directory();
    folder::write(&directory, &files)?;
    let written = Written {
        files: files.into_iter().map(|file| file.path).collect(),
        directory,
    };
    output.show(&written, || text_of(&written))
}

/// By the checks of any template, so that no rule about names is told twice.
fn refuse_bad_names(plan: &Plan, template: &str) -> Result<(), Failure> {
    let findings = check(Source::Yaml(template), None, &Limits::default()).findings;
    let errors: Vec<Finding> = findings.into_iter().filter(Finding::is_error).collect();
    if errors.is_empty() {
        return Ok(());
    }
    let file = format!("{}.yaml", plan.name);
    eprintln!("{}", lines_of(Path::new(&file), &errors));
    Err(Failure::InvalidTemplates)
}

fn text_of(written: &Written) -> String {
    let mut lines: Vec<String> = written
        .files
        .iter()
        .map(|file| written.directory.join(file).display().to_string())
        .collect();
    let readme = written.directory.join("README.md");
    lines.push(format!("\n{} says how to go on", readme.display()));
    plain(&lines.join("\n"))
}

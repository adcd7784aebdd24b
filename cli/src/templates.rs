//! `tasker-ctl template`.

mod diff;
mod drawn;
mod options;
mod reference;

use std::io::Read;
use std::path::{Path, PathBuf};

use serde::Serialize;
use serde_json::value::RawValue;
use tasker_client::{Client, Definition, RegisteredTemplate, Template};
use tasker_rules::finding::Finding;
use tasker_rules::template::{self, Limits, Source};

use self::diff::Difference;
pub(crate) use self::options::TemplateCommand;
use self::options::{TemplateFiles, TemplateName};
pub(crate) use self::reference::Reference;
use crate::failure::Failure;
use crate::output::{self, Output, plain};
use crate::scaffold;

#[derive(Serialize)]
struct Retirement {
    namespace: String,
    name: String,
    version: String,
    retired: bool,
}

#[derive(Serialize)]
struct Registered {
    file: PathBuf,
    #[serde(flatten)]
    template: RegisteredTemplate,
}

#[derive(Serialize)]
struct Validated {
    file: PathBuf,
    valid: bool,
    findings: Vec<Finding>,
}

pub(crate) async fn run(
    command: TemplateCommand,
    database_url: Option<String>,
    output: Output,
) -> Result<(), Failure> {
    // What looks at files only needs no database.
    match &command {
        TemplateCommand::New(options) => return scaffold::run(options, output),
        TemplateCommand::Validate(files) => return validate(files, output),
        TemplateCommand::Diff { from, to } => {
            let url = database_url.as_deref();
            let (from, to) = (from.template(url).await?, to.template(url).await?);
            let difference = Difference::between(&from, &to)?;
            return output.show(&difference, || plain(&difference.text()));
        }
        TemplateCommand::Visualize(options) => {
            let template = options.template.template(database_url.as_deref()).await?;
            return drawn::draw(&template, options, output);
        }
        _ => {}
    }
    let client = crate::connect(database_url).await?;
    match command {
        TemplateCommand::Register(files) => register(&client, &files, output).await,
        TemplateCommand::List { namespace } => list(&client, namespace.as_deref(), output).await,
        TemplateCommand::Show(of) => {
            let template = client
                .get_template(&of.name, &of.namespace, of.version.as_deref())
                .await?;
            output.show(&template, || show(&template))
        }
        TemplateCommand::Retire(of) => retire(&client, of, output).await,
        // Answered above.
        TemplateCommand::New(_)
        | TemplateCommand::Validate(_)
        | TemplateCommand::Diff { .. }
        | TemplateCommand::Visualize(_) => Ok(()),
    }
}

/// Registers every file that can be, and reports the others one by one.
async fn register(client: &Client, files: &TemplateFiles, output: Output) -> Result<(), Failure> {
    let mut registered = Vec::new();
    let mut first_failure = None;
    for file in &files.files {
        match register_one(client, file, files.environment.as_deref()).await {
            Ok(template) => registered.push(Registered {
                file: file.clone(),
                template,
            }),
            Err(failure) => {
                eprintln!("{}", text_of(file, &failure));
                first_failure.get_or_insert(failure);
            }
        }
    }
    if output.is_data() || !registered.is_empty() {
        output.show(&registered, || registered_table(&registered))?;
    }
    first_failure.map_or(Ok(()), |failure| Err(Failure::Reported(Box::new(failure))))
}

async fn register_one(
    client: &Client,
    file: &Path,
    environment: Option<&str>,
) -> Result<RegisteredTemplate, Failure> {
    let text = read(file)?;
    if is_json(file) {
        let json: &RawValue = serde_json::from_str(&text).map_err(|source| Failure::NotJson {
            what: file.display().to_string(),
            source,
        })?;
        return Ok(client
            .register_template(Definition::Json(json), environment)
            .await?);
    }
    Ok(client
        .register_template(Definition::Yaml(&text), environment)
        .await?)
}

/// An invalid template's detail is its findings; they read better one a line.
fn text_of(file: &Path, failure: &Failure) -> String {
    let findings = match failure {
        Failure::Client(error) if error.code() == Some("TK020") => error
            .details()
            .and_then(|details| details.detail.as_deref())
            .and_then(|detail| serde_json::from_str::<Vec<Finding>>(detail).ok()),
        _ => None,
    };
    findings.map_or_else(
        || format!("{}: {}", file.display(), failure.text()),
        |findings| lines_of(file, &findings),
    )
}

fn registered_table(registered: &[Registered]) -> String {
    let rows = registered.iter().map(|Registered { file, template }| {
        let outcome = if template.created {
            "registered"
        } else {
            "unchanged"
        };
        let (namespace, name, version) = (&template.namespace, &template.name, &template.version);
        [
            namespace.clone(),
            name.clone(),
            version.clone(),
            outcome.to_owned(),
            file.display().to_string(),
        ]
    });
    output::table(["NAMESPACE", "NAME", "VERSION", "OUTCOME", "FILE"], rows)
}

async fn list(client: &Client, namespace: Option<&str>, output: Output) -> Result<(), Failure> {
    let templates = client.list_templates(namespace).await?;
    output.show(&templates, || {
        let rows = templates.iter().map(|template| {
            [
                template.namespace.clone(),
                template.name.clone(),
                template.version.clone(),
                template.steps_count.to_string(),
                output::time(template.registered_at),
                template.retired_at.map(output::time).unwrap_or_default(),
                template.description.clone().unwrap_or_default(),
            ]
        });
        output::table(
            [
                "NAMESPACE",
                "NAME",
                "VERSION",
                "STEPS",
                "REGISTERED",
                "RETIRED",
                "DESCRIPTION",
            ],
            rows,
        )
    })
}

fn show(template: &Template) -> String {
    let head = output::fields([
        (
            "template",
            Some(format!(
                "{}/{} {}",
                template.namespace, template.name, template.version
            )),
        ),
        ("uuid", Some(template.template_uuid.to_string())),
        ("steps", Some(template.steps_count.to_string())),
        (
            "registered",
            Some(format!(
                "{} by {}",
                output::time(template.registered_at),
                template.registered_by
            )),
        ),
        ("retired", template.retired_at.map(output::time)),
    ]);
    let source = template
        .source
        .as_deref()
        .unwrap_or(template.definition.get());
    format!("{head}\n\n{}", plain(source))
}

/// The version is looked up first, so that the answer can name it.
async fn retire(client: &Client, of: TemplateName, output: Output) -> Result<(), Failure> {
    let version = client
        .get_template(&of.name, &of.namespace, of.version.as_deref())
        .await?
        .version;
    let retired = Retirement {
        retired: client
            .retire_template(&of.name, &of.namespace, Some(&version))
            .await?,
        namespace: of.namespace,
        name: of.name,
        version,
    };
    output.show(&retired, || {
        let outcome = if retired.retired {
            "retired"
        } else {
            "retired before"
        };
        let (namespace, name, version) = (&retired.namespace, &retired.name, &retired.version);
        format!("{namespace}/{name} {version} {outcome}")
    })
}

/// The same checks as at registration, from the rules themselves.
fn validate(files: &TemplateFiles, output: Output) -> Result<(), Failure> {
    let mut validated = Vec::new();
    for file in &files.files {
        let text = read(file)?;
        let source = match is_json(file).then(|| serde_json::from_str(&text)) {
            // Text that isn't JSON is read as YAML, whose findings name the line and column.
            Some(Ok(json)) => Source::Json(json),
            Some(Err(_)) | None => Source::Yaml(&text),
        };
        let findings =
            template::check(source, files.environment.as_deref(), &Limits::default()).findings;
        let valid = !findings.iter().any(Finding::is_error);
        validated.push(Validated {
            file: file.clone(),
            valid,
            findings,
        });
    }
    output.show(&validated, || {
        let texts: Vec<String> = validated.iter().map(validated_text).collect();
        texts.join("\n")
    })?;
    if validated.iter().all(|file| file.valid) {
        Ok(())
    } else {
        Err(Failure::InvalidTemplates)
    }
}

fn validated_text(validated: &Validated) -> String {
    let lines = lines_of(&validated.file, &validated.findings);
    match (validated.valid, lines.is_empty()) {
        (true, true) => format!("{}: valid", validated.file.display()),
        (true, false) => format!("{lines}\n{}: valid", validated.file.display()),
        (false, _) => lines,
    }
}

/// `file:path: error[CODE]: message`, one a line.
pub(crate) fn lines_of(file: &Path, findings: &[Finding]) -> String {
    let lines: Vec<String> = findings
        .iter()
        .map(|finding| {
            let Finding {
                severity,
                code,
                path,
                message,
            } = finding;
            let place = if path.is_empty() {
                file.display().to_string()
            } else {
                format!("{}:{path}", file.display())
            };
            plain(&format!("{place}: {severity}[{code}]: {message}"))
        })
        .collect();
    lines.join("\n")
}

fn is_json(file: &Path) -> bool {
    file.extension()
        .is_some_and(|extension| extension.eq_ignore_ascii_case("json"))
}

/// Reads a file, or standard input for `-`.
pub(crate) fn read(file: &Path) -> Result<String, Failure> {
    let mut text = String::new();
    let outcome = if file == Path::new("-") {
        std::io::stdin().read_to_string(&mut text).map(|_| text)
    } else {
        std::fs::read_to_string(file)
    };
    outcome.map_err(|source| Failure::File {
        path: file.to_owned(),
        source,
    })
}

#[cfg(test)]
mod tests {
    use tasker_rules::finding::FindingCode;

    use super::*;

    #[test]
    fn findings_name_the_file_and_the_place_in_it() {
        let findings = [
            Finding::new(
                FindingCode::CycleDetected,
                "steps",
                "a waits for b, b waits for a",
            ),
            Finding::new(
                FindingCode::SchemaInvalid,
                "",
                "line 1, column 2: what is this",
            ),
        ];
        assert_eq!(
            lines_of(Path::new("x.yaml"), &findings),
            "x.yaml:steps: error[CYCLE_DETECTED]: a waits for b, b waits for a\n\
             x.yaml: error[SCHEMA_INVALID]: line 1, column 2: what is this"
        );
    }
}

//! A template as the command line names it: a file, or one that is registered.

use std::path::{Path, PathBuf};
use std::str::FromStr;

use tasker_rules::finding::Finding;
use tasker_rules::template::{self, Limits, Source, Template};

use super::{is_json, lines_of, read};
use crate::failure::Failure;

/// `FILE.yaml`, `FILE.json`, `-`, or `[NAMESPACE/]NAME[@VERSION]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Reference {
    /// A file; - is YAML on standard input.
    File(PathBuf),
    /// The newest version where none is named.
    Registered {
        namespace: String,
        name: String,
        version: Option<String>,
    },
}

impl FromStr for Reference {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let path = Path::new(text);
        let is_file = path
            .extension()
            .is_some_and(|extension| is_json(path) || extension == "yaml" || extension == "yml");
        if is_file || text == "-" {
            return Ok(Self::File(path.to_owned()));
        }
        let (named, version) = match text.split_once('@') {
            Some((named, version)) => (named, Some(version)),
            None => (text, None),
        };
        let (namespace, name) = named.split_once('/').unwrap_or(("default", named));
        let is_word = |word: &str| !word.is_empty() && !word.contains(['/', '@']);
        if is_word(namespace) && is_word(name) && version.is_none_or(is_word) {
            return Ok(Self::Registered {
                namespace: namespace.to_owned(),
                name: name.to_owned(),
                version: version.map(str::to_owned),
            });
        }
        Err("neither a file (.yaml, .yml, .json) nor NAMESPACE/NAME@VERSION")
    }
}

impl Reference {
    /// The template, checked as at registration. Only one that is registered needs the database.
    pub(crate) async fn template(&self, database_url: Option<&str>) -> Result<Template, Failure> {
        match self {
            Self::File(file) => {
                let text = read(file)?;
                let json = is_json(file).then(|| serde_json::from_str(&text));
                let source = match json {
                    Some(Ok(json)) => Source::Json(json),
                    Some(Err(_)) | None => Source::Yaml(&text),
                };
                checked(source, file)
            }
            Self::Registered {
                namespace,
                name,
                version,
            } => {
                let client = crate::connect(database_url.map(str::to_owned)).await?;
                let registered = client
                    .get_template(name, namespace, version.as_deref())
                    .await?;
                let definition = serde_json::from_str(registered.definition.get())?;
                checked(Source::Json(definition), Path::new(name))
            }
        }
    }
}

fn checked(source: Source<'_>, place: &Path) -> Result<Template, Failure> {
    let checked = template::check(source, None, &Limits::default());
    checked.template.ok_or_else(|| {
        let errors: Vec<Finding> = checked
            .findings
            .into_iter()
            .filter(Finding::is_error)
            .collect();
        eprintln!("{}", lines_of(place, &errors));
        Failure::InvalidTemplates
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn registered(namespace: &str, name: &str, version: Option<&str>) -> Reference {
        Reference::Registered {
            namespace: namespace.to_owned(),
            name: name.to_owned(),
            version: version.map(str::to_owned),
        }
    }

    #[test]
    fn files_are_told_from_what_is_registered_by_their_endings() {
        for file in ["a.yaml", "dir/a.yml", "a.JSON", "-"] {
            assert_eq!(file.parse(), Ok(Reference::File(file.into())));
        }
        assert_eq!("a".parse(), Ok(registered("default", "a", None)));
        assert_eq!(
            "shop/a@1.0.0".parse(),
            Ok(registered("shop", "a", Some("1.0.0")))
        );
        for odd in ["", "/a", "a/", "a/b/c", "a@", "a@1@2"] {
            assert!(odd.parse::<Reference>().is_err(), "{odd}");
        }
    }
}

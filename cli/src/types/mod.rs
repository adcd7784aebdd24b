//! `tasker-ctl generate types`: types of a template's context, inputs, results and events, in four languages.
//!
//! | module | holds |
//! |---|---|
//! | `template` | which types a template has |
//! | `read`, `merge`, `facts` | JSON Schemas read as types |
//! | `model` | types as every language has them |
//! | `code` | what the code of all languages has in common: names, comments |
//! | `rust`, `python`, `typescript`, `ruby` | the code |

mod code;
mod facts;
mod merge;
mod model;
mod python;
mod read;
mod ruby;
mod rust;
mod template;
mod typescript;

use tasker_rules::template::Template;

use self::code::Code;
use crate::languages::{Case, Language, identifier};

/// In the first lines of what is written, by which it is known again.
pub(crate) const MARK: &str = "Written by `tasker-ctl generate types`";

/// The code. The same template gives the same text, whether it comes from a file or is registered.
pub(crate) fn text(template: &Template, language: Language) -> String {
    let model = template::model(template);
    let code = Code::new(&model, language);
    let heads = [
        format!(
            "Types of the template {}/{} {}.",
            template.namespace_name, template.name, template.version
        ),
        format!("{MARK}, which writes over changes."),
    ];
    match language {
        Language::Rust => rust::text(&code, &heads),
        Language::Python => python::text(&code, &heads),
        Language::TypeScript => typescript::text(&code, &heads),
        Language::Ruby => {
            let module = identifier(&template.name, Case::Pascal, "Workflow") + "Types";
            ruby::text(&code, &heads, &module)
        }
    }
}

#[cfg(test)]
mod tests;

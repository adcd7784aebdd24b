//! What the code of all languages has in common.

use std::collections::HashSet;
use std::fmt::Write;

use super::model::{Definition, Field, Model, Object};
use crate::languages::{Case, Language, Names};

/// A model with the names that its definitions have in a language.
pub(super) struct Code<'a> {
    pub(super) model: &'a Model,
    language: Language,
    /// By their places.
    names: Vec<String>,
    /// The places in the order of the code.
    order: Vec<usize>,
    all_names: HashSet<String>,
}

impl<'a> Code<'a> {
    pub(super) fn new(model: &'a Model, language: Language) -> Self {
        let mut names = vec![String::new(); model.definitions.len()];
        let order = model.order();
        let mut given = Names::default();
        // What the template names keeps its name, whatever the parts of others are called.
        for &place in model.roots.iter().chain(&order) {
            if names[place].is_empty() {
                let words = &model.definitions[place].words;
                names[place] = given.give(language, words, Case::Pascal, "Type");
            }
        }
        Self {
            model,
            language,
            all_names: names.iter().cloned().collect(),
            names,
            order,
        }
    }

    pub(super) fn name(&self, place: usize) -> &str {
        &self.names[place]
    }

    /// Whether a definition has this name.
    pub(super) fn is_name(&self, name: &str) -> bool {
        self.all_names.contains(name)
    }

    /// The definitions in the order of the code, with their places.
    pub(super) fn definitions(&self) -> impl Iterator<Item = (usize, &'a Definition)> {
        let model = self.model;
        let order = self.order.iter();
        order.map(|&place| (place, &model.definitions[place]))
    }

    /// The fields of an object with their names in the language.
    pub(super) fn fields(&self, object: &'a Object) -> Vec<(String, &'a Field)> {
        let mut names = Names::default();
        let fields = object.fields.iter();
        fields
            .map(|field| {
                let case = match self.language {
                    Language::TypeScript => Case::Camel,
                    _ => Case::Snake,
                };
                (names.give(self.language, &field.name, case, "field"), field)
            })
            .collect()
    }
}

/// The lines of comments, without what would end a comment or show it otherwise than it is.
pub(super) fn lines(docs: &[String]) -> impl Iterator<Item = String> {
    docs.iter()
        .flat_map(|text| text.split(['\n', '\r', '\u{85}', '\u{2028}', '\u{2029}']))
        .map(|line| {
            let shown = line.trim().chars().map(|c| match c {
                '\u{200e}'
                | '\u{200f}'
                | '\u{202a}'..='\u{202e}'
                | '\u{2066}'..='\u{2069}'
                | '\u{feff}' => '\u{fffd}',
                c if c.is_control() => ' ',
                c => c,
            });
            shown.collect::<String>()
        })
        .filter(|line| !line.is_empty())
}

/// A comment, each line after a mark.
pub(super) fn comment(indent: &str, mark: &str, docs: &[String]) -> String {
    let mut text = String::new();
    for line in lines(docs) {
        let _ = writeln!(text, "{indent}{mark} {line}");
    }
    text
}

/// A text as most languages write one: in double quotes, with the escapes of JSON.
pub(super) fn quoted(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

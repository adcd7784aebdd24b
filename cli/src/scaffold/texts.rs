//! The texts of `cli/scaffolds/`: in sections, with places for names.

/// A text in sections. Each begins at a line `=== name` and goes to the next; blank lines at its ends don't count.
#[derive(Debug, Clone, Copy)]
pub(super) struct Sections(pub(super) &'static str);

impl Sections {
    /// A section; empty where there is none of that name.
    pub(super) fn get(self, name: &str) -> &'static str {
        self.0
            .split("=== ")
            .find_map(|section| section.strip_prefix(name)?.strip_prefix('\n'))
            .map_or("", |text| text.trim_matches('\n'))
    }
}

/// The text with `@key@` replaced by the value.
pub(super) fn filled(text: &str, values: &[(&str, &str)]) -> String {
    values.iter().fold(text.to_owned(), |text, (key, value)| {
        text.replace(&format!("@{key}@"), value)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_section_is_found_by_its_whole_name() {
        let sections = Sections("=== one_more\n1\n\n=== one\n\n2\n3\n=== last\n4\n");
        assert_eq!(
            ["one", "last", "two"].map(|name| sections.get(name)),
            ["2\n3", "4", ""]
        );
    }

    #[test]
    fn places_are_filled_and_what_isnt_named_stays() {
        assert_eq!(filled("@a@ @b@ @a@", &[("a", "1")]), "1 @b@ 1");
    }
}

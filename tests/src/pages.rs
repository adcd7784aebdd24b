//! The Markdown pages of the project: their links and headings.

use std::path::{Path, PathBuf};

use crate::folders::project_file;

/// Folders that hold what is built, not what is written.
const NOT_OURS: [&str; 5] = [".build", ".demo", ".git", "dist", "target"];

/// A page, by its path from the project's root.
#[derive(Debug)]
pub struct Page {
    /// Its path.
    pub path: PathBuf,
    /// The targets of its links, as they are written.
    pub links: Vec<String>,
    /// The names that its headings have in links.
    pub anchors: Vec<String>,
}

/// All pages.
pub fn pages() -> anyhow::Result<Vec<Page>> {
    let root = project_file("")?;
    let mut found = Vec::new();
    let mut folders = vec![root.clone()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder)? {
            let path = entry?.path();
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            if path.is_dir() {
                if !NOT_OURS.contains(&name.as_ref()) {
                    folders.push(path);
                }
            } else if path.extension().is_some_and(|extension| extension == "md") {
                let text = std::fs::read_to_string(&path)?;
                let path = path.strip_prefix(&root)?.to_owned();
                found.push(Page {
                    path,
                    links: links(&text),
                    anchors: anchors(&text),
                });
            }
        }
    }
    found.sort_by(|a, b| a.path.cmp(&b.path));
    Ok(found)
}

/// The lines that aren't in blocks of code.
fn prose(text: &str) -> impl Iterator<Item = &str> {
    let mut in_code = false;
    text.lines().filter(move |line| {
        let fence = line.trim_start().starts_with("```");
        in_code ^= fence;
        !in_code && !fence
    })
}

fn links(text: &str) -> Vec<String> {
    let mut found = Vec::new();
    for line in prose(text) {
        // What is between backticks is no link.
        let outside: String = line.split('`').step_by(2).collect::<Vec<_>>().join("`");
        let mut rest = outside.as_str();
        while let Some((_, after)) = rest.split_once("](") {
            let Some((target, more)) = after.split_once(')') else {
                break;
            };
            found.push(target.split(' ').next().unwrap_or_default().to_owned());
            rest = more;
        }
    }
    found
}

/// As GitHub and mdBook name headings: in small letters, with dashes for spaces and without punctuation.
fn anchors(text: &str) -> Vec<String> {
    let headings = prose(text).filter(|line| line.starts_with('#'));
    headings
        .map(|heading| {
            let text = heading.trim_start_matches('#').trim().to_lowercase();
            let kept = text
                .chars()
                .filter(|c| c.is_alphanumeric() || " -_".contains(*c));
            kept.map(|c| if c == ' ' { '-' } else { c }).collect()
        })
        .collect()
}

/// Where a link of a page leads: a path from the root, and the heading there. `None` when it leaves the project.
#[must_use]
pub fn target(page: &Path, link: &str) -> Option<(PathBuf, Option<String>)> {
    if link.contains("://") || link.starts_with("mailto:") {
        return None;
    }
    let (path, anchor) = match link.split_once('#') {
        Some((path, anchor)) => (path, Some(anchor.to_owned())),
        None => (link, None),
    };
    if path.is_empty() {
        return Some((page.to_owned(), anchor));
    }
    let mut parts: Vec<_> = page
        .parent()
        .into_iter()
        .flat_map(Path::components)
        .collect();
    for part in Path::new(path).components() {
        if part == std::path::Component::ParentDir {
            parts.pop();
        } else if part != std::path::Component::CurDir {
            parts.push(part);
        }
    }
    Some((parts.into_iter().collect(), anchor))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_are_found_outside_code_and_followed_from_their_page() {
        let text = "# A b, c!\n[x](a.md#b) `[y](z.md)` [z](../c.md)\n```\n[no](n.md)\n```\n";
        assert_eq!(links(text), ["a.md#b", "../c.md"]);
        assert_eq!(anchors(text), ["a-b-c"]);
        let page = Path::new("docs/p.md");
        assert_eq!(
            target(page, "a.md#b"),
            Some(("docs/a.md".into(), Some("b".to_owned())))
        );
        assert_eq!(target(page, "../c.md"), Some(("c.md".into(), None)));
        assert_eq!(
            target(page, "#b"),
            Some(("docs/p.md".into(), Some("b".to_owned())))
        );
        assert_eq!(target(page, "https://x.y"), None);
    }
}

//! The pages of the documentation: no link leads nowhere, and the book has them all.

use std::collections::BTreeSet;
use std::path::PathBuf;

use tasker_tests::pages::{pages, target};
use tasker_tests::project_file;

#[test]
fn no_link_leads_nowhere() -> anyhow::Result<()> {
    let pages = pages()?;
    let mut broken = Vec::new();
    for page in &pages {
        for link in &page.links {
            let Some((path, anchor)) = target(&page.path, link) else {
                continue;
            };
            let is_there = project_file(&path.to_string_lossy())?.exists();
            let led_to = pages.iter().find(|page| page.path == path);
            let has_heading = match (&anchor, led_to) {
                (Some(anchor), Some(page)) => page.anchors.contains(anchor),
                (Some(_), None) => false,
                (None, _) => true,
            };
            if !is_there || !has_heading {
                broken.push(format!("{}: {link}", page.path.display()));
            }
        }
    }
    assert!(broken.is_empty(), "{}", broken.join("\n"));
    Ok(())
}

#[test]
fn the_book_has_every_page() -> anyhow::Result<()> {
    let pages = pages()?;
    let summary = PathBuf::from("docs/SUMMARY.md");
    let listed: BTreeSet<PathBuf> = pages
        .iter()
        .filter(|page| page.path == summary)
        .flat_map(|page| &page.links)
        .filter_map(|link| Some(target(&summary, link)?.0))
        .collect();
    let missing: Vec<String> = pages
        .iter()
        .filter(|page| page.path != summary && !listed.contains(&page.path))
        .map(|page| page.path.display().to_string())
        .collect();
    assert!(missing.is_empty(), "docs/SUMMARY.md lacks {missing:?}");
    Ok(())
}

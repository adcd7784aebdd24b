//! A graph as a Mermaid flowchart, as Markdown pages show it.

use std::fmt::Write as _;

use super::Node;
use super::layers::Graph;
use super::look::{CLASSES, class_of};
use crate::output::plain;

/// The flowchart; each step by its place in the list, so that no name can be a word of the language.
pub(crate) fn mermaid(nodes: &[Node]) -> String {
    let graph = Graph::of(nodes);
    let mut text = "flowchart TD\n".to_owned();
    for (place, node) in nodes.iter().enumerate() {
        let mut label = escaped(&node.name);
        if let Some(subtitle) = node.subtitle() {
            let _ = write!(label, "<br/>{}", escaped(&subtitle));
        }
        let (open, close) = shape_of(&node.kind);
        let class = class_of(&node.standing);
        let _ = writeln!(text, "  s{place}{open}\"{label}\"{close}:::{class}");
    }
    for (place, before) in graph.before.iter().enumerate() {
        for other in before {
            let _ = writeln!(text, "  s{other} --> s{place}");
        }
    }
    for (name, fill, stroke) in CLASSES {
        let dashes = if name == "absent" {
            ",stroke-dasharray:4 3"
        } else {
            ""
        };
        let _ = writeln!(
            text,
            "  classDef {name} fill:{fill},stroke:{stroke},color:#222222{dashes}"
        );
    }
    text
}

fn shape_of(kind: &str) -> (&'static str, &'static str) {
    match kind {
        "decision" => ("{", "}"),
        "signal" | "timer" => ("([", "])"),
        "task" | "map" | "batch_worker" => ("[[", "]]"),
        _ => ("[", "]"),
    }
}

/// Mermaid's own escapes: a number sign, the character's number, a semicolon.
fn escaped(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for c in plain(text).chars() {
        match c {
            '\n' | '\t' => escaped.push(' '),
            '"' | '#' | '&' | '<' | '>' | ';' | '`' | '\\' => {
                let _ = write!(escaped, "#{};", u32::from(c));
            }
            c => escaped.push(c),
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::drawing::tests::{diamond, node};

    #[test]
    fn steps_and_edges_are_lines_of_a_flowchart() {
        let text = mermaid(&diamond());
        assert!(text.starts_with("flowchart TD\n"), "{text}");
        assert!(
            text.contains("  s1[\"b<br/>in_progress\"]:::running\n"),
            "{text}"
        );
        assert!(
            text.contains("  s1 --> s3\n") && text.contains("  s2 --> s3\n"),
            "{text}"
        );
    }

    #[test]
    fn a_text_cannot_end_its_label() {
        let text = mermaid(&[node("a\"] --> x", &[], "")]);
        assert!(text.contains("s0[\"a#34;] --#62; x\"]:::absent"), "{text}");
    }
}

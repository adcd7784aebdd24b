//! A graph as SVG: layers from left to right, a box a step, a curve an edge. It needs nothing but itself to be shown.

use std::fmt::Write as _;

use unicode_width::UnicodeWidthStr;

use super::Node;
use super::layers::{Graph, float};
use super::look::{CLASSES, class_of};

/// In pixels.
const MARGIN: f64 = 20.0;
const BOX_HEIGHT: f64 = 44.0;
const BETWEEN_BOXES: f64 = 18.0;
const BETWEEN_LAYERS: f64 = 64.0;
const LEAST_WIDTH: f64 = 90.0;
/// Of a character of the title and of the subtitle, on the wide side.
const TITLE_CHARACTER: f64 = 8.2;
const SUBTITLE_CHARACTER: f64 = 6.6;

/// Where a box lies.
#[derive(Debug, Clone, Copy, Default)]
struct Place {
    x: f64,
    y: f64,
    width: f64,
}

/// The picture, under a title for those who can't see it.
pub(crate) fn svg(title: &str, nodes: &[Node]) -> String {
    let mut graph = Graph::of(nodes);
    graph.untangle();
    let (places, width, height) = placed(&graph, nodes);
    let mut text = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width:.0} {height:.0}\" width=\"{width:.0}\" height=\"{height:.0}\" role=\"img\" font-family=\"system-ui, sans-serif\">\n"
    );
    let _ = writeln!(text, "<title>{}</title>", escaped(title));
    text.push_str(&style());
    for (place, before) in graph.before.iter().enumerate() {
        for other in before {
            let _ = writeln!(text, "{}", edge(places[*other], places[place]));
        }
    }
    for (node, place) in nodes.iter().zip(&places) {
        text.push_str(&step(node, *place));
    }
    text.push_str("</svg>\n");
    text
}

fn placed(graph: &Graph, nodes: &[Node]) -> (Vec<Place>, f64, f64) {
    let tallest = float(graph.layers.iter().map(Vec::len).max().unwrap_or(0));
    let height_of =
        |count: f64| (count * BOX_HEIGHT + (count - 1.0) * BETWEEN_BOXES).max(BOX_HEIGHT);
    let inner = height_of(tallest);
    let mut places = vec![Place::default(); nodes.len()];
    let mut x = MARGIN;
    for layer in &graph.layers {
        let widths = layer.iter().map(|place| width_of(&nodes[*place]));
        let width = widths.fold(LEAST_WIDTH, f64::max);
        let mut y = MARGIN + (inner - height_of(float(layer.len()))) / 2.0;
        for place in layer {
            places[*place] = Place { x, y, width };
            y += BOX_HEIGHT + BETWEEN_BOXES;
        }
        x += width + BETWEEN_LAYERS;
    }
    let width = (x - BETWEEN_LAYERS + MARGIN).max(2.0 * MARGIN + LEAST_WIDTH);
    (places, width, inner + 2.0 * MARGIN)
}

fn width_of(node: &Node) -> f64 {
    let title = float(node.name.width()) * TITLE_CHARACTER;
    let subtitle = float(node.subtitle().map_or(0, |text| text.width())) * SUBTITLE_CHARACTER;
    title.max(subtitle) + 24.0
}

fn style() -> String {
    let mut text = "<style>\n.edge{fill:none;stroke:#8a8f98;stroke-width:1.5}\n.name{font-size:14px;fill:#222222}\n.more{font-size:11px;fill:#555555}\n".to_owned();
    for (name, fill, stroke) in CLASSES {
        let dashes = if name == "absent" {
            ";stroke-dasharray:4 3"
        } else {
            ""
        };
        let _ = writeln!(text, ".{name}{{fill:{fill};stroke:{stroke}{dashes}}}");
    }
    text.push_str("</style>\n");
    text.push_str("<defs><marker id=\"arrow\" viewBox=\"0 0 8 8\" refX=\"8\" refY=\"4\" markerWidth=\"7\" markerHeight=\"7\" orient=\"auto\"><path d=\"M0 0L8 4L0 8z\" fill=\"#8a8f98\"/></marker></defs>\n");
    text
}

/// From the right side of one box to the left side of the other; an edge over several layers bends at its ends only.
fn edge(from: Place, to: Place) -> String {
    let (x1, y1) = (from.x + from.width, from.y + BOX_HEIGHT / 2.0);
    let (x2, y2) = (to.x, to.y + BOX_HEIGHT / 2.0);
    let bend = BETWEEN_LAYERS * 0.6;
    format!(
        "<path class=\"edge\" marker-end=\"url(#arrow)\" d=\"M{x1:.1} {y1:.1}C{:.1} {y1:.1} {:.1} {y2:.1} {x2:.1} {y2:.1}\"/>",
        x1 + bend,
        x2 - bend
    )
}

fn step(node: &Node, place: Place) -> String {
    let Place { x, y, width } = place;
    let class = class_of(&node.standing);
    let mut text = format!(
        "<g><rect class=\"{class}\" x=\"{x:.1}\" y=\"{y:.1}\" width=\"{width:.1}\" height=\"{BOX_HEIGHT}\" rx=\"7\" stroke-width=\"1.5\"/>"
    );
    let middle = x + width / 2.0;
    let subtitle = node.subtitle();
    let name_y = y + if subtitle.is_some() { 19.0 } else { 27.0 };
    let _ = write!(
        text,
        "<text class=\"name\" x=\"{middle:.1}\" y=\"{name_y:.1}\" text-anchor=\"middle\">{}</text>",
        escaped(&node.name)
    );
    if let Some(subtitle) = subtitle {
        let _ = write!(
            text,
            "<text class=\"more\" x=\"{middle:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{}</text>",
            y + 35.0,
            escaped(&subtitle)
        );
    }
    text.push_str("</g>\n");
    text
}

/// XML has no way to write most control characters and two more: each becomes the mark for what can't be shown.
fn escaped(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\'' => escaped.push_str("&apos;"),
            '\n' | '\t' => escaped.push(' '),
            c if c.is_control() || matches!(c, '\u{FFFE}' | '\u{FFFF}') => escaped.push('\u{FFFD}'),
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
    fn every_step_has_a_box_and_every_edge_a_curve() {
        let picture = svg("diamond", &diamond());
        assert_eq!(picture.matches("<rect ").count(), 4);
        assert_eq!(picture.matches("<path class=\"edge\"").count(), 4);
        assert!(picture.contains("<title>diamond</title>"));
        assert!(picture.starts_with("<svg ") && picture.ends_with("</svg>\n"));
    }

    #[test]
    fn boxes_of_a_layer_lie_apart_and_layers_follow_each_other() {
        let nodes = diamond();
        let (places, width, height) = placed(&Graph::of(&nodes), &nodes);
        assert!(places[0].x < places[1].x && places[1].x < places[3].x);
        assert!(places[1].y + BOX_HEIGHT < places[2].y);
        assert!(places[3].x + places[3].width < width && places[2].y + BOX_HEIGHT < height);
    }

    #[test]
    fn a_text_stays_a_text() {
        let picture = svg("a<b", &[node("</text>&\"\u{0}\u{FFFF}", &[], "it's")]);
        assert!(
            picture.contains("&lt;/text&gt;&amp;&quot;\u{FFFD}\u{FFFD}"),
            "{picture}"
        );
        assert!(picture.contains("it&apos;s") && picture.contains("<title>a&lt;b</title>"));
    }

    #[test]
    fn a_graph_without_steps_is_a_picture_too() {
        assert!(svg("empty", &[]).contains("viewBox"));
    }
}

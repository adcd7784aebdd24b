//! Graphs of steps, drawn: in a terminal, as Mermaid, as SVG.
//!
//! | module | holds |
//! |---|---|
//! | `layers` | how deep each step lies, and which steps come before which |
//! | `rows` | a row a step, with lanes for what leads from one to the other |
//! | `mermaid`, `svg` | the forms for documents |
//! | `look` | how a state looks |

mod layers;
pub(crate) mod look;
mod mermaid;
mod rows;
mod svg;

pub(crate) use mermaid::mermaid;
pub(crate) use rows::rows;
pub(crate) use svg::svg;

/// A step of a task or of a template.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Node {
    /// Its name.
    pub(crate) name: String,
    /// Its type, as the template names it.
    pub(crate) kind: String,
    /// How it stands.
    pub(crate) standing: Standing,
    /// More about it, where there is more to say.
    pub(crate) note: Option<String>,
    /// The names of the steps it waits for. Names that aren't there are passed over.
    pub(crate) dependencies: Vec<String>,
}

/// How a step stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Standing {
    /// A template's step, which has no state.
    Planned,
    /// Its task hasn't made it, and may never do.
    NotCreated,
    /// In this state.
    In(String),
}

impl Standing {
    /// Of a task's step, by its state.
    pub(crate) fn of(state: Option<&str>) -> Self {
        state.map_or(Self::NotCreated, |state| Self::In(state.to_owned()))
    }

    fn state(&self) -> Option<&str> {
        match self {
            Self::In(state) => Some(state),
            Self::Planned | Self::NotCreated => None,
        }
    }
}

impl Node {
    /// The second line of its box, if it has one.
    fn subtitle(&self) -> Option<String> {
        let kind = (self.kind != "standard").then_some(self.kind.as_str());
        let parts: Vec<&str> = [kind, self.standing.state(), self.note.as_deref()]
            .into_iter()
            .flatten()
            .collect();
        (!parts.is_empty()).then(|| parts.join(", "))
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    pub(crate) fn node(name: &str, dependencies: &[&str], state: &str) -> Node {
        Node {
            name: name.to_owned(),
            kind: "standard".to_owned(),
            standing: Standing::of((!state.is_empty()).then_some(state)),
            note: None,
            dependencies: dependencies.iter().map(|name| (*name).to_owned()).collect(),
        }
    }

    pub(crate) fn diamond() -> Vec<Node> {
        vec![
            node("start", &[], "complete"),
            node("b", &["start"], "in_progress"),
            node("c", &["start"], "error"),
            node("end", &["b", "c"], "pending"),
        ]
    }

    #[test]
    fn what_is_plain_about_a_step_isnt_said() {
        assert_eq!(node("a", &[], "").subtitle(), None);
        let mut timer = node("a", &[], "in_progress");
        timer.kind = "timer".to_owned();
        assert_eq!(timer.subtitle().as_deref(), Some("timer, in_progress"));
    }
}

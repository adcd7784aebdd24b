//! Types as every language has them, between the schemas and the code.

use serde_json::Value;

/// All types of a template.
#[derive(Debug, Default)]
pub(super) struct Model {
    pub(super) definitions: Vec<Definition>,
    /// Those that the template names, in its order; the others are parts of them.
    pub(super) roots: Vec<usize>,
}

/// A type with a name.
#[derive(Debug)]
pub(super) struct Definition {
    /// Its name in words; each language makes its own of them.
    pub(super) words: String,
    /// What is told about it, a paragraph each.
    pub(super) docs: Vec<String>,
    pub(super) shape: Shape,
}

/// What a type with a name is.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Shape {
    Object(Object),
    /// One of some texts.
    Enum(Vec<String>),
    /// One of several types.
    Union(Vec<Type>),
    /// Another name of a type.
    Alias(Type),
}

#[derive(Debug, Clone, PartialEq)]
pub(super) struct Object {
    pub(super) fields: Vec<Field>,
    pub(super) rest: Rest,
}

/// What becomes of fields that an object's schema doesn't name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Rest {
    /// Nothing is said of them.
    Ignored,
    /// There are none.
    Refused,
    /// There may be some.
    Kept,
}

#[derive(Debug, Clone, PartialEq)]
pub(super) struct Field {
    /// Its name in JSON.
    pub(super) name: String,
    pub(super) docs: Vec<String>,
    pub(super) is_required: bool,
    pub(super) of: Type,
}

/// A type where it is used.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Type {
    /// Any JSON.
    Any,
    Null,
    Boolean,
    Integer(Width),
    Number,
    Text,
    /// One of some values that aren't all texts; none is null.
    Constants(Vec<Value>),
    List(Box<Type>),
    /// An object whose fields are all of one type.
    Map(Box<Type>),
    /// The type, or null.
    Nullable(Box<Type>),
    /// A definition, by its place.
    Named(usize),
}

/// Where the integers of a schema lie.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Width {
    /// In 64 bits with a sign, or the schema doesn't say.
    Signed,
    /// In 64 bits, from 0.
    Unsigned,
    /// The schema allows more than 64 bits hold.
    Unbounded,
}

impl Type {
    pub(super) fn or_null(self) -> Self {
        match self {
            Self::Any | Self::Null | Self::Nullable(_) => self,
            of => Self::Nullable(Box::new(of)),
        }
    }

    pub(super) fn list(self) -> Self {
        Self::List(Box::new(self))
    }

    /// The definitions that are named in it; `direct` leaves those out that lie behind a list or a map.
    fn named(&self, direct: bool) -> Option<usize> {
        match self {
            Self::Named(place) => Some(*place),
            Self::Nullable(of) => of.named(direct),
            Self::List(of) | Self::Map(of) if !direct => of.named(direct),
            _ => None,
        }
    }
}

impl Shape {
    fn types(&self) -> Vec<&Type> {
        match self {
            Self::Object(object) => object.fields.iter().map(|field| &field.of).collect(),
            Self::Enum(_) => Vec::new(),
            Self::Union(types) => types.iter().collect(),
            Self::Alias(of) => vec![of],
        }
    }
}

impl Model {
    /// Adds a definition; gives its place.
    pub(super) fn add(&mut self, words: &str, docs: Vec<String>, shape: Shape) -> usize {
        self.definitions.push(Definition {
            words: words.to_owned(),
            docs,
            shape,
        });
        self.definitions.len() - 1
    }

    /// The places of the definitions that one names in itself.
    pub(super) fn parts(&self, place: usize) -> Vec<usize> {
        let types = self.definitions[place].shape.types();
        types.into_iter().filter_map(|of| of.named(false)).collect()
    }

    /// The places of all that is used, each before its parts, where that is possible.
    pub(super) fn order(&self) -> Vec<usize> {
        let mut order = Vec::new();
        let mut seen = vec![false; self.definitions.len()];
        let mut is_root = vec![false; self.definitions.len()];
        for &root in &self.roots {
            is_root[root] = true;
        }
        let mut rest: Vec<usize> = self.roots.iter().rev().copied().collect();
        while let Some(place) = rest.pop() {
            if std::mem::replace(&mut seen[place], true) {
                continue;
            }
            order.push(place);
            // A root stands where the template has it, also when something before uses it.
            let parts = self.parts(place).into_iter().rev();
            rest.extend(parts.filter(|part| !is_root[*part]));
        }
        order
    }

    /// Whether a value of the definition at `from` would hold one of that at `to` within itself, not behind a list or a map.
    pub(super) fn holds(&self, from: usize, to: usize) -> bool {
        self.reaches(from, to, |shape| {
            shape
                .types()
                .iter()
                .filter_map(|of| of.named(true))
                .collect()
        })
    }

    /// Whether an alias is told by way of itself, with nothing but aliases between.
    pub(super) fn is_circular_alias(&self, place: usize) -> bool {
        let of_aliases = |shape: &Shape| match shape {
            Shape::Alias(of) => of.named(false).into_iter().collect(),
            _ => Vec::new(),
        };
        let next = of_aliases(&self.definitions[place].shape);
        next.into_iter()
            .any(|next| self.reaches(next, place, of_aliases))
    }

    fn reaches(&self, from: usize, to: usize, next: impl Fn(&Shape) -> Vec<usize>) -> bool {
        let mut seen = vec![false; self.definitions.len()];
        let mut rest = vec![from];
        while let Some(place) = rest.pop() {
            if place == to {
                return true;
            }
            if !std::mem::replace(&mut seen[place], true) {
                rest.extend(next(&self.definitions[place].shape));
            }
        }
        false
    }

    /// An alias that is nothing but itself says nothing.
    pub(super) fn cut_empty_circles(&mut self) {
        for place in 0..self.definitions.len() {
            let mut seen = vec![place];
            let mut next = place;
            while let Shape::Alias(of) = &self.definitions[next].shape {
                let Some(further) = of.named(true) else { break };
                if seen.contains(&further) {
                    self.definitions[place].shape = Shape::Alias(Type::Any);
                    break;
                }
                seen.push(further);
                next = further;
            }
        }
    }
}

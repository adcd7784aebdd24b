//! Which steps there are, what each waits for, and what its handler does.

use super::options::{NewTemplate, Shape};
use crate::languages::{Language, Names};

/// A template before it is written.
#[derive(Debug)]
pub(super) struct Plan {
    pub(super) name: String,
    pub(super) namespace: String,
    pub(super) language: Language,
    pub(super) steps: Vec<PlannedStep>,
}

#[derive(Debug)]
pub(super) struct PlannedStep {
    pub(super) name: String,
    pub(super) role: Role,
    pub(super) dependencies: Vec<String>,
    /// The name that the template calls its handler by.
    pub(super) callable: String,
    /// The name of the handler in its language.
    pub(super) function: String,
}

/// What a step's handler does. Each has a section of its own in the texts of a language.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Role {
    /// Reads the context.
    First,
    /// Reads the results of the steps before.
    Next,
    /// Lists the items of a map.
    List,
    /// Works on one item.
    Element,
    /// Has the results of all items.
    Gather,
    /// Decides which branch exists.
    Choose,
    /// May exist.
    Branch,
    /// Joins the branches that exist.
    Join,
    /// Cuts a batch.
    Cut,
    /// Works on one part of it.
    Part,
    /// Adds the parts up.
    Total,
}

type Row = (&'static str, Role, &'static [&'static str]);

const LINEAR: &[Row] = &[
    ("fetch", Role::First, &[]),
    ("transform", Role::Next, &["fetch"]),
    ("store", Role::Next, &["transform"]),
];
const DIAMOND: &[Row] = &[
    ("prepare", Role::First, &[]),
    ("left", Role::Next, &["prepare"]),
    ("right", Role::Next, &["prepare"]),
    ("combine", Role::Next, &["left", "right"]),
];
const DECISION: &[Row] = &[
    ("choose", Role::Choose, &[]),
    ("approve", Role::Branch, &["choose"]),
    ("review", Role::Branch, &["choose"]),
    ("conclude", Role::Join, &["approve", "review"]),
];
const MAP: &[Row] = &[
    ("list_items", Role::List, &[]),
    ("process_item", Role::Element, &["list_items"]),
    ("gather", Role::Gather, &["process_item"]),
];
const BATCH: &[Row] = &[
    ("split", Role::Cut, &[]),
    ("process_part", Role::Part, &["split"]),
    ("add_up", Role::Total, &["process_part"]),
];

impl Plan {
    pub(super) fn of(options: &NewTemplate) -> Self {
        let mut plan = Self {
            name: options.name.clone(),
            namespace: options.namespace.clone(),
            language: options.language,
            steps: Vec::new(),
        };
        let mut names = Names::default();
        let mut push = |name: &str, role, dependencies: Vec<String>| {
            let case = plan.language.case_of_functions();
            plan.steps.push(PlannedStep {
                name: name.to_owned(),
                role,
                dependencies,
                callable: format!("{}.{name}", plan.name),
                function: names.give(plan.language, name, case, "step"),
            });
        };
        if options.steps.is_empty() {
            for (name, role, dependencies) in rows(options.shape) {
                let dependencies = dependencies.iter().map(|&name| name.to_owned());
                push(name, *role, dependencies.collect());
            }
        }
        for (position, name) in options.steps.iter().enumerate() {
            let before = position
                .checked_sub(1)
                .and_then(|before| options.steps.get(before));
            let role = if before.is_some() {
                Role::Next
            } else {
                Role::First
            };
            push(name, role, before.cloned().into_iter().collect());
        }
        plan
    }

    pub(super) fn has(&self, roles: &[Role]) -> bool {
        self.steps.iter().any(|step| roles.contains(&step.role))
    }
}

fn rows(shape: Shape) -> &'static [Row] {
    match shape {
        Shape::Linear => LINEAR,
        Shape::Diamond => DIAMOND,
        Shape::Decision => DECISION,
        Shape::Map => MAP,
        Shape::Batch => BATCH,
    }
}

impl Role {
    /// The name of its section.
    pub(super) const fn section(self) -> &'static str {
        match self {
            Self::First => "first",
            Self::Next => "next",
            Self::List => "list",
            Self::Element => "element",
            Self::Gather => "gather",
            Self::Choose => "choose",
            Self::Branch => "branch",
            Self::Join => "join",
            Self::Cut => "cut",
            Self::Part => "part",
            Self::Total => "total",
        }
    }
}

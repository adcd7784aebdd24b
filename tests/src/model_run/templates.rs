//! The templates of a run.

use std::rc::Rc;

use crate::model::{Chance, Definition, Kind, Millis, Retry, Template};

const RANDOM_TEMPLATES: usize = 8;

fn step(name: &str, dependencies: &[usize], max_attempts: i32, delay: Millis) -> Definition {
    Definition {
        name: name.to_owned(),
        kind: Kind::Plain,
        dependencies: dependencies.to_vec(),
        retry: Retry {
            max_attempts,
            delay,
        },
        undo: None,
    }
}

fn plain(name: &str, blocks: bool, defers: bool) -> Template {
    Template {
        name: name.to_owned(),
        steps: vec![
            step("a", &[], 2, 0),
            step("b", &[0], 3, 2_000),
            step("c", &[0], 1, 0),
            step("d", &[1, 2], 2, 10_000),
            step("e", &[3], 3, 0),
        ],
        blocks,
        defers,
    }
}

/// Those of plain steps, and more of all kinds of steps.
pub(super) fn all(chance: &mut Chance) -> Vec<Rc<Template>> {
    let short = Template {
        name: "short".to_owned(),
        steps: vec![step("a", &[], 2, 0)],
        blocks: false,
        defers: false,
    };
    let mut templates = vec![
        Rc::new(short),
        Rc::new(plain("plain", false, false)),
        Rc::new(plain("blocking", true, false)),
        Rc::new(plain("deferred", false, true)),
        Rc::new(plain("deferred_blocking", true, true)),
    ];
    for number in 0..RANDOM_TEMPLATES {
        let template = Template::random(&format!("random_{number}"), &templates, chance);
        templates.push(Rc::new(template));
    }
    templates
}

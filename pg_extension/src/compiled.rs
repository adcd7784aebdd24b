//! The compiled templates of this backend, read once each and kept.
//!
//! A registered template never changes, so what is kept never grows stale; only in another edition of the extension everything is read anew. What is kept is
//! bounded by the number of steps.

use std::cell::{OnceCell, RefCell};
use std::collections::HashMap;
use std::rc::Rc;

use pgrx::{Spi, pg_sys};
use serde_json::Value;
use tasker_rules::graph::{CompiledStep, CompiledTemplate, Place};
use tasker_rules::key::number_of;
use tasker_rules::schema::Schema;

use crate::edition::edition;
use crate::engine::is_late_step;
use crate::error::Error;

/// Kept at most, over all templates; a compiled step takes about a kilobyte.
const MAX_KEPT_STEPS: usize = 200_000;

/// A template as this backend keeps it.
pub(crate) struct Kept {
    pub(crate) id: i32,
    pub(crate) template: CompiledTemplate,
    pub(crate) queue_name: String,
    /// Each step's handler as its worker is given it, by its number.
    handlers: HashMap<u32, String>,
    /// Which steps are locked late.
    late: Vec<bool>,
    /// Whether nothing in it is decided, joined or made while a task runs; asked of many steps, and found out of all.
    pub(crate) is_static: bool,
    input_schema: OnceCell<Option<Schema>>,
    result_schemas: RefCell<HashMap<i32, Rc<Schema>>>,
    event_schemas: RefCell<HashMap<(i32, usize), Rc<Schema>>>,
}

struct Cache {
    edition: pg_sys::Oid,
    steps: usize,
    templates: HashMap<i32, Rc<Kept>>,
}

thread_local! {
    static CACHE: RefCell<Cache> = RefCell::new(Cache { edition: pg_sys::InvalidOid, steps: 0, templates: HashMap::new() });
}

/// The template of a key.
pub(crate) fn template(id: i32) -> Result<Rc<Kept>, Error> {
    let edition = edition();
    let kept = CACHE.with_borrow_mut(|cache| {
        if cache.edition != edition {
            *cache = Cache {
                edition,
                steps: 0,
                templates: HashMap::new(),
            };
        }
        cache.templates.get(&id).cloned()
    });
    if let Some(kept) = kept {
        return Ok(kept);
    }
    let read = Rc::new(read(id)?);
    CACHE.with_borrow_mut(|cache| {
        if cache.steps + read.template.steps.len() > MAX_KEPT_STEPS {
            cache.templates.clear();
            cache.steps = 0;
        }
        cache.steps += read.template.steps.len();
        cache.templates.insert(id, Rc::clone(&read));
    });
    Ok(read)
}

fn read(id: i32) -> Result<Kept, Error> {
    let (compiled, queue_name) = Spi::connect(|client| {
        let row = client
            .select(
                "select t.compiled::text, n.queue_name from tasker.templates t join tasker.namespaces n on n.namespace_id = t.namespace_id
                 where t.template_id = $1",
                Some(1),
                &[id.into()],
            )?
            .first();
        if row.is_empty() {
            return Err(Error::TemplateGone(id));
        }
        row.get_two::<String, String>().map_err(Error::from)
    })?;
    let (Some(compiled), Some(queue_name)) = (compiled, queue_name) else {
        return Err(Error::TemplateGone(id));
    };
    let template: CompiledTemplate = serde_json::from_str(&compiled)
        .map_err(|source| Error::TemplateUnreadable { id, source })?;
    let handlers = template
        .steps
        .iter()
        .chain(&template.compensations)
        .map(|step| (step.number, step.handler.to_string()))
        .collect();
    let late = template
        .steps
        .iter()
        .map(|step| is_late_step(&template, step))
        .collect();
    Ok(Kept {
        id,
        is_static: template.is_static(),
        template,
        queue_name,
        handlers,
        late,
        input_schema: OnceCell::new(),
        result_schemas: RefCell::default(),
        event_schemas: RefCell::default(),
    })
}

impl Kept {
    /// The step of a number; that of an instance is the one it is an instance of.
    pub(crate) fn step(&self, number: i32) -> Result<&CompiledStep, Error> {
        self.place(number).map(|place| place.step)
    }

    /// What a number within a task stands for.
    pub(crate) fn place(&self, number: i32) -> Result<Place<'_>, Error> {
        u32::try_from(number)
            .ok()
            .and_then(|number| self.template.place(number))
            .ok_or(Error::StepGone {
                template_id: self.id,
                number,
            })
    }

    /// Whether a step is locked late; instances are.
    pub(crate) fn is_late(&self, number: i32) -> bool {
        usize::try_from(number)
            .ok()
            .and_then(|number| self.late.get(number.checked_sub(1)?))
            .copied()
            .unwrap_or(true)
    }

    /// The handler of a step by its key, as JSON text.
    pub(crate) fn handler_text(&self, step: u128) -> &str {
        self.template
            .place(number_of(step))
            .and_then(|place| self.handlers.get(&place.step.number))
            .map_or("null", String::as_str)
    }

    /// The names of steps.
    pub(crate) fn names(&self, numbers: &[u32]) -> Vec<String> {
        numbers
            .iter()
            .filter_map(|&number| self.template.step(number))
            .map(|step| step.name.clone())
            .collect()
    }

    /// The schema of contexts, if there is one.
    pub(crate) fn input_schema(&self) -> Result<Option<&Schema>, Error> {
        if let Some(schema) = self.input_schema.get() {
            return Ok(schema.as_ref());
        }
        let schema = self
            .template
            .input_schema
            .as_ref()
            .map(|schema| self.compile(schema))
            .transpose()?;
        Ok(self.input_schema.get_or_init(|| schema).as_ref())
    }

    /// The schema of a step's results, if there is one.
    pub(crate) fn result_schema(&self, number: i32) -> Result<Option<Rc<Schema>>, Error> {
        let place = self.place(number)?;
        // What stands for its instances has no result of its own: theirs are checked.
        if place.instance.is_none() && place.step.details.instances().is_some() {
            return Ok(None);
        }
        let number = place.step.number as i32;
        if let Some(schema) = self.result_schemas.borrow().get(&number) {
            return Ok(Some(Rc::clone(schema)));
        }
        let Some(schema) = &self.step(number)?.result_schema else {
            return Ok(None);
        };
        let schema = Rc::new(self.compile(schema)?);
        self.result_schemas
            .borrow_mut()
            .insert(number, Rc::clone(&schema));
        Ok(Some(schema))
    }

    /// The schema of the payload of an event that a step publishes, by its place among them, if there is one.
    pub(crate) fn event_schema(
        &self,
        number: i32,
        place: usize,
    ) -> Result<Option<Rc<Schema>>, Error> {
        if let Some(schema) = self.event_schemas.borrow().get(&(number, place)) {
            return Ok(Some(Rc::clone(schema)));
        }
        let event = self.step(number)?.publishes_events.get(place);
        let Some(schema) = event.and_then(|event| event.schema.as_ref()) else {
            return Ok(None);
        };
        let schema = Rc::new(self.compile(schema)?);
        self.event_schemas
            .borrow_mut()
            .insert((number, place), Rc::clone(&schema));
        Ok(Some(schema))
    }

    fn compile(&self, schema: &Value) -> Result<Schema, Error> {
        Schema::compile(schema).map_err(|error| Error::SchemaUnusable {
            id: self.id,
            message: error.to_string(),
        })
    }
}

//! Which types a template has: of its context, of what each step is given and returns, of its events.

use std::collections::HashMap;

use serde_json::{Value, json};
use tasker_rules::template::{FailureStrategy, StepTemplate, StepType, Template};

use super::model::{Field, Model, Object, Rest, Shape, Type, Width};
use super::read::Reader;

/// All types of the template.
pub(super) fn model(template: &Template) -> Model {
    let mut types = Types {
        reader: Reader::default(),
        steps: template
            .steps
            .iter()
            .map(|step| (step.name.as_str(), step))
            .collect(),
        results: HashMap::new(),
        elements: HashMap::new(),
    };
    types.context(template);
    for step in &template.steps {
        types.result(step);
    }
    for step in &template.steps {
        types.inputs(step);
        types.dependencies(step);
    }
    types.events(template);
    let mut model = types.reader.model;
    model.cut_empty_circles();
    model
}

struct Types<'a> {
    reader: Reader,
    steps: HashMap<&'a str, &'a StepTemplate>,
    /// The types of results, of an instance where a step has many, by the names of steps.
    results: HashMap<&'a str, usize>,
    /// The types of how the instances of batch workers ended.
    elements: HashMap<&'a str, usize>,
}

impl<'a> Types<'a> {
    fn context(&mut self, template: &Template) {
        let mut schema = template
            .input_schema
            .clone()
            .unwrap_or_else(|| json!({"type": "object"}));
        filled_up(&mut schema);
        self.reader.root(
            "context",
            "What a task is created with, defaults filled in.",
            &schema,
        );
    }

    fn result(&mut self, step: &'a StepTemplate) {
        let of_type;
        let schema = match (&step.result_schema, step.step_type) {
            (Some(schema), _) => schema,
            (None, StepType::Timer) => {
                of_type = json!({"type": "object", "required": ["fired_at"], "properties": {"fired_at": {"type": "string", "format": "date-time"}}});
                &of_type
            }
            // A result that stands in for the signal needn't satisfy the schema of its payload.
            (None, StepType::Signal) => {
                let signal = step
                    .signal
                    .as_ref()
                    .filter(|signal| signal.on_timeout.is_none());
                match signal.and_then(|signal| signal.schema.as_ref()) {
                    Some(schema) => schema,
                    None => return,
                }
            }
            (None, _) => return,
        };
        let many = matches!(step.step_type, StepType::Map | StepType::BatchWorker);
        let about = if many {
            format!("What an instance of the step {} returns.", step.name)
        } else {
            format!("What the step {} returns.", step.name)
        };
        let place = self
            .reader
            .root(&format!("{} result", step.name), &about, schema);
        self.results.insert(&step.name, place);
    }

    /// The type of a step's result; any JSON where no schema says it.
    fn result_of(&self, name: &str) -> Type {
        self.results
            .get(name)
            .map_or(Type::Any, |place| Type::Named(*place))
    }

    /// What an instance of a map or a batch is given.
    fn inputs(&mut self, step: &StepTemplate) {
        let own = match step.step_type {
            StepType::Map => field(
                "item",
                "The element that is this instance's.",
                self.item(step),
            ),
            StepType::BatchWorker => field(
                "cursor",
                "The part of the work that is this instance's.",
                Type::Any,
            ),
            _ => return,
        };
        let whole = Type::Integer(Width::Unsigned);
        let fields = vec![
            own,
            field(
                "index",
                "Its place among the instances, from 0.",
                whole.clone(),
            ),
            field("total", "How many instances there are.", whole),
        ];
        let about = format!(
            "What an instance of the step {} is given of its own.",
            step.name
        );
        self.object(&format!("{} inputs", step.name), about, fields);
    }

    /// The type of the elements that a map goes over, where the schema of the result that holds them says it.
    fn item(&mut self, step: &StepTemplate) -> Type {
        let mut path = step.over.as_deref().unwrap_or_default().split('.');
        let mut of = self.result_of(path.next().unwrap_or_default());
        for name in path {
            let Some(Shape::Object(object)) = self.shape(&of) else {
                return Type::Any;
            };
            let field = object.fields.iter().find(|field| field.name == name);
            of = field.map_or(Type::Any, |field| field.of.clone());
        }
        if let Some(Shape::Alias(Type::List(item))) = self.shape(&of) {
            return item.as_ref().clone();
        }
        match of {
            Type::List(item) => *item,
            _ => Type::Any,
        }
    }

    fn shape(&self, of: &Type) -> Option<&Shape> {
        match of {
            Type::Named(place) => Some(&self.reader.model.definitions[*place].shape),
            _ => None,
        }
    }

    /// The results that a step's handler is given, by the names of the steps.
    fn dependencies(&mut self, step: &StepTemplate) {
        if !step.step_type.needs_handler() {
            return;
        }
        let source = step.over.as_deref().and_then(|over| over.split('.').next());
        let names = step.dependencies.iter().filter(|name| {
            let of_type = self.steps.get(name.as_str()).map(|step| step.step_type);
            // What an instance was cut from it isn't given.
            let is_batch =
                step.step_type == StepType::BatchWorker && of_type == Some(StepType::Batchable);
            !is_batch && source != Some(name.as_str())
        });
        let names: Vec<&str> = names.map(String::as_str).collect();
        if names.is_empty() {
            return;
        }
        let mut fields = Vec::new();
        for name in names {
            let (of, docs) = self.dependency(name);
            fields.push(Field {
                name: name.to_owned(),
                docs,
                is_required: step.step_type != StepType::DeferredConvergence,
                of,
            });
        }
        let about = format!(
            "The results that the step {} is given, by the names of the steps.",
            step.name
        );
        self.object(&format!("{} dependencies", step.name), about, fields);
    }

    /// What a step that depends on this one is given of it.
    fn dependency(&mut self, name: &str) -> (Type, Vec<String>) {
        const TOO_LONG: &str =
            "A reference in place of the list, where the results are too long together.";
        let Some(&step) = self.steps.get(name) else {
            return (Type::Any, Vec::new());
        };
        let tolerates = |strategy: Option<FailureStrategy>| {
            matches!(
                strategy,
                Some(FailureStrategy::ContinueOnFailure | FailureStrategy::Isolate)
            )
        };
        match step.step_type {
            StepType::Map if tolerates(step.failure_strategy) => {
                let docs = "The results in their order; an instance that failed has an `error` in its place: any JSON.";
                (Type::Any.list(), vec![docs.to_owned(), TOO_LONG.to_owned()])
            }
            StepType::Map => (self.result_of(name).list(), vec![TOO_LONG.to_owned()]),
            StepType::BatchWorker => {
                let element = self.element(step);
                (Type::Named(element).list(), vec![TOO_LONG.to_owned()])
            }
            _ => (self.result_of(name), Vec::new()),
        }
    }

    /// How an instance of a batch worker ended.
    fn element(&mut self, step: &'a StepTemplate) -> usize {
        if let Some(place) = self.elements.get(step.name.as_str()) {
            return *place;
        }
        let optional = |field: Field| Field {
            is_required: false,
            ..field
        };
        let fields = vec![
            optional(field("error", "Why it failed.", Type::Any)),
            field(
                "index",
                "Its place among the instances, from 0.",
                Type::Integer(Width::Unsigned),
            ),
            optional(field(
                "result",
                "What it returned.",
                self.result_of(&step.name),
            )),
            field(
                "status",
                "Its state: complete, resolved_manually or error.",
                Type::Text,
            ),
        ];
        let about = format!("How an instance of the step {} ended.", step.name);
        let place = self.object(&format!("{} instance", step.name), about, fields);
        self.elements.insert(&step.name, place);
        place
    }

    /// The payloads of events: of those that the template lists, then of those that its steps publish with a schema of their own.
    fn events(&mut self, template: &'a Template) {
        let listed = template
            .domain_events
            .iter()
            .map(|event| (&event.name, &event.schema));
        let published = template
            .steps
            .iter()
            .flat_map(|step| &step.publishes_events);
        let published = published.map(|event| (&event.name, &event.schema));
        let mut seen: Vec<(&String, &Value)> = Vec::new();
        for (name, schema) in listed.chain(published) {
            let Some(schema) = schema else { continue };
            if !seen.contains(&(name, schema)) {
                seen.push((name, schema));
                let about = format!("What the event {name} says.");
                self.reader.root(&format!("{name} event"), &about, schema);
            }
        }
    }

    fn object(&mut self, words: &str, about: String, fields: Vec<Field>) -> usize {
        let object = Object {
            fields,
            rest: Rest::Ignored,
        };
        let model = &mut self.reader.model;
        let place = model.add(words, vec![about], Shape::Object(object));
        model.roots.push(place);
        place
    }
}

fn field(name: &str, about: &str, of: Type) -> Field {
    Field {
        name: name.to_owned(),
        docs: vec![about.to_owned()],
        is_required: true,
        of,
    }
}

/// A property with a default is always there: the engine fills those of the top level in.
fn filled_up(schema: &mut Value) {
    let properties = schema.get("properties").and_then(Value::as_object);
    let with_default = properties
        .into_iter()
        .flatten()
        .filter(|(_, property)| property.get("default").is_some());
    let names: Vec<Value> = with_default
        .map(|(name, _)| Value::from(name.as_str()))
        .collect();
    let Some(schema) = schema.as_object_mut().filter(|_| !names.is_empty()) else {
        return;
    };
    let required = schema.entry("required").or_insert_with(|| json!([]));
    if let Value::Array(required) = required {
        let further = names.into_iter().filter(|name| !required.contains(name));
        let further: Vec<Value> = further.collect();
        required.extend(further);
    }
}

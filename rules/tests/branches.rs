//! Which steps exist: on random graphs against a naive reference; and the numbers of instances.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;
use serde_json::{Value, json};
use tasker_rules::graph::branches::{BadDecision, Edge, Existence, remaining};
use tasker_rules::graph::{CompiledTemplate, Details, compile};
use tasker_rules::key::MAX_NUMBER;
use tasker_rules::template::{Limits, Source, Template, check};

const PLAIN: u8 = 0;
const DECISION: u8 = 1;
const CONVERGENCE: u8 = 2;

/// A step: what it is, and the positions of those before it that it depends on.
type Step = (u8, BTreeSet<usize>);

fn compiled(steps: &[Step]) -> CompiledTemplate {
    let steps: Vec<Value> = steps
        .iter()
        .enumerate()
        .map(|(position, (kind, dependencies))| {
            let names: Vec<String> = dependencies.iter().map(|other| format!("s{other}")).collect();
            let step_type = ["standard", "decision", "deferred_convergence"][usize::from(*kind)];
            json!({ "name": format!("s{position}"), "type": step_type, "handler": { "callable": "x" }, "dependencies": names })
        })
        .collect();
    let template: Template =
        serde_json::from_value(json!({ "name": "t", "version": "1", "steps": steps })).unwrap();
    compile(&template).unwrap()
}

/// Graphs in an order in which each step follows those that it depends on; a convergence has something to join.
fn graphs() -> impl Strategy<Value = Vec<Step>> {
    (2_usize..9).prop_flat_map(|count| {
        let step = (
            0_u8..3,
            prop::collection::vec(any::<prop::sample::Index>(), 0..=3),
        );
        prop::collection::vec(step, count).prop_map(|steps| {
            steps
                .into_iter()
                .enumerate()
                .map(|(position, (kind, wanted))| {
                    let others: BTreeSet<usize> = wanted
                        .iter()
                        .filter(|_| position > 0)
                        .map(|index| index.index(position))
                        .collect();
                    let kind = if kind == CONVERGENCE && others.is_empty() {
                        PLAIN
                    } else {
                        kind
                    };
                    (kind, others)
                })
                .collect()
        })
    })
}

/// What each decision has chosen of its dependents, by its number; some are still to be made.
fn choices(compiled: &CompiledTemplate, mut bits: u64) -> BTreeMap<u32, BTreeSet<u32>> {
    let mut next = || {
        bits = bits.rotate_right(1);
        bits & 1 == 1
    };
    let mut choices = BTreeMap::new();
    for step in &compiled.steps {
        if step.details == Details::Decision && (next() || next()) {
            let dependents = step.dependents.iter().copied();
            choices.insert(step.number, dependents.filter(|_| next()).collect());
        }
    }
    choices
}

/// Whether each step exists once every decision that exists has been made.
fn naive(compiled: &CompiledTemplate, made: &BTreeMap<u32, BTreeSet<u32>>) -> Vec<bool> {
    let mut exists: Vec<bool> = Vec::new();
    for step in &compiled.steps {
        let leads_here = |&number: &u32| {
            exists[number as usize - 1]
                && made
                    .get(&number)
                    .is_none_or(|chosen| chosen.contains(&step.number))
        };
        let mut dependencies = step.dependencies.iter();
        exists.push(if step.details == Details::Convergence {
            dependencies.any(leads_here)
        } else {
            dependencies.all(leads_here)
        });
    }
    exists
}

/// Every way in which the decisions that are still open may be made.
fn completions(
    compiled: &CompiledTemplate,
    made: &BTreeMap<u32, BTreeSet<u32>>,
) -> Vec<BTreeMap<u32, BTreeSet<u32>>> {
    let mut all = vec![made.clone()];
    for step in &compiled.steps {
        if step.details != Details::Decision || made.contains_key(&step.number) {
            continue;
        }
        let subsets = 0_u32..1 << step.dependents.len();
        all = all
            .into_iter()
            .flat_map(|made| {
                subsets.clone().map(move |subset| {
                    let mut made = made.clone();
                    let chosen = step.dependents.iter().enumerate();
                    let chosen = chosen.filter(|(bit, _)| subset >> bit & 1 == 1);
                    made.insert(step.number, chosen.map(|(_, &number)| number).collect());
                    made
                })
            })
            .collect();
    }
    all
}

fn open_choices(compiled: &CompiledTemplate, made: &BTreeMap<u32, BTreeSet<u32>>) -> usize {
    compiled
        .steps
        .iter()
        .filter(|step| step.details == Details::Decision && !made.contains_key(&step.number))
        .map(|step| step.dependents.len())
        .sum()
}

proptest! {
    /// What is certain is so however the open decisions are made, and what is certain however they are made is told. (Where two decisions bear on a step in opposite ways, it may be told
    /// only later; so the other direction holds for what no open decision bears on.)
    #[test]
    fn what_is_told_of_a_step_holds_however_open_decisions_are_made(graph in graphs(), bits in any::<u64>()) {
        let compiled = compiled(&graph);
        let made = choices(&compiled, bits);
        prop_assume!(open_choices(&compiled, &made) <= 10);
        let told = compiled.existence(&made);
        let worlds: Vec<Vec<bool>> = completions(&compiled, &made).iter().map(|made| naive(&compiled, made)).collect();
        for (position, told) in told.iter().enumerate() {
            let exists: BTreeSet<bool> = worlds.iter().map(|world| world[position]).collect();
            match told {
                Existence::Certain => prop_assert_eq!(exists, BTreeSet::from([true])),
                Existence::Absent => prop_assert_eq!(exists, BTreeSet::from([false])),
                // A decision that may not exist can't be told from one that is open.
                Existence::Undecided => prop_assert!(open_choices(&compiled, &made) > 0),
            }
        }
    }

    #[test]
    fn with_every_decision_made_nothing_is_undecided(graph in graphs(), bits in any::<u64>()) {
        let compiled = compiled(&graph);
        let some = choices(&compiled, bits);
        prop_assume!(open_choices(&compiled, &some) <= 6);
        for made in completions(&compiled, &some) {
            let told = compiled.existence(&made);
            let wanted: Vec<Existence> = naive(&compiled, &made)
                .into_iter()
                .map(|exists| if exists { Existence::Certain } else { Existence::Absent })
                .collect();
            prop_assert_eq!(told, wanted);
        }
    }

    /// A task that has come to its end: what exists has run.
    #[test]
    fn what_a_step_waits_for_agrees_with_whether_it_exists(graph in graphs(), bits in any::<u64>()) {
        let compiled = compiled(&graph);
        let some = choices(&compiled, bits);
        prop_assume!(open_choices(&compiled, &some) <= 4);
        for made in completions(&compiled, &some) {
            let exists = naive(&compiled, &made);
            for (step, &exists_here) in compiled.steps.iter().zip(&exists) {
                let edges = step.dependencies.iter().map(|number| {
                    let is_chosen = made.get(number).is_none_or(|chosen| chosen.contains(&step.number));
                    if exists[*number as usize - 1] && is_chosen { Edge::Settled } else { Edge::Absent }
                });
                prop_assert_eq!(remaining(step, edges), exists_here.then_some(0));
                let open = step.dependencies.iter().map(|_| Edge::Open);
                prop_assert_eq!(remaining(step, open), Some(step.dependencies.len() as u32));
            }
        }
    }

    #[test]
    fn a_step_is_conditional_exactly_where_a_decision_is_before_it(graph in graphs()) {
        let compiled = compiled(&graph);
        for step in &compiled.steps {
            let mut before: BTreeSet<u32> = step.dependencies.iter().copied().collect();
            while let Some(more) = {
                let all: BTreeSet<u32> = before.iter().flat_map(|&number| compiled.step(number).unwrap().dependencies.clone()).collect();
                (!all.is_subset(&before)).then_some(all)
            } {
                before.extend(more);
            }
            let is_conditional = before.iter().any(|&number| compiled.step(number).unwrap().details == Details::Decision);
            prop_assert_eq!(step.is_conditional, is_conditional);
        }
    }

    /// A name further behind stands for the dependents through which it is reached.
    #[test]
    fn a_choice_is_made_of_dependents_that_lead_to_what_is_named(graph in graphs(), picked in any::<prop::sample::Index>(), named in any::<prop::sample::Index>()) {
        let compiled = compiled(&graph);
        let decisions: Vec<_> = compiled.steps.iter().filter(|step| step.details == Details::Decision).collect();
        prop_assume!(!decisions.is_empty());
        let decision = decisions[picked.index(decisions.len())];
        let step = &compiled.steps[named.index(compiled.steps.len())];
        let wanted: BTreeSet<u32> = if decision.dependents.contains(&step.number) {
            BTreeSet::from([step.number])
        } else {
            decision.dependents.iter().copied().filter(|&number| leads(&compiled, number, step.number)).collect()
        };
        let chosen = compiled.choice(decision, &json!({ "decision": { "steps": [step.name] } }));
        if wanted.is_empty() {
            let is_refused = matches!(chosen, Err(BadDecision::NotBehind { .. }));
            prop_assert!(is_refused);
        } else {
            prop_assert_eq!(chosen.unwrap(), wanted);
        }
    }

    #[test]
    fn a_number_and_its_place_tell_each_other(steps in 1_usize..6, maps in 1_usize..5, number in 1_u32..=MAX_NUMBER) {
        let compiled = with_maps(steps, maps);
        let place = compiled.place(number).unwrap();
        match place.instance {
            None => prop_assert_eq!(place.step.number, number),
            Some(instance) => prop_assert_eq!(compiled.instance_number(place.step.number, instance), Some(number)),
        }
    }
}

fn leads(compiled: &CompiledTemplate, from: u32, to: u32) -> bool {
    let mut dependencies = compiled.step(to).unwrap().dependencies.iter();
    from == to || dependencies.any(|&number| leads(compiled, from, number))
}

/// A template of so many plain steps, and maps over the first.
fn with_maps(steps: usize, maps: usize) -> CompiledTemplate {
    let plain = (0..steps)
        .map(|number| json!({ "name": format!("s{number}"), "handler": { "callable": "x" } }));
    let maps = (0..maps).map(|number| {
        json!({ "name": format!("m{number}"), "type": "map", "over": "s0.a.b", "dependencies": ["s0"], "handler": { "callable": "x" } })
    });
    let steps: Vec<Value> = plain.chain(maps).collect();
    let template: Template =
        serde_json::from_value(json!({ "name": "t", "version": "1", "steps": steps })).unwrap();
    compile(&template).unwrap()
}

#[test]
fn numbers_end_where_keys_end() {
    for maps in 1..4 {
        let compiled = with_maps(2, maps);
        let most = compiled.max_instances();
        for &of in &compiled.many {
            let last = compiled.instance_number(of, most).unwrap();
            assert!(last <= MAX_NUMBER);
            assert_eq!(compiled.place(last).unwrap().instance, Some(most));
            assert_eq!(compiled.instance_number(of, 0), None);
        }
        let beyond: Vec<Option<u32>> = compiled
            .many
            .iter()
            .map(|&of| compiled.instance_number(of, most + 1))
            .collect();
        assert!(beyond.contains(&None), "{beyond:?}");
    }
    let compiled = with_maps(2, 1);
    assert_eq!(compiled.instance_number(1, 1), None);
    assert_eq!(compiled.place(0), None);
    let plain = with_maps(2, 0);
    assert_eq!(plain.place(3), None);
    assert!(plain.is_static());
    assert!(!compiled.is_static());
}

#[test]
fn an_instance_has_its_name_and_is_not_shown_what_it_was_cut_from() {
    let compiled = with_maps(1, 1);
    let place = compiled.place(4).unwrap();
    assert_eq!(place.name(), "m0_000002");
    assert_eq!(place.dependents(), [2]);
    assert!(place.dependencies().is_empty());
    assert_eq!(place.shown_dependencies().count(), 0);
    assert!(!place.is_run_by_engine());
    let group = compiled.place(2).unwrap();
    assert!(group.is_run_by_engine());
    assert_eq!(group.shown_dependencies().collect::<Vec<_>>(), [1]);
}

#[test]
fn a_result_of_another_shape_is_no_decision() {
    let compiled = compiled(&[(DECISION, BTreeSet::new()), (PLAIN, BTreeSet::from([0]))]);
    for result in [
        json!(null),
        json!([]),
        json!({ "steps": ["s1"] }),
        json!({ "decision": ["s1"] }),
        json!({ "decision": { "steps": "s1" } }),
        json!({ "decision": { "steps": ["s1", 1] } }),
    ] {
        assert_eq!(
            compiled.choice(&compiled.steps[0], &result),
            Err(BadDecision::Shape),
            "{result}"
        );
    }
    let own = compiled.choice(
        &compiled.steps[0],
        &json!({ "decision": { "steps": ["s0"] } }),
    );
    assert!(matches!(own, Err(BadDecision::NotBehind { .. })));
}

#[test]
fn a_batch_and_its_worker_know_each_other() {
    let document = json!({ "name": "t", "version": "1", "steps": [
        { "name": "cut", "type": "batchable", "handler": { "callable": "x" }, "batch_config": { "parallelism": 3, "failure_strategy": "isolate" } },
        { "name": "work", "type": "batch_worker", "handler": { "callable": "x" }, "dependencies": ["cut"] },
        { "name": "m", "type": "map", "over": "work.a.b", "handler": { "callable": "x" }, "dependencies": ["work"], "max_parallel": 2 },
    ]});
    let checked = check(Source::Json(document), None, &Limits::default());
    let compiled = compile(&checked.template.unwrap()).unwrap();
    assert_eq!(compiled.steps[0].details, Details::Batchable { worker: 2 });
    assert_eq!(compiled.steps[1].details.source(), Some(1));
    let instances = compiled.steps[1].details.instances().unwrap();
    assert_eq!(instances.max_parallel, Some(3));
    assert!(instances.tolerate_failures());
    assert_eq!(compiled.steps[2].details.source(), Some(2));
    assert_eq!(
        compiled.steps[2].details.instances().unwrap().max_parallel,
        Some(2)
    );
    assert_eq!(compiled.many, [2, 3]);
}

#[test]
fn a_plain_template_compiles_to_what_it_did_before_there_were_other_types() {
    let document = json!({ "name": "t", "version": "1", "steps": [{ "name": "a", "handler": { "callable": "x" } }] });
    let checked = check(Source::Json(document), None, &Limits::default());
    let compiled = serde_json::to_value(compile(&checked.template.unwrap()).unwrap()).unwrap();
    let fields =
        |value: &Value| -> Vec<String> { value.as_object().unwrap().keys().cloned().collect() };
    assert_eq!(
        fields(&compiled),
        [
            "identity",
            "input_schema",
            "lifecycle",
            "name",
            "namespace",
            "steps",
            "version"
        ]
    );
    assert_eq!(
        fields(&compiled["steps"][0]),
        [
            "callable",
            "dependencies",
            "dependents",
            "handler",
            "initial_dependencies",
            "name",
            "number",
            "publishes_events",
            "result_schema",
            "retry",
            "step_type",
            "timeout_seconds"
        ]
    );
}

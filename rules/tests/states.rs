//! Both state machines, walked pair by pair against a table written out here anew, and history rows as paths of them.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::collections::BTreeSet;

use tasker_rules::history::{Steps, Tasks, decode, encode};
use tasker_rules::step_state::{self, StepEvent, StepState};
use tasker_rules::task_state::{self, TaskEvent, TaskState};

/// `from event to`, one line for each transition there is.
const TASK: &str = "
pending start initializing
pending cancel cancelled
pending timed_out error
initializing ready_steps_found enqueuing_steps
initializing no_steps_found complete
initializing no_dependencies_ready waiting_for_dependencies
initializing cancel cancelled
initializing timed_out error
enqueuing_steps steps_enqueued steps_in_process
enqueuing_steps enqueue_failed error
enqueuing_steps cancel cancelled
enqueuing_steps timed_out error
steps_in_process step_completed evaluating_results
steps_in_process all_steps_completed evaluating_results
steps_in_process step_failed evaluating_results
steps_in_process step_repaired evaluating_results
steps_in_process compensate enqueuing_steps
steps_in_process cancel cancelled
steps_in_process timed_out error
evaluating_results ready_steps_found enqueuing_steps
evaluating_results steps_still_running steps_in_process
evaluating_results retry_scheduled waiting_for_retry
evaluating_results no_dependencies_ready waiting_for_dependencies
evaluating_results all_steps_successful complete
evaluating_results permanent_failure blocked_by_failures
evaluating_results compensate enqueuing_steps
evaluating_results cancel cancelled
evaluating_results timed_out error
waiting_for_dependencies dependencies_ready evaluating_results
waiting_for_dependencies step_repaired evaluating_results
waiting_for_dependencies retry_ready enqueuing_steps
waiting_for_dependencies compensate enqueuing_steps
waiting_for_dependencies cancel cancelled
waiting_for_dependencies timed_out error
waiting_for_retry retry_ready enqueuing_steps
waiting_for_retry dependencies_ready evaluating_results
waiting_for_retry step_repaired evaluating_results
waiting_for_retry compensate enqueuing_steps
waiting_for_retry cancel cancelled
waiting_for_retry timed_out error
blocked_by_failures step_repaired evaluating_results
blocked_by_failures give_up error
blocked_by_failures manual_resolution resolved_manually
blocked_by_failures rerun evaluating_results
blocked_by_failures compensate enqueuing_steps
blocked_by_failures cancel cancelled
blocked_by_failures timed_out error
error manual_resolution resolved_manually
error step_repaired evaluating_results
error reset evaluating_results
error rerun evaluating_results
complete rerun evaluating_results
cancelled rerun evaluating_results
resolved_manually rerun evaluating_results
";

const STEP: &str = "
pending enqueue enqueued
pending complete_manually complete
pending resolve_manually resolved_manually
pending cancel cancelled
enqueued start in_progress
enqueued complete_manually complete
enqueued resolve_manually resolved_manually
enqueued cancel cancelled
in_progress start in_progress
in_progress enqueue_for_orchestration enqueued_for_orchestration
in_progress enqueue_as_error_for_orchestration enqueued_as_error_for_orchestration
in_progress release enqueued
in_progress yield enqueued
in_progress complete_manually complete
in_progress resolve_manually resolved_manually
in_progress cancel cancelled
enqueued_for_orchestration complete complete
enqueued_for_orchestration fail error
enqueued_for_orchestration cancel cancelled
enqueued_as_error_for_orchestration fail error
enqueued_as_error_for_orchestration wait_for_retry waiting_for_retry
enqueued_as_error_for_orchestration cancel cancelled
waiting_for_retry retry enqueued
waiting_for_retry complete_manually complete
waiting_for_retry resolve_manually resolved_manually
waiting_for_retry cancel cancelled
complete rerun pending
resolved_manually rerun pending
error reset_for_retry pending
error rerun pending
error complete_manually complete
error resolve_manually resolved_manually
error cancel cancelled
cancelled reset_for_retry pending
cancelled rerun pending
";

fn lines(table: &str) -> BTreeSet<String> {
    table
        .lines()
        .filter(|line| !line.is_empty())
        .map(str::to_owned)
        .collect()
}

#[test]
fn every_task_state_and_event_leads_where_the_table_says_and_nowhere_else() {
    let mut walked = BTreeSet::new();
    for &from in TaskState::ALL {
        for &event in TaskEvent::ALL {
            if let Some(to) = from.next(event) {
                walked.insert(format!("{from} {event} {to}"));
            }
        }
    }
    assert_eq!(walked, lines(TASK));
    assert_eq!((TaskState::ALL.len(), TaskEvent::ALL.len()), (12, 23));
}

#[test]
fn every_step_state_and_event_leads_where_the_table_says_and_nowhere_else() {
    let mut walked = BTreeSet::new();
    for &from in StepState::ALL {
        for &event in StepEvent::ALL {
            if let Some(to) = from.next(event) {
                walked.insert(format!("{from} {event} {to}"));
            }
        }
    }
    assert_eq!(walked, lines(STEP));
    assert_eq!((StepState::ALL.len(), StepEvent::ALL.len()), (10, 15));
}

#[test]
fn no_pair_has_two_answers() {
    for &from in TaskState::ALL {
        for &event in TaskEvent::ALL {
            let rows = tasker_rules::task_state::TRANSITIONS
                .iter()
                .filter(|(states, events, _)| states.contains(&from) && events.contains(&event));
            assert!(rows.count() <= 1, "{from} {event}");
        }
    }
    for &from in StepState::ALL {
        for &event in StepEvent::ALL {
            let rows = tasker_rules::step_state::TRANSITIONS
                .iter()
                .filter(|(states, events, _)| states.contains(&from) && events.contains(&event));
            assert!(rows.count() <= 1, "{from} {event}");
        }
    }
}

#[test]
fn terminal_and_satisfying_states_are_those_of_the_design() {
    let terminal: Vec<&str> = TaskState::ALL
        .iter()
        .filter(|state| state.is_terminal())
        .map(|s| s.as_str())
        .collect();
    assert_eq!(
        terminal,
        ["complete", "error", "cancelled", "resolved_manually"]
    );
    let terminal: Vec<&str> = StepState::ALL
        .iter()
        .filter(|state| state.is_terminal())
        .map(|s| s.as_str())
        .collect();
    assert_eq!(
        terminal,
        ["complete", "resolved_manually", "error", "cancelled"]
    );
    let satisfying: Vec<&str> = StepState::ALL
        .iter()
        .filter(|state| state.satisfies_dependents())
        .map(|s| s.as_str())
        .collect();
    assert_eq!(satisfying, ["complete", "resolved_manually"]);
}

#[test]
fn names_are_read_back_and_others_are_refused() {
    for &state in TaskState::ALL {
        assert_eq!(state.as_str().parse::<TaskState>().unwrap(), state);
        assert_eq!(
            serde_json::from_value::<TaskState>(serde_json::to_value(state).unwrap()).unwrap(),
            state
        );
    }
    for &event in StepEvent::ALL {
        assert_eq!(event.as_str().parse::<StepEvent>().unwrap(), event);
    }
    let error = "Complete".parse::<StepState>().unwrap_err();
    assert_eq!(error.to_string(), "\"Complete\" is not a step state");
}

#[test]
fn a_stored_path_is_read_as_its_single_transitions() {
    let path = decode::<Tasks>("sAZ").expect("a path");
    let states: Vec<_> = path.iter().map(|step| step.to).collect();
    assert_eq!(states, [TaskState::EvaluatingResults, TaskState::Complete]);
    assert!(decode::<Tasks>("pX").is_some());
    assert!(decode::<Steps>("rS").is_some());
    assert_eq!(
        encode::<Tasks>(
            TaskState::Pending,
            &[
                TaskEvent::Start,
                TaskEvent::ReadyStepsFound,
                TaskEvent::StepsEnqueued
            ]
        ),
        "pSRQ"
    );
}

#[test]
fn a_stored_path_that_leaves_the_machine_is_none() {
    for path in ["cX", "sZ", "pS?", "S"] {
        assert!(decode::<Tasks>(path).is_none(), "{path}");
    }
    for path in ["rC", "pE", "cS"] {
        assert!(decode::<Steps>(path).is_none(), "{path}");
    }
}

/// The transitions of a table of the documentation: rows of states, events and a state, each name in backquotes.
fn documented(heading: &str) -> Vec<(String, String, String)> {
    let page = include_str!("../../docs/states.md");
    let section = page
        .split("\n## ")
        .find(|section| section.starts_with(heading));
    let mut found = Vec::new();
    for line in section.unwrap_or_default().lines() {
        let cells: Vec<Vec<&str>> = line
            .split('|')
            .map(|cell| cell.split('`').skip(1).step_by(2).collect())
            .collect();
        let [_, from, events, to, _] = &cells[..] else {
            continue;
        };
        for (from, event) in from
            .iter()
            .flat_map(|from| events.iter().map(move |event| (from, event)))
        {
            found.extend(
                to.iter()
                    .map(|to| ((*from).to_owned(), (*event).to_owned(), (*to).to_owned())),
            );
        }
    }
    found.sort();
    found
}

#[test]
fn the_page_on_states_has_each_transition_once_and_no_other() {
    let mut tasks = Vec::new();
    for (from, events, to) in task_state::TRANSITIONS {
        for (from, event) in from
            .iter()
            .flat_map(|from| events.iter().map(move |event| (from, event)))
        {
            tasks.push((from.to_string(), event.to_string(), to.to_string()));
        }
    }
    tasks.sort();
    assert_eq!(documented("Tasks"), tasks);
    let mut steps = Vec::new();
    for (from, events, to) in step_state::TRANSITIONS {
        for (from, event) in from
            .iter()
            .flat_map(|from| events.iter().map(move |event| (from, event)))
        {
            steps.push((from.to_string(), event.to_string(), to.to_string()));
        }
    }
    steps.sort();
    assert_eq!(documented("Steps"), steps);
}

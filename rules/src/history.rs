//! History rows, stored as the path that a transaction took through the state machine.
//!
//! A machine is deterministic: a state and an event say which state follows. So a row stores one letter for the state it begins in and one
//! for each event, in order, and everything a reader sees of it is worked out on reading: `rOC` is a step that was in progress, whose
//! result was stored and accepted. The letters are stored in databases: none is ever changed or used again for something else.

use crate::step_state::{StepEvent, StepState};
use crate::task_state::{TaskEvent, TaskState};

/// A state machine whose paths can be written down.
pub trait Machine {
    /// Its states.
    type State: Copy + PartialEq + 'static;
    /// Its events.
    type Event: Copy + PartialEq + 'static;
    /// A letter for each state.
    const STATES: &'static [(Self::State, char)];
    /// A letter for each event.
    const EVENTS: &'static [(Self::Event, char)];
    /// The state that an event leads to.
    fn next(state: Self::State, event: Self::Event) -> Option<Self::State>;
}

/// The state machine of tasks.
#[derive(Debug, Clone, Copy)]
pub struct Tasks;

/// The state machine of steps.
#[derive(Debug, Clone, Copy)]
pub struct Steps;

impl Machine for Tasks {
    type State = TaskState;
    type Event = TaskEvent;
    const STATES: &'static [(TaskState, char)] = &[
        (TaskState::Pending, 'p'),
        (TaskState::Initializing, 'i'),
        (TaskState::EnqueuingSteps, 'q'),
        (TaskState::StepsInProcess, 's'),
        (TaskState::EvaluatingResults, 'v'),
        (TaskState::WaitingForDependencies, 'd'),
        (TaskState::WaitingForRetry, 'w'),
        (TaskState::BlockedByFailures, 'b'),
        (TaskState::Complete, 'c'),
        (TaskState::Error, 'e'),
        (TaskState::Cancelled, 'x'),
        (TaskState::ResolvedManually, 'm'),
    ];
    const EVENTS: &'static [(TaskEvent, char)] = &[
        (TaskEvent::Start, 'S'),
        (TaskEvent::ReadyStepsFound, 'R'),
        (TaskEvent::NoStepsFound, 'N'),
        (TaskEvent::NoDependenciesReady, 'D'),
        (TaskEvent::StepsEnqueued, 'Q'),
        (TaskEvent::EnqueueFailed, 'U'),
        (TaskEvent::StepCompleted, 'C'),
        (TaskEvent::AllStepsCompleted, 'A'),
        (TaskEvent::StepFailed, 'F'),
        (TaskEvent::StepRepaired, 'P'),
        (TaskEvent::StepsStillRunning, 'L'),
        (TaskEvent::RetryScheduled, 'W'),
        (TaskEvent::AllStepsSuccessful, 'Z'),
        (TaskEvent::PermanentFailure, 'B'),
        (TaskEvent::DependenciesReady, 'Y'),
        (TaskEvent::RetryReady, 'T'),
        (TaskEvent::GiveUp, 'G'),
        (TaskEvent::ManualResolution, 'M'),
        (TaskEvent::Reset, 'E'),
        (TaskEvent::Rerun, 'J'),
        (TaskEvent::Compensate, 'H'),
        (TaskEvent::Cancel, 'X'),
        (TaskEvent::TimedOut, 'O'),
    ];

    fn next(state: TaskState, event: TaskEvent) -> Option<TaskState> {
        state.next(event)
    }
}

impl Machine for Steps {
    type State = StepState;
    type Event = StepEvent;
    const STATES: &'static [(StepState, char)] = &[
        (StepState::Pending, 'p'),
        (StepState::Enqueued, 'q'),
        (StepState::InProgress, 'r'),
        (StepState::EnqueuedForOrchestration, 'o'),
        (StepState::EnqueuedAsErrorForOrchestration, 'f'),
        (StepState::WaitingForRetry, 'w'),
        (StepState::Complete, 'c'),
        (StepState::ResolvedManually, 'm'),
        (StepState::Error, 'e'),
        (StepState::Cancelled, 'x'),
    ];
    const EVENTS: &'static [(StepEvent, char)] = &[
        (StepEvent::Enqueue, 'Q'),
        (StepEvent::Start, 'S'),
        (StepEvent::EnqueueForOrchestration, 'O'),
        (StepEvent::EnqueueAsErrorForOrchestration, 'F'),
        (StepEvent::Complete, 'C'),
        (StepEvent::Fail, 'E'),
        (StepEvent::WaitForRetry, 'W'),
        (StepEvent::Retry, 'T'),
        (StepEvent::Release, 'G'),
        (StepEvent::Yield, 'Y'),
        (StepEvent::ResetForRetry, 'Z'),
        (StepEvent::Rerun, 'J'),
        (StepEvent::CompleteManually, 'K'),
        (StepEvent::ResolveManually, 'M'),
        (StepEvent::Cancel, 'X'),
    ];

    fn next(state: StepState, event: StepEvent) -> Option<StepState> {
        state.next(event)
    }
}

/// One transition of a stored path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Transition<S, E> {
    /// The state before.
    pub from: S,
    /// What happened.
    pub event: E,
    /// The state after.
    pub to: S,
}

/// The stored form of a path. Whether it is a path of the machine is seen on reading.
#[must_use]
pub fn encode<M: Machine>(from: M::State, events: &[M::Event]) -> String {
    let letter_of_event = |event| {
        letter(M::EVENTS, event).unwrap_or_else(|| unreachable!("every event has a letter"))
    };
    letter(M::STATES, from)
        .into_iter()
        .chain(events.iter().map(|&event| letter_of_event(event)))
        .collect()
}

/// The transitions of a stored path, at least one; `None` when it is no path of the machine.
#[must_use]
pub fn decode<M: Machine>(path: &str) -> Option<Vec<Transition<M::State, M::Event>>> {
    let mut letters = path.chars();
    let mut from = named(M::STATES, letters.next()?)?;
    let mut transitions = Vec::with_capacity(path.len());
    for letter in letters {
        let event = named(M::EVENTS, letter)?;
        let to = M::next(from, event)?;
        transitions.push(Transition { from, event, to });
        from = to;
    }
    (!transitions.is_empty()).then_some(transitions)
}

fn letter<T: Copy + PartialEq>(letters: &[(T, char)], wanted: T) -> Option<char> {
    letters
        .iter()
        .find(|(value, _)| *value == wanted)
        .map(|&(_, letter)| letter)
}

fn named<T: Copy>(letters: &[(T, char)], wanted: char) -> Option<T> {
    letters
        .iter()
        .find(|(_, letter)| *letter == wanted)
        .map(|&(value, _)| value)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn letters<T: Copy>(table: &[(T, char)]) -> String {
        table.iter().map(|&(_, letter)| letter).collect()
    }

    /// The letters are in databases. Whoever makes this test fail breaks them; new letters come at the end.
    #[test]
    fn the_letters_stay_what_they_are() {
        assert_eq!(letters(Tasks::STATES), "piqsvdwbcexm");
        assert_eq!(letters(Tasks::EVENTS), "SRNDQUCAFPLWZBYTGMEJHXO");
        assert_eq!(letters(Steps::STATES), "pqrofwcmex");
        assert_eq!(letters(Steps::EVENTS), "QSOFCEWTGYZJKMX");
    }

    #[test]
    fn every_state_and_event_has_one_letter() {
        fn check<T: Copy + PartialEq>(all: &[T], table: &[(T, char)]) {
            assert_eq!(all.len(), table.len());
            for &value in all {
                let own = letter(table, value);
                let same = table.iter().filter(|&&(_, letter)| Some(letter) == own);
                assert_eq!(same.count(), 1);
            }
        }
        check(TaskState::ALL, Tasks::STATES);
        check(TaskEvent::ALL, Tasks::EVENTS);
        check(StepState::ALL, Steps::STATES);
        check(StepEvent::ALL, Steps::EVENTS);
    }

    #[test]
    fn a_path_reads_as_it_was_written() {
        let path = encode::<Steps>(
            StepState::InProgress,
            &[StepEvent::EnqueueForOrchestration, StepEvent::Complete],
        );
        assert_eq!(path, "rOC");
        let read = decode::<Steps>(&path).expect("a path");
        assert_eq!(read.len(), 2);
        assert_eq!(read[0].to, StepState::EnqueuedForOrchestration);
        assert_eq!(read[1].from, StepState::EnqueuedForOrchestration);
        assert_eq!(read[1].to, StepState::Complete);
    }

    #[test]
    fn what_is_no_path_is_refused() {
        for text in ["", "p", "pS", "rOC?", "?Q", "rOCC"] {
            assert_eq!(decode::<Steps>(text), None, "{text:?}");
        }
        assert_eq!(decode::<Tasks>("pC"), None);
    }
}

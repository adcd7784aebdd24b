//! What the board promises.

use serde_json::json;

use super::*;

fn step(number: u128, attempt: i32) -> HeldStep {
    HeldStep {
        step_uuid: Uuid::from_u128(number),
        attempt,
    }
}

fn end(board: &mut Board, step: HeldStep) {
    board.ended(
        step,
        Some(Outcome::complete(step.step_uuid, step.attempt, json!(1))),
    );
}

fn verdict(of: HeldStep, verdict: VerdictKind) -> Verdict {
    let (code, message) = (Some("TK022".into()), Some("too large".into()));
    Verdict {
        step_uuid: Some(of.step_uuid),
        attempt: Some(of.attempt),
        verdict,
        code,
        message,
    }
}

/// A board of `concurrency` with steps 1 to `count` handed out, and a token for each.
fn board(concurrency: usize, count: u128, now: Instant) -> (Board, Vec<CancellationToken>) {
    let mut board = Board::new(concurrency);
    let tokens: Vec<_> = (0..count).map(|_| CancellationToken::new()).collect();
    for (number, token) in (1..).zip(&tokens) {
        board.hand_out(step(number, 1), token.clone(), now);
    }
    (board, tokens)
}

#[test]
fn a_step_takes_a_place_until_its_attempt_ends() {
    let (mut board, _) = board(3, 2, Instant::now());
    assert_eq!(board.free(0), 1);
    end(&mut board, step(1, 1));
    assert_eq!(
        (board.free(0), board.waiting_count(), board.is_clear()),
        (2, 1, false)
    );
}

#[test]
fn outcomes_of_steps_handed_out_together_share_a_batch() {
    let now = Instant::now();
    let (mut board, _) = board(3, 3, now);
    assert_eq!(board.batch_due_at(now), None);
    end(&mut board, step(1, 1));
    assert_eq!(board.batch_due_at(now), Some(now + GATHERING));
    end(&mut board, step(2, 1));
    end(&mut board, step(3, 1));
    assert_eq!(board.batch_due_at(now), Some(now));
    assert_eq!(board.take_batch().len(), 3);
    assert!(board.is_clear());
}

#[test]
fn an_outcome_does_not_wait_for_a_handler_that_takes_long() {
    let now = Instant::now();
    let (mut board, _) = board(3, 2, now);
    let later = now + Duration::from_secs(1);
    end(&mut board, step(1, 1));
    assert_eq!(board.batch_due_at(later), Some(later));
}

#[test]
fn an_outcome_does_not_wait_for_a_handler_that_was_running_before() {
    let now = Instant::now();
    let (mut board, _) = board(3, 2, now);
    let later = now + GATHERING / 2;
    board.hand_out(step(3, 1), CancellationToken::new(), later);
    assert_eq!(board.batch_due_at(later), None);
    end(&mut board, step(3, 1));
    assert_eq!(board.batch_due_at(later), Some(later));
}

#[test]
fn an_older_attempt_is_stopped_and_its_outcome_dropped() {
    let now = Instant::now();
    let (mut board, tokens) = board(3, 1, now);
    board.hand_out(step(1, 2), CancellationToken::new(), now);
    assert!(tokens[0].is_cancelled());
    end(&mut board, step(1, 1));
    assert_eq!((board.held_count(), board.waiting_count()), (1, 0));
}

#[test]
fn a_step_that_is_not_held_any_more_is_stopped_and_its_outcome_dropped() {
    let (mut board, tokens) = board(3, 3, Instant::now());
    let asked = board.held();
    end(&mut board, step(3, 1));
    let states = [
        (1, LeaseState::Held),
        (2, LeaseState::Cancelled),
        (3, LeaseState::Lost),
    ];
    let verdicts = states.map(|(number, verdict)| LeaseVerdict {
        step_uuid: Uuid::from_u128(number),
        verdict,
    });
    board.leases_answered(&asked, &verdicts);
    assert_eq!(
        [tokens[0].is_cancelled(), tokens[1].is_cancelled()],
        [false, true]
    );
    assert_eq!((board.held(), board.waiting_count()), (vec![step(1, 1)], 0));
}

#[test]
fn an_answer_about_an_earlier_attempt_leaves_a_later_one_alone() {
    let now = Instant::now();
    let (mut board, _) = board(3, 1, now);
    let asked = board.held();
    board.ended(step(1, 1), None);
    let later = CancellationToken::new();
    board.hand_out(step(1, 2), later.clone(), now);
    board.leases_answered(
        &asked,
        &[LeaseVerdict {
            step_uuid: Uuid::from_u128(1),
            verdict: LeaseState::Lost,
        }],
    );
    assert!(!later.is_cancelled());
    assert_eq!(board.held(), [step(1, 2)]);
}

#[test]
fn an_outcome_that_cannot_be_stored_becomes_a_failure_once() {
    let (mut board, _) = board(3, 1, Instant::now());
    end(&mut board, step(1, 1));
    let batch = board.take_batch();
    board.answered(batch, &[verdict(step(1, 1), VerdictKind::Invalid)]);
    let batch = board.take_batch();
    let error = batch[0].error.clone().expect("it is a failure");
    assert_eq!(
        error.message,
        "the outcome can't be stored (TK022): too large"
    );
    assert_eq!(
        (error.r#type.as_deref(), error.retryable),
        (Some(REFUSED), Some(false))
    );
    board.answered(batch, &[verdict(step(1, 1), VerdictKind::Invalid)]);
    assert!(board.is_clear());
}

#[test]
fn verdicts_that_settle_an_outcome_leave_nothing() {
    let kinds = [
        VerdictKind::Accepted,
        VerdictKind::Repeated,
        VerdictKind::Lost,
        VerdictKind::Cancelled,
        VerdictKind::TimedOut,
    ];
    for kind in kinds {
        let (mut board, _) = board(3, 1, Instant::now());
        end(&mut board, step(1, 1));
        let batch = board.take_batch();
        board.answered(batch, &[verdict(step(1, 1), kind)]);
        assert!(board.is_clear(), "{kind:?}");
    }
}

#[test]
fn the_outcomes_of_a_refused_batch_go_alone() {
    let now = Instant::now();
    let (mut board, _) = board(3, 3, now);
    for number in 1..=2 {
        end(&mut board, step(number, 1));
    }
    let batch = board.take_batch();
    board.refused(batch, "22P05", "unsupported Unicode escape sequence");
    assert_eq!(board.batch_due_at(now), Some(now));
    let good = board.take_batch();
    board.answered(good, &[verdict(step(1, 1), VerdictKind::Accepted)]);
    let bad = board.take_batch();
    assert_eq!(bad.len(), 1);
    board.refused(bad, "22P05", "unsupported Unicode escape sequence");
    assert_eq!(board.take_batch()[0].status, OutcomeStatus::Fail);
    assert_eq!(board.waiting_count(), 0);
}

#[test]
fn leaving_gives_back_what_runs_and_keeps_what_ended() {
    let (mut board, tokens) = board(3, 2, Instant::now());
    end(&mut board, step(1, 1));
    board.give_all_back();
    assert!(tokens[1].is_cancelled());
    let statuses: Vec<_> = board
        .take_batch()
        .iter()
        .map(|outcome| outcome.status)
        .collect();
    assert_eq!(statuses, [OutcomeStatus::Complete, OutcomeStatus::Release]);
    assert!(board.is_clear());
}

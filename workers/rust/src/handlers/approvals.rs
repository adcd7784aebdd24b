//! `approvals.*`: a request is routed by its amount to those who have to approve it.

use serde::{Deserialize, Serialize};
use serde_json::json;
use tasker_worker_runtime::{Decision, HandlerError, StepContext};

use super::HandlerResult;

/// Below this nobody is asked.
const AUTOMATIC_BELOW: f64 = 1_000.0;
/// Below this a manager is enough.
const MANAGER_BELOW: f64 = 5_000.0;

#[derive(Serialize, Deserialize)]
struct Request {
    requester: String,
    amount: f64,
    /// The requester has taken it back: there is nothing to approve.
    #[serde(default)]
    withdrawn: bool,
}

#[derive(Serialize, Deserialize)]
struct Approval {
    approved_by: String,
    amount: f64,
}

/// Requires an `amount` that isn't negative and the name of a `requester`.
pub(crate) fn validate_request(step: &StepContext) -> HandlerResult {
    let request: Request = step.context_as()?;
    if !request.amount.is_finite() || request.amount < 0.0 {
        return Err(invalid("the amount must not be negative"));
    }
    if request.requester.trim().is_empty() {
        return Err(invalid("the requester has no name"));
    }
    Ok(serde_json::to_value(request)?)
}

/// Says which of the branches exist.
pub(crate) fn routing_decision(step: &StepContext) -> HandlerResult {
    let request: Request = step.dependency("validate_request")?;
    if request.withdrawn {
        return Ok(Decision::none());
    }
    let branches: &[&str] = if request.amount < AUTOMATIC_BELOW {
        &["auto_approve"]
    } else if request.amount < MANAGER_BELOW {
        &["manager_approval"]
    } else {
        &["manager_approval", "finance_review"]
    };
    Ok(Decision::steps(branches.iter().copied()))
}

pub(crate) fn auto_approve(step: &StepContext) -> HandlerResult {
    approval(step, "automatic")
}

pub(crate) fn manager_approval(step: &StepContext) -> HandlerResult {
    approval(step, "manager")
}

pub(crate) fn finance_review(step: &StepContext) -> HandlerResult {
    approval(step, "finance")
}

fn approval(step: &StepContext, approved_by: &str) -> HandlerResult {
    let approval = Approval {
        approved_by: approved_by.into(),
        amount: step.context_field("amount")?,
    };
    Ok(serde_json::to_value(approval)?)
}

/// Joins the approvals of those who were asked: only of the branches that exist are there results.
pub(crate) fn finalize_approval(step: &StepContext) -> HandlerResult {
    let mut approved_by = Vec::new();
    for name in step.dependency_results().keys() {
        let approval: Approval = step.dependency(name)?;
        approved_by.push(approval.approved_by);
    }
    if approved_by.is_empty() {
        return Err(invalid("nobody was asked"));
    }
    approved_by.sort_unstable();
    Ok(json!({"approved": true, "approved_by": approved_by}))
}

fn invalid(message: &str) -> HandlerError {
    HandlerError::permanent(message).with_type("invalid_request")
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;

    fn routed(request: Value) -> Value {
        let step = StepContext::draft("routing_decision", "approvals.routing_decision")
            .with_dependency("validate_request", request);
        routing_decision(&step).expect("the request is good")["decision"]["steps"].clone()
    }

    #[test]
    fn the_amount_says_who_is_asked() {
        for (amount, asked) in [
            (json!(0), json!(["auto_approve"])),
            (json!(999.99), json!(["auto_approve"])),
            (json!(1000), json!(["manager_approval"])),
            (json!(4999), json!(["manager_approval"])),
            (json!(5000), json!(["manager_approval", "finance_review"])),
        ] {
            assert_eq!(routed(json!({"amount": amount, "requester": "ada"})), asked);
        }
    }

    #[test]
    fn nobody_is_asked_about_a_withdrawn_request() {
        let request = json!({"amount": 9000, "requester": "ada", "withdrawn": true});
        assert_eq!(routed(request), json!([]));
    }

    #[test]
    fn the_join_tells_who_approved() {
        let step = StepContext::draft("finalize_approval", "approvals.finalize_approval")
            .with_dependency(
                "manager_approval",
                json!({"approved_by": "manager", "amount": 5000}),
            )
            .with_dependency(
                "finance_review",
                json!({"approved_by": "finance", "amount": 5000}),
            );
        assert_eq!(
            finalize_approval(&step),
            Ok(json!({"approved": true, "approved_by": ["finance", "manager"]}))
        );
    }

    #[test]
    fn a_bad_request_is_refused_for_good() {
        for context in [
            json!({"amount": -1, "requester": "ada"}),
            json!({"amount": 1, "requester": " "}),
            json!({"amount": "1", "requester": "ada"}),
            json!({"requester": "ada"}),
        ] {
            let step = StepContext::draft("validate_request", "approvals.validate_request")
                .with_context(context);
            assert!(
                !validate_request(&step)
                    .expect_err("it is bad")
                    .is_retryable()
            );
        }
    }
}

//! `accounts.*`: a person registers: account, billing profile and preferences, a welcome, and the
//! account becomes active.

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tasker_worker_runtime::{HandlerError, StepContext};

use super::HandlerResult;
use super::money::written;
use super::reference::reference;

const DEFAULT_PLAN: &str = "free";
const DEFAULT_LANGUAGE: &str = "en";
const TRIAL_DAYS: u32 = 14;

#[derive(Serialize, Deserialize)]
struct Account {
    user_id: String,
    email: String,
    name: String,
    plan: String,
    status: String,
}

/// Makes an account for the `email` of the context; `name` and `plan` (free, pro or enterprise) may
/// be given too.
pub(crate) fn create_user_account(step: &StepContext) -> HandlerResult {
    let email: String = step.context_field("email")?;
    let email = email.trim().to_lowercase();
    let Some((local, domain)) = email.split_once('@') else {
        return Err(invalid(format!("`{email}` isn't an address")));
    };
    if local.is_empty() || domain.is_empty() || domain.contains('@') {
        return Err(invalid(format!("`{email}` isn't an address")));
    }
    let plan = step
        .optional_context_field::<String>("plan")?
        .unwrap_or_else(|| DEFAULT_PLAN.into());
    monthly_price_cents(&plan)?;
    let name = step
        .optional_context_field::<String>("name")?
        .unwrap_or_else(|| local.into());
    let user_id = reference("user", &[&email]);
    Ok(serde_json::to_value(Account {
        user_id,
        email,
        name,
        plan,
        status: "pending".into(),
    })?)
}

/// Prices the account's plan; what is paid for begins with a trial.
pub(crate) fn setup_billing_profile(step: &StepContext) -> HandlerResult {
    let account: Account = step.dependency("create_user_account")?;
    let price_cents = monthly_price_cents(&account.plan)?;
    Ok(json!({
        "billing_id": reference("bill", &[&account.user_id, &account.plan]),
        "user_id": account.user_id,
        "plan": account.plan,
        "monthly_price_cents": price_cents,
        "trial_days": if price_cents > 0 { TRIAL_DAYS } else { 0 },
    }))
}

/// Fills in what the context's `preferences` leave out.
pub(crate) fn initialize_preferences(step: &StepContext) -> HandlerResult {
    #[derive(Deserialize, Default)]
    struct Given {
        language: Option<String>,
        newsletter: Option<bool>,
        theme: Option<String>,
    }
    let account: Account = step.dependency("create_user_account")?;
    let given: Given = step
        .optional_context_field("preferences")?
        .unwrap_or_default();
    Ok(json!({
        "user_id": account.user_id,
        "email": account.email,
        "name": account.name,
        "language": given.language.unwrap_or_else(|| DEFAULT_LANGUAGE.into()),
        "newsletter": given.newsletter.unwrap_or(false),
        "theme": given.theme.unwrap_or_else(|| "light".into()),
    }))
}

/// Writes the messages of the first days.
pub(crate) fn send_welcome_sequence(step: &StepContext) -> HandlerResult {
    #[derive(Deserialize)]
    struct Billing {
        user_id: String,
        plan: String,
        monthly_price_cents: u64,
        trial_days: u32,
    }
    #[derive(Deserialize)]
    struct Preferences {
        user_id: String,
        email: String,
        name: String,
        language: String,
        newsletter: bool,
    }
    let billing: Billing = step.dependency("setup_billing_profile")?;
    let preferences: Preferences = step.dependency("initialize_preferences")?;
    if billing.user_id != preferences.user_id {
        return Err(invalid(
            "the billing profile and the preferences are of two users",
        ));
    }
    let mut messages =
        vec![json!({"day": 0, "subject": greeting(&preferences.language, &preferences.name)})];
    if billing.trial_days > 0 {
        let price = written(billing.monthly_price_cents);
        messages.push(json!({
            "day": billing.trial_days,
            "subject": format!("Your trial of {} ends: {price} a month from now on", billing.plan),
        }));
    }
    if preferences.newsletter {
        messages.push(json!({"day": 7, "subject": "What is new this week"}));
    }
    messages.sort_by_key(|message| message["day"].as_u64());
    Ok(json!({"user_id": billing.user_id, "to": preferences.email, "messages": messages}))
}

/// Activates the account once its welcome is on the way.
pub(crate) fn update_user_status(step: &StepContext) -> HandlerResult {
    let welcome: Value = step.dependency("send_welcome_sequence")?;
    let user_id = welcome["user_id"].as_str();
    let user_id = user_id.ok_or_else(|| invalid("the welcome names no user"))?;
    let count = welcome["messages"].as_array().map_or(0, Vec::len);
    Ok(json!({
        "user_id": user_id,
        "previous_status": "pending",
        "status": "active",
        "messages_scheduled": count,
    }))
}

fn monthly_price_cents(plan: &str) -> Result<u64, HandlerError> {
    match plan {
        "free" => Ok(0),
        "pro" => Ok(1900),
        "enterprise" => Ok(9900),
        other => Err(invalid(format!(
            "there is no plan `{other}`; there are free, pro and enterprise"
        ))),
    }
}

fn greeting(language: &str, name: &str) -> String {
    match language {
        "de" => format!("Willkommen, {name}!"),
        "fr" => format!("Bienvenue, {name} !"),
        _ => format!("Welcome, {name}!"),
    }
}

fn invalid(message: impl Into<String>) -> HandlerError {
    HandlerError::permanent(message).with_type("invalid_registration")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn step(context: Value) -> StepContext {
        StepContext::draft("step", "accounts").with_context(context)
    }

    #[test]
    fn a_registration_goes_from_the_account_to_its_activation() {
        let context = json!({
            "email": " Ada@Example.org",
            "name": "Ada",
            "plan": "pro",
            "preferences": {"language": "de"},
        });
        let account = create_user_account(&step(context.clone())).expect("the address is good");
        assert_eq!(account["email"], "ada@example.org");
        let after_account = step(context).with_dependency("create_user_account", account.clone());
        let billing = setup_billing_profile(&after_account).expect("pro has a price");
        assert_eq!(
            (&billing["monthly_price_cents"], &billing["trial_days"]),
            (&json!(1900), &json!(14))
        );
        let preferences = initialize_preferences(&after_account).expect("they are good");
        assert_eq!(
            (&preferences["language"], &preferences["theme"]),
            (&json!("de"), &json!("light"))
        );
        let welcome = send_welcome_sequence(
            &step(json!({}))
                .with_dependency("setup_billing_profile", billing)
                .with_dependency("initialize_preferences", preferences),
        );
        let welcome = welcome.expect("both are of one user");
        assert_eq!(welcome["messages"][0]["subject"], "Willkommen, Ada!");
        assert_eq!(
            welcome["messages"][1]["subject"],
            "Your trial of pro ends: 19.00 a month from now on"
        );
        let status =
            update_user_status(&step(json!({})).with_dependency("send_welcome_sequence", welcome));
        let expected = json!({
            "user_id": account["user_id"],
            "previous_status": "pending",
            "status": "active",
            "messages_scheduled": 2,
        });
        assert_eq!(status, Ok(expected));
    }

    #[test]
    fn the_free_plan_is_the_default_and_has_no_trial() {
        let account = create_user_account(&step(json!({"email": "bo@example.org"})))
            .expect("the address is good");
        assert_eq!(
            (&account["plan"], &account["name"]),
            (&json!("free"), &json!("bo"))
        );
        let billing =
            setup_billing_profile(&step(json!({})).with_dependency("create_user_account", account));
        assert_eq!(billing.expect("free has a price")["trial_days"], 0);
    }

    #[test]
    fn a_bad_address_and_an_unknown_plan_are_refused_for_good() {
        for context in [
            json!({"email": "ada"}),
            json!({"email": "@example.org"}),
            json!({"email": "a@b@c"}),
            json!({"email": 7}),
            json!({"email": "ada@example.org", "plan": "gold"}),
        ] {
            let error = create_user_account(&step(context)).expect_err("it is bad");
            assert!(!error.is_retryable());
        }
    }
}

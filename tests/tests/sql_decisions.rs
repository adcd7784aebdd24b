//! Decisions: what they choose exists, what they don't never does, and a convergence joins what exists.

use serde_json::{Value, json};
use tasker_tests::Scenario;
use tasker_tests::scenario::{done, names};

const APPROVAL: &str = "
name: approval
version: 1.0.0
steps:
  - {name: validate, handler: {callable: t.validate}}
  - {name: route, type: decision, handler: {callable: t.route}, dependencies: [validate]}
  - {name: auto, handler: {callable: t.auto}, dependencies: [route]}
  - {name: manager, handler: {callable: t.manager}, dependencies: [route]}
  - {name: finance, handler: {callable: t.finance}, dependencies: [route]}
  - {name: finalize, type: deferred_convergence, handler: {callable: t.finalize}, dependencies: [auto, manager, finance]}
";

/// Two decisions, one behind the other, whose branches share a join; and a step that needs a branch of each.
const NESTED: &str = "
name: nested
version: 1.0.0
steps:
  - {name: outer, type: decision, handler: {callable: t.outer}}
  - {name: plain, handler: {callable: t.plain}, dependencies: [outer]}
  - {name: inner, type: decision, handler: {callable: t.inner}, dependencies: [outer]}
  - {name: left, handler: {callable: t.left}, dependencies: [inner]}
  - {name: right, handler: {callable: t.right}, dependencies: [inner]}
  - {name: both, handler: {callable: t.both}, dependencies: [plain, left]}
  - {name: join, type: deferred_convergence, handler: {callable: t.join}, dependencies: [plain, left, right, both]}
  - {name: after, handler: {callable: t.after}, dependencies: [join]}
";

fn choice(steps: &[&str]) -> Value {
    json!({"decision": {"steps": steps}})
}

/// Claims all that is ready and completes it, decisions with what is given for them; gives the names in the order in which they ran.
async fn run(scenario: &mut Scenario, choices: &[(&str, &[&str])]) -> anyhow::Result<Vec<String>> {
    let mut ran = Vec::new();
    loop {
        let claimed = scenario.claim("w", 10).await?;
        if claimed.is_empty() {
            scenario.verify().await?;
            return Ok(ran);
        }
        let mut outcomes = Vec::new();
        for step in &claimed {
            let name = step["step_name"].as_str().unwrap_or_default();
            let chosen = choices.iter().find(|(decision, _)| *decision == name);
            let result = chosen.map_or_else(|| json!(name), |(_, steps)| choice(steps));
            outcomes.push(done(step, result));
            ran.push(name.to_owned());
        }
        let finished = scenario.finish("w", json!(outcomes), 0).await?;
        assert!(finished.words().iter().all(|word| *word == "accepted"));
        scenario.verify().await?;
    }
}

async fn listed(scenario: &mut Scenario, task: &str) -> anyhow::Result<Vec<String>> {
    let rows = scenario
        .rows(&format!("select name from tasker.list_steps('{task}')"))
        .await?;
    Ok(rows
        .iter()
        .filter_map(|row| row["name"].as_str())
        .map(str::to_owned)
        .collect())
}

#[tokio::test]
async fn a_decision_creates_the_branches_it_names_and_the_join_waits_for_all_of_them()
-> anyhow::Result<()> {
    for (chosen, joined) in [
        (vec!["auto"], vec!["auto"]),
        (vec!["manager", "finance"], vec!["manager", "finance"]),
        (
            vec!["manager", "finance", "auto"],
            vec!["auto", "manager", "finance"],
        ),
    ] {
        let mut scenario = Scenario::new().await?;
        scenario.register(APPROVAL).await?;
        let task = scenario.create("'approval'").await?;
        assert_eq!(listed(&mut scenario, &task).await?, ["validate", "route"]);
        let ran = run(&mut scenario, &[("route", &chosen)]).await?;
        let mut expected = vec!["validate", "route"];
        expected.extend(&joined);
        expected.push("finalize");
        assert_eq!(ran, expected);
        assert_eq!(listed(&mut scenario, &task).await?, expected);
        assert_eq!(scenario.task_state(&task).await?, "complete");
        let counted = scenario
            .row(&format!(
                "select steps_total, steps_done from tasker.get_task('{task}')"
            ))
            .await?;
        assert_eq!(counted["steps_total"], expected.len());
        assert_eq!(counted["steps_done"], expected.len());
    }
    Ok(())
}

#[tokio::test]
async fn the_join_is_given_the_results_of_those_that_exist() -> anyhow::Result<()> {
    let mut scenario = Scenario::new().await?;
    scenario.register(APPROVAL).await?;
    scenario.create("'approval'").await?;
    for result in [json!(1), choice(&["manager"]), json!("ok")] {
        let claimed = scenario.claim("w", 1).await?;
        scenario.complete(&claimed[0], result).await?;
    }
    let claimed = scenario.claim("w", 1).await?;
    assert_eq!(names(&claimed), ["finalize"]);
    assert_eq!(claimed[0]["dependency_results"], json!({"manager": "ok"}));
    Ok(())
}

#[tokio::test]
async fn with_no_branch_chosen_neither_branches_nor_join_exist_and_the_task_completes()
-> anyhow::Result<()> {
    let mut scenario = Scenario::new().await?;
    scenario.register(APPROVAL).await?;
    let task = scenario.create("'approval'").await?;
    assert_eq!(
        run(&mut scenario, &[("route", &[])]).await?,
        ["validate", "route"]
    );
    assert_eq!(scenario.task_state(&task).await?, "complete");
    let graph = scenario
        .rows(&format!(
            "select name, created, state from tasker.task_graph('{task}') where not created"
        ))
        .await?;
    assert_eq!(graph.len(), 4);
    assert!(graph.iter().all(|node| node["state"].is_null()));
    Ok(())
}

#[tokio::test]
async fn a_wrong_name_fails_the_decision_visibly_and_it_can_be_repaired() -> anyhow::Result<()> {
    let mut scenario = Scenario::new().await?;
    scenario.register(APPROVAL).await?;
    let task = scenario.create("'approval'").await?;
    let claimed = scenario.claim("w", 1).await?;
    let next = scenario
        .finish("w", json!([done(&claimed[0], json!(1))]), 1)
        .await?;
    let wrong = done(&next.claimed[0], choice(&["maneger"]));
    assert_eq!(scenario.verdict(wrong).await?, "accepted TK021");
    scenario.verify().await?;
    assert_eq!(scenario.task_state(&task).await?, "error");
    let route = scenario
        .row(&format!(
            "select step_uuid, state, error from tasker.list_steps('{task}') where name = 'route'"
        ))
        .await?;
    assert_eq!(route["state"], "error");
    assert_eq!(route["error"]["type"], "bad_decision");
    assert_eq!(
        route["error"]["detail"],
        "\"maneger\" is no step behind this decision; did you mean \"manager\"?"
    );
    let key = route["step_uuid"].as_str().unwrap_or_default().to_owned();
    let refused = scenario
        .refused(&format!("select tasker.complete_step_manually('{key}', '{{\"decision\": {{\"steps\": [\"finalise\"]}}}}')"))
        .await?;
    assert_eq!(refused.code, "TK021");
    scenario
        .run(&format!("select tasker.complete_step_manually('{key}', '{{\"decision\": {{\"steps\": [\"auto\"]}}}}')"))
        .await?;
    assert_eq!(run(&mut scenario, &[]).await?, ["auto", "finalize"]);
    assert_eq!(scenario.task_state(&task).await?, "complete");
    Ok(())
}

#[tokio::test]
async fn nested_decisions_are_waited_for_by_a_shared_join() -> anyhow::Result<()> {
    for (outer, inner, expected) in [
        (
            vec!["plain"],
            vec![],
            vec!["outer", "plain", "join", "after"],
        ),
        (
            vec!["inner"],
            vec!["left"],
            vec!["outer", "inner", "left", "join", "after"],
        ),
        (vec!["inner"], vec![], vec!["outer", "inner"]),
        (
            vec!["plain", "inner"],
            vec!["right"],
            vec!["outer", "plain", "inner", "right", "join", "after"],
        ),
        (
            vec!["plain", "inner"],
            vec!["left", "right"],
            vec![
                "outer", "plain", "inner", "left", "right", "both", "join", "after",
            ],
        ),
    ] {
        let mut scenario = Scenario::new().await?;
        scenario.register(NESTED).await?;
        let task = scenario.create("'nested'").await?;
        let ran = run(&mut scenario, &[("outer", &outer), ("inner", &inner)]).await?;
        assert_eq!(ran, expected);
        assert_eq!(scenario.task_state(&task).await?, "complete");
    }
    Ok(())
}

#[tokio::test]
async fn a_step_further_behind_may_be_named() -> anyhow::Result<()> {
    let mut scenario = Scenario::new().await?;
    scenario.register(NESTED).await?;
    scenario.create("'nested'").await?;
    let ran = run(&mut scenario, &[("outer", &["left"]), ("inner", &["left"])]).await?;
    assert_eq!(ran, ["outer", "inner", "left", "join", "after"]);
    Ok(())
}

#[tokio::test]
async fn a_rerun_from_the_decision_may_choose_otherwise() -> anyhow::Result<()> {
    let mut scenario = Scenario::new().await?;
    scenario.register(APPROVAL).await?;
    let task = scenario.create("'approval'").await?;
    run(&mut scenario, &[("route", &["auto"])]).await?;
    scenario
        .run(&format!("select tasker.rerun_task('{task}', 'route')"))
        .await?;
    scenario.verify().await?;
    assert_eq!(listed(&mut scenario, &task).await?, ["validate", "route"]);
    let ran = run(&mut scenario, &[("route", &["manager"])]).await?;
    assert_eq!(ran, ["route", "manager", "finalize"]);
    assert_eq!(
        listed(&mut scenario, &task).await?,
        ["validate", "route", "manager", "finalize"]
    );
    assert_eq!(scenario.task_state(&task).await?, "complete");
    Ok(())
}

#[tokio::test]
async fn cancelling_leaves_what_does_not_exist_as_it_is() -> anyhow::Result<()> {
    let mut scenario = Scenario::new().await?;
    scenario.register(APPROVAL).await?;
    let task = scenario.create("'approval'").await?;
    scenario
        .run(&format!("select tasker.cancel_task('{task}')"))
        .await?;
    scenario.verify().await?;
    let steps = scenario
        .rows(&format!(
            "select name, state from tasker.list_steps('{task}')"
        ))
        .await?;
    assert_eq!(
        steps,
        [
            json!({"name": "validate", "state": "cancelled"}),
            json!({"name": "route", "state": "cancelled"})
        ]
    );
    Ok(())
}

#[tokio::test]
async fn what_is_not_chosen_is_no_step_to_an_operator() -> anyhow::Result<()> {
    let mut scenario = Scenario::new().await?;
    scenario.register(APPROVAL).await?;
    let task = scenario.create("'approval'").await?;
    let hidden: String = scenario
        .value(&format!(
            "select tasker._step_uuid('{task}', tasker._number_of_step('{task}', t.template_id, 'manager'))::text from tasker.tasks t"
        ))
        .await?;
    for choices in [None, Some(["auto"])] {
        if let Some(chosen) = choices {
            run(&mut scenario, &[("route", &chosen)]).await?;
        }
        for call in ["reset_step", "resolve_step"] {
            let call = format!("select tasker.{call}('{hidden}')");
            assert_eq!(scenario.refused(&call).await?.code, "TK002");
        }
    }
    scenario.verify().await
}

#[tokio::test]
async fn a_decision_made_anew_by_itself_leaves_what_has_run_as_it_is() -> anyhow::Result<()> {
    let mut scenario = Scenario::new().await?;
    scenario.register(APPROVAL).await?;
    let task = scenario.create("'approval'").await?;
    run(&mut scenario, &[("route", &["auto"])]).await?;
    scenario
        .run(&format!(
            "select tasker.rerun_task('{task}', 'route', false)"
        ))
        .await?;
    let ran = run(&mut scenario, &[("route", &["manager"])]).await?;
    assert_eq!(ran, ["route", "manager"]);
    let states = scenario.step_states(&task).await?;
    assert_eq!(states["auto"], "complete");
    assert_eq!(states["finalize"], "complete");
    Ok(())
}
